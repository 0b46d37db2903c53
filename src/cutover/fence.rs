//! The fence: a database that refuses writes by default.
//!
//! `ALTER DATABASE ... SET default_transaction_read_only = on`, and the end of every session that began before
//! it. The former value is in the journal before it is changed, and [`unfence`] puts it back. The same setting
//! marks a target that is being loaded, so that no application takes it for a live one.
//!
//! What a fence cannot stop: a session that sets `transaction_read_only` off by itself (any role may), and the
//! sessions of superusers where the fencing role is none: they cannot be ended. Both are found out at the end
//! of a run, by the source's snapshot.

use std::time::Duration;

use crate::error::{Class, Fault};
use crate::journal::{JournalError, Record, RunDirectory};
use crate::pg::{Access, Endpoint, Session, SessionError, quote_identifier, quote_literal};

/// Why a fence could not be set or lifted.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The server refused.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The former value could not be written down, so nothing was changed.
    #[error("could not record the fence")]
    Journal(#[from] JournalError),
}

impl Fault for FenceError {
    fn class(&self) -> Class {
        match self {
            FenceError::Session(error) => error.class(),
            FenceError::Journal(error) => error.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, FenceError::Session(error) if error.is_retryable())
    }

    fn hint(&self) -> Option<String> {
        match self {
            FenceError::Session(error) => error.hint(),
            FenceError::Journal(error) => error.hint(),
        }
    }
}

/// A session that goes on although the database is fenced.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Survivor {
    /// Its process.
    pub pid: i32,
    /// Its role.
    pub role: String,
    /// What it calls itself.
    pub application_name: String,
    /// Whether the role is a superuser.
    pub is_superuser: bool,
}

/// How long ended sessions are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fences the endpoint's database and returns the sessions that could not be ended. Safe to repeat: a fence
/// that stands is kept, with the former value that was recorded first.
pub async fn fence(endpoint: &Endpoint, run: &mut RunDirectory) -> Result<Vec<Survivor>, FenceError> {
    let session = Session::open(endpoint, Access::Write, "pg_catalog").await?;
    let database = endpoint.conninfo.database().to_owned();
    if recorded(run.records(), &database).is_none() {
        let former = setting(&session).await?;
        run.append(Record::Fence { database: database.clone(), former })?;
    }
    set(&session, &database, Some("on")).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let survivors = loop {
        let others = end_others(&session, &endpoint.application_name).await?;
        if others.is_empty() || tokio::time::Instant::now() >= deadline {
            break others;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    session.close().await;
    Ok(survivors)
}

/// Lifts the fence: the recorded former value is put back, or the setting removed where none is recorded.
/// Returns whether a record was found.
pub async fn unfence(endpoint: &Endpoint, run: Option<&mut RunDirectory>) -> Result<bool, FenceError> {
    let session = Session::open(endpoint, Access::Write, "pg_catalog").await?;
    let database = endpoint.conninfo.database().to_owned();
    let former = run.as_ref().and_then(|run| recorded(run.records(), &database));
    set(&session, &database, former.clone().flatten().as_deref()).await?;
    if let Some(run) = run {
        run.append(Record::Unfenced { database })?;
    }
    session.close().await;
    Ok(former.is_some())
}

/// The former value of a fence that stands, by the journal.
pub fn recorded(records: &[Record], fenced: &str) -> Option<Option<String>> {
    records.iter().fold(None, |standing, record| match record {
        Record::Fence { database, former } if database == fenced => Some(former.clone()),
        Record::Unfenced { database } if database == fenced => None,
        _ => standing,
    })
}

/// Marks the target as being loaded.
pub async fn mark(session: &Session, database: &str, run: &mut RunDirectory) -> Result<(), FenceError> {
    if !run.records().iter().any(|record| matches!(record, Record::Mark { .. })) {
        let former = setting(session).await?;
        run.append(Record::Mark { database: database.to_owned(), former })?;
    }
    set(session, database, Some("on")).await?;
    Ok(())
}

/// Takes the mark away.
pub async fn unmark(session: &Session, database: &str, run: &RunDirectory) -> Result<(), FenceError> {
    let former = run.records().iter().rev().find_map(|record| match record {
        Record::Mark { former, .. } => Some(former.clone()),
        _ => None,
    });
    set(session, database, former.flatten().as_deref()).await?;
    Ok(())
}

async fn setting(session: &Session) -> Result<Option<String>, SessionError> {
    let row = session.client.query_opt(include_str!("../../sql/fence/setting.sql"), &[]).await;
    let row = row.map_err(|error| session.failed("read the database's settings", error))?;
    Ok(row.map(|row| row.get("value")))
}

async fn set(session: &Session, database: &str, value: Option<&str>) -> Result<(), SessionError> {
    let name = quote_identifier(database);
    let statement = match value {
        Some(value) => {
            format!("ALTER DATABASE {name} SET default_transaction_read_only TO {}", quote_literal(value))
        }
        None => format!("ALTER DATABASE {name} RESET default_transaction_read_only"),
    };
    session.run(&statement, format!("set default_transaction_read_only of database {database}")).await
}

/// Ends what can be ended; returns what was there.
async fn end_others(session: &Session, own: &str) -> Result<Vec<Survivor>, SessionError> {
    let rows = session.client.query(include_str!("../../sql/fence/sessions.sql"), &[&own]).await;
    let rows = rows.map_err(|error| session.failed("list sessions", error))?;
    let mut found = Vec::new();
    for row in rows {
        let survivor = Survivor {
            pid: row.get("pid"),
            role: row.get("role"),
            application_name: row.get("application_name"),
            is_superuser: row.get("is_superuser"),
        };
        // A session that may not be ended is told to the operator, not an error.
        let _ =
            session.client.query_one(include_str!("../../sql/fence/terminate.sql"), &[&survivor.pid]).await;
        found.push(survivor);
    }
    Ok(found)
}
