//! Every check of the project in one command: format, lints, and all tests on real servers.
//!
//! Stops at the first step that fails; the tests' own output, with its counts, goes to stdout.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{process, servers};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose path contains this; format and lints are then left out.
    #[arg(long)]
    filter: Option<String>,
}

/// Gets the servers, then runs every step.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    servers::provide()?;
    if arguments.filter.is_none() {
        step(cargo(&["fmt", "--all", "--check"]))?;
        step(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
        // These take minutes to build: they are run where they are installed.
        optional("cargo-deny", cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
        optional("cargo-machete", cargo(&["machete"]))?;
        optional("typos", Command::new("typos"))?;
    }
    let mut tests = cargo(&["test", "--workspace"]);
    tests.env("PGMOVE_TEST_SERVERS", servers::list());
    if let Some(filter) = &arguments.filter {
        tests.args(["--", filter]);
    }
    step(tests)
}

fn cargo(arguments: &[&str]) -> Command {
    // Cargo names itself to its subcommands, with the toolchain that is in use.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

fn optional(program: &str, command: Command) -> Result<()> {
    if process::exists(program) {
        return step(command);
    }
    eprintln!("{program} is not installed: left out");
    Ok(())
}

fn step(mut command: Command) -> Result<()> {
    eprintln!("+ {command:?}");
    let status = command.current_dir(process::workspace()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
