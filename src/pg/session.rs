//! Sessions: a connection whose settings are pinned.
//!
//! A session means the same thing whatever the defaults of server, database and role are: every setting that
//! changes what a value looks like, what a statement means, or how long it may take is set
//! (`sql/session/pin.sql`). Sessions of the source are read-only. The driver of the connection runs on the
//! runtime that opened the session and ends with it.

use std::sync::{Arc, OnceLock};

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, CopyInSink, CopyOutStream};

use super::{ConnInfo, ConnectError, connect, quote_literal};
use crate::error::{Class, Fault, Side};

/// How to open sessions to one database.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Which of the two.
    pub side: Side,
    /// How to reach it.
    pub conninfo: Arc<ConnInfo>,
    /// What `pg_stat_activity` shows; it tells a run's sessions from others'.
    pub application_name: String,
    /// The encoding that values travel in, if it is not UTF-8: the source's server encoding, on both sides, so
    /// that the source converts nothing.
    pub copy_encoding: Option<String>,
}

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every transaction is read-only.
    Read,
    /// Transactions may write, also where the database's default forbids it.
    Write,
}

/// Why a session could not be opened or could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused a statement, or the connection broke.
    #[error("could not {what} on the {side}: {}{}", super::describe(.error), lost(.cut.as_deref()))]
    Statement {
        /// On which side.
        side: Side,
        /// What the statement was for: `lock public.asset`.
        what: String,
        /// What the server or the connection said. It is in the message, so it is no `source`; boxed, because it
        /// is large.
        error: Box<tokio_postgres::Error>,
        /// Why the connection broke, where the error only says that it is closed.
        cut: Option<String>,
    },
}

impl Fault for SessionError {
    fn class(&self) -> Class {
        match self {
            SessionError::Connect(error) => error.class(),
            SessionError::Statement { side, .. } => side.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            SessionError::Connect(error) => error.is_retryable(),
            SessionError::Statement { error, .. } => is_retryable(error),
        }
    }

    fn lock_timeout(&self) -> Option<Side> {
        match self {
            SessionError::Statement { side, error, .. } if is_lock_timeout(error) => Some(*side),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SessionError::Connect(error) => error.hint(),
            SessionError::Statement { error, .. } => hint(error),
        }
    }
}

fn lost(cut: Option<&str>) -> String {
    cut.map(|cut| format!(": {cut}")).unwrap_or_default()
}

/// Whether a new connection may succeed where this error came: the connection broke, the server restarts or
/// ended the session, or two transactions met.
pub fn is_retryable(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        // No answer of the server: the connection broke, unless the answer could not be understood.
        return error.is_closed()
            || std::error::Error::source(error)
                .is_some_and(|cause| cause.downcast_ref::<std::io::Error>().is_some());
    };
    code.code().starts_with("08")
        || [
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
            &SqlState::TOO_MANY_CONNECTIONS,
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(&code)
}

/// Whether a lock was not granted in time.
pub(crate) fn is_lock_timeout(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Whether a name was not found.
pub(crate) fn is_about_names(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_OBJECT,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_SCHEMA_NAME,
        ]
        .contains(code)
    })
}

/// The next step for errors that many statements can meet.
pub(crate) fn hint(error: &tokio_postgres::Error) -> Option<String> {
    let code = error.code()?;
    let hint = if *code == SqlState::DISK_FULL {
        "free space on the server's volume (or enlarge it)"
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        "grant the right to the role, or give --target-admin with a superuser"
    } else if *code == SqlState::OUT_OF_MEMORY {
        "raise max_locks_per_transaction if the server's hint says so, else give the server more memory or use fewer --jobs"
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        "the server is a standby or its database is read-only: name the primary"
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        "another session holds the lock: end it (pg_stat_activity, pg_locks) and try again"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// One connection with pinned settings.
#[derive(Debug)]
pub struct Session {
    /// Sends queries.
    pub client: Client,
    side: Side,
    conninfo: Arc<ConnInfo>,
    copy_encoding: Option<String>,
    process: i32,
    /// Why the connection broke.
    cut: Arc<OnceLock<String>>,
    driver: JoinHandle<()>,
}

impl Session {
    /// Opens a session with this `search_path`.
    pub async fn open(
        endpoint: &Endpoint,
        access: Access,
        search_path: &str,
    ) -> Result<Session, SessionError> {
        let connected = connect(&endpoint.conninfo, &endpoint.application_name, endpoint.side).await?;
        let cut = Arc::new(OnceLock::new());
        let mut session = Session {
            client: connected.client,
            side: endpoint.side,
            conninfo: Arc::clone(&endpoint.conninfo),
            copy_encoding: endpoint.copy_encoding.clone(),
            process: 0,
            cut: Arc::clone(&cut),
            driver: tokio::spawn(async move {
                let mut driver = connected.driver;
                // Kept before the driver is dropped, which is what tells the client that the connection is closed.
                if let Err(error) = (&mut driver).await {
                    let _ = cut.set(super::describe(&error));
                }
            }),
        };
        let read_only = if access == Access::Read { "on" } else { "off" };
        let pinned = session
            .client
            .query_one(
                include_str!("../../sql/session/pin.sql"),
                &[&search_path, &read_only, &endpoint.application_name],
            )
            .await
            .map_err(|source| session.failed("pin the session's settings", source))?;
        session.process = pinned.get("process");
        Ok(session)
    }

    /// The server's process behind the session (`pg_backend_pid()`).
    pub fn process(&self) -> i32 {
        self.process
    }

    /// Sends statements that return nothing, as one simple-query message: several of them are one transaction.
    pub async fn run(&self, statements: &str, what: impl Into<String>) -> Result<(), SessionError> {
        self.client.batch_execute(statements).await.map_err(|source| self.failed(what, source))
    }

    /// An error of this session.
    pub fn failed(&self, what: impl Into<String>, error: tokio_postgres::Error) -> SessionError {
        let says_more = |cut: &&str| error.is_closed() && !super::describe(&error).contains(cut);
        let cut = self.cut().filter(says_more).map(str::to_owned);
        SessionError::Statement { side: self.side, what: what.into(), error: Box::new(error), cut }
    }

    /// Why the connection broke, if it did. Errors of statements often say no more than that it is closed.
    pub fn cut(&self) -> Option<&str> {
        self.cut.get().map(String::as_str)
    }

    /// Begins a COPY from the server.
    pub async fn copy_out(&self, statement: &str) -> Result<CopyOutStream, tokio_postgres::Error> {
        // The statement's own text is UTF-8, so it is parsed before the encoding of values is set.
        let statement = self.client.prepare(statement).await?;
        self.set_copy_encoding().await?;
        self.client.copy_out(&statement).await
    }

    /// Begins a COPY to the server.
    pub async fn copy_in(&self, statement: &str) -> Result<CopyInSink<bytes::Bytes>, tokio_postgres::Error> {
        let statement = self.client.prepare(statement).await?;
        self.set_copy_encoding().await?;
        self.client.copy_in(&statement).await
    }

    /// Values are sent in the encoding of COPY from here to [`Session::copy_ended`].
    pub(crate) async fn set_copy_encoding(&self) -> Result<(), tokio_postgres::Error> {
        match &self.copy_encoding {
            None => Ok(()),
            Some(encoding) => {
                self.client
                    .batch_execute(&format!("SET client_encoding TO {}", quote_literal(encoding)))
                    .await
            }
        }
    }

    /// Back to UTF-8 after a COPY, for statements and names.
    pub async fn copy_ended(&self) -> Result<(), tokio_postgres::Error> {
        match &self.copy_encoding {
            None => Ok(()),
            Some(_) => self.client.batch_execute("SET client_encoding TO 'UTF8'").await,
        }
    }

    /// Asks the server to end the running statement, over a connection of its own.
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        let token: CancelToken = self.client.cancel_token();
        super::cancel(&self.conninfo, token, self.side).await
    }

    /// Ends the session and waits until the connection is closed.
    pub async fn close(self) {
        drop(self.client);
        // How a connection ends that is no longer needed changes nothing.
        let _ = self.driver.await;
    }
}
