//! Who keeps a session waiting for a lock.
//!
//! `lock_timeout` ends a wait, and the server's error names neither the table nor the session that stands in the way.
//! Both are asked for right after, while the run's own locks still stand: a DROP TABLE that waits for them is done as soon
//! as they are gone.

use std::fmt;

use super::{Access, Endpoint, Session, SessionError};
use crate::error::{Class, Error, Fault, Side};

/// A session of somebody else that keeps readers of a table out: it holds ACCESS EXCLUSIVE, or waits for it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process; none for a prepared transaction.
    pub pid: Option<i32>,
    /// Whether it waits for locks of pgmove itself.
    pub waits_for_run: bool,
    role: String,
    application_name: String,
    query_start: Option<String>,
    relation: Option<String>,
    mode: String,
    is_granted: bool,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "session {pid} of role {} ({:?}", self.role, self.application_name)?,
            None => f.write_str("a prepared transaction (see pg_prepared_xacts")?,
        }
        if let Some(start) = &self.query_start {
            write!(f, ", statement begun {start}")?;
        }
        let verb = if self.is_granted { "holds" } else { "waits for" };
        write!(f, ") {verb} {}", self.mode)?;
        if let Some(relation) = &self.relation {
            write!(f, " on {relation}")?;
        }
        if self.waits_for_run { f.write_str(", behind the run's own locks") } else { Ok(()) }
    }
}

/// Those who may be in the way of readers; sessions that are called `run` are left out.
pub async fn lock_holders(session: &Session, run: &str) -> Result<Vec<LockHolder>, SessionError> {
    let rows = session.client.query(include_str!("../../sql/session/lock_holders.sql"), &[&run]).await;
    let rows = rows.map_err(|error| session.failed("look for the holder of a lock", error))?;
    let holder = |row: &tokio_postgres::Row| LockHolder {
        pid: row.get("pid"),
        waits_for_run: row.get("waits_for_run"),
        role: row.get("role"),
        application_name: row.get("application_name"),
        query_start: row.get("query_start"),
        relation: row.get("relation"),
        mode: row.get("mode"),
        is_granted: row.get("is_granted"),
    };
    Ok(rows.iter().map(holder).collect())
}

/// Somebody else's lock was in the way.
#[derive(Debug, thiserror::Error)]
#[error("waited in vain for a lock on the {side}: {holder}")]
struct Blocked {
    side: Side,
    holder: LockHolder,
    #[source]
    cause: Cause,
}

/// The error that the wait ended in.
#[derive(Debug)]
struct Cause(Box<dyn Fault>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Fault for Blocked {
    fn class(&self) -> Class {
        self.side.class()
    }

    fn hint(&self) -> Option<String> {
        Some(match self.holder.pid {
            Some(pid) => format!(
                "stop the application that it belongs to, or end it on the {}: SELECT pg_terminate_backend({pid}); then \
                 try again",
                self.side
            ),
            None => {
                "end the prepared transaction: ROLLBACK PREPARED, or COMMIT PREPARED; then try again".into()
            }
        })
    }
}

/// Does some work; where that ends for want of a lock, its error names who is in the way on one of these endpoints.
/// What keeps the work's own locks must outlive it.
pub async fn naming_lock_holders<T>(
    endpoints: &[&Endpoint],
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut error = match work.await {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let side = error.fault.lock_timeout();
    if let Some(endpoint) = endpoints.iter().find(|endpoint| Some(endpoint.side) == side)
        // The error that there is tells more than why nobody can be named.
        && let Ok(Some(holder)) = first_holder(endpoint).await
    {
        let cause = Cause(error.fault);
        error.fault = Box::new(Blocked { side: endpoint.side, holder, cause });
    }
    Err(error)
}

async fn first_holder(endpoint: &Endpoint) -> Result<Option<LockHolder>, SessionError> {
    let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
    let holders = lock_holders(&session, &endpoint.application_name).await;
    session.close().await;
    Ok(holders?.into_iter().next())
}
