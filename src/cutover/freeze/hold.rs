//! A freeze from its Lease to its end: what [`Freeze`]'s steps are used for.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Freeze, FreezeError, FreezePlan};
use crate::cutover::alarm::Alarm;
use crate::cutover::lease::{self, Holder, Lease};
use crate::event::{Event, Events, Stage};
use crate::journal::RunDirectory;

/// A frozen cluster, watched by the alarm, with the Lease that keeps other runs away.
#[derive(Debug)]
pub struct Frozen {
    lease: Lease,
    alarm: Alarm,
    _stops: AbortOnDropHandle<()>,
}

impl Freeze {
    /// Freezes as planned, and returns when pods and sessions are gone. `place` tells other runs where this one works.
    /// `stop` is cancelled when the freeze no longer holds, now and as long as the value lives.
    pub async fn hold(
        &self,
        plan: &FreezePlan,
        journal: &mut RunDirectory,
        place: &str,
        patience: Duration,
        events: &Events,
        stop: &CancellationToken,
    ) -> Result<Frozen, FreezeError> {
        let source = match &plan.source {
            Some(source) if plan.obstacles.is_empty() => source,
            _ => return Err(FreezeError::Obstacles(plan.obstacles.clone())),
        };
        let holder = Holder { run: self.run.clone(), place: place.to_owned() };
        let lease =
            Lease::acquire(&self.server, &self.namespace, &lease::name(source), holder, events).await?;
        let begun = std::time::Instant::now();
        events.emit(Event::StageStarted { stage: Stage::Freeze, items: None, bytes: None, rows: None });
        let lost = lease.lost().clone();
        let objects: Vec<_> = plan.changes.iter().map(|change| change.object.clone()).collect();
        let work = async {
            lease.list_objects(&objects).await?;
            self.apply(plan, journal, events).await?;
            let alarm = Alarm::start(&self.server, &plan.changes, events, stop);
            let waited = self.wait(plan, patience, events, stop).await;
            match alarm.raised() {
                Some(disturbance) => Err(FreezeError::Disturbed(Box::new(disturbance))),
                None => waited.map(|()| alarm).map_err(|cause| match cause {
                    FreezeError::Staying { .. } | FreezeError::Interrupted(_) => cause,
                    cause => FreezeError::Partly { made: objects.clone(), cause: Box::new(cause) },
                }),
            }
        };
        let done = tokio::select! {
            done = work => done,
            () = lost.cancelled() => Err(lease.loss().into()),
        };
        events.emit(Event::StageFinished { stage: Stage::Freeze, seconds: begun.elapsed().as_secs_f64() });
        match done {
            Ok(alarm) => {
                let stop = stop.clone();
                let stops = tokio::spawn(async move {
                    lost.cancelled().await;
                    stop.cancel();
                });
                Ok(Frozen { lease, alarm, _stops: AbortOnDropHandle::new(stops) })
            }
            Err(error) => {
                // The error is what matters; a Lease that is not given up runs out.
                let _ = lease.release().await;
                Err(error)
            }
        }
    }
}

impl Frozen {
    /// Why the freeze no longer holds, as far as was seen.
    pub fn broken(&self) -> Option<FreezeError> {
        let disturbed = |disturbance| FreezeError::Disturbed(Box::new(disturbance));
        let lost = || self.lease.lost().is_cancelled().then(|| self.lease.loss().into());
        self.alarm.raised().map(disturbed).or_else(lost)
    }

    /// Ends the watch of a freeze that nobody relies on any more, and leaves it as it stands.
    pub async fn give_up(self) {
        // What ends the run is what matters; a Lease that is not given up runs out.
        let _ = self.lease.release().await;
    }

    /// Looks at every object once more: whether the freeze holds, and has held as far as was seen.
    pub async fn last_look(&self) -> Result<(), FreezeError> {
        let disturbance = self.alarm.last_look().await?;
        disturbance
            .map(|disturbance| FreezeError::Disturbed(Box::new(disturbance)))
            .or_else(|| self.broken())
            .map_or(Ok(()), Err)
    }

    /// Looks at every object once more, and leaves the freeze as it stands: nobody watches from here on.
    pub async fn leave(self) -> Result<(), FreezeError> {
        let looked = self.last_look().await;
        self.lease.release().await?;
        looked
    }
}
