//! Each command: its settings from its arguments, and what it came to.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::arguments::{Command, Fence, Run, Verify};
use super::connections;
use crate::cutover::fence;
use crate::error::{Error, Exit, Side};
use crate::event::Events;
use crate::journal::RunDirectory;
use crate::pg::{ConnInfo, Endpoint};
use crate::plan::Plan;
use crate::preflight::Finding;
use crate::report::Scope;
use crate::run;
use crate::settings::RunSettings;
use crate::verify::read::Method;
use crate::verify::subjects::Reading;
use crate::verify::{self, Comparison, VerifyError};

/// How a command ended without an error.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) findings: Vec<Finding>,
    pub(super) plan: Option<Plan>,
    pub(super) comparison: Option<Comparison>,
    pub(super) scope: Scope,
    /// Further results, a line each.
    pub(super) lines: Vec<String>,
}

pub(super) async fn dispatch(
    command: &Command,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    match command {
        Command::Run(options) => run(options, events, stop).await,
        Command::Verify(options) => verify_both(options, events, stop).await,
        Command::Fence(options) => fence_source(options).await,
        Command::Unfence(options) => unfence_source(options).await,
    }
}

async fn run(options: &Run, events: &Events, stop: &CancellationToken) -> Result<Ended, Error> {
    let settings = run_settings(options)?;
    Ok(match Box::pin(run::run(&settings, events, stop)).await? {
        run::Outcome::Refused(findings) => Ended { exit: Exit::Refused, findings, ..Ended::default() },
        run::Outcome::Planned { plan, findings, digests } => Ended {
            findings,
            plan: Some(*plan),
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
    })
}

async fn verify_both(options: &Verify, events: &Events, stop: &CancellationToken) -> Result<Ended, Error> {
    let connections = connections::of(&options.endpoints)?;
    let (source, target) = (
        connections.endpoint(Side::Source, "pgmove verify"),
        connections.endpoint(Side::Target, "pgmove verify"),
    );
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let choices = connections::choices(&options.choices);
    let scratch = std::env::temp_dir().join(format!("pgmove-verify-{}", std::process::id()));
    let is_made = std::fs::DirBuilder::new().mode(0o700).create(&scratch).is_ok();
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
        owner: choices.owner,
        vector_index: choices.vector_index,
        clients: is_made.then(|| (connections.client.clone(), scratch.clone())),
    };
    let comparison = Box::pin(verify::verify(&source, &target, &asked)).await;
    if is_made {
        // Two dumps of schemas; what stays of them in the system's temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&scratch);
    }
    let comparison = comparison.map_err(|error| match error {
        VerifyError::Interrupted => Error::new(Exit::Interrupted, error),
        error => Error::new(Exit::Refused, error),
    })?;
    let scope = Scope { as_of: Some(jiff::Timestamp::now()), ..Scope::default() };
    Ok(Ended { exit: comparison.verdict().exit(), comparison: Some(comparison), scope, ..Ended::default() })
}

fn run_settings(options: &Run) -> Result<RunSettings, Error> {
    const MIB: u64 = 1024 * 1024;
    let connections = connections::of(&options.endpoints)?;
    Ok(RunSettings {
        run_dir: run_dir(options.directory.as_deref(), &connections.source),
        choices: connections::choices(&options.choices),
        connections,
        dry_run: options.dry_run,
        digests: options.digests,
        resume: options.resume,
        fence: options.fence,
        jobs: options.jobs,
        chunk_bytes: options.chunk_size.map(|size| size * MIB),
        index_memory: options.index_memory.map(|size| size * MIB),
        accept_writes: options.accept_writes,
        keep_ledger: options.keep_ledger,
    })
}

/// Where the runs of a source are kept unless the user says otherwise.
fn run_dir(named: Option<&Path>, source: &ConnInfo) -> PathBuf {
    named.map_or_else(|| Path::new("pgmove-runs").join(source.database()), Path::to_owned)
}

fn source_endpoint(options: &Fence) -> Result<(Endpoint, PathBuf), Error> {
    let conninfo = connections::conninfo(&options.source, "source", "PGMOVE_SOURCE_PASSWORD")?;
    let directory = run_dir(options.directory.as_deref(), &conninfo);
    let application_name = "pgmove fence".to_owned();
    Ok((Endpoint { side: Side::Source, conninfo, application_name, copy_encoding: None }, directory))
}

async fn fence_source(options: &Fence) -> Result<Ended, Error> {
    let (endpoint, path) = source_endpoint(options)?;
    let journal = RunDirectory::create(&path).or_else(|_| RunDirectory::open(&path));
    let mut journal = journal.map_err(|error| Error::new(Exit::Usage, error))?;
    let survivors =
        fence::fence(&endpoint, &mut journal).await.map_err(|error| Error::new(Exit::Resumable, error))?;
    let mut lines = vec![format!(
        "{} refuses writes by default; lift it with: pgmove unfence --source ... --run-dir {}",
        endpoint.conninfo,
        path.display()
    )];
    lines.extend(survivors.iter().map(|survivor| {
        format!(
            "still connected, and able to write: process {} of role {} ({})",
            survivor.pid, survivor.role, survivor.application_name
        )
    }));
    let exit = if survivors.is_empty() { Exit::Done } else { Exit::NotAllCompared };
    Ok(Ended { exit, lines, ..Ended::default() })
}

async fn unfence_source(options: &Fence) -> Result<Ended, Error> {
    let (endpoint, path) = source_endpoint(options)?;
    let mut journal = RunDirectory::open(&path).ok();
    let is_recorded = fence::unfence(&endpoint, journal.as_mut())
        .await
        .map_err(|error| Error::new(Exit::Resumable, error))?;
    let line = if is_recorded {
        format!("{} accepts writes as before the fence", endpoint.conninfo)
    } else {
        format!("{}: no fence is recorded in {}; the setting was removed", endpoint.conninfo, path.display())
    };
    Ok(Ended { lines: vec![line], ..Ended::default() })
}
