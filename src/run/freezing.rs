//! The run's own freeze of what writes to the source, and the way back.

use std::path::Path;
use std::time::Duration;

use super::{Context, Outcome, Source, resume};
use crate::cutover::freeze::{self, Freeze, FreezePlan, Frozen};
use crate::cutover::lease::Holder;
use crate::cutover::rollback::{Restoration, Rollback, RollbackError};
use crate::error::{Class, Error, Exit, Fault};
use crate::journal::{self, Record, RunDirectory};
use crate::kubernetes::Route;
use crate::settings::{FreezeSettings, OnFailure};

/// How long pods and sessions are waited for where nothing is said.
const PATIENCE: Duration = Duration::from_secs(300);

/// A freeze of an earlier process, and a source that leads to no cluster.
#[derive(Debug, thiserror::Error)]
#[error("the run has frozen objects in Kubernetes, and this time its source is not named as one")]
struct NoObject;

impl Fault for NoObject {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("name the source as when the run began: --source sts/NAME, for instance".into())
    }
}

/// Not everything of a freeze could be put back.
#[derive(Debug, thiserror::Error)]
#[error("not everything that was frozen is as it was: {}", .0.join("; "))]
struct NotThawed(Vec<String>);

impl Fault for NotThawed {
    fn class(&self) -> Class {
        Class::Cluster
    }

    fn hint(&self) -> Option<String> {
        Some("pgmove rollback with the same --run-dir tries again, and lists every field".into())
    }
}

/// The run that is to take over the freeze that `pgmove freeze` has made in a run directory, if there is one.
pub(super) fn frozen_before(path: &Path) -> Option<String> {
    let records = journal::read(path).ok()?;
    let has_begun = records.iter().any(|record| matches!(record, Record::Started { .. }));
    resume::run_of(&records).filter(|_| !has_begun)
}

impl Context<'_> {
    /// What is to be frozen.
    pub(super) fn freezing(&self, settings: &FreezeSettings) -> Freeze {
        let endpoint = self.source.server();
        let route = self.route().expect("only a source in Kubernetes is frozen");
        Freeze {
            server: route.server.clone(),
            namespace: route.namespace.clone(),
            source: route.object.clone(),
            endpoint: Some(endpoint.clone()),
            named: settings.named.clone(),
            run: self.run.clone(),
        }
    }

    /// What a run would freeze; nothing is changed.
    pub(super) async fn freeze_plan(&self) -> Result<Option<FreezePlan>, Error> {
        let Some(settings) = &self.settings.freeze else { return Ok(None) };
        let plan = self.freezing(settings).plan(&[]).await;
        plan.map(Some).map_err(|error| Error::new(Exit::Refused, error))
    }

    /// Whether the API server would let the run make every change.
    pub(super) async fn rehearse_freeze(&self, plan: &FreezePlan) -> Result<(), Error> {
        let Some(settings) = self.settings.freeze.as_ref().filter(|_| plan.obstacles.is_empty()) else {
            return Ok(());
        };
        let rehearsed = self.freezing(settings).rehearse(plan).await;
        rehearsed.map_err(|error| Error::new(Exit::Refused, error))
    }

    /// Freezes, if that was asked for, now or when the run began.
    pub(super) async fn freeze(&self, directory: &mut RunDirectory) -> Result<Option<Frozen>, Error> {
        let begun = !freeze::recorded(resume::own(directory.records())).is_empty();
        let Some(settings) = self.settings.freeze.clone().or_else(|| begun.then(again)) else {
            return Ok(None);
        };
        if self.route().is_none() {
            return Err(Error::new(Exit::Usage, NoObject));
        }
        let freeze = self.freezing(&settings);
        let freezing = async {
            let plan = freeze.plan(directory.records()).await?;
            for note in &plan.notes {
                self.events.warn(note.clone());
            }
            // What `pgmove freeze` has frozen in this directory is the run's own from here on.
            let before = freeze::recorded(directory.records());
            let own = freeze::recorded(resume::own(directory.records()));
            for change in &plan.changes {
                if before.contains(&change.object) && !own.contains(&change.object) {
                    directory.append(Record::Freezing { run: self.run.clone(), change: change.clone() })?;
                }
            }
            freeze.hold(&plan, directory, &settings.place, settings.patience, &self.events, self.stop).await
        };
        Box::pin(freezing).await.map(Some).map_err(|error| Error::new(error.exit(), error))
    }

    /// Ends the watch of a freeze; what it saw is why the work was stopped.
    pub(super) async fn watched<T>(
        &self,
        frozen: Option<Frozen>,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(frozen) = frozen else { return outcome };
        let broken = frozen.broken();
        frozen.give_up().await;
        match (broken, outcome) {
            (Some(error), Ok(_) | Err(Error { exit: Exit::Interrupted | Exit::Resumable, .. })) => {
                Err(Error::new(error.exit(), error))
            }
            (_, outcome) => outcome,
        }
    }

    /// What a refused run leaves is what was there before it: its own fence and freeze are undone, earlier ones stay, unless
    /// it was asked to go back. What is not undone is told; gives whether all is.
    pub(super) async fn back_out(&self, directory: &mut RunDirectory) -> bool {
        let Err(error) = self.undo(directory).await else { return true };
        let told = error.chain().join(": ");
        let hint = error.fault.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        self.events.warn(format!("not everything is as it was before the run: {told}{hint}"));
        false
    }

    /// The way to the source's object in Kubernetes, if it is named as one.
    pub(super) fn route(&self) -> Option<&Route> {
        match &self.source {
            Source::Server(endpoint) => endpoint.conninfo.route().map(AsRef::as_ref),
            Source::Archive(_) => None,
        }
    }

    async fn undo(&self, directory: &mut RunDirectory) -> Result<(), Error> {
        let records = directory.records();
        let standing = freeze::recorded(resume::own(records));
        let known = match self.settings.on_failure {
            OnFailure::Keep => resume::frozen_itself(records),
            OnFailure::Rollback => standing.clone(),
        };
        if known.is_empty() {
            return self.lift_fence(directory).await;
        }
        let kept: Vec<_> = standing.into_iter().filter(|object| !known.contains(object)).collect();
        let Some(route) = self.route() else { return Err(Error::new(Exit::Usage, NoObject)) };
        let place = self.settings.freeze.clone().unwrap_or_else(again).place;
        let rollback = Rollback {
            server: route.server.clone(),
            namespaces: vec![],
            known,
            kept: kept.clone(),
            run: Some(self.run.clone()),
            holder: Holder { run: self.run.clone(), place },
        };
        // Under the Lease, so that nothing is unfenced under another run; and before the application comes back, whose
        // sessions would go on refusing writes.
        let lifting = async |journal: Option<&mut RunDirectory>| match journal {
            Some(directory) => self.lift_fence(directory).await.map_err(NotUndone::Fence),
            None => Ok(()),
        };
        let found = Box::pin(rollback.run_after(Some(directory), &self.events, lifting)).await;
        let found = found.map_err(|error| match error {
            NotUndone::Fence(error) => error,
            NotUndone::Freeze(error) => Error::new(Exit::Resumable, error),
        })?;
        if !found.is_complete() {
            return Err(Error::new(Exit::Resumable, NotThawed(left(&found))));
        }
        self.events.warn(if kept.is_empty() {
            "what was frozen is put back: the application runs on the source as before"
        } else {
            "what the run itself has frozen is put back"
        });
        Ok(())
    }

    /// Goes the way back after a failure, if that was asked for. After a verdict of an earlier process the application may be
    /// on the target already; and where the endpoints are not the run's, nothing of theirs is touched.
    pub(super) async fn go_back(
        &self,
        directory: &mut RunDirectory,
        outcome: Result<Outcome, Error>,
    ) -> Result<Outcome, Error> {
        let records = directory.records();
        let is_over =
            resume::standing_verdict(records).is_some() && !matches!(outcome, Ok(Outcome::Moved { .. }));
        let is_elsewhere = matches!(outcome, Err(Error { exit: Exit::Usage, .. }));
        if self.settings.on_failure == OnFailure::Keep
            || is_proven(&outcome)
            || is_over
            || is_elsewhere
            || !resume::keeps_away(records)
        {
            return outcome;
        }
        match (self.back_out(directory).await, outcome) {
            (true, Err(error)) if error.exit == Exit::Resumable => {
                Err(Error { exit: Exit::RolledBack, ..error })
            }
            (_, outcome) => outcome,
        }
    }

    /// Freeze and fence stay for a run that goes on, and after a proven move until the cutover; somebody must know of them.
    pub(super) fn say_what_stands(&self, directory: &RunDirectory) {
        let way = self.route().map(cluster).unwrap_or_default();
        for line in what_stands(directory.records(), directory.path(), &way) {
            self.events.warn(line);
        }
    }
}

/// What a run, or a freeze before it, has changed outside its directory, with the way back. `way` are the options that lead
/// to the cluster.
fn what_stands(records: &[Record], path: &Path, way: &str) -> Vec<String> {
    let path = path.display();
    let frozen = !freeze::recorded(records).is_empty();
    let frozen = frozen.then(|| format!("the application is frozen still; to let it run on the source again: pgmove rollback{way} --run-dir {path}"));
    let fenced = resume::is_fenced(records).then(|| {
        format!("the source is fenced still and refuses writes; to lift the fence: pgmove unfence --source SOURCE --run-dir {path}")
    });
    fenced.into_iter().chain(frozen).collect()
}

/// A run that its journal tells of, seen from outside.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The source and the target, without secrets.
    pub(crate) endpoints: [String; 2],
    /// Whether something that it has changed outside its directory still stands.
    pub(crate) has_written: bool,
    /// What does, with the way back.
    pub(crate) standing: Vec<String>,
}

/// The run in a directory, if there is one; `way` are the options that lead to the cluster.
pub(crate) fn begun(path: &Path, way: &str) -> Option<Begun> {
    let records = journal::read(path).ok()?;
    let endpoints = records.iter().rev().find_map(|record| match record {
        Record::Started { source, target, .. } => Some([source.clone(), target.clone()]),
        _ => None,
    })?;
    let has_written = resume::has_written(&records) || resume::keeps_away(&records);
    Some(Begun { endpoints, has_written, standing: what_stands(&records, path, way) })
}

fn is_proven(outcome: &Result<Outcome, Error>) -> bool {
    match outcome {
        Ok(Outcome::Moved { comparison, .. }) => comparison.verdict().exit() == Exit::Done,
        Ok(Outcome::Cleared { exit, .. }) => *exit == Exit::Done,
        Ok(Outcome::Planned { .. }) => true,
        Ok(Outcome::Refused(_) | Outcome::Stopped(_)) | Err(_) => false,
    }
}

/// Why a run was not undone.
enum NotUndone {
    Fence(Error),
    Freeze(RollbackError),
}

impl From<RollbackError> for NotUndone {
    fn from(error: RollbackError) -> NotUndone {
        NotUndone::Freeze(error)
    }
}

/// The options that lead to the cluster of the source.
fn cluster(route: &Route) -> String {
    way(route.server.context(), Some(&route.namespace))
}

/// The options that lead to a namespace of a cluster.
pub(crate) fn way(context: Option<&str>, namespace: Option<&str>) -> String {
    let context = context.map(|context| format!(" --context {context}")).unwrap_or_default();
    let namespace = namespace.map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    context + &namespace
}

/// A freeze that an earlier process of the run has made, taken up again.
fn again() -> FreezeSettings {
    FreezeSettings {
        named: vec![],
        patience: PATIENCE,
        place: format!("(resumed, process {})", std::process::id()),
    }
}

/// What a rollback could not put back, an entry each.
fn left(found: &Restoration) -> Vec<String> {
    let gone = found.gone.iter().map(|object| format!("{object} is gone"));
    let failed = found.failed.iter().map(|failed| format!("{}: {}", failed.object, failed.reason));
    let kept = found.restored.iter().filter(|restored| !restored.left.is_empty());
    let kept = kept.map(|restored| format!("{} was changed by others since", restored.object));
    gone.chain(failed).chain(found.unsearched.iter().cloned()).chain(kept).collect()
}
