//! `pgmove rehearse`.

use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::arguments::{Choices, Lanes};
use super::commands::{Ended, Failed, MIB, ended, run_dir};
use super::connections;
use super::endpoints::Endpoints;
use crate::event::Events;
use crate::report::{self, Again};
use crate::run;
use crate::settings::RunSettings;

/// What `pgmove rehearse` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where the report of the rehearsal is kept [default: pgmove-runs/<database>-rehearsal]
    #[arg(long = "run-dir", value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    lanes: Lanes,
    /// Split tables into chunks of about this size [default: from size and jobs]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    chunk_size: Option<u64>,
    /// Read no more than this from the source in a second, on all lanes together [default: no limit]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    max_rate: Option<u64>,
    #[command(flatten)]
    endpoints: Endpoints,
    #[command(flatten)]
    choices: Choices,
}

pub(super) async fn rehearse(
    options: &Arguments,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Ended, Failed> {
    let connections = connections::of(&options.endpoints, stop).await?;
    let source = connections.source.as_ref().expect("a rehearsal has a source");
    let beside = || run::rehearse::directory_beside(&run_dir(None, source.database()));
    let run_dir = options.directory.clone().unwrap_or_else(beside);
    let settings = RunSettings {
        choices: connections::choices(&options.choices),
        jobs: options.lanes.jobs,
        chunk_bytes: options.chunk_size.map(|size| size * MIB),
        index_memory: options.lanes.index_memory(),
        accept_writes: true,
        max_rate: options.max_rate.map(|rate| rate * MIB),
        ..RunSettings::new(connections, run_dir)
    };
    let again = Again::Anew(report::REHEARSE_AGAIN);
    let rehearsed = Box::pin(run::rehearse(&settings, events, stop)).await;
    let (outcome, rehearsal) = rehearsed.map_err(|error| Failed { error, again })?;
    Ok(Ended { rehearsal, ..ended(outcome) })
}
