//! Keeps two runs on one source apart, with a Lease of the cluster.
//!
//! The Lease is named after the source and stands in its namespace. It also lists the objects that the run changes, so
//! that [`super::rollback`] finds them from any machine. It is renewed while the run works, and given up at its end. Who
//! crashes leaves one that runs out: clocks of two machines are not compared, so another run watches it for as long as it
//! is valid, and takes it over only if it is not renewed meanwhile.

mod error;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease as Stored, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::discovery::verbs;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::object::ObjectKey;
use super::record::FIELD_MANAGER;
use crate::event::Events;
use crate::kubernetes::{ApiError, ApiServer, Cause, Request};

pub use error::LeaseError;

/// How long a Lease is valid that is not renewed.
const VALID: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(10);
/// The annotation that lists the objects of the run.
const OBJECTS: &str = "pgmove/objects";
/// What tells pgmove's Leases from others.
const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "pgmove");

/// Who holds a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The run.
    pub run: String,
    /// Where it runs, for a person: `jane@laptop, process 4711`.
    pub place: String,
}

impl Holder {
    fn identity(&self) -> String {
        format!("run {} of {}", self.run, self.place)
    }

    /// Whether an identity is that of the same run, perhaps of an earlier process.
    fn is_same_run(&self, identity: &str) -> bool {
        identity.strip_prefix("run ").and_then(|rest| rest.split(' ').next()) == Some(&self.run)
    }
}

/// A Lease that this process holds. Dropped without [`Lease::release`], it runs out.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    holder: Holder,
    lost: CancellationToken,
    renewal: JoinHandle<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Where a Lease is.
#[derive(Debug, Clone)]
struct Place {
    server: ApiServer,
    namespace: String,
    name: String,
}

/// The Lease of a source.
pub fn name(source: &ObjectKey) -> String {
    format!("pgmove-{}-{}", source.kind.to_lowercase(), source.name)
}

/// What a Lease says to somebody who wants it.
#[derive(Debug, PartialEq)]
enum Standing {
    /// It can be taken.
    Free,
    /// Somebody holds it.
    Held,
    /// Nobody has renewed it in time, by this machine's clock.
    Overdue(Duration),
}

fn standing(spec: &LeaseSpec, holder: &Holder, now: Timestamp) -> Standing {
    let identity = spec.holder_identity.as_deref().unwrap_or_default();
    let valid = Duration::from_secs(spec.lease_duration_seconds.and_then(|n| n.try_into().ok()).unwrap_or(0));
    let renewed = spec.renew_time.as_ref().map(|time| time.0);
    let ends = renewed.map(|renewed| {
        renewed.saturating_add(SignedDuration::try_from(valid).unwrap_or(SignedDuration::MAX))
    });
    match ends {
        _ if identity.is_empty() || holder.is_same_run(identity) => Standing::Free,
        Some(Ok(ends)) if ends > now => Standing::Held,
        _ => Standing::Overdue(valid),
    }
}

/// A Lease of pgmove's that is in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) name: String,
    /// The objects that the run that took it changes.
    pub(super) objects: Vec<ObjectKey>,
}

/// The Leases of pgmove's in a namespace.
pub(super) async fn list(server: &ApiServer, namespace: &str) -> Result<Vec<Known>, LeaseError> {
    let api: Api<Stored> = Api::namespaced(server.client().clone(), namespace);
    let parameters = ListParams::default().labels(&format!("{}={}", MANAGED.0, MANAGED.1));
    let request = Request::of::<Stored>(&(), verbs::LIST, Some(namespace), None);
    let found = server.ask(request, api.list(&parameters)).await?;
    let known = |lease: Stored| {
        let objects = listed(&lease, namespace)?;
        Ok(Known { name: lease.metadata.name.unwrap_or_default(), objects })
    };
    found.items.into_iter().map(known).collect()
}

/// The objects that a Lease lists.
fn listed(lease: &Stored, namespace: &str) -> Result<Vec<ObjectKey>, LeaseError> {
    let text = lease.metadata.annotations.as_ref().and_then(|all| all.get(OBJECTS));
    text.map_or(Ok(vec![]), |text| serde_json::from_str(text)).map_err(|source| LeaseError::Damaged {
        namespace: namespace.to_owned(),
        name: lease.metadata.name.clone().unwrap_or_default(),
        source,
    })
}

fn set_listed(lease: &mut Stored, objects: &[ObjectKey]) {
    let text = serde_json::to_string(objects).expect("keys are plain data");
    lease.metadata.annotations.get_or_insert_default().insert(OBJECTS.to_owned(), text);
}

impl Lease {
    /// Takes the Lease of that name, or says who holds it.
    pub async fn acquire(
        server: &ApiServer,
        namespace: &str,
        name: &str,
        holder: Holder,
        events: &Events,
    ) -> Result<Lease, LeaseError> {
        let place = Place { server: server.clone(), namespace: namespace.to_owned(), name: name.to_owned() };
        let mut observed: Option<(Stored, Instant)> = None;
        loop {
            let Some(stored) = place.read().await? else {
                if place.create(&holder).await? {
                    break;
                }
                continue;
            };
            let spec = stored.spec.clone().unwrap_or_default();
            match standing(&spec, &holder, Timestamp::now()) {
                Standing::Free => {}
                Standing::Held => return Err(place.held(&spec)),
                Standing::Overdue(valid) => {
                    let (first, since) = observed.get_or_insert_with(|| {
                        events.note(format!(
                            "waiting {} s to see whether {} still works",
                            valid.as_secs(),
                            spec.holder_identity.as_deref().unwrap_or_default()
                        ));
                        (stored.clone(), Instant::now())
                    });
                    if first.spec != stored.spec {
                        return Err(place.held(&spec));
                    }
                    if let Some(left) = valid.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
                        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
                        continue;
                    }
                }
            }
            let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
            if place.replace(Stored { spec: Some(taken(&holder, transitions)), ..stored }).await? {
                break;
            }
        }
        let lost = CancellationToken::new();
        let renewal = tokio::spawn(renew(place.clone(), holder.clone(), lost.clone()));
        Ok(Lease { place, holder, lost, renewal })
    }

    /// Is cancelled when another run has taken the Lease.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// The error that [`Lease::lost`] stands for.
    pub fn loss(&self) -> LeaseError {
        self.place.lost("another run".to_owned())
    }

    /// Writes down which objects the run changes, before it changes the first, beside those of earlier runs: what they have
    /// left frozen is found by this list alone.
    pub async fn list_objects(&self, objects: &[ObjectKey]) -> Result<(), LeaseError> {
        let mut all = listed(&self.place.own(&self.holder).await?, &self.place.namespace)?;
        all.extend(objects.iter().filter(|object| !all.contains(object)).cloned().collect::<Vec<_>>());
        self.update(|lease| set_listed(lease, &all)).await
    }

    /// Gives the Lease up; it stays, with its list, for a rollback.
    pub async fn release(self) -> Result<(), LeaseError> {
        self.release_without(&BTreeSet::new()).await
    }

    /// The same, with what a rollback has settled taken off the list: nobody misses it if it is removed later.
    pub(super) async fn release_without(self, settled: &BTreeSet<ObjectKey>) -> Result<(), LeaseError> {
        self.renewal.abort();
        self.update(|lease| {
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            // A list that cannot be read is told by the next who needs it.
            if let Ok(mut objects) = listed(lease, &self.place.namespace)
                && objects.iter().any(|object| settled.contains(object))
            {
                objects.retain(|object| !settled.contains(object));
                set_listed(lease, &objects);
            }
        })
        .await
    }

    /// Removes the Lease: nothing of the run is left in the cluster. What cannot be removed is given up as it would be
    /// without that.
    pub(super) async fn remove(self, settled: &BTreeSet<ObjectKey>) -> Result<(), LeaseError> {
        self.renewal.abort();
        let removed = self.place.delete(&self.holder).await;
        if removed.is_err() {
            // Why it was not removed is what matters.
            let _ = self.release_without(settled).await;
        }
        removed
    }

    async fn update(&self, change: impl Fn(&mut Stored)) -> Result<(), LeaseError> {
        loop {
            let mut stored = self.place.own(&self.holder).await?;
            change(&mut stored);
            if self.place.replace(stored).await? {
                return Ok(());
            }
        }
    }
}

fn taken(holder: &Holder, transitions: i32) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    LeaseSpec {
        holder_identity: Some(holder.identity()),
        lease_duration_seconds: i32::try_from(VALID.as_secs()).ok(),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// Renews the Lease until it is dropped. While the API server cannot be reached nobody else can take it either; so only
/// another holder's name means that it is lost.
async fn renew(place: Place, holder: Holder, lost: CancellationToken) {
    loop {
        tokio::time::sleep(RENEWED).await;
        match place.own(&holder).await {
            Ok(mut stored) => {
                if let Some(spec) = &mut stored.spec {
                    spec.renew_time = Some(MicroTime(Timestamp::now()));
                }
                // What did not work now is tried again in a moment.
                let _ = place.replace(stored).await;
            }
            Err(LeaseError::Lost { .. }) => return lost.cancel(),
            Err(_) => {}
        }
    }
}

impl Place {
    fn api(&self) -> Api<Stored> {
        Api::namespaced(self.server.client().clone(), &self.namespace)
    }

    fn request(&self, verb: &'static str) -> Request {
        Request::of::<Stored>(&(), verb, Some(&self.namespace), Some(&self.name))
    }

    async fn read(&self) -> Result<Option<Stored>, ApiError> {
        self.server.ask(self.request(verbs::GET), self.api().get_opt(&self.name)).await
    }

    /// The Lease, if the holder has it.
    async fn own(&self, holder: &Holder) -> Result<Stored, LeaseError> {
        let stored = self.read().await?;
        let identity = |stored: &Stored| stored.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let held_by = stored.as_ref().and_then(identity);
        match stored {
            Some(stored) if held_by.as_ref() == Some(&holder.identity()) => Ok(stored),
            _ => Err(self.lost(held_by.unwrap_or_else(|| "somebody who removed it".to_owned()))),
        }
    }

    fn lost(&self, by: String) -> LeaseError {
        LeaseError::Lost { namespace: self.namespace.clone(), name: self.name.clone(), by }
    }

    /// Makes it; false if somebody else has made one meanwhile.
    async fn create(&self, holder: &Holder) -> Result<bool, ApiError> {
        let lease = Stored {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some([(MANAGED.0.to_owned(), MANAGED.1.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(taken(holder, 0)),
        };
        let request = Request { name: None, ..self.request(verbs::CREATE) };
        let api = self.api();
        written(self.server.ask(request, api.create(&parameters(), &lease)).await)
    }

    /// Writes it; false if somebody else has written it meanwhile.
    async fn replace(&self, lease: Stored) -> Result<bool, ApiError> {
        let api = self.api();
        let request = self.request(verbs::UPDATE);
        written(self.server.ask(request, api.replace(&self.name, &parameters(), &lease)).await)
    }

    /// Deletes it, if the holder has it.
    async fn delete(&self, holder: &Holder) -> Result<(), LeaseError> {
        let stored = self.own(holder).await?;
        let unchanged = Preconditions { resource_version: None, uid: stored.metadata.uid };
        let parameters = DeleteParams::default().preconditions(unchanged);
        let request = self.request(verbs::DELETE);
        self.server.ask(request, self.api().delete(&self.name, &parameters)).await?;
        Ok(())
    }

    fn held(&self, spec: &LeaseSpec) -> LeaseError {
        LeaseError::Held {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            by: spec.holder_identity.clone().unwrap_or_default(),
            since: spec.acquire_time.as_ref().map(|time| time.0),
        }
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn written(answer: Result<Stored, ApiError>) -> Result<bool, ApiError> {
    match answer {
        Ok(_) => Ok(true),
        Err(ApiError { cause: Cause::Refused { code: 409, .. }, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(run: &str) -> Holder {
        Holder { run: run.to_owned(), place: "jane@laptop, process 7".to_owned() }
    }

    #[test]
    fn a_lease_is_free_held_or_overdue() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        let held = |seconds_ago: i64| LeaseSpec {
            renew_time: Some(MicroTime(now - SignedDuration::from_secs(seconds_ago))),
            ..taken(&holder("a"), 0)
        };
        assert_eq!(standing(&held(5), &holder("b"), now), Standing::Held);
        assert_eq!(standing(&held(31), &holder("b"), now), Standing::Overdue(VALID));
        assert_eq!(standing(&held(5), &holder("a"), now), Standing::Free, "the same run goes on");
        assert_eq!(standing(&LeaseSpec::default(), &holder("b"), now), Standing::Free);
    }
}
