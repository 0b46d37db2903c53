//! Errors of the catalog.

use tokio_postgres::error::SqlState;

use crate::error::{Class, Fault, Side};
use crate::pg::session;

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The server refused a query, or the connection broke.
    #[error("could not read the {side}'s catalog (query {query}): {}", crate::pg::describe(.error))]
    Query {
        /// Whose catalog.
        side: Side,
        /// The file of `sql/catalog/` without its ending, or `sequence_values`.
        query: &'static str,
        /// What the server or the connection said. It is in the message, so it is no `source`.
        error: tokio_postgres::Error,
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
        matches!(self, CatalogError::Query { error, .. } if session::is_retryable(error))
    }

    fn lock_timeout(&self) -> Option<Side> {
        match self {
            CatalogError::Query { side, error, .. } if session::is_lock_timeout(error) => Some(*side),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CatalogError::Query { side, error, .. }
                if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
            {
                Some(format!("connect to the {side} as the owner of the database and of what is in it"))
            }
            // A type's modifier is written by the type's library.
            CatalogError::Query { side, error, .. } if error.code() == Some(&SqlState::UNDEFINED_FILE) => {
                Some(format!("start the {side} with an image that has the library of this extension"))
            }
            CatalogError::Query { error, .. } => session::hint(error),
            CatalogError::Shape { .. } => Some(
                "this server is younger than this version of pgmove knows; use a younger pgmove".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_unknown_shape_is_a_defect_and_not_retried() {
        let error = CatalogError::Shape {
            side: Side::Target,
            query: "tables",
            what: "column kind of asset holds 'z'".to_owned(),
        };
        assert_eq!(error.class(), Class::Internal);
        assert!(!error.is_retryable());
        assert_eq!(
            error.to_string(),
            "could not understand the target's catalog (query tables): column kind of asset holds 'z'"
        );
    }
}
