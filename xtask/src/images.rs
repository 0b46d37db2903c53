//! The container images of `tests/images`: a legacy and a new server, built on Debian's base images.
//!
//! Where no registry can be reached, the base images are made with debootstrap, which needs root.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{debian, engine, process};

/// One image that tests use.
struct Image {
    name: &'static str,
    /// Debian's code name.
    release: &'static str,
    /// Arguments of the Dockerfile.
    arguments: &'static [&'static str],
}

const IMAGES: [Image; 2] = [
    Image { name: "pgmove-test/legacy", release: "bookworm", arguments: &["MAJOR=15", "STAND_INS=vectors"] },
    Image {
        name: "pgmove-test/new",
        release: "trixie",
        arguments: &["MAJOR=17", "STAND_INS=vchord", "PGVECTOR=postgresql-17-pgvector"],
    },
];

/// Builds every image; starts an engine where none runs.
pub(crate) fn build() -> Result<()> {
    engine::provide()?;
    for image in &IMAGES {
        let base = base(image.release)?;
        let mut command = Command::new("docker");
        // The host's network: a machine may know its package mirror by other means than a container does.
        command.args([
            "build",
            "--quiet",
            "--network=host",
            "--file=tests/images/Dockerfile",
            "--tag",
            image.name,
        ]);
        command.arg("--build-arg").arg(format!("BASE={base}"));
        for argument in image.arguments {
            command.args(["--build-arg", argument]);
        }
        process::run(command.arg(".").current_dir(process::workspace()))?;
        println!("{}", image.name);
    }
    Ok(())
}

/// The name of a base image of this release: Debian's own, or one that debootstrap made.
fn base(release: &str) -> Result<String> {
    let published = format!("debian:{release}-slim");
    let own = format!("pgmove-test/debian:{release}");
    if has(&own)? {
        return Ok(own);
    }
    if has(&published)? || process::run(Command::new("docker").args(["pull", "--quiet", &published])).is_ok()
    {
        return Ok(published);
    }
    eprintln!("{published} cannot be pulled: debootstrap makes {own}");
    if !debian::is_root() {
        bail!("debootstrap needs root");
    }
    debian::provide_program("debootstrap", "debootstrap")?;
    let root = process::target().join("images").join(format!("{release}-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    process::run(Command::new("debootstrap").args(["--variant=minbase", release]).arg(&root))?;
    import(&root, &own)?;
    fs::remove_dir_all(root)?;
    Ok(own)
}

fn has(image: &str) -> Result<bool> {
    let status = Command::new("docker")
        .args(["image", "inspect", image])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("docker")?;
    Ok(status.success())
}

fn import(root: &Path, name: &str) -> Result<()> {
    let mut archive = Command::new("tar")
        .args(["--exclude=./var/cache/apt/archives/*", "--exclude=./var/lib/apt/lists/*", "-c", "."])
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("tar")?;
    let stream = archive.stdout.take().context("stdout is piped")?;
    process::run(Command::new("docker").args(["import", "-", name]).stdin(stream))?;
    ensure!(archive.wait()?.success(), "tar of {} failed", root.display());
    Ok(())
}
