//! Reads an archive: takes its directory, gives the content of each file in bounded blocks.
//!
//! The manifest is checked when the archive is opened. A file's size is checked when it is opened; its hash
//! and the size of its content at its end: [`Reader::next`] gives `None` only after both held. Whoever loads
//! blocks into a database must not commit before that `None`.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::ZstdDecoder;
use async_compression::zstd::DParameter;
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, ReadBuf};

use super::error::{ArchiveError, Defect};
use super::file::hexadecimal;
use super::format::{FileRecord, MANIFEST, MANIFEST_LIMIT, MANIFEST_SUM, Manifest, Member, manifest_sum};

/// The largest block that a reader gives, in bytes.
const BLOCK: usize = 64 << 10;

/// The largest window that a frame may ask for, as a power of two: 8 MiB, as RFC 8878 (3.1.1.1.2) recommends.
const WINDOW: u32 = 23;

/// A finished archive.
#[derive(Debug)]
pub struct Archive {
    directory: PathBuf,
    manifest: Manifest,
    sha256: String,
}

/// The largest attachment that is read as a whole, in bytes: DDL and catalog of some 100,000 tables.
const DOCUMENT_LIMIT: usize = 512 << 20;

impl Archive {
    /// Opens an archive and checks its manifest. Blocks while it reads that.
    pub fn open(directory: &Path) -> Result<Archive, ArchiveError> {
        match directory.metadata() {
            Ok(found) if found.is_dir() => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ArchiveError::io("open", directory)(error));
            }
            _ => return Err(ArchiveError::Missing(directory.to_owned())),
        }
        let json = match read_list(directory, MANIFEST, MANIFEST_LIMIT) {
            Err(ArchiveError::Damaged { defect: Defect::Missing, .. }) => {
                return Err(ArchiveError::Unfinished(directory.to_owned()));
            }
            other => other?,
        };
        let sha256 = hexadecimal(&Sha256::digest(&json));
        let expected = manifest_sum(&sha256);
        if read_list(directory, MANIFEST_SUM, expected.len() as u64)? != expected.as_bytes() {
            // A newer format may have another rule here; it is named as newer.
            let newer = Manifest::parse(&json).err().filter(|error| matches!(error, ArchiveError::Newer(_)));
            return Err(newer.unwrap_or_else(|| ArchiveError::DamagedList {
                file: MANIFEST,
                reason: format!("its SHA-256 is not the one in {MANIFEST_SUM}"),
            }));
        }
        let manifest = Manifest::parse(&json)?;
        Ok(Archive { directory: directory.to_owned(), manifest, sha256 })
    }

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The SHA-256 of the manifest; as this holds the hash of every file, it names the whole archive.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Opens a chunk or an attachment.
    pub fn read(&self, member: &Member) -> Result<Reader, ArchiveError> {
        let item = self.manifest.title(member);
        let Some(record) = self.manifest.file(member) else {
            return Err(ArchiveError::NoSuchMember(item));
        };
        Reader::open(&self.directory, member.path(), item, record.clone())
    }

    /// An attachment as a whole. One of more than `limit` bytes is not read.
    pub async fn attachment(&self, name: &str, limit: usize) -> Result<Vec<u8>, ArchiveError> {
        let mut reader = self.read(&Member::Attachment { name: name.to_owned() })?;
        if reader.record.content_bytes > limit as u64 {
            return Err(reader.damaged(Defect::ContentSize {
                expected: limit as u64,
                found: reader.record.content_bytes,
            }));
        }
        let mut content = Vec::new();
        while let Some(block) = reader.next().await? {
            content.extend_from_slice(&block);
        }
        Ok(content)
    }

    /// An attachment in JSON.
    pub async fn document<T: DeserializeOwned>(&self, name: &str) -> Result<T, ArchiveError> {
        let json = self.attachment(name, DOCUMENT_LIMIT).await?;
        serde_json::from_slice(&json).map_err(|error| {
            let member = Member::Attachment { name: name.to_owned() };
            self.damaged(&member, Defect::Document(error.to_string()))
        })
    }

    /// The error for a file with a defect.
    pub fn damaged(&self, member: &Member, defect: Defect) -> ArchiveError {
        ArchiveError::Damaged { file: member.path(), item: self.manifest.title(member), defect }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A file of an archive while it is read.
#[derive(Debug)]
pub struct Reader {
    path: String,
    item: String,
    record: FileRecord,
    decoder: ZstdDecoder<BufReader<Hashing>>,
    content_bytes: u64,
    is_over: bool,
}

impl Reader {
    fn open(root: &Path, path: String, item: String, record: FileRecord) -> Result<Reader, ArchiveError> {
        let file = open_inside(root, &path, &item, OpenOptions::new().read(true))?;
        let found = file.metadata().map_err(ArchiveError::io("read", &root.join(&path)))?.len();
        let expected = record.file_bytes;
        if found != expected {
            return Err(ArchiveError::Damaged { file: path, item, defect: Defect::Size { expected, found } });
        }
        let source = Hashing { file: File::from_std(file), hash: Sha256::new(), bytes: 0, has_failed: false };
        let buffer = BufReader::with_capacity(BLOCK, source);
        let mut decoder = ZstdDecoder::with_params(buffer, &[DParameter::window_log_max(WINDOW)]);
        decoder.multiple_members(true);
        Ok(Reader { path, item, record, decoder, content_bytes: 0, is_over: false })
    }

    /// The next block of content, of at most 64 KiB; `None` at the end, when everything held.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        let mut block = BytesMut::with_capacity(BLOCK);
        while !self.is_over && block.len() < BLOCK {
            let mut rest = (&mut self.decoder).take((BLOCK - block.len()) as u64);
            match rest.read_buf(&mut block).await {
                Ok(0) => self.is_over = true,
                Ok(bytes) => self.content_bytes += bytes as u64,
                Err(error) => return Err(self.failed(error)),
            }
            if self.content_bytes > self.record.content_bytes {
                return Err(self.wrong_content());
            }
        }
        if !block.is_empty() {
            return Ok(Some(block.freeze()));
        }
        self.verify().await?;
        Ok(None)
    }

    async fn verify(&mut self) -> Result<(), ArchiveError> {
        // The decoder stops at the end of the file; were it ever to stop before, the rest counts too.
        let source = self.decoder.get_mut().get_mut();
        let rest = tokio::io::copy(source, &mut tokio::io::sink()).await;
        rest.map_err(|error| self.failed(error))?;
        let source = self.decoder.get_ref().get_ref();
        let (expected, found) = (self.record.file_bytes, source.bytes);
        if found != expected {
            return Err(self.damaged(Defect::Size { expected, found }));
        }
        if hexadecimal(&source.hash.clone().finalize()) != self.record.sha256 {
            return Err(self.damaged(Defect::Hash));
        }
        if self.content_bytes != self.record.content_bytes {
            return Err(self.wrong_content());
        }
        Ok(())
    }

    fn wrong_content(&self) -> ArchiveError {
        self.damaged(Defect::ContentSize { expected: self.record.content_bytes, found: self.content_bytes })
    }

    fn failed(&self, error: io::Error) -> ArchiveError {
        if self.decoder.get_ref().get_ref().has_failed {
            ArchiveError::io("read", Path::new(&self.path))(error)
        } else {
            self.damaged(Defect::Frame(error))
        }
    }

    fn damaged(&self, defect: Defect) -> ArchiveError {
        ArchiveError::Damaged { file: self.path.clone(), item: self.item.clone(), defect }
    }
}

/// A file that hashes what is read from it, and tells its own failures from the decoder's.
#[derive(Debug)]
struct Hashing {
    file: File,
    hash: Sha256,
    bytes: u64,
    has_failed: bool,
}

impl AsyncRead for Hashing {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut this.file).poll_read(context, buffer));
        let read = &buffer.filled()[before..];
        this.hash.update(read);
        this.bytes += read.len() as u64;
        this.has_failed |= result.is_err();
        Poll::Ready(result)
    }
}

/// Opens a file of an archive. Every part of the path below `root` must be a real directory, and the last a
/// regular file: whoever made the archive cannot lead a reader out of it, or to a pipe that never answers.
pub(super) fn open_inside(
    root: &Path,
    relative: &str,
    item: &str,
    options: &OpenOptions,
) -> Result<std::fs::File, ArchiveError> {
    let damaged = |defect| ArchiveError::Damaged { file: relative.to_owned(), item: item.to_owned(), defect };
    let mut path = root.to_owned();
    let mut parts = relative.split('/').peekable();
    let mut found = None;
    while let Some(part) = parts.next() {
        path.push(part);
        let metadata = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged(Defect::Missing)),
            other => other.map_err(ArchiveError::io("open", &path))?,
        };
        let is_last = parts.peek().is_none();
        if !(if is_last { metadata.is_file() } else { metadata.is_dir() }) {
            return Err(damaged(Defect::NotAFile));
        }
        found = Some((metadata.dev(), metadata.ino()));
    }
    let file = options.open(&path).map_err(ArchiveError::io("open", &path))?;
    let metadata = file.metadata().map_err(ArchiveError::io("open", &path))?;
    // Exchanged between the look and the opening.
    if found != Some((metadata.dev(), metadata.ino())) {
        return Err(damaged(Defect::NotAFile));
    }
    Ok(file)
}

/// The manifest or its checksum, whole.
fn read_list(root: &Path, name: &'static str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    let file = open_inside(root, name, "the archive's list of files", OpenOptions::new().read(true))?;
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(ArchiveError::io("read", &root.join(name)))?;
    if content.len() as u64 > limit {
        return Err(ArchiveError::DamagedList {
            file: name,
            reason: format!("it has more than {limit} bytes"),
        });
    }
    Ok(content)
}
