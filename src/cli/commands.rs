//! Each command: its settings from its arguments, and what it came to.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::arguments::{Archive, Choices, Command, Config, Dump, Load, Restore, Run, Verify};
use super::freeze::Failing;
use super::layers::Layers;
use super::manual;
use super::runs::RUNS;
use super::{check, connections, fence, freeze, init, plan, rbac, rehearse, rollback, unreached};
use crate::cutover::freeze::FreezePlan;
use crate::cutover::rollback::Restoration;
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::event::{Event, Events, Stage};
use crate::pg::{ConnInfo, naming_lock_holders};
use crate::plan::document::Document;
use crate::preflight::Finding;
use crate::report::{self, Again, Scope};
use crate::run;
use crate::settings::{Connections, DumpSettings, OnFailure, Overview, RunSettings};
use crate::survey::Summary;
use crate::transfer::archive;
use crate::verify::read::Method;
use crate::verify::subjects::Reading;
use crate::verify::{self, Comparison};

/// How a command ended without an error.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) findings: Vec<Finding>,
    /// What a check has seen beside its findings.
    pub(super) survey: Option<Summary>,
    pub(super) plan: Option<Document>,
    pub(super) freeze: Option<FreezePlan>,
    pub(super) restoration: Option<Restoration>,
    pub(super) comparison: Option<Comparison>,
    pub(super) scope: Scope,
    pub(super) rehearsal: Option<report::Rehearsal>,
    pub(super) settings: Option<Overview>,
    /// What a run directory tells.
    pub(super) status: Option<(report::Status, PathBuf)>,
    /// The report of a run.
    pub(super) report: Option<report::Report>,
    /// Further results, a line each.
    pub(super) lines: Vec<String>,
    /// A file's content as the result.
    pub(super) content: Option<String>,
}

/// A command that an error has ended, and how it is taken up again.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) again: Again,
}

/// What fails before a command begins its work leaves nothing to go on with.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed { error, again: Again::Anew("run it again") }
    }
}

pub(super) async fn dispatch(
    command: &Command,
    layers: &Layers,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Ended, Failed> {
    match command {
        Command::Check(options) => anew("check again", Box::pin(check::check(options, events, stop)).await),
        Command::Run(options) => {
            let settings = run_settings(options, stop).await;
            let settings = settings.map_err(|error| unreached::of_run(options, error, events))?;
            run(&settings, events, stop).await
        }
        Command::Rehearse(options) => rehearse::rehearse(options, events, stop).await,
        Command::Plan(options) => plan::plan(options, events, stop).await,
        Command::Restore(options) => {
            let settings = restore_settings(options, stop).await;
            let settings = settings.map_err(|error| unreached::of_restore(options, error, events))?;
            run(&settings, events, stop).await
        }
        Command::Dump(options) => anew("dump again", dump(options, events, stop).await),
        Command::Archive(Archive::Check { archive }) => {
            anew("check again", check_archive(archive, events, stop).await)
        }
        Command::Verify(options) => anew("compare again", verify_both(options, events, stop).await),
        Command::Init(options) => anew("look again", init::init(options, stop).await),
        Command::Freeze(options) => {
            anew("freeze again", Box::pin(freeze::freeze(options, events, stop)).await)
        }
        Command::Rollback(options) => {
            anew("roll back again", Box::pin(rollback::rollback(options, events)).await)
        }
        Command::Rbac(options) => Ok(rbac::rbac(options)?),
        Command::Status(options) => Ok(super::runs::status(options)?),
        Command::Report(options) => Ok(super::runs::report(options)?),
        Command::Fence(options) => anew("fence again", fence::fence(options, stop).await),
        Command::Unfence(options) => anew("unfence again", fence::unfence(options, stop).await),
        Command::Config(Config::Show) => Ok(show_settings(layers)?),
        Command::Completions { shell } => {
            Ok(Ended { content: Some(manual::completions(*shell)), ..Ended::default() })
        }
        Command::Man { output_dir } => Ok(man(output_dir.as_deref())?),
    }
}

fn anew(words: &'static str, ended: Result<Ended, Error>) -> Result<Ended, Failed> {
    ended.map_err(|error| Failed { error, again: Again::Anew(words) })
}

fn show_settings(layers: &Layers) -> Result<Ended, Error> {
    let settings = layers.overview().map_err(|error| Error::new(Exit::Usage, error))?;
    Ok(Ended { settings: Some(settings), ..Ended::default() })
}

fn man(directory: Option<&Path>) -> Result<Ended, Error> {
    let Some(directory) = directory else {
        return Ok(Ended { content: Some(manual::page()), ..Ended::default() });
    };
    manual::write(directory).map_err(|error| Error::new(Exit::Usage, error))?;
    let lines = vec![format!("the manual pages are in {}", directory.display())];
    Ok(Ended { lines, ..Ended::default() })
}

pub(super) async fn run(
    settings: &RunSettings,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Ended, Failed> {
    let again = if settings.dry_run { Again::Anew("run it again") } else { Again::Resume };
    let outcome = Box::pin(run::run(settings, events, stop)).await;
    Ok(ended(outcome.map_err(|error| Failed { error, again })?))
}

/// What a run has come to.
pub(super) fn ended(outcome: run::Outcome) -> Ended {
    match outcome {
        run::Outcome::Refused(findings) => Ended { exit: Exit::Refused, findings, ..Ended::default() },
        run::Outcome::Stopped(findings) => Ended { exit: Exit::Resumable, findings, ..Ended::default() },
        run::Outcome::Planned { document, findings, digests, freeze } => Ended {
            findings,
            freeze: freeze.map(|plan| *plan),
            plan: Some(*document),
            lines: digests
                .into_iter()
                .flatten()
                .map(|(table, digest)| format!("{}  {:>12}  {table}", digest.checksum(), digest.rows))
                .collect(),
            ..Ended::default()
        },
        run::Outcome::Moved { comparison, scope } => Ended {
            exit: comparison.verdict().exit(),
            comparison: Some(*comparison),
            scope,
            ..Ended::default()
        },
        run::Outcome::Cleared { verdict, exit } => Ended {
            exit,
            lines: vec![format!("the run had ended before with the verdict: {verdict}")],
            ..Ended::default()
        },
    }
}

async fn verify_both(options: &Verify, events: &Events, stop: &CancellationToken) -> Result<Ended, Error> {
    let connections = connections::of_sides(&options.sides, stop).await?;
    let (source, target) = (
        connections.endpoint(Side::Source, "pgmove verify"),
        connections.endpoint(Side::Target, "pgmove verify"),
    );
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let choices = connections::choices(&options.choices).or_default();
    let scratch = run::scratch()?;
    let asked = verify::Options {
        reading: Reading {
            method: match (options.counts, options.reread) {
                (true, _) => Method::Counts,
                (_, true) => Method::Reread,
                _ => Method::Digests,
            },
            jobs: options.jobs.unwrap_or_else(|| u16::try_from(cores.clamp(2, 8)).unwrap_or(8)),
            named_rows: options.show_rows,
            stall: connections.stall,
            events: events.clone(),
            stop: stop.clone(),
        },
        choices,
        client: connections.client.clone(),
        scratch: scratch.path().to_owned(),
    };
    let comparing = verify::verify(&source, &target, &asked);
    let comparison = Box::pin(naming_lock_holders(&[&source, &target], comparing)).await?;
    let scope = Scope { as_of: Some(jiff::Timestamp::now()), ..Scope::default() };
    Ok(Ended { exit: comparison.verdict().exit(), comparison: Some(comparison), scope, ..Ended::default() })
}

pub(super) const MIB: u64 = 1024 * 1024;

async fn run_settings(options: &Run, stop: &CancellationToken) -> Result<RunSettings, Error> {
    let connections = connections::of(&options.endpoints, stop).await?;
    let source = connections.source.as_ref().expect("a run has a source");
    let settings = RunSettings {
        digests: options.digests,
        freeze: options.freezing.settings(source)?,
        fence: options.fence,
        on_failure: match options.freezing.on_failure {
            Failing::Keep => OnFailure::Keep,
            Failing::Rollback => OnFailure::Rollback,
        },
        chunk_bytes: options.chunk_size.map(|size| size * MIB),
        accept_writes: options.accept_writes,
        archive: options.archive.clone(),
        max_rate: options.max_rate.map(|rate| rate * MIB),
        ..load_settings(&options.load, &options.choices, options.dry_run, source.database(), &connections)?
    };
    match &options.plan {
        Some(path) => plan::keeping_to(settings, path),
        None => Ok(settings),
    }
}

/// What a run and a restore have in common; the rest is as a restore has it.
fn load_settings(
    load: &Load,
    choices: &Choices,
    dry_run: bool,
    database: &str,
    connections: &Connections,
) -> Result<RunSettings, Error> {
    Ok(RunSettings {
        choices: connections::choices(choices),
        dry_run,
        resume: load.resume,
        retries: load.retries,
        replace: replaces(load.replace.as_deref(), &connections.target)?,
        jobs: load.lanes.jobs,
        index_memory: load.lanes.index_memory(),
        keep_ledger: load.keep_ledger,
        ..RunSettings::new(connections.clone(), run_dir(load.run_dir.as_deref(), database))
    })
}

/// `--replace` names another database than `--target` does.
#[derive(Debug, thiserror::Error)]
#[error("--replace names database {named}, but the target is database {target}")]
struct OtherDatabase {
    named: String,
    target: String,
}

impl Fault for OtherDatabase {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("name the database whose objects may be dropped, which is that of --target".into())
    }
}

/// Whether the target is to be emptied; only if it is named.
pub(super) fn replaces(named: Option<&str>, target: &ConnInfo) -> Result<bool, Error> {
    match named {
        Some(named) if named != target.database() => {
            let (named, target) = (named.to_owned(), target.database().to_owned());
            Err(Error::new(Exit::Usage, OtherDatabase { named, target }))
        }
        named => Ok(named.is_some()),
    }
}

async fn restore_settings(options: &Restore, stop: &CancellationToken) -> Result<RunSettings, Error> {
    let connections =
        connections::of_target(&options.target, &options.cluster, &options.target_object, stop).await?;
    let database = connections.target.database();
    Ok(RunSettings {
        restored: Some(options.archive.clone()),
        ..load_settings(&options.load, &options.choices, options.dry_run, database, &connections)?
    })
}

async fn dump(options: &Dump, events: &Events, stop: &CancellationToken) -> Result<Ended, Error> {
    let source =
        connections::of_source(&options.source, &options.cluster, &options.source_object, stop).await?;
    let settings = DumpSettings {
        client: connections::client_search(&options.client, &[(Side::Source, &source)])?,
        source,
        archive: options.archive.clone(),
        stall: connections::STALL,
        jobs: options.jobs,
        chunk_bytes: options.chunk_size.map(|size| size * MIB),
        max_rate: options.max_rate.map(|rate| rate * MIB),
        accept_writes: options.accept_writes,
    };
    let dumped = Box::pin(run::dump(&settings, events, stop)).await;
    // A child that was told to stop has failed.
    let interrupted = |error: Error| match error.exit {
        Exit::Refused if stop.is_cancelled() => Error { exit: Exit::Interrupted, ..error },
        _ => error,
    };
    let dumped = dumped.map_err(interrupted)?;
    let line = format!(
        "{}: {} in {}; manifest.json has the SHA-256 {}",
        settings.archive.display(),
        report::bytes(dumped.content_bytes),
        report::bytes(dumped.file_bytes),
        dumped.sha256
    );
    Ok(Ended {
        exit: dumped.comparison.verdict().exit(),
        scope: Scope { as_of: Some(dumped.as_of), large_objects: dumped.large_objects },
        comparison: Some(dumped.comparison),
        lines: vec![line],
        ..Ended::default()
    })
}

async fn check_archive(path: &Path, events: &Events, stop: &CancellationToken) -> Result<Ended, Error> {
    let stage = Stage::Verify;
    let begun = Instant::now();
    let (mut done, mut is_begun) = (0, false);
    let progress = |bytes, total| {
        if !is_begun {
            events.emit(Event::StageStarted { stage, items: None, bytes: Some(total), rows: None });
            is_begun = true;
        }
        events.emit(Event::Progress { stage, lane: 0, rows: 0, bytes: bytes - done });
        done = bytes;
    };
    let check = unless_stopped(stop, archive::check(path, progress)).await?;
    let check = check.map_err(|error| {
        // What cannot be opened for another reason than its content is a wrong path.
        let exit = if error.class() == Class::Integrity { Exit::Different } else { Exit::Usage };
        Error::new(exit, error)
    })?;
    events.emit(Event::StageFinished { stage, seconds: begun.elapsed().as_secs_f64() });
    let mut lines: Vec<String> = check.defects.iter().map(|defect| format!("DAMAGED: {defect}")).collect();
    if check.further > 0 {
        lines.push(format!("and {} further defects", check.further));
    }
    let verdict = if lines.is_empty() { "as it was written" } else { "DAMAGED" };
    lines.push(format!(
        "{}: {verdict}; {} files, {} on disk, {} of content, {} rows",
        path.display(),
        check.files,
        report::bytes(check.file_bytes),
        report::bytes(check.content_bytes),
        report::number(check.rows)
    ));
    let exit = if check.defects.is_empty() { Exit::Done } else { Exit::Different };
    Ok(Ended { exit, lines, ..Ended::default() })
}

/// Where the runs of a source are kept unless the user says otherwise.
pub(super) fn run_dir(named: Option<&Path>, database: &str) -> PathBuf {
    named.map_or_else(|| Path::new(RUNS).join(database), Path::to_owned)
}

/// What the work comes to, unless it is interrupted before.
pub(super) async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::new(Exit::Interrupted, run::Interrupted)),
        done = work => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_interrupted_before_it_began_does_nothing() {
        let (events, _receiver) = Events::channel();
        let stop = CancellationToken::new();
        stop.cancel();
        let ended = check_archive(Path::new("/nowhere"), &events, &stop).await;
        assert_eq!(ended.expect_err("interrupted").exit, Exit::Interrupted);
    }
}
