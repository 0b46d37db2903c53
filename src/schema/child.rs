//! Running `pg_dump` and `pg_restore` on this machine.
//!
//! A child has a cleared environment (`LC_ALL=C`, so that its messages can be read, and `PGPASSFILE`), an
//! absolute program, no standard input, and no secret in its arguments: the password goes into a file of mode
//! 0600 in a private directory of mode 0700, below one that the caller names, that lives as long as the child. It is killed and reaped when the
//! caller gives up, when it is cancelled, and when it shows no sign of life for too long.

mod error;

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::Bridge;
use crate::pg::{ConnInfo, ConnInfoError};

pub use error::ChildError;

/// How a child reaches a server.
#[derive(Debug, Clone, Default)]
pub struct ChildEndpoint {
    /// libpq's keyword string, without a password and without `passfile`; it is the value of `--dbname`.
    pub dbname_keywords: String,
    /// A line of a password file (`host:port:database:user:password`, escaped), if a password is needed.
    pub passfile_line: Option<SecretString>,
    /// The server in a pod, to which the child gets a socket.
    pub pod: Option<Arc<ConnInfo>>,
}

impl ChildEndpoint {
    /// The server that sessions of `conninfo` reach.
    pub fn of(conninfo: &Arc<ConnInfo>) -> Result<ChildEndpoint, ConnInfoError> {
        Ok(ChildEndpoint {
            dbname_keywords: conninfo.keyword_string(None),
            passfile_line: conninfo.passfile_line()?,
            pod: conninfo.route().is_some().then(|| Arc::clone(conninfo)),
        })
    }
}

/// When a child is stopped.
#[derive(Debug, Clone)]
pub struct ChildLimits {
    /// Without a byte on stdout or stderr for so long it is killed.
    pub stall: Duration,
    /// Cancelled by the caller.
    pub cancel: CancellationToken,
}

/// What a child that succeeded wrote.
#[derive(Debug)]
pub(super) struct ChildOutput {
    pub(super) stdout: Vec<u8>,
    /// Its messages, all of them: a warning can be anywhere among the notes of `--verbose`.
    pub(super) stderr: String,
}

/// Runs a program to its end. A connection is an endpoint and a directory for the password file.
pub(super) async fn run(
    program: &Path,
    arguments: &[OsString],
    connection: Option<(&ChildEndpoint, &Path)>,
    limits: &ChildLimits,
) -> Result<ChildOutput, ChildError> {
    let name = || program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let start = |cause| ChildError::Start { program: program.display().to_string(), cause };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut passfile, mut bridge) = (None, None);
    if let Some((endpoint, scratch)) = connection {
        let mut keywords = endpoint.dbname_keywords.clone();
        if let Some(conninfo) = &endpoint.pod {
            let made = Bridge::listen(conninfo).map_err(ChildError::Socket)?;
            keywords = conninfo.at_socket(made.directory()).keyword_string(None);
            bridge = Some(made);
        }
        command.arg(format!("--dbname={keywords}"));
        passfile = endpoint.passfile_line.as_ref().map(|line| Passfile::write(line, scratch)).transpose()?;
    }
    // Without it libpq reads ~/.pgpass, whose directory it finds without the environment; a file that cannot be
    // there is passed over in silence, while libpq warns of a device.
    command.env(
        "PGPASSFILE",
        passfile.as_ref().map_or(OsStr::new("/dev/null/none"), |file| file.path.as_os_str()),
    );
    // pg_dump writes strings as its session reads them, whatever the database's default is; libpq prefers the
    // connection string's own `options`.
    command.env("PGOPTIONS", "-c standard_conforming_strings=on");
    let mut child = command.spawn().map_err(start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut output = Vec::new();
    let mut messages = Vec::new();
    let ended = {
        let alive = Alive(AtomicU64::new(0));
        let work = async {
            let read = tokio::try_join!(alive.read(stdout, &mut output), alive.read(stderr, &mut messages),);
            read?;
            child.wait().await
        };
        tokio::select! {
            status = work => Ok(status.map_err(start)?),
            () = alive.is_stalled(limits.stall) => Err(true),
            () = limits.cancel.cancelled() => Err(false),
        }
    };
    let stderr = String::from_utf8_lossy(&messages).into_owned();
    let cut = match bridge {
        Some(bridge) => bridge.close().await,
        None => None,
    };
    match ended {
        Ok(status) if status.success() => Ok(ChildOutput { stdout: output, stderr }),
        Ok(status) => {
            // The child knows that its connection was cut, and not why.
            let cut = cut.map(|cut| format!(" / {cut}")).unwrap_or_default();
            Err(ChildError::Failed { program: name(), status, message: own_errors(&stderr) + &cut })
        }
        Err(is_stalled) => {
            // Killed and reaped here; dropping alone would leave the reaping to chance.
            let _ = child.kill().await;
            let last = stderr.lines().last().unwrap_or("nothing").to_owned();
            Err(if is_stalled {
                ChildError::Stalled { program: name(), stall: limits.stall, last }
            } else {
                ChildError::Cancelled { program: name() }
            })
        }
    }
}

/// Counts the bytes that a child writes.
struct Alive(AtomicU64);

impl Alive {
    /// Reads to the end.
    async fn read(&self, stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> std::io::Result<()> {
        let Some(mut stream) = stream else { return Ok(()) };
        loop {
            let count = stream.read_buf(into).await?;
            if count == 0 {
                return Ok(());
            }
            self.0.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Returns when nothing was read for so long.
    async fn is_stalled(&self, stall: Duration) {
        let mut seen = self.0.load(Ordering::Relaxed);
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + stall).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
            since = Instant::now();
        }
    }
}

/// A child's errors without the notes of `--verbose`, on one line; its last line if it names none.
pub(super) fn own_errors(stderr: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut is_error = false;
    for line in stderr.lines() {
        let rest = line.strip_prefix("pg_dump: ").or_else(|| line.strip_prefix("pg_restore: "));
        if let Some(rest) = rest {
            is_error = ["error: ", "detail: ", "hint: "].iter().any(|word| rest.starts_with(word));
        }
        if is_error {
            lines.push(line.trim());
        }
    }
    if lines.is_empty() {
        lines.extend(stderr.lines().rev().find(|line| !line.trim().is_empty()));
    }
    lines.join(" / ")
}

/// The warnings among a child's messages, without the program's name.
pub(super) fn own_warnings(stderr: &str) -> Vec<String> {
    let warning = |line: &str| line.split_once(": warning: ").map(|(_, text)| text.to_owned());
    stderr.lines().filter_map(warning).collect()
}

/// A password file of its own in a directory of its own; both go when it is dropped.
struct Passfile {
    directory: PathBuf,
    path: PathBuf,
}

impl Passfile {
    fn write(line: &SecretString, scratch: &Path) -> Result<Self, ChildError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = scratch.join(format!("passfile-{}-{count}", std::process::id()));
        let error = |cause| ChildError::Passfile { directory: scratch.display().to_string(), cause };
        // Creating fails if the name is taken, so nobody else can have put anything there.
        DirBuilder::new().mode(0o700).create(&directory).map_err(error)?;
        let file = Passfile { path: directory.join("passfile"), directory };
        let mut handle =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file.path).map_err(error)?;
        handle.write_all(line.expose_secret().as_bytes()).map_err(error)?;
        handle.write_all(b"\n").map_err(error)?;
        Ok(file)
    }
}

/// Removes what may hold passwords and a killed process left in its run directory: password files, and what `pg_dump`
/// wrote. Its process id may be this one's: in a container every first process has the same.
pub(crate) fn remove_leftovers(scratch: &Path) {
    for entry in std::fs::read_dir(scratch).into_iter().flatten().flatten() {
        let name = entry.file_name();
        // What cannot be removed stays as private as it was.
        let _ = match name.to_string_lossy() {
            name if name.starts_with("passfile-") => std::fs::remove_dir_all(entry.path()),
            name if name.ends_with(".dump") => std::fs::remove_file(entry.path()),
            _ => Ok(()),
        };
    }
}

impl Drop for Passfile {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the directory stays private.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(stall_milliseconds: u64) -> ChildLimits {
        ChildLimits { stall: Duration::from_millis(stall_milliseconds), cancel: CancellationToken::new() }
    }

    async fn shell(script: &str, limits: &ChildLimits) -> Result<ChildOutput, ChildError> {
        run(Path::new("/bin/sh"), &["-c".into(), script.into()], None, limits).await
    }

    #[tokio::test]
    async fn a_child_sees_nothing_of_the_environment_and_its_errors_are_kept() {
        let output = shell("/usr/bin/env | /usr/bin/sort; echo 'pg_dump: warning: look' >&2", &limits(5000))
            .await
            .expect("it succeeds");
        let names: Vec<String> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name.to_owned()))
            // The shell's own.
            .filter(|name| !matches!(name.as_str(), "PWD" | "_" | "SHLVL" | "OLDPWD"))
            .collect();
        assert_eq!(names, ["LC_ALL", "PGOPTIONS", "PGPASSFILE"]);
        assert_eq!(own_warnings(&output.stderr), ["look"]);

        let script = "echo 'pg_dump: reading tables' >&2; echo 'pg_dump: error: no luck' >&2; exit 1";
        let error = shell(script, &limits(5000)).await.expect_err("it fails");
        assert!(error.to_string().ends_with("pg_dump: error: no luck"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_or_cancelled_child_is_killed() {
        let error = shell("echo started >&2; exec sleep 60", &limits(200)).await.expect_err("it is stopped");
        assert!(matches!(&error, ChildError::Stalled { last, .. } if last == "started"), "{error}");
        let limits = limits(60_000);
        limits.cancel.cancel();
        let error = shell("exec sleep 60", &limits).await.expect_err("it is stopped");
        assert!(matches!(error, ChildError::Cancelled { .. }), "{error}");
    }

    #[test]
    fn a_passfile_is_private_and_goes() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = tempfile::tempdir().expect("a directory");
        let file = Passfile::write(&"h:5432:d:u:secret".to_owned().into(), scratch.path()).expect("written");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&file.path), mode(&file.directory)), (0o600, 0o700));
        drop(file);
        assert_eq!(std::fs::read_dir(scratch.path()).expect("a directory").count(), 0);
        // One of a process that was killed.
        std::mem::forget(Passfile::write(&"secret".to_owned().into(), scratch.path()).expect("written"));
        for name in ["plan.json", "schema.dump"] {
            std::fs::write(scratch.path().join(name), "{}").expect("written");
        }
        remove_leftovers(scratch.path());
        assert_eq!(std::fs::read_dir(scratch.path()).expect("a directory").count(), 1);
    }
}
