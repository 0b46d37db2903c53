//! Rows from the source into the target: lanes, chunks, digests, the archive.

pub mod convert;
pub mod digest;
pub mod lane;
pub mod ledger;
pub mod pool;
pub mod relay;
pub mod schedule;
pub mod snapshot;
pub mod work;
//! The transfer of rows: from the source's COPY stream to the target, and into the archive.
pub mod archive;
