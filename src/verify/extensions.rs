//! Whether the target has the source's extensions. Pure.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, Extension};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::verify::{Aspect, Comparison, Outcome};

/// What takes the place of the legacy vector extension.
const SUCCESSOR: &str = "vector";

/// Compares presence, version and schema of the extensions. Another version is told and no obstacle: the target
/// offers what it offers, and what depends on a version (types in binary, DDL) is compared by itself.
pub fn compare(source: &Catalog, target: &Catalog, comparison: &mut Comparison) {
    let (ours, theirs) = (by_name(source), by_name(target));
    for (name, extension) in &ours {
        let outcome = match theirs.get(name) {
            None if *name == LEGACY_VECTOR_EXTENSION && theirs.contains_key(SUCCESSOR) => {
                Outcome::as_planned(format!("replaced by {SUCCESSOR}"))
            }
            None => Outcome::different("missing on the target"),
            Some(other) if other.schema != extension.schema => Outcome::different(format!(
                "in schema {} on the source, in {} on the target",
                extension.schema, other.schema
            )),
            Some(other) if other.version != extension.version => Outcome::as_planned(format!(
                "version {} on the source, {} on the target",
                extension.version, other.version
            )),
            Some(_) => Outcome::Equal,
        };
        comparison.push(format!("extension {name}"), Aspect::Extension, outcome);
    }
    for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
        let outcome = Outcome::as_planned("only on the target, which may offer more");
        comparison.push(format!("extension {name}"), Aspect::Extension, outcome);
    }
}

fn by_name(catalog: &Catalog) -> BTreeMap<&str, &Extension> {
    catalog.extensions.iter().map(|extension| (extension.name.as_str(), extension)).collect()
}
