//! Whether the target's indexes and constraints stand and are in force. Pure.
//!
//! Their definitions are compared with the schema; here it is about what a definition does not tell: an index
//! that a failed build left behind is in every dump of the schema as if nothing were wrong.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, Constraint, ConstraintKind, Index};
use crate::pg::{QualifiedName, display_identifier};
use crate::verify::{Aspect, Comparison, Outcome};

/// Compares the flags of all indexes.
pub fn indexes(source: &Catalog, target: &Catalog, comparison: &mut Comparison) {
    let by_name = |catalog: &Catalog| -> BTreeMap<_, Index> {
        catalog.indexes.iter().map(|index| (index.name.clone(), index.clone())).collect()
    };
    let (ours, theirs) = (by_name(source), by_name(target));
    for (name, index) in &ours {
        let is_sound = index.is_valid && index.is_ready;
        let outcome = match theirs.get(name) {
            // A partitioned index is invalid until every partition has its part; pg_dump carries such a one.
            None if !is_sound && !index.is_partitioned => Outcome::AsPlanned {
                detail: "invalid on the source, and so left behind, as pg_dump does".into(),
            },
            None => Outcome::different(format!("missing on the target (on {})", index.table)),
            Some(other) if !other.is_valid && (is_sound || !index.is_partitioned) => {
                Outcome::different("not valid on the target: queries do not use it")
            }
            Some(other) if !other.is_ready => {
                Outcome::different("not ready on the target: writes do not maintain it")
            }
            Some(other) if other.table != index.table => Outcome::different(format!(
                "on {} on the source, on {} on the target",
                index.table, other.table
            )),
            Some(_) => Outcome::Equal,
        };
        comparison.push(format!("index {name}"), Aspect::Index, outcome);
    }
    for (name, index) in theirs.iter().filter(|(name, _)| !ours.contains_key(name)) {
        let detail = if index.is_valid { "only on the target" } else { "only on the target, and not valid" };
        comparison.push(format!("index {name}"), Aspect::Index, Outcome::different(detail));
    }
}

/// Compares whether all rows were checked by the constraints of both sides.
pub fn constraints(source: &Catalog, target: &Catalog, comparison: &mut Comparison) {
    // NOT NULL is a constraint of its own from 18 on only; the columns' definitions tell it everywhere.
    let by_name = |catalog: &Catalog| -> BTreeMap<_, Constraint> {
        catalog
            .constraints
            .iter()
            .filter(|constraint| constraint.kind != ConstraintKind::NotNull)
            .map(|constraint| ((constraint.table.clone(), constraint.name.clone()), constraint.clone()))
            .collect()
    };
    let (ours, theirs) = (by_name(source), by_name(target));
    let shown =
        |key: &(QualifiedName, String)| format!("constraint {} on {}", display_identifier(&key.1), key.0);
    for (key, constraint) in &ours {
        let state = |is_validated| if is_validated { "checked" } else { "not checked" };
        let outcome = match theirs.get(key) {
            None => Outcome::different("missing on the target"),
            Some(other) if other.kind != constraint.kind => {
                Outcome::different("of another kind on the target")
            }
            Some(other) if other.is_validated != constraint.is_validated => Outcome::different(format!(
                "all rows are {} on the source, {} on the target",
                state(constraint.is_validated),
                state(other.is_validated)
            )),
            Some(_) => Outcome::Equal,
        };
        comparison.push(shown(key), Aspect::Constraint, outcome);
    }
    for key in theirs.keys().filter(|key| !ours.contains_key(key)) {
        comparison.push(shown(key), Aspect::Constraint, Outcome::different("only on the target"));
    }
}
