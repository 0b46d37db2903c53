//! Looks at a namespace, and at what manages it, for everything that the plan is decided from.

use std::collections::BTreeSet;

use kube::api::ApiResource;
use kube::core::GroupVersionKind;

use super::plan::{self, IMAGE_UPDATE_AUTOMATION, KUSTOMIZATION, Wanted};
use super::workload::WorkloadName;
use super::writers::Sighting;
use crate::catalog::ClientSession;
use crate::cutover::object::{Object, ObjectKey};
use crate::cutover::requests;
use crate::kubernetes::{ApiError, ApiServer, Kind, ObjectRef};

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

/// Reads everything that a plan needs. `known` are objects that this run has changed before, wherever they are.
pub(super) async fn look(
    server: &ApiServer,
    namespace: &str,
    source: &ObjectRef,
    named: &[WorkloadName],
    sessions: Vec<ClientSession>,
    known: &[ObjectKey],
) -> Result<Sighting, ApiError> {
    let mut seen = Sighting { namespace: namespace.to_owned(), objects: vec![], sessions };
    for kind in &KINDS {
        seen.objects.extend(requests::list(server, &resource(kind), namespace).await?);
    }
    if source.kind == Kind::Cluster {
        let (group, kind) = CLUSTER;
        let (namespace, name) = (namespace.to_owned(), Some(source.name.clone()));
        seen.objects.extend(find(server, &Wanted { group, kind, namespace, name }).await?);
    }
    for key in known {
        if !seen.objects.iter().any(|object| object.key == *key) {
            seen.objects.extend(requests::read(server, key).await?);
        }
    }
    let wanted = plan::wanted(&seen, source, named);
    for found in managers(server, &wanted, &seen.objects).await {
        seen.objects.extend(found.map_err(|(_, error)| error)?);
    }
    Ok(seen)
}

/// The objects of Flux that have made some objects, by their labels, wherever they are; or what could not be read.
pub(in crate::cutover) async fn flux_of(
    server: &ApiServer,
    objects: &[Object],
) -> Vec<Result<Vec<Object>, (String, ApiError)>> {
    let wanted: BTreeSet<Wanted> = objects.iter().flat_map(plan::owners).collect();
    managers(server, &wanted.into_iter().collect::<Vec<_>>(), objects).await
}

/// What is wanted and not known, and what pushes to the repositories of Kustomizations among it.
async fn managers(
    server: &ApiServer,
    wanted: &[Wanted],
    known: &[Object],
) -> Vec<Result<Vec<Object>, (String, ApiError)>> {
    let mut read = vec![];
    let mut namespaces = BTreeSet::new();
    for owner in wanted {
        if known.iter().any(|object| owner.is(object)) {
            continue;
        }
        let found = find(server, owner).await;
        if let Ok(found) = &found
            && (owner.group, owner.kind) == KUSTOMIZATION
        {
            namespaces.extend(found.iter().map(|object| object.key.namespace.clone()));
            let source = found.iter().filter_map(|object| object.text("/spec/sourceRef/namespace"));
            namespaces.extend(source.map(str::to_owned));
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
