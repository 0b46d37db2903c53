//! Errors of the catalog.

use crate::error::{Class, Fault, Side};

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The server refused a query, or the connection broke.
    #[error("could not read the {side}'s catalog (query {query})")]
    Query {
        /// Whose catalog.
        side: Side,
        /// The file of `sql/catalog/` without its ending, or `sequence_values`.
        query: &'static str,
        /// What the server or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A query's answer has another shape than this version of pgmove knows.
    #[error("could not understand the {side}'s catalog (query {query}): {what}")]
    Shape {
        /// Whose catalog.
        side: Side,
        /// The file of `sql/catalog/` without its ending, or `sequence_values`.
        query: &'static str,
        /// The object and the column.
        what: String,
    },
}

impl Fault for CatalogError {
    fn class(&self) -> Class {
        match self {
            CatalogError::Query { side, .. } => side.class(),
            CatalogError::Shape { .. } => Class::Internal,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, CatalogError::Query { source, .. } if source.is_closed())
    }
}
