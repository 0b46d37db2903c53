//! The files of a report in a run directory.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Class, Fault};

/// What the run has come to, for a script.
pub(crate) const REPORT: &str = "report.json";
/// The same, for a person.
pub(crate) const PAGE: &str = "report.html";
/// What a run does, or did until it was killed.
pub(crate) const PROGRESS: &str = "progress.json";

/// Writes a file whole or not at all; only its owner may read it.
pub(crate) fn write(directory: &Path, name: &str, bytes: &[u8], is_synced: bool) -> io::Result<()> {
    let part = directory.join(format!("{name}.part"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    if is_synced {
        file.sync_all()?;
    }
    std::fs::rename(&part, directory.join(name))
}

/// Removes the progress of a process that has ended; it stands in the report.
pub(crate) fn remove_progress(directory: &Path) {
    let _ = std::fs::remove_file(directory.join(PROGRESS));
    let _ = std::fs::remove_file(directory.join(format!("{PROGRESS}.part")));
}

/// Whether the directory holds nothing but the report of a run, which a new run may replace.
pub(crate) fn is_only_report(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    let is_ours = |entry: io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| [REPORT, PAGE].iter().any(|name| entry.file_name() == *name))
    };
    entries.into_iter().all(is_ours) && matches!(read::<super::Report>(directory, REPORT), Ok(Some(_)))
}

/// A file of a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system says no.
    #[error("could not read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is none of this version.
    #[error("{path} was not written by this version of pgmove")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
}

impl Fault for FileError {
    fn class(&self) -> Class {
        match self {
            FileError::Io { .. } => Class::Environment,
            FileError::Foreign { .. } => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            FileError::Io { .. } => "ask as the user who began the run".into(),
            FileError::Foreign { .. } => "ask the version of pgmove that made the run".into(),
        })
    }
}

/// Reads a file; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, FileError> {
    let path = directory.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|source| FileError::Foreign { path, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Io { path, source }),
    }
}
