//! From settings to [`Connections`], with passwords from where they are.

use std::env;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::arguments::{Choices, Endpoints, Sides, Target, VectorIndex};
use super::prompt;
use crate::error::{Error, Exit};
use crate::pg::{ConnInfo, ConnInfoError, Defaults};
use crate::plan::VectorIndexChoice;
use crate::schema::ClientSearch;
use crate::settings;

/// How long a stream or a child may stand still.
pub(super) const STALL: Duration = Duration::from_secs(600);

/// The variables that give passwords, which are no options: an option would be typed.
pub(super) const PASSWORDS: [&str; 3] =
    ["PGMOVE_SOURCE_PASSWORD", "PGMOVE_TARGET_PASSWORD", "PGMOVE_TARGET_ADMIN_PASSWORD"];

/// A login, and where its password may come from.
struct Login {
    name: &'static str,
    variable: &'static str,
}

const SOURCE: Login = Login { name: "source", variable: PASSWORDS[0] };
const TARGET: Login = Login { name: "target", variable: PASSWORDS[1] };
const ADMIN: Login = Login { name: "target as administrator", variable: PASSWORDS[2] };

pub(super) async fn of(
    endpoints: &Endpoints,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    let Target { database, admin, client_directory } = &endpoints.target;
    connections(Some(&endpoints.source), database, admin.as_deref(), client_directory.as_ref(), stop).await
}

/// Connections without a source server.
pub(super) async fn of_target(
    target: &Target,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    let Target { database, admin, client_directory } = target;
    connections(None, database, admin.as_deref(), client_directory.as_ref(), stop).await
}

/// Connections that are compared.
pub(super) async fn of_sides(
    sides: &Sides,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    connections(Some(&sides.source), &sides.target, None, sides.client_directory.as_ref(), stop).await
}

/// Nobody is asked for a password before every string is known to be one.
async fn connections(
    source: Option<&str>,
    target: &str,
    admin: Option<&str>,
    client_directory: Option<&PathBuf>,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    let source = source.map(parse).transpose()?;
    let target = parse(target)?;
    let admin = admin.map(parse).transpose()?.map(ConnInfo::as_admin);
    Ok(settings::Connections {
        source: match source {
            Some(conninfo) => Some(with_password(conninfo, &SOURCE, stop).await?),
            None => None,
        },
        target: with_password(target, &TARGET, stop).await?,
        target_admin: match admin {
            Some(conninfo) => Some(with_password(conninfo, &ADMIN, stop).await?),
            None => None,
        },
        client: client_search(client_directory.cloned()),
        stall: STALL,
    })
}

/// The source of a command that has no target.
pub(super) async fn of_source(text: &str, stop: &CancellationToken) -> Result<Arc<ConnInfo>, Error> {
    with_password(parse(text)?, &SOURCE, stop).await
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

/// Reads a connection string, with the operating system's name of the user as libpq does.
pub(super) fn connection_string(text: &str) -> Result<ConnInfo, ConnInfoError> {
    let defaults = Defaults { user: env::var("USER").ok(), home: env::var_os("HOME").map(PathBuf::from) };
    ConnInfo::parse(text, &defaults)
}

fn parse(text: &str) -> Result<ConnInfo, Error> {
    connection_string(text).map_err(|error| Error::new(Exit::Usage, error))
}

/// Where kubectl looks for a kubeconfig.
pub(super) fn kubeconfigs() -> Vec<PathBuf> {
    match env::var_os("KUBECONFIG").filter(|files| !files.is_empty()) {
        Some(files) => env::split_paths(&files).collect(),
        None => {
            env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")).into_iter().collect()
        }
    }
}

/// Where this process works, for another one that finds its lease.
pub(super) fn place() -> String {
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| env::var("HOSTNAME").ok());
    let host = host.as_deref().map_or("(unnamed host)", str::trim);
    let user = env::var("USER").ok().unwrap_or_else(|| "(unnamed user)".into());
    format!("{user}@{host}, process {}", std::process::id())
}

/// With its password: from the string, else the variable, else a passfile, else a prompt where there is somebody to
/// ask.
async fn with_password(
    conninfo: ConnInfo,
    login: &Login,
    stop: &CancellationToken,
) -> Result<Arc<ConnInfo>, Error> {
    if conninfo.password().is_some() {
        return Ok(Arc::new(conninfo));
    }
    if let Ok(password) = env::var(login.variable) {
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
        let question = format!("Password for the {}, {conninfo} (empty for none): ", login.name);
        let password = prompt::password(question, stop).await;
        if let Some(password) = password.map_err(|error| Error::new(Exit::Interrupted, error))? {
            return Ok(Arc::new(conninfo.with_password(password)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_administrators_login_is_known_as_such() {
        let target = Target {
            database: "postgres://app:secret@new/app".into(),
            admin: Some("postgres://postgres:secret@new/app".into()),
            client_directory: None,
        };
        let connections = of_target(&target, &CancellationToken::new()).await.expect("nobody is asked");
        assert!(!connections.target.is_admin());
        assert!(connections.target_admin.expect("it is given").is_admin());
    }
}
