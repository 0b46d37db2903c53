//! Extensions: those of the database, and those that the server offers.

use serde::{Deserialize, Serialize};

use crate::pg::{Oid, QualifiedName};

/// An extension of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// The installed version.
    pub version: String,
    /// The schema that it stands in.
    pub schema: String,
    /// The role that owns it.
    pub owner: String,
    /// Extensions that it needs, sorted.
    pub requires: Vec<String>,
    /// Tables and sequences of it that hold a user's rows (`pg_extension_config_dump`).
    pub configuration: Vec<ConfigurationRelation>,
}

/// A member of an extension whose rows belong to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationRelation {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: QualifiedName,
    /// Which rows are the user's: a `WHERE` clause, or empty for all.
    pub condition: String,
}

/// An extension that can be created on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableExtension {
    /// Its name.
    pub name: String,
    /// The version that `CREATE EXTENSION` takes by itself.
    pub default_version: String,
    /// All versions that it can be created at, sorted as text.
    pub versions: Vec<String>,
    /// The version in this database.
    pub installed_version: Option<String>,
    /// Whether a superuser is needed, unless it is trusted.
    pub needs_superuser: bool,
    /// Whether a role that may create in the database may create it (from 13).
    pub is_trusted: bool,
    /// Whether its objects may be moved into another schema.
    pub is_relocatable: bool,
    /// The schema that it must stand in.
    pub schema: Option<String>,
    /// Extensions that it needs.
    pub requires: Vec<String>,
}
