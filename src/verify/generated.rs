//! What the target computed again: stored generated columns and materialised views. Pure.
//!
//! They can differ between equal tables, by the locale or by the moment, so they are compared apart from the
//! tables' rows and told in other words; different they are all the same.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, MaterializedView};
use crate::plan::TablePlan;
use crate::plan::columns::ColumnPlan;
use crate::plan::make::views;
use crate::verify::read::{Method, Read};
use crate::verify::{Aspect, Comparison, Outcome, rows};

/// For each table with stored generated columns: these, with the key that ties a value to its row.
pub fn columns(tables: &[TablePlan]) -> Vec<TablePlan> {
    let with_key = |table: &TablePlan| -> Vec<ColumnPlan> {
        let key = table.columns.iter().filter(|column| table.key.contains(&column.name));
        key.chain(&table.generated).cloned().collect()
    };
    tables
        .iter()
        .filter(|table| !table.generated.is_empty())
        .map(|table| TablePlan { columns: with_key(table), generated: vec![], ..table.clone() })
        .collect()
}

/// The materialised views that both sides can read; what else there is to say becomes a check of `comparison`.
pub fn matched_views(source: &Catalog, target: &Catalog, comparison: &mut Comparison) -> Vec<TablePlan> {
    let theirs: BTreeMap<_, _> = target.materialized_views.iter().map(|view| (&view.name, view)).collect();
    let mut push = |view: &MaterializedView, outcome| {
        comparison.push(view.name.to_string(), Aspect::MaterializedView, outcome);
    };
    for view in &target.materialized_views {
        if !source.materialized_views.iter().any(|other| other.name == view.name) {
            push(view, Outcome::different("the materialised view is only on the target"));
        }
    }
    for view in &source.materialized_views {
        match theirs.get(&view.name) {
            None => push(view, Outcome::different("the materialised view is only on the source")),
            Some(other) if other.is_populated != view.is_populated => {
                let side = if view.is_populated { "source" } else { "target" };
                push(view, Outcome::different(format!("it holds rows on the {side} only; refresh it")));
            }
            Some(other) if names(other) != names(view) => {
                push(view, Outcome::different("it has other columns on the target"));
            }
            Some(_) if view.is_populated => {}
            Some(_) => push(view, Outcome::Equal),
        }
    }
    let mut planned = views(source, target);
    planned.retain(|view| {
        let is_same = |other: &&MaterializedView| other.is_populated && other.name == view.name;
        let columns: Vec<&str> = view.columns.iter().map(|column| column.name.as_str()).collect();
        theirs.get(&view.name).copied().filter(is_same).is_some_and(|other| names(other) == columns)
    });
    planned
}

fn names(view: &MaterializedView) -> Vec<&str> {
    view.columns.iter().map(|column| column.name.as_str()).collect()
}

/// What the digests of such a table say.
pub fn judge(table: &TablePlan, method: Method, read: &[Read; 2]) -> Outcome {
    match rows::judge(table, method, read).0 {
        Outcome::Different { detail, rows } => {
            Outcome::Different { detail: format!("recomputed differently: {detail}"), rows }
        }
        outcome => outcome,
    }
}
