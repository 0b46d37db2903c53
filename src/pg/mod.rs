//! PostgreSQL: how to reach a server, sessions with pinned settings, COPY streams, names.

pub mod name;

pub use name::{Oid, QualifiedName, display_identifier, quote_identifier, quote_literal};
