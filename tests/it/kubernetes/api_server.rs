//! One more API server of the shared control plane, which one test may kill.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{Cluster, cluster::eventually};

/// A kube-apiserver on the same etcd as the shared one: it has the same objects and the same users.
pub(crate) struct ApiServer {
    /// Of a user who may do everything.
    pub(crate) kubeconfig: PathBuf,
    port: u16,
    /// Ends the server when its stdin does; see `../support/guard.sh`.
    guard: Mutex<Child>,
}

impl ApiServer {
    /// Returns when it is ready.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        drop(listener);
        let directory = tempfile::tempdir().expect("a temporary directory").keep();
        let kubeconfig = directory.join("kubeconfig");
        let text = fs::read(&cluster.kubeconfig).expect("the administrator's kubeconfig");
        let mut config: Value = serde_json::from_slice(&text).expect("it is written as JSON");
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{port}"));
        fs::write(&kubeconfig, config.to_string()).expect("a file of a temporary directory");

        let process = cluster.process("kube-apiserver");
        let guard = Command::new("sh")
            .args(["-c", include_str!("../support/guard.sh"), "guard"])
            .arg(&directory)
            .args(&process.command)
            // Of two options of one name, the last counts.
            .arg(format!("--secure-port={port}"))
            .envs(&process.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let server = Self { kubeconfig, port, guard: Mutex::new(guard) };
        server.restart();
        server
    }

    /// Kills it at once, as a crash of its machine would.
    pub(crate) fn crash(&self) {
        self.tell("crash");
    }

    /// Starts it again, and returns when it is ready.
    pub(crate) fn restart(&self) {
        let kubeconfig = self.kubeconfig.display().to_string();
        eventually(&format!("the API server on port {} is ready", self.port), || {
            // Again if it has ended: a connection may have had its port for a moment.
            self.tell("start");
            Cluster::get().try_kubectl(&["--kubeconfig", &kubeconfig, "get", "--raw=/readyz"], "").ok()
        });
    }

    fn tell(&self, word: &str) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let words = guard.stdin.as_mut().expect("stdin is piped");
        writeln!(words, "{word}").expect("the guard lives as long as its server");
        let answers = guard.stdout.as_mut().expect("stdout is piped");
        answers.read_exact(&mut [0]).expect("the guard answers with an empty line");
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Closes its stdin first. Were it lost, there would be nothing more to do.
        let _ = guard.wait();
    }
}
