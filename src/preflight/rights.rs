//! What the check needs and the catalog does not hold: what a role cannot read, and a few objects by name.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row};

use crate::error::{Class, Fault, Side};

/// What the session's role can and cannot do with single objects of one database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Tables, materialised views and sequences that cannot be read in full.
    pub unreadable: Vec<UnreadableRelation>,
    /// `ALTER DEFAULT PRIVILEGES` of all roles.
    pub default_privileges: Vec<DefaultPrivileges>,
    /// Who owns large objects.
    pub large_object_owners: Vec<LargeObjectOwner>,
    /// Objects that a move treats apart, sorted by kind and name.
    pub named: Vec<NamedObject>,
    /// PostgreSQL's own collations that work with the database's encoding.
    pub collations: BTreeSet<String>,
}

/// A relation that the role cannot read in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRelation {
    /// `table`, `materialized view`, `sequence`.
    pub kind: String,
    /// Its name as SQL.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// `schema` (no USAGE), `select`, or `row security`.
    pub reason: String,
}

/// Privileges that new objects of a role get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultPrivileges {
    /// The role that makes the objects.
    pub role: String,
    /// In this schema; `None` in all.
    pub schema: Option<String>,
    /// `TABLES`, `FUNCTIONS` and so on.
    pub objects: String,
}

/// An owner of large objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectOwner {
    /// The role.
    pub owner: String,
    /// How many it owns.
    pub count: i64,
    /// How many of those the session's role cannot read.
    pub unreadable: i64,
}

/// Kinds of objects that a move treats apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// An event trigger; a superuser's.
    EventTrigger,
    /// A foreign data wrapper; its detail is `usable` where the role has USAGE.
    ForeignDataWrapper,
    /// A foreign server; its detail is the wrapper.
    ForeignServer,
    /// A publication; its detail is `all tables` or `tables in schema` for those that only a superuser may make.
    Publication,
    /// A subscription; its connection string holds a password.
    Subscription,
    /// A user mapping, by its user; its detail is the server.
    UserMapping,
}

/// An object that a move treats apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, unquoted.
    pub name: String,
    /// See [`ObjectKind`].
    pub detail: String,
}

/// Why the rights could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The server refused a query, or the connection broke.
    #[error("could not read the role's rights on the {side} (sql/preflight/{query}.sql)")]
    Query {
        /// On which side.
        side: Side,
        /// The SQL file's name.
        query: &'static str,
        /// What the server or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A query's answer has another shape than this version of pgmove knows.
    #[error("could not understand {kind} {name} of the {side} (sql/preflight/named_objects.sql)")]
    Shape {
        /// On which side.
        side: Side,
        /// The kind that is unknown.
        kind: String,
        /// The object.
        name: String,
    },
}

impl Fault for RightsError {
    fn class(&self) -> Class {
        match self {
            RightsError::Query { side, .. } => side.class(),
            RightsError::Shape { .. } => Class::Internal,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, RightsError::Query { source, .. } if crate::pg::session::is_retryable(source))
    }
}

impl Rights {
    /// Reads the rights of the session's role in the database that `client` is connected to.
    pub async fn read(client: &Client, side: Side) -> Result<Rights, RightsError> {
        let unreadable = include_str!("../../sql/preflight/unreadable_relations.sql");
        let privileges = include_str!("../../sql/preflight/default_privileges.sql");
        let owners = include_str!("../../sql/preflight/large_object_owners.sql");
        let named = include_str!("../../sql/preflight/named_objects.sql");
        let collations = include_str!("../../sql/preflight/collations.sql");
        let mut rights = Rights {
            unreadable: rows(client, side, "unreadable_relations", unreadable, |row| {
                Ok(UnreadableRelation {
                    kind: row.try_get("kind")?,
                    name: row.try_get("name")?,
                    owner: row.try_get("owner")?,
                    reason: row.try_get("reason")?,
                })
            })
            .await?,
            default_privileges: rows(client, side, "default_privileges", privileges, |row| {
                Ok(DefaultPrivileges {
                    role: row.try_get("role")?,
                    schema: row.try_get("schema")?,
                    objects: row.try_get("objects")?,
                })
            })
            .await?,
            large_object_owners: rows(client, side, "large_object_owners", owners, |row| {
                Ok(LargeObjectOwner {
                    owner: row.try_get("owner")?,
                    count: row.try_get("count")?,
                    unreadable: row.try_get("unreadable")?,
                })
            })
            .await?,
            named: Vec::new(),
            collations: rows(client, side, "collations", collations, |row| row.try_get("name"))
                .await?
                .into_iter()
                .collect(),
        };
        let objects = rows(client, side, "named_objects", named, |row| {
            Ok((row.try_get::<_, String>("kind")?, row.try_get("name")?, row.try_get("detail")?))
        })
        .await?;
        for (kind, name, detail) in objects {
            match ObjectKind::parse(&kind) {
                Some(kind) => rights.named.push(NamedObject { kind, name, detail }),
                None => return Err(RightsError::Shape { side, kind, name }),
            }
        }
        Ok(rights)
    }

    /// The objects of a kind.
    pub(super) fn of(&self, kind: ObjectKind) -> impl Iterator<Item = &NamedObject> {
        self.named.iter().filter(move |object| object.kind == kind)
    }
}

impl ObjectKind {
    fn parse(text: &str) -> Option<ObjectKind> {
        Some(match text {
            "event trigger" => ObjectKind::EventTrigger,
            "foreign data wrapper" => ObjectKind::ForeignDataWrapper,
            "foreign server" => ObjectKind::ForeignServer,
            "publication" => ObjectKind::Publication,
            "subscription" => ObjectKind::Subscription,
            "user mapping" => ObjectKind::UserMapping,
            _ => return None,
        })
    }
}

async fn rows<T>(
    client: &Client,
    side: Side,
    query: &'static str,
    text: &str,
    decode: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, RightsError> {
    let failed = |source| RightsError::Query { side, query, source };
    client.query(text, &[]).await.map_err(failed)?.iter().map(|row| decode(row).map_err(failed)).collect()
}
