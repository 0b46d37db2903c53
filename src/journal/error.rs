//! Why a journal cannot be read or written.

use std::io;
use std::path::PathBuf;

use crate::error::{Class, Fault};

/// Why the run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system says no.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line that is not a record of this version.
    #[error("{path}, line {line}, is not a journal record of this version of pgmove")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why not.
        source: serde_json::Error,
    },
    /// Another process works on the same run.
    #[error("another pgmove works in {path}{}", .run.as_ref().map(|run| format!(", on run {run}")).unwrap_or_default())]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// The run, if one has begun there.
        run: Option<String>,
    },
    /// A new run was asked for where one is.
    #[error("{0} already holds a run")]
    Exists(PathBuf),
    /// A new run was asked for in a directory of somebody else's.
    #[error("{0} is not empty, and holds no run")]
    NotEmpty(PathBuf),
    /// A run to resume was asked for where none is.
    #[error("{0} holds no run")]
    Missing(PathBuf),
}

impl Fault for JournalError {
    fn class(&self) -> Class {
        match self {
            JournalError::Io { .. } => Class::Environment,
            JournalError::Damaged { .. } => Class::Integrity,
            JournalError::Locked { .. }
            | JournalError::Exists(_)
            | JournalError::NotEmpty(_)
            | JournalError::Missing(_) => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            JournalError::Io { .. } => "name a directory that can be written with --run-dir".into(),
            JournalError::Damaged { .. } => {
                "resume with the version of pgmove that began the run, or start over with another --run-dir"
                    .into()
            }
            JournalError::Locked { .. } => "wait for it, or stop it".into(),
            JournalError::Exists(_) => "go on with it (--resume), or name another --run-dir".into(),
            JournalError::NotEmpty(_) => "name a new or an empty directory with --run-dir".into(),
            JournalError::Missing(_) => "name the directory of the run to resume with --run-dir".into(),
        })
    }
}
