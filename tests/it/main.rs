//! Tests on real PostgreSQL servers; `cargo xtask servers` gets these, `cargo xtask test` runs everything.

mod connect;
mod servers;
mod support;
mod verify;
