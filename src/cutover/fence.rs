//! The fence: a database that refuses writes by default.
//!
//! `ALTER DATABASE ... SET default_transaction_read_only = on`, and the end of every session that began before
//! it; one that begins after it has the setting. The former value is in the journal before it is changed, and
//! [`unfence`] puts it back. The same setting marks a target that is being loaded, so that no application takes it
//! for a live one.
//!
//! What a fence cannot stop: a session that sets `transaction_read_only` off by itself (any role may), and the
//! sessions of superusers where the fencing role is none: they cannot be ended. Both are found out at the end
//! of a run, by the source's snapshot.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::catalog::{CatalogError, DatabaseIdentity};
use crate::error::{Class, Fault};
use crate::journal::{JournalError, Record, RunDirectory};
use crate::pg::{Endpoint, Session, SessionError, quote_identifier, quote_literal};

/// Why a fence could not be set or lifted.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// The server refused before anything was changed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The database does not tell which it is.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The former value could not be written down, so nothing was changed.
    #[error("could not record the fence")]
    Journal(#[from] JournalError),
    /// The setting is changed, or nobody knows: the connection broke before the answer.
    #[error(transparent)]
    Begun(SessionError),
    /// The fence is lifted, and that could not be written down.
    #[error("the fence is lifted, and that could not be recorded")]
    Unrecorded(#[source] JournalError),
}

impl FenceError {
    /// Whether the source may have another setting than before.
    pub fn has_begun(&self) -> bool {
        matches!(self, FenceError::Begun(_) | FenceError::Unrecorded(_))
    }
}

impl Fault for FenceError {
    fn class(&self) -> Class {
        match self {
            FenceError::Session(error) | FenceError::Begun(error) => error.class(),
            FenceError::Catalog(error) => error.class(),
            FenceError::Journal(error) | FenceError::Unrecorded(error) => error.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            FenceError::Session(error) | FenceError::Begun(error) => error.is_retryable(),
            FenceError::Catalog(error) => error.is_retryable(),
            FenceError::Journal(_) | FenceError::Unrecorded(_) => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            FenceError::Session(error) | FenceError::Begun(error) => error.hint(),
            FenceError::Catalog(error) => error.hint(),
            FenceError::Journal(error) | FenceError::Unrecorded(error) => error.hint(),
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

/// Fences the endpoint's database, to which `session` is open, and returns the sessions that could not be ended.
/// Safe to repeat: a fence that stands is kept, with the former value that was recorded first.
pub async fn fence(
    session: Session,
    endpoint: &Endpoint,
    run: &mut RunDirectory,
) -> Result<Vec<Survivor>, FenceError> {
    let database = DatabaseIdentity::read(&session.client, endpoint.side).await?;
    if recorded(run.records(), &database).is_none() {
        let former = setting(&session).await?;
        run.append(Record::Fence { database: database.clone(), former })?;
    }
    set(&session, &database.name, Some("on")).await.map_err(altering)?;
    let begun_before = clock(&session).await.map_err(FenceError::Begun)?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let survivors = loop {
        let Others { ending, refused } = end_others(&session, &endpoint.application_name, &begun_before)
            .await
            .map_err(FenceError::Begun)?;
        if ending.is_empty() || tokio::time::Instant::now() >= deadline {
            break [refused, ending].concat();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    session.close().await;
    Ok(survivors)
}

/// What lifting a fence came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifted {
    /// The recorded former value was put back.
    Restored,
    /// So it was, and that refuses writes too: there was another fence before.
    RestoredReadOnly,
    /// None was recorded; the setting was removed.
    Removed,
    /// There was no fence; nothing was changed.
    NotFenced,
    /// The recorded fence was lifted before: what refuses writes now is somebody else's setting, and stays.
    NotOurs,
}

/// Lifts the fence of the endpoint's database, to which `session` is open: the recorded former value is put back, or
/// the setting removed where none was ever recorded.
pub async fn unfence(
    session: Session,
    endpoint: &Endpoint,
    run: Option<&mut RunDirectory>,
) -> Result<Lifted, FenceError> {
    let database = DatabaseIdentity::read(&session.client, endpoint.side).await?;
    let records = run.as_ref().map(|run| run.records()).unwrap_or_default();
    let is_lifted = records.iter().any(
        |record| matches!(record, Record::Unfenced { database: lifted } if lifted.is_same_as(&database)),
    );
    let lifted = match recorded(records, &database) {
        Some(former) => {
            set(&session, &database.name, former.as_deref()).await.map_err(altering)?;
            if former.is_some_and(|value| is_on(&value)) {
                Lifted::RestoredReadOnly
            } else {
                Lifted::Restored
            }
        }
        None if !setting(&session).await?.is_some_and(|value| is_on(&value)) => Lifted::NotFenced,
        // What stands now is the former value, or somebody else's.
        None if is_lifted => Lifted::NotOurs,
        None => {
            set(&session, &database.name, None).await.map_err(altering)?;
            Lifted::Removed
        }
    };
    if let Some(run) = run.filter(|_| matches!(lifted, Lifted::Restored | Lifted::RestoredReadOnly)) {
        run.append(Record::Unfenced { database }).map_err(FenceError::Unrecorded)?;
    }
    session.close().await;
    Ok(lifted)
}

/// The former value of a fence that stands, by the journal.
pub fn recorded(records: &[Record], fenced: &DatabaseIdentity) -> Option<Option<String>> {
    records.iter().fold(None, |standing, record| match record {
        Record::Fence { database, former } if database.is_same_as(fenced) => Some(former.clone()),
        Record::Unfenced { database } if database.is_same_as(fenced) => None,
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

/// Whether a boolean setting's value is true, as PostgreSQL reads it.
fn is_on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    value == "on"
        || value == "1"
        || ["true", "yes"].iter().any(|word| !value.is_empty() && word.starts_with(&value))
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

/// An error of the statement that changes the setting: where the server has answered, it has changed nothing.
fn altering(error: SessionError) -> FenceError {
    match &error {
        SessionError::Statement { error: answer, .. } if answer.as_db_error().is_some() => {
            FenceError::Session(error)
        }
        _ => FenceError::Begun(error),
    }
}

async fn clock(session: &Session) -> Result<String, SessionError> {
    let row = session.client.query_one(include_str!("../../sql/fence/clock.sql"), &[]).await;
    Ok(row.map_err(|error| session.failed("read the clock", error))?.get("now"))
}

/// Sessions that were there.
#[derive(Default)]
struct Others {
    /// They were told to end.
    ending: Vec<Survivor>,
    /// They may not be ended.
    refused: Vec<Survivor>,
}

/// Ends what began before a moment and can be ended.
async fn end_others(session: &Session, own: &str, begun_before: &str) -> Result<Others, SessionError> {
    let rows =
        session.client.query(include_str!("../../sql/fence/sessions.sql"), &[&own, &begun_before]).await;
    let rows = rows.map_err(|error| session.failed("list sessions", error))?;
    let mut others = Others::default();
    for row in rows {
        let survivor = Survivor {
            pid: row.get("pid"),
            role: row.get("role"),
            application_name: row.get("application_name"),
            is_superuser: row.get("is_superuser"),
        };
        let told =
            session.client.query_one(include_str!("../../sql/fence/terminate.sql"), &[&survivor.pid]).await;
        match told {
            Ok(_) => others.ending.push(survivor),
            // That is told to the operator, not an error.
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                others.refused.push(survivor);
            }
            Err(error) => return Err(session.failed("end a session", error)),
        }
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Oid;

    #[test]
    fn a_setting_is_read_as_postgresql_reads_it() {
        assert!(["on", "ON", "1", "true", "t", "Yes", "y"].iter().all(|value| is_on(value)));
        assert!(["off", "0", "false", "no", "", "o", "truer"].iter().all(|value| !is_on(value)));
    }

    #[test]
    fn a_journal_tells_the_fences_of_two_servers_apart() {
        let of = |server: &str| DatabaseIdentity {
            system_identifier: Some(server.into()),
            oid: Oid(16_384),
            name: "immich".into(),
        };
        let (production, staging) = (of("1"), of("2"));
        let fenced = Record::Fence { database: production.clone(), former: Some("off".into()) };
        let records = [fenced, Record::Unfenced { database: staging.clone() }];
        assert_eq!(recorded(&records, &production), Some(Some("off".into())));
        assert_eq!(recorded(&records, &staging), None);
        let lifted = [records.as_slice(), &[Record::Unfenced { database: production.clone() }]].concat();
        assert_eq!(recorded(&lifted, &production), None);
    }
}
