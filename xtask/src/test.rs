//! Every check of the project in one command: format, lints, and all tests on real servers.
//!
//! Every step is run, and fails the whole when it fails; the tests' own output, with its counts, is shown as it comes.

use std::{process::Command, thread};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{cluster, images, process, servers};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose path contains this; format and lints are then left out.
    #[arg(long)]
    filter: Option<String>,
    /// Run end-to-end tests on servers in containers too; builds their images first.
    #[arg(long)]
    containers: bool,
}

/// Runs every step; servers, images and the control plane are got meanwhile: they wait for network and disk too.
///
/// # Errors
/// When a server cannot be got or a step fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let containers = arguments.containers;
    let preparation = thread::spawn(move || {
        servers::provide()?;
        if containers {
            images::build()?;
        }
        cluster::up_meanwhile()
    });
    let mut steps = Vec::new();
    if arguments.filter.is_none() {
        steps.push(process::cargo(&["fmt", "--all", "--check"]));
        steps.push(process::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
        // These are run where they are installed; CI installs them.
        let is_ci = std::env::var_os("CI").is_some();
        if is_ci || process::exists("cargo-deny") {
            // It looks at what other platforms would compile too.
            steps.push(process::cargo(&["fetch", "--locked"]));
            steps.push(process::cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]));
        } else {
            eprintln!("cargo-deny is not installed: left out");
        }
        if is_ci || process::exists("typos") {
            steps.push(Command::new("typos"));
        } else {
            eprintln!("typos is not installed: left out");
        }
    }
    let all = ["test", "--workspace", "--no-fail-fast"];
    let mut compilation = process::cargo(&all);
    compilation.arg("--no-run");
    steps.push(compilation);
    let mut failed = Vec::new();
    for step in &mut steps {
        failed.extend(failure(step)?);
    }

    let _cluster = preparation.join().map_err(|_| anyhow!("getting the servers panicked"))??;
    let mut tests = process::cargo(&all);
    tests.env("PGMOVE_TEST_SERVERS", servers::list()).env("PGMOVE_TEST_CLUSTER", cluster::list());
    if containers {
        tests.env("PGMOVE_TEST_CONTAINERS", "1");
    }
    if let Some(filter) = &arguments.filter {
        tests.args(["--", filter]);
    }
    failed.extend(failure(&mut tests)?);
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Runs a step, and returns its name when it failed.
fn failure(step: &mut Command) -> Result<Option<String>> {
    let name = process::describe(step);
    eprintln!("+ {name}");
    let status = step.current_dir(process::workspace()).status().with_context(|| name.clone())?;
    Ok((!status.success()).then_some(name))
}
