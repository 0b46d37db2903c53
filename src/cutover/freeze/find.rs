//! Looks at namespaces, and at what manages what is in them, for everything that the plan is decided from.
//!
//! The source's namespace is looked at, those of workloads that are named, and those of pods that are connected to the source: where
//! a session comes from no pod that was seen, its pod is looked for in the whole cluster, if the account may list pods there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use kube::api::ApiResource;
use kube::core::GroupVersionKind;

use super::plan::{self, IMAGE_UPDATE_AUTOMATION, KUSTOMIZATION, Wanted};
use super::workload::WorkloadKind;
use super::writers::{self, Sighting, has_own_address};
use super::{Freeze, FreezeError};
use crate::cutover::object::{Object, ObjectKey};
use crate::cutover::requests;
use crate::kubernetes::{ApiError, ApiServer, Kind};

/// The kinds of a namespace that a freeze reads: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 9] = [
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "Job", "jobs"),
    ("batch", "v1", "CronJob", "cronjobs"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
];

/// Those of [`KINDS`] that only the source has need of.
const OF_SOURCE: [&str; 2] = ["Service", "PersistentVolumeClaim"];

/// Pods that still have their addresses.
const LIVING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Those of [`KINDS`] that pods are followed through.
const CHAIN: [&str; 3] = ["Pod", "ReplicaSet", "Job"];

/// A source that CloudNative-PG looks after.
pub(in crate::cutover) const CLUSTER: (&str, &str) = ("postgresql.cnpg.io", "Cluster");

/// The kinds of a namespace that pgmove may have changed, without those that a cluster may not have.
pub(in crate::cutover) fn changeable() -> impl Iterator<Item = ApiResource> {
    KINDS.iter().filter(|(_, _, kind, _)| !matches!(*kind, "Pod" | "ReplicaSet")).map(resource)
}

fn resource((group, version, kind, plural): &(&str, &str, &str, &str)) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

impl Freeze {
    /// Reads everything that a plan needs. `known` are objects that this run has changed before, wherever they are, and
    /// `stopped` the addresses of their pods.
    pub(super) async fn look_around(
        &self,
        known: &[ObjectKey],
        stopped: BTreeSet<IpAddr>,
    ) -> Result<Sighting, FreezeError> {
        let (server, home) = (&self.server, &self.namespace);
        let sessions = self.sessions().await?;
        let mut seen = Sighting { namespaces: vec![home.clone()], sessions, stopped, ..Sighting::default() };
        for kind in &KINDS {
            seen.objects.extend(requests::list(server, &resource(kind), home).await?);
        }
        if self.source.kind == Kind::Cluster {
            let (group, kind) = CLUSTER;
            let (namespace, name) = (home.clone(), Some(self.source.name.clone()));
            seen.objects.extend(find(server, &Wanted { group, kind, namespace, name }).await?);
        }
        for (namespace, reason) in self.others(&mut seen, known).await? {
            for kind in KINDS.iter().filter(|(_, _, kind, _)| !OF_SOURCE.contains(kind)) {
                let found = requests::list(server, &resource(kind), &namespace).await.map_err(|source| {
                    let (namespace, reason) = (namespace.clone(), reason.clone());
                    FreezeError::OtherNamespace { namespace, reason, source: Box::new(source) }
                });
                seen.objects.extend(found?);
            }
            seen.namespaces.push(namespace);
        }
        for key in known {
            if !seen.objects.iter().any(|object| object.key == *key) {
                seen.objects.extend(requests::read(server, key).await?);
            }
        }
        let wanted = plan::wanted(&seen, &self.source, &self.named);
        for found in managers(server, &wanted, &seen.objects).await {
            seen.objects.extend(found.map_err(|(_, error)| error)?);
        }
        Ok(seen)
    }

    /// The other namespaces that workloads are named in.
    pub fn named_namespaces(&self) -> BTreeSet<String> {
        let named = self.named.iter().map(|name| name.namespace(&self.namespace));
        named.filter(|namespace| *namespace != self.namespace).map(str::to_owned).collect()
    }

    /// The other namespaces whose pods are connected to the source, as far as the account may look for them.
    pub async fn connected_namespaces(&self) -> Result<BTreeSet<String>, FreezeError> {
        let objects = requests::list(&self.server, &resource(&KINDS[0]), &self.namespace).await?;
        let sessions = self.sessions().await?;
        let mut seen = Sighting { objects, sessions, ..Sighting::default() };
        let pods = strange_pods(&self.server, &mut seen).await?;
        let namespaces = pods.into_iter().map(|pod| pod.key.namespace);
        Ok(namespaces.filter(|namespace| *namespace != self.namespace).collect())
    }

    /// The other namespaces in which something is to be stopped, each with what makes it one.
    async fn others(
        &self,
        seen: &mut Sighting,
        known: &[ObjectKey],
    ) -> Result<BTreeMap<String, String>, FreezeError> {
        let mut others = BTreeMap::new();
        for key in known.iter().filter(|key| WorkloadKind::of(key).is_some()) {
            others.insert(key.namespace.clone(), format!("{key} was stopped before"));
        }
        for name in &self.named {
            let namespace = name.namespace(&self.namespace).to_owned();
            others.insert(namespace, format!("{name} is named by the user"));
        }
        for pod in strange_pods(&self.server, seen).await? {
            others.entry(pod.key.namespace.clone()).or_insert_with(|| format!("{} is connected", pod.key));
        }
        others.remove(&self.namespace);
        Ok(others)
    }
}

/// The pods of sessions that were not seen so far, wherever they are. An account that may not list them finds none.
async fn strange_pods(server: &ApiServer, seen: &mut Sighting) -> Result<Vec<Object>, ApiError> {
    let addresses = seen.strange_addresses();
    if addresses.is_empty() {
        return Ok(vec![]);
    }
    // All of them: a selector of `status.podIP` knows the first address of a pod only.
    let mut pods = match requests::list_everywhere(server, &resource(&KINDS[0]), LIVING).await {
        Ok(pods) => pods,
        Err(error) if error.is_forbidden() => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    seen.has_seen_cluster = true;
    // A node's address tells nothing: its own sessions have it, and those of each pod in its network.
    pods.retain(|pod| {
        has_own_address(pod) && writers::addresses(pod).iter().any(|address| addresses.contains(address))
    });
    Ok(pods)
}

/// The objects of Flux that have made some objects, by their labels, wherever they are; or what could not be read.
pub(in crate::cutover) async fn flux_of(
    server: &ApiServer,
    objects: &[Object],
) -> Vec<Result<Vec<Object>, (String, ApiError)>> {
    let wanted: BTreeSet<Wanted> = objects.iter().flat_map(plan::owners).collect();
    managers(server, &wanted.into_iter().collect::<Vec<_>>(), objects).await
}

/// What is wanted and not known, with the Kustomizations that apply releases among it, and what pushes to the repositories of
/// Kustomizations.
async fn managers(
    server: &ApiServer,
    wanted: &[Wanted],
    known: &[Object],
) -> Vec<Result<Vec<Object>, (String, ApiError)>> {
    let mut read = vec![];
    let mut namespaces = BTreeSet::new();
    let mut wanted: VecDeque<Wanted> = wanted.iter().cloned().collect();
    while let Some(owner) = wanted.pop_front() {
        let is_read = |read: &Result<Vec<Object>, _>| {
            read.as_ref().is_ok_and(|found| found.iter().any(|object| owner.is(object)))
        };
        if known.iter().any(|object| owner.is(object)) || read.iter().any(is_read) {
            continue;
        }
        let found = find(server, &owner).await;
        match &found {
            Ok(found) if (owner.group, owner.kind) == KUSTOMIZATION => {
                namespaces.extend(found.iter().map(|object| object.key.namespace.clone()));
                let source = found.iter().filter_map(|object| object.text("/spec/sourceRef/namespace"));
                namespaces.extend(source.map(str::to_owned));
            }
            Ok(found) => wanted.extend(found.iter().flat_map(plan::owners)),
            Err(_) => {}
        }
        read.push(found.map_err(|error| (owner.to_string(), error)));
    }
    let (group, kind) = IMAGE_UPDATE_AUTOMATION;
    for namespace in namespaces {
        let all = Wanted { group, kind, namespace, name: None };
        read.push(find(server, &all).await.map_err(|error| (all.to_string(), error)));
    }
    read
}

/// Pods, and what leads from them to their workloads.
pub(super) async fn pods(server: &ApiServer, namespace: &str) -> Result<Vec<Object>, ApiError> {
    let mut found = vec![];
    for kind in KINDS.iter().filter(|(_, _, kind, _)| CHAIN.contains(kind)) {
        found.extend(requests::list(server, &resource(kind), namespace).await?);
    }
    Ok(found)
}

/// One object, or all of its kind; none where the cluster does not know the kind.
async fn find(server: &ApiServer, wanted: &Wanted) -> Result<Vec<Object>, ApiError> {
    let Some(resource) = requests::discover(server, wanted.group, wanted.kind).await? else {
        return Ok(vec![]);
    };
    let Some(name) = &wanted.name else {
        return requests::list(server, &resource, &wanted.namespace).await;
    };
    let key = ObjectKey {
        group: resource.group,
        version: resource.version,
        kind: resource.kind,
        plural: resource.plural,
        namespace: wanted.namespace.clone(),
        name: name.clone(),
        uid: String::new(),
    };
    Ok(requests::read(server, &key).await?.into_iter().collect())
}
