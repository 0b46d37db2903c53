//! What runs: the list in `target/cluster/cluster.json`, by which processes are found again, started again and ended.
//!
//! A process is known by its id and when it started, so that none is ended that got the id later.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpStream,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::programs::Programs;
use crate::process;

/// A control plane; tests/it/kubernetes reads it too.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// For kubectl and kube, of a user who may do everything.
    pub(super) kubeconfig: PathBuf,
    /// In the order in which they are started.
    pub(super) processes: Vec<Process>,
}

/// One program of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) name: String,
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// More variables of its environment.
    pub(super) environment: BTreeMap<String, String>,
    /// Where it listens, when it does.
    pub(super) port: Option<u16>,
    /// What it prints.
    pub(super) log: PathBuf,
    /// None until it is started.
    running: Option<Running>,
}

/// A process that was started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
struct Running {
    id: u32,
    /// In ticks since the machine's start.
    started: u64,
}

impl State {
    /// None where nothing was started.
    pub(super) fn read(file: &Path) -> Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read(file)?;
        let state = serde_json::from_slice(&text)
            .with_context(|| format!("{}; remove it when nothing of it runs", file.display()))?;
        Ok(Some(state))
    }

    /// Whether these programs are the ones that it runs.
    pub(super) fn is_of(&self, programs: &Programs) -> bool {
        let program = |process: &Process| process.command.first().map(PathBuf::from);
        self.processes.iter().all(|process| program(process) == Some(programs.program(&process.name)))
    }

    /// Replaces the file as a whole: one that was cut would leave processes that nobody knows.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let partial = file.with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(partial, file)?)
    }
}

impl Process {
    pub(super) fn new(name: &str, command: Vec<String>, log: PathBuf) -> Self {
        Self { name: name.to_owned(), command, environment: BTreeMap::new(), port: None, log, running: None }
    }

    /// Its id, while it runs.
    pub(super) fn id(&self) -> Option<u32> {
        self.running.filter(|_| self.runs()).map(|running| running.id)
    }

    pub(super) fn runs(&self) -> bool {
        self.running.is_some_and(|running| Running::of(running.id) == Some(running))
    }

    /// Whether it accepts connections; one that listens nowhere needs not.
    pub(super) fn listens(&self) -> bool {
        self.port.is_none_or(|port| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// Starts it in a group of its own: an interrupt from the terminal is not for it.
    pub(super) fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let (program, arguments) = self.command.split_first().context("a command has a program")?;
        let child = Command::new(program)
            .args(arguments)
            .envs(&self.environment)
            .current_dir(self.log.parent().context("a log stands in a directory")?)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| program.clone())?;
        eprintln!("{} runs as process {}; its log is {}", self.name, child.id(), self.log.display());
        self.running = Running::of(child.id());
        Ok(())
    }

    /// Kills it where it runs: what it holds is thrown away.
    pub(super) fn end(&self) -> Result<()> {
        match self.running {
            Some(running) if self.runs() => {
                process::run(Command::new("kill").args(["-s", "KILL", &running.id.to_string()]))
            }
            _ => Ok(()),
        }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let lines =
            String::from_utf8_lossy(&log).lines().rev().take(5).map(str::to_owned).collect::<Vec<_>>();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Running {
    /// The process that has this id now; none when it has ended and only waits to be collected.
    fn of(id: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may hold anything.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        // The 22nd field of proc(5); the state is the third.
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Self { id, started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ended_and_no_other_that_has_its_id() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let command = ["sleep", "60"].map(str::to_owned).to_vec();
        let mut process = Process::new("sleep", command, directory.path().join("log"));
        assert!(!process.runs());
        process.start().expect("sleep starts");
        assert!(process.runs());

        let running = process.running.expect("it runs");
        let mut other = Process::new("other", Vec::new(), PathBuf::new());
        other.running = Some(Running { started: running.started + 1, ..running });
        other.end().expect("nothing is to be done");
        assert!(process.runs());

        process.end().expect("sleep ends");
        while process.runs() {
            std::thread::yield_now();
        }
    }
}
