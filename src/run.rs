//! `pgmove run`: the stages of a move, in order.
//!
//! ```text
//! check -> (freeze) -> (fence) -> snapshot + plan -> (replace) -> schema -> copy and indexes -> finish -> verify -> verdict
//! ```
//!
//! Up to the plan nothing is written to the target. From then on the ledger in the target and the journal on
//! this machine say how far the run is; whatever ends the process, `--resume` goes on from both. What a cut connection
//! ends is taken up again from there by the process itself (`going_on`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Exit, Side};
use crate::event::{Event, Events, Stage};
use crate::journal::{Record, RunDirectory, Settled};
use crate::kubernetes::Psql;
use crate::pg::{Endpoint, naming_lock_holders};
use crate::plan::{Plan, make};
use crate::preflight::{Finding, Severity};
use crate::report::{self, Scope};
use crate::settings::{Choices, RunSettings};
use crate::transfer::archive::contents::Contents;
use crate::transfer::archive::{Writer, ensure_vacant};
use crate::transfer::pages::Pages;
use crate::transfer::rate::Rate;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::{self, ledger};

mod archive;
mod check;
mod claim;
mod clear;
mod copy;
mod dump;
mod fencing;
mod finish;
mod freezing;
mod furnish;
mod going_on;
mod objects;
mod operator;
mod outcome;
mod pinning;
mod planned;
mod prepare;
mod proof;
pub(crate) mod rehearse;
mod replace;
mod reporting;
mod resume;
pub mod scratch_database;
mod stored_proof;
mod survey;
mod trial;
mod watch;

pub use check::Checked;
pub use dump::{Dumped, dump};
pub(crate) use freezing::{begun, way};
use going_on::{Held, Unclaimed};
pub use outcome::{Interrupted, Outcome};
use outcome::{Lost, TargetLost};
pub(crate) use prepare::scratch;
pub use rehearse::rehearse;
pub use replace::ReplaceError;
use reporting::Recording;
pub use resume::ResumeError;
pub(crate) use resume::run_of;
pub use survey::{Surveyed, survey};

/// Where the rows come from.
enum Source {
    /// The source's server.
    Server(Endpoint),
    /// An archive of it.
    Archive(Box<Contents>),
}

impl Source {
    /// The server, for stages that a restore does not have.
    fn server(&self) -> &Endpoint {
        match self {
            Source::Server(endpoint) => endpoint,
            Source::Archive(_) => unreachable!("a restore asks no source server"),
        }
    }
}

/// The parts that every stage of one run shares.
struct Context<'a> {
    settings: &'a RunSettings,
    events: Events,
    stop: &'a CancellationToken,
    /// The run's id.
    run: String,
    /// The rewrites, as the run began with them.
    choices: Choices,
    source: Source,
    target: Endpoint,
    admin: Option<Endpoint>,
}

impl Context<'_> {
    /// What `pg_stat_activity` shows for the sessions of a run.
    fn application_name(run: &str) -> String {
        format!("pgmove {run}")
    }

    /// What takes the place of an admin's session.
    fn psql(&self) -> Option<Psql> {
        self.settings.connections.psql(&self.target.application_name)
    }

    /// Runs a stage, with its events around it.
    async fn stage<T, E>(&self, stage: Stage, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.events.emit(Event::StageStarted { stage, items: None, bytes: None, rows: None });
        let begun = Instant::now();
        let outcome = work.await;
        self.events.emit(Event::StageFinished { stage, seconds: begun.elapsed().as_secs_f64() });
        outcome
    }

    /// Names who is in the way where work ends for want of a lock.
    fn naming_lock_holders<'a, T: 'a>(
        &'a self,
        work: impl Future<Output = Result<T, Error>> + 'a,
    ) -> impl Future<Output = Result<T, Error>> + 'a {
        // Stages are large futures.
        let work = Box::pin(work);
        async move {
            let source = match &self.source {
                Source::Server(endpoint) => Some(endpoint),
                Source::Archive(_) => None,
            };
            let endpoints: Vec<&Endpoint> = source.into_iter().chain([&self.target]).collect();
            naming_lock_holders(&endpoints, work).await
        }
    }

    /// Work that an interrupt breaks off; for what only reads.
    async fn interruptible<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Error::new(Exit::Interrupted, Interrupted)),
            outcome = work => outcome,
        }
    }

    /// The safe point between two stages.
    fn safe_point(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            return Err(Error::new(Exit::Interrupted, Interrupted));
        }
        Ok(())
    }
}

/// Moves a database. `stop` is cancelled by an interrupt.
pub async fn run(
    settings: &RunSettings,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Outcome, Error> {
    run_as(settings, new_run_id(), events, stop).await
}

/// The same for a run of this id, unless it is one that goes on.
async fn run_as(
    settings: &RunSettings,
    id: String,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Outcome, Error> {
    if let (false, Some(archive)) = (settings.resume, &settings.archive) {
        ensure_vacant(archive).map_err(|error| Error::new(Exit::Usage, error))?;
    }
    let usage = |error| Error::new(Exit::Usage, error);
    let resumed =
        settings.resume.then(|| RunDirectory::open(&settings.run_dir)).transpose().map_err(usage)?;
    let restored = match &settings.restored {
        Some(path) => Some(archive::open(path, settings.resume).await?),
        None => None,
    };
    let mut directory = match resumed {
        None if !settings.dry_run => Some(RunDirectory::create(&settings.run_dir).map_err(usage)?),
        resumed => resumed,
    };
    if let (Some(directory), Some(database)) = (&mut directory, &settings.rehearsal) {
        append(directory, Record::Rehearsal { database: database.clone() })?;
    }
    let run = match &directory {
        Some(directory) => resume::run_of(directory.records()),
        None => freezing::frozen_before(&settings.run_dir),
    };
    let run = run.unwrap_or(id);
    // Stops the work too when a freeze no longer holds, which is no interrupt.
    let halt = stop.child_token();
    let records = directory.as_ref().map_or(&[][..], |found| found.records());
    let choices = resume::choices(records, &settings.choices);
    let choices = choices.map_err(|error| Error::new(Exit::Usage, error))?;
    let name = Context::application_name(&run);
    let mut context = Context {
        settings,
        events: events.clone(),
        stop: &halt,
        choices,
        source: restored
            .unwrap_or_else(|| Source::Server(settings.connections.endpoint(Side::Source, &name))),
        target: settings.connections.endpoint(Side::Target, &name),
        admin: settings.connections.admin(&name),
        run,
    };
    let recording = directory.as_ref().map(|directory| {
        let (recording, events) = Recording::begin(directory, &context);
        context.events = events;
        recording
    });
    let mut outcome = Box::pin(context.run(directory.as_mut())).await;
    let has_written = directory.as_ref().is_some_and(|directory| resume::has_written(directory.records()));
    if let Err(error) = &mut outcome {
        error.exit = match (error.exit, has_written) {
            (Exit::Refused | Exit::Resumable, _) if stop.is_cancelled() => Exit::Interrupted,
            // The stages before the first write also run when a run is resumed, and the other way round.
            (Exit::Refused, true) => Exit::Resumable,
            (Exit::Resumable, false) => Exit::Refused,
            (exit, _) => exit,
        };
    }
    if has_written && let Ok(Outcome::Refused(findings)) = outcome {
        outcome = Ok(Outcome::Stopped(findings));
    }
    if let Some(directory) = &mut directory {
        outcome = context.go_back(directory, outcome).await;
        context.say_what_stands(directory);
    }
    if let (Some(recording), Some(directory)) = (recording, &directory) {
        recording.end(directory, &outcome, events);
    }
    // A run that was refused before it wrote anything leaves its report, and nothing to resume. What is not undone is.
    if matches!(outcome, Ok(Outcome::Refused(_)) | Err(Error { exit: Exit::Refused, .. }))
        && let Some(directory) = directory
    {
        directory.remove();
    }
    outcome
}

impl Context<'_> {
    async fn run(&self, directory: Option<&mut RunDirectory>) -> Result<Outcome, Error> {
        if let Some(directory) = directory {
            return self.persist(directory).await;
        }
        let begun = self.begin_check();
        let mut checked = self.interruptible(self.naming_lock_holders(self.check())).await?;
        self.heed(&mut checked, false).await?;
        self.announce_check(&checked);
        let (blocking, warnings) = by_severity(&checked);
        if !blocking.is_empty() {
            return Ok(Outcome::Refused(checked.findings));
        }
        self.safe_point()?;
        self.naming_lock_holders(self.dry_run(checked, warnings, begun)).await
    }

    /// Heeds what stands in Kubernetes.
    async fn heed(&self, checked: &mut Checked, has_begun: bool) -> Result<(), Error> {
        let looking = async {
            self.heed_objects(checked, has_begun).await;
            Ok(())
        };
        self.interruptible(Box::pin(looking)).await
    }

    fn begin_check(&self) -> Instant {
        self.events.emit(Event::StageStarted { stage: Stage::Check, items: None, bytes: None, rows: None });
        Instant::now()
    }

    /// What is done while nothing writes to the source, as far as that was asked for.
    async fn move_frozen(
        &self,
        directory: &mut RunDirectory,
        checked: Checked,
        begun: Instant,
        held: &mut Held,
    ) -> Result<Outcome, Error> {
        self.before_stage(directory).await?;
        if self.settings.fence {
            self.fence(directory).await?;
        }
        let snapshot = self.naming_lock_holders(self.snapshot(&checked)).await?;
        let scope = Scope {
            as_of: Some(jiff::Timestamp::now()),
            large_objects: snapshot.catalog.large_objects.count,
        };
        let resuming = self.pick_up(directory, &checked, &snapshot);
        let (plan, done, holder) = if let Some(left) = self.naming_lock_holders(resuming).await? {
            held.units = left.done.len();
            (left.plan, left.done, Some(left.holder))
        } else {
            let planning = self.plan(&checked, &snapshot, &self.settings.run_dir);
            let prepared = self.naming_lock_holders(planning).await?;
            if !prepared.findings.is_empty() {
                held.unclaimed.get_or_insert(Unclaimed(None));
                return Ok(Outcome::Refused(prepared.findings));
            }
            Self::write_down(directory, &prepared, &snapshot)?;
            (prepared.plan, HashMap::new(), None)
        };
        self.events
            .emit(Event::StageFinished { stage: Stage::Check, seconds: begun.elapsed().as_secs_f64() });
        let writer = self.begin_archive(directory, &snapshot)?;
        self.before_stage(directory).await?;
        // Before the mark, which holds for the operator too.
        let left = match holder {
            None => self.leave_to_operator(&plan, &checked).await,
            Some(_) => Ok(()),
        };
        let claimed = match left {
            Ok(()) => self.claim(directory, &checked, holder).await,
            Err(error) => Err(error),
        };
        if claimed.is_err() && !resume::has_written_target(directory.records()) {
            held.unclaimed.get_or_insert(Unclaimed(writer.clone()));
        }
        let holder = claimed?;
        held.unclaimed = None;
        let done = if done.is_empty() { self.read_ledger(&holder).await? } else { done };
        if replace::is_open(directory.records(), &done) {
            self.replace(&holder, &checked).await?;
        }
        let holders = (&snapshot, &holder);
        self.before_stage(directory).await?;
        self.schema(directory, &plan, &done, holders).await?;
        self.before_stage(directory).await?;
        let copying = self.copy(directory, &plan, &done, holders, writer.as_ref());
        let found = self.naming_lock_holders(copying).await?;
        self.before_stage(directory).await?;
        let sequences = self.finish(directory, &plan, &done, holders).await?;
        if let Some(writer) = &writer {
            let moved = (&found, sequences.as_slice());
            let archiving = self.finish_archive(writer, directory, &plan, moved, (&checked, &snapshot));
            self.holding(holders, archiving).await?;
        }
        self.before_stage(directory).await?;
        let verifying = self.verify(directory, &checked, &plan, (&found, &sequences), holders);
        let comparison = self.naming_lock_holders(verifying).await?;
        snapshot.release().await;
        // Before the verdict: if the target crashed, what was compared may be gone, and so is this session.
        ledger::seal(&holder.client).await.map_err(|error| {
            Error::new(Exit::Resumable, TargetLost(Lost::Broken(holder.failed("seal the ledger", error))))
        })?;
        if let Some(frozen) = &held.frozen {
            frozen.last_look().await.map_err(|error| Error::new(Exit::Resumable, error))?;
        }
        if let Some(frozen) = held.frozen.take() {
            frozen.give_up().await;
        }
        let sentence = report::sentence(&comparison, scope);
        let record = Record::Verdict { verdict: sentence, exit: comparison.verdict().exit().code() };
        append(directory, record)?;
        let comparison = Box::new(comparison);
        held.compared = Some((comparison.clone(), scope));
        self.clear(directory, holder).await?;
        Ok(Outcome::Moved { comparison, scope })
    }

    fn announce(&self, directory: &mut RunDirectory, checked: &Checked) -> Result<(), Error> {
        append(
            directory,
            Record::Started {
                run: self.run.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                source: match &self.source {
                    Source::Server(endpoint) => endpoint.conninfo.to_string(),
                    Source::Archive(stored) => format!("archive {}", stored.archive.sha256()),
                },
                target: self.target.conninfo.to_string(),
                resumed: self.settings.resume,
            },
        )?;
        if resume::settled(directory.records()).is_some() {
            return Ok(());
        }
        let settled = Settled {
            source: checked.source.identity(),
            target: checked.target.identity(),
            choices: self.choices.clone(),
            keep_ledger: self.settings.keep_ledger,
        };
        append(directory, Record::Settled(settled))
    }

    async fn snapshot(&self, checked: &Checked) -> Result<Snapshot, Error> {
        match &self.source {
            Source::Server(endpoint) => {
                let endpoint =
                    Endpoint { copy_encoding: make::copy_encoding(&checked.source), ..endpoint.clone() };
                let snapshot = Snapshot::take(&endpoint, &checked.source).await;
                snapshot.map_err(|error| Error::new(Exit::Resumable, error))
            }
            Source::Archive(stored) => Ok(Snapshot::archived(stored)),
        }
    }
}

/// What stops a run, and what is told only.
fn by_severity(checked: &Checked) -> (Vec<Finding>, Vec<Finding>) {
    checked.findings.iter().cloned().partition(|finding| finding.severity == Severity::Blocking)
}

/// Writes the journal. From the first record on a run can be resumed.
fn append(directory: &mut RunDirectory, record: Record) -> Result<(), Error> {
    directory.append(record).map_err(|error| Error::new(Exit::Resumable, error))
}

/// The time and a few random bits: sortable, and different for two runs of one second.
pub(crate) fn new_run_id() -> String {
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0);
    format!("{}-{:06x}", jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S"), random & 0x00ff_ffff)
}

/// What lanes share, for the copying stage.
fn shared(
    context: &Context<'_>,
    plan: &Plan,
    snapshot: &Snapshot,
    writer: Option<&Writer>,
) -> Arc<transfer::lane::Move> {
    let endpoint =
        |endpoint: &Endpoint| Endpoint { copy_encoding: plan.copy_encoding.clone(), ..endpoint.clone() };
    Arc::new(transfer::lane::Move {
        origin: match &context.source {
            Source::Server(source) => {
                transfer::lane::Origin::Server { endpoint: endpoint(source), snapshot: snapshot.id.clone() }
            }
            Source::Archive(stored) => transfer::lane::Origin::Archive(Arc::clone(&stored.archive)),
        },
        target: Some(endpoint(&context.target)),
        archive: writer.cloned(),
        plan: plan.clone(),
        events: context.events.clone(),
        stall: context.settings.connections.stall,
        rate: context.settings.max_rate.map(Rate::new),
        found: std::sync::Mutex::new(transfer::lane::Found::new(plan.tables.len())),
        pages: plan.tables.iter().map(|_| Pages::default()).collect(),
        builders: std::sync::Mutex::default(),
    })
}
