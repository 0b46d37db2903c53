//! The archive: the compressed logical dump that the COPY stream leaves on disk.
//!
//! `docs/archive.md` specifies the bytes. In short: a directory of zstd files, one per chunk and attachment,
//! and `manifest.json`, which names each with its size and SHA-256 and is written last.
//!
//! - [`Writer`] takes raw COPY data of several lanes at once and can be resumed after a kill.
//! - [`Archive`] opens a finished archive; [`Reader`] gives a file's content back in bounded blocks and fails
//!   at the end of the content at the latest when it is not what was written.
//! - [`rows`] cuts a chunk's content into rows, so that it can be loaded and hashed as if a server sent it.
//! - [`contents`] says what else belongs to a dump of a database: catalog, DDL, sequences, the plan of its rows.
//! - [`check()`] reads everything through and names every defect.
//!
//! Memory is bounded by a lane's zstd window and a few blocks, and by [`format::MANIFEST_LIMIT`]; no size in an
//! archive is trusted for an allocation. Paths are derived from numbers and checked names, never read from the
//! manifest, and symbolic links are not followed, so that an archive reaches nothing outside its directory.
//! Every failure is an [`ArchiveError`].

mod check;
pub mod contents;
mod directory;
mod error;
mod file;
pub mod format;
mod reader;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

pub use check::{Check, check};
pub use directory::ensure_vacant;
pub use error::{ArchiveError, Defect};
pub use file::Level;
pub use format::{
    ChunkRecord, Column, Compression, Content, FileRecord, Header, Manifest, Member, SourceRecord, Table,
    WireFormat,
};
pub use reader::{Archive, Reader};
pub use rows::rows;
pub use writer::{Layout, MemberWriter, PlannedContent, PlannedTable, Writer};
