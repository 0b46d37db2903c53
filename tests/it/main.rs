//! Tests on real PostgreSQL servers; `cargo xtask servers` gets these, `cargo xtask test` runs everything.

mod archive;
mod archive_faults;
mod bad_input;
mod connect;
mod documents;
mod faults;
mod fence;
mod going_on;
mod interrupts;
mod kills;
mod locks;
mod memory;
mod moves;
mod needs_superuser;
mod replace;
mod resume;
mod rights;
mod schema;
mod servers;
mod sql;
mod stalls;
mod support;
mod unlogged;
mod verdicts;
mod verify;
mod window;
