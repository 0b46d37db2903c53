//! One installed PostgreSQL: where its programs, modules, SQL and headers are. A list of them is `servers.json`, which
//! the tests read.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process;

/// One installed server.
#[derive(Debug, Serialize)]
pub(crate) struct Install {
    /// 12 to 18.
    pub(crate) major: u32,
    /// As `postgres --version` says it, such as `16.14`.
    pub(crate) version: String,
    /// `initdb`, `pg_ctl` and `postgres` at least.
    pub(crate) bin_dir: PathBuf,
    /// `psql`, `pg_dump` and `pg_restore` of the newest server, whatever this one is.
    pub(crate) client_bin_dir: PathBuf,
    /// Loadable modules (`pg_config --pkglibdir`).
    pub(crate) module_dir: PathBuf,
    /// Extensions' control and SQL files (`extension` under `pg_config --sharedir`).
    pub(crate) extension_dir: PathBuf,
    /// Server headers (`pg_config --includedir-server`), where the install has them.
    pub(crate) include_dir: Option<PathBuf>,
    /// Names that CREATE EXTENSION knows here, sorted.
    pub(crate) extensions: Vec<String>,
}

/// The parts of an install relative to its prefix; they differ between builds.
pub(crate) struct Layout {
    pub(crate) bin: &'static str,
    pub(crate) modules: &'static str,
    pub(crate) extensions: &'static str,
    pub(crate) include: &'static str,
}

impl Install {
    /// Reads what is installed under `prefix`.
    pub(crate) fn read(prefix: &Path, layout: &Layout) -> Result<Self> {
        let bin_dir = prefix.join(layout.bin);
        let version = version(&bin_dir)?;
        let major = version.split('.').next().unwrap_or_default().parse().context("a server's version")?;
        let include_dir = Some(prefix.join(layout.include)).filter(|path| path.join("postgres.h").is_file());
        let mut install = Self {
            major,
            version,
            client_bin_dir: bin_dir.clone(),
            bin_dir,
            module_dir: prefix.join(layout.modules),
            extension_dir: prefix.join(layout.extensions),
            include_dir,
            extensions: Vec::new(),
        };
        install.list_extensions()?;
        Ok(install)
    }

    /// Looks again which extensions have a control file.
    pub(crate) fn list_extensions(&mut self) -> Result<()> {
        let mut names = Vec::new();
        for entry in
            self.extension_dir.read_dir().with_context(|| self.extension_dir.display().to_string())?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "control") {
                names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
            }
        }
        names.sort_unstable();
        self.extensions = names;
        Ok(())
    }
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, bin_dir, extensions, .. } = self;
        write!(f, "{version:<6} {} ({} extensions)", bin_dir.display(), extensions.len())
    }
}

/// What the server in `bin_dir` calls itself, such as `16.14`.
pub(crate) fn version(bin_dir: &Path) -> Result<String> {
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let answer = process::output(Command::new(bin_dir.join("postgres")).arg("--version"))?;
    let version = answer.split_whitespace().nth(2).with_context(|| format!("no version in {answer:?}"))?;
    Ok(version.to_owned())
}
