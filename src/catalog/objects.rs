//! What else is in a database: schemas, large objects, things that are counted only, and whether the
//! database is empty.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::CatalogError;
use super::query::{Reader, Record, sql_file};
use crate::error::Side;
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
    /// Whether the session's role has the owner's rights.
    pub is_owned: bool,
    /// Whether the session's role has USAGE on it.
    pub can_use: bool,
    /// Roles that may create in it; told only of `public` and of schemas that belong to an extension or hold one.
    pub creators: Vec<String>,
}

impl Schema {
    /// Whether an empty database may have it: nobody's own work, and a move finds it there.
    pub fn is_given(&self) -> bool {
        self.name == "public" || self.extension.is_some() || !self.holds_extensions.is_empty()
    }
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
    /// The first few, in the order of their catalogs and OIDs.
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

impl Schema {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("schemas"), &[]).await?;
        let schema = |record: &Record| {
            Ok(Schema {
                name: record.get("name")?,
                owner: record.get("owner")?,
                extension: record.get("extension")?,
                holds_extensions: record.get("holds_extensions")?,
                is_owned: record.get("is_owned")?,
                can_use: record.get("can_use")?,
                creators: record.get("creators")?,
            })
        };
        records.iter().map(schema).collect()
    }
}

impl LargeObjects {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Self, CatalogError> {
        let record = reader.row(sql_file!("large_objects")).await?;
        Ok(LargeObjects { count: record.count("count")?, bytes: record.count("bytes")? })
    }
}

/// Reads owners and privileges of large objects, `limit` at a time in the order of their OIDs: give the last
/// page's last OID as `after`, `None` first. A page shorter than `limit` is the last.
pub async fn large_objects(
    client: &Client,
    side: Side,
    after: Option<Oid>,
    limit: u32,
) -> Result<Vec<LargeObject>, CatalogError> {
    let after = after.map_or(0, |oid| oid.0);
    let reader = Reader { client, side };
    let records = reader.rows(sql_file!("large_object_rights"), &[&after, &i64::from(limit)]).await?;
    let object = |record: &Record| {
        Ok(LargeObject { oid: record.oid("oid")?, owner: record.get("owner")?, acl: record.get("acl")? })
    };
    records.iter().map(object).collect()
}

impl SpecialObjects {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Self, CatalogError> {
        let record = reader.row(sql_file!("special_objects")).await?;
        Ok(SpecialObjects {
            publications: record.count("publications")?,
            subscriptions: record.count("subscriptions")?,
            event_triggers: record.count("event_triggers")?,
            foreign_servers: record.count("foreign_servers")?,
            user_mappings: record.count("user_mappings")?,
            prepared_transactions: record.count("prepared_transactions")?,
            tablespaces: record.get("tablespaces")?,
        })
    }
}

/// How many of the user's objects are named: enough for a person to see whose database this is.
const NAMED: i64 = 10;

/// Reads again whether the database is empty.
pub async fn user_objects(client: &Client, side: Side) -> Result<UserObjects, CatalogError> {
    UserObjects::read(Reader { client, side }).await
}

impl UserObjects {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Self, CatalogError> {
        let records = reader.rows(sql_file!("user_objects"), &[&NAMED]).await?;
        let object =
            |record: &Record| Ok(UserObject { kind: record.get("kind")?, name: record.get("name")? });
        Ok(UserObjects {
            count: records.first().map_or(Ok(0), |record| record.count("count"))?,
            first: records.iter().map(object).collect::<Result<_, CatalogError>>()?,
        })
    }
}
