//! What tells one database from another, and one state of a database from another.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::Catalog;
use super::error::CatalogError;
use super::query::{Reader, sql_file};
use super::server::Server;
use crate::error::Side;
use crate::pg::Oid;

/// Which database this is, however it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseIdentity {
    /// `system_identifier` of the cluster, where the role may read it.
    pub system_identifier: Option<String>,
    /// The database's OID: another database of the same name has another one.
    pub oid: Oid,
    /// Its name.
    pub name: String,
}

impl DatabaseIdentity {
    /// The database that `client` is connected to.
    pub async fn read(client: &Client, side: Side) -> Result<DatabaseIdentity, CatalogError> {
        let reader = Reader { client, side };
        let record = reader.row(sql_file!("identity")).await?;
        Ok(DatabaseIdentity {
            system_identifier: Server::read(reader).await?.system_identifier,
            oid: record.oid("oid")?,
            name: record.get("name")?,
        })
    }

    /// Whether both are one database, as far as their servers tell who they are.
    pub fn is_same_as(&self, other: &DatabaseIdentity) -> bool {
        let servers = self.system_identifier.as_ref().zip(other.system_identifier.as_ref());
        servers.is_none_or(|(ours, theirs)| ours == theirs)
            && (self.oid, &self.name) == (other.oid, &other.name)
    }
}

impl fmt::Display for DatabaseIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.system_identifier.as_deref().unwrap_or("unknown");
        write!(f, "{} (OID {}, server {server})", self.name, self.oid)
    }
}

/// One state of a source, as far as it can be told apart from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// `system_identifier` of the cluster, where the role may read it.
    pub system_identifier: Option<String>,
    /// `pg_current_snapshot()`.
    pub snapshot: String,
    /// When the server's statistics began: a crash changes it, an ordinary restart does not.
    pub statistics_reset: Option<String>,
}

impl SourceState {
    /// The state that the database is in now, or in the transaction that `client` is in.
    pub async fn read(client: &Client, side: Side) -> Result<SourceState, CatalogError> {
        let reader = Reader { client, side };
        let record = reader.row(sql_file!("state")).await?;
        Ok(SourceState {
            system_identifier: Server::read(reader).await?.system_identifier,
            snapshot: record.get("snapshot")?,
            statistics_reset: record.get("statistics_reset")?,
        })
    }

    /// Whether a second look proves that nothing was written in between: the same cluster, no crash, no
    /// transaction in progress at the first look, and no transaction id given out since. (The WAL position
    /// proves nothing: reading moves it.)
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
    /// Which database this is the catalog of.
    pub fn identity(&self) -> DatabaseIdentity {
        DatabaseIdentity {
            system_identifier: self.server.system_identifier.clone(),
            oid: self.database.oid,
            name: self.database.name.clone(),
        }
    }
}
