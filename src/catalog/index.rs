//! Indexes and constraints of the user's tables and materialised views.

use serde::{Deserialize, Serialize};

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
