//! PostgreSQL 15 from Debian 12's own packages, and what else `apt-get` brings.
//!
//! The files are copied out of `/usr`: the stand-in extensions are installed into the copy, never into the system.
//! A PostgreSQL can be moved as long as its directories keep their places relative to `bin`.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    install::{self, Layout},
    process,
};

pub(crate) const LAYOUT: Layout = Layout {
    bin: "usr/lib/postgresql/15/bin",
    modules: "usr/lib/postgresql/15/lib",
    extensions: "usr/share/postgresql/15/extension",
    include: "usr/include/postgresql/15/server",
};

/// The installed server's version; installs the package first where it is missing.
pub(crate) fn provide() -> Result<String> {
    let bin_dir = Path::new("/").join(LAYOUT.bin);
    if !bin_dir.join("postgres").is_file() {
        install_package("postgresql-15")?;
    }
    install::version(&bin_dir)
}

/// Copies the installed server under `prefix`, and adds its headers.
pub(crate) fn copy(prefix: &Path) -> Result<()> {
    process::run(
        Command::new("cp")
            .args(["-a", "--parents", "-t"])
            .arg(prefix)
            .args(["usr/lib/postgresql/15", "usr/share/postgresql/15"])
            .current_dir("/"),
    )?;
    if is_root() {
        update()?;
    }
    // Not installed: the package depends on compilers of several hundred megabytes.
    process::run(
        Command::new("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", "postgresql-server-dev-15"])
            .current_dir(prefix),
    )?;
    unpack_packages(prefix)
}

/// Unpacks the packages that were downloaded into `prefix` there, and removes them.
pub(crate) fn unpack_packages(prefix: &Path) -> Result<()> {
    for entry in prefix.read_dir()? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            process::run(Command::new("dpkg").arg("-x").arg(&file).arg(prefix))?;
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Makes sure that a program is there; the package that brings it is installed where it is missing.
pub(crate) fn provide_program(program: &str, package: &str) -> Result<()> {
    if process::exists(program) { Ok(()) } else { install_package(package) }
}

fn install_package(package: &str) -> Result<()> {
    if !is_root() {
        bail!("a package is missing; as root: apt-get install {package}");
    }
    update()?;
    process::run(
        Command::new("apt-get")
            .args(["install", "--yes", "-q", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Fetches the lists of packages, which a fresh machine may not have.
fn update() -> Result<()> {
    process::run(Command::new("apt-get").args(["-q", "update"]))
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
