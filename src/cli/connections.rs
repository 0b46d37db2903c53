//! From what was typed and the environment to [`Connections`]: the only place that reads the environment.

use std::env;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::arguments::{Choices, Endpoints, Target, VectorIndex};
use crate::error::{Error, Exit};
use crate::pg::{ConnInfo, Defaults};
use crate::plan::VectorIndexChoice;
use crate::schema::ClientSearch;
use crate::settings;

/// How long a stream or a child may stand still.
pub(super) const STALL: Duration = Duration::from_secs(600);

pub(super) fn of(endpoints: &Endpoints) -> Result<settings::Connections, Error> {
    Ok(settings::Connections {
        source: Some(conninfo(&endpoints.source, "source", "PGMOVE_SOURCE_PASSWORD")?),
        ..of_target(&endpoints.target)?
    })
}

/// Connections without a source server.
pub(super) fn of_target(target: &Target) -> Result<settings::Connections, Error> {
    let admin = target.admin.as_deref();
    Ok(settings::Connections {
        source: None,
        target: conninfo(&target.database, "target", "PGMOVE_TARGET_PASSWORD")?,
        target_admin: admin
            .map(|text| conninfo(text, "target as administrator", "PGMOVE_TARGET_ADMIN_PASSWORD"))
            .transpose()?,
        client: client_search(target.client_directory.clone()),
        stall: STALL,
    })
}

/// Where to look for PostgreSQL's client tools.
pub(super) fn client_search(directory: Option<PathBuf>) -> ClientSearch {
    ClientSearch { directory, candidates: packaged_clients(), path: env::var_os("PATH") }
}

/// Where Debian's and Red Hat's packages put the client tools, newest first.
fn packaged_clients() -> Vec<PathBuf> {
    (14..=30)
        .rev()
        .flat_map(|major| {
            [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")].map(PathBuf::from)
        })
        .filter(|directory| directory.is_dir())
        .collect()
}

/// A connection string with its password: from the string, else the variable, else a passfile, else a prompt
/// where there is somebody to ask.
pub(super) fn conninfo(text: &str, which: &str, variable: &str) -> Result<Arc<ConnInfo>, Error> {
    let defaults = Defaults { user: env::var("USER").ok(), home: env::var_os("HOME").map(PathBuf::from) };
    let conninfo = ConnInfo::parse(text, &defaults).map_err(|error| Error::new(Exit::Usage, error))?;
    if conninfo.password().is_some() {
        return Ok(Arc::new(conninfo));
    }
    if let Ok(password) = env::var(variable) {
        return Ok(Arc::new(conninfo.with_password(SecretString::from(password))));
    }
    let answer = conninfo.password_from_passfile();
    if let Some(warning) = answer.warning {
        tracing::warn!("{warning}");
    }
    if let Some(password) = answer.password {
        return Ok(Arc::new(conninfo.with_password(password)));
    }
    // A Unix socket is most often trusted by its peer; a prompt there would stop scripts that need none.
    if conninfo.socket_path().is_none() && std::io::stdin().is_terminal() {
        let prompt = format!("Password for the {which}, {conninfo} (empty for none): ");
        if let Ok(password) = rpassword::prompt_password(prompt)
            && !password.is_empty()
        {
            return Ok(Arc::new(conninfo.with_password(SecretString::from(password))));
        }
    }
    Ok(Arc::new(conninfo))
}

pub(super) fn choices(choices: &Choices) -> settings::GivenChoices {
    settings::GivenChoices {
        owner: choices.owner.clone(),
        vector_index: choices.vector_index.map(|choice| match choice {
            VectorIndex::Auto => VectorIndexChoice::Auto,
            VectorIndex::Vchordrq => VectorIndexChoice::Vchordrq,
            VectorIndex::Hnsw => VectorIndexChoice::Hnsw,
            VectorIndex::Keep => VectorIndexChoice::Keep,
        }),
    }
}
