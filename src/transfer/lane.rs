//! A lane: one source session, one target session, one task at a time.
//!
//! Sessions are opened when a task first needs them and again after a connection was cut; the task is then
//! tried again, unless the ledger says that its commit had succeeded after all. A task that is interrupted
//! cancels what its sessions do; nothing of it is committed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::error::Fault;
use crate::event::{Event, Events, Stage};
use crate::pg::server_error::describe_chain;
use crate::pg::session::{Access, Endpoint, Session};
use crate::plan::{Phase, Plan, TablePlan};
use crate::transfer::archive::{Archive, Writer};
use crate::transfer::digest::Digest;
use crate::transfer::pages::Pages;
use crate::transfer::pool::Worker;
use crate::transfer::rate::Rate;
use crate::transfer::relay::{Pace, RelayError};
use crate::transfer::work::Work;

mod build;
mod chunk;
mod error;
pub(crate) mod large_object;
mod read_back;

pub(crate) use chunk::confirm;
pub use error::{LaneError, StreamError};

/// How often a task is tried when connections are cut, and how long the first wait is; each further wait is
/// twice as long.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What every lane of a move shares.
#[derive(Debug)]
pub struct Move {
    /// Where rows come from.
    pub origin: Origin,
    /// The target, as its ordinary role; `None` if an archive takes its place.
    pub target: Option<Endpoint>,
    /// The archive that is written.
    pub archive: Option<Writer>,
    /// What to do.
    pub plan: Plan,
    /// Who listens.
    pub events: Events,
    /// How long a stream may stand still.
    pub stall: Duration,
    /// How much all lanes read from the source in a second.
    pub rate: Option<Rate>,
    /// What the lanes found out.
    pub found: Mutex<Found>,
    /// The pages of the target's tables, by position in the plan.
    pub pages: Vec<Pages>,
    /// Server processes that build, by lane, for whoever watches their progress.
    pub builders: Mutex<std::collections::BTreeMap<usize, (i32, String)>>,
}

impl Move {
    /// How what comes from the source is read.
    fn pace(&self) -> Pace<'_> {
        Pace { stall: self.stall, rate: self.rate.as_ref() }
    }
}

/// Where the rows of a move come from.
#[derive(Debug)]
pub enum Origin {
    /// The source's server.
    Server {
        /// How to reach it.
        endpoint: Endpoint,
        /// The exported snapshot that sessions import.
        snapshot: String,
    },
    /// An archive.
    Archive(Arc<Archive>),
}

/// What copying, counting and reading back found, by the table's position in the plan.
#[derive(Debug, Default, Clone)]
pub struct Found {
    /// Digests of the source's chunks.
    pub copied: Vec<Digest>,
    /// Rows that the source's own count gave.
    pub counted: Vec<Option<u64>>,
    /// Digests of what was read back from the target.
    pub read_back: Vec<Digest>,
}

impl Found {
    /// Nothing found yet, of `tables` tables.
    pub fn new(tables: usize) -> Self {
        Found {
            copied: vec![Digest::default(); tables],
            counted: vec![None; tables],
            read_back: vec![Digest::default(); tables],
        }
    }
}

/// An attempt whose connection was cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The target's process that was at it, if there was a session.
    process: Option<i32>,
}

/// One lane.
#[derive(Debug)]
pub struct Lane {
    number: usize,
    shared: Arc<Move>,
    stop: CancellationToken,
    source: Option<Session>,
    target: Option<Session>,
}

impl Worker for Lane {
    type Work = Work;
    type Error = LaneError;

    async fn perform(&mut self, work: Work) -> Result<(), LaneError> {
        let (stage, item) = (stage_of(work), self.describe(work));
        let begun = Instant::now();
        let (table, bytes) = self.measure(work);
        self.emit(Event::ItemStarted { stage, lane: self.number, item: item.clone(), table, bytes });
        // The process of an attempt that was cut, until it is known whether it was committed after all.
        let (mut attempt, mut cut) = (1, None);
        loop {
            let stop = self.stop.clone();
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                outcome = self.attempt(work, &mut cut) => Some(outcome),
            };
            let error = match outcome {
                Some(Ok(())) => break,
                Some(Err(error)) => error,
                None => {
                    self.abandon().await;
                    return Err(LaneError::Interrupted);
                }
            };
            if !error.is_retryable() || attempt == ATTEMPTS {
                return Err(error);
            }
            self.emit(Event::Retry { stage, item: item.clone(), reason: self.reason(&error) });
            cut = cut.or_else(|| Some(Cut { process: self.target.as_ref().map(Session::process) }));
            self.abandon().await;
            tokio::select! {
                () = stop.cancelled() => return Err(LaneError::Interrupted),
                () = tokio::time::sleep(FIRST_WAIT * 2_u32.pow(attempt - 1)) => {}
            }
            attempt += 1;
        }
        self.emit(Event::ItemFinished {
            stage,
            lane: self.number,
            item,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    async fn close(self) {
        for session in [self.source, self.target].into_iter().flatten() {
            session.close().await;
        }
    }
}

impl Lane {
    /// A lane without sessions.
    pub fn new(number: usize, shared: Arc<Move>, stop: CancellationToken) -> Self {
        Lane { number, shared, stop, source: None, target: None }
    }

    async fn attempt(&mut self, work: Work, cut: &mut Option<Cut>) -> Result<(), LaneError> {
        if let Some(Cut { process }) = *cut {
            if self.is_committed_after_all(work, process).await? {
                return Ok(());
            }
            *cut = None;
        }
        match work {
            Work::Chunk { table, chunk } => self.copy_chunk(table, chunk).await,
            Work::Count { table } => self.count(table).await,
            Work::ReadBack { table, part } => self.read_back(table, part).await,
            Work::LargeObjects { batch } => self.copy_large_objects(batch).await,
            Work::Vacuum { table } => self.maintain("VACUUM", table).await,
            Work::Analyze { table } => self.maintain("ANALYZE", table).await,
            Work::Build { step } => self.build(step).await,
            Work::StoreChunk { table, chunk } => self.store_chunk(table, chunk).await,
            Work::StoreLargeObjects { batch } => self.store_large_objects(batch).await,
        }
    }

    /// After a cut connection: whether the task's commit had gone through. The server may not have noticed the
    /// cut yet, so nothing is decided while its old process is there. One that waits for its client, who is gone,
    /// is ended; one that works (an index may take hours) is waited for.
    async fn is_committed_after_all(&mut self, work: Work, process: Option<i32>) -> Result<bool, LaneError> {
        let item = match (work.item(&self.shared.plan), process) {
            (Some(item), _) => item,
            // Nothing in the ledger has this name; but what only reads holds locks, too.
            (None, Some(_)) => String::new(),
            (None, None) => return Ok(false),
        };
        let what = self.describe(work);
        let (mut ended_at, mut is_told) = (None, false);
        loop {
            let application_name = self.target_endpoint().application_name.clone();
            let target = self.target(&what).await?;
            let row = target
                .client
                .query_one(
                    include_str!("../../sql/ledger/outcome.sql"),
                    &[&item, &process, &application_name],
                )
                .await
                .map_err(|source| LaneError::Session {
                    what: what.clone(),
                    source: target.failed("look into the ledger", source),
                })?;
            if row.get("is_committed") {
                if let Work::Chunk { table, .. } = work {
                    let digest = Digest::parse(
                        u64::try_from(row.get::<_, i64>("row_count")).unwrap_or_default(),
                        row.get("checksum"),
                    );
                    self.found(|found| found.copied[table] += digest.unwrap_or_default());
                }
                return Ok(true);
            }
            if !row.get::<_, bool>("is_running") {
                return Ok(false);
            }
            if row.get("is_ended") {
                let limit = self.shared.stall;
                if ended_at.get_or_insert_with(Instant::now).elapsed() >= limit {
                    let source = StreamError(RelayError::TargetStalled(limit));
                    return Err(LaneError::Stream { what, source });
                }
            } else if !is_told {
                is_told = true;
                self.shared.events.warn(format!(
                    "the connection was cut, and process {} of the target's server still works at {what}: it is waited for",
                    process.unwrap_or_default()
                ));
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(LaneError::Interrupted),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Why an attempt failed, with why a connection broke: a stream's error only says that it is closed.
    fn reason(&self, error: &LaneError) -> String {
        let mut reason = describe_chain(error);
        for cut in [&self.source, &self.target].into_iter().flatten().filter_map(Session::cut) {
            if !reason.contains(cut) {
                reason = format!("{reason}: {cut}");
            }
        }
        reason
    }

    /// Cancels whatever the sessions do and lets go of them.
    async fn abandon(&mut self) {
        for session in [self.source.take(), self.target.take()].into_iter().flatten() {
            // Best effort: a server that cannot be reached notices the closed connection by itself.
            let _ = tokio::time::timeout(Duration::from_secs(5), session.cancel()).await;
        }
    }

    /// The source's session, opened where need be; `None` if an archive is the source.
    async fn source(&mut self, what: &str) -> Result<Option<&Session>, LaneError> {
        if let (None, Origin::Server { endpoint, snapshot }) = (&self.source, &self.shared.origin) {
            let error = |source| LaneError::Session { what: what.to_owned(), source };
            let session = Session::open(endpoint, Access::Read, "pg_catalog").await.map_err(error)?;
            let import = format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
                crate::pg::quote_literal(snapshot)
            );
            session.run(&import, "import the snapshot").await.map_err(error)?;
            self.source = Some(session);
        }
        Ok(self.source.as_ref())
    }

    async fn target(&mut self, what: &str) -> Result<&Session, LaneError> {
        if self.target.is_none() {
            let error = |source| LaneError::Session { what: what.to_owned(), source };
            let search_path = &self.shared.plan.search_path;
            let session =
                Session::open(self.target_endpoint(), Access::Write, search_path).await.map_err(error)?;
            // A crash that loses the last commits loses their ledger rows with them; the last commit of the
            // run is synchronous and makes all before it durable.
            let set = format!(
                "SET synchronous_commit TO off; SET lock_timeout TO {}",
                self.shared.stall.as_millis()
            );
            session.run(&set, "set synchronous_commit and lock_timeout").await.map_err(error)?;
            self.target = Some(session);
        }
        Ok(self.target.as_ref().expect("it was just opened"))
    }

    fn target_endpoint(&self) -> &Endpoint {
        self.shared.target.as_ref().expect("tasks that fill an archive only need no target")
    }

    /// Opens both sessions where need be.
    async fn open_both(&mut self, what: &str) -> Result<(), LaneError> {
        self.source(what).await?;
        self.target(what).await.map(drop)
    }

    /// Both sessions, after [`Lane::open_both`].
    fn both(&self) -> (Option<&Session>, &Session) {
        (self.source.as_ref(), self.target.as_ref().expect("it was just opened"))
    }

    async fn maintain(&mut self, command: &str, table: usize) -> Result<(), LaneError> {
        let name = &self.shared.plan.tables[table].name;
        let (what, statement) = (format!("{command} {name}"), format!("{command} {}", name.sql()));
        let target = self.target(&what).await?;
        target.run(&statement, &what).await.map_err(|source| LaneError::Session { what, source })
    }

    fn emit(&self, event: Event) {
        self.shared.events.emit(event);
    }

    fn found<T>(&self, change: impl FnOnce(&mut Found) -> T) -> T {
        change(&mut self.shared.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn describe(&self, work: Work) -> String {
        let plan = &self.shared.plan;
        let part = |table: usize, part: usize| match plan.tables[table].chunks.len() {
            1 => plan.tables[table].name.to_string(),
            of => format!("{}, chunk {} of {of}", plan.tables[table].name, part + 1),
        };
        match work {
            Work::Chunk { table, chunk } | Work::StoreChunk { table, chunk } => part(table, chunk),
            Work::ReadBack { table, part: index } => format!("read back {}", part(table, index)),
            Work::Count { table } => format!("count {}", plan.tables[table].name),
            Work::LargeObjects { batch } | Work::StoreLargeObjects { batch } => {
                format!("large objects, batch {} of {}", batch + 1, plan.large_objects.len())
            }
            Work::Vacuum { table } => format!("vacuum {}", plan.tables[table].name),
            Work::Analyze { table } => format!("analyze {}", plan.tables[table].name),
            Work::Build { step } => plan.steps[step].object.clone(),
        }
    }

    /// The table that a task works on, and about how many bytes of it.
    fn measure(&self, work: Work) -> (Option<String>, Option<u64>) {
        let plan = &self.shared.plan;
        let (table, is_part) = match work {
            Work::Chunk { table, .. } | Work::StoreChunk { table, .. } | Work::ReadBack { table, .. } => {
                (Some(table), true)
            }
            Work::Count { table } | Work::Vacuum { table } | Work::Analyze { table } => (Some(table), false),
            Work::Build { step } => match plan.steps[step].phase {
                Phase::Build { table, .. } => (table, false),
                _ => (None, false),
            },
            Work::LargeObjects { .. } | Work::StoreLargeObjects { .. } => (None, false),
        };
        let table = table.map(|table| &plan.tables[table]);
        let share = |table: &TablePlan| table.bytes / table.chunks.len().max(1) as u64;
        (table.map(|table| table.name.to_string()), table.filter(|_| is_part).map(share))
    }
}

fn stage_of(work: Work) -> Stage {
    match work {
        Work::Chunk { .. }
        | Work::LargeObjects { .. }
        | Work::StoreChunk { .. }
        | Work::StoreLargeObjects { .. } => Stage::Copy,
        Work::Vacuum { .. } | Work::Build { .. } | Work::Analyze { .. } => Stage::Indexes,
        Work::Count { .. } | Work::ReadBack { .. } => Stage::Verify,
    }
}
