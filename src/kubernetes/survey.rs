//! What is in a namespace that a move can begin or end at.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::client::ApiServer;
use super::cnpg;
use super::instance::controller;
use super::object::{Kind, ObjectRef};
use super::request::ApiError;
use super::workload::is_server;

/// The label by which CloudNative-PG marks the pods of its Clusters.
pub(super) const CLUSTER_LABEL: &str = "cnpg.io/cluster";

/// The PostgreSQL servers of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Workloads and single pods with a server in them, but for those of CloudNative-PG.
    pub servers: Vec<ObjectRef>,
    /// Clusters of CloudNative-PG.
    pub clusters: Vec<ObjectRef>,
}

impl Survey {
    /// Looks around.
    pub async fn look(server: &ApiServer, namespace: &str) -> Result<Survey, ApiError> {
        let pods: Vec<Pod> = server.list(&(), namespace, "").await?;
        let clusters = match server.list::<cnpg::Cluster>(&cnpg::cluster_resource(), namespace, "").await {
            Ok(found) => found.iter().map(ResourceExt::name_any).collect(),
            // Without the operator the API server knows no such resource.
            Err(error) if error.is_unknown_resource() => vec![],
            Err(error) => return Err(error),
        };
        let clusters = clusters.into_iter().map(|name| ObjectRef { kind: Kind::Cluster, name }).collect();
        Ok(Survey { servers: servers(&pods), clusters })
    }
}

fn servers(pods: &[Pod]) -> Vec<ObjectRef> {
    let mut found = Vec::new();
    for pod in pods.iter().filter(|pod| is_server(pod) && !pod.labels().contains_key(CLUSTER_LABEL)) {
        let made_by = controller(&pod.metadata);
        let object = made_by.unwrap_or_else(|| ObjectRef { kind: Kind::Pod, name: pod.name_any() });
        if !found.contains(&object) {
            found.push(object);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: Option<&str>, label: &str, variable: &str) -> Pod {
        let owners = owner.map(|name| {
            json!([{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": "1", "controller": true }])
        });
        let pod = json!({
            "metadata": { "name": name, "labels": { label: "x" }, "ownerReferences": owners },
            "spec": { "containers": [{ "name": "main", "env": [{ "name": variable, "value": "x" }] }] },
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_server_is_named_by_what_makes_its_pod() {
        let found = servers(&[
            pod("immich-postgres-0", Some("immich-postgres"), "app", "POSTGRES_PASSWORD"),
            pod("immich-postgres-1", Some("immich-postgres"), "app", "POSTGRES_PASSWORD"),
            pod("by-hand", None, "app", "PGDATA"),
            pod("immich-server-0", Some("immich-server"), "app", "DB_PASSWORD"),
            pod("new-1", None, CLUSTER_LABEL, "PGDATA"),
        ]);
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["sts/immich-postgres", "pod/by-hand"]);
    }
}
