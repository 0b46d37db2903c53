//! `pgmove dump`: a source into an archive, without a target.
//!
//! ```text
//! read source -> snapshot + DDL -> rows, counted -> what a target computes again, hashed -> sequences
//!     -> archive finished -> source unchanged?
//! ```
//!
//! Only the source is read and only the archive's directory is written. A dump that fails leaves an archive
//! without a manifest, which no command reads; it cannot be gone on with.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::archive::{ArchivingError, confirm, recomputed};
use super::check::{Read, jobs, read};
use super::prepare::{read_schema, scratch};
use super::proof::encoded;
use super::watch;
use crate::catalog::{self, Catalog, SourceState};
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::event::{Event, Events, Stage};
use crate::pg::{Access, Endpoint, Session, naming_lock_holders};
use crate::plan::{Plan, make};
use crate::schema::rewrite::{Owners, Roles};
use crate::schema::{ChildLimits, ClientTools};
use crate::settings::DumpSettings;
use crate::transfer::archive::contents::{self, Hashed, Recomputed, RowPlan};
use crate::transfer::archive::{Archive, FileRecord, Level, Writer, ensure_vacant};
use crate::transfer::lane::{Found, Lane, LaneError, Move, Origin};
use crate::transfer::pool::{self, Ended};
use crate::transfer::rate::Rate;
use crate::transfer::schedule::Schedule;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::work::{self, Work};
use crate::verify::subjects::Reading;
use crate::verify::{Aspect, Comparison, Method, Outcome, TableResult, VerifyError, source};

/// A finished dump.
#[derive(Debug)]
pub struct Dumped {
    /// The counts of every table, and whether the source stayed as it was.
    pub comparison: Comparison,
    /// How many large objects it holds.
    pub large_objects: u64,
    /// When the snapshot was taken.
    pub as_of: jiff::Timestamp,
    /// What the archive holds, uncompressed, in bytes.
    pub content_bytes: u64,
    /// Its size on disk, in bytes.
    pub file_bytes: u64,
    /// The SHA-256 of its manifest, which names the archive.
    pub sha256: String,
}

/// The role may not read everything.
#[derive(Debug, thiserror::Error)]
#[error("the role of the source cannot read {0}")]
struct Unreadable(String);

impl Fault for Unreadable {
    fn class(&self) -> Class {
        Class::Source
    }

    fn hint(&self) -> Option<String> {
        Some("dump as the owner of the tables, or grant the role SELECT on them".into())
    }
}

/// The dump was begun and not finished.
#[derive(Debug)]
struct Unfinished {
    directory: PathBuf,
    cause: Box<dyn Fault>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the archive in {} is not finished", self.directory.display())
    }
}

impl std::error::Error for Unfinished {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause.as_ref())
    }
}

impl Fault for Unfinished {
    fn class(&self) -> Class {
        self.cause.class()
    }

    fn hint(&self) -> Option<String> {
        // A dump has nothing to resume.
        let first = self.cause.hint().filter(|hint| !hint.contains("resume")).map(|hint| format!("{hint}, "));
        Some(format!("{}remove the directory, then dump again", first.unwrap_or_default()))
    }
}

/// Dumps a database. `stop` is cancelled by an interrupt.
pub async fn dump(
    settings: &DumpSettings,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Dumped, Error> {
    let refused = |fault| Error { exit: Exit::Refused, fault };
    ensure_vacant(&settings.archive).map_err(|error| Error::new(Exit::Usage, error))?;
    events.emit(Event::StageStarted { stage: Stage::Check, items: None, bytes: None, rows: None });
    let begun = Instant::now();
    let source = Endpoint {
        side: Side::Source,
        conninfo: Arc::clone(&settings.source),
        application_name: "pgmove dump".to_owned(),
        copy_encoding: None,
    };
    let reading = async { read(&source).await.map_err(refused) };
    let found = naming_lock_holders(&[&source], reading).await?;
    if let Some(relation) = found.rights.unreadable.first() {
        let name = format!("{} {} ({})", relation.kind, relation.name, relation.reason);
        return Err(Error::new(Exit::Refused, Unreadable(name)));
    }
    let needed = found.catalog.server.major().unsigned_abs();
    let tools = ClientTools::find(&settings.client, needed).await;
    let tools = tools.map_err(|error| Error::new(Exit::Refused, error))?;
    let taking = async {
        let taken = Snapshot::take(&source, &found.catalog).await;
        taken.map_err(|error| Error::new(Exit::Refused, error))
    };
    let snapshot = naming_lock_holders(&[&source], taking).await?;
    let as_of = jiff::Timestamp::now();
    let directory = scratch()?;
    let limits = ChildLimits { stall: settings.stall, cancel: stop.clone() };
    let reading = read_schema(&tools, &source, &snapshot, directory.path(), &limits, events);
    let entries = naming_lock_holders(&[&source], reading).await?;
    let plan = plan(settings, &found, &snapshot);
    events.emit(Event::StageFinished { stage: Stage::Check, seconds: begun.elapsed().as_secs_f64() });

    let writer = Writer::create(&settings.archive, contents::header(&snapshot.catalog), Level::default())
        .map_err(|error| Error::new(Exit::Refused, error))?;
    let unfinished = |cause: Box<dyn Fault>| {
        let exit = if stop.is_cancelled() { Exit::Interrupted } else { Exit::StartOver };
        Error::new(exit, Unfinished { directory: settings.archive.clone(), cause })
    };
    let copying = async {
        let copied = copy(&source, &plan, &snapshot, &writer, (settings, events, stop)).await;
        copied.map_err(|fault| Error { exit: Exit::StartOver, fault })
    };
    let copied = naming_lock_holders(&[&source], copying).await.map_err(|error| unfinished(error.fault))?;
    confirm(&writer, &plan, &copied).map_err(|error: ArchivingError| unfinished(Box::new(error)))?;
    let recomputed = hash(&source, &plan, &snapshot, (settings, events, stop)).await.map_err(unfinished)?;
    let (sequences, now) = last_look(&source, &snapshot.catalog).await.map_err(unfinished)?;
    let described = contents::Source::new(&found.search_path, &snapshot.catalog, &found.rights);
    contents::write(&writer, &described, &entries, &sequences, &RowPlan::of(&plan), &recomputed)
        .await
        .map_err(|error| unfinished(Box::new(error)))?;

    let mut comparison = Comparison::default();
    for (planned, digest) in plan.tables.iter().zip(&copied.copied) {
        let table = planned.name.to_string();
        comparison.push(table.clone(), Aspect::Rows, Outcome::Equal);
        comparison.tables.push(TableResult { table, rows: [digest.rows; 2], checksums: None });
    }
    for Recomputed { aspect, table, found } in recomputed {
        let outcome = match found {
            Hashed::Digest(_) => Outcome::Equal,
            Hashed::Refusal(reason) => Outcome::not_compared(format!("could not be read: {reason}")),
        };
        comparison.push(table.name.to_string(), aspect, outcome);
    }
    let outcome = source::unchanged(&snapshot.state, &now, settings.accept_writes);
    comparison.push("source", Aspect::SourceUnchanged, outcome);
    let large_objects = snapshot.catalog.large_objects.count;
    snapshot.release().await;
    // What was written can be read.
    let archive = Archive::open(&settings.archive).map_err(|error| unfinished(Box::new(error)))?;
    let sum = |bytes: fn(&FileRecord) -> u64| archive.manifest().members().map(|(_, file)| bytes(file)).sum();
    Ok(Dumped {
        comparison,
        large_objects,
        as_of,
        content_bytes: sum(|file| file.content_bytes),
        file_bytes: sum(|file| file.file_bytes),
        sha256: archive.sha256().to_owned(),
    })
}

/// A plan without a target: only what reading needs.
fn plan(settings: &DumpSettings, found: &Read, snapshot: &Snapshot) -> Plan {
    let source = &snapshot.catalog;
    let jobs = jobs(settings.jobs, &[source]);
    Plan {
        run: String::new(),
        search_path: make::search_path(&found.search_path),
        copy_encoding: make::copy_encoding(source),
        jobs,
        index_memory: 0,
        tables: make::archived_tables(source, jobs, settings.chunk_bytes),
        materialized_views: vec![],
        partitioned: vec![],
        sequences: vec![],
        large_objects: make::batches(&snapshot.large_objects),
        roles: Roles {
            owners: Owners::Keep,
            existing: [].into(),
            assignable: [].into(),
            creator: None,
            may_impersonate: false,
        },
        existing_schemas: vec![],
        target_database: None,
        admin: None,
        steps: vec![],
        rewrites: vec![],
        not_carried: vec![],
        replaced: None,
    }
}

/// Reads every chunk, batch and count on all lanes, and keeps the snapshot meanwhile.
async fn copy(
    source: &Endpoint,
    plan: &Plan,
    snapshot: &Snapshot,
    writer: &Writer,
    (settings, events, stop): (&DumpSettings, &Events, &CancellationToken),
) -> Result<Found, Box<dyn Fault>> {
    let shared = Arc::new(Move {
        origin: Origin::Server {
            endpoint: Endpoint { copy_encoding: plan.copy_encoding.clone(), ..source.clone() },
            snapshot: snapshot.id.clone(),
        },
        target: None,
        archive: Some(writer.clone()),
        plan: plan.clone(),
        events: events.clone(),
        stall: settings.stall,
        rate: settings.max_rate.map(Rate::new),
        found: Mutex::new(Found::new(plan.tables.len())),
        pages: vec![],
        builders: Mutex::default(),
    });
    let storing = work::storing(plan, |_| false);
    events.emit(Event::StageStarted {
        stage: Stage::Copy,
        items: Some(storing.len() as u64),
        bytes: Some(storing.iter().map(|task| task.weight).sum()),
        rows: plan.tables.iter().map(|table| table.estimated_rows).sum(),
    });
    let begun = Instant::now();
    let schedule = Schedule::<Work>::new(storing.into_iter().chain(work::counting(plan)).collect(), 0);
    let (lanes, stop) = (usize::from(plan.jobs), stop.child_token());
    let pool = {
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::task::spawn_blocking(move || {
            pool::run(schedule, lanes, &stop, |lane, stop| Lane::new(lane, Arc::clone(&shared), stop))
        })
    };
    let ended = watch::beside(pool, &stop, watch::snapshot_lost(snapshot, settings.stall)).await;
    events.emit(Event::StageFinished { stage: Stage::Copy, seconds: begun.elapsed().as_secs_f64() });
    match ended.map_err(|lost| Box::new(lost) as Box<dyn Fault>)? {
        Ok(Ended::Finished) => {
            Ok(std::mem::take(&mut *shared.found.lock().unwrap_or_else(PoisonError::into_inner)))
        }
        Ok(Ended::Interrupted) => Err(Box::new(LaneError::Interrupted)),
        Err(error) => Err(Box::new(error)),
    }
}

/// Hashes what a target will compute again, on all lanes.
async fn hash(
    source: &Endpoint,
    plan: &Plan,
    snapshot: &Snapshot,
    (settings, events, stop): (&DumpSettings, &Events, &CancellationToken),
) -> Result<Vec<Recomputed>, Box<dyn Fault>> {
    let stage = Stage::Verify;
    events.emit(Event::StageStarted { stage, items: None, bytes: None, rows: None });
    let begun = Instant::now();
    let reading = Reading {
        method: Method::Reread,
        jobs: plan.jobs,
        named_rows: 0,
        stall: settings.stall,
        events: events.clone(),
        stop: stop.clone(),
    };
    let hashed = recomputed(&encoded(source, plan), snapshot, &reading).await;
    events.emit(Event::StageFinished { stage, seconds: begun.elapsed().as_secs_f64() });
    hashed.map_err(|error| -> Box<dyn Fault> {
        match error {
            VerifyError::Interrupted => Box::new(LaneError::Interrupted),
            error => Box::new(error),
        }
    })
}

/// Sequences have no snapshot: they are read last; and whether anything was written meanwhile.
async fn last_look(
    source: &Endpoint,
    catalog: &Catalog,
) -> Result<(Vec<catalog::SequenceValue>, SourceState), Box<dyn Fault>> {
    let boxed = |error: catalog::CatalogError| -> Box<dyn Fault> { Box::new(error) };
    let session = Session::open(source, Access::Read, "pg_catalog").await;
    let session = session.map_err(|error| Box::new(error) as Box<dyn Fault>)?;
    let values = catalog::sequence_values(&session.client, Side::Source, &catalog.sequences);
    let values = values.await.map_err(boxed)?;
    let state = SourceState::read(&session.client, Side::Source).await.map_err(boxed)?;
    session.close().await;
    Ok((values, state))
}
