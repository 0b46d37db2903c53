//! What of the source is not carried, or not as it is.

use crate::catalog::{Catalog, Persistence};

/// Unlogged tables, by name.
pub(super) fn unlogged(catalog: &Catalog) -> Vec<String> {
    let unlogged = catalog.tables.iter().filter(|table| table.persistence == Persistence::Unlogged);
    unlogged.map(|table| table.name.to_string()).collect()
}
