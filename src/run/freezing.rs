//! The run's own freeze of what writes to the source, and the way back.

use super::{Context, Outcome, resume};
use crate::cutover::freeze::{self, Freeze, FreezePlan, Frozen};
use crate::cutover::lease::Holder;
use crate::cutover::rollback::{Restoration, Rollback};
use crate::error::{Class, Error, Exit, Fault};
use crate::journal::RunDirectory;
use crate::settings::{FreezeSettings, OnFailure};

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

impl Context<'_> {
    /// What is to be frozen, if anything is.
    fn freezing(&self, settings: &FreezeSettings) -> Freeze {
        let endpoint = self.source.server();
        let route = endpoint.conninfo.route().expect("only a source in Kubernetes is frozen");
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

    /// Freezes, if that was asked for.
    pub(super) async fn freeze(&self, directory: &mut RunDirectory) -> Result<Option<Frozen>, Error> {
        let Some(settings) = &self.settings.freeze else { return Ok(None) };
        let freeze = self.freezing(settings);
        let freezing = async {
            let plan = freeze.plan(directory.records()).await?;
            for note in &plan.notes {
                self.events.warn(note.clone());
            }
            freeze.hold(&plan, directory, &settings.place, settings.patience, &self.events, self.stop).await
        };
        Box::pin(freezing).await.map(Some).map_err(|error| Error::new(error.exit(), error))
    }

    /// Ends the watch of a freeze; what it saw is why the work has ended.
    pub(super) async fn watched<T>(
        &self,
        frozen: Option<Frozen>,
        outcome: Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(frozen) = frozen else { return outcome };
        let broken = frozen.broken();
        frozen.give_up().await;
        match broken {
            Some(error) => Err(Error::new(error.exit(), error)),
            None => outcome,
        }
    }

    /// What a refused run leaves is what was there before it: its own fence and freeze are undone, earlier ones stay.
    pub(super) async fn back_out(
        &self,
        directory: &mut RunDirectory,
        frozen: &mut Option<Frozen>,
    ) -> Result<(), Error> {
        // The watch would take for somebody else's what is put back here.
        if let Some(frozen) = frozen.take() {
            frozen.give_up().await;
        }
        self.lift_fence(directory).await?;
        self.thaw(directory).await
    }

    async fn thaw(&self, directory: &mut RunDirectory) -> Result<(), Error> {
        let known = freeze::recorded(resume::own(directory.records()));
        let Some(settings) = self.settings.freeze.as_ref().filter(|_| !known.is_empty()) else {
            return Ok(());
        };
        let rollback = Rollback {
            server: self.freezing(settings).server,
            namespaces: vec![],
            known,
            run: Some(self.run.clone()),
            holder: Holder { run: self.run.clone(), place: settings.place.clone() },
        };
        let found = Box::pin(rollback.run(Some(directory), &self.events)).await;
        let found = found.map_err(|error| Error::new(Exit::Resumable, error))?;
        if !found.is_complete() {
            return Err(Error::new(Exit::Resumable, NotThawed(left(&found))));
        }
        self.events.warn("what was frozen is put back: the application runs on the source as before");
        Ok(())
    }

    /// Goes the way back after a failure, if that was asked for.
    pub(super) async fn go_back(
        &self,
        directory: &mut RunDirectory,
        outcome: Result<Outcome, Error>,
    ) -> Result<Outcome, Error> {
        let stands = resume::keeps_away(directory.records());
        if self.settings.on_failure == OnFailure::Keep || is_proven(&outcome) || !stands {
            return outcome;
        }
        let gone = self.back_out(directory, &mut None).await;
        match (gone, outcome) {
            (Ok(()), Err(error)) if error.exit == Exit::Resumable => {
                Err(Error { exit: Exit::RolledBack, ..error })
            }
            (Ok(()), outcome) => outcome,
            (Err(error), outcome) => {
                let told = error.chain().join(": ");
                self.events.warn(format!("the way back was not gone to its end: {told}"));
                outcome
            }
        }
    }

    /// Freeze and fence stay for a run that goes on, and after a proven move until the cutover; somebody must know of them.
    pub(super) fn say_what_stands(&self, directory: &RunDirectory) {
        let (records, path) = (directory.records(), directory.path().display());
        if !freeze::recorded(resume::own(records)).is_empty() {
            self.events.warn(format!(
                "the application is frozen still; to let it run on the source again: pgmove rollback --run-dir {path}"
            ));
        }
        if resume::is_fenced(records) {
            self.events.warn(format!(
                "the source is fenced still and refuses writes; to lift the fence: pgmove unfence --source SOURCE --run-dir {path}"
            ));
        }
    }
}

fn is_proven(outcome: &Result<Outcome, Error>) -> bool {
    match outcome {
        Ok(Outcome::Moved { comparison, .. }) => comparison.verdict().exit() == Exit::Done,
        Ok(Outcome::Cleared { exit, .. }) => *exit == Exit::Done,
        Ok(Outcome::Planned { .. }) => true,
        Ok(Outcome::Refused(_) | Outcome::Stopped(_)) | Err(_) => false,
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
