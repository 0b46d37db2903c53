//! The parts of the control plane and how each is started. All listen on 127.0.0.1.

use std::{env, net::TcpListener, path::Path};

use anyhow::{Context, Result};

use super::{
    credentials::{ADMINISTRATOR, Credentials},
    programs::Programs,
    state::{Process, State},
};

/// The controllers that the tests need. Without those of nodes, no pod is evicted when this machine is slow.
const CONTROLLERS: [&str; 18] = [
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "deployment-controller",
    "disruption-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
];

/// Everything that is to run in a new `directory`; `client_bin_dir` is what an exec finds first on its path.
pub(super) fn lay_out(programs: &Programs, directory: &Path, client_bin_dir: &Path) -> Result<State> {
    let [etcd, peers, api_server, node, kwok, flux] = free_ports()?;
    let credentials = Credentials::make(&directory.join("credentials"), api_server)?;
    let parts = Parts { programs, directory };
    let [clients, peers] = [etcd, peers].map(|port| format!("http://127.0.0.1:{port}"));
    let kubeconfig = credentials.kubeconfig(ADMINISTRATOR);
    let (certificate, key) = credentials.server();
    let tls = [option("tls-cert-file", &certificate), option("tls-private-key-file", &key)];

    let mut streams = parts.process(
        "kubelet-streams",
        Some(node),
        [option("kubeconfig", &kubeconfig), format!("--address=127.0.0.1:{node}")]
            .into_iter()
            .chain(tls.clone()),
    );
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([client_bin_dir.to_owned()].into_iter().chain(env::split_paths(&path)))?;
    let path = path.into_string().ok().context("PATH is not UTF-8")?;
    streams.environment.insert("PATH".to_owned(), path);

    let mut kustomize_controller = parts.process(
        "kustomize-controller",
        Some(flux),
        [
            "--watch-all-namespaces=true".to_owned(),
            "--metrics-addr=0".to_owned(),
            format!("--health-addr=127.0.0.1:{flux}"),
            // The source of a test that has ended is gone for good: what waits for it holds up the others.
            "--http-retry=1".to_owned(),
            "--requeue-dependency=1s".to_owned(),
            "--log-encoding=console".to_owned(),
        ],
    );
    kustomize_controller.environment.insert("KUBECONFIG".to_owned(), text(&kubeconfig));

    let processes = vec![
        parts.process(
            "etcd",
            Some(etcd),
            [
                option("data-dir", &directory.join("etcd")),
                format!("--listen-client-urls={clients}"),
                format!("--advertise-client-urls={clients}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                // Nothing here has to survive the machine.
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
            ],
        ),
        parts.process(
            "kube-apiserver",
            Some(api_server),
            [
                format!("--etcd-servers={clients}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                format!("--secure-port={api_server}"),
                option("client-ca-file", &credentials.authority()),
                "--authorization-mode=RBAC".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                option("service-account-signing-key-file", &credentials.service_account_key()),
                option("service-account-key-file", &credentials.service_account_key()),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                // No pod could reach it; it would need an address that is not of loopback.
                "--endpoint-reconciler-type=none".to_owned(),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                // It taints a new node, and only the controller of nodes takes that away again.
                "--disable-admission-plugins=TaintNodesByCondition".to_owned(),
                "--profiling=false".to_owned(),
                // An autoscaler that may start its target from zero has to be frozen too.
                "--feature-gates=HPAScaleToZero=true".to_owned(),
            ]
            .into_iter()
            .chain(tls.clone()),
        ),
        parts.process(
            "kube-controller-manager",
            None,
            [
                option("kubeconfig", &credentials.kubeconfig("system:kube-controller-manager")),
                option("root-ca-file", &credentials.authority()),
                format!("--controllers={}", CONTROLLERS.join(",")),
                "--use-service-account-credentials".to_owned(),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ],
        ),
        parts.process(
            "kube-scheduler",
            None,
            [
                option("kubeconfig", &credentials.kubeconfig("system:kube-scheduler")),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ],
        ),
        streams,
        parts.process(
            "kwok",
            Some(kwok),
            [
                option("kubeconfig", &kubeconfig),
                "--manage-all-nodes=true".to_owned(),
                "--node-ip=127.0.0.1".to_owned(),
                // Where the API server finds the node's streams; kwok's own server is not asked for them.
                format!("--node-port={node}"),
                format!("--server-address=127.0.0.1:{kwok}"),
                "--cidr=10.0.0.0/16".to_owned(),
            ],
        ),
        kustomize_controller,
    ];
    Ok(State { kubeconfig, processes })
}

struct Parts<'a> {
    programs: &'a Programs,
    directory: &'a Path,
}

impl Parts<'_> {
    fn process(&self, name: &str, port: Option<u16>, arguments: impl IntoIterator<Item = String>) -> Process {
        let command = [text(&self.programs.program(name))].into_iter().chain(arguments).collect();
        let mut process = Process::new(name, command, self.directory.join(format!("{name}.log")));
        process.port = port;
        process
    }
}

fn option(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Ports that nobody listens on at this moment.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until the last is found, so that no two are the same.
    let listeners = (0..N).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<Vec<_>, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
