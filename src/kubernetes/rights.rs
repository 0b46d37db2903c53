//! The rights that pgmove needs in a cluster: one table, from which Roles are made.
//!
//! Each way of working lists every request that it makes, as RBAC calls it. What is not in the table is not asked for.

use serde_json::{Value, json};

/// A way of working with a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Find a server's pod and its login, and connect to it through a port-forward.
    Connect,
    /// Run programs in a server's pod.
    Exec,
    /// Freeze what writes to the source, and watch it.
    Freeze,
    /// Put back what was frozen.
    Rollback,
}

/// In which namespace a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// That of the server and its applications.
    Application,
    /// Any other one in which Flux keeps what manages them.
    Flux,
}

/// Verbs on resources of one API group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// Resources, with their subresources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
}

const fn right(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
) -> Right {
    Right { group, resources, verbs }
}

const CONNECT: &[Right] = &[
    right("", &["pods"], &["get", "list"]),
    // A websocket is opened with GET, and since Kubernetes 1.35 is a `create` too.
    right("", &["pods/portforward"], &["get", "create"]),
    right("", &["services", "secrets", "configmaps"], &["get"]),
    right("apps", &["statefulsets", "deployments"], &["get"]),
    right("postgresql.cnpg.io", &["clusters"], &["get"]),
];

const EXEC: &[Right] = &[right("", &["pods/exec"], &["get", "create"])];

const FREEZE: &[Right] = &[
    right("", &["pods"], &["list"]),
    right("apps", &["replicasets"], &["list"]),
    right("", &["services", "persistentvolumeclaims"], &["get", "list", "watch", "patch"]),
    right("apps", &["deployments", "statefulsets"], &["get", "list", "watch", "patch"]),
    right("batch", &["cronjobs", "jobs"], &["get", "list", "watch", "patch"]),
    right("autoscaling", &["horizontalpodautoscalers"], &["get", "list", "watch", "patch"]),
    right("postgresql.cnpg.io", &["clusters"], &["get", "list", "watch", "patch"]),
    right("coordination.k8s.io", &["leases"], &["get", "create", "update"]),
];

/// Flux's objects can be in any namespace, in that of the applications too.
const FREEZE_FLUX: &[Right] = &[
    right("image.toolkit.fluxcd.io", &["imageupdateautomations"], &["get", "list", "watch", "patch"]),
    right("kustomize.toolkit.fluxcd.io", &["kustomizations"], &["get", "list", "watch", "patch"]),
    right("helm.toolkit.fluxcd.io", &["helmreleases"], &["get", "list", "watch", "patch"]),
];

const ROLLBACK: &[Right] = &[
    right("", &["services", "persistentvolumeclaims"], &["get", "list", "patch"]),
    right("apps", &["deployments", "statefulsets"], &["get", "list", "patch"]),
    right("batch", &["cronjobs", "jobs"], &["get", "list", "patch"]),
    right("autoscaling", &["horizontalpodautoscalers"], &["get", "list", "patch"]),
    right("postgresql.cnpg.io", &["clusters"], &["get", "list", "patch"]),
    right("coordination.k8s.io", &["leases"], &["get", "list", "update", "delete"]),
];

const ROLLBACK_FLUX: &[Right] = &[
    right("image.toolkit.fluxcd.io", &["imageupdateautomations"], &["get", "list", "patch"]),
    right("kustomize.toolkit.fluxcd.io", &["kustomizations"], &["get", "list", "patch"]),
    right("helm.toolkit.fluxcd.io", &["helmreleases"], &["get", "list", "patch"]),
];

/// What a way of working needs in a namespace.
pub fn rights(way: Way, place: Place) -> impl Iterator<Item = &'static Right> {
    let (application, flux): (&[Right], &[Right]) = match way {
        Way::Connect => (CONNECT, &[]),
        Way::Exec => (EXEC, &[]),
        Way::Freeze => (FREEZE, FREEZE_FLUX),
        Way::Rollback => (ROLLBACK, ROLLBACK_FLUX),
    };
    let application = if place == Place::Application { application } else { &[] };
    application.iter().chain(flux)
}

/// The same as the rules of a Role.
pub fn rules(way: Way, place: Place) -> Vec<Value> {
    let rule = |right: &Right| json!({ "apiGroups": [right.group], "resources": right.resources, "verbs": right.verbs });
    rights(way, place).map(rule).collect()
}
