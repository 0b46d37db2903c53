//! The schema of a database as entries: `pg_dump` into an archive, `pg_restore` from it into a script.
//!
//! Takes an endpoint, a snapshot and a directory; gives the entries and `pg_dump`'s warnings, and leaves the
//! archive (mode 0600) in the directory. Owners, rights and security labels are in it: what the target cannot
//! take is rewritten by name, not left out. Rows, large objects and statistics are not.
//!
//! The archive is in UTF-8, whatever the server's encoding: its statements are sent over a session in UTF-8.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::child::{ChildEndpoint, ChildError, ChildLimits, own_warnings};
use super::entry::Entry;
use super::script::{self, ScriptError};
use super::tools::ClientTools;
use crate::error::{Class, Fault, Side};

/// How long `pg_dump` waits for a lock: as long as sessions do (`sql/session/pin.sql`).
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// What to dump.
#[derive(Debug, Clone)]
pub struct DumpRequest<'a> {
    /// Which of the two databases it is, for the errors.
    pub side: Side,
    /// The client tools.
    pub tools: &'a ClientTools,
    /// The server and database.
    pub endpoint: &'a ChildEndpoint,
    /// An exported snapshot, held open by the caller until this is done; `None` for `pg_dump`'s own.
    pub snapshot: Option<&'a str>,
    /// The archive's path; the file must not exist.
    pub archive: &'a Path,
    /// When to give up. A table whose lock is not granted within half a minute, or half of the stall limit, ends the
    /// dump, too.
    pub limits: &'a ChildLimits,
}

/// A schema, read.
#[derive(Debug, Clone)]
pub struct SchemaDump {
    /// The entries, in the order in which `pg_restore` would apply them.
    pub entries: Vec<Entry>,
    /// What `pg_dump` warned of: circular foreign keys, subscriptions left out for want of rights.
    pub warnings: Vec<String>,
    /// The archive in `pg_dump`'s custom format.
    pub archive: PathBuf,
}

/// Why a schema could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The archive's file could not be made.
    #[error("could not create {path}")]
    Archive {
        /// The file.
        path: String,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// `pg_dump` failed.
    #[error("could not dump the schema of the {side}")]
    Dump {
        /// The server it was reading.
        side: Side,
        /// Whether it waited in vain for the lock of a table.
        is_lock_timeout: bool,
        /// What it said.
        #[source]
        cause: ChildError,
    },
    /// `pg_restore` failed.
    #[error("could not read the schema's archive {path}")]
    Restore {
        /// The archive.
        path: String,
        /// What it said.
        #[source]
        cause: ChildError,
    },
    /// A name or text in the schema is not valid in UTF-8, as can be in a database of encoding `SQL_ASCII`.
    #[error("the schema's script is not valid UTF-8 near `{near}`")]
    Encoding {
        /// The text before the first invalid byte.
        near: String,
    },
    /// The script is not understood.
    #[error("could not read pg_restore's script")]
    Script(#[from] ScriptError),
}

impl Fault for DumpError {
    fn class(&self) -> Class {
        match self {
            DumpError::Archive { .. } => Class::Environment,
            DumpError::Dump {
                side, cause: ChildError::Failed { .. } | ChildError::Stalled { .. }, ..
            } => side.class(),
            DumpError::Dump { cause, .. } | DumpError::Restore { cause, .. } => cause.class(),
            DumpError::Encoding { .. } => Class::Source,
            DumpError::Script(error) => error.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            DumpError::Dump { cause, .. } | DumpError::Restore { cause, .. } => cause.is_retryable(),
            _ => false,
        }
    }

    fn lock_timeout(&self) -> Option<Side> {
        match self {
            DumpError::Dump { side, is_lock_timeout: true, .. } => Some(*side),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            DumpError::Archive { .. } => Some("name a run directory that is writable and new".to_owned()),
            DumpError::Dump { cause, .. } | DumpError::Restore { cause, .. } => cause.hint(),
            DumpError::Encoding { .. } => {
                Some("rename the object or correct its comment or body on the source".to_owned())
            }
            DumpError::Script(error) => error.hint(),
        }
    }
}

/// Dumps the schema of a database.
pub async fn dump_schema(request: &DumpRequest<'_>) -> Result<SchemaDump, DumpError> {
    let archive = request.archive;
    // pg_dump truncates an existing file and keeps its mode.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(archive)
        .map_err(|cause| DumpError::Archive { path: archive.display().to_string(), cause })?;
    let begun = Instant::now();
    let dumped =
        request.tools.dump(&dump_arguments(request), request.endpoint, archive, request.limits).await;
    let messages = dumped.map_err(|cause| {
        // The server may speak another language; this is pg_dump's own word for the statement that failed. A table that
        // the role may not read is refused there too, and at once.
        let is_lock = matches!(&cause, ChildError::Failed { message, .. } if message.contains("LOCK TABLE"));
        let is_lock_timeout = is_lock && begun.elapsed() >= lock_wait(request);
        DumpError::Dump { side: request.side, is_lock_timeout, cause }
    })?;
    let entries = entries_of(request.tools, archive, request.limits).await?;
    Ok(SchemaDump { entries, warnings: own_warnings(&messages), archive: archive.to_owned() })
}

/// The same without the archive, which may hold passwords: it goes, and so does one that a killed process has left.
pub async fn read_schema(request: &DumpRequest<'_>) -> Result<SchemaDump, DumpError> {
    struct Removed<'a>(&'a Path);
    impl Drop for Removed<'_> {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(self.0);
        }
    }
    let _ = std::fs::remove_file(request.archive);
    let _removed = Removed(request.archive);
    dump_schema(request).await
}

fn dump_arguments(request: &DumpRequest<'_>) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--format=custom",
        "--schema-only",
        // Large objects are copied with the rows; the name is older than --no-large-objects and still taken.
        "--no-blobs",
        "--no-tablespaces",
        "--encoding=UTF8",
        "--no-password",
        // Its notes are the sign of life.
        "--verbose",
    ]
    .map(str::to_owned)
    .into();
    if request.tools.version.major >= 18 {
        arguments.push("--no-statistics".to_owned());
    }
    if let Some(snapshot) = request.snapshot {
        arguments.push(format!("--snapshot={snapshot}"));
    }
    arguments.push(format!("--lock-wait-timeout={}", lock_wait(request).as_millis()));
    arguments
}

/// At most half of the stall, so that pg_dump can say which table it waited for before it is stopped for its silence.
fn lock_wait(request: &DumpRequest<'_>) -> Duration {
    LOCK_WAIT.min(request.limits.stall / 2)
}

async fn entries_of(
    tools: &ClientTools,
    archive: &Path,
    limits: &ChildLimits,
) -> Result<Vec<Entry>, DumpError> {
    let restore = async |arguments: &[&str]| {
        let output = tools.restore(arguments, archive, limits).await;
        text(output.map_err(|cause| DumpError::Restore { path: archive.display().to_string(), cause })?)
    };
    let script = restore(&["--file=-", "--verbose", "--no-tablespaces"]).await?;
    let list = restore(&["--list", "--no-tablespaces"]).await?;
    Ok(script::parse(&script, &list)?)
}

fn text(bytes: Vec<u8>) -> Result<String, DumpError> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let start = valid.len().saturating_sub(80);
        DumpError::Encoding { near: String::from_utf8_lossy(&valid[start..]).trim().to_owned() }
    })
}
