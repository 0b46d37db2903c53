//! pgvector for the servers that come without it, 15 and 17, and the server headers of 17.
//!
//! Debian 13 has both: the extension's source, and the headers in `postgresql-server-dev-17`. Its binaries want a newer C
//! library than Debian 12 has, so the extension is compiled here. `apt-get` runs on a private list of sources and never
//! touches the system's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{debian, install::Layout, process};

/// What [`download`] gets, for the name of its directory.
pub(crate) const VERSION: &str = "0.8.0";

const SOURCES: &str = "\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main
";

/// Downloads and unpacks the extension's source and the headers of 17 under `prefix`.
pub(crate) fn download(prefix: &Path) -> Result<()> {
    let state = prefix.join("apt");
    fs::create_dir_all(state.join("lists/partial"))?;
    fs::create_dir_all(state.join("cache/archives/partial"))?;
    fs::write(state.join("sources.list"), SOURCES)?;
    fs::write(state.join("status"), "")?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for (option, path) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "none"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("-o").arg(format!("{option}={}", state.join(path).display()));
        }
        // Root's apt-get would download as another user, who may not write here.
        command
            .args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"])
            .args(arguments);
        process::run(command.current_dir(prefix))
    };
    apt(&["update"])?;
    apt(&["download", "postgresql-server-dev-17"])?;
    apt(&["source", "--download-only", &format!("pgvector={VERSION}-1")])?;
    fs::remove_dir_all(&state)?;
    debian::unpack_packages(prefix)?;
    for archive in files(prefix, "gz")? {
        process::run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(prefix))?;
    }
    Ok(())
}

/// Copies the headers of 17 out of `downloaded` to their place in a server.
pub(crate) fn install_headers(downloaded: &Path, prefix: &Path, layout: &Layout) -> Result<()> {
    let headers = prefix.join(layout.include);
    fs::create_dir_all(headers.parent().context("headers stand in a directory")?)?;
    process::run(
        Command::new("cp").arg("-a").arg(downloaded.join("usr/include/postgresql/17/server")).arg(headers),
    )
}

/// Compiles the extension out of `downloaded` for a server that has its headers, and installs it there.
pub(crate) fn install(downloaded: &Path, prefix: &Path, layout: &Layout) -> Result<()> {
    let source = downloaded.join(format!("pgvector-{VERSION}"));
    let mut code = files(&source.join("src"), "c")?;
    code.sort_unstable();
    process::run(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-w", "-I"])
            .arg(prefix.join(layout.include))
            .arg("-o")
            .arg(prefix.join(layout.modules).join("vector.so"))
            .args(code)
            .arg("-lm"),
    )?;
    let extensions = prefix.join(layout.extensions);
    fs::copy(source.join("vector.control"), extensions.join("vector.control"))?;
    // Its makefile does the same: the script of the current version is kept without its number.
    fs::copy(source.join("sql/vector.sql"), extensions.join(format!("vector--{VERSION}.sql")))?;
    for script in files(&source.join("sql"), "sql")? {
        let name = script.file_name().context("a script has a name")?;
        if name.to_string_lossy().starts_with("vector--") {
            fs::copy(&script, extensions.join(name))?;
        }
    }
    Ok(())
}

fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir().with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == extension) {
            files.push(path);
        }
    }
    Ok(files)
}
