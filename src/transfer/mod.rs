//! Rows from the source into the target: lanes, chunks, digests, the archive.

pub mod archive;
pub mod convert;
pub mod digest;
pub mod lane;
pub mod large_object;
pub mod ledger;
pub mod pages;
pub mod pool;
pub mod rate;
pub mod relay;
pub mod schedule;
pub mod snapshot;
pub mod work;
