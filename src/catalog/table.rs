//! Tables that hold a user's rows, and materialised views.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::query::{Reader, Record, sql_file};
use crate::pg::{Oid, QualifiedName};

/// A table of the user. Left out: members of extensions (their configuration tables are in), temporary
/// tables, system schemas, and schema `pgmove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: QualifiedName,
    /// What it is.
    pub kind: TableKind,
    /// The role that owns it.
    pub owner: String,
    /// Whether it survives a crash.
    pub persistence: Persistence,
    /// Whether it is a partition.
    pub is_partition: bool,
    /// The tables it inherits from or is a partition of, in order.
    pub parents: Vec<QualifiedName>,
    /// `heap` for most; `None` for partitioned and foreign tables.
    pub access_method: Option<String>,
    /// The tablespace, where it is not the database's own.
    pub tablespace: Option<String>,
    /// Pages of the main fork now, not the estimate of the last ANALYZE; 0 without storage.
    pub pages: u64,
    /// The main fork, in bytes.
    pub heap_bytes: u64,
    /// Main fork, TOAST, free space and visibility maps, in bytes.
    pub total_bytes: u64,
    /// Its indexes, in bytes.
    pub index_bytes: u64,
    /// `reltuples`; `None` where the table was never analyzed, or was empty then (the catalogs of servers
    /// before 14 do not tell these apart).
    pub estimated_rows: Option<u64>,
    /// Rows inserted, updated and deleted since the statistics were reset.
    pub writes: u64,
    /// The columns by `attnum`, dropped ones left out.
    pub columns: Vec<Column>,
    /// The primary key's columns in key order; empty without one.
    pub primary_key: Vec<String>,
    /// Whether policies hide rows from readers.
    pub row_security: RowSecurity,
    /// What logical replication names rows by.
    pub replica_identity: ReplicaIdentity,
    /// For a configuration table of an extension: which one, and which rows are the user's.
    pub configuration: Option<Configuration>,
}

/// What a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// It holds rows itself.
    Ordinary,
    /// Its partitions hold the rows.
    Partitioned,
    /// Another server holds the rows.
    Foreign,
}

/// Whether a table's rows survive a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persistence {
    /// They do.
    Permanent,
    /// They do not, and a standby does not have them.
    Unlogged,
}

/// Row security of a table. Policies never apply to superusers and roles with BYPASSRLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowSecurity {
    /// None.
    Off,
    /// For all but the owner.
    Enabled,
    /// For the owner also.
    Forced,
}

/// `REPLICA IDENTITY` of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// None.
    Nothing,
    /// The whole row.
    Full,
    /// A unique index.
    Index,
}

/// A table's place in an extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The extension.
    pub extension: String,
    /// Which rows are the user's: a `WHERE` clause with its keyword, or empty for all.
    pub condition: String,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// `attnum`, from 1; dropped columns leave gaps.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type, a key of [`Types`](super::Types).
    pub type_oid: Oid,
    /// The type as SQL, schema-qualified unless built in: `character varying(20)`.
    pub formatted_type: String,
    /// `atttypmod`, -1 for none.
    pub type_modifier: i32,
    /// Whether NULL is refused.
    pub is_not_null: bool,
    /// Whether there is a default (a generation expression is none).
    pub has_default: bool,
    /// Whether the server computes it.
    pub generated: Option<Generated>,
    /// Whether it is an identity column.
    pub identity: Option<Identity>,
    /// The collation, where it is not the type's own.
    pub collation: Option<QualifiedName>,
}

/// How a generated column is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Generated {
    /// Computed on write.
    Stored,
    /// Computed on read, from 18.
    Virtual,
}

/// How an identity column takes given values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// `GENERATED ALWAYS`: COPY may still give values.
    Always,
    /// `GENERATED BY DEFAULT`.
    ByDefault,
}

/// A materialised view of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaterializedView {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: QualifiedName,
    /// The role that owns it.
    pub owner: String,
    /// Whether it can be read.
    pub is_populated: bool,
    /// Its rows and their TOAST, in bytes.
    pub bytes: u64,
    /// The columns by `attnum`.
    pub columns: Vec<Column>,
}

/// Columns by the OID of their relation; who wants them takes them out.
pub(super) type Columns = HashMap<Oid, Vec<Column>>;

impl Column {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Columns, CatalogError> {
        let mut columns = Columns::new();
        for record in reader.rows(sql_file!("columns"), &[]).await? {
            columns.entry(record.oid("relation")?).or_default().push(Column::decode(&record)?);
        }
        Ok(columns)
    }

    fn decode(record: &Record) -> Result<Self, CatalogError> {
        Ok(Column {
            number: record.get("number")?,
            name: record.get("name")?,
            type_oid: record.oid("type_oid")?,
            formatted_type: record.get("formatted_type")?,
            type_modifier: record.get("type_modifier")?,
            is_not_null: record.get("is_not_null")?,
            has_default: record.get("has_default")?,
            generated: record.choose(
                "generated",
                &[('\0', None), ('s', Some(Generated::Stored)), ('v', Some(Generated::Virtual))],
            )?,
            identity: record.choose(
                "identity",
                &[('\0', None), ('a', Some(Identity::Always)), ('d', Some(Identity::ByDefault))],
            )?,
            collation: record.optional_name("collation_schema", "collation_name")?,
        })
    }
}

impl Table {
    pub(super) async fn read(reader: Reader<'_>, columns: &mut Columns) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("tables"), &[]).await?;
        records.iter().map(|record| Table::decode(record, columns)).collect()
    }

    fn decode(record: &Record, columns: &mut Columns) -> Result<Self, CatalogError> {
        let oid = record.oid("oid")?;
        let parents: (Vec<String>, Vec<String>) =
            (record.get("parent_schemas")?, record.get("parent_names")?);
        let estimated_rows: Option<i64> = record.get("estimated_rows")?;
        Ok(Table {
            oid,
            name: record.qualified("schema", "name")?,
            kind: record.choose(
                "kind",
                &[('r', TableKind::Ordinary), ('p', TableKind::Partitioned), ('f', TableKind::Foreign)],
            )?,
            owner: record.get("owner")?,
            persistence: record
                .choose("persistence", &[('p', Persistence::Permanent), ('u', Persistence::Unlogged)])?,
            is_partition: record.get("is_partition")?,
            parents: parents.0.into_iter().zip(parents.1).map(|(s, n)| QualifiedName::new(s, n)).collect(),
            access_method: record.get("access_method")?,
            tablespace: record.get("tablespace")?,
            pages: record.count("pages")?,
            heap_bytes: record.count("heap_bytes")?,
            total_bytes: record.count("total_bytes")?,
            index_bytes: record.count("index_bytes")?,
            estimated_rows: estimated_rows.map(i64::unsigned_abs),
            writes: record.count("writes")?,
            columns: columns.remove(&oid).unwrap_or_default(),
            primary_key: record.get("primary_key")?,
            row_security: match (record.get("has_row_security")?, record.get("forces_row_security")?) {
                (false, _) => RowSecurity::Off,
                (true, false) => RowSecurity::Enabled,
                (true, true) => RowSecurity::Forced,
            },
            replica_identity: record.choose(
                "replica_identity",
                &[
                    ('d', ReplicaIdentity::Default),
                    ('n', ReplicaIdentity::Nothing),
                    ('f', ReplicaIdentity::Full),
                    ('i', ReplicaIdentity::Index),
                ],
            )?,
            configuration: Configuration::decode(record)?,
        })
    }
}

impl Configuration {
    pub(super) fn decode(record: &Record) -> Result<Option<Self>, CatalogError> {
        let parts: (Option<String>, Option<String>) = (record.get("extension")?, record.get("condition")?);
        Ok(match parts {
            (Some(extension), Some(condition)) => Some(Configuration { extension, condition }),
            _ => None,
        })
    }
}

impl MaterializedView {
    pub(super) async fn read(reader: Reader<'_>, columns: &mut Columns) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("materialized_views"), &[]).await?;
        let view = |record: &Record| {
            let oid = record.oid("oid")?;
            Ok(MaterializedView {
                oid,
                name: record.qualified("schema", "name")?,
                owner: record.get("owner")?,
                is_populated: record.get("is_populated")?,
                bytes: record.count("bytes")?,
                columns: columns.remove(&oid).unwrap_or_default(),
            })
        };
        records.iter().map(view).collect()
    }
}
