//! The directories of an archive, and files that a crash of the machine does not take away.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::error::ArchiveError;
use super::file::part_of;

/// Refuses a directory that a new archive could not be begun in: one that is there and not empty.
pub fn ensure_vacant(directory: &Path) -> Result<(), ArchiveError> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ArchiveError::io("read", directory)(error)),
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(ArchiveError::NotEmpty(directory.to_owned())),
            None => Ok(()),
        },
    }
}

/// Creates the directories between `root` and `path`, never through a symbolic link.
pub(super) fn create_parents(root: &Path, path: &Path) -> Result<(), ArchiveError> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).take_while(|directory| *directory != root).collect();
    above.reverse();
    for directory in above {
        match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => sync_directory(directory.parent().unwrap_or(root))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let metadata = directory.symlink_metadata().map_err(ArchiveError::io("open", directory))?;
                if !metadata.is_dir() {
                    return Err(ArchiveError::io("create", directory)(error));
                }
            }
            Err(error) => return Err(ArchiveError::io("create", directory)(error)),
        }
    }
    Ok(())
}

/// Writes a file that is there whole or not at all.
pub(super) fn write_durably(directory: &Path, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
    let path = directory.join(name);
    let part = part_of(&path);
    // A part of an attempt that failed before.
    let _ = fs::remove_file(&part);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&part, &path)
    };
    write().map_err(ArchiveError::io("write", &path))?;
    sync_directory(directory)
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), ArchiveError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(ArchiveError::io("write", directory))
}
