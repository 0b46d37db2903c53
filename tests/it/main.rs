//! Tests on real PostgreSQL servers; `cargo xtask servers` gets these, `cargo xtask test` runs everything.

mod servers;
mod support;
//! Tests against real servers, one binary.
mod connect;
