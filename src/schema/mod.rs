//! The schema of a database as statements: read by `pg_dump`, cut apart, rewritten by name, compared.
//!
//! DDL is PostgreSQL's: `pg_dump` writes an archive inside the shared snapshot ([`dump`]), `pg_restore` turns it
//! into a script, and the script is cut at the comments that `pg_restore --verbose` puts before each entry of
//! its table of contents ([`script`]). pgmove never writes DDL of its own; what it changes is a function of
//! [`rewrite`] that returns each change, before and after. The statements are sent by another module, one by
//! one, over a session with [`SESSION_SETTINGS`].
//!
//! Promises: the entries are those of `pg_restore --list`, in the order in which `pg_restore` applies them, or
//! there is an error; no statement is dropped without a rule that names it; secrets reach the programs by
//! passfile, or by their input in a pod. What fails here fails before anything is written to the target.
//!
//! ```text
//! client (find pg_dump) -> tools (run it) -> dump (archive, script) -> lexer -> script (entries) -> rewrite -> statements
//!                                                                                                '-> normalize (compare two dumps)
//! ```

pub mod apply;
pub mod child;
pub mod client;
pub mod dump;
pub mod entry;
pub mod lexer;
pub mod normalize;
pub mod pod;
pub mod privilege;
pub mod rewrite;
pub mod script;
pub mod split;
pub mod statement;
pub mod tools;

pub(crate) use child::remove_leftovers;
pub use child::{ChildEndpoint, ChildError, ChildLimits};
pub use client::{ClientChoice, ClientError, ClientSearch};
pub use dump::{DumpError, DumpRequest, SchemaDump, dump_schema, read_schema};
pub use entry::{Entry, EntryClass, Section};
pub use normalize::{Comparison, Difference, EntryKey, Tolerance, Tolerated, compare};
pub use pod::{ClientPod, NoPod, pods};
pub use privilege::superuser_reason;
pub use rewrite::{Change, Rewrite};
pub use script::ScriptError;
pub use statement::{IndexColumn, IndexStatement, UniqueConstraint, index_statement, unique_constraint};
pub use tools::{ClientPlace, ClientTools, ClientVersion};

/// What the script's preamble sets and its statements rely on; the session that applies them sets the same.
/// Timeouts and encodings are the session's own business and are not repeated here.
pub const SESSION_SETTINGS: [(&str, &str); 6] = [
    ("search_path", ""),
    ("check_function_bodies", "off"),
    ("xmloption", "content"),
    ("standard_conforming_strings", "on"),
    ("row_security", "off"),
    ("client_min_messages", "warning"),
];
