//! The reads of the survey. Each is one statement, in a session that can only read; an interrupt ends it on the server
//! too.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::embedding::Embeddings;
use super::{Found, Skipped, application, damage, duplicates, large_object};
use crate::catalog::{self, Catalog, CatalogError, Extension};
use crate::error::{Class, Fault, Side};
use crate::event::Events;
use crate::pg::{Access, Endpoint, Session, SessionError, describe, session};
use crate::plan::TablePlan;
use crate::preflight::counted;

/// How long the server is asked to end a statement. One that cannot be reached notices the closed connection.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// A transaction that is open on the source's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The session's application name, or the global identifier of a prepared transaction.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its database.
    pub database: String,
    /// Its process; none for a prepared transaction.
    pub pid: Option<i32>,
    /// For how long it is open; none where that is hidden.
    pub seconds: Option<i64>,
    /// Whether it has written something.
    pub has_written: bool,
}

/// How old a database's oldest ids are, in transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionAge {
    /// The database.
    pub database: String,
    /// The age of its oldest transaction id.
    pub transactions: i64,
    /// The age of its oldest multixact id.
    pub multixacts: i64,
}

/// A setting that a role has in every database; its value is nobody's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSetting {
    /// The role.
    pub role: String,
    /// The setting.
    pub setting: String,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No session, or the server refused a statement.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The operator asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Fault for ReadError {
    fn class(&self) -> Class {
        match self {
            ReadError::Session(error) => error.class(),
            ReadError::Catalog(error) => error.class(),
            ReadError::Interrupted => Class::User,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            ReadError::Session(error) => error.is_retryable(),
            ReadError::Catalog(error) => error.is_retryable(),
            ReadError::Interrupted => false,
        }
    }

    fn lock_timeout(&self) -> Option<Side> {
        match self {
            ReadError::Session(error) => error.lock_timeout(),
            ReadError::Catalog(error) => error.lock_timeout(),
            ReadError::Interrupted => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ReadError::Session(error) => error.hint(),
            ReadError::Catalog(error) => error.hint(),
            ReadError::Interrupted => None,
        }
    }
}

/// What the server said when it refused a statement.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Option<SqlState>,
    pub(super) words: String,
}

/// The server's own words, if it answered; an error that is not about what was read is passed on.
pub(super) fn refusal(error: ReadError) -> Result<Refusal, ReadError> {
    let ReadError::Session(SessionError::Statement { error: answer, .. }) = &error else { return Err(error) };
    let is_about_session = session::is_retryable(answer) || session::is_lock_timeout(answer);
    if answer.as_db_error().is_none() || is_about_session {
        return Err(error);
    }
    Ok(Refusal { code: answer.code().cloned(), words: describe(answer) })
}

/// A session that only reads, and statements that an interrupt ends.
pub(super) struct Reader<'a> {
    session: Session,
    stop: &'a CancellationToken,
}

impl<'a> Reader<'a> {
    pub(super) async fn open(
        endpoint: &Endpoint,
        stop: &'a CancellationToken,
    ) -> Result<Reader<'a>, SessionError> {
        let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
        Ok(Reader { session, stop })
    }

    /// The rows of a statement. `what` completes "could not".
    pub(super) async fn rows(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
        what: &str,
    ) -> Result<Vec<Row>, ReadError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            rows = self.session.client.query(statement, parameters) => {
                return Ok(rows.map_err(|error| self.session.failed(what, error))?);
            }
        }
        let _ = tokio::time::timeout(CANCEL_LIMIT, self.session.cancel()).await;
        Err(ReadError::Interrupted)
    }

    /// Statements that return nothing.
    pub(super) async fn run(&self, statements: &str, what: &str) -> Result<(), ReadError> {
        Ok(self.session.run(statements, what).await?)
    }

    pub(super) async fn close(self) {
        self.session.close().await;
    }
}

/// Reads from the source what the survey needs of it.
pub async fn source(
    endpoint: &Endpoint,
    source: &Catalog,
    stop: &CancellationToken,
) -> Result<Found, ReadError> {
    let reader = Reader::open(endpoint, stop).await?;
    let statement = include_str!("../../sql/survey/open_transactions.sql");
    let transactions =
        reader.rows(statement, &[&endpoint.application_name], "look for open transactions").await?;
    let transaction = |row: &Row| OpenTransaction {
        name: row.get("name"),
        role: row.get("role"),
        database: row.get("database"),
        pid: row.get("pid"),
        seconds: row.get("seconds"),
        has_written: row.get("has_written"),
    };
    let settings =
        reader.rows(include_str!("../../sql/survey/role_settings.sql"), &[], "read the roles' settings");
    let setting = |row: &Row| RoleSetting { role: row.get("role"), setting: row.get("setting") };
    let found = Found {
        is_source_read: true,
        transactions: transactions.iter().map(transaction).collect(),
        source_ages: read_ages(&reader).await?,
        role_settings: settings.await?.iter().map(setting).collect(),
        embeddings: Embeddings::read(&reader, source).await?,
        ..Found::default()
    };
    // The last: it changes the session's path.
    let (application, mut skipped) = application::read(&reader, source).await?;
    reader.close().await;
    skipped.extend(hidden(&found.transactions, &source.database.name));
    Ok(Found { application, skipped, ..found })
}

/// Transactions whose age the role is not shown: a long one may be among them.
fn hidden(transactions: &[OpenTransaction], database: &str) -> Option<Skipped> {
    let is_hidden =
        |open: &&OpenTransaction| open.pid.is_some() && open.database == database && open.seconds.is_none();
    let count = transactions.iter().filter(is_hidden).count() as u64;
    (count > 0).then(|| Skipped {
        what: format!("the age of {} on the source", counted(count, "open transaction")),
        why: "it is hidden from roles without pg_read_all_stats".into(),
    })
}

/// Reads every table of the source through: for rows that cannot be read, and for duplicates that unique keys hide.
pub async fn deep(
    endpoint: &Endpoint,
    source: &Catalog,
    tables: &[TablePlan],
    search_path: &str,
    (events, stop): (&Events, &CancellationToken),
) -> Result<Found, ReadError> {
    let reader = Reader::open(endpoint, stop).await?;
    let (damage, unread) = damage::read(&reader, source, tables, events).await?;
    let (damaged_objects, closed) = large_object::read(&reader).await?;
    let (duplicates, unsure) = duplicates::read(&reader, source, search_path).await?;
    reader.close().await;
    let skipped = [unread, closed, unsure].concat();
    Ok(Found { damage, damaged_objects, duplicates, skipped, ..Found::default() })
}

/// Reads from the target's server the ages of all databases, and what they hold together, in bytes.
pub async fn target(
    endpoint: &Endpoint,
    stop: &CancellationToken,
) -> Result<(Vec<TransactionAge>, u64), ReadError> {
    let reader = Reader::open(endpoint, stop).await?;
    let ages = read_ages(&reader).await?;
    let statement = include_str!("../../sql/survey/database_sizes.sql");
    let rows = reader.rows(statement, &[], "read the sizes of the databases").await?;
    let bytes = rows.first().map_or(0, |row| row.get::<_, i64>("bytes"));
    reader.close().await;
    Ok((ages, u64::try_from(bytes).unwrap_or_default()))
}

async fn read_ages(reader: &Reader<'_>) -> Result<Vec<TransactionAge>, ReadError> {
    let statement = include_str!("../../sql/survey/transaction_ages.sql");
    let rows = reader.rows(statement, &[], "read the age of transaction ids").await?;
    let age = |row: &Row| TransactionAge {
        database: row.get("database"),
        transactions: row.get("transactions"),
        multixacts: row.get("multixacts"),
    };
    Ok(rows.iter().map(age).collect())
}

/// The database that a server always has, and that extensions are created in by mistake.
const MAINTENANCE: &str = "postgres";

/// Reads which extensions database `postgres` of the target's server has, if the role may connect there.
pub async fn elsewhere(target: &Endpoint) -> Result<Vec<Extension>, Skipped> {
    if target.conninfo.database() == MAINTENANCE {
        return Ok(vec![]);
    }
    let conninfo = Arc::new(target.conninfo.as_ref().clone().with_database(MAINTENANCE));
    let endpoint = Endpoint { conninfo, ..target.clone() };
    let skipped = |error: &dyn std::error::Error| Skipped {
        what: format!("extensions in database {MAINTENANCE} of the target's server"),
        why: crate::error::chain(error).join(": "),
    };
    let session = Session::open(&endpoint, Access::Read, "pg_catalog").await;
    let session = session.map_err(|error| skipped(&error))?;
    let extensions = catalog::extensions(&session.client, Side::Target).await;
    session.close().await;
    extensions.map_err(|error| skipped(&error))
}
