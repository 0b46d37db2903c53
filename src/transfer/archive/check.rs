//! Reads an archive through, and names everything that is wrong with it.

use std::collections::BTreeSet;
use std::fs::FileType;
use std::path::Path;
use std::time::Duration;

use super::contents;
use super::error::{ArchiveError, Defect};
use super::format::{JOURNAL, MANIFEST, MANIFEST_SUM, Member, WireFormat};
use super::reader::Archive;
use crate::transfer::digest::Digest;
use crate::transfer::lane::confirm;
use crate::transfer::relay::{self, RelayError, Rows};

/// How long a disk may stand still.
const STALL: Duration = Duration::from_secs(600);

/// How many defects are kept; the others are counted.
const KEPT: usize = 1000;

/// What a check found.
#[derive(Debug, Default)]
pub struct Check {
    /// How many files were read: chunks and attachments.
    pub files: u64,
    /// Their bytes of content, uncompressed.
    pub content_bytes: u64,
    /// Their bytes on disk.
    pub file_bytes: u64,
    /// How many rows were cut out of chunks, those of large objects among them.
    pub rows: u64,
    /// How many chunks had their rows hashed and compared with their digest. Text is counted only.
    pub hashed_chunks: u64,
    /// What is wrong, at most 1000 of it. Empty: the archive is as it was written.
    pub defects: Vec<ArchiveError>,
    /// How many further defects there are.
    pub further: u64,
}

impl Check {
    fn add(&mut self, defect: ArchiveError) {
        if self.defects.len() < KEPT {
            self.defects.push(defect);
        } else {
            self.further += 1;
        }
    }
}

/// Reads every file of an archive and looks for files that do not belong to it. `progress` is called after
/// each block with the bytes of content read so far and in all.
///
/// An archive without a readable manifest is an error, as there is nothing to check against.
pub async fn check(directory: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Check, ArchiveError> {
    let archive = Archive::open(directory)?;
    let mut check = Check::default();
    let plan = match contents::row_plan(&archive).await {
        Ok(plan) => Some(plan),
        // An archive of another writer, whose chunks are bytes; or damage, which is named when its turn comes.
        Err(ArchiveError::NoSuchMember(_) | ArchiveError::Damaged { .. }) => None,
        Err(error) => {
            check.add(error);
            None
        }
    };
    let total =
        archive.manifest().members().fold(0_u64, |sum, (_, file)| sum.saturating_add(file.content_bytes));
    let mut known = BTreeSet::from([MANIFEST.to_owned(), MANIFEST_SUM.to_owned()]);
    // A journal beside the manifest is what a kill in the writer's very last step leaves; nobody reads it.
    known.insert(JOURNAL.to_owned());
    for (member, file) in archive.manifest().members() {
        known.insert(member.path());
        check.files += 1;
        check.file_bytes = check.file_bytes.saturating_add(file.file_bytes);
        let before = check.content_bytes;
        let read = |bytes| {
            check.content_bytes += bytes;
            progress(check.content_bytes, total);
        };
        let rows = plan.as_ref().and_then(|plan| plan.rows_of(&member));
        let outcome = match &rows {
            Some(rows) => read_rows(&archive, &member, rows, read).await.map(Some),
            None => read_through(&archive, &member, read).await.map(|()| None),
        };
        match outcome {
            Ok(Some(digest)) => {
                check.rows += digest.rows;
                check.hashed_chunks += u64::from(matches!(rows, Some(Rows::Binary { .. })));
            }
            Ok(None) => {}
            Err(defect) => {
                check.content_bytes = before.saturating_add(file.content_bytes);
                check.add(defect);
            }
        }
    }
    walk(archive.directory(), &mut |relative, _| {
        if !known.contains(relative) {
            check.add(ArchiveError::Unknown(relative.to_owned()));
        }
        Ok(())
    })?;
    Ok(check)
}

/// Reads a chunk as rows and compares their digest with the manifest's.
async fn read_rows(
    archive: &Archive,
    member: &Member,
    rows: &Rows,
    mut read: impl FnMut(u64),
) -> Result<Digest, ArchiveError> {
    let format = if matches!(rows, Rows::Text) { WireFormat::Text } else { WireFormat::Binary };
    let stream = super::rows(archive.read(member)?, format);
    let digest = relay::examine(stream, rows, STALL.into(), |_, bytes| read(bytes)).await;
    confirm(archive, member, rows, digest).map_err(|error| match error {
        RelayError::Archive(error) => error,
        // The disk stands still.
        other => archive.damaged(member, Defect::Rows(other.to_string())),
    })
}

async fn read_through(
    archive: &Archive,
    member: &Member,
    mut read: impl FnMut(u64),
) -> Result<(), ArchiveError> {
    let mut reader = archive.read(member)?;
    while let Some(block) = reader.next().await? {
        read(block.len() as u64);
    }
    Ok(())
}

/// Calls `found` with the path of everything in an archive's directory that is no directory, and of every
/// directory too deep to belong there. Symbolic links are not followed.
pub(super) fn walk(
    root: &Path,
    found: &mut dyn FnMut(&str, FileType) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    descend(root, "", 0, found)
}

/// `data/17/3.zst` is as deep as an archive goes.
const DEPTH: usize = 2;

fn descend(
    directory: &Path,
    prefix: &str,
    depth: usize,
    found: &mut dyn FnMut(&str, FileType) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    for entry in directory.read_dir().map_err(ArchiveError::io("read", directory))? {
        let entry = entry.map_err(ArchiveError::io("read", directory))?;
        let kind = entry.file_type().map_err(ArchiveError::io("read", &entry.path()))?;
        // A name that is no UTF-8 is none of an archive's, however it is shown.
        let relative = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if kind.is_dir() && depth < DEPTH {
            descend(&entry.path(), &format!("{relative}/"), depth + 1, found)?;
        } else {
            found(&relative, kind)?;
        }
    }
    Ok(())
}
