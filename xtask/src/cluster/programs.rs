//! The programs of the control plane, and the definitions of the custom resources, built from the Go modules that
//! tests/cluster pins.
//!
//! They stand in the user's cache directory, named by Kubernetes' version and a digest of what they are built from: one
//! build a machine, whatever the checkout. A build that was interrupted goes on where it stopped.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::go;
use crate::process;

/// As in tests/cluster/go.mod, where its parts stand as 0.34.4.
pub(super) const KUBERNETES: &str = "1.34.4";

/// Part of the directory's name: to be raised when something here changes what is built.
const RECIPE: u32 = 1;

/// The names of the one program of tests/cluster/main.go.
const CONTROL_PLANE: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet-streams"];

/// Where Go modules hold definitions of custom resources: directory, and how the names of the files begin.
const DEFINITIONS: [(&str, &str, &str); 4] = [
    ("sigs.k8s.io/kwok", "kustomize/crd/bases", "kwok.x-k8s.io_execs"),
    ("sigs.k8s.io/kwok", "kustomize/crd/bases", "kwok.x-k8s.io_portforwards"),
    ("github.com/cloudnative-pg/cloudnative-pg", "config/crd/bases", ""),
    ("github.com/fluxcd/kustomize-controller", "config/crd/bases", ""),
];

/// Modules that hold the Go types only; Flux makes its files of them with the same generator.
const TYPES: [&str; 3] = [
    "github.com/fluxcd/helm-controller/api",
    "github.com/fluxcd/image-automation-controller/api",
    "github.com/fluxcd/source-controller/api",
];

/// The built programs.
pub(super) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Builds them where they are not there yet; waits while another process does.
    pub(super) fn provide() -> Result<Self> {
        let cache = cache()?;
        let directory = cache.join(format!("kubernetes-{KUBERNETES}-{}", digest()?));
        if directory.is_dir() {
            return Ok(Self { directory });
        }
        fs::create_dir_all(&cache)?;
        let lock = File::create(cache.join("lock"))?;
        lock.lock()?;
        if !directory.is_dir() {
            eprintln!("the control plane is built into {}; that takes a while", directory.display());
            build(&cache, &directory)?;
        }
        Ok(Self { directory })
    }

    /// One of them.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join("bin").join(name)
    }

    /// A directory of YAML files.
    pub(super) fn definitions(&self) -> PathBuf {
        self.directory.join("definitions")
    }
}

/// The user's cache directory of this project.
fn cache() -> Result<PathBuf> {
    let chosen = std::env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute());
    let base = match chosen {
        Some(path) => path.into(),
        None => Path::new(&std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("pgmove/cluster"))
}

fn sources() -> PathBuf {
    process::workspace().join("tests/cluster")
}

/// Of everything the programs are built from.
fn digest() -> Result<String> {
    let mut files = Vec::new();
    for directory in [sources(), sources().join("kwok")] {
        for entry in directory.read_dir()? {
            files.push(entry?.path());
        }
    }
    files.retain(|file| {
        ["go", "mod", "sum"].iter().any(|extension| file.extension() == Some(OsStr::new(extension)))
    });
    files.sort();
    let mut digest = Sha256::new();
    digest.update(RECIPE.to_be_bytes());
    for file in files {
        digest.update(file.file_name().context("a file has a name")?.as_encoded_bytes());
        digest.update(fs::read(file)?);
    }
    let digest = digest.finalize();
    Ok(format!("{:016x}", u64::from_be_bytes(*digest.first_chunk().context("a digest of 32 bytes")?)))
}

/// Builds everything, then gives it its name; what only the build needs is removed.
fn build(cache: &Path, complete: &Path) -> Result<()> {
    let work = cache.join("build");
    let partial = work.join("partial");
    let bin = partial.join("bin");
    fs::create_dir_all(&bin)?;
    let go = Go { program: go::provide(&work)?, cache: work.join("compiled") };

    let control_plane = bin.join("control-plane");
    go.build(".", ".", &control_plane)?;
    for name in CONTROL_PLANE {
        let link = bin.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink("control-plane", link)?;
        }
    }
    go.build(".", "github.com/fluxcd/kustomize-controller", &bin.join("kustomize-controller"))?;
    go.build("kwok", "sigs.k8s.io/kwok/cmd/kwok", &bin.join("kwok"))?;
    go.define(&partial.join("definitions"))?;
    fs::rename(&partial, complete).with_context(|| complete.display().to_string())?;
    Ok(fs::remove_dir_all(work)?)
}

/// The toolchain, for the modules of tests/cluster.
struct Go {
    program: PathBuf,
    /// Compiled packages: several gigabytes, of no use when the programs are there.
    cache: PathBuf,
}

impl Go {
    /// In the module of this directory.
    fn command(&self, module: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(sources().join(module))
            .env("GOCACHE", &self.cache)
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            // The same for every program, so that none compiles again what another has; nobody will debug them.
            .env("GOFLAGS", "-mod=readonly -buildvcs=false -trimpath -gcflags=all=-dwarf=false")
            .env("CGO_ENABLED", "0");
        command
    }

    /// Builds a main package of this module or of one that it requires.
    fn build(&self, module: &str, package: &str, program: &Path) -> Result<()> {
        let start = Instant::now();
        let version = format!("-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}");
        process::run(
            self.command(module).args(["build", "-ldflags", &version, "-o"]).arg(program).arg(package),
        )?;
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        eprintln!("{name} is built in {} s", start.elapsed().as_secs());
        Ok(())
    }

    /// Collects the definitions in `directory`.
    fn define(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        for (module, path, prefix) in DEFINITIONS {
            // Nothing that was built needs all of these.
            process::run(self.command(".").args(["mod", "download", module]))?;
            let root = process::output(self.command(".").args(["list", "-m", "-f", "{{.Dir}}", module]))?;
            for entry in Path::new(root.trim()).join(path).read_dir()? {
                let entry = entry?;
                let name = entry.file_name();
                // Each such directory also lists its files for kustomize.
                if name.to_string_lossy().starts_with(prefix) && name != "kustomization.yaml" {
                    // Not copied as they are: modules are kept read-only.
                    fs::write(directory.join(name), fs::read(entry.path())?)?;
                }
            }
        }
        // Unlike `go tool`, this takes the flags, and finds `go` itself on its path.
        let mut generator = self.command(".");
        generator.args(["run", "sigs.k8s.io/controller-tools/cmd/controller-gen", "crd"]);
        for module in TYPES {
            generator.arg(format!("paths={module}/..."));
        }
        generator.arg(format!("output:crd:dir={}", directory.display()));
        process::run(&mut generator)
    }
}
