//! The container images: the servers of `tests/images`, a legacy and a new one, and pgmove, built on Debian's base images.
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

/// Builds the servers' images; starts an engine where none runs.
pub(crate) fn build() -> Result<()> {
    engine::provide()?;
    for image in &IMAGES {
        let mut command = docker_build("tests/images/Dockerfile", image.name, image.release)?;
        for argument in image.arguments {
            command.args(["--build-arg", argument]);
        }
        process::run(command.arg("."))?;
        println!("{}", image.name);
    }
    Ok(())
}

/// Builds pgmove with this profile of cargo's, and its image with that; starts an engine where none runs.
pub(crate) fn build_pgmove(profile: &str) -> Result<()> {
    engine::provide()?;
    let binary = process::build(profile)?;
    // A context of its own: one that held cargo's directory would be read in whole.
    let context = process::target().join("image");
    fs::create_dir_all(&context)?;
    fs::copy(&binary, context.join("pgmove")).with_context(|| binary.display().to_string())?;
    let mut runtime = docker_build("Dockerfile", "pgmove-runtime", "trixie")?;
    process::run(runtime.arg("--target=runtime").arg(&context))?;
    let mut command = Command::new("docker");
    command.args(["build", "--quiet", "--file=Dockerfile.prebuilt", "--tag=pgmove"]);
    process::run(command.arg(&context).current_dir(process::workspace()))?;
    println!("pgmove");
    Ok(())
}

/// A `docker build` that lacks its last arguments, with the context as the very last.
fn docker_build(dockerfile: &str, name: &str, release: &str) -> Result<Command> {
    let mut command = Command::new("docker");
    // The host's network: a machine may know its package mirror by other means than a container does.
    command.args(["build", "--quiet", "--network=host", "--file", dockerfile, "--tag", name]);
    command.arg("--build-arg").arg(format!("BASE={}", base(release)?)).current_dir(process::workspace());
    Ok(command)
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
