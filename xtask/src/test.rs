//! Every check of the project in one command: format, lints, and all tests on real servers.
//!
//! Every step is run, and fails the whole when it fails; the tests' own output, with its counts, is shown as it comes.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{images, process, servers};

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

/// Gets the servers, then runs every step.
///
/// # Errors
/// When a server cannot be got or a step fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    servers::provide()?;
    let mut steps = Vec::new();
    if arguments.filter.is_none() {
        steps.push(process::cargo(&["fmt", "--all", "--check"]));
        steps.push(process::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
        // These are run where they are installed, as CI does.
        let optional = [
            ("cargo-deny", process::cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"])),
            ("cargo-machete", process::cargo(&["machete"])),
            ("typos", Command::new("typos")),
        ];
        for (program, step) in optional {
            if process::exists(program) {
                steps.push(step);
            } else {
                eprintln!("{program} is not installed: left out");
            }
        }
    }
    let mut tests = process::cargo(&["test", "--workspace", "--no-fail-fast"]);
    tests.env("PGMOVE_TEST_SERVERS", servers::list());
    if arguments.containers {
        images::build()?;
        tests.env("PGMOVE_TEST_CONTAINERS", "1");
    }
    if let Some(filter) = &arguments.filter {
        tests.args(["--", filter]);
    }
    steps.push(tests);

    let mut failed = Vec::new();
    for mut step in steps {
        let name = process::describe(&step);
        eprintln!("+ {name}");
        if !step.current_dir(process::workspace()).status().with_context(|| name.clone())?.success() {
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
