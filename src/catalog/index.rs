//! Indexes and constraints of the user's tables and materialised views.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::query::{Reader, Record, sql_file};
use crate::pg::{Oid, QualifiedName};

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they mirror the flags of pg_index")]
pub struct Index {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: QualifiedName,
    /// The table or materialised view.
    pub table: QualifiedName,
    /// The table's OID.
    pub table_oid: Oid,
    /// `btree`, `gin`, `hnsw`, `vchordrq` and so on.
    pub access_method: String,
    /// Whether it refuses duplicates.
    pub is_unique: bool,
    /// Whether it is the primary key's.
    pub is_primary: bool,
    /// Whether queries may use it; a failed concurrent build leaves an invalid one.
    pub is_valid: bool,
    /// Whether writes maintain it.
    pub is_ready: bool,
    /// Whether it belongs to a partitioned table and has no storage of its own.
    pub is_partitioned: bool,
    /// The partitioned table's index that it is attached to.
    pub parent: Option<QualifiedName>,
    /// Its size in bytes.
    pub bytes: u64,
    /// `pg_get_indexdef`. Names in expressions are qualified as the session's `search_path` asks.
    pub definition: String,
    /// The constraint that stands on it.
    pub constraint: Option<String>,
    /// Its key columns in order, INCLUDE columns left out.
    pub keys: Vec<IndexKey>,
    /// `reloptions`: `lists=100` and the like.
    pub options: Vec<String>,
}

/// A key column of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexKey {
    /// The table's column; `None` for an expression.
    pub column: Option<String>,
    /// The operator class: `public.vector_cosine_ops`.
    pub operator_class: QualifiedName,
}

/// A constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// The table.
    pub table: QualifiedName,
    /// Its name.
    pub name: String,
    /// What it asks.
    pub kind: ConstraintKind,
    /// Whether all rows were checked.
    pub is_validated: bool,
    /// For a foreign key: the table that it points to.
    pub references: Option<QualifiedName>,
    /// `pg_get_constraintdef`.
    pub definition: String,
}

/// What a constraint asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConstraintKind {
    /// CHECK.
    Check,
    /// FOREIGN KEY.
    ForeignKey,
    /// NOT NULL, a constraint of its own from 18.
    NotNull,
    /// PRIMARY KEY.
    PrimaryKey,
    /// UNIQUE.
    Unique,
    /// EXCLUDE.
    Exclusion,
    /// A constraint trigger.
    Trigger,
}

impl Index {
    /// `wanted` are the tables and materialised views of the catalog: members of extensions have indexes too.
    pub(super) async fn read(reader: Reader<'_>, wanted: &HashSet<Oid>) -> Result<Vec<Self>, CatalogError> {
        let mut indexes = Vec::new();
        for record in reader.rows(sql_file!("indexes"), &[]).await? {
            if wanted.contains(&record.oid("table_oid")?) {
                indexes.push(Index::decode(&record)?);
            }
        }
        Ok(indexes)
    }

    fn decode(record: &Record) -> Result<Self, CatalogError> {
        let columns: Vec<Option<String>> = record.get("key_columns")?;
        let schemas: Vec<String> = record.get("key_class_schemas")?;
        let names: Vec<String> = record.get("key_class_names")?;
        let classes = schemas.into_iter().zip(names).map(|(schema, name)| QualifiedName { schema, name });
        let key = |(column, operator_class)| IndexKey { column, operator_class };
        Ok(Index {
            oid: record.oid("oid")?,
            name: record.qualified("schema", "name")?,
            table: record.qualified("table_schema", "table_name")?,
            table_oid: record.oid("table_oid")?,
            access_method: record.get("access_method")?,
            is_unique: record.get("is_unique")?,
            is_primary: record.get("is_primary")?,
            is_valid: record.get("is_valid")?,
            is_ready: record.get("is_ready")?,
            is_partitioned: record.get("is_partitioned")?,
            parent: record.optional_name("parent_schema", "parent_name")?,
            bytes: record.count("bytes")?,
            definition: record.get("definition")?,
            constraint: record.get("constraint_name")?,
            keys: columns.into_iter().zip(classes).map(key).collect(),
            options: record.get("options")?,
        })
    }
}

impl Constraint {
    /// As [`Index::read`].
    pub(super) async fn read(reader: Reader<'_>, wanted: &HashSet<Oid>) -> Result<Vec<Self>, CatalogError> {
        let mut constraints = Vec::new();
        for record in reader.rows(sql_file!("constraints"), &[]).await? {
            if wanted.contains(&record.oid("relation")?) {
                constraints.push(Constraint::decode(&record)?);
            }
        }
        Ok(constraints)
    }

    fn decode(record: &Record) -> Result<Self, CatalogError> {
        Ok(Constraint {
            table: record.qualified("schema", "table_name")?,
            name: record.get("name")?,
            kind: record.choose(
                "kind",
                &[
                    ('c', ConstraintKind::Check),
                    ('f', ConstraintKind::ForeignKey),
                    ('n', ConstraintKind::NotNull),
                    ('p', ConstraintKind::PrimaryKey),
                    ('u', ConstraintKind::Unique),
                    ('x', ConstraintKind::Exclusion),
                    ('t', ConstraintKind::Trigger),
                ],
            )?,
            is_validated: record.get("is_validated")?,
            references: record.optional_name("references_schema", "references_name")?,
            definition: record.get("definition")?,
        })
    }
}
