//! Which servers the run works with, as their cluster tells it: noted when the run begins or goes on, compared before each
//! stage. A server that is reached by a connection string is known by its sessions alone.

use super::{Context, Source, append, resume};
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::journal::{Record, RunDirectory};
use crate::kubernetes::{Change, Pinned};
use crate::pg::{Endpoint, look};

/// A server is no longer the one that the run works with.
#[derive(Debug, thiserror::Error)]
#[error("the {side}, {object}, has changed: {}", .changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
struct ServerChanged {
    side: Side,
    object: String,
    changes: Vec<Change>,
}

impl Fault for ServerChanged {
    fn class(&self) -> Class {
        Class::Cluster
    }

    fn is_retryable(&self) -> bool {
        self.changes.iter().all(Change::is_retryable)
    }

    fn hint(&self) -> Option<String> {
        Some(if self.is_retryable() {
            "wait until the switchover is over, then go on with --resume".into()
        } else {
            format!("find out what was done to the {}; then start over with another --run-dir", self.side)
        })
    }
}

impl Context<'_> {
    /// Notes which servers the run works with from here on. After a switchover they are others; what is another database
    /// cluster is refused.
    pub(super) async fn pin(&self, directory: &mut RunDirectory) -> Result<(), Error> {
        for endpoint in self.in_pods() {
            let now = self.look_at(endpoint).await?;
            let before = pinned(directory.records(), endpoint.side);
            if let Some(changed) = before.and_then(|before| changed(endpoint, before, &now)) {
                if !changed.is_retryable() {
                    return Err(other(changed, directory));
                }
                self.events.note(changed.to_string());
            }
            if before != Some(&now) {
                append(directory, Record::Pinned { side: endpoint.side, server: now })?;
            }
        }
        Ok(())
    }

    /// The safe point before a stage: nobody has asked to stop, and both servers are those that the run works with.
    pub(super) async fn before_stage(&self, directory: &RunDirectory) -> Result<(), Error> {
        self.safe_point()?;
        for endpoint in self.in_pods() {
            let Some(before) = pinned(directory.records(), endpoint.side) else { continue };
            if let Some(changed) = changed(endpoint, before, &self.look_at(endpoint).await?) {
                return Err(other(changed, directory));
            }
        }
        Ok(())
    }

    fn in_pods(&self) -> impl Iterator<Item = &Endpoint> {
        let source = match &self.source {
            Source::Server(endpoint) => Some(endpoint),
            Source::Archive(_) => None,
        };
        source.into_iter().chain([&self.target]).filter(|endpoint| endpoint.conninfo.route().is_some())
    }

    async fn look_at(&self, endpoint: &Endpoint) -> Result<Pinned, Error> {
        let looking = async { look(endpoint).await.map_err(|error| Error::new(Exit::Resumable, error)) };
        self.interruptible(looking).await
    }
}

fn pinned(records: &[Record], side: Side) -> Option<&Pinned> {
    records.iter().rev().find_map(|record| match record {
        Record::Pinned { side: found, server } if *found == side => Some(server),
        _ => None,
    })
}

fn changed(endpoint: &Endpoint, before: &Pinned, now: &Pinned) -> Option<ServerChanged> {
    let changes = before.changes(now);
    let object = endpoint.conninfo.route().map(ToString::to_string).unwrap_or_default();
    (!changes.is_empty()).then_some(ServerChanged { side: endpoint.side, object, changes })
}

fn other(changed: ServerChanged, directory: &RunDirectory) -> Error {
    let exit = match changed.is_retryable() {
        true => Exit::Resumable,
        false if resume::has_written(directory.records()) => Exit::StartOver,
        false => Exit::Refused,
    };
    Error::new(exit, changed)
}
