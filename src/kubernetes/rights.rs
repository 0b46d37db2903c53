//! The rights that pgmove needs in a cluster: one table, from which Roles are made ([`super::role`], `pgmove rbac`).
//!
//! Each way of working lists every request that it makes, as RBAC calls it. What is not in the table is not asked for,
//! except where an object is not found: then what is there instead is listed, if that is allowed.

use std::fmt;

use super::client::ApiServer;
use super::object::{Kind, ObjectRef};
use super::request::{ApiError, LIMIT, Request};

/// A way of working with a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Find the only server and the only Cluster of a namespace, where none is named.
    Discover,
    /// Find a server's pod, its login and its volume, and connect to it through port-forwards.
    Connect,
    /// Run programs in a server's pod.
    Exec,
    /// Log in as the superuser of a Cluster.
    Superuser,
    /// Leave extensions to the operator of a Cluster.
    Operator,
    /// Know a Cluster's server by its certificate.
    VerifyFull,
    /// Freeze what writes to the source, and watch it.
    Freeze,
    /// Put back what was frozen.
    Rollback,
}

/// Where a right is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The namespace of the server, and of the applications beside it.
    Application,
    /// Each other namespace with applications that are stopped.
    Workloads,
    /// Each namespace in which Flux keeps what manages them; it may be the same.
    Flux,
    /// Objects that are in no namespace.
    Cluster,
}

/// A server, as far as its rights depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// The object behind which it is.
    pub object: &'a ObjectRef,
    /// The Secret with its login, where that is known.
    pub secret: Option<&'a str>,
}

/// Verbs on resources of one API group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// Resources, with their subresources.
    pub resources: Vec<&'static str>,
    /// Verbs.
    pub verbs: Vec<&'static str>,
    /// Which objects; empty for all.
    pub names: Vec<String>,
}

/// `get, list pods`, `get secrets (immich-postgres)`, `create leases.coordination.k8s.io`.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = |resource: &&str| match self.group {
            "" => (*resource).to_owned(),
            group => format!("{resource}.{group}"),
        };
        let resources: Vec<String> = self.resources.iter().map(resource).collect();
        write!(f, "{} {}", self.verbs.join(", "), resources.join(", "))?;
        if self.names.is_empty() { Ok(()) } else { write!(f, " ({})", self.names.join(", ")) }
    }
}

fn right(group: &'static str, resources: &[&'static str], verbs: &[&'static str]) -> Right {
    Right { group, resources: resources.to_vec(), verbs: verbs.to_vec(), names: vec![] }
}

impl Right {
    /// A right for each verb on each resource, and on each object that is named.
    pub fn singles(&self) -> Vec<Right> {
        let mut singles = vec![];
        for resource in &self.resources {
            for verb in &self.verbs {
                let one = Right { resources: vec![resource], verbs: vec![verb], ..self.clone() };
                if one.names.is_empty() {
                    singles.push(one);
                } else {
                    singles.extend(
                        one.names.iter().map(|name| Right { names: vec![name.clone()], ..one.clone() }),
                    );
                }
            }
        }
        singles
    }

    /// A single right as the API server can be asked for it.
    fn request(&self, namespace: &str) -> Request {
        let resource = self.resources.first().copied().unwrap_or_default();
        Request {
            verb: self.verbs.first().copied().unwrap_or_default(),
            group: self.group.to_owned(),
            resource: resource.to_owned(),
            kind: resource.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: self.names.first().cloned(),
        }
    }

    fn on(self, names: impl IntoIterator<Item = String>) -> Right {
        Right { names: names.into_iter().collect(), ..self }
    }
}

/// What a way of working needs.
pub fn rights(way: Way, server: &Server<'_>, place: Place) -> Vec<Right> {
    match (way, place) {
        (Way::Discover, Place::Application) => vec![
            right("", &["pods"], &["list"]),
            right(CLUSTERS.0, CLUSTERS.1, &["list"]),
            // Where there is no server: what one has left.
            right("", &["persistentvolumeclaims"], &["list"]),
        ],
        (Way::Connect, Place::Application) => connect(server),
        // The reclaim policy of its volume; it is only told.
        (Way::Connect, Place::Cluster) => vec![right("", &["persistentvolumes"], &["get"])],
        (Way::Exec, Place::Application) => vec![in_pod("pods/exec", server.object)],
        (Way::Superuser, Place::Application) if server.object.kind == Kind::Cluster => {
            vec![right("", &["secrets"], &["get"]).on([format!("{}-superuser", server.object.name)])]
        }
        // The run's own Database, whose name is not known before.
        (Way::Operator, Place::Application) if server.object.kind == Kind::Cluster => {
            let verbs = ["get", "list", "create", "patch", "delete"];
            vec![right("postgresql.cnpg.io", &["databases"], &verbs)]
        }
        // It holds the private key of the authority too.
        (Way::VerifyFull, Place::Application) if server.object.kind == Kind::Cluster => {
            vec![right("", &["secrets"], &["get"]).on([format!("{}-ca", server.object.name)])]
        }
        (Way::Freeze, Place::Application) => freeze(server.object),
        (Way::Freeze, Place::Workloads) => {
            [lead_to_workloads(), change(&STOPPED, &CHANGE_AND_WATCH)].concat()
        }
        // From a session to its pod, in whichever namespace; what is found there can be named too.
        (Way::Freeze, Place::Cluster) => vec![right("", &["pods"], &["list"])],
        (Way::Freeze, Place::Flux) => change(&FLUX, &CHANGE_AND_WATCH),
        (Way::Rollback, Place::Application) => rollback(server.object),
        // What is elsewhere is not searched for: the Lease names it.
        (Way::Rollback, Place::Workloads) => change(&STOPPED, &["get", "patch"]),
        (Way::Rollback, Place::Flux) => change(&FLUX, &["get", "patch"]),
        _ => vec![],
    }
}

/// Those of some rights that the account has not in a namespace, by the API server's own word: a verb on a resource each.
pub async fn lacking(server: &ApiServer, namespace: &str, rights: &[Right]) -> Result<Vec<Right>, ApiError> {
    let mut lacking: Vec<Right> = vec![];
    let singles: Vec<Right> = rights.iter().flat_map(Right::singles).collect();
    let is_websocket =
        |single: &Right| single.verbs == ["create"] && single.resources.iter().any(|of| of.contains('/'));
    let are_checked = singles.iter().any(is_websocket) && websockets_are_created(server).await;
    for single in singles {
        let is_enforced = are_checked || !is_websocket(&single);
        if is_enforced && !lacking.contains(&single) && !server.may(&single.request(namespace)).await? {
            lacking.push(single);
        }
    }
    Ok(lacking)
}

/// Whether a websocket is a `create` too: since Kubernetes 1.35. A server that does not tell its version is not asked for more
/// than older ones check.
async fn websockets_are_created(server: &ApiServer) -> bool {
    let version = tokio::time::timeout(LIMIT, server.client().apiserver_version()).await;
    version
        .is_ok_and(|version| version.is_ok_and(|version| is_since(&version.major, &version.minor, (1, 35))))
}

/// Whether a version is that one or a later one. Some providers write `35+`.
fn is_since(major: &str, minor: &str, since: (u32, u32)) -> bool {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    number(major).zip(number(minor)).is_some_and(|version| version >= since)
}

/// A websocket is opened with GET, and since Kubernetes 1.35 is a `create` too.
fn in_pod(subresource: &'static str, object: &ObjectRef) -> Right {
    let right = right("", &[subresource], &["get", "create"]);
    // Others make a pod of a new name when this one is gone.
    if object.kind == Kind::Pod { right.on([object.name.clone()]) } else { right }
}

fn connect(server: &Server<'_>) -> Vec<Right> {
    let Server { object, secret } = server;
    let own = right(object.kind.group(), &[object.kind.plural()], &["get"]).on([object.name.clone()]);
    let mut rights = vec![own, in_pod("pods/portforward", object)];
    match object.kind {
        Kind::StatefulSet | Kind::Deployment => {
            rights.push(right("", &["pods"], &["list"]));
            // When the workload is gone: what it has left.
            rights.push(right("", &["persistentvolumeclaims"], &["list"]));
        }
        Kind::Service => rights.push(right("", &["pods"], &["list"])),
        Kind::Cluster => rights.push(right("", &["pods"], &["get"])),
        Kind::Pod => {}
    }
    if matches!(object.kind, Kind::Pod | Kind::Service) {
        // Who makes the pod.
        rights.push(right("apps", &["statefulsets", "deployments"], &["get"]));
    }
    rights.push(right("", &["persistentvolumeclaims"], &["get"]));
    let secrets = right("", &["secrets"], &["get"]);
    match (object.kind, secret) {
        (Kind::Cluster, secret) => {
            let name = &object.name;
            let login = secret.map_or_else(|| format!("{name}-app"), str::to_owned);
            rights.push(secrets.on([login]));
        }
        (_, secret) => {
            rights.push(secrets.on(secret.map(str::to_owned)));
            rights.push(right("", &["configmaps"], &["get"]));
        }
    }
    rights
}

const CHANGE: [&str; 3] = ["get", "list", "patch"];
const CHANGE_AND_WATCH: [&str; 4] = ["get", "list", "watch", "patch"];

type Kinds = (&'static str, &'static [&'static str]);

/// Kinds that a freeze marks, since the source needs them.
const KEPT: [Kinds; 1] = [("", &["services", "persistentvolumeclaims"])];

/// Kinds that a freeze stops.
const STOPPED: [Kinds; 3] = [
    ("apps", &["deployments", "statefulsets"]),
    ("batch", &["cronjobs", "jobs"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
];

const CLUSTERS: Kinds = ("postgresql.cnpg.io", &["clusters"]);
const LEASES: Kinds = ("coordination.k8s.io", &["leases"]);

/// Kinds of Flux that a freeze changes.
const FLUX: [Kinds; 3] = [
    ("image.toolkit.fluxcd.io", &["imageupdateautomations"]),
    ("kustomize.toolkit.fluxcd.io", &["kustomizations"]),
    ("helm.toolkit.fluxcd.io", &["helmreleases"]),
];

fn change(kinds: &[Kinds], verbs: &[&'static str]) -> Vec<Right> {
    kinds.iter().map(|(group, resources)| right(group, resources, verbs)).collect()
}

/// From a session to its pod, and from the pod to its workload.
fn lead_to_workloads() -> Vec<Right> {
    vec![right("", &["pods"], &["list"]), right("apps", &["replicasets"], &["list"])]
}

fn freeze(source: &ObjectRef) -> Vec<Right> {
    let changed = [change(&KEPT, &CHANGE_AND_WATCH), change(&STOPPED, &CHANGE_AND_WATCH)];
    let mut rights = [lead_to_workloads(), changed.concat()].concat();
    if source.kind == Kind::Cluster {
        rights.push(right(CLUSTERS.0, CLUSTERS.1, &CHANGE_AND_WATCH).on([source.name.clone()]));
    }
    rights.push(right(LEASES.0, LEASES.1, &["get", "create", "update"]));
    rights
}

/// Whatever was frozen in the namespace is searched for, by whichever freeze.
fn rollback(source: &ObjectRef) -> Vec<Right> {
    let mut rights = [change(&KEPT, &CHANGE), change(&STOPPED, &CHANGE)].concat();
    rights.push(right(CLUSTERS.0, CLUSTERS.1, &["list"]));
    if source.kind == Kind::Cluster {
        rights.push(right(CLUSTERS.0, CLUSTERS.1, &["get", "patch"]).on([source.name.clone()]));
    }
    rights.extend(change(&FLUX, &["list"]));
    rights.push(right(LEASES.0, LEASES.1, &["get", "list", "update", "delete"]));
    rights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_providers_write_them() {
        assert!(is_since("1", "35", (1, 35)) && is_since("1", "36+", (1, 35)) && is_since("2", "0", (1, 35)));
        assert!(!is_since("1", "34+", (1, 35)) && !is_since("", "", (1, 35)));
    }
}
