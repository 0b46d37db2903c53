//! Who carries the bytes, and one measurement of it.

use std::{
    fmt, fs,
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{
    results::Sample,
    way::{POD, Way},
};
use crate::process;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    /// To the server.
    Up,
    /// From the server.
    Down,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "to the server",
            Self::Down => "from the server",
        })
    }
}

/// One way to reach a pod's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contestant {
    Pgmove,
    Kube,
    Kubectl,
}

impl Contestant {
    /// In the order of their turns.
    pub(super) const ALL: [Self; 3] = [Self::Pgmove, Self::Kube, Self::Kubectl];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pgmove => "pgmove's tunnels",
            Self::Kube => "kube's Portforwarder",
            Self::Kubectl => "kubectl port-forward and psql",
        }
    }

    /// The least that pgmove's throughput may be of this one's.
    pub(super) fn bound(self, direction: Direction) -> Option<f64> {
        match (self, direction) {
            (Self::Kube, Direction::Up) => Some(1.5),
            (Self::Kubectl, _) => Some(1.0),
            (Self::Pgmove, _) | (Self::Kube, Direction::Down) => None,
        }
    }

    /// Lets all connections carry their part, and looks at the clock and at the processor's time.
    pub(super) fn measure(
        self,
        way: &Way,
        program: &Path,
        direction: Direction,
        tunnels: u32,
    ) -> Result<Sample> {
        let forward = if self == Self::Kubectl { Some(Forward::start(way)?) } else { None };
        let commands = match &forward {
            None => vec![self.command(way, program, direction, tunnels)],
            Some(forward) => {
                let statement = way.statement(direction, tunnels);
                let psql = |_| {
                    let mut command = way.psql(forward.port, &statement);
                    if direction == Direction::Up {
                        command.stdin(File::open(way.payload(tunnels))?);
                    }
                    Ok(command)
                };
                (0..tunnels).map(psql).collect::<Result<Vec<_>>>()?
            }
        };
        let own = || -> Result<f64> {
            let forward = forward.as_ref().map(|forward| processor(forward.kubectl.id())).transpose()?;
            Ok(children()? + forward.unwrap_or_default())
        };
        let carriers = || -> Result<f64> { way.running.carriers.iter().map(|id| processor(*id)).sum() };
        let (own_before, carriers_before) = (own()?, carriers()?);
        let begun = Instant::now();
        together(commands)?;
        Ok(Sample {
            seconds: begun.elapsed().as_secs_f64(),
            own_seconds: own()? - own_before,
            carrier_seconds: carriers()? - carriers_before,
        })
    }

    /// benches/tunnel.rs as this contestant.
    fn command(self, way: &Way, program: &Path, direction: Direction, tunnels: u32) -> Command {
        let mut command = Command::new(program);
        command
            .arg(if self == Self::Pgmove { "pgmove" } else { "kube" })
            .arg("--kubeconfig")
            .arg(&way.running.kubectl.kubeconfig)
            .args(["--namespace", &way.namespace, "--pod", POD, "--uri", &Way::uri(5432)])
            .args(["--tunnels", &tunnels.to_string(), "--statement", &way.statement(direction, tunnels)]);
        if direction == Direction::Up {
            command.arg("--input").arg(way.payload(tunnels));
        }
        command
    }
}

/// Starts all, and waits for all.
fn together(commands: Vec<Command>) -> Result<()> {
    let mut running = Vec::new();
    for mut command in commands {
        let child = command.stdout(Stdio::null()).spawn().with_context(|| process::describe(&command))?;
        running.push((child, process::describe(&command)));
    }
    for (mut child, words) in running {
        let status = child.wait()?;
        ensure!(status.success(), "{words} ended with {status}");
    }
    Ok(())
}

/// `kubectl port-forward`, which ends with this value.
struct Forward {
    kubectl: Child,
    port: u16,
}

impl Forward {
    fn start(way: &Way) -> Result<Self> {
        let mut command = way.running.kubectl.command();
        command.args(["--namespace", &way.namespace, "port-forward", &format!("pod/{POD}"), ":5432"]);
        let mut kubectl = command.stdout(Stdio::piped()).spawn().context("kubectl")?;
        let lines = BufReader::new(kubectl.stdout.take().context("stdout is piped")?).lines();
        // Its lines are read to the end, or it would wait at some time that they are.
        let (told, port) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // `Forwarding from 127.0.0.1:40001 -> 5432`
                let port =
                    line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
                let _ = port.map(|port| told.send(port.to_owned()));
            }
        });
        let port = port.recv().context("kubectl forwards no port")?;
        Ok(Self { kubectl, port: port.parse()? })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

/// Seconds that a process has had of the processor.
fn processor(id: u32) -> Result<f64> {
    seconds(&format!("/proc/{id}/stat"), 14)
}

/// The same of children that were waited for.
fn children() -> Result<f64> {
    seconds("/proc/self/stat", 16)
}

/// Two fields of proc(5), user and system time, in ticks of 10 ms.
fn seconds(file: &str, first: usize) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
    // The name in parentheses may hold anything; the state after it is the third field.
    let fields = text.rsplit_once(')').context("a name")?.1.split_whitespace();
    let ticks = fields.skip(first - 3).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

/// Builds benches/tunnel.rs as a release is built, and returns where it is.
pub(super) fn build() -> Result<PathBuf> {
    let arguments = ["bench", "--package=pgmove", "--bench=tunnel", "--no-run", "--message-format=json"];
    let messages = process::output(&mut process::cargo(&arguments))?;
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "tunnel").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.context("cargo does not say where it has built the bench")
}
