//! What goes on beside the work: sessions that hold something are kept alive in every stage, and beside the lanes index
//! builds and waiting sessions are looked at. Nothing here is waited for longer than `--stall-timeout` allows, and the lanes never wait for it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::outcome::{Lost, TargetLost};
use super::{Context, Source};
use crate::error::{Class, Error, Exit, Fault};
use crate::event::Event;
use crate::pg::{Access, Session, SessionError, lock_holders};
use crate::transfer::lane::{LaneError, Move};
use crate::transfer::pool::Ended;
use crate::transfer::snapshot::Snapshot;

/// How often the snapshot's holder is asked something, and the server about index builds.
const PING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);

/// How long a holder may take to answer when something else has failed already.
const ANSWER: Duration = Duration::from_secs(10);

/// How often sessions are looked for that wait for the run's locks.
const LOOK_BEHIND: Duration = Duration::from_secs(5);

/// The session that holds the snapshot is gone.
#[derive(Debug, thiserror::Error)]
#[error("the session that holds the source's snapshot is lost")]
pub(super) struct SnapshotLost(#[source] pub(super) Lost);

impl Fault for SnapshotLost {
    fn class(&self) -> Class {
        Class::Source
    }

    fn is_retryable(&self) -> bool {
        true
    }

    fn hint(&self) -> Option<String> {
        Some("go on with --resume: tables that the source has not changed are kept".into())
    }
}

/// Waits for the lanes. If what they need is lost meanwhile, they are stopped.
pub(super) async fn beside<T, E>(
    mut lanes: JoinHandle<T>,
    stop: &CancellationToken,
    lost: impl Future<Output = E>,
) -> Result<T, E> {
    tokio::select! {
        ended = &mut lanes => Ok(ended.expect("a lane that panics is a defect")),
        error = lost => {
            stop.cancel();
            // What they come to no longer matters.
            let _ = lanes.await;
            Err(error)
        }
    }
}

/// Asks the snapshot's holder something every minute; ends when it does not answer.
pub(super) async fn snapshot_lost(snapshot: &Snapshot, limit: Duration) -> SnapshotLost {
    let mut ping = interval(PING);
    loop {
        ping.tick().await;
        if let Err(lost) = answers(snapshot.ping(), limit).await {
            return SnapshotLost(lost);
        }
    }
}

async fn answers(ping: impl Future<Output = Result<(), SessionError>>, limit: Duration) -> Result<(), Lost> {
    match timeout(limit, ping).await {
        Ok(answer) => answer.map_err(Lost::Broken),
        Err(_) => Err(Lost::Silent(limit)),
    }
}

fn seldom(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

impl Context<'_> {
    /// Does the work of a stage without lanes; meanwhile keeps the sessions alive that hold the snapshot and the target's
    /// lock, and breaks it off when one of them is lost.
    pub(super) async fn holding<T>(
        &self,
        (snapshot, holder): (&Snapshot, &Session),
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            error = snapshot_lost(snapshot, self.settings.connections.stall) => {
                return Err(Error::new(Exit::Resumable, error));
            }
            error = self.target_lost(holder) => return Err(Error::new(Exit::Resumable, error)),
        };
        match outcome {
            Err(error) if error.exit != Exit::Interrupted => {
                Err(self.loss_behind((snapshot, holder)).await.unwrap_or(error))
            }
            outcome => outcome,
        }
    }

    /// What has failed may only follow from that: nobody can import a snapshot that is gone.
    async fn loss_behind(&self, holders: (&Snapshot, &Session)) -> Option<Error> {
        self.are_held(holders, self.settings.connections.stall.min(ANSWER)).await.err()
    }

    /// Whether snapshot and lock are there, which are asked now.
    async fn are_held(
        &self,
        (snapshot, holder): (&Snapshot, &Session),
        limit: Duration,
    ) -> Result<(), Error> {
        let held = answers(snapshot.ping(), limit).await;
        held.map_err(|lost| Error::new(Exit::Resumable, SnapshotLost(lost)))?;
        let held = answers(holder.run("SELECT", "keep the lock"), limit).await;
        held.map_err(|lost| Error::new(Exit::Resumable, TargetLost(lost)))
    }

    /// Waits for the lanes; meanwhile keeps the sessions alive that hold the snapshot and the target's lock, and
    /// looks at index builds and at who waits for the run.
    pub(super) async fn watch(
        &self,
        lanes: JoinHandle<Result<Ended, LaneError>>,
        shared: &Arc<Move>,
        (snapshot, holder): (&Snapshot, &Session),
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let limit = self.settings.connections.stall;
        // Looking opens connections, which are large futures.
        let lost = Box::pin(async {
            tokio::select! {
                error = snapshot_lost(snapshot, limit) => Error::new(Exit::Resumable, error),
                error = self.target_lost(holder) => Error::new(Exit::Resumable, error),
                never = self.look_at_builds(shared) => match never {},
                never = self.look_behind() => match never {},
            }
        });
        match beside(lanes, stop, lost).await? {
            Ok(Ended::Finished) => {
                // Without the holder's locks a TRUNCATE on the source could have come between two chunks.
                self.are_held((snapshot, holder), limit).await
            }
            Ok(Ended::Interrupted) | Err(LaneError::Interrupted) => {
                Err(Error::new(Exit::Interrupted, super::Interrupted))
            }
            Err(error) => Err(self
                .loss_behind((snapshot, holder))
                .await
                .unwrap_or_else(|| Error::new(Exit::Resumable, error))),
        }
    }

    /// Asks the holder of the target's lock something every minute; ends when it does not answer.
    async fn target_lost(&self, holder: &Session) -> TargetLost {
        let mut ping = interval(PING);
        loop {
            ping.tick().await;
            let asked = answers(holder.run("SELECT", "keep the lock"), self.settings.connections.stall);
            if let Err(lost) = asked.await {
                return TargetLost(lost);
            }
        }
    }

    /// Tells how far index builds are. What goes wrong here is no reason to stop anything.
    async fn look_at_builds(&self, shared: &Move) -> Infallible {
        let (mut look, mut watcher) = (seldom(LOOK), None);
        loop {
            look.tick().await;
            let looked = timeout(self.settings.connections.stall, self.builds(shared, &mut watcher)).await;
            if looked.is_err() {
                watcher = None;
            }
        }
    }

    async fn builds(&self, shared: &Move, watcher: &mut Option<Session>) {
        let builders = shared.builders.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if builders.is_empty() {
            return;
        }
        if watcher.is_none() {
            *watcher = Session::open(&self.target, Access::Read, "pg_catalog").await.ok();
        }
        let Some(session) = watcher else { return };
        let processes: Vec<i32> = builders.values().map(|(process, _)| *process).collect();
        let rows = session.client.query(include_str!("../../sql/index/progress.sql"), &[&processes]).await;
        let Ok(rows) = rows else {
            *watcher = None;
            return;
        };
        for row in rows {
            let process: i32 = row.get("pid");
            let Some((lane, (_, item))) = builders.iter().find(|(_, (found, _))| *found == process) else {
                continue;
            };
            self.events.emit(Event::IndexProgress {
                lane: *lane,
                item: item.clone(),
                phase: row.get("phase"),
                percent: row.get("percent"),
            });
        }
    }

    /// Warns of sessions that wait for the run's locks on the source while there is time to do something about it. What
    /// goes wrong here is no reason to stop anything.
    async fn look_behind(&self) -> Infallible {
        let Source::Server(source) = &self.source else { return std::future::pending().await };
        let (mut look, mut watcher, mut told) = (seldom(LOOK_BEHIND), None, BTreeSet::new());
        look.tick().await;
        loop {
            look.tick().await;
            let looked = async {
                if watcher.is_none() {
                    watcher = Some(Session::open(source, Access::Read, "pg_catalog").await?);
                }
                let session = watcher.as_ref().expect("it was just opened");
                lock_holders(session, &source.application_name).await
            };
            let Ok(Ok(found)) = timeout(self.settings.connections.stall, looked).await else {
                watcher = None;
                continue;
            };
            for holder in found.iter().filter(|holder| holder.waits_for_run) {
                let Some(pid) = holder.pid.filter(|pid| told.insert(*pid)) else { continue };
                self.events.warn(format!(
                    "{holder}: whoever reads that table now waits in line, and this run stops if it has to for half a \
                     minute; to let the run go on, end that session on the source: SELECT pg_terminate_backend({pid})"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_session_that_says_nothing_is_lost() {
        let asked = answers(pending(), Duration::from_millis(5)).await;
        assert!(matches!(asked, Err(Lost::Silent(_))));
    }

    #[tokio::test]
    async fn the_lanes_stop_when_what_they_need_is_lost() {
        let stop = CancellationToken::new();
        let lanes = |stop: CancellationToken| tokio::spawn(async move { stop.cancelled().await });
        assert_eq!(beside(lanes(stop.clone()), &stop, ready("lost")).await, Err("lost"));
        let ended = beside(tokio::spawn(ready(1)), &CancellationToken::new(), pending::<()>()).await;
        assert_eq!(ended, Ok(1));
    }
}
