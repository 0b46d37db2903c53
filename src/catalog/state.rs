//! What tells one state of a database from another.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::Catalog;
use super::error::CatalogError;
use super::query::{Reader, sql_file};
use super::server::Server;
use crate::error::Side;

/// One state of a source, as far as it can be told apart from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// `system_identifier` of the cluster, where the role may read it.
    pub system_identifier: Option<String>,
    /// `pg_current_snapshot()`.
    pub snapshot: String,
}

impl SourceState {
    /// The state that the database is in now.
    pub async fn read(client: &Client, side: Side) -> Result<SourceState, CatalogError> {
        let reader = Reader { client, side };
        let system_identifier = Server::read(reader).await?.system_identifier;
        Ok(SourceState {
            system_identifier,
            snapshot: reader.row(sql_file!("snapshot")).await?.get("snapshot")?,
        })
    }

    /// Whether a second look proves that nothing was written in between: the same cluster, no transaction in
    /// progress at the first look, and no transaction id given out since. (The WAL position proves nothing:
    /// reading moves it.)
    pub fn is_proven_equal(&self, later: &SourceState) -> bool {
        self.has_nothing_in_progress() && self.system_identifier.is_some() && self == later
    }

    /// `xmin:xmax:` with `xmin = xmax` and an empty list.
    fn has_nothing_in_progress(&self) -> bool {
        let mut parts = self.snapshot.split(':');
        let (xmin, xmax, list) = (parts.next(), parts.next(), parts.next());
        xmin.is_some() && xmin == xmax && list == Some("")
    }
}

impl Catalog {
    /// The state that the database was in when this was read.
    pub fn state(&self) -> SourceState {
        SourceState {
            system_identifier: self.server.system_identifier.clone(),
            snapshot: self.snapshot.clone(),
        }
    }
}
