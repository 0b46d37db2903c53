//! One file of an archive while it is written: adaptive compression, SHA-256, `.part` until it is complete.
//!
//! The zstd encoder writes into memory, from where its bytes are hashed and written: no more than
//! [`BLOCK`] and what one slice compresses to wait there, whatever the caller hands in at once.

use std::mem;
use std::path::{Path, PathBuf};

use async_compression::tokio::write::ZstdEncoder;
use async_compression::zstd::CParameter;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::error::ArchiveError;
use super::format::{Compression, FileRecord};

/// How many bytes of content decide whether a file is compressed; they become its first frame.
pub(super) const SAMPLE: usize = 256 << 10;

/// The content of a frame, at most, in bytes: how soon a frame's checksum tells of damage.
pub(super) const FRAME: usize = 16 << 20;

/// The unit of compressing and writing, in bytes; also the largest block that RFC 8878 (3.1.1.2.4) allows.
const BLOCK: usize = 128 << 10;

/// A sample that keeps more than this share of its size, in per cent, is not worth the work of both sides.
const WORTHWHILE: usize = 88;

/// A zstd frame header (RFC 8878, 3.1.1): magic number, no checksum and no content size, window of 128 KiB.
const RAW_FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];

/// The last block of a raw frame: raw, empty.
const RAW_END: [u8; 3] = [1, 0, 0];

/// What a file's name ends with before it is complete.
pub(super) const PART: &str = ".part";

/// A zstd level from 1 to 19. Beyond it, windows grow over the 8 MiB that every zstd reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(i32);

impl Level {
    /// The level, if it is from 1 to 19.
    pub fn new(level: i32) -> Option<Level> {
        (1..=19).contains(&level).then_some(Level(level))
    }

    /// Begins a frame that is appended to `into`.
    fn encoder(self, into: Vec<u8>) -> ZstdEncoder<Vec<u8>> {
        let level = async_compression::Level::Precise(self.0);
        ZstdEncoder::with_quality_and_params(into, level, &[CParameter::checksum_flag(true)])
    }
}

impl Default for Level {
    /// Level 1: on rows, higher levels cost far more time than they save space.
    fn default() -> Self {
        Level(1)
    }
}

/// Turns content into zstd frames, in memory.
#[derive(Debug)]
struct Frames {
    /// `None` until the sample is complete.
    compression: Option<Compression>,
    level: Level,
    sample: Vec<u8>,
    encoder: Option<ZstdEncoder<Vec<u8>>>,
    /// Finished bytes, unless an encoder holds them.
    ready: Vec<u8>,
    /// Content of the open frame, in bytes; `None` between frames.
    open: Option<usize>,
}

impl Frames {
    /// Takes at most [`BLOCK`] bytes. Writing into memory does not fail; zstd itself may.
    async fn push(&mut self, block: &[u8]) -> std::io::Result<()> {
        if self.compression.is_some() {
            return self.append(block).await;
        }
        self.sample.extend_from_slice(block);
        if self.sample.len() >= SAMPLE { self.decide().await } else { Ok(()) }
    }

    /// Compresses the sample and keeps the result where that was worthwhile.
    async fn decide(&mut self) -> std::io::Result<()> {
        let sample = mem::take(&mut self.sample);
        let mut encoder = self.level.encoder(Vec::new());
        encoder.write_all(&sample).await?;
        encoder.shutdown().await?;
        let frame = encoder.into_inner();
        if frame.len() * 100 <= sample.len() * WORTHWHILE {
            self.compression = Some(Compression::Zstd(self.level.0));
            self.ready = frame;
            return Ok(());
        }
        self.compression = Some(Compression::Stored);
        // Also for an empty sample: not every zstd reader takes a file without a frame.
        self.append(&[]).await?;
        for block in sample.chunks(BLOCK) {
            self.append(block).await?;
        }
        Ok(())
    }

    async fn append(&mut self, block: &[u8]) -> std::io::Result<()> {
        if let Some(Compression::Zstd(_)) = self.compression {
            let mut encoder = match self.encoder.take() {
                Some(encoder) => encoder,
                None => self.level.encoder(mem::take(&mut self.ready)),
            };
            encoder.write_all(block).await?;
            self.encoder = Some(encoder);
        } else {
            if self.open.is_none() {
                self.ready.extend_from_slice(&RAW_FRAME);
            }
            // RFC 8878, 3.1.1.2: three bytes, little-endian: size, type 0 (raw), not the last.
            let header = u32::try_from(block.len()).expect("a block is at most BLOCK bytes") << 3;
            self.ready.extend_from_slice(&header.to_le_bytes()[..3]);
            self.ready.extend_from_slice(block);
        }
        let content = self.open.unwrap_or(0) + block.len();
        self.open = Some(content);
        if content >= FRAME { self.end_frame().await } else { Ok(()) }
    }

    async fn end_frame(&mut self) -> std::io::Result<()> {
        if let Some(mut encoder) = self.encoder.take() {
            encoder.shutdown().await?;
            self.ready = encoder.into_inner();
        } else if self.open.is_some() {
            self.ready.extend_from_slice(&RAW_END);
        }
        self.open = None;
        Ok(())
    }

    async fn end(&mut self) -> std::io::Result<()> {
        if self.compression.is_none() {
            self.decide().await?;
        }
        self.end_frame().await
    }

    /// The bytes to be written next. The encoder only ever appends, so they may be taken from under it.
    fn ready(&mut self) -> &mut Vec<u8> {
        match &mut self.encoder {
            Some(encoder) => encoder.get_mut(),
            None => &mut self.ready,
        }
    }
}

/// A file that is being written. Dropped before [`FileWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(super) struct FileWriter {
    file: File,
    part: PathBuf,
    frames: Frames,
    hash: Sha256,
    file_bytes: u64,
    content_bytes: u64,
}

impl FileWriter {
    /// Begins the file that will be at `path`, in a directory that exists. Fails if it is already being written.
    pub(super) async fn create(path: &Path, level: Level) -> Result<FileWriter, ArchiveError> {
        let part = part_of(path);
        // `create_new` follows no symbolic link.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .await
            .map_err(ArchiveError::io("create", &part))?;
        let frames = Frames {
            compression: None,
            level,
            sample: Vec::new(),
            encoder: None,
            ready: Vec::new(),
            open: None,
        };
        Ok(FileWriter { file, part, frames, hash: Sha256::new(), file_bytes: 0, content_bytes: 0 })
    }

    /// Appends content.
    pub(super) async fn write(&mut self, content: &[u8]) -> Result<(), ArchiveError> {
        for block in content.chunks(BLOCK) {
            self.frames.push(block).await.map_err(ArchiveError::io("compress", &self.part))?;
            self.content_bytes += block.len() as u64;
            if self.frames.ready().len() >= BLOCK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ArchiveError> {
        let ready = self.frames.ready();
        self.hash.update(&ready);
        self.file_bytes += ready.len() as u64;
        self.file.write_all(ready).await.map_err(ArchiveError::io("write", &self.part))?;
        ready.clear();
        Ok(())
    }

    /// Ends the file and makes it durable under its `.part` name; [`FileWriter::publish`] is what remains.
    pub(super) async fn finish(&mut self) -> Result<FileRecord, ArchiveError> {
        self.frames.end().await.map_err(ArchiveError::io("compress", &self.part))?;
        self.flush().await?;
        // tokio's file keeps the last write's error for the next call.
        self.file.flush().await.map_err(ArchiveError::io("write", &self.part))?;
        self.file.sync_all().await.map_err(ArchiveError::io("write", &self.part))?;
        Ok(FileRecord {
            file_bytes: self.file_bytes,
            sha256: hexadecimal(&mem::take(&mut self.hash).finalize()),
            content_bytes: self.content_bytes,
            compression: self.frames.compression.expect("decided at the end at the latest"),
        })
    }

    /// Gives the finished file its name, over a file of that name from an earlier attempt.
    pub(super) fn publish(mut self, path: &Path) -> Result<(), ArchiveError> {
        std::fs::rename(&self.part, path).map_err(ArchiveError::io("rename", &self.part))?;
        self.part = PathBuf::new();
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.part != Path::new("") {
            // Nothing can be done about a failure; a resumed writer removes what is left.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// Where a file is written before it is complete.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(PART);
    part.into()
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        write!(digits, "{byte:02x}").expect("a String takes everything");
        digits
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_not_a_short_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.zst");
        let mut writer = FileWriter::create(&path, Level::default()).await.expect("begins");
        writer.file = File::options().write(true).open("/dev/full").await.expect("Linux has it");
        let mut result = Ok(());
        for _ in 0..64 {
            result = writer.write(&vec![7; 100_000]).await;
            if result.is_err() {
                break;
            }
        }
        let failed = match result {
            Err(error) => error,
            Ok(()) => writer.finish().await.expect_err("there is no space"),
        };
        let ArchiveError::Io { source, .. } = &failed else { panic!("{failed}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        assert!(crate::error::Fault::hint(&failed).expect("a hint").contains("space"));
        drop(writer);
        assert_eq!(std::fs::read_dir(directory.path()).expect("lists").count(), 0, "nothing is left");
    }
}
