//! `pgmove plan`, and the plan that `pgmove run` keeps to.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::arguments::{Choices, Lanes};
use super::commands::{Ended, Failed, MIB, replaces, run_dir};
use super::endpoints::Endpoints;
use super::{connections, freeze};
use crate::error::{Class, Error, Exit, Fault};
use crate::event::Events;
use crate::plan::document::{self, Document};
use crate::report::files;
use crate::settings::{GivenChoices, RunSettings};

/// What `pgmove plan` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write the plan into this file too, as JSON, for `pgmove run --plan`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Plan for a target database that is emptied first; DATABASE must be its name
    #[arg(long, value_name = "DATABASE")]
    replace: Option<String>,
    /// Also tell what a run with --freeze would stop
    #[arg(long)]
    freeze: bool,
    /// A further workload that --freeze will stop: deploy/NAME, sts/NAME, cronjob/NAME or job/NAME, and NAMESPACE/ in front of
    /// it if it is not in the source's namespace
    #[arg(long = "workload", value_name = "[NAMESPACE/]KIND/NAME")]
    named: Vec<String>,
    #[command(flatten)]
    lanes: Lanes,
    /// Split tables into chunks of about this size [default: from size and jobs]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    chunk_size: Option<u64>,
    #[command(flatten)]
    endpoints: Endpoints,
    #[command(flatten)]
    choices: Choices,
}

/// A plan's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {}", .path.display())]
struct Unusable<E: std::error::Error + 'static> {
    action: &'static str,
    path: PathBuf,
    source: E,
}

impl Fault for Unusable<std::io::Error> {
    fn class(&self) -> Class {
        Class::Environment
    }
}

impl Fault for Unusable<document::DocumentError> {
    fn class(&self) -> Class {
        self.source.class()
    }

    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

pub(super) async fn plan(
    options: &Arguments,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Ended, Failed> {
    let connections = connections::of(&options.endpoints, stop).await?;
    let source = connections.source.as_ref().expect("a plan has a source");
    let run_dir = run_dir(None, source.database());
    let settings = RunSettings {
        choices: connections::choices(&options.choices),
        dry_run: true,
        replace: replaces(options.replace.as_deref(), &connections.target)?,
        freeze: freeze::settings(options.freeze, &options.named, source, freeze::PATIENCE)?,
        jobs: options.lanes.jobs,
        chunk_bytes: options.chunk_size.map(|size| size * MIB),
        index_memory: options.lanes.index_memory(),
        ..RunSettings::new(connections, run_dir)
    };
    let mut ended = super::commands::run(&settings, events, stop).await?;
    if let (Some(path), Some(document)) = (&options.save, &ended.plan) {
        write(path, document).map_err(|source| {
            Error::new(Exit::Usage, Unusable { action: "write the plan to", path: path.clone(), source })
        })?;
        ended
            .lines
            .push(format!("the plan is in {0}; carry it out with: pgmove run --plan {0} …", path.display()));
    }
    Ok(ended)
}

fn write(path: &Path, document: &Document) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(std::io::ErrorKind::IsADirectory)?;
    files::write(directory, &name.to_string_lossy(), document.text().as_bytes(), true)
}

/// The settings of a run that keeps to the plan in a file.
pub(super) fn keeping_to(settings: RunSettings, path: &Path) -> Result<RunSettings, Error> {
    let path = path.to_owned();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(Error::new(Exit::Usage, Unusable { action: "read", path, source })),
    };
    let document = document::read(&text)
        .map_err(|source| Error::new(Exit::Usage, Unusable { action: "go by the plan in", path, source }))?;
    Ok(RunSettings {
        choices: GivenChoices {
            owner: document.choices.owner.clone(),
            vector_index: Some(document.choices.vector_index),
        },
        jobs: Some(document.plan.jobs),
        chunk_bytes: document.chunk_bytes,
        index_memory: Some(document.plan.index_memory),
        given_plan: Some(document.into()),
        ..settings
    })
}
