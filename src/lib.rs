//! `pgmove` moves a PostgreSQL database from one server to another and proves that both sides are equal.
//!
//! The stages of a move, in the order of the modules below. Each takes the value that the stage before
//! returned, emits [`event::Event`]s, and returns a value:
//!
//! ```text
//!  cli -> settings -> pg (connect) -> catalog (inspect) -> preflight (findings) -> plan
//!                                                                                   |
//!       schema (pre-data) -> transfer (COPY, indexes) -> schema (post-data) -> verify -> report
//!                               |
//!       source COPY -> digest -> archive (zstd) -> target COPY + ledger row, one transaction
//! ```
//!
//! [`run`] holds the stages in order; read it first. Only [`cli`] and [`report`] print.

// Not in tests, which have dependencies of their own.
#![cfg_attr(not(test), warn(unused_crate_dependencies))]

pub mod catalog;
pub mod cli;
pub mod cutover;
pub mod error;
pub mod event;
pub mod journal;
pub mod kubernetes;
pub mod pg;
pub mod plan;
pub mod preflight;
pub mod profile;
pub mod report;
pub mod run;
pub mod schema;
pub mod settings;
pub mod survey;
pub mod transfer;
pub mod verify;
