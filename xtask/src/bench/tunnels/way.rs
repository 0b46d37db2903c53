//! What all contestants share: a server, a pod that leads to it, and the bytes.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{TUNNELS, contestant::Direction};
use crate::{
    cluster::{self, Running},
    demo::Home,
    install::Install,
    postgres::{Cluster, SUPERUSER, SUPERUSER_PASSWORD},
    process, servers,
};

/// The server behind the pod.
const SERVER: u32 = 18;

/// Of a row's one value: what fits into a page, so that the server has no work with it.
const VALUE: u32 = 8000;

/// The pod's name, and that of the object which says where it leads to.
pub(super) const POD: &str = "server-0";

/// The way of the bytes. All of it ends with this value.
pub(super) struct Way {
    pub(super) running: Running,
    pub(super) namespace: String,
    /// Of all connections together.
    pub(super) bytes: u64,
    pub(super) psql: PathBuf,
    rows: u32,
    port: u16,
    install: Install,
    // In this order: the namespace is removed while the control plane runs.
    _namespace: Removed,
    home: Home,
    _guard: Option<cluster::Guard>,
}

/// A namespace that is removed with this value.
struct Removed(Command);

impl Drop for Removed {
    fn drop(&mut self) {
        // What stays ends with the control plane.
        let _ = process::output(&mut self.0);
    }
}

impl Way {
    pub(super) fn make(rows: u32) -> Result<Self> {
        let guard = cluster::up_meanwhile()?;
        let running = cluster::running()?;
        let install = servers::provide_some(&[SERVER])?.pop().context("a server was asked for")?;
        let home = Home::make()?;
        let server = Cluster::start(&install, &home.path.join("server"), "")?;
        let value = "string_agg(sha256(n::text::bytea), '')";
        let fill = format!(
            "CREATE TABLE payload (value bytea STORAGE PLAIN); CREATE TABLE sink (value bytea);
             INSERT INTO payload SELECT {value} FROM generate_series(1, {VALUE} / 32) AS n"
        );
        server.psql(SUPERUSER, "postgres", &[&fill], &[])?;
        let port = server.port;

        let namespace = format!("pgmove-bench-{}", std::process::id());
        let kubectl = |arguments: &[&str]| {
            let mut command = running.kubectl.command();
            command.args(["--namespace", &namespace]).args(arguments);
            command
        };
        let in_cluster = |action: &[&str]| {
            let mut command = running.kubectl.command();
            command.args(action);
            command
        };
        process::output(&mut in_cluster(&["create", "namespace", &namespace]))?;
        let removed = Removed(in_cluster(&["delete", "namespace", &namespace, "--wait=false"]));
        process::output(&mut kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"]))?;
        let mut apply = kubectl(&["apply", "--filename=-"]);
        process::output(apply.stdin(input(&objects(port))?))?;
        let pod = format!("pod/{POD}");
        process::output(&mut kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]))?;

        // Each row: its number of fields, the value's length, the value; a head and an end around all.
        let bytes = u64::from(rows) * u64::from(2 + 4 + VALUE);
        let psql = install.client_bin_dir.join("psql");
        let way = Self {
            running,
            namespace,
            bytes,
            psql,
            rows,
            port,
            install,
            _namespace: removed,
            home,
            _guard: guard,
        };
        for tunnels in TUNNELS {
            way.write_payload(tunnels)?;
        }
        Ok(way)
    }

    /// The COPY of each connection.
    pub(super) fn statement(&self, direction: Direction, tunnels: u32) -> String {
        match direction {
            Direction::Up => "COPY sink FROM STDIN (FORMAT binary) WHERE false".to_owned(),
            Direction::Down => format!(
                "COPY (SELECT value FROM payload, generate_series(1, {})) TO STDOUT (FORMAT binary)",
                self.rows / tunnels
            ),
        }
    }

    /// What each connection sends.
    pub(super) fn payload(&self, tunnels: u32) -> PathBuf {
        self.home.path.join(format!("payload-{tunnels}"))
    }

    fn write_payload(&self, tunnels: u32) -> Result<()> {
        let file = self.payload(tunnels);
        let mut command = self.psql(self.port, &self.statement(Direction::Down, tunnels));
        let status = command.stdout(File::create(&file)?).status().context("psql")?;
        ensure!(status.success(), "psql ended with {status}");
        let length = file.metadata()?.len();
        ensure!(length > self.bytes / u64::from(tunnels), "{} has {length} bytes", file.display());
        Ok(())
    }

    /// Where a login through a port of this machine leads to; through a tunnel, the port is not looked at.
    pub(super) fn uri(port: u16) -> String {
        format!("postgres://{SUPERUSER}:{SUPERUSER_PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable")
    }

    /// psql with one statement.
    pub(super) fn psql(&self, port: u16, statement: &str) -> Command {
        let mut command = Command::new(&self.psql);
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", &Self::uri(port)]);
        command.args(["--command", statement]);
        command
    }

    /// What was measured, each by its version.
    pub(super) fn versions(&self) -> Result<Vec<String>> {
        let kubectl = process::output(self.running.kubectl.command().args(["version", "--client"]))?;
        let kubectl = kubectl.lines().next().unwrap_or_default().replace("Client Version: ", "kubectl ");
        let lock = std::fs::read_to_string(process::workspace().join("Cargo.lock"))?;
        let kube = lock.split("name = \"kube\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
        let kube = kube.context("Cargo.lock names kube")?;
        let psql = process::output(Command::new(&self.psql).arg("--version"))?;
        Ok(vec![
            format!("PostgreSQL {}", self.install.version),
            format!("kube {kube}"),
            kubectl,
            psql.trim().to_owned(),
        ])
    }
}

/// The pod, and where it leads to.
fn objects(port: u16) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": POD },
            "spec": { "containers": [
                { "name": "postgres", "image": "postgres", "ports": [{ "containerPort": 5432 }] },
            ] },
        },
        {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "PortForward",
            "metadata": { "name": POD },
            "spec": { "forwards": [{ "ports": [5432], "target": { "address": "127.0.0.1", "port": port } }] },
        },
    ] })
}

/// A file to be read from its start.
fn input(content: &Value) -> Result<Stdio> {
    let path = std::env::temp_dir().join(format!("pgmove-bench-{}.json", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    file.write_all(content.to_string().as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}
