//! Tests on real PostgreSQL servers; `cargo xtask servers` gets these, `cargo xtask test` runs everything.

mod archive;
mod connect;
mod documents;
mod moves;
mod resume;
mod servers;
mod support;
mod verify;
