//! One look at a PostgreSQL server that runs in a pod: everything about it that stands in Kubernetes.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::cnpg;
use super::object::{Kind, ObjectRef};
use super::owner::{Owner, owners};
use super::request::ApiError;
use super::storage::{DataVolume, Limits, limits};
use super::workload::{Found, PodPort, ResolveError, Route};

/// A server in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// Where it listens.
    pub at: PodPort,
    /// The image as the pod asks for it.
    pub image: String,
    /// The image that runs, with its digest; a tag may have moved since.
    pub image_id: Option<String>,
    /// Where its data are.
    pub data: DataVolume,
    /// What it may use.
    pub limits: Limits,
    /// What makes its pod; none for a pod that nobody makes again, or of a kind that is not known here.
    pub workload: Option<ObjectRef>,
    /// Who looks after the workload, the nearest first; none if somebody applied it by hand.
    pub owners: Vec<Owner>,
}

impl Instance {
    /// Looks at the server behind an object.
    pub async fn look(route: &Route) -> Result<(Instance, Found), ResolveError> {
        let found = route.find().await?;
        let data = DataVolume::find(&route.server, &found).await?;
        let container = found.container();
        let (workload, owners) = workload(route, &found).await?;
        let statuses = found.pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let running = statuses.into_iter().find(|status| status.name == container.name);
        let instance = Instance {
            at: found.port.clone(),
            image: container.image.clone().unwrap_or_default(),
            image_id: running.map(|status| status.image_id.clone()).filter(|id| !id.is_empty()),
            data,
            limits: limits(&found.pod, container),
            workload,
            owners,
        };
        Ok((instance, found))
    }
}

/// What makes the pod, and who looks after that.
async fn workload(route: &Route, found: &Found) -> Result<(Option<ObjectRef>, Vec<Owner>), ApiError> {
    if !matches!(route.object.kind, Kind::Pod | Kind::Service) {
        return Ok((Some(route.object.clone()), owners(&found.meta)));
    }
    let Some(workload) = controller(&found.pod.metadata) else {
        return Ok((None, owners(&found.pod.metadata)));
    };
    let (server, namespace, name) = (&route.server, &found.port.namespace, &workload.name);
    let meta = match workload.kind {
        Kind::StatefulSet => server.get::<StatefulSet>(&(), namespace, name).await?.metadata,
        Kind::Deployment => server.get::<Deployment>(&(), namespace, name).await?.metadata,
        _ => server.get::<cnpg::Cluster>(&cnpg::cluster_resource(), namespace, name).await?.metadata,
    };
    Ok((Some(workload), owners(&meta)))
}

/// The workload that makes a pod.
pub(super) fn controller(pod: &ObjectMeta) -> Option<ObjectRef> {
    let owner = pod.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let group = owner.api_version.split('/').next()?;
    match (group, &*owner.kind) {
        ("apps", "StatefulSet") => Some(ObjectRef { kind: Kind::StatefulSet, name: owner.name.clone() }),
        ("postgresql.cnpg.io", "Cluster") => {
            Some(ObjectRef { kind: Kind::Cluster, name: owner.name.clone() })
        }
        // The ReplicaSet in between is named after its Deployment and the hash that its pods carry too.
        ("apps", "ReplicaSet") => {
            let hash = pod.labels.as_ref()?.get("pod-template-hash")?;
            let name = owner.name.strip_suffix(hash)?.strip_suffix('-')?;
            Some(ObjectRef { kind: Kind::Deployment, name: name.to_owned() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn workload_of(meta: Value) -> Option<String> {
        let meta = serde_json::from_value(meta).expect("metadata");
        controller(&meta).map(|object| object.to_string())
    }

    fn owned(api_version: &str, kind: &str, name: &str) -> Value {
        json!({ "labels": { "pod-template-hash": "6f7d9c5b8" }, "ownerReferences": [
            { "apiVersion": api_version, "kind": kind, "name": name, "uid": "1", "controller": true }
        ] })
    }

    #[test]
    fn a_pod_tells_what_makes_it() {
        for (api_version, kind, name, expected) in [
            ("apps/v1", "StatefulSet", "immich-postgres", Some("sts/immich-postgres")),
            ("apps/v1", "ReplicaSet", "postgres-6f7d9c5b8", Some("deploy/postgres")),
            ("apps/v1", "ReplicaSet", "made-by-hand", None),
            ("postgresql.cnpg.io/v1", "Cluster", "immich-postgres", Some("cluster/immich-postgres")),
            ("batch/v1", "Job", "restore", None),
        ] {
            assert_eq!(workload_of(owned(api_version, kind, name)).as_deref(), expected, "{kind} {name}");
        }
        assert_eq!(workload_of(json!({})), None);
    }
}
