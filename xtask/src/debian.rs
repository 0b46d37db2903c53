//! PostgreSQL 15 from Debian 12's own packages, and what else `apt-get` brings.
//!
//! The files are copied out of `/usr`: the stand-in extensions are installed into the copy, never into the system.
//! A PostgreSQL can be moved as long as its directories keep their places relative to `bin`.

use std::{path::Path, process::Command};

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

/// The installed server's version; installs the packages first where they are missing.
pub(crate) fn provide() -> Result<String> {
    let bin_dir = Path::new("/").join(LAYOUT.bin);
    let headers = Path::new("/").join(LAYOUT.include).join("postgres.h");
    if !bin_dir.join("postgres").is_file() || !headers.is_file() {
        install_packages(&["postgresql-15", "postgresql-server-dev-15"])?;
    }
    install::version(&bin_dir)
}

/// Copies the installed server under `prefix`.
pub(crate) fn copy(prefix: &Path) -> Result<()> {
    process::run(
        Command::new("cp")
            .args(["-a", "--parents", "-t"])
            .arg(prefix)
            .args(["usr/lib/postgresql/15", "usr/share/postgresql/15", "usr/include/postgresql/15"])
            .current_dir("/"),
    )
}

/// Installs packages; needs root.
pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    if !is_root() {
        bail!("packages are missing; as root: apt-get install {}", packages.join(" "));
    }
    process::run(
        Command::new("apt-get")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
