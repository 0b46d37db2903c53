//! The container in which everything runs; removed when this value is dropped.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::process;

/// Its image, on top of `pgmove-test/new`.
const IMAGE: &str = "pgmove-test/bench";

/// How long both servers may take until they answer.
const START_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Container {
    id: String,
    keep: bool,
}

impl Container {
    /// Builds the image, starts both servers, and copies pgmove in.
    pub(super) fn start(pgmove: &Path, keep: bool) -> Result<Self> {
        process::run(
            Command::new("docker")
                .args(["build", "--quiet", "--network=host", "--file=tests/images/bench/Dockerfile", "--tag"])
                .args([IMAGE, "."])
                .current_dir(process::workspace()),
        )?;
        // --shm-size: parallel index builds share their memory in /dev/shm, of which a container has 64 MB.
        let mut run = Command::new("docker");
        run.args(["run", "--detach", "--init", "--rm", "--shm-size=4g", IMAGE]);
        let container = Self { id: process::output(&mut run)?.trim().to_owned(), keep };
        let to = format!("{}:/usr/local/bin/pgmove", container.id);
        process::run(Command::new("docker").arg("cp").arg(pgmove).arg(to))?;
        let start = Instant::now();
        while !container.is_ready() {
            if start.elapsed() > START_LIMIT {
                bail!("the servers did not start; see `docker logs {}`", container.id);
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(container)
    }

    /// What a script of tests/images/bench prints.
    pub(super) fn script(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let path = format!("/bench/{name}");
        let mut words = vec!["sh", path.as_str()];
        words.extend(arguments);
        self.output(&words)
    }

    /// What a program in the container prints.
    pub(super) fn output(&self, words: &[&str]) -> Result<String> {
        process::output(Command::new("docker").arg("exec").arg(&self.id).args(words))
    }

    fn is_ready(&self) -> bool {
        let mut command = Command::new("docker");
        command.args(["exec", &self.id, "test", "-e", "/data/ready"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("the container goes on: docker exec -it {} bash", self.id);
            return;
        }
        // --volumes: the databases lie in one.
        let mut remove = Command::new("docker");
        remove.args(["rm", "--force", "--volumes", &self.id]);
        if let Err(error) = process::output(&mut remove) {
            eprintln!("{error:#}");
        }
    }
}
