//! What is in a database.
//!
//! Takes one session of either side, gives a [`Catalog`]: plain values that can be compared, written down and
//! planned from without asking the server again. [`Catalog::read`] runs a fixed number of queries, whatever
//! the number of objects, and opens no transaction of its own: inside the exported snapshot it sees that
//! point in time. (Sizes, definitions and sequences have no snapshot in PostgreSQL and are as of now.)
//!
//! Works on servers 12 to 18 as an ordinary owner of the database. What a server hides from such a role is
//! `None`. A failed query ends the reading: half a catalog is never returned.
//!
//! The SQL stands in `sql/catalog/`. Every name in it is qualified, so that no `search_path` changes its
//! meaning; `format_type` and the definitions are qualified by the server as the session's `search_path`
//! asks, therefore sessions pin it.

mod datatype;
mod error;
mod extension;
mod index;
mod objects;
mod sequence;
mod server;
mod table;

use serde::{Deserialize, Serialize};

pub use datatype::{Type, TypeAttribute, TypeFunction, TypeKind, Types};
pub use error::CatalogError;
pub use extension::{AvailableExtension, ConfigurationRelation, Extension};
pub use index::{Constraint, ConstraintKind, Index, IndexKey};
pub use objects::{LargeObject, LargeObjects, Schema, SpecialObjects, UserObject, UserObjects};
pub use sequence::{Sequence, SequenceColumn, SequenceValue};
pub use server::{
    ClientSession, Database, DatabaseSetting, LocaleProvider, Role, Server, ServerSettings, SessionRights,
};
pub use table::{
    Column, Configuration, Generated, Identity, MaterializedView, Persistence, ReplicaIdentity, RowSecurity,
    Table, TableKind, VectorColumn,
};

/// What is in a database, and what its server tells about itself.
///
/// Lists are sorted by name, unless their field says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The server.
    pub server: Server,
    /// The database.
    pub database: Database,
    /// What the session may do.
    pub session: SessionRights,
    /// All roles of the server.
    pub roles: Vec<Role>,
    /// Other sessions that are connected to the database.
    pub clients: Vec<ClientSession>,
    /// Extensions of the database.
    pub extensions: Vec<Extension>,
    /// Extensions that the server offers.
    pub available_extensions: Vec<AvailableExtension>,
    /// Schemas.
    pub schemas: Vec<Schema>,
    /// Types reachable from columns.
    pub types: Types,
    /// The user's tables.
    pub tables: Vec<Table>,
    /// The user's materialised views.
    pub materialized_views: Vec<MaterializedView>,
    /// The user's sequences, without values.
    pub sequences: Vec<Sequence>,
    /// Indexes of those tables and views.
    pub indexes: Vec<Index>,
    /// Constraints of those tables.
    pub constraints: Vec<Constraint>,
    /// Large objects, in all.
    pub large_objects: LargeObjects,
    /// Objects that a move treats apart.
    pub special: SpecialObjects,
    /// Whether the database is empty.
    pub user_objects: UserObjects,
    /// `pg_current_snapshot()` as `xmin:xmax:xip,...`: equal texts without a third part mean that nothing was
    /// written between.
    pub snapshot: String,
}
