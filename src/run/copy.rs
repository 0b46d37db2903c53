//! The schema stage, and the stage that copies rows and builds indexes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::archive::missing;
use super::{Context, Source, append, shared};
use crate::error::{Error, Exit, Fault};
use crate::event::{Event, Stage};
use crate::journal::{Record, RunDirectory};
use crate::pg::{Access, Session, SessionError, lock_holders};
use crate::plan::Plan;
use crate::schema::apply::Applier;
use crate::transfer::archive::Writer;
use crate::transfer::digest::Digest;
use crate::transfer::lane::{Found, Lane, Move};
use crate::transfer::pool::{self, Ended};
use crate::transfer::schedule::Schedule;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::work::{self, Work};

/// How often the snapshot's holder is asked something, and the server about index builds.
const PING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

/// How often sessions are looked for that wait for the run's locks.
const LOOK_BEHIND: Duration = Duration::from_secs(5);

/// The session that holds the snapshot is gone.
#[derive(Debug, thiserror::Error)]
#[error("the session that holds the source's snapshot broke off")]
pub(super) struct SnapshotLost(#[source] pub(super) SessionError);

impl Fault for SnapshotLost {
    fn class(&self) -> crate::error::Class {
        crate::error::Class::Source
    }

    fn hint(&self) -> Option<String> {
        Some("go on with --resume: tables that the source has not changed are kept".into())
    }
}

impl Context<'_> {
    pub(super) async fn schema(
        &self,
        directory: &mut RunDirectory,
        plan: &Plan,
        done: &HashMap<String, Option<Digest>>,
    ) -> Result<(), Error> {
        let work = async {
            let mut applier =
                Applier::new(plan, done, (self.events, self.stop), &self.target, self.admin.as_ref()).await?;
            applier.before_rows().await?;
            applier.close().await;
            Ok::<_, crate::schema::apply::ApplyError>(())
        };
        self.stage(Stage::Schema, work).await.map_err(|error| Error::new(Exit::Resumable, error))?;
        append(directory, Record::StageFinished { stage: Stage::Schema })
    }

    /// Copies, builds, counts and reads back, on all lanes at once.
    pub(super) async fn copy(
        &self,
        directory: &mut RunDirectory,
        plan: &Plan,
        done: &HashMap<String, Option<Digest>>,
        (snapshot, holder): (&Snapshot, &Session),
        writer: Option<&Writer>,
    ) -> Result<Found, Error> {
        let shared = shared(self, plan, snapshot, writer);
        let mut tasks = work::tasks(plan, |item| done.contains_key(item));
        tasks.extend(writer.into_iter().flat_map(|writer| missing(writer, plan, done)));
        seed(&shared, plan, done);
        self.announce_work(plan, &tasks);
        let begun = std::time::Instant::now();
        let (lanes, stop) = (usize::from(plan.jobs), self.stop.child_token());
        let pool = {
            let (shared, stop) = (Arc::clone(&shared), stop.clone());
            let schedule = Schedule::new(tasks, plan.index_memory);
            tokio::task::spawn_blocking(move || {
                pool::run(schedule, lanes, &stop, |lane, stop| Lane::new(lane, Arc::clone(&shared), stop))
            })
        };
        let watched = self.watch(pool, &shared, (snapshot, holder), &stop).await;
        for stage in [Stage::Copy, Stage::Indexes] {
            self.events.emit(Event::StageFinished { stage, seconds: begun.elapsed().as_secs_f64() });
        }
        watched?;
        append(directory, Record::StageFinished { stage: Stage::Copy })?;
        let found = shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(found.clone())
    }

    fn announce_work(&self, plan: &Plan, tasks: &[crate::transfer::schedule::Task<Work>]) {
        let count = |wanted: fn(&Work) -> bool| tasks.iter().filter(|task| wanted(&task.work)).count() as u64;
        let chunks = |work: &Work| work.member().is_some();
        let weight = tasks.iter().filter(|task| chunks(&task.work)).map(|task| task.weight).sum();
        let rows = plan.tables.iter().map(|table| table.estimated_rows).sum::<Option<u64>>();
        self.events.emit(Event::StageStarted {
            stage: Stage::Copy,
            items: Some(count(chunks)),
            bytes: Some(weight),
            rows,
        });
        let builds =
            count(|work| matches!(work, Work::Build { .. } | Work::Vacuum { .. } | Work::Analyze { .. }));
        self.events.emit(Event::StageStarted {
            stage: Stage::Indexes,
            items: Some(builds),
            bytes: None,
            rows: None,
        });
    }

    /// Waits for the pool; meanwhile keeps the sessions alive that hold the snapshot and the target's lock, and
    /// looks at index builds.
    async fn watch(
        &self,
        mut pool: tokio::task::JoinHandle<Result<Ended, crate::transfer::lane::LaneError>>,
        shared: &Arc<Move>,
        holders: (&Snapshot, &Session),
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<(), Error> {
        let mut ping = tokio::time::interval(PING);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut watcher: Option<Session> = None;
        let mut look_behind =
            tokio::time::interval_at(tokio::time::Instant::now() + LOOK_BEHIND, LOOK_BEHIND);
        look_behind.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut waiting = Waiting::default();
        let mut lost = None;
        let ended = loop {
            tokio::select! {
                ended = &mut pool => break ended,
                _ = ping.tick(), if lost.is_none() => {
                    lost = self.ping(holders).await.err();
                    if lost.is_some() {
                        stop.cancel();
                    }
                }
                _ = look.tick() => self.look(shared, &mut watcher).await,
                _ = look_behind.tick() => self.look_behind(&mut waiting).await,
            }
        };
        for session in [watcher, waiting.watcher].into_iter().flatten() {
            session.close().await;
        }
        if let Some(error) = lost {
            return Err(error);
        }
        match ended.expect("a lane that panics is a defect") {
            Ok(Ended::Finished) => self.ping(holders).await,
            Ok(Ended::Interrupted) => Err(Error::new(Exit::Interrupted, super::Interrupted)),
            Err(crate::transfer::lane::LaneError::Interrupted) => {
                Err(Error::new(Exit::Interrupted, super::Interrupted))
            }
            Err(error) => Err(Error::new(Exit::Resumable, error)),
        }
    }

    /// Without the holder's locks a TRUNCATE on the source could come between two chunks.
    async fn ping(&self, (snapshot, holder): (&Snapshot, &Session)) -> Result<(), Error> {
        snapshot.ping().await.map_err(|error| Error::new(Exit::Resumable, SnapshotLost(error)))?;
        let held = holder.run("SELECT", "keep the lock").await;
        held.map_err(|error| Error::new(Exit::Resumable, super::TargetLost(error)))
    }

    /// Tells how far index builds are. What goes wrong here is no reason to stop anything.
    async fn look(&self, shared: &Move, watcher: &mut Option<Session>) {
        let builders = shared.builders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if builders.is_empty() {
            return;
        }
        if watcher.is_none() {
            *watcher = Session::open(&self.target, Access::Read, "pg_catalog").await.ok();
        }
        let Some(session) = watcher else { return };
        let processes: Vec<i32> = builders.values().map(|(process, _)| *process).collect();
        let rows = session.client.query(include_str!("../../sql/index/progress.sql"), &[&processes]).await;
        for row in rows.unwrap_or_default() {
            let process: i32 = row.get("pid");
            let Some((lane, (_, item))) = builders.iter().find(|(_, (found, _))| *found == process) else {
                continue;
            };
            self.events.emit(Event::IndexProgress {
                lane: *lane,
                item: item.clone(),
                phase: row.get("phase"),
                percent: row.get("percent"),
            });
        }
    }

    /// Warns of sessions that wait for the run's locks on the source while there is time to do something about it. What
    /// goes wrong here is no reason to stop anything.
    async fn look_behind(&self, waiting: &mut Waiting) {
        let Source::Server(source) = &self.source else { return };
        if waiting.watcher.is_none() {
            waiting.watcher = Session::open(source, Access::Read, "pg_catalog").await.ok();
        }
        let Some(session) = &waiting.watcher else { return };
        let found = lock_holders(session, &source.application_name).await.unwrap_or_default();
        for holder in found.iter().filter(|holder| holder.waits_for_run) {
            let Some(pid) = holder.pid.filter(|pid| waiting.told.insert(*pid)) else { continue };
            self.events.warn(format!(
                "{holder}: whoever reads that table now waits in line, and this run stops if it has to for half a minute; \
                 to let the run go on, end that session on the source: SELECT pg_terminate_backend({pid})"
            ));
        }
    }
}

/// Who was seen to wait for the run's locks.
#[derive(Default)]
struct Waiting {
    watcher: Option<Session>,
    told: BTreeSet<i32>,
}

/// What earlier processes of this run have copied.
fn seed(shared: &Move, plan: &Plan, done: &HashMap<String, Option<Digest>>) {
    let mut found = shared.found.lock().unwrap_or_else(PoisonError::into_inner);
    for (table, planned) in plan.tables.iter().enumerate() {
        for chunk in 0..planned.chunks.len() {
            let item = Work::Chunk { table, chunk }.item(plan).expect("a chunk is in the ledger");
            if let Some(Some(digest)) = done.get(&item) {
                found.copied[table] += *digest;
            }
        }
    }
}
