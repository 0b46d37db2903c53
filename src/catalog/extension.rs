//! Extensions: those of the database, and those that the server offers.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::CatalogError;
use super::query::{Reader, Record, sql_file};
use crate::error::Side;
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
    /// Which rows are the user's: a `WHERE` clause with its keyword, or empty for all.
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

/// Reads the extensions of the database that `client` is connected to.
pub async fn extensions(client: &Client, side: Side) -> Result<Vec<Extension>, CatalogError> {
    Extension::read(Reader { client, side }).await
}

impl Extension {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("extensions"), &[]).await?;
        let mut configuration: HashMap<String, Vec<ConfigurationRelation>> = HashMap::new();
        for record in reader.rows(sql_file!("extension_configuration"), &[]).await? {
            configuration.entry(record.get("extension")?).or_default().push(ConfigurationRelation {
                oid: record.oid("oid")?,
                name: record.qualified("schema", "name")?,
                condition: record.get("condition")?,
            });
        }
        let extension = |record: &Record| {
            let name: String = record.get("name")?;
            Ok(Extension {
                version: record.get("version")?,
                schema: record.get("schema")?,
                owner: record.get("owner")?,
                requires: record.get("requires")?,
                configuration: configuration.remove(&name).unwrap_or_default(),
                name,
            })
        };
        records.iter().map(extension).collect()
    }
}

impl AvailableExtension {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("available_extensions"), &[]).await?;
        let extension = |record: &Record| {
            Ok(AvailableExtension {
                name: record.get("name")?,
                default_version: record.get("default_version")?,
                versions: record.get("versions")?,
                installed_version: record.get("installed_version")?,
                needs_superuser: record.get("needs_superuser")?,
                is_trusted: record.get("is_trusted")?,
                is_relocatable: record.get("is_relocatable")?,
                schema: record.get("schema")?,
                requires: record.get("requires")?,
            })
        };
        records.iter().map(extension).collect()
    }
}
