//! `pgmove fence` and `pgmove unfence`: a source that refuses writes, and its former setting back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::arguments::{Fence, Unfence};
use super::commands::{Ended, run_dir, unless_stopped};
use super::connections;
use crate::cutover::fence::{self as cutover, FenceError, Lifted};
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::journal::{JournalError, RunDirectory};
use crate::pg::{Access, ConnInfo, Endpoint, Session, quote_identifier};

fn endpoint_of(conninfo: Arc<ConnInfo>, directory: Option<&Path>) -> (Endpoint, PathBuf) {
    let directory = run_dir(directory, conninfo.database());
    let application_name = "pgmove fence".to_owned();
    (Endpoint { side: Side::Source, conninfo, application_name, copy_encoding: None }, directory)
}

/// Opens the session that changes the source's setting. After that it is a matter of moments, and not interrupted.
async fn fencing_session(endpoint: &Endpoint, stop: &CancellationToken) -> Result<Session, Error> {
    let session = unless_stopped(stop, Session::open(endpoint, Access::Write, "pg_catalog")).await?;
    session.map_err(|error| Error::new(Exit::Refused, error))
}

fn not_fenced(error: FenceError) -> Error {
    let exit = if error.has_begun() { Exit::Resumable } else { Exit::Refused };
    Error::new(exit, error)
}

pub(super) async fn fence(options: &Fence, stop: &CancellationToken) -> Result<Ended, Error> {
    let source =
        connections::of_source(&options.source, &options.cluster, &options.source_object, stop).await?;
    let (endpoint, path) = endpoint_of(source, options.directory.as_deref());
    let session = fencing_session(&endpoint, stop).await?;
    let journal = match RunDirectory::create(&path) {
        Err(JournalError::Exists(_)) => RunDirectory::open(&path),
        other => other,
    };
    let mut journal = journal.map_err(|error| Error::new(Exit::Usage, error))?;
    let fenced = cutover::fence(session, &endpoint, &mut journal).await.map_err(not_fenced);
    if fenced.is_err() && journal.records().is_empty() {
        journal.remove();
    }
    let survivors = fenced?;
    let mut lines = vec![format!(
        "{} refuses writes by default; lift it with: pgmove unfence --source ... --run-dir {}",
        endpoint.conninfo,
        path.display()
    )];
    lines.extend(survivors.iter().map(|survivor| {
        format!(
            "still connected, and able to write: process {} of role {} ({})",
            survivor.pid, survivor.role, survivor.application_name
        )
    }));
    let exit = if survivors.is_empty() { Exit::Done } else { Exit::NotAllCompared };
    Ok(Ended { exit, lines, ..Ended::default() })
}

/// The journal that has the fence's former value cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("what database {database} had set before its fence is not known")]
struct FormerUnknown {
    database: String,
    source: JournalError,
}

impl Fault for FormerUnknown {
    fn class(&self) -> Class {
        self.source.class()
    }

    fn hint(&self) -> Option<String> {
        Some(format!(
            "the journal's record \"fence\" has the \"former\" value; put it back by hand, on the source, from another database \
             (postgres): ALTER DATABASE {} SET default_transaction_read_only TO that value; or, if it is null: RESET \
             default_transaction_read_only",
            quote_identifier(&self.database)
        ))
    }
}

pub(super) async fn unfence(options: &Unfence, stop: &CancellationToken) -> Result<Ended, Error> {
    let source =
        connections::of_source(&options.source, &options.cluster, &options.source_object, stop).await?;
    let (endpoint, path) = endpoint_of(source, options.directory.as_deref());
    let mut journal = match RunDirectory::open(&path) {
        Ok(journal) => Some(journal),
        Err(JournalError::Missing(_)) => None,
        // A run in its midst needs its fence.
        Err(error @ JournalError::Locked { .. }) => return Err(Error::new(Exit::Usage, error)),
        Err(source) => {
            let database = endpoint.conninfo.database().to_owned();
            return Err(Error::new(Exit::Usage, FormerUnknown { database, source }));
        }
    };
    let session = fencing_session(&endpoint, stop).await?;
    let lifted = cutover::unfence(session, &endpoint, journal.as_mut()).await.map_err(not_fenced)?;
    let (source, path) = (&endpoint.conninfo, path.display());
    let line = match lifted {
        Lifted::Restored => format!("{source} accepts writes as before the fence"),
        Lifted::RestoredReadOnly => format!(
            "{source} refuses writes still: it did before the fence that is recorded in {path}; if another run has fenced it, \
             pgmove unfence with that run's directory"
        ),
        Lifted::Removed => format!("{source}: no fence is recorded in {path}; the setting was removed"),
        Lifted::NotOurs => format!(
            "{source} refuses writes still, but the fence recorded in {path} was lifted before: the setting is \
             somebody else's; nothing was changed"
        ),
        Lifted::NotFenced => format!("{source}: no fence stands; nothing was changed"),
    };
    let is_open = !matches!(lifted, Lifted::RestoredReadOnly | Lifted::NotOurs);
    let exit = if is_open { Exit::Done } else { Exit::NotAllCompared };
    Ok(Ended { exit, lines: vec![line], ..Ended::default() })
}
