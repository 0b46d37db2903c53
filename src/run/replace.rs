//! `--replace`: the target's database is emptied before the schema stage.
//!
//! Works as the ordinary owner of the database: what the user has is dropped, extensions with their members,
//! `public` itself and settings stay. A schema without an extension goes whole, everything else object by
//! object, in transactions that fit the server's lock table ([`batches`]); none of them is committed if it would
//! take an extension along.
//!
//! The journal says that the drop begins before it does ([`Record::Replaced`]), and the ledger when nothing is
//! left: what comes between is finished by `--resume`, and what comes later is never dropped again. What the role
//! may not drop is found by the check, before anything is written.

use std::collections::HashMap;

use super::{Checked, Context, append};
use crate::catalog::{Catalog, CatalogError, Server};
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::journal::{Record, RunDirectory};
use crate::pg::{Access, Session, SessionError};
use crate::preflight::{self, Finding, Severity};
use crate::transfer::digest::Digest;
use crate::transfer::ledger::{self, Durability};

/// The drop's unit in the ledger.
const ITEM: &str = "replaced";

/// Large objects in one transaction; each takes a lock.
const LARGE_OBJECTS: i64 = 1000;

/// Why the target could not be emptied.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// A statement of the bookkeeping failed, or the connection broke.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The catalog could not be read again.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Somebody works with what is to be dropped.
    #[error("applications are connected to the target: {0}; nothing was dropped")]
    InUse(String),
    /// The target refuses a drop for good.
    #[error("the target is emptied in part: {done} of {all} drops are done; the source is untouched")]
    Refused {
        /// How many drops are committed.
        done: usize,
        /// How many there are.
        all: usize,
        /// What the target said.
        source: SessionError,
    },
    /// An extension depends on a user's object.
    #[error(
        "{what} would drop an extension, too ({extensions}): {done} of {all} drops are done, the source is untouched"
    )]
    TakesExtension {
        /// What was being dropped.
        what: String,
        /// The extensions.
        extensions: String,
        /// How many drops are committed.
        done: usize,
        /// How many there are.
        all: usize,
    },
    /// Something is still there, which no drop was known for or which was made meanwhile.
    #[error("the target still holds {count} objects after the drop: {first}; the source is untouched")]
    Left {
        /// How many.
        count: u64,
        /// The first few.
        first: String,
    },
}

impl Fault for ReplaceError {
    fn class(&self) -> Class {
        match self {
            ReplaceError::Session(error) | ReplaceError::Refused { source: error, .. } => error.class(),
            ReplaceError::Catalog(error) => error.class(),
            ReplaceError::InUse(_) | ReplaceError::TakesExtension { .. } | ReplaceError::Left { .. } => {
                Class::Target
            }
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            ReplaceError::Session(error) => error.is_retryable(),
            ReplaceError::Catalog(error) => error.is_retryable(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ReplaceError::Session(error) => error.hint(),
            ReplaceError::Catalog(error) => error.hint(),
            ReplaceError::InUse(_) => Some("stop them, then run again".into()),
            ReplaceError::Refused { .. }
            | ReplaceError::TakesExtension { .. }
            | ReplaceError::Left { .. } => Some(
                "drop what is named as its owner or as a superuser, then run again with another --run-dir and --replace"
                    .into(),
            ),
        }
    }
}

/// One statement that drops.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Drop {
    object: String,
    statement: String,
    /// How many locks it takes at most.
    locks: u64,
    is_permitted: bool,
}

impl Drop {
    fn of(row: &tokio_postgres::Row) -> Drop {
        Drop {
            object: row.get("object"),
            statement: row.get("statement"),
            locks: u64::try_from(row.get::<_, i64>("locks")).unwrap_or_default(),
            is_permitted: row.get("is_permitted"),
        }
    }
}

/// Whether a drop has begun and is not known to be over.
pub(super) fn is_open(records: &[Record], done: &HashMap<String, Option<Digest>>) -> bool {
    is_begun(records) && !done.contains_key(ITEM)
}

fn is_begun(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record, Record::Replaced { .. }))
}

/// Locks of one transaction: a quarter of the table, for parents and partners of what is dropped are locked too.
fn most_locks(server: &Server) -> u64 {
    (preflight::lock_table(server) / 4).max(1)
}

/// What must be dropped, in order. Schemas that are too large for one transaction are emptied first.
async fn drops(session: &Session, most_locks: u64) -> Result<Vec<Drop>, SessionError> {
    let failed = |error| session.failed("list what is to be dropped", error);
    let rows = session.client.query(include_str!("../../sql/replace/schemas.sql"), &[]).await;
    let rows = rows.map_err(failed)?;
    let (whole, others): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.get("is_whole") && Drop::of(row).locks <= most_locks);
    let piecemeal: Vec<u32> = others.iter().map(|row| row.get("oid")).collect();
    let objects = session.client.query(include_str!("../../sql/replace/objects.sql"), &[&piecemeal]).await;
    let objects = objects.map_err(failed)?;
    let emptied =
        others.iter().filter(|row| row.get("is_whole")).map(|row| Drop { locks: 1, ..Drop::of(row) });
    Ok(objects.iter().map(Drop::of).chain(whole.into_iter().map(Drop::of)).chain(emptied).collect())
}

/// Cuts the drops into transactions of at most `most_locks` locks. A drop that needs more stands alone: most of what
/// it would take along was dropped before it.
fn batches(drops: &[Drop], most_locks: u64) -> Vec<&[Drop]> {
    let mut batches = Vec::new();
    let (mut begin, mut locks) = (0, 0);
    for (position, drop) in drops.iter().enumerate() {
        if locks + drop.locks > most_locks && position > begin {
            batches.push(&drops[begin..position]);
            (begin, locks) = (position, 0);
        }
        locks += drop.locks;
    }
    if begin < drops.len() {
        batches.push(&drops[begin..]);
    }
    batches
}

async fn extensions(session: &Session) -> Result<Vec<String>, SessionError> {
    let row = session.client.query_one(include_str!("../../sql/replace/extensions.sql"), &[]).await;
    Ok(row.map_err(|error| session.failed("list the extensions", error))?.get("extensions"))
}

impl Context<'_> {
    /// What `--replace` would have to drop and may not.
    pub(super) async fn undroppable(&self, target: &Catalog) -> Result<Vec<Finding>, SessionError> {
        let session = Session::open(&self.target, Access::Read, "pg_catalog").await?;
        let drops = drops(&session, most_locks(&target.server)).await?;
        session.close().await;
        let forbidden: Vec<&Drop> = drops.iter().filter(|drop| !drop.is_permitted).collect();
        if forbidden.is_empty() {
            return Ok(vec![]);
        }
        let objects = preflight::few(forbidden.iter().map(|drop| &drop.object));
        Ok(vec![Finding {
            id: "replace-not-permitted",
            severity: Severity::Blocking,
            title: "the target's role may not drop everything that --replace must drop".into(),
            evidence: objects.to_string(),
            objects: objects.all(),
            remedy: format!(
                "as their owner or a superuser: {}",
                preflight::few(forbidden.iter().map(|drop| format!("{};", drop.statement)))
            ),
        }])
    }

    /// Makes way for this run's ledger, in the transaction that makes it: from here on the target is this run's to
    /// empty. `other` is the run whose ledger is there.
    pub(super) async fn displace(
        &self,
        session: &Session,
        directory: &mut RunDirectory,
        other: Option<String>,
    ) -> Result<(), Error> {
        let failed = |error| Error::new(Exit::Resumable, error);
        let sessions = include_str!("../../sql/fence/sessions.sql");
        // Whenever they began.
        let others = session.client.query(sessions, &[&self.target.application_name, &"infinity"]).await;
        let others = others.map_err(|error| failed(session.failed("list sessions", error)))?;
        let names: Vec<String> = others
            .iter()
            .map(|row| (row.get::<_, &str>("application_name"), row.get::<_, &str>("role")))
            .filter(|(name, _)| !name.starts_with("pgmove"))
            .map(|(name, role)| format!("{name} as {role}"))
            .collect();
        if !names.is_empty() {
            return Err(Error::new(Exit::Refused, ReplaceError::InUse(preflight::few(names).to_string())));
        }
        let database = self.target.conninfo.database().to_owned();
        if other.is_some() && !directory.records().iter().any(|record| matches!(record, Record::Mark { .. }))
        {
            // The mark that stands there is that run's, and goes with its ledger.
            append(directory, Record::Mark { database: database.clone(), former: None })?;
        }
        append(directory, Record::Replaced { database, other_run: other })?;
        ledger::drop(&session.client)
            .await
            .map_err(|error| failed(session.failed("drop the ledger of another run", error)))
    }

    /// Drops everything of the user's, and looks whether nothing is left.
    pub(super) async fn replace(&self, session: &Session, checked: &Checked) -> Result<(), Error> {
        let failed = |error: SessionError| Error::new(Exit::Resumable, error);
        let most_locks = most_locks(&checked.target.server);
        let drops = drops(session, most_locks).await.map_err(failed)?;
        let kept = extensions(session).await.map_err(failed)?;
        let all = drops.len();
        self.events.note(format!("emptying database {}: {all} drops", self.target.conninfo.database()));
        let mut done = 0;
        let refused = |done: usize| {
            move |source: SessionError| match &source {
                SessionError::Statement { error, .. }
                    if error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) =>
                {
                    Error::new(Exit::StartOver, ReplaceError::Refused { done, all, source })
                }
                _ => Error::new(Exit::Resumable, source),
            }
        };
        self.unlink(session, refused(0)).await?;
        for batch in batches(&drops, most_locks) {
            self.safe_point()?;
            let what = match batch {
                [only] => format!("drop {}", only.object),
                [first, .., last] => format!("drop the objects from {} to {}", first.object, last.object),
                [] => continue,
            };
            let statements: Vec<&str> = batch.iter().map(|drop| drop.statement.as_str()).collect();
            let message = format!("BEGIN; SET LOCAL lock_timeout TO '30s'; {}", statements.join("; "));
            session.run(&message, what.clone()).await.map_err(refused(done))?;
            let left = extensions(session).await.map_err(failed)?;
            if left != kept {
                let lost = kept.iter().filter(|name| !left.contains(name));
                let extensions = preflight::few(lost).to_string();
                let error = ReplaceError::TakesExtension { what, extensions, done, all };
                return Err(Error::new(Exit::StartOver, error));
            }
            session.run("COMMIT", what).await.map_err(failed)?;
            done += batch.len();
        }
        let catalog = Catalog::read(&session.client, Side::Target).await;
        let left = catalog.map_err(|error| Error::new(Exit::Resumable, error))?.user_objects;
        if left.count > 0 {
            let first = left.first.iter().map(|object| format!("{} {}", object.kind, object.name));
            let first = preflight::few(first).to_string();
            return Err(Error::new(Exit::StartOver, ReplaceError::Left { count: left.count, first }));
        }
        let record = ledger::record(ITEM, None, Durability::Logged);
        session.run(&record, "record that the target is empty").await.map_err(failed)
    }

    async fn unlink(&self, session: &Session, refused: impl Fn(SessionError) -> Error) -> Result<(), Error> {
        loop {
            self.safe_point()?;
            let statement = include_str!("../../sql/replace/large_objects.sql");
            let row = session.client.query_one(statement, &[&LARGE_OBJECTS]).await;
            let row = row.map_err(|error| refused(session.failed("remove large objects", error)))?;
            if row.get::<_, i64>("removed") == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(locks: u64) -> Drop {
        Drop { object: String::new(), statement: String::new(), locks, is_permitted: true }
    }

    #[test]
    fn a_batch_takes_no_more_locks_than_allowed_unless_it_is_one_drop() {
        let drops = [4, 4, 3, 20, 1, 9].map(drop);
        let sizes: Vec<usize> = batches(&drops, 10).into_iter().map(<[Drop]>::len).collect();
        assert_eq!(sizes, [2, 1, 1, 2]);
        assert!(batches(&[], 10).is_empty());
    }

    #[test]
    fn a_drop_is_open_between_its_record_and_its_ledger_row() {
        let begun = [Record::Replaced { database: "app".into(), other_run: None }];
        assert!(!is_open(&[], &HashMap::new()));
        assert!(is_open(&begun, &HashMap::new()));
        assert!(!is_open(&begun, &HashMap::from([(ITEM.to_owned(), None)])));
    }
}
