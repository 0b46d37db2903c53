//! Who writes to the source, or would: from what was seen, without a request.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::workload::{WorkloadKind, WorkloadName};
use crate::catalog::ClientSession;
use crate::cutover::object::{self, Object};
use crate::kubernetes::{Kind, ObjectRef};

/// What was seen of the source's namespace, of those of its applications, and of what manages them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sighting {
    /// The namespaces that were looked at; the source is in the first.
    pub(super) namespaces: Vec<String>,
    /// Pods, workloads and autoscalers of those namespaces, Services and claims of the source's, and the objects of Flux that
    /// manage them.
    pub(super) objects: Vec<Object>,
    /// The sessions of applications on the source's database.
    pub(super) sessions: Vec<ClientSession>,
    /// Where pods were that this run has stopped before; their sessions are waited for.
    pub(super) stopped: BTreeSet<IpAddr>,
    /// Whether the pods of all sessions were looked for in the whole cluster.
    pub(super) has_seen_cluster: bool,
}

impl Sighting {
    /// The source's namespace.
    pub(super) fn home(&self) -> &str {
        self.namespaces.first().map_or("", String::as_str)
    }

    /// The pods that have an address; several that are in the network of one node have the same.
    fn pods_at(&self, address: IpAddr) -> Vec<&Object> {
        let is_there =
            |pod: &&Object| pod.key.kind == "Pod" && is_running(pod) && addresses(pod).contains(&address);
        self.objects.iter().filter(is_there).collect()
    }

    /// Where sessions come from of which no pod was seen.
    pub(super) fn strange_addresses(&self) -> BTreeSet<IpAddr> {
        let known = |address: &IpAddr| self.stopped.contains(address) || !self.pods_at(*address).is_empty();
        let mut addresses: BTreeSet<IpAddr> = self.sessions.iter().filter_map(origin).collect();
        addresses.retain(|address| !known(address));
        addresses
    }
}

/// Where a session comes from; not known of another role's, and of a socket's.
pub(super) fn origin(session: &ClientSession) -> Option<IpAddr> {
    session.client.as_deref().and_then(|client| client.parse().ok())
}

/// The source, and what it needs.
#[derive(Debug, Default)]
pub(super) struct Source<'a> {
    /// None if it is not there.
    pub(super) workload: Option<&'a Object>,
    pods: Vec<&'a Object>,
    /// Its Services and claims.
    needs: Vec<&'a Object>,
}

impl<'a> Source<'a> {
    /// The workload, and what it needs.
    pub(super) fn objects(&self) -> impl Iterator<Item = &'a Object> {
        self.workload.into_iter().chain(self.needs.iter().copied())
    }
}

/// A workload that is stopped.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) object: &'a Object,
    /// Why, for a person.
    pub(super) reason: String,
}

/// Who writes, or would.
#[derive(Debug, Default)]
pub(super) struct Writers<'a> {
    pub(super) source: Source<'a>,
    pub(super) workloads: Vec<Writer<'a>>,
    /// Why not all of them can be stopped.
    pub(super) obstacles: Vec<String>,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
}

impl<'a> Writers<'a> {
    /// Finds the source, the workloads that the user named, and those whose pods are connected.
    pub(super) fn find(seen: &'a Sighting, source: &ObjectRef, named: &[WorkloadName]) -> Writers<'a> {
        let mut found = Writers { source: find_source(seen, source), ..Writers::default() };
        if found.source.workload.is_none() {
            found.obstacles.push(format!("{source} is not in namespace {}", seen.home()));
        }
        for name in named {
            let namespace = name.namespace(seen.home());
            let is_named = |object: &&Object| {
                WorkloadKind::of(&object.key) == Some(name.kind)
                    && object.key.name == name.name
                    && object.key.namespace == namespace
            };
            match seen.objects.iter().find(is_named) {
                Some(object) => found.add(object, "named by the user".to_owned()),
                None => found.obstacles.push(format!("{name} is not in namespace {namespace}")),
            }
        }
        for session in seen.sessions.iter().filter(|session| !session.application_name.starts_with("pgmove"))
        {
            found.add_session(seen, session);
        }
        found.add_jobs(seen);
        found
    }

    fn add(&mut self, object: &'a Object, reason: String) {
        if self.source.workload.is_some_and(|workload| workload.key == object.key) {
            self.obstacles.push(format!("{} is the source, which must stay up to be read", object.key));
        } else if !self.workloads.iter().any(|writer| writer.object.key == object.key) {
            self.workloads.push(Writer { object, reason });
        }
    }

    /// The Jobs that a CronJob has started go on when it is suspended.
    fn add_jobs(&mut self, seen: &'a Sighting) {
        let is_active =
            |job: &&Object| job.key.kind == "Job" && job.field("/status/active").as_u64() > Some(0);
        for job in seen.objects.iter().filter(is_active) {
            let is_of =
                |writer: &Writer<'_>| job.controller().is_some_and(|by| by.uid == writer.object.key.uid);
            if let Some(writer) = self.workloads.iter().find(|writer| is_of(writer)) {
                let reason = format!("started by {}", writer.object.key);
                self.add(job, reason);
            }
        }
    }

    fn add_session(&mut self, seen: &'a Sighting, session: &ClientSession) {
        let called = display_session(session);
        let Some(address) = origin(session) else {
            self.notes.push(format!("{called}: its address is hidden, or a socket in the source's own pod"));
            return;
        };
        match seen.pods_at(address)[..] {
            [pod] if self.source.pods.iter().any(|of_source| of_source.key == pod.key) => {
                self.notes.push(format!("{called} comes from the source's own pod {}", pod.key));
            }
            [pod] => self.add_pod(seen, pod, &called),
            [] if seen.stopped.contains(&address) => {}
            [] => self.notes.push(stranger(seen, &called, address)),
            ref pods => self.notes.push(format!(
                "{called} comes from {address}, which is a node's and that of {} pods: name its workload (--workload)",
                pods.len()
            )),
        }
    }

    fn add_pod(&mut self, seen: &'a Sighting, pod: &'a Object, session: &str) {
        let chain = controllers(seen, pod);
        let workloads: Vec<&Object> =
            chain.iter().copied().filter(|object| WorkloadKind::of(&object.key).is_some()).collect();
        // A running Job of a CronJob is stopped, and so is the CronJob.
        for workload in &workloads {
            self.add(workload, format!("{} is connected: {session}", pod.key));
        }
        if workloads.is_empty() {
            let looks_after = chain.last().and_then(|last| last.controller()).or_else(|| pod.controller());
            let obstacle = match looks_after {
                Some(controller) => format!(
                    "{} is connected, and pgmove cannot stop {} {}: stop it yourself",
                    pod.key, controller.kind, controller.name
                ),
                None => format!("{} is connected, and nothing looks after it: delete it yourself", pod.key),
            };
            if !self.obstacles.contains(&obstacle) {
                self.obstacles.push(obstacle);
            }
        }
    }
}

/// What is told of a session whose pod was not found.
fn stranger(seen: &Sighting, session: &str, address: IpAddr) -> String {
    if seen.has_seen_cluster {
        format!(
            "{session} comes from {address}, which no pod of the cluster has to itself: if its workload is in a node's network, \
             name it (--workload); else only the fence can end it"
        )
    } else {
        format!(
            "{session} comes from {address}, which is no pod in namespace {}, and the account may not list the pods of others: if \
             its workload is there, name it (--workload NAMESPACE/deploy/NAME); else only the fence can end it",
            seen.namespaces.join(" or ")
        )
    }
}

/// A session as a person is told of it.
pub(super) fn display_session(session: &ClientSession) -> String {
    let name = match session.application_name.as_str() {
        "" => "(unnamed)",
        name => name,
    };
    format!("session {} of role {} ({name})", session.pid, session.role)
}

/// The workload behind the source's name, its pods, and what they need.
fn find_source<'a>(seen: &'a Sighting, source: &ObjectRef) -> Source<'a> {
    let of_kind = |kind: &'static str| {
        let is_there = move |object: &&Object| object.key.kind == kind && object.key.namespace == seen.home();
        seen.objects.iter().filter(is_there)
    };
    let named = of_kind(source.kind.name()).find(|object| object.key.name == source.name);
    let pods: Vec<&Object> = of_kind("Pod")
        .filter(|pod| match source.kind {
            Kind::Pod => pod.key.name == source.name,
            Kind::Cluster => pod.label("cnpg.io/cluster") == Some(&source.name),
            Kind::Service => named.is_some_and(|service| selects(service, pod)),
            Kind::StatefulSet | Kind::Deployment => {
                named.is_some_and(|named| controllers(seen, pod).iter().any(|object| object.key == named.key))
            }
        })
        .collect();
    let workload = match source.kind {
        Kind::Pod | Kind::Service => {
            pods.first().map(|pod| controllers(seen, pod).last().copied().unwrap_or(pod))
        }
        Kind::StatefulSet | Kind::Deployment | Kind::Cluster => named,
    };
    let services = of_kind("Service").filter(|service| pods.iter().any(|pod| selects(service, pod)));
    let claims: BTreeSet<&str> = pods
        .iter()
        .flat_map(|pod| pod.elements("/spec/volumes"))
        .filter_map(|volume| object::field(volume, "/persistentVolumeClaim/claimName").as_str())
        .collect();
    let claims = of_kind("PersistentVolumeClaim").filter(|claim| claims.contains(claim.key.name.as_str()));
    let needs = services.chain(claims).collect();
    Source { workload, pods, needs }
}

/// What looks after an object, and what looks after that, as far as it was seen.
pub(super) fn controllers<'a>(seen: &'a Sighting, object: &'a Object) -> Vec<&'a Object> {
    let mut chain: Vec<&Object> = vec![];
    let mut below = object;
    while let Some(above) = below.controller().and_then(|controller| {
        seen.objects
            .iter()
            .find(|object| object.key.uid == controller.uid && object.key.kind == controller.kind)
    }) {
        if chain.iter().any(|known| known.key == above.key) {
            break;
        }
        chain.push(above);
        below = above;
    }
    chain
}

/// Whether a Service sends to a pod. One without a selector sends to nothing of its own.
fn selects(service: &Object, pod: &Object) -> bool {
    let selector = service.field("/spec/selector").as_object();
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(name, value)| pod.label(name) == value.as_str())
    })
}

/// Whether a pod still has its address.
pub(super) fn is_running(pod: &Object) -> bool {
    !matches!(pod.text("/status/phase"), Some("Succeeded" | "Failed"))
}

/// A pod's addresses.
pub(super) fn addresses(pod: &Object) -> Vec<IpAddr> {
    pod.elements("/status/podIPs").filter_map(|ip| ip.get("ip")?.as_str()?.parse().ok()).collect()
}

/// Whether a pod's addresses are its own, and not its node's.
pub(super) fn has_own_address(pod: &Object) -> bool {
    pod.field("/spec/hostNetwork") != true
}
