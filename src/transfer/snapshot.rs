//! The snapshot that all readers of the source share, and the session that holds it.
//!
//! The holder locks every table ACCESS SHARE before its snapshot is taken, so that no TRUNCATE, CLUSTER or DDL
//! can come between: in a REPEATABLE READ transaction LOCK TABLE takes no snapshot itself (documentation of
//! LOCK, "Notes"). The catalog is then read inside the snapshot, and every table in it must be a locked one;
//! if one was created meanwhile, the whole is done again.

use std::collections::BTreeSet;

use tokio_postgres::error::SqlState;

use crate::catalog::{self, Catalog, CatalogError, SourceState, TableKind};
use crate::error::{Class, Fault, Side};
use crate::pg::{Access, Endpoint, Oid, QualifiedName, Session, SessionError};
use crate::transfer::archive::contents::Contents;

/// How many tables one LOCK statement names.
const LOCK_BATCH: usize = 500;

/// How often the catalog is read again when tables come and go.
const ATTEMPTS: usize = 5;

/// How many large objects are listed with one query.
const PAGE: u32 = 10_000;

/// A held snapshot, and what the source holds in it.
#[derive(Debug)]
pub struct Snapshot {
    /// Its holder; an archive needs none.
    session: Option<Session>,
    /// Its name for `SET TRANSACTION SNAPSHOT`.
    pub id: String,
    /// The catalog, read inside it.
    pub catalog: Catalog,
    /// The large objects in it, in order.
    pub large_objects: Vec<Oid>,
    /// What tells this state of the source from others.
    pub state: SourceState,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source refused a statement.
    #[error("could not take a snapshot of the source")]
    Session(#[from] SessionError),
    /// The catalog could not be read.
    #[error("could not take a snapshot of the source")]
    Catalog(#[from] CatalogError),
    /// Tables are created faster than they can be locked.
    #[error("could not lock the source's tables: {0} was created meanwhile, again and again")]
    Restless(QualifiedName),
}

impl Fault for SnapshotError {
    fn class(&self) -> Class {
        Class::Source
    }

    fn is_retryable(&self) -> bool {
        match self {
            SnapshotError::Session(error) => error.is_retryable(),
            SnapshotError::Catalog(error) => error.is_retryable(),
            SnapshotError::Restless(_) => false,
        }
    }

    fn lock_timeout(&self) -> Option<Side> {
        match self {
            SnapshotError::Session(error) => error.lock_timeout(),
            SnapshotError::Catalog(error) => error.lock_timeout(),
            SnapshotError::Restless(_) => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SnapshotError::Session(error) => error.hint(),
            SnapshotError::Catalog(error) => error.hint(),
            SnapshotError::Restless(_) => Some("stop the application first, or run with --fence".into()),
        }
    }
}

impl Snapshot {
    /// Locks the tables of `read`, a catalog that was read before, then takes and exports the snapshot.
    pub async fn take(source: &Endpoint, read: &Catalog) -> Result<Snapshot, SnapshotError> {
        let session = Session::open(source, Access::Read, "pg_catalog").await?;
        let mut known = lockable(read);
        for _ in 0..ATTEMPTS {
            session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "begin").await?;
            match lock(&session, &known).await {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {
                    session.run("ROLLBACK", "begin again").await?;
                    known = lockable(&Catalog::read(&session.client, Side::Source).await?);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let row =
                session.client.query_one(include_str!("../../sql/transfer/export_snapshot.sql"), &[]).await;
            let id = row.map_err(|error| session.failed("export a snapshot", error))?.get("id");
            let catalog = Catalog::read(&session.client, Side::Source).await?;
            let found = lockable(&catalog);
            if found.is_subset(&known) {
                let large_objects = list_large_objects(&session).await?;
                let state = SourceState::read(&session.client, Side::Source).await?;
                return Ok(Snapshot { session: Some(session), id, catalog, large_objects, state });
            }
            session.run("ROLLBACK", "begin again").await?;
            known = found;
        }
        Err(SnapshotError::Restless(
            known.into_iter().next_back().unwrap_or_else(|| QualifiedName::new("", "")),
        ))
    }

    /// The snapshot that an archive is. Nobody has to hold it, and it is the same as long as the archive is.
    pub fn archived(contents: &Contents) -> Snapshot {
        let sha256 = contents.archive.sha256();
        Snapshot {
            session: None,
            id: String::new(),
            catalog: contents.source.catalog.clone(),
            large_objects: vec![],
            state: SourceState {
                system_identifier: Some(format!("archive {sha256}")),
                snapshot: "0:0:".to_owned(),
                statistics_reset: None,
            },
        }
    }

    /// Asks the holder something, so that no idle connection is cut, and finds out whether it lives.
    pub async fn ping(&self) -> Result<(), SessionError> {
        match &self.session {
            Some(session) => session.run("SELECT", "keep the snapshot").await,
            None => Ok(()),
        }
    }

    /// The session, for reads inside the snapshot.
    ///
    /// # Panics
    /// If the snapshot is an archive's: a defect of the caller.
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("only a server's snapshot is asked")
    }

    /// Lets go of the snapshot and its locks.
    pub async fn release(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }
}

async fn lock(session: &Session, tables: &BTreeSet<QualifiedName>) -> Result<(), SessionError> {
    for batch in tables.iter().collect::<Vec<_>>().chunks(LOCK_BATCH) {
        let names: Vec<String> = batch.iter().map(|name| format!("ONLY {}", name.sql())).collect();
        let what = match batch {
            [only] => format!("lock {only}"),
            [first, .., last] => format!("lock the tables from {first} to {last}"),
            [] => continue,
        };
        session.run(&format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")), what).await?;
    }
    Ok(())
}

/// Whether a table, or its whole schema, was dropped since the catalog was read.
fn is_gone(error: &SessionError) -> bool {
    let SessionError::Statement { error, .. } = error else { return false };
    [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME]
        .into_iter()
        .any(|code| error.code() == Some(code))
}

/// Tables that can be locked; foreign ones hold nothing here.
fn lockable(catalog: &Catalog) -> BTreeSet<QualifiedName> {
    let local = catalog.tables.iter().filter(|table| table.kind != TableKind::Foreign);
    local.map(|table| table.name.clone()).collect()
}

async fn list_large_objects(session: &Session) -> Result<Vec<Oid>, SnapshotError> {
    let mut oids: Vec<Oid> = Vec::new();
    loop {
        let page = catalog::large_objects(&session.client, Side::Source, oids.last().copied(), PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        oids.extend(page.into_iter().map(|object| object.oid));
        if is_last {
            return Ok(oids);
        }
    }
}
