//! What else is in a database: schemas, large objects, things that are counted only, and whether the
//! database is empty.

use serde::{Deserialize, Serialize};

use crate::pg::Oid;

/// A schema that is not PostgreSQL's own and not `pgmove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// The extension that it is a member of.
    pub extension: Option<String>,
    /// Extensions that stand in it, sorted: `vectors` makes its schema without owning it.
    pub holds_extensions: Vec<String>,
}

/// The large objects of a database, in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    /// How many.
    pub count: u64,
    /// Disk space of `pg_largeobject`, in bytes: an upper bound, the only one that needs no read.
    pub bytes: u64,
}

/// A large object's rights, see [`large_objects`](super::large_objects).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObject {
    /// Its OID, which a move keeps.
    pub oid: Oid,
    /// The role that owns it.
    pub owner: String,
    /// Privileges as `aclitem` texts; `None` is the default.
    pub acl: Option<Vec<String>>,
}

/// Objects that a move treats apart, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialObjects {
    /// Publications.
    pub publications: u64,
    /// Subscriptions of this database.
    pub subscriptions: u64,
    /// Event triggers.
    pub event_triggers: u64,
    /// Foreign servers.
    pub foreign_servers: u64,
    /// User mappings: their passwords are hidden from ordinary roles.
    pub user_mappings: u64,
    /// Prepared transactions of this database: they hold locks and rows in doubt.
    pub prepared_transactions: u64,
    /// Tablespaces that objects of this database use, less the database's own, sorted.
    pub tablespaces: Vec<String>,
}

/// The user's objects: an empty database has none. Extensions and their members, `public` itself, schemas
/// that an extension stands in, and schema `pgmove` do not count; large objects do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserObjects {
    /// How many.
    pub count: u64,
    /// The first few, by kind and name.
    pub first: Vec<UserObject>,
}

/// One of the user's objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserObject {
    /// `table`, `function`, `large objects` and so on.
    pub kind: String,
    /// Its name for a person, qualified and quoted where need be.
    pub name: String,
}
