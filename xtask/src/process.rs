//! Runs other programs: what they print goes to stderr or is returned, and a failure names the whole command.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// Runs to the end with its output shown on stderr; an error when the program is missing or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(std::io::stderr()).status().with_context(|| describe(command))?;
    ensure!(status.success(), "{} ended with {status}", describe(command));
    Ok(())
}

/// Runs to the end and returns its stdout; stderr is shown.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| describe(command))?;
    ensure!(output.status.success(), "{} ended with {}", describe(command), output.status);
    String::from_utf8(output.stdout).with_context(|| describe(command))
}

/// Cargo, with the toolchain that is in use; it names itself to what it runs.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo run` says of this program: build scripts that look at it, ring's for one, would run again, and all
    // that depends on them be compiled again, each time after a build by hand.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command.args(arguments).current_dir(workspace());
    command
}

/// Whether a program of this name is on the path.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Builds pgmove with this profile of cargo's; returns where it is.
pub(crate) fn build(profile: &str) -> Result<PathBuf> {
    run(&mut cargo(&["build", "--package", "pgmove", "--bin", "pgmove", "--profile", profile]))?;
    // The one profile whose directory has another name.
    Ok(target().join(if profile == "dev" { "debug" } else { profile }).join("pgmove"))
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask stands in the workspace").to_owned()
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace().join(chosen)
}

/// The program and its arguments, for a person to read.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
