//! Compiles and installs the stand-in extensions of `tests/fixtures/extensions` into a server.
//!
//! Takes the directories of a server that has its headers, gives the names of the stand-ins now installed. Promises: a real
//! `vchord` or `vectors` is never overwritten, and a library that a running server has mapped is replaced, not written into.
//! Fails with the compiler's messages, or when the headers belong to another major version than expected.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Where the sources stand; each stand-in's folder bears its name.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/extensions");

/// Each stand-in and the extension it needs.
const STAND_INS: [(&str, Option<&str>); 2] = [("vchord", Some("vector")), ("vectors", None)];

/// The directories of one installed server, as `pg_config` names them.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    /// `--includedir-server`: `postgres.h` and the other headers.
    pub(crate) include_server_dir: PathBuf,
    /// `--pkglibdir`: the extensions' libraries, `$libdir` in SQL.
    pub(crate) pkglib_dir: PathBuf,
    /// `extension` under `--sharedir`: control and SQL files.
    pub(crate) share_extension_dir: PathBuf,
    /// Major version, for example 16.
    pub(crate) major: u32,
}

/// Builds and installs every stand-in that this server can carry.
///
/// `vchord` is left out where pgvector is missing, and each one where the real extension is installed.
pub(crate) fn build(server: &Directories) -> Result<Vec<&'static str>> {
    check_headers(server)?;
    let mut built = Vec::new();
    for (name, needed) in STAND_INS {
        let is_missing = |extension: &str| !control_file(server, extension).exists();
        if needed.is_some_and(is_missing) || is_real(server, name)? {
            continue;
        }
        install(server, name).with_context(|| {
            format!("could not build the stand-in {name} for PostgreSQL {}", server.major)
        })?;
        built.push(name);
    }
    Ok(built)
}

fn control_file(server: &Directories, extension: &str) -> PathBuf {
    server.share_extension_dir.join(extension).with_extension("control")
}

/// A library built for one major version is refused by the others, so mixed-up directories are told here.
fn check_headers(server: &Directories) -> Result<()> {
    let path = server.include_server_dir.join("pg_config.h");
    let header = fs::read_to_string(&path)
        .with_context(|| format!("no server headers: could not read {}", path.display()))?;
    let declared = header.lines().find_map(|line| line.strip_prefix("#define PG_MAJORVERSION_NUM "));
    ensure!(
        declared.and_then(|number| number.trim().parse().ok()) == Some(server.major),
        "{} is of PostgreSQL {}, not {}",
        path.display(),
        declared.unwrap_or("unknown"),
        server.major
    );
    Ok(())
}

fn is_real(server: &Directories, name: &str) -> Result<bool> {
    let path = control_file(server, name);
    if !path.exists() {
        return Ok(false);
    }
    let control = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    Ok(!control.contains("stand-in"))
}

fn install(server: &Directories, name: &str) -> Result<()> {
    let mut code = Vec::new();
    let mut shared = Vec::new();
    for entry in fs::read_dir(Path::new(SOURCES).join(name))? {
        let path = entry?.path();
        match path.extension().and_then(OsStr::to_str) {
            Some("c") => code.push(path),
            Some("control") => shared.push(path),
            Some("sql") if is_version(&path, name) => shared.push(path),
            _ => {}
        }
    }

    let library = server.pkglib_dir.join(name).with_extension("so");
    // Renamed at the end: a server that maps the old file keeps it, and crashes if it is written into.
    let unfinished = library.with_extension("so.new");
    compile(server, &code, &unfinished)?;
    fs::rename(&unfinished, &library).with_context(|| format!("could not install {}", library.display()))?;
    for path in shared {
        let target = server.share_extension_dir.join(path.file_name().unwrap_or_default());
        fs::copy(&path, &target).with_context(|| format!("could not install {}", target.display()))?;
    }
    Ok(())
}

/// `name--1.0.sql` makes the extension; other SQL files beside it are checks.
fn is_version(path: &Path, name: &str) -> bool {
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    stem.strip_prefix(name).is_some_and(|version| version.starts_with("--"))
}

fn compile(server: &Directories, code: &[PathBuf], output: &Path) -> Result<()> {
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-I"])
        .arg(&server.include_server_dir)
        .arg("-o")
        .arg(output)
        .args(code)
        .output()
        .context("could not run cc, the C compiler")?;
    if !compiler.status.success() {
        bail!("cc: {}\n{}", compiler.status, String::from_utf8_lossy(&compiler.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A server of empty directories whose headers say they are of `major`; it lasts as long as the first value.
    fn server(major: u32) -> (TempDir, Directories) {
        let root = tempfile::tempdir().expect("temporary directory");
        let server = Directories {
            include_server_dir: root.path().join("include"),
            pkglib_dir: root.path().join("lib"),
            share_extension_dir: root.path().join("extension"),
            major,
        };
        for directory in [&server.include_server_dir, &server.pkglib_dir, &server.share_extension_dir] {
            fs::create_dir(directory).expect("temporary directory");
        }
        let header = format!("#define PG_MAJORVERSION_NUM {major}\n");
        fs::write(server.include_server_dir.join("pg_config.h"), header).expect("header");
        (root, server)
    }

    #[test]
    fn headers_of_another_major_are_refused() {
        let (_root, mut server) = server(15);
        server.major = 16;
        let error = build(&server).expect_err("15 is not 16").to_string();
        assert!(error.ends_with("is of PostgreSQL 15, not 16"), "{error}");
    }

    #[test]
    fn missing_headers_are_named() {
        let (_root, mut server) = server(15);
        server.include_server_dir.push("absent");
        let error = build(&server).expect_err("no headers").to_string();
        assert!(error.starts_with("no server headers"), "{error}");
    }

    #[test]
    fn the_real_extension_and_a_missing_requirement_leave_nothing_to_build() {
        let (_root, server) = server(15);
        fs::write(control_file(&server, "vectors"), "comment = 'the real one'\n").expect("control");
        assert!(build(&server).expect("nothing to compile").is_empty());
        assert_eq!(fs::read_dir(&server.pkglib_dir).expect("directory").count(), 0);
    }

    #[test]
    fn the_message_of_the_compiler_reaches_the_reader() {
        let (_root, server) = server(15);
        let error = format!("{:#}", build(&server).expect_err("no postgres.h"));
        assert!(error.contains("the stand-in vectors") && error.contains("postgres.h"), "{error}");
    }
}
