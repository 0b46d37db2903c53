//! `pgmove freeze`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use super::commands::{Ended, run_dir};
use super::connections::{self, Endpoint};
use super::endpoints::{Cluster, SourceObject};
use crate::cutover::freeze::{Freeze, FreezeError, WorkloadName};
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::event::Events;
use crate::journal::{JournalError, RunDirectory};
use crate::pg::ConnInfo;
use crate::settings::FreezeSettings;
use crate::{pg, run};

pub(super) const EXAMPLES: &str = "\
Examples:
  See what would be changed; nothing is:
    pgmove freeze -n media --source sts/immich-postgres --dry-run
  Stop what is connected to the source, and what would start again and connect:
    pgmove freeze -n media --source sts/immich-postgres --workload deploy/immich-machine-learning
  The same where an application is in another namespace than its database:
    pgmove freeze -n databases --source sts/immich-postgres --workload media/deploy/immich-server
  Move under that freeze, which the run takes over in the same run directory:
    pgmove run -n media --source sts/immich-postgres --target cluster/immich-postgres --freeze
  Undo it, from this machine or another one:
    pgmove rollback -n media

What is stopped: the Deployments, StatefulSets, CronJobs and Jobs whose pods are connected to the source, and those
that --workload names. A pod in another namespace than the source's is found if the account may list the pods of the
cluster; what it may not find has to be named. Deployments and StatefulSets are scaled to zero, CronJobs and Jobs suspended; so are the Flux
Kustomizations, HelmReleases and ImageUpdateAutomations that would undo it. The source keeps running, and Flux is kept
from pruning it, its Service and its claims. Before an object is changed its former values are written to the journal
in the run directory, and with the change into the annotation pgmove/frozen on the object itself: `pgmove rollback`
needs nothing else.

An autoscaler rests by itself while its target has no replicas. Sessions whose pod is not found, or that share a node's
address, are listed; only `pgmove fence` ends those.";

/// Seconds.
pub(super) const PATIENCE: u64 = 300;

/// What `pgmove freeze` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The source, which keeps running: sts/NAME, deploy/NAME, pod/NAME, svc/NAME or cluster/NAME
    #[arg(long, value_name = "KIND/NAME", hide_env_values = true)]
    source: String,
    /// A further workload to stop: deploy/NAME, sts/NAME, cronjob/NAME or job/NAME, and NAMESPACE/ in front of it if it is not
    /// in the source's namespace; can be given several times
    #[arg(long = "workload", value_name = "[NAMESPACE/]KIND/NAME")]
    named: Vec<String>,
    /// Stop only what --workload names, and do not connect to the source to see who else is
    #[arg(long)]
    named_only: bool,
    /// Print what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up when neither pods nor sessions have ended for so long
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE, value_parser = clap::value_parser!(u64).range(1..=86400))]
    patience: u64,
    /// Where the former values are kept too, and where `pgmove run --freeze` takes the freeze over [default:
    /// pgmove-runs/<database>, with --named-only pgmove-runs/<source>]
    #[arg(long = "run-dir", value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    source_object: SourceObject,
}

/// What a run does with the applications of its source.
#[derive(Debug, Args)]
#[command(next_help_heading = "Application")]
pub(crate) struct Freezing {
    /// Stop what writes to a source in Kubernetes, and what would start it again, before the snapshot (see `pgmove freeze`)
    #[arg(long)]
    freeze: bool,
    /// A further workload to stop: deploy/NAME, sts/NAME, cronjob/NAME or job/NAME, and NAMESPACE/ in front of it if it is not
    /// in the source's namespace; can be given several times
    #[arg(long = "workload", value_name = "[NAMESPACE/]KIND/NAME")]
    named: Vec<String>,
    /// Give up the freeze when neither pods nor sessions have ended for so long
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE, value_parser = clap::value_parser!(u64).range(1..=86400))]
    patience: u64,
    /// What becomes of freeze and fence if the run does not end with 0
    #[arg(long, value_enum, default_value_t = Failing::Keep)]
    pub(super) on_failure: Failing,
}

/// What becomes of freeze and fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Failing {
    /// They stay, for a run that goes on; the way back is said
    Keep,
    /// They are undone, and the application runs on the source as before (exit code 6 in the place of 5)
    Rollback,
}

impl Freezing {
    /// What is frozen of a source, if that was asked for.
    pub(super) fn settings(&self, source: &ConnInfo) -> Result<Option<FreezeSettings>, Error> {
        settings(self.freeze, &self.named, source, self.patience)
    }
}

/// What is frozen of a source, if that was asked for.
pub(super) fn settings(
    freeze: bool,
    named: &[String],
    source: &ConnInfo,
    patience: u64,
) -> Result<Option<FreezeSettings>, Error> {
    let usage = |error| Error::new(Exit::Usage, error);
    let named = workloads(named)?;
    match (freeze, named.is_empty(), source.route()) {
        (false, true, _) => Ok(None),
        (false, false, _) => Err(usage(NotFreezing::Unasked)),
        (true, _, None) => Err(usage(NotFreezing::Elsewhere)),
        (true, _, Some(_)) => {
            let patience = Duration::from_secs(patience);
            Ok(Some(FreezeSettings { named, patience, place: connections::place() }))
        }
    }
}

/// The workloads that were named.
pub(super) fn workloads(names: &[String]) -> Result<Vec<WorkloadName>, Error> {
    let workloads: Result<_, _> = names.iter().map(|name| name.parse()).collect();
    workloads.map_err(|error| Error::new(Exit::Usage, error))
}

/// A run that cannot freeze as it was asked to.
#[derive(Debug, thiserror::Error)]
enum NotFreezing {
    /// `--workload` without `--freeze`.
    #[error("--workload names what a freeze stops, and the run was not asked to freeze")]
    Unasked,
    /// A connection string as the source.
    #[error("--freeze stops what writes to a source in Kubernetes, and the source is a connection string")]
    Elsewhere,
}

impl Fault for NotFreezing {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            NotFreezing::Unasked => "give --freeze too".into(),
            NotFreezing::Elsewhere => {
                "name the source as kubectl does (--source sts/NAME -n NAMESPACE), or stop its applications yourself and give \
                 --fence"
                    .into()
            }
        })
    }
}

/// `--named-only`, and no name.
#[derive(Debug, thiserror::Error)]
#[error("--named-only stops what --workload names, and nothing is named")]
struct NothingNamed;

impl Fault for NothingNamed {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("name each workload with --workload [NAMESPACE/]KIND/NAME".into())
    }
}

/// A connection string where only an object will do.
#[derive(Debug, thiserror::Error)]
#[error("what is frozen are objects in Kubernetes, and --source is a connection string")]
struct NotInKubernetes;

impl Fault for NotInKubernetes {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("name the object behind which the source is: sts/NAME, for instance".into())
    }
}

pub(super) async fn freeze(
    options: &Arguments,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Ended, Error> {
    let source = match Endpoint::parse(&options.source) {
        Ok(Endpoint::Object(source)) => source,
        Ok(Endpoint::ConnectionString(_)) => {
            return Err(Error::new(Exit::Usage, NotInKubernetes));
        }
        Err(error) => return Err(Error::new(Exit::Usage, error)),
    };
    let named = workloads(&options.named)?;
    if options.named_only && named.is_empty() {
        return Err(Error::new(Exit::Usage, NothingNamed));
    }
    let server = options.cluster.connect(&options.source_object.options()).await?;
    let conninfo = if options.named_only {
        None
    } else {
        Some(connections::of_object(&server, &source, &options.source_object, stop).await?)
    };
    // A run's is called after the database too, and takes the freeze over that it finds there.
    let name = conninfo.as_ref().map_or(&*source.name, |conninfo| conninfo.database());
    let path = run_dir(options.directory.as_deref(), name);
    let mut journal = if options.dry_run { None } else { Some(open(&path)?) };
    let records = journal.as_ref().map(RunDirectory::records).unwrap_or_default();
    let run = run::run_of(records).unwrap_or_else(run::new_run_id);
    let endpoint = conninfo.map(|conninfo| {
        let application_name = format!("pgmove {run}");
        pg::Endpoint { side: Side::Source, conninfo, application_name, copy_encoding: None }
    });
    let frozen = Freeze { namespace: server.namespace().to_owned(), server, source, endpoint, named, run };
    let plan = frozen.plan(records).await.map_err(|error| Error::new(Exit::Refused, error))?;
    let Some(journal) = journal.as_mut().filter(|_| plan.obstacles.is_empty()) else {
        let exit = if plan.obstacles.is_empty() { Exit::Done } else { Exit::Refused };
        return Ok(Ended { exit, freeze: Some(plan), ..Ended::default() });
    };
    let patience = Duration::from_secs(options.patience);
    let held = frozen.hold(&plan, journal, &connections::place(), patience, events, stop).await;
    held.map_err(failed)?.leave().await.map_err(failed)?;
    let lines = vec![format!(
        "frozen; put it back with: pgmove rollback -n {}; or: pgmove rollback --run-dir {}",
        frozen.namespace,
        path.display()
    )];
    Ok(Ended { freeze: Some(plan), lines, ..Ended::default() })
}

fn open(path: &std::path::Path) -> Result<RunDirectory, Error> {
    let journal = match RunDirectory::create(path) {
        Err(JournalError::Exists(_)) => RunDirectory::open(path),
        other => other,
    };
    journal.map_err(|error| Error::new(Exit::Usage, error))
}

fn failed(error: FreezeError) -> Error {
    Error::new(error.exit(), error)
}
