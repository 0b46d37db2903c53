//! The Cluster of a fixture, `immich-postgres`, with what its operator does: no operator runs here, so the tests play it.

use serde_json::{Value, json};

use super::Namespace;

const CLUSTER: &str = "clusters.postgresql.cnpg.io/immich-postgres";

/// The application's login.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) password: &'a str,
    pub(super) database: &'a str,
}

/// A Cluster of two instances, with the Secrets that its operator makes; the primary is pod `immich-postgres-1`.
pub(super) fn cluster(namespace: &Namespace, login: &Login<'_>) {
    cluster_at(namespace, login, 5432);
}

/// The same, whose pods say that their server has this port.
pub(super) fn cluster_at(namespace: &Namespace, login: &Login<'_>, port: u16) {
    let Login { user, password, database } = login;
    let text = include_str!("../../fixtures/kubernetes/cluster.json");
    let mut cluster: Value = serde_json::from_str(text).expect("a fixture is JSON");
    let status = cluster["status"].take();
    cluster["metadata"] = json!({ "name": "immich-postgres" });
    cluster.as_object_mut().expect("an object").remove("status");
    cluster["spec"]["bootstrap"]["initdb"]["owner"] = json!(user);
    cluster["spec"]["bootstrap"]["initdb"]["database"] = json!(database);
    namespace.apply(&cluster.to_string());
    report(namespace, &status);
    let host = "immich-postgres-rw";
    let app = json!({ "username": user, "password": password, "dbname": database, "host": host });
    secret(namespace, "immich-postgres-app", &app);
    secret(namespace, "immich-postgres-ca", &json!({ "ca.crt": "certificate", "ca.key": password }));
    for name in ["immich-postgres-1", "immich-postgres-2"] {
        instance(namespace, name, port);
    }
}

/// The pod of an instance, when it is ready; its UID.
pub(super) fn instance(namespace: &Namespace, name: &str, port: u16) -> String {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": name, "labels": { "cnpg.io/cluster": "immich-postgres" },
    }, "spec": { "containers": [
        { "name": "postgres", "image": "registry/cloudnative-vectorchord:16.11-1.0.0", "ports": [
            { "containerPort": port, "name": "postgresql" }, { "containerPort": 9187, "name": "metrics" },
        ] },
    ] } });
    namespace.apply(&pod.to_string());
    namespace.ready_pod(name)
}

/// Lets `postgres` log in, with a Secret.
pub(super) fn enable_superuser(namespace: &Namespace, password: &str) {
    let enabled = json!({ "spec": { "enableSuperuserAccess": true } }).to_string();
    namespace.kubectl(&["patch", CLUSTER, "--type=merge", "--patch", &enabled]);
    secret(namespace, "immich-postgres-superuser", &json!({ "username": "postgres", "password": password }));
}

/// Writes the Cluster's status.
pub(super) fn report(namespace: &Namespace, status: &Value) {
    let patch = json!({ "status": status }).to_string();
    namespace.kubectl(&["patch", CLUSTER, "--subresource=status", "--type=merge", "--patch", &patch]);
}

pub(super) fn secret(namespace: &Namespace, name: &str, pairs: &Value) {
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": pairs });
    namespace.apply(&secret.to_string());
}
