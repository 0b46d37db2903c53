//! What can be wrong with an archive, or with the disk that it is on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::format::{MANIFEST_LIMIT, VERSION};
use crate::error::{Class, Fault};
use crate::transfer::digest::Digest;

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk, or the operating system, refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried: `write`, `open`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An archive is a directory, and there is none of this name.
    #[error("there is no directory {}", .0.display())]
    Missing(PathBuf),
    /// A new archive needs a directory of its own.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The directory holds an archive that is already complete.
    #[error("{} already holds a finished archive", .0.display())]
    Finished(PathBuf),
    /// There is no manifest, which is written last.
    #[error("{} holds no finished archive: there is no manifest.json", .0.display())]
    Unfinished(PathBuf),
    /// There is neither an archive nor the beginning of one.
    #[error("{} holds no archive that could be resumed", .0.display())]
    NothingToResume(PathBuf),
    /// The archive's format is newer than this pgmove.
    #[error("the archive has format version {0}; this pgmove reads versions up to {VERSION}")]
    Newer(u64),
    /// The manifest, or the writer's journal, is not what was written.
    #[error("{file} is damaged: {reason}")]
    DamagedList {
        /// `manifest.json`, `manifest.sha256` or `journal.jsonl`.
        file: &'static str,
        /// What does not hold.
        reason: String,
    },
    /// The manifest is larger than any reader accepts.
    #[error("manifest.json would have {0} bytes; an archive's manifest has at most {MANIFEST_LIMIT}")]
    ManifestTooLarge(u64),
    /// A file of the archive is not what the manifest says.
    #[error("{file} ({item}) is damaged: {defect}")]
    Damaged {
        /// Path within the archive.
        file: String,
        /// What is in it: `public.asset, chunk 3`.
        item: String,
        /// What does not hold.
        defect: Defect,
    },
    /// A file that the manifest does not name.
    #[error("{0} does not belong to the archive")]
    Unknown(String),
    /// The archive does not have what was asked for.
    #[error("the archive has no {0}")]
    NoSuchMember(String),
    /// An attachment's name would not be the same, or not be allowed, everywhere.
    #[error("{0:?} cannot be the name of an attachment")]
    BadName(String),
    /// The archive was to be finished, and something that was announced is not there, or the reverse.
    #[error("the archive cannot be finished: {0}")]
    Incomplete(String),
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum Defect {
    /// It is not there.
    Missing,
    /// It is a symbolic link, a directory, or anything else that is no regular file.
    NotAFile,
    /// It is shorter or longer than the manifest says, in bytes.
    Size {
        /// The manifest's size.
        expected: u64,
        /// The file's size.
        found: u64,
    },
    /// Its SHA-256 is not the manifest's.
    Hash,
    /// It is not a sequence of zstd frames, or a frame's checksum does not hold.
    Frame(io::Error),
    /// Its content is shorter or longer than the manifest says, in bytes.
    ContentSize {
        /// The manifest's size.
        expected: u64,
        /// What was read before the difference showed.
        found: u64,
    },
    /// Its content is no COPY stream of the rows that the archive announces.
    Rows(String),
    /// It is not the document that this version of pgmove writes.
    Document(String),
    /// Its rows are not those that were written.
    Digest {
        /// The manifest's digest.
        expected: Box<Digest>,
        /// That of the rows.
        found: Box<Digest>,
    },
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::Missing => f.write_str("it is missing"),
            Defect::NotAFile => f.write_str("it is not a regular file"),
            Defect::Size { expected, found } => write!(f, "it has {found} bytes instead of {expected}"),
            Defect::Hash => f.write_str("its SHA-256 is not the one in the manifest"),
            Defect::Frame(error) => write!(f, "its zstd data cannot be read: {error}"),
            Defect::ContentSize { expected, found } if found > expected => {
                write!(f, "its content has more than {expected} bytes")
            }
            Defect::ContentSize { expected, found } => {
                write!(f, "its content has {found} bytes instead of {expected}")
            }
            Defect::Rows(reason) => write!(f, "its content cannot be read as rows: {reason}"),
            Defect::Document(reason) => write!(f, "it cannot be understood: {reason}"),
            Defect::Digest { expected, found } if expected.rows != found.rows => {
                write!(f, "it has {} rows instead of {}", found.rows, expected.rows)
            }
            Defect::Digest { .. } => f.write_str("the checksum of its rows is not the one in the manifest"),
        }
    }
}

impl ArchiveError {
    /// For `map_err`: the operating system refused `action` on `path`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
        let path = path.to_owned();
        move |source| ArchiveError::Io { action, path, source }
    }
}

impl Fault for ArchiveError {
    fn class(&self) -> Class {
        match self {
            ArchiveError::Io { .. } => Class::Environment,
            ArchiveError::Missing(_)
            | ArchiveError::NotEmpty(_)
            | ArchiveError::Finished(_)
            | ArchiveError::NothingToResume(_)
            | ArchiveError::Newer(_)
            | ArchiveError::NoSuchMember(_)
            | ArchiveError::ManifestTooLarge(_) => Class::User,
            ArchiveError::Unfinished(_)
            | ArchiveError::DamagedList { .. }
            | ArchiveError::Damaged { .. }
            | ArchiveError::Unknown(_) => Class::Integrity,
            ArchiveError::BadName(_) | ArchiveError::Incomplete(_) => Class::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            ArchiveError::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                "free some space on the archive's disk"
            }
            ArchiveError::Missing(_) => "name the archive's directory",
            ArchiveError::NotEmpty(_) => {
                "name a directory that does not exist yet, or resume the run that began it"
            }
            ArchiveError::Finished(_) => "name another directory",
            ArchiveError::Unfinished(_) => "resume the run that writes it, or write it anew",
            ArchiveError::Newer(_) => "use the pgmove that wrote the archive, or a later one",
            ArchiveError::DamagedList { .. } | ArchiveError::Damaged { .. } => {
                "restore the archive from another copy of it; `pgmove archive check` names every damaged file"
            }
            ArchiveError::Unknown(_) => "look at the file, and take it out of the archive's directory",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
