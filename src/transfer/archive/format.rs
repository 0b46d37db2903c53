//! What stands in an archive: names, paths and the manifest. `docs/archive.md` is the specification.
//!
//! Pure: no I/O. The manifest's types are exactly its JSON; unknown fields are refused, because every change
//! of the format raises [`VERSION`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ArchiveError;
use crate::pg::QualifiedName;
use crate::transfer::digest::Digest;

/// The newest format that this pgmove reads, and the one that it writes.
pub const VERSION: u64 = 1;

/// The first field of a manifest; tells an archive from any other directory with a `manifest.json`.
pub const FORMAT: &str = "pgmove archive";

/// The largest manifest, in bytes; room for some 200,000 chunks. Parsed, a manifest takes at most about ten
/// times its size in memory, so the limit bounds what a forged one can do.
pub const MANIFEST_LIMIT: u64 = 64 << 20;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const MANIFEST_SUM: &str = "manifest.sha256";
pub(super) const JOURNAL: &str = "journal.jsonl";

/// What an archive is a dump of. Holds no host, no role and no password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the pgmove that wrote it.
    pub pgmove_version: String,
    /// When the writing began.
    pub created: Timestamp,
    /// The source.
    pub source: SourceRecord,
}

/// The source database as of the dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// `server_version`, as the server spells it.
    pub server_version: String,
    /// `server_encoding`; also the encoding of every text in the chunks.
    pub encoding: String,
    /// The database's name.
    pub database: String,
    /// `pg_current_snapshot()` of the snapshot that all rows were read in.
    pub snapshot: String,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// What it is a dump of.
    pub header: Header,
    /// The tables, by ascending number.
    pub tables: Vec<Table>,
    /// The large objects, where there are any.
    pub large_objects: Option<Content>,
    /// What the caller handed in by name: the DDL, the plan.
    pub attachments: Vec<Attachment>,
}

/// A table and its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Names its directory; unique.
    pub number: u32,
    /// The schema.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// Its rows.
    pub content: Content,
}

/// A set of rows, in chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The columns, in the order of the stream.
    pub columns: Vec<Column>,
    /// The format of the stream.
    pub wire_format: WireFormat,
    /// The chunks; a chunk's number is its place in this list, from 0.
    pub chunks: Vec<ChunkRecord>,
}

/// A column of a COPY stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// Its type in the stream, as `format_type` spells it.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// The two formats of COPY that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireFormat {
    /// `COPY ... WITH (FORMAT binary)`
    Binary,
    /// `COPY ... WITH (FORMAT text)`, with all defaults.
    Text,
}

/// One chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRecord {
    /// Its file.
    pub file: FileRecord,
    /// Its rows, as they were read from the source.
    pub digest: Digest,
}

/// Bytes under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// See [`is_attachment_name`].
    pub name: String,
    /// Its file.
    pub file: FileRecord,
}

/// One file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Bytes on disk.
    pub file_bytes: u64,
    /// SHA-256 of the bytes on disk, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes of the content, uncompressed.
    pub content_bytes: u64,
    /// How the content was compressed; a reader need not know.
    pub compression: Compression,
}

/// How the content of a file was compressed. All are zstd frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Raw blocks: it would not have shrunk.
    Stored,
    /// At this level.
    Zstd(i32),
}

/// A file of the archive, by what is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Member {
    /// A chunk of a table.
    Chunk {
        /// The table's number.
        table: u32,
        /// The chunk's number within the table, from 0.
        chunk: u32,
    },
    /// A chunk of the large objects.
    LargeObjects {
        /// The chunk's number, from 0.
        chunk: u32,
    },
    /// An attachment.
    Attachment {
        /// Its name; see [`is_attachment_name`].
        name: String,
    },
}

impl Member {
    /// The path within the archive, with `/`. Nothing in it comes from outside but a checked name.
    pub fn path(&self) -> String {
        match self {
            Member::Chunk { table, chunk } => format!("data/{table}/{chunk}.zst"),
            Member::LargeObjects { chunk } => format!("large-objects/{chunk}.zst"),
            Member::Attachment { name } => format!("attachments/{name}.zst"),
        }
    }
}

/// Whether `name` may name an attachment: up to 100 ASCII letters, digits, `.`, `_` and `-`, and no `.` first.
pub fn is_attachment_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl Manifest {
    /// Reads a manifest's bytes. A newer version is told from damage before anything else is looked at.
    pub fn parse(json: &[u8]) -> Result<Manifest, ArchiveError> {
        #[derive(Deserialize)]
        struct Version {
            format: String,
            version: u64,
        }
        let damaged = |reason: String| ArchiveError::DamagedList { file: MANIFEST, reason };
        let found: Version = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        if found.format != FORMAT {
            return Err(damaged(format!("its format is {:?}, not {FORMAT:?}", found.format)));
        }
        if found.version > VERSION {
            return Err(ArchiveError::Newer(found.version));
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        manifest.validate().map_err(damaged)?;
        Ok(manifest)
    }

    fn validate(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("there is no format version {}", self.version));
        }
        if let Some(pair) = self.tables.windows(2).find(|pair| pair[0].number >= pair[1].number) {
            return Err(format!("table {} does not follow table {}", pair[1].number, pair[0].number));
        }
        let mut names = BTreeSet::new();
        match self.attachments.iter().find(|one| !is_attachment_name(&one.name) || !names.insert(&one.name)) {
            Some(bad) => Err(format!("{:?} is no name of an attachment, or is named twice", bad.name)),
            None => Ok(()),
        }
    }

    /// Every file of the archive but the manifest's two.
    pub fn members(&self) -> impl Iterator<Item = (Member, &FileRecord)> {
        let tables = self.tables.iter().flat_map(|table| {
            let number = table.number;
            (0..)
                .zip(&table.content.chunks)
                .map(move |(chunk, record)| (Member::Chunk { table: number, chunk }, &record.file))
        });
        let large_objects = (0..)
            .zip(self.large_objects.iter().flat_map(|content| &content.chunks))
            .map(|(chunk, record)| (Member::LargeObjects { chunk }, &record.file));
        let attachments =
            self.attachments.iter().map(|one| (Member::Attachment { name: one.name.clone() }, &one.file));
        tables.chain(large_objects).chain(attachments)
    }

    /// The record of a file.
    pub fn file(&self, member: &Member) -> Option<&FileRecord> {
        match member {
            Member::Attachment { name } => {
                Some(&self.attachments.iter().find(|attachment| attachment.name == *name)?.file)
            }
            chunk => Some(&self.chunk(chunk)?.file),
        }
    }

    /// The record of a chunk, of a table or of the large objects.
    pub fn chunk(&self, member: &Member) -> Option<&ChunkRecord> {
        let (content, chunk) = match member {
            Member::Chunk { table, chunk } => (&self.table(*table)?.content, chunk),
            Member::LargeObjects { chunk } => (self.large_objects.as_ref()?, chunk),
            Member::Attachment { .. } => return None,
        };
        content.chunks.get(usize::try_from(*chunk).ok()?)
    }

    /// The digest of a table's rows.
    pub fn digest(&self, table: usize) -> Option<Digest> {
        let found = self.table(u32::try_from(table).ok()?)?;
        Some(found.content.chunks.iter().map(|chunk| chunk.digest).sum())
    }

    /// A member in words: `public.asset, chunk 3`.
    pub fn title(&self, member: &Member) -> String {
        match member {
            Member::Chunk { table, chunk } => match self.table(*table) {
                Some(found) => {
                    format!("{}, chunk {chunk}", QualifiedName::new(&found.schema, &found.name))
                }
                None => format!("table {table}, chunk {chunk}"),
            },
            Member::LargeObjects { chunk } => format!("large objects, chunk {chunk}"),
            Member::Attachment { name } => format!("attachment {name}"),
        }
    }

    fn table(&self, number: u32) -> Option<&Table> {
        let place = self.tables.binary_search_by_key(&number, |table| table.number).ok()?;
        self.tables.get(place)
    }
}

/// The content of `manifest.sha256`, as `sha256sum` writes and checks it.
pub(super) fn manifest_sum(sha256: &str) -> String {
    format!("{sha256}  {MANIFEST}\n")
}
