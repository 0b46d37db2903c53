//! `pgmove check`.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::arguments::Choices;
use super::commands::{Ended, MIB, replaces, run_dir, unless_stopped};
use super::endpoints::Endpoints;
use super::{connections, freeze, help, rights};
use crate::error::{Error, Exit};
use crate::event::Events;
use crate::preflight;
use crate::run;
use crate::settings::RunSettings;
use crate::survey::Options;

pub(super) const EXAMPLES: &str = help::with_passwords!(
    "\
Examples:
  See days before the window what stands in the way of a move; nothing is written on either side:
    pgmove check --source postgres://immich@old/immich --target postgres://app@new/app
  The same as the move will be, into a server of 4 GiB:
    pgmove check --source … --target … --target-admin … --fence --memory-limit 4096
  Ask in a script what is blocking (exit code 3 if something is):
    pgmove check --source … --target … --output json | jq -r '.result.findings[]? | select(.severity == \"blocking\") | .id'
  Read every row of the source, and try every definition on the target, once before the window:
    pgmove check --source … --target … --target-admin … --deep

Findings are blocking (a run would be refused, or fail), warnings, or notes; docs/findings.md explains
each. All tables of the source are locked in ACCESS SHARE mode for some seconds, as by pg_dump, and
embeddings of pgvecto.rs are read row by row. With --deep every table is read twice, and the target's
server gets a database pgmove_… for some seconds; nothing else is written on either side."
);

/// What `pgmove check` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Also read every table through, for rows that cannot be read and for duplicates that unique keys hide, and try
    /// every definition in a scratch database of the target, which is dropped again (needs --target-admin)
    #[arg(long)]
    deep: bool,
    /// Check for a run with --freeze
    #[arg(long)]
    freeze: bool,
    /// A further workload that --freeze will stop: deploy/NAME, sts/NAME, cronjob/NAME or job/NAME, and NAMESPACE/ in front of
    /// it if it is not in the source's namespace
    #[arg(long = "workload", value_name = "[NAMESPACE/]KIND/NAME")]
    named: Vec<String>,
    /// Check for a run with --fence
    #[arg(long)]
    fence: bool,
    /// Check for a run with --replace; DATABASE must be the target's name
    #[arg(long, value_name = "DATABASE")]
    replace: Option<String>,
    /// How many lanes the run will have [default: from the servers and this machine]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// The run's memory for all index builds that run at once, on the target [default: 1024 or the server's setting]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    index_memory: Option<u64>,
    /// Memory that the target's server has (its pod's limit); index builds are held against it [default: not known]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=16_777_216))]
    memory_limit: Option<u64>,
    #[command(flatten)]
    endpoints: Endpoints,
    #[command(flatten)]
    choices: Choices,
}

pub(super) async fn check(
    options: &Arguments,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let lacking =
        unless_stopped(stop, Box::pin(rights::lacking(&options.endpoints, options.freeze))).await??;
    let missing = preflight::kubernetes::rights(&lacking.missing);
    if lacking.is_in_the_way {
        return Ok(Ended { exit: Exit::Refused, findings: missing, ..Ended::default() });
    }
    let connections = connections::of(&options.endpoints, stop).await?;
    let source = connections.source.as_ref().expect("a check has a source");
    let run_dir = run_dir(None, source.database());
    let settings = RunSettings {
        choices: connections::choices(&options.choices),
        dry_run: true,
        replace: replaces(options.replace.as_deref(), &connections.target)?,
        freeze: freeze::settings(options.freeze, &options.named, source, freeze::PATIENCE)?,
        fence: options.fence,
        jobs: options.jobs,
        index_memory: options.index_memory.map(|size| size * MIB),
        ..RunSettings::new(connections, run_dir)
    };
    let asked = Options { memory_limit: options.memory_limit.map(|size| size * MIB), is_deep: options.deep };
    let surveyed = run::survey(&settings, asked, events, stop).await?;
    let mut findings = [missing, surveyed.findings].concat();
    preflight::sort(&mut findings);
    let exit = if preflight::is_refused(&findings) { Exit::Refused } else { Exit::Done };
    Ok(Ended { exit, findings, survey: Some(surveyed.summary), ..Ended::default() })
}
