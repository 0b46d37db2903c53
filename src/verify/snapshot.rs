//! One side at one point in time.
//!
//! The rows of a database are read by many sessions. All of them import one exported snapshot, which lives as
//! long as the transaction that exported it, and that transaction locks the tables ACCESS SHARE before it takes
//! its snapshot: TRUNCATE and rewriting DDL are not transactional for other snapshots
//! (<https://www.postgresql.org/docs/current/mvcc-caveats.html>), so they are kept away.

use crate::pg::{Access, Endpoint, QualifiedName, Session, SessionError, quote_literal};

/// A database as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    endpoint: Endpoint,
    id: String,
    holder: Option<Session>,
}

impl Snapshot {
    /// Takes a snapshot and locks `tables` (those of them that this role may read; another one's refusal shows
    /// when it is read).
    pub async fn take(endpoint: &Endpoint, tables: &[QualifiedName]) -> Result<Snapshot, SessionError> {
        let holder = Session::open(endpoint, Access::Read, "pg_catalog").await?;
        let (schemas, names): (Vec<&str>, Vec<&str>) =
            tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
        let readable = holder
            .client
            .query(include_str!("../../sql/verify/readable_tables.sql"), &[&schemas, &names])
            .await
            .map_err(|error| holder.failed("look for readable tables", error))?;
        let readable: Vec<String> = readable
            .iter()
            .filter_map(|row| usize::try_from(row.get::<_, i64>("position")).ok()?.checked_sub(1))
            .filter_map(|position| Some(format!("ONLY {}", tables.get(position)?.sql())))
            .collect();
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "begin").await?;
        if !readable.is_empty() {
            let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", readable.join(", "));
            holder.run(&lock, "lock the tables").await?;
        }
        let exported = holder
            .client
            .query_one(include_str!("../../sql/transfer/export_snapshot.sql"), &[])
            .await
            .map_err(|error| holder.failed("export a snapshot", error))?;
        let id = exported.get("id");
        Ok(Snapshot { endpoint: endpoint.clone(), id, holder: Some(holder) })
    }

    /// A snapshot that the caller holds itself.
    pub fn held_elsewhere(endpoint: &Endpoint, id: &str) -> Snapshot {
        Snapshot { endpoint: endpoint.clone(), id: id.to_owned(), holder: None }
    }

    /// What other sessions import it by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A session inside a transaction that sees this moment. Its driver runs on the caller's runtime.
    pub async fn session(&self) -> Result<Session, SessionError> {
        let session = Session::open(&self.endpoint, Access::Read, "pg_catalog").await?;
        let import = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(&self.id)
        );
        session.run(&import, "import the snapshot").await?;
        Ok(session)
    }

    /// Lets go of it.
    pub async fn release(self) {
        if let Some(holder) = self.holder {
            holder.close().await;
        }
    }
}
