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
//! asks, therefore sessions pin it. They turn `jit` off too: compiling these statements takes many times as
//! long as running them on a small database.

mod datatype;
mod error;
mod extension;
mod index;
mod objects;
mod query;
mod sequence;
mod server;
mod state;
mod table;
mod vector;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

pub use datatype::{Type, TypeAttribute, TypeFunction, TypeKind, Types, below_domains};
pub use error::CatalogError;
pub use extension::{AvailableExtension, ConfigurationRelation, Extension, extensions};
pub use index::{Constraint, ConstraintKind, Index, IndexKey};
pub use objects::{
    LargeObject, LargeObjects, Schema, SpecialObjects, UserObject, UserObjects, large_objects, user_objects,
};
pub use sequence::{Sequence, SequenceColumn, SequenceValue, sequence_values};
pub use server::{
    ClientSession, Database, DatabaseSetting, LocaleProvider, Role, Server, ServerSettings, SessionRights,
    client_sessions,
};
pub use state::{DatabaseIdentity, SourceState};
pub use table::{
    Column, Configuration, Generated, Identity, MaterializedView, Persistence, ReplicaIdentity, RowSecurity,
    Table, TableKind,
};
pub use vector::VectorColumn;

use query::{Reader, sql_file};

use crate::error::Side;
use crate::pg::Oid;

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
    /// Other sessions that are connected to the database, by process.
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
    /// Constraints of those tables, by table and name.
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

impl Catalog {
    /// Reads the catalog of the database that `client` is connected to. Run it in one REPEATABLE READ
    /// transaction where its parts must fit each other.
    pub async fn read(client: &Client, side: Side) -> Result<Catalog, CatalogError> {
        let reader = Reader { client, side };
        let server = Server::read(reader).await?;
        let database = Database::read(reader, &server).await?;
        let mut columns = Column::read(reader).await?;
        let tables = Table::read(reader, &mut columns).await?;
        let materialized_views = MaterializedView::read(reader, &mut columns).await?;
        let relations: HashSet<Oid> = tables
            .iter()
            .map(|table| table.oid)
            .chain(materialized_views.iter().map(|view| view.oid))
            .collect();
        Ok(Catalog {
            server,
            database,
            session: SessionRights::read(reader).await?,
            roles: Role::read(reader).await?,
            clients: ClientSession::read(reader).await?,
            extensions: Extension::read(reader).await?,
            available_extensions: AvailableExtension::read(reader).await?,
            schemas: Schema::read(reader).await?,
            types: datatype::read_types(reader).await?,
            tables,
            materialized_views,
            sequences: Sequence::read(reader).await?,
            indexes: Index::read(reader, &relations).await?,
            constraints: Constraint::read(reader, &relations).await?,
            large_objects: LargeObjects::read(reader).await?,
            special: SpecialObjects::read(reader).await?,
            user_objects: UserObjects::read(reader).await?,
            snapshot: reader.row(sql_file!("snapshot")).await?.get("snapshot")?,
        })
    }

    /// Columns of vector types in the user's tables: those of `vectors` (pgvecto.rs), `vector` (pgvector) and
    /// `vchord`, also under a domain.
    pub fn vector_columns(&self) -> Vec<VectorColumn> {
        let columns =
            self.tables.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column)));
        columns.filter_map(|(table, column)| VectorColumn::find(&self.types, table, column)).collect()
    }
}
