//! The move of `docker-compose.yml`: pgmove from its image, between two servers from theirs.
//!
//! Takes what `cargo xtask images` takes, and Compose: Docker's plug-in or docker-compose 1.29, installed from Debian
//! where neither is there. Gives pgmove's exit code. Containers and network are removed, however it ends; images and an
//! engine that was started stay.

use std::{
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail};
use signal_hook::consts::SIGINT;

use crate::{debian, images, process};

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Cargo's profile that pgmove is built with.
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
}

/// Builds the images, shows the move and ends with pgmove's exit code.
///
/// # Errors
/// When an image cannot be built, Compose could not run to its end, or at an interrupt.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    images::build()?;
    images::build_pgmove(&arguments.profile)?;
    let compose = Compose::provide()?;
    // From here on an interrupt is for Compose, which stops the containers.
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))?;
    let options = ["up", "--no-build", "--abort-on-container-exit", "--exit-code-from", "pgmove"];
    let status = compose.command(&options).status();
    if !status.as_ref().is_ok_and(ExitStatus::success) {
        // Compose has shown nothing yet where a server never was healthy.
        let _ = process::run(&mut compose.command(&["logs", "--no-color", "--tail=50"]));
    }
    process::run(&mut compose.command(&["down", "--volumes"]))?;
    let status = status.context("Compose")?;
    // Version 1.29 ends with 0 then.
    if interrupted.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    let Some(code) = status.code() else { bail!("Compose ended with {status}") };
    println!("ended with exit code {code}; all in all {} seconds", begun.elapsed().as_secs());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Compose in one of its two forms.
struct Compose {
    words: &'static [&'static str],
}

impl Compose {
    fn provide() -> Result<Self> {
        let mut plug_in = Command::new("docker");
        plug_in.args(["compose", "version"]).stdout(Stdio::null()).stderr(Stdio::null());
        if plug_in.status().is_ok_and(|status| status.success()) {
            return Ok(Self { words: &["docker", "compose"] });
        }
        debian::provide_program("docker-compose", "docker-compose")?;
        Ok(Self { words: &["docker-compose"] })
    }

    /// With a project of this process's own, so that another one's containers are left alone.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.words[0]);
        command.args(&self.words[1..]);
        command.arg("--project-name").arg(format!("pgmove-{}", std::process::id()));
        command.args(arguments).current_dir(process::workspace());
        command
    }
}
