//! Reading the rows of both sides, in lanes.
//!
//! Takes two snapshots and tables; gives each table's digest on each side, or why that side would not let it be
//! read. A table is read in as many parts as the plan has chunks: the source by these chunks, the target by its
//! own pages. Cut connections are opened again and import the same snapshot.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::error::{Fault, Side};
use crate::event::{Event, Events, Stage};
use crate::pg::{Session, SessionError, describe};
use crate::plan::{Chunk, TablePlan};
use crate::transfer::digest::Digest;
use crate::transfer::lane::{LaneError, StreamError};
use crate::transfer::pages::Pages;
use crate::transfer::pool::{self, Ended, Worker};
use crate::transfer::relay::{self, RelayError};
use crate::transfer::schedule::{Schedule, Task};
use crate::verify::snapshot::Snapshot;
use crate::verify::{VerifyError, hash, is_passing};

/// How rows are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Their number only; this proves less.
    Counts,
    /// Digests: computed by the server where rows are wide, else here.
    Digests,
    /// Digests of rows that are all read and hashed here.
    Reread,
}

/// What a table held on one side, or what the server said against reading it.
pub type Read = Result<Digest, String>;

/// What to read.
#[derive(Debug)]
pub struct Request {
    /// The source and the target.
    pub snapshots: [Snapshot; 2],
    /// The tables; columns are asked for by name on both sides.
    pub tables: Vec<TablePlan>,
    /// The sides that are read; what is not read stays an empty digest.
    pub sides: Vec<Side>,
    /// How.
    pub method: Method,
    /// How many lanes, each with a session a side.
    pub lanes: usize,
    /// Who listens.
    pub events: Events,
    /// How long a stream may stand still.
    pub stall: Duration,
    /// Cancelled to stop.
    pub stop: CancellationToken,
}

/// Reads all tables on both sides: a pair of source and target for each, in the order of the request. The
/// request comes back with its snapshots.
///
/// # Panics
/// If a lane does: a defect.
pub async fn read(request: Request) -> Result<(Request, Vec<[Read; 2]>), VerifyError> {
    let found = request.tables.iter().map(|_| [Ok(Digest::default()), Ok(Digest::default())]).collect();
    let pages = request.tables.iter().map(|_| Pages::default()).collect();
    let shared = Arc::new(Shared { request, pages, found: Mutex::new(found) });
    let lanes = Arc::clone(&shared);
    let pool = tokio::task::spawn_blocking(move || {
        let schedule = Schedule::new(tasks(&lanes.request), 0);
        pool::run(schedule, lanes.request.lanes.max(1), &lanes.request.stop, |number, stop| Lane {
            number,
            shared: Arc::clone(&lanes),
            stop,
            sessions: [None, None],
        })
    });
    match pool.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))? {
        Ended::Finished => {}
        Ended::Interrupted => return Err(VerifyError::Interrupted),
    }
    let shared = Arc::into_inner(shared).expect("all lanes have ended");
    Ok((shared.request, shared.found.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// In how many parts a table is read.
fn parts(table: &TablePlan, method: Method) -> usize {
    if method == Method::Counts { 1 } else { table.chunks.len().max(1) }
}

fn tasks(request: &Request) -> Vec<Task<Part>> {
    let Request { tables, method, sides, .. } = request;
    let parts = |(table, planned): (usize, &TablePlan)| {
        let parts = parts(planned, *method);
        let weight = planned.bytes / parts as u64;
        sides.iter().flat_map(move |&side| {
            (0..parts).map(move |number| Task {
                work: Part { table, side, number },
                needs: vec![],
                weight,
                locks: vec![],
                memory: 0,
            })
        })
    };
    tables.iter().enumerate().flat_map(parts).collect()
}

/// A part of a table on one side.
#[derive(Debug, Clone, Copy)]
struct Part {
    table: usize,
    side: Side,
    number: usize,
}

struct Shared {
    request: Request,
    /// Of the target's tables.
    pages: Vec<Pages>,
    found: Mutex<Vec<[Read; 2]>>,
}

struct Lane {
    number: usize,
    shared: Arc<Shared>,
    stop: CancellationToken,
    sessions: [Option<Session>; 2],
}

/// How often a part is tried when connections are cut, and how long the first wait is; each further wait is
/// twice as long.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);

impl Worker for Lane {
    type Work = Part;
    type Error = LaneError;

    async fn perform(&mut self, part: Part) -> Result<(), LaneError> {
        let parts = self.parts(part.table);
        let table = self.table(part).name.to_string();
        let item = match parts {
            1 => format!("{table} ({})", part.side),
            parts => format!("{table} ({}, part {} of {parts})", part.side, part.number + 1),
        };
        let bytes = self.table(part).bytes / parts as u64;
        let (stage, lane, begun) = (Stage::Verify, self.number, Instant::now());
        self.emit(Event::ItemStarted {
            stage,
            lane,
            item: item.clone(),
            table: Some(table),
            bytes: Some(bytes),
        });
        let mut attempt = 1;
        loop {
            let stop = self.stop.clone();
            let error = tokio::select! {
                biased;
                () = stop.cancelled() => LaneError::Interrupted,
                outcome = self.attempt(part) => match outcome {
                    Ok(digest) => {
                        self.remember(part, |sum| *sum += digest);
                        break;
                    }
                    Err(error) => error,
                },
            };
            let session = self.sessions[position(part.side)].take();
            // Without a session nobody asked for this table.
            let is_answer = session.is_some();
            // Whatever went wrong, the transaction is aborted or a statement still runs in it.
            if let Some(session) = session {
                let _ = tokio::time::timeout(Duration::from_secs(5), session.cancel()).await;
            }
            if error.is_retryable() && attempt < ATTEMPTS {
                self.emit(Event::Retry { stage, item: item.clone(), reason: error.to_string() });
                tokio::time::sleep(FIRST_WAIT * 2_u32.pow(attempt - 1)).await;
                attempt += 1;
                continue;
            }
            let Some(refusal) = refusal(&error).filter(|_| is_answer) else { return Err(error) };
            self.refuse(part, refusal);
            break;
        }
        self.emit(Event::ItemFinished { stage, lane, item, seconds: begun.elapsed().as_secs_f64() });
        Ok(())
    }

    async fn close(self) {
        for session in self.sessions.into_iter().flatten() {
            session.close().await;
        }
    }
}

impl Lane {
    async fn attempt(&mut self, part: Part) -> Result<Digest, LaneError> {
        let shared = Arc::clone(&self.shared);
        let (request, planned) = (&shared.request, &shared.request.tables[part.table]);
        let what = || format!("could not read {} on the {}", planned.name, part.side);
        let failed = |source| LaneError::Session { what: what(), source };
        let session = &mut self.sessions[position(part.side)];
        if session.is_none() {
            *session = Some(request.snapshots[position(part.side)].session().await.map_err(failed)?);
        }
        let session = session.as_ref().expect("it was just opened");
        let refused = |error| failed(session.failed(format!("read {}", planned.name), error));
        if request.method == Method::Counts {
            let row = session.client.query_one(&planned.count(), &[]).await.map_err(refused)?;
            let rows = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
            return Ok(Digest { rows, ..Digest::default() });
        }
        let range = match (part.side, planned.chunks.len()) {
            (_, 1) => Chunk::WHOLE,
            (Side::Source, _) => planned.chunks[part.number],
            (Side::Target, parts) => {
                let pages = &shared.pages[part.table];
                pages.part(session, &planned.name, (part.number, parts)).await.map_err(refused)?
            }
        };
        if request.method == Method::Digests && hash::is_hashed_by_server(planned) {
            return hash::digest(session, planned, range).await.map_err(refused);
        }
        let stream =
            |error| LaneError::Stream { what: what(), source: StreamError(of_side(part.side, error)) };
        let rows = session
            .copy_out(&planned.copy_hashed(range))
            .await
            .map_err(|error| stream(RelayError::Source(error)))?;
        let (events, lane, stage) = (&request.events, self.number, Stage::Verify);
        let digest = relay::read(
            rows,
            planned.columns.len(),
            &planned.masked(),
            request.stall.into(),
            |rows, bytes| {
                events.emit(Event::Progress { stage, lane, rows, bytes });
            },
        )
        .await
        .map_err(stream)?;
        session.copy_ended().await.map_err(refused)?;
        Ok(digest)
    }

    fn parts(&self, table: usize) -> usize {
        parts(&self.shared.request.tables[table], self.shared.request.method)
    }

    fn table(&self, part: Part) -> &TablePlan {
        &self.shared.request.tables[part.table]
    }

    fn emit(&self, event: Event) {
        self.shared.request.events.emit(event);
    }

    fn remember(&self, part: Part, add: impl FnOnce(&mut Digest)) {
        let mut found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        // A part that was refused spoils the whole.
        if let Ok(sum) = &mut found[part.table][position(part.side)] {
            add(sum);
        }
    }

    fn refuse(&self, part: Part, refusal: String) {
        let mut found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        found[part.table][position(part.side)] = Err(refusal);
    }
}

fn position(side: Side) -> usize {
    match side {
        Side::Source => 0,
        Side::Target => 1,
    }
}

/// A reading stream calls its server the source, whichever it is.
fn of_side(side: Side, error: RelayError) -> RelayError {
    match (side, error) {
        (Side::Target, RelayError::Source(error)) => RelayError::Target(error),
        (Side::Target, RelayError::Stalled(limit)) => RelayError::TargetStalled(limit),
        (_, error) => error,
    }
}

/// What the server said, if it answered: it refuses this table (no right to read it, a row policy, a damaged
/// page), which says nothing about the others.
fn refusal(error: &LaneError) -> Option<String> {
    let source: &tokio_postgres::Error = match error {
        LaneError::Session { source: SessionError::Statement { error, .. }, .. } => error,
        LaneError::Stream {
            source: StreamError(RelayError::Source(source) | RelayError::Target(source)),
            ..
        } => source,
        _ => return None,
    };
    (source.code().is_some() && !is_passing(error)).then(|| describe(source))
}
