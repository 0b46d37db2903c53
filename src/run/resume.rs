//! Going on with an interrupted run: what the journal, the ledger and the source allow.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::{Checked, Context, Source, append, prepare};
use crate::catalog::{DatabaseIdentity, SourceState};
use crate::cutover::object::ObjectKey;
use crate::cutover::{fence, freeze};
use crate::error::{Error, Exit, Side};
use crate::journal::{PLAN, Record, RunDirectory, Settled};
use crate::kubernetes::Psql;
use crate::pg::{Access, Session};
use crate::plan::Plan;
use crate::schema::Entry;
use crate::settings::{Choices, GivenChoices};
use crate::transfer::digest::Digest;
use crate::transfer::ledger;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::work::Work;

mod error;
mod prove;

pub use error::ResumeError;
use prove::refuse_emptied;

/// How long ended sessions are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The run that a journal is of: the one that has begun there, or the one that is to take over the freeze that
/// `pgmove freeze` has made there.
pub(crate) fn run_of(records: &[Record]) -> Option<String> {
    let begun = records.iter().find_map(|record| match record {
        Record::Started { run, .. } => Some(run.as_str()),
        _ => None,
    });
    let frozen = || freeze::recorded_run(records).filter(|_| !freeze::recorded(records).is_empty());
    begun.or_else(frozen).map(str::to_owned)
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

/// Whether something that the run has changed outside its directory still stands; a freeze that it has taken over was there
/// before it.
pub(super) fn has_written(records: &[Record]) -> bool {
    has_written_target(records) || is_fenced(records) || !frozen_itself(records).is_empty()
}

/// What the run has frozen and still is, but for what it has taken over from `pgmove freeze`.
pub(super) fn frozen_itself(records: &[Record]) -> Vec<ObjectKey> {
    let own = own(records);
    let before = freeze::recorded(&records[..records.len() - own.len()]);
    let mut standing = freeze::recorded(own);
    standing.retain(|object| !before.contains(object));
    standing
}

/// Whether a freeze or a fence of the run itself stands.
pub(super) fn keeps_away(records: &[Record]) -> bool {
    is_fenced(records) || !freeze::recorded(own(records)).is_empty()
}

/// Whether the target is no longer as it was.
pub(super) fn has_written_target(records: &[Record]) -> bool {
    own(records).iter().any(|record| matches!(record, Record::Replaced { .. } | Record::Mark { .. }))
}

/// Whether a fence of the run itself stands.
pub(super) fn is_fenced(records: &[Record]) -> bool {
    settled(records).is_some_and(|settled| fence::recorded(own(records), &settled.source).is_some())
}

/// Whether the run has made something in the target besides ledger and mark.
fn has_begun(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record, Record::StageFinished { .. }))
}

/// What every process of the run goes by.
pub(super) fn settled(records: &[Record]) -> Option<&Settled> {
    records.iter().find_map(|record| match record {
        Record::Settled(settled) => Some(settled),
        _ => None,
    })
}

/// The rewrites that the run began with; one that begins takes those that are given. Another one than it began with is
/// refused: the target's schema is made by them.
pub(super) fn choices(records: &[Record], given: &GivenChoices) -> Result<Choices, ResumeError> {
    let Some(Settled { choices: begun, .. }) = settled(records) else { return Ok(given.or_default()) };
    let other = |begun: String, given: String| Err(ResumeError::OtherChoice { begun, given });
    match (&given.owner, &begun.owner) {
        (Some(given), Some(begun)) if given != begun => {
            return other(format!("--owner {begun}"), format!("--owner {given}"));
        }
        (Some(given), None) => return other("no --owner".into(), format!("--owner {given}")),
        _ => {}
    }
    match given.vector_index {
        Some(given) if given != begun.vector_index => {
            other(format!("--vector-index {}", begun.vector_index), format!("--vector-index {given}"))
        }
        _ => Ok(begun.clone()),
    }
}

/// Refuses another database than the one that the run began with.
pub(super) fn is_same_database(
    records: &[Record],
    side: Side,
    found: &DatabaseIdentity,
) -> Result<(), Error> {
    let begun = settled(records).map(|settled| match side {
        Side::Source => &settled.source,
        Side::Target => &settled.target,
    });
    match begun {
        Some(begun) if !begun.is_same_as(found) => {
            let (begun, found) = (begun.clone(), found.clone());
            Err(Error::new(Exit::Usage, ResumeError::OtherDatabase { side, begun, found }))
        }
        _ => Ok(()),
    }
}

/// Whether unlogged rows, which a crash empties together with their ledger, are no longer in the ledger of a run that
/// was compared.
pub(super) fn has_lost_rows(
    directory: &RunDirectory,
    done: &HashMap<String, Option<Digest>>,
) -> Result<bool, Error> {
    let plan: Plan = directory.read_document(PLAN).map_err(|error| Error::new(Exit::StartOver, error))?;
    let mut unlogged = plan.tables.iter().enumerate().filter(|(_, planned)| planned.is_unlogged);
    Ok(unlogged.any(|(table, planned)| {
        let mut items =
            (0..planned.chunks.len()).filter_map(|chunk| Work::Chunk { table, chunk }.item(&plan));
        items.any(|item| !done.contains_key(&item))
    }))
}

/// The verdict of a run that only has to clear up.
pub(super) fn standing_verdict(records: &[Record]) -> Option<(String, u8)> {
    let last = records.iter().rev().find_map(|record| match record {
        Record::Verdict { verdict, exit } => Some(Some((verdict.clone(), *exit))),
        Record::Withdrawn => Some(None),
        _ => None,
    });
    last.flatten()
}

/// The exit code of a verdict that an earlier process had written down.
pub(super) fn exit_of(code: u8) -> Exit {
    [Exit::Done, Exit::Different].into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::NotAllCompared)
}

/// What an earlier process has left to go on with.
pub(super) struct PickedUp {
    pub(super) plan: Plan,
    /// The units that are done, and still true.
    pub(super) done: HashMap<String, Option<Digest>>,
    /// The session that holds the target's lock.
    pub(super) holder: Session,
}

impl Context<'_> {
    /// The plan of an earlier process, and what of it is done and still true; `None` if it is too early for
    /// either. What is not true any more is removed from the target, so its lock is taken first.
    pub(super) async fn pick_up(
        &self,
        directory: &mut RunDirectory,
        checked: &Checked,
        snapshot: &Snapshot,
    ) -> Result<Option<PickedUp>, Error> {
        if !is_planned(directory.records()) {
            return Ok(None);
        }
        let start_over = |error| Error::new(Exit::StartOver, error);
        let mut plan: Plan =
            directory.read_document(PLAN).map_err(|error| Error::new(Exit::StartOver, error))?;
        let session = self.reopen_target().await?;
        let broken = |error| Error::new(Exit::Resumable, session.failed("read the ledger", error));
        let found = ledger::owner(&session.client).await.map_err(broken)?;
        match found {
            Some(found) if found == self.run => {}
            // The process ended before it had dropped anything: plan again. Later, what is there is another run's.
            _ if checked.replaces && !has_begun(directory.records()) => return Ok(None),
            // The process ended before it had made the ledger. The source may be another one now: plan again.
            None if checked.target.user_objects.count == 0 && !has_begun(directory.records()) => {
                return Ok(None);
            }
            found => return Err(start_over(ResumeError::OtherLedger { run: self.run.clone(), found })),
        }
        let mut done = ledger::read(&session.client).await.map_err(broken)?;
        refuse_emptied(&session, &plan, &done).await?;
        let state = latest_state(directory.records());
        if !state.is_some_and(|state| state.is_proven_equal(&snapshot.state)) {
            if matches!(self.source, Source::Archive(_)) {
                return Err(start_over(ResumeError::OtherArchive));
            }
            self.prove_again(directory, checked, snapshot, &mut plan, &mut done, &session).await?;
            append(directory, Record::Planned { state: snapshot.state.clone() })?;
        }
        Ok(Some(PickedUp { plan, done, holder: session }))
    }

    /// The session that holds the target's lock, when an earlier process of the run may have held it.
    pub(super) async fn reopen_target(&self) -> Result<Session, Error> {
        let session = Session::open(&self.target, Access::Write, "pg_catalog").await;
        let session = session.map_err(|error| Error::new(Exit::Resumable, error))?;
        prepare::lock(&session, self.target.conninfo.database()).await?;
        Ok(session)
    }

    /// Ends what is left of an earlier process of this run on the target's server: a COPY or CREATE INDEX goes on
    /// until its server notices that nobody listens, and keeps its locks, for which the check would wait. The ledger is read
    /// after that.
    pub(super) async fn end_leftovers(&self) -> Result<(), Error> {
        self.try_end_leftovers().await.map_err(|error| Error::new(Exit::Resumable, error))
    }

    async fn try_end_leftovers(&self) -> Result<(), ResumeError> {
        // Only a superuser may end the administrator's.
        let ended = match (&self.admin, self.psql()) {
            (Some(admin), _) => Ender::Session(Session::open(admin, Access::Read, "pg_catalog").await?),
            (None, Some(psql)) => Ender::Psql(psql),
            (None, None) => Ender::Session(Session::open(&self.target, Access::Read, "pg_catalog").await?),
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = ended.end(&self.target.application_name).await?;
            if left.is_empty() {
                break;
            }
            if tokio::time::Instant::now() >= deadline {
                let left = left.iter().map(|left| format!("process {} of role {}", left.pid, left.role));
                return Err(ResumeError::Leftovers(left.collect::<Vec<_>>().join(", ")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if let Ender::Session(session) = ended {
            session.close().await;
        }
        Ok(())
    }
}

/// A session that is still there.
#[derive(Deserialize)]
struct Left {
    pid: i32,
    role: String,
}

/// Who ends sessions.
enum Ender {
    Session(Session),
    Psql(Psql),
}

impl Ender {
    async fn end(&self, application_name: &str) -> Result<Vec<Left>, ResumeError> {
        let statement = include_str!("../../sql/session/end_leftovers.sql");
        match self {
            Ender::Session(session) => {
                let rows = session.client.query(statement, &[&application_name]).await;
                let rows =
                    rows.map_err(|error| session.failed("end the sessions of the interrupted run", error))?;
                Ok(rows.iter().map(|row| Left { pid: row.get("pid"), role: row.get("role") }).collect())
            }
            Ender::Psql(psql) => Ok(psql.ask(statement, &[application_name]).await?),
        }
    }
}

/// Whether the state that has this snapshot is the one that the source is in now.
pub(super) fn is_state_now(records: &[Record], snapshot: &str, now: &SourceState) -> bool {
    snapshot == now.snapshot
        && records.iter().all(|record| match record {
            Record::Planned { state } => state.snapshot != snapshot || state.is_proven_equal(now),
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

#[cfg(test)]
mod tests;
