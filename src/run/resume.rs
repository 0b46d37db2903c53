//! Going on with an interrupted run: what the journal, the ledger and the source allow.

use std::collections::HashMap;

use super::prepare::{PLAN, SCHEMA};
use super::{Checked, Context, Interrupted, Source, append};
use crate::catalog::SourceState;
use crate::error::{Class, Error, Exit, Fault};
use crate::journal::{Record, RunDirectory};
use crate::pg::{Access, Session, SessionError};
use crate::plan::{Plan, TablePlan, make};
use crate::schema::Entry;
use crate::transfer::digest::Digest;
use crate::transfer::lane::large_object;
use crate::transfer::ledger;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::work::Work;

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The target belongs to another run, or to nobody.
    #[error("the target holds no ledger of run {run}{}", .found.as_ref().map(|found| format!(", but one of run {found}")).unwrap_or_default())]
    OtherLedger {
        /// This run.
        run: String,
        /// The run whose ledger is there.
        found: Option<String>,
    },
    /// The source's schema has changed.
    #[error("the source's schema has changed since the run began: {0}")]
    SchemaChanged(String),
    /// A restore was begun from another archive.
    #[error("the archive is not the one that the run began with")]
    OtherArchive,
    /// A table has changed that cannot be copied again.
    #[error("{0} has changed on the source, and its foreign keys or triggers are made already")]
    Tied(String),
    /// A crash of the target's server has emptied an unlogged table that cannot be loaded again.
    #[error(
        "{0} is unlogged: a crash of the target's server emptied it, and its foreign keys or triggers are made already"
    )]
    Emptied(String),
    /// A session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Fault for ResumeError {
    fn class(&self) -> Class {
        match self {
            ResumeError::OtherLedger { .. } | ResumeError::Emptied(_) => Class::Target,
            ResumeError::OtherArchive => Class::User,
            ResumeError::SchemaChanged(_) | ResumeError::Tied(_) => Class::Source,
            ResumeError::Session(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ResumeError::Session(error) => error.hint(),
            _ => Some(
                "start over with another --run-dir, and --replace with the name of the target database to drop what is there"
                    .into(),
            ),
        }
    }
}

/// The run that a journal is of.
pub(super) fn run_of(records: &[Record]) -> Option<String> {
    records.iter().find_map(|record| match record {
        Record::Started { run, .. } => Some(run.clone()),
        _ => None,
    })
}

/// Whether the run has a plan to go by.
pub(super) fn is_planned(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record, Record::Planned { .. }))
}

/// The records of the run itself: `pgmove fence` may have written before it.
pub(super) fn own(records: &[Record]) -> &[Record] {
    let start = records.iter().position(|record| matches!(record, Record::Started { .. }));
    &records[start.unwrap_or(records.len())..]
}

/// Whether something that the run has changed outside its directory still stands.
pub(super) fn has_written(records: &[Record]) -> bool {
    let records = own(records);
    let fence = records.iter().rev().find_map(|record| match record {
        Record::Fence { .. } => Some(true),
        Record::Unfenced { .. } => Some(false),
        _ => None,
    });
    fence == Some(true)
        || records.iter().any(|record| matches!(record, Record::Replaced { .. } | Record::Mark { .. }))
}

/// Whether the run has changed something in a target, and it cannot be this one, of which nothing is known.
fn has_begun(records: &[Record], target: &str) -> bool {
    records.iter().any(|record| match record {
        Record::StageFinished { .. } => true,
        Record::Mark { database, .. } => database != target,
        _ => false,
    })
}

/// The verdict of a run that only has to clear up.
pub(super) fn standing_verdict(records: &[Record]) -> Option<(String, u8)> {
    records.iter().rev().find_map(|record| match record {
        Record::Verdict { verdict, exit } => Some((verdict.clone(), *exit)),
        _ => None,
    })
}

/// The exit code of a verdict that an earlier process had written down.
pub(super) fn exit_of(code: u8) -> Exit {
    [Exit::Done, Exit::Different].into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::NotAllCompared)
}

impl Context<'_> {
    /// The plan of an earlier process, and what of it is done and still true; `None` if it is too early for
    /// either.
    pub(super) async fn pick_up(
        &self,
        directory: &mut RunDirectory,
        checked: &Checked,
        snapshot: &Snapshot,
    ) -> Result<Option<(Plan, HashMap<String, Option<Digest>>)>, Error> {
        if !is_planned(directory.records()) {
            return Ok(None);
        }
        let start_over = |error| Error::new(Exit::StartOver, error);
        let mut plan: Plan =
            directory.read_document(PLAN).map_err(|error| Error::new(Exit::StartOver, error))?;
        let session = Session::open(&self.target, Access::Write, "pg_catalog")
            .await
            .map_err(|error| Error::new(Exit::Resumable, error))?;
        end_leftovers(&session, &self.target.application_name)
            .await
            .map_err(|error| Error::new(Exit::Resumable, error))?;
        let broken = |error| Error::new(Exit::Resumable, session.failed("read the ledger", error));
        let found = ledger::owner(&session.client).await.map_err(broken)?;
        match found {
            Some(found) if found == self.run => {}
            // The process ended before it had dropped anything: plan again.
            _ if checked.replaces => return Ok(None),
            // The process ended before it had made the ledger. The source may be another one now: plan again.
            None if checked.target.user_objects.count == 0
                && !has_begun(directory.records(), self.target.conninfo.database()) =>
            {
                return Ok(None);
            }
            found => return Err(start_over(ResumeError::OtherLedger { run: self.run.clone(), found })),
        }
        let mut done = ledger::read(&session.client).await.map_err(broken)?;
        refuse_emptied(&session, &plan, &done).await?;
        let state = latest_state(directory.records());
        let is_unchanged = state.is_some_and(|state| state.is_proven_equal(&snapshot.state));
        if matches!(self.source, Source::Archive(_)) {
            if !is_unchanged {
                return Err(start_over(ResumeError::OtherArchive));
            }
        } else if is_unchanged {
            // A crash of the source's server empties them, and gives out no transaction id.
            let unlogged = |planned: &TablePlan| planned.is_unlogged;
            self.prove_tables(snapshot, &plan, unlogged, &mut done, &session).await?;
        } else {
            self.prove_again(directory, checked, snapshot, &mut plan, &mut done, &session).await?;
            append(directory, Record::Planned { state: snapshot.state.clone() })?;
        }
        session.close().await;
        Ok(Some((plan, done)))
    }

    /// The source may have changed since the rows in the target were read: its schema must be the same, and each
    /// loaded table is proven.
    async fn prove_again(
        &self,
        directory: &RunDirectory,
        checked: &Checked,
        snapshot: &Snapshot,
        plan: &mut Plan,
        done: &mut HashMap<String, Option<Digest>>,
        target: &Session,
    ) -> Result<(), Error> {
        let before: Vec<Entry> =
            directory.read_document(SCHEMA).map_err(|error| Error::new(Exit::StartOver, error))?;
        let now = self.entries(checked, snapshot, directory.path()).await?;
        if let Some(changed) = first_change(&before, &now) {
            return Err(Error::new(Exit::StartOver, ResumeError::SchemaChanged(changed)));
        }
        self.events.note("the source may have changed since; reading and hashing what was copied");
        self.prove_tables(snapshot, plan, |_| true, done, target).await?;
        // Large objects have no digest in the ledger: they are copied again, those that are there now.
        for (batch, &planned) in plan.large_objects.iter().enumerate() {
            let item = Work::LargeObjects { batch }.item(plan).expect("a batch is in the ledger");
            let message = format!("{}; {}", large_object::remove(planned), ledger::forget(&item));
            target
                .run(&message, "remove large objects")
                .await
                .map_err(|error| Error::new(Exit::Resumable, error))?;
            done.remove(&item);
        }
        plan.large_objects = make::batches(&snapshot.large_objects);
        directory.write_document(PLAN, plan).map_err(|error| Error::new(Exit::Resumable, error))
    }

    /// Each loaded table that `is_doubtful` must have the digest that was loaded, as of the new snapshot. One that
    /// has changed is copied again.
    async fn prove_tables(
        &self,
        snapshot: &Snapshot,
        plan: &Plan,
        is_doubtful: impl Fn(&TablePlan) -> bool,
        done: &mut HashMap<String, Option<Digest>>,
        target: &Session,
    ) -> Result<(), Error> {
        for (table, planned) in plan.tables.iter().enumerate().filter(|(_, found)| is_doubtful(found)) {
            self.safe_point()?;
            let items: Vec<String> = (0..planned.chunks.len())
                .filter_map(|chunk| Work::Chunk { table, chunk }.item(plan))
                .collect();
            if !items.iter().any(|item| done.contains_key(item)) {
                continue;
            }
            let loaded: Option<Vec<Digest>> =
                items.iter().map(|item| done.get(item).copied().flatten()).collect();
            if let Some(loaded) = loaded {
                let now = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Err(Error::new(Exit::Interrupted, Interrupted)),
                    digest = self.digest(planned, snapshot) => digest?,
                };
                if now == loaded.into_iter().sum() {
                    continue;
                }
            }
            // TRUNCATE fails where a foreign key points to the table, and loaded rows would fire triggers.
            if !tied(target, &[planned]).await?.is_empty() {
                return Err(Error::new(Exit::StartOver, ResumeError::Tied(planned.name.to_string())));
            }
            let forget = ledger::forget(&format!("chunk:{table}:"));
            let message = format!("BEGIN; {}; {forget}; COMMIT", planned.empty());
            target
                .run(&message, format!("empty {}", planned.name))
                .await
                .map_err(|error| Error::new(Exit::Resumable, error))?;
            for item in &items {
                done.remove(item);
            }
        }
        Ok(())
    }
}

/// Unlogged tables that are not wholly in the ledger are loaded again, be it that a crash of the server has emptied
/// them and their ledger; one with foreign keys or triggers would refuse its rows, or write elsewhere.
async fn refuse_emptied(
    session: &Session,
    plan: &Plan,
    done: &HashMap<String, Option<Digest>>,
) -> Result<(), Error> {
    let is_done = |work: Work| work.item(plan).is_some_and(|item| done.contains_key(&item));
    let is_emptied = |(table, planned): &(usize, &TablePlan)| {
        let mut chunks = (0..planned.chunks.len()).map(|chunk| Work::Chunk { table: *table, chunk });
        // An extension's own triggers are there before the first row.
        planned.is_unlogged && planned.condition.is_none() && !chunks.all(is_done)
    };
    let emptied: Vec<_> = plan.tables.iter().enumerate().filter(is_emptied).map(|(_, found)| found).collect();
    match tied(session, &emptied).await?.first() {
        Some(planned) => Err(Error::new(Exit::StartOver, ResumeError::Emptied(planned.name.to_string()))),
        None => Ok(()),
    }
}

/// Those of the tables that cannot be emptied and loaded again, because foreign keys or triggers are made.
async fn tied<'a>(target: &Session, tables: &[&'a TablePlan]) -> Result<Vec<&'a TablePlan>, Error> {
    let names: Vec<String> = tables.iter().map(|planned| planned.name.sql()).collect();
    let rows = target.client.query(include_str!("../../sql/transfer/tied_tables.sql"), &[&names]).await;
    let rows =
        rows.map_err(|error| Error::new(Exit::Resumable, target.failed("look for triggers", error)))?;
    let is_tied =
        |planned: &&TablePlan| rows.iter().any(|row| row.get::<_, &str>("name") == planned.name.sql());
    Ok(tables.iter().copied().filter(is_tied).collect())
}

/// Whether every row that the run has read is of this state of the source.
pub(super) fn is_one_state(records: &[Record], now: &SourceState) -> bool {
    records.iter().all(|record| match record {
        Record::Planned { state } => state.is_proven_equal(now),
        _ => true,
    })
}

fn latest_state(records: &[Record]) -> Option<&SourceState> {
    records.iter().rev().find_map(|record| match record {
        Record::Planned { state } => Some(state),
        _ => None,
    })
}

/// The first entry that is not the same in both.
pub(super) fn first_change(before: &[Entry], now: &[Entry]) -> Option<String> {
    let is_same = |left: &Entry, right: &Entry| {
        (left.class, &left.schema, &left.tag, &left.statements)
            == (right.class, &right.schema, &right.tag, &right.statements)
    };
    before.iter().zip(now).find(|(left, right)| !is_same(left, right)).map(|(left, _)| left.object()).or_else(
        || (before.len() != now.len()).then(|| format!("{} objects, {} before", now.len(), before.len())),
    )
}

/// Ends what is left of an earlier process of this run on the target's server: a COPY or CREATE INDEX goes on
/// until its server notices that nobody listens. The ledger is read after that.
async fn end_leftovers(session: &Session, application_name: &str) -> Result<(), SessionError> {
    for _ in 0..300 {
        let rows = session
            .client
            .query(include_str!("../../sql/session/end_leftovers.sql"), &[&application_name])
            .await;
        let rows = rows.map_err(|error| session.failed("end the sessions of the interrupted run", error))?;
        if rows.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Ok(())
}
