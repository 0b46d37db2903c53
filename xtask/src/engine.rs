//! A container engine: the one that runs, or one that is started here.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{debian, process};

/// How long a started engine may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Makes sure that `docker` reaches an engine. One that is started here goes on when this process ends.
pub(crate) fn provide() -> Result<()> {
    if answers() {
        return Ok(());
    }
    debian::provide_program("iptables", "iptables")?;
    debian::provide_program("dockerd", "docker.io")?;
    if !debian::is_root() {
        bail!("no container engine runs, and starting one needs root");
    }
    let log = process::target().join("dockerd.log");
    fs::create_dir_all(process::target())?;
    let output = File::create(&log)?;
    let mut engine = Command::new("dockerd")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .context("dockerd")?;
    eprintln!("dockerd runs as process {}; its log is {}", engine.id(), log.display());
    let start = Instant::now();
    while !answers() {
        if engine.try_wait()?.is_some() || start.elapsed() > START_LIMIT {
            // Where only the output is kept, as in CI, the file is out of reach.
            let lines = fs::read_to_string(&log).unwrap_or_default();
            let last = lines.lines().last().unwrap_or_default();
            bail!("dockerd did not start; see {}, which ends: {last}", log.display());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn answers() -> bool {
    let mut command = Command::new("docker");
    command.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
