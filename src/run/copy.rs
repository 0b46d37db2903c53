//! The schema stage, and the stage that copies rows and builds indexes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::archive::missing;
use super::{Context, append, shared};
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::journal::{Record, RunDirectory};
use crate::pg::Session;
use crate::plan::Plan;
use crate::schema::apply::Applier;
use crate::transfer::archive::Writer;
use crate::transfer::digest::Digest;
use crate::transfer::lane::{Found, Lane, Move};
use crate::transfer::pool;
use crate::transfer::schedule::Schedule;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::work::{self, Work};

impl Context<'_> {
    pub(super) async fn schema(
        &self,
        directory: &mut RunDirectory,
        plan: &Plan,
        done: &HashMap<String, Option<Digest>>,
        holders: (&Snapshot, &Session),
    ) -> Result<(), Error> {
        let work = async {
            let mut applier =
                Applier::new(plan, done, (&self.events, self.stop), &self.target, self.admin.as_ref())
                    .await?
                    .with_psql(self.psql());
            applier.before_rows().await?;
            applier.close().await;
            Ok::<_, crate::schema::apply::ApplyError>(())
        };
        // Stages are large futures.
        let work = Box::pin(async { work.await.map_err(|error| Error::new(Exit::Resumable, error)) });
        self.stage(Stage::Schema, self.holding(holders, work)).await?;
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
