//! The control plane that all tests share, as `cargo xtask cluster up` lists it.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{LazyLock, OnceLock},
    thread,
    time::{Duration, Instant},
};

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;

use super::Namespace;

/// How long the control plane may take to do what it does at once on a machine that is not busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A running control plane.
#[derive(Deserialize)]
pub(crate) struct Cluster {
    /// Of a user who may do everything.
    pub(crate) kubeconfig: PathBuf,
    processes: Vec<Process>,
}

/// One part of it; `xtask/src/cluster/state.rs` says more.
#[derive(Deserialize)]
pub(super) struct Process {
    name: String,
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

static LIST: LazyLock<PathBuf> = LazyLock::new(|| {
    env::var_os("PGMOVE_TEST_CLUSTER").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/cluster/cluster.json"),
        PathBuf::from,
    )
});

impl Cluster {
    /// The one that runs, or one that is started now and goes on when the tests have ended.
    pub(crate) fn get() -> &'static Self {
        CLUSTER.get_or_init(|| {
            if let Some(cluster) =
                Self::read().filter(|cluster| cluster.try_kubectl(&["version"], "").is_ok())
            {
                return cluster;
            }
            let mut command = Command::new(env!("CARGO"));
            let status = command
                .args(["xtask", "cluster", "up"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .status()
                .expect("cargo runs");
            assert!(status.success(), "cargo xtask cluster up ended with {status}");
            Self::read().expect("cargo xtask cluster up lists what it started")
        })
    }

    fn read() -> Option<Self> {
        let json = fs::read(&*LIST).ok()?;
        Some(serde_json::from_slice(&json).expect("the list that cargo xtask cluster wrote"))
    }

    /// An empty namespace.
    pub(crate) fn namespace(&'static self) -> Namespace {
        Namespace::create(self)
    }

    /// A client for the runtime of the calling test.
    pub(crate) async fn client(&self) -> kube::Client {
        client(&self.kubeconfig).await
    }

    /// Runs kubectl with `input`, and returns what it printed. An error of kubectl ends the test.
    pub(crate) fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        self.try_kubectl(arguments, input)
            .unwrap_or_else(|error| panic!("kubectl {}: {error}", arguments.join(" ")))
    }

    /// The same.
    ///
    /// # Errors
    /// What kubectl wrote to stderr when it fails.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        // A file rather than a pipe: kubectl may answer before it has read everything.
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(input.as_bytes())
            .and_then(|()| file.rewind())
            .expect("a temporary file takes the input");
        let output =
            Command::new(Path::new(&self.process("kube-apiserver").command[0]).with_file_name("kubectl"))
                .arg("--kubeconfig")
                .arg(&self.kubeconfig)
                .arg("--cache-dir")
                .arg(LIST.with_file_name("kubectl"))
                .args(arguments)
                // kubectl waits for what it deletes, and for ever where another of the name comes before it looks.
                .args(arguments.contains(&"delete").then_some("--timeout=60s"))
                .stdin(Stdio::from(file))
                .output()
                .expect("kubectl is built beside the API server");
        let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// How a part of it was started.
    pub(super) fn process(&self, name: &str) -> &Process {
        self.processes.iter().find(|process| process.name == name).expect("a part of the control plane")
    }
}

/// A client for the user of a kubeconfig, on the runtime of the calling test.
pub(crate) async fn client(kubeconfig: &Path) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a context");
    kube::Client::try_from(config).expect("credentials that can be read")
}

/// Looks again and again until there is something; the test ends when there never is.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
        thread::sleep(Duration::from_millis(100));
    }
}
