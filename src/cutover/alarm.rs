//! The alarm: tells at once when what is frozen is scaled, resumed, replaced or removed.
//!
//! Each frozen object is watched by itself, by its name, so that rights on these objects are enough. A watch that breaks
//! off (an API server that restarts, a 410 Gone) is begun again by kube, with a list that shows what happened meanwhile.
//! What a watch has not seen yet, [`Alarm::last_look`] sees: it reads every object once more.

use std::time::Duration;

use futures_util::stream::{SelectAll, StreamExt};
use kube::api::Api;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event as Seen};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::field_manager::{self, FieldManager};
use super::object::{Object, ObjectKey, spelled};
use super::record::{Change, shown};
use super::requests;
use crate::error::{Class, Fault};
use crate::event::Events;
use crate::kubernetes::{ApiError, ApiServer, Cause, Request};

/// Between two warnings that an object cannot be watched.
const REPEATED: Duration = Duration::from_secs(60);

/// What has happened to a frozen object.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Disturbance {
    /// A field has another value.
    #[error("{object} was changed during the freeze: {} is {}, and was frozen at {}{}", spelled(.field), shown(.now), shown(.frozen), set_by(.by.as_ref()))]
    Changed {
        /// Which object.
        object: Box<ObjectKey>,
        /// JSON pointer.
        field: String,
        /// What pgmove had set.
        frozen: serde_json::Value,
        /// What it is.
        now: serde_json::Value,
        /// Who has set it.
        by: Option<FieldManager>,
    },
    /// It is no more, or another of its name has taken its place.
    #[error("{object} was removed or replaced during the freeze")]
    Gone {
        /// Which object.
        object: Box<ObjectKey>,
    },
}

fn set_by(manager: Option<&FieldManager>) -> String {
    manager.map(|manager| format!(", set {manager}")).unwrap_or_default()
}

impl Fault for Disturbance {
    fn class(&self) -> Class {
        Class::Cluster
    }

    fn hint(&self) -> Option<String> {
        Some(
            "the source may have been written: stop what did it, then go on with --resume, which freezes again and proves the \
             source unchanged or reads it again; or undo the freeze: pgmove rollback"
                .to_owned(),
        )
    }
}

/// What has happened to a frozen object, if anything has; `now` is `None` if it is gone.
pub fn disturbance(change: &Change, now: Option<&Object>) -> Option<Disturbance> {
    let object = Box::new(change.object.clone());
    let Some(now) = now.filter(|now| now.key.uid == change.object.uid) else {
        return Some(Disturbance::Gone { object });
    };
    // The last one is what starts something; Flux's mark may stand before it.
    let changed = change.fields.iter().rfind(|field| *now.field(&field.field) != field.frozen)?;
    Some(Disturbance::Changed {
        object,
        field: changed.field.clone(),
        frozen: changed.frozen.clone(),
        now: now.field(&changed.field).clone(),
        by: field_manager::of(&now.body, &changed.field),
    })
}

/// A watch over frozen objects. It ends when it is dropped.
#[derive(Debug)]
pub struct Alarm {
    server: ApiServer,
    changes: Vec<Change>,
    raised: watch::Receiver<Option<Disturbance>>,
    watching: JoinHandle<()>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Alarm {
    /// Begins to watch. `stop` is cancelled at the first disturbance, so that the run stops at its next safe point.
    pub fn start(server: &ApiServer, changes: &[Change], events: &Events, stop: &CancellationToken) -> Alarm {
        let (raise, raised) = watch::channel(None);
        let watching =
            tokio::spawn(watch_all(server.clone(), changes.to_vec(), events.clone(), stop.clone(), raise));
        Alarm { server: server.clone(), changes: changes.to_vec(), raised, watching }
    }

    /// The first disturbance so far.
    pub fn raised(&self) -> Option<Disturbance> {
        self.raised.borrow().clone()
    }

    /// Reads every object once more: whether all of them are frozen now, and have been as far as the watch saw.
    pub async fn last_look(&self) -> Result<Option<Disturbance>, ApiError> {
        for change in &self.changes {
            let now = requests::read(&self.server, &change.object).await?;
            if let Some(disturbance) = disturbance(change, now.as_ref()) {
                return Ok(Some(self.raised().unwrap_or(disturbance)));
            }
        }
        Ok(self.raised())
    }
}

async fn watch_all(
    server: ApiServer,
    changes: Vec<Change>,
    events: Events,
    stop: CancellationToken,
    raise: watch::Sender<Option<Disturbance>>,
) {
    let mut streams = SelectAll::new();
    for (index, change) in changes.iter().enumerate() {
        let key = &change.object;
        let api: Api<DynamicObject> =
            Api::namespaced_with(server.client().clone(), &key.namespace, &key.resource());
        let one = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
        let stream = watcher::watcher(api, one).default_backoff();
        streams.push(stream.map(move |seen| (index, seen)).boxed());
    }
    // Whether the list that begins a watch has shown the object.
    let mut listed = vec![false; changes.len()];
    let mut warned: Option<tokio::time::Instant> = None;
    // An object that is disturbed may change in other ways, too.
    let mut told: Vec<Option<Disturbance>> = vec![None; changes.len()];
    while let Some((index, seen)) = streams.next().await {
        let change = &changes[index];
        let found = match seen {
            Ok(Seen::Init) => {
                listed[index] = false;
                continue;
            }
            Ok(Seen::InitApply(object) | Seen::Apply(object)) => {
                listed[index] = true;
                disturbance(change, Some(&Object::new(&change.object.resource(), &object)))
            }
            Ok(Seen::InitDone) if listed[index] => continue,
            Ok(Seen::InitDone | Seen::Delete(_)) => disturbance(change, None),
            Err(error) => {
                if warned.is_none_or(|warned| warned.elapsed() >= REPEATED) {
                    warned = Some(tokio::time::Instant::now());
                    events.warn(format!(
                        "cannot watch {}: {}",
                        change.object,
                        reason(&error, change, &server)
                    ));
                }
                continue;
            }
        };
        if let Some(disturbance) = found {
            if told[index].as_ref() != Some(&disturbance) {
                events.warn(disturbance.to_string());
                told[index] = Some(disturbance.clone());
            }
            raise.send_if_modified(|raised| {
                let is_first = raised.is_none();
                raised.get_or_insert(disturbance);
                is_first
            });
            stop.cancel();
        }
    }
}

/// Why a watch broke off, in pgmove's words: kube's repeat whole answers.
fn reason(error: &watcher::Error, change: &Change, server: &ApiServer) -> String {
    let key = &change.object;
    // A watch begins with a list.
    let verb = if matches!(error, watcher::Error::InitialListFailed(_)) { "list" } else { "watch" };
    let request = Request::of::<DynamicObject>(&key.resource(), verb, Some(&key.namespace), Some(&key.name));
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Cause::of(error, &request, server.url()).to_string(),
        watcher::Error::WatchError(status) => {
            Cause::of(&kube::Error::Api(status.clone()), &request, server.url()).to_string()
        }
        watcher::Error::NoResourceVersion => "its list has no version".to_owned(),
    }
}
