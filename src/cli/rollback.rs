//! `pgmove rollback`.

use std::path::PathBuf;

use clap::Args;

use super::commands::Ended;
use super::connections;
use super::endpoints::{Cluster, KUBERNETES, ObjectOptions};
use crate::cutover::fence;
use crate::cutover::freeze::{recorded, recorded_run};
use crate::cutover::lease::Holder;
use crate::cutover::rollback::{Rollback, RollbackError};
use crate::error::{Class, Error, Exit, Fault};
use crate::event::Events;
use crate::journal::{Record, RunDirectory};
use crate::run;

pub(super) const EXAMPLES: &str = "\
Examples:
  Put back what a freeze in this namespace has changed, from any machine:
    pgmove rollback -n media
  By the journal of the freeze, which knows every object:
    pgmove rollback --run-dir pgmove-runs/immich

Each object says in its annotation pgmove/frozen what it was before. A field that somebody has set to something else
since then keeps that value, and is listed with who set it. Refused while a run that freezes works on the
source. A fence of the source is lifted by `pgmove unfence`, before this.

Exit code 8 means that something was left as it is, or that neither a lease in the namespace
nor a journal told where all of it is; 5, that something could not be put back: roll back again.";

/// What `pgmove rollback` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run directory of the freeze
    #[arg(long = "run-dir", value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    source: SourcePlace,
}

/// Where the source's objects are, of which the freeze was.
#[derive(Debug, Args)]
#[command(next_help_heading = KUBERNETES)]
struct SourcePlace {
    /// The namespace of the source [default: that of --namespace]
    #[arg(id = "source_namespace", long = "source-namespace", value_name = "NAME")]
    namespace: Option<String>,
    /// The context of the kubeconfig for the source [default: that of --context]
    #[arg(id = "source_context", long = "source-context", value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig for the source [default: that of --kubeconfig]
    #[arg(id = "source_kubeconfig", long = "source-kubeconfig", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl SourcePlace {
    fn options(&self) -> ObjectOptions<'_> {
        ObjectOptions {
            namespace: self.namespace.as_deref(),
            context: self.context.as_deref(),
            kubeconfig: self.kubeconfig.as_deref(),
            ..ObjectOptions::default()
        }
    }
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
    let namespace = options.source.namespace.as_ref().or(options.cluster.namespace.as_ref());
    if options.directory.is_none() && namespace.is_none() {
        return Err(Error::new(Exit::Usage, Nowhere));
    }
    let server = options.cluster.connect(&options.source.options()).await?;
    let journal = options.directory.as_deref().map(RunDirectory::open).transpose();
    let mut journal = journal.map_err(|error| Error::new(Exit::Usage, error))?;
    let records = journal.as_ref().map(RunDirectory::records).unwrap_or_default();
    let recorded_run = recorded_run(records).map(str::to_owned);
    let rollback = Rollback {
        namespaces: namespace.cloned().into_iter().collect(),
        known: recorded(records),
        kept: vec![],
        holder: Holder {
            run: recorded_run.clone().unwrap_or_else(run::new_run_id),
            place: connections::place(),
        },
        run: recorded_run,
        server,
    };
    let is_fenced = is_fenced(records);
    let found = rollback.run(journal.as_mut(), events).await;
    let found = found.map_err(|error| {
        let is_elsewhere = matches!(error, RollbackError::Elsewhere { .. });
        Error::new(if is_elsewhere { Exit::Usage } else { Exit::Resumable }, error)
    })?;
    let exit = match (found.failed.is_empty(), found.is_complete()) {
        (_, true) => Exit::Done,
        (true, false) => Exit::NotAllCompared,
        (false, false) => Exit::Resumable,
    };
    let line = match &options.directory {
        Some(directory) => is_fenced.then(|| {
            let lift = "to lift the fence: pgmove unfence --source SOURCE --run-dir";
            format!("the source is fenced still and refuses writes; {lift} {}", directory.display())
        }),
        None => (!found.restored.is_empty()).then(|| {
            "if the run has fenced the source too, it refuses writes still; to lift the fence: pgmove unfence --source SOURCE"
                .to_owned()
        }),
    };
    Ok(Ended { exit, restoration: Some(found), lines: line.into_iter().collect(), ..Ended::default() })
}

/// Whether the journal tells of a fence that was not lifted; lifting it takes the source's login, which no journal holds.
fn is_fenced(records: &[Record]) -> bool {
    records.iter().any(|record| match record {
        Record::Fence { database, .. } => fence::recorded(records, database).is_some(),
        _ => false,
    })
}
