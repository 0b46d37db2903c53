//! `pgmove rollback`.

use std::path::PathBuf;

use clap::Args;

use super::commands::Ended;
use super::connections;
use super::endpoints::{Cluster, ObjectOptions};
use crate::cutover::freeze::{recorded, recorded_run};
use crate::cutover::lease::Holder;
use crate::cutover::rollback::Rollback;
use crate::error::{Class, Error, Exit, Fault};
use crate::event::Events;
use crate::journal::RunDirectory;
use crate::run;

pub(super) const EXAMPLES: &str = "\
Examples:
  Put back what a freeze in this namespace has changed, from any machine:
    pgmove rollback -n media
  By the journal of the freeze, which knows every object:
    pgmove rollback --run-dir pgmove-runs/immich-postgres

Each object says in its annotation pgmove/frozen what it was before. A field that somebody has set to something else
since then keeps that value, and is listed with who set it. Refused while a run works on the source. A fence of the
source is lifted by `pgmove unfence`.

Exit code 8 means that something was left as it is; 5, that something could not be put back: roll back again.";

/// What `pgmove rollback` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run directory of the freeze
    #[arg(long = "run-dir", value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
}

/// Where to look was not said.
#[derive(Debug, thiserror::Error)]
#[error("nothing says which freeze is to be put back")]
struct Nowhere;

impl Fault for Nowhere {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("name the namespace with -n, or the freeze's run directory with --run-dir".into())
    }
}

pub(super) async fn rollback(options: &Arguments, events: &Events) -> Result<Ended, Error> {
    if options.directory.is_none() && options.cluster.namespace.is_none() {
        return Err(Error::new(Exit::Usage, Nowhere));
    }
    let server = options.cluster.connect(&ObjectOptions::default()).await?;
    let journal = options.directory.as_deref().map(RunDirectory::open).transpose();
    let mut journal = journal.map_err(|error| Error::new(Exit::Usage, error))?;
    let records = journal.as_ref().map(RunDirectory::records).unwrap_or_default();
    let recorded_run = recorded_run(records).map(str::to_owned);
    let rollback = Rollback {
        namespaces: options.cluster.namespace.clone().into_iter().collect(),
        known: recorded(records),
        holder: Holder {
            run: recorded_run.clone().unwrap_or_else(run::new_run_id),
            place: connections::place(),
        },
        run: recorded_run,
        server,
    };
    let found = rollback.run(journal.as_mut(), events).await;
    let found = found.map_err(|error| Error::new(Exit::Resumable, error))?;
    let exit = match (found.failed.is_empty(), found.is_complete()) {
        (_, true) => Exit::Done,
        (true, false) => Exit::NotAllCompared,
        (false, false) => Exit::Resumable,
    };
    Ok(Ended { exit, restoration: Some(found), ..Ended::default() })
}
