//! Sequences and their values.
//!
//! Sequences have no snapshot: their values are read apart from the catalog, with [`sequence_values`], and
//! read again before the verdict.

use serde::{Deserialize, Serialize};

use super::table::Configuration;
use crate::pg::{Oid, QualifiedName};

/// A sequence of the user; identity sequences are among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: QualifiedName,
    /// The role that owns it.
    pub owner: String,
    /// `smallint`, `integer` or `bigint`.
    pub data_type: String,
    /// The column that owns it.
    pub owned_by: Option<SequenceColumn>,
    /// For a configuration sequence of an extension: which one.
    pub configuration: Option<Configuration>,
}

/// The column that a sequence goes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceColumn {
    /// The table.
    pub table: QualifiedName,
    /// The column.
    pub column: String,
    /// Whether it is an identity column, not `OWNED BY`.
    pub is_identity: bool,
}

/// Where a sequence stands. Both fields are needed: (1, false) gives 1 next, (1, true) gives 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// The sequence.
    pub name: QualifiedName,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}
