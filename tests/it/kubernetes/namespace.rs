//! A namespace for one test, and how its pods get a database behind them.

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU8, AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::{
    Cluster,
    cluster::{LIMIT, eventually},
};
use crate::support::Server;

static NEXT: AtomicU32 = AtomicU32::new(0);
static NEXT_ADDRESS: AtomicU8 = AtomicU8::new(2);

/// Deleted, with all that is in it, when dropped.
pub(crate) struct Namespace {
    pub(crate) cluster: &'static Cluster,
    pub(crate) name: String,
    /// Kubeconfigs of its service accounts.
    files: tempfile::TempDir,
}

impl Namespace {
    pub(super) fn create(cluster: &'static Cluster) -> Self {
        let name = format!("test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.kubectl(&["create", "namespace", &name], "");
        // Until it is there, no pod is admitted.
        let wait = format!("--timeout={}s", LIMIT.as_secs());
        cluster.kubectl(&["wait", "--for=create", "serviceaccount/default", "-n", &name, &wait], "");
        Self { cluster, name, files: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Runs kubectl here; see [`Cluster::kubectl`].
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["--namespace", &self.name], arguments].concat(), "")
    }

    /// Makes or changes objects, given as YAML or JSON.
    pub(crate) fn apply(&self, objects: &str) {
        self.cluster.kubectl(&["--namespace", &self.name, "apply", "--server-side", "--filename=-"], objects);
    }

    /// An object as the API server has it; none when there is none.
    pub(crate) fn get(&self, object: &str) -> Option<Value> {
        let arguments = ["--namespace", &self.name, "get", object, "--ignore-not-found", "--output=json"];
        let text = self.cluster.kubectl(&arguments, "");
        (!text.is_empty()).then(|| serde_json::from_str(&text).expect("kubectl prints JSON"))
    }

    /// Waits until a pod is ready, and returns its UID.
    pub(crate) fn ready_pod(&self, pod: &str) -> String {
        eventually(&format!("pod {pod} is ready"), || {
            let pod = self.get(&format!("pod/{pod}"))?;
            let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            let conditions = pod["status"]["conditions"].as_array()?;
            let uid = pod["metadata"]["uid"].as_str()?.to_owned();
            (pod["metadata"]["deletionTimestamp"].is_null() && conditions.iter().any(is_ready)).then_some(uid)
        })
    }

    /// Deletes a pod, and returns the UID of the one that its controller makes in its place.
    pub(crate) fn replace_pod(&self, pod: &str) -> String {
        let former = self.ready_pod(pod);
        // kubectl itself would wait for ever where the new one comes before it looks.
        self.kubectl(&["delete", "pod", pod, "--wait=false"]);
        eventually(&format!("pod {pod} is replaced"), || {
            Some(self.ready_pod(pod)).filter(|uid| *uid != former)
        })
    }

    /// The only pod with this label `app`, when it is ready.
    pub(crate) fn pod_of(&self, app: &str) -> String {
        let selector = format!("--selector=app={app}");
        let pod = eventually(&format!("{app} has a pod"), || {
            let pod = self.kubectl(&["get", "pods", &selector, "--output=name"]);
            pod.strip_prefix("pod/").map(str::to_owned)
        });
        self.ready_pod(&pod);
        pod
    }

    /// Gives a pod an address of this machine that no other has: it is alone with the sessions from there
    /// ([`crate::support::Database::connect_from`]). As in a cluster of two families, the other one's comes first.
    pub(crate) fn give_address(&self, pod: &str) -> Ipv4Addr {
        let [.., high, low] = process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, high, low, NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed));
        let first = format!("fd00::{high:x}:{low:x}:{:x}", address.octets()[3]);
        let addresses =
            json!({ "status": { "podIP": first, "podIPs": [{ "ip": first }, { "ip": address }] } });
        self.kubectl(&[
            "patch",
            "pod",
            pod,
            "--subresource=status",
            "--type=merge",
            &format!("--patch={addresses}"),
        ]);
        address
    }

    /// A `StatefulSet` of one pod, `NAME-0`, whose container `postgres` says that it listens on 5432.
    pub(crate) fn stateful_set(&self, name: &str) {
        self.apply(&stateful_set(name).to_string());
        self.ready_pod(&format!("{name}-0"));
    }

    /// Puts the server behind a pod, and any that takes its name later: port-forwards to 5432 reach it, and programs run by
    /// exec find it over its Unix socket, as the superuser and without a password.
    pub(crate) fn lead(&self, pod: &str, server: &Server) {
        self.forward(pod, server.port);
        let directory = server.directory().expect("a local server");
        let environment = json!([
            { "name": "PGHOST", "value": directory },
            { "name": "PGPORT", "value": server.port.to_string() },
            { "name": "PGUSER", "value": "postgres" },
        ]);
        let exec = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Exec",
            "metadata": { "name": pod },
            "spec": { "execs": [{ "containers": ["postgres"], "local": { "envs": environment } }] },
        });
        self.apply(&exec.to_string());
    }

    /// Makes port-forwards to 5432 of this pod, and of any that takes its name later, reach a port of 127.0.0.1.
    pub(crate) fn forward(&self, pod: &str, port: u16) {
        self.forward_from(pod, 5432, port);
    }

    /// The same of another port of the pod.
    pub(crate) fn forward_from(&self, pod: &str, from: u16, port: u16) {
        let forward = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "PortForward",
            "metadata": { "name": pod },
            "spec": { "forwards": [{ "ports": [from], "target": { "address": "127.0.0.1", "port": port } }] },
        });
        self.apply(&forward.to_string());
    }

    /// The kubeconfig of a service account that may do here what these rules of a Role say, and nothing else.
    pub(crate) fn account(&self, name: &str, rules: &Value) -> PathBuf {
        self.apply(
            &json!({
                "apiVersion": "v1",
                "kind": "List",
                "items": [
                    { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } },
                    {
                        "apiVersion": "rbac.authorization.k8s.io/v1",
                        "kind": "Role",
                        "metadata": { "name": name },
                        "rules": rules,
                    },
                    {
                        "apiVersion": "rbac.authorization.k8s.io/v1",
                        "kind": "RoleBinding",
                        "metadata": { "name": name },
                        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": self.name }],
                    },
                ],
            })
            .to_string(),
        );
        self.login(name)
    }

    /// The kubeconfig of a service account.
    pub(crate) fn login(&self, name: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", name]);
        self.kubeconfig(name, |user| *user = json!({ "token": token }))
    }

    /// A kubeconfig that has the rights of a service account, as the administrator who acts for it.
    pub(crate) fn acting_for(&self, name: &str) -> PathBuf {
        let account = format!("system:serviceaccount:{}:{name}", self.name);
        self.kubeconfig(name, |user| user["as"] = json!(account))
    }

    /// The administrator's kubeconfig, with a change of its user.
    pub(super) fn kubeconfig(&self, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let text = fs::read(&self.cluster.kubeconfig).expect("the administrator's kubeconfig");
        let mut config: Value = serde_json::from_slice(&text).expect("it is written as JSON");
        change(&mut config["users"][0]["user"]);
        config["contexts"][0]["context"]["namespace"] = json!(self.name);
        let file = self.files.path().join(name);
        fs::write(&file, config.to_string()).expect("a file of a temporary directory");
        file
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What fails here ends with the control plane.
        let _ = self.cluster.try_kubectl(&["delete", "namespace", &self.name, "--wait=false"], "");
    }
}

/// What [`Namespace::stateful_set`] applies.
pub(crate) fn stateful_set(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": name },
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "containers": [{
                        "name": "postgres",
                        "image": "postgres:15",
                        "ports": [{ "name": "postgres", "containerPort": 5432 }],
                    }],
                },
            },
        },
    })
}
