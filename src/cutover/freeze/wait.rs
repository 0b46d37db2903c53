//! Waits until what was stopped is gone: its pods, and their sessions on the source.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{self, FreezePlan};
use super::writers::{self, Sighting, display_session};
use super::{Freeze, FreezeError, began, ended, find};
use crate::catalog::ClientSession;
use crate::cutover::object::Object;
use crate::error::Fault as _;
use crate::event::{Event, Events, Stage};

/// How long between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What has not gone yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staying {
    /// Pods.
    pub pods: Vec<String>,
    /// Sessions, as a person is told of them.
    pub sessions: Vec<String>,
}

impl fmt::Display for Staying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.pods.iter().chain(&self.sessions).map(String::as_str).collect();
        f.write_str(&all.join(", "))
    }
}

impl Staying {
    fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.sessions.is_empty()
    }
}

impl Freeze {
    /// Waits until the pods of the stopped workloads are gone, and their sessions with them. Gives up when nothing has
    /// changed for `patience`, and names who stays.
    pub async fn wait(
        &self,
        plan: &FreezePlan,
        patience: Duration,
        events: &Events,
        stop: &CancellationToken,
    ) -> Result<(), FreezeError> {
        let mut before = None;
        let mut progress = Instant::now();
        let mut shown = None;
        loop {
            let now = match self.look(plan).await {
                Ok(now) if now.is_empty() => {
                    if let Some(item) = shown {
                        ended(events, item);
                    }
                    return Ok(());
                }
                Ok(now) => Some(now),
                // A server that restarts.
                Err(error) if error.is_retryable() && progress.elapsed() < patience => {
                    let (item, reason) = ("look for pods and sessions".to_owned(), error.to_string());
                    events.emit(Event::Retry { stage: Stage::Freeze, item, reason });
                    None
                }
                Err(error) => return Err(error),
            };
            if let Some(now) = now.filter(|now| before.as_ref() != Some(now)) {
                let item = began(events, format!("waiting for {now}"));
                if let Some(item) = shown.replace(item) {
                    ended(events, item);
                }
                before = Some(now);
                progress = Instant::now();
            } else if let Some(staying) = before.clone().filter(|_| progress.elapsed() >= patience) {
                return Err(FreezeError::Staying { seconds: patience.as_secs(), staying });
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return Err(FreezeError::Interrupted(before.unwrap_or_default())),
            }
        }
    }

    async fn look(&self, plan: &FreezePlan) -> Result<Staying, FreezeError> {
        let stopped = plan.changes.iter().filter(|change| change.stops());
        let namespaces: BTreeSet<&str> = stopped.map(|change| &*change.object.namespace).collect();
        let mut seen = Sighting::default();
        for namespace in namespaces {
            seen.objects.extend(find::pods(&self.server, namespace).await?);
        }
        Ok(staying(plan, &seen, &self.sessions().await?))
    }
}

/// What has not gone yet: the pods, and the sessions that come from where these were.
fn staying(plan: &FreezePlan, seen: &Sighting, sessions: &[ClientSession]) -> Staying {
    let is_stopped = |pod: &&Object| plan.changes.iter().any(|change| plan::is_stopped_by(seen, pod, change));
    let pods = seen.objects.iter().filter(|object| object.key.kind == "Pod" && writers::is_running(object));
    let pods = pods.filter(is_stopped);
    let is_theirs = |session: &&ClientSession| {
        let is_of = |address| plan.changes.iter().any(|change| change.addresses.contains(&address));
        writers::origin(session).is_some_and(is_of)
    };
    Staying {
        pods: pods.map(|pod| pod.key.to_string()).collect(),
        sessions: sessions.iter().filter(is_theirs).map(display_session).collect(),
    }
}
