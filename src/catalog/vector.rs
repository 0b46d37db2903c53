//! Columns that hold vectors.

use serde::{Deserialize, Serialize};

use super::{Column, Table, TypeKind, Types, below_domains};
use crate::pg::QualifiedName;

/// Extensions whose base types are vectors, with the dimension as modifier: pgvecto.rs, pgvector, VectorChord.
const EXTENSIONS: [&str; 3] = ["vectors", "vector", "vchord"];

/// A column of a vector type, found by [`Catalog::vector_columns`](super::Catalog::vector_columns).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorColumn {
    /// The table.
    pub table: QualifiedName,
    /// The column.
    pub column: String,
    /// The extension of the type: `vectors`, `vector` or `vchord`.
    pub extension: String,
    /// The type, domains looked through.
    pub type_name: QualifiedName,
    /// The declared dimension; `None` where any is taken.
    pub dimensions: Option<u32>,
}

impl VectorColumn {
    /// What `column` is as a vector; `None` for all that is none, arrays of vectors among them.
    pub(super) fn find(types: &Types, table: &Table, column: &Column) -> Option<Self> {
        let (data_type, modifier) = below_domains(types, column.type_oid, column.type_modifier)?;
        let extension = data_type.extension.as_deref().filter(|name| EXTENSIONS.contains(name))?;
        (data_type.kind == TypeKind::Base).then(|| VectorColumn {
            table: table.name.clone(),
            column: column.name.clone(),
            extension: extension.to_owned(),
            type_name: data_type.name.clone(),
            dimensions: u32::try_from(modifier).ok(),
        })
    }
}
