//! What the digests of both sides say. Pure.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, Table};
use crate::pg::QualifiedName;
use crate::plan::TablePlan;
use crate::verify::read::{Method, Read};
use crate::verify::{Aspect, Comparison, Outcome, TableResult};

/// Matches tables and columns by name. Gives the tables whose rows can be compared; what one side lacks becomes
/// a difference of `comparison`.
pub fn matched(
    tables: Vec<TablePlan>,
    source: &Catalog,
    target: &Catalog,
    comparison: &mut Comparison,
) -> Vec<TablePlan> {
    let (ours, theirs) = (by_name(source), by_name(target));
    for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
        comparison.push(
            name.to_string(),
            Aspect::Rows,
            Outcome::different("the table is only on the target"),
        );
    }
    for name in ours.keys().filter(|name| !theirs.contains_key(*name)) {
        comparison.push(
            name.to_string(),
            Aspect::Rows,
            Outcome::different("the table is only on the source"),
        );
    }
    let mut comparable = tables;
    comparable.retain(|table| {
        let (Some(ours), Some(theirs)) = (ours.get(&table.name), theirs.get(&table.name)) else {
            return false;
        };
        let lonely = lonely_columns(ours, theirs);
        if !lonely.is_empty() {
            comparison.push(table.name.to_string(), Aspect::Rows, Outcome::different(lonely.join("; ")));
        }
        lonely.is_empty()
    });
    comparable
}

fn by_name(catalog: &Catalog) -> BTreeMap<&QualifiedName, &Table> {
    catalog.tables.iter().map(|table| (&table.name, table)).collect()
}

fn lonely_columns(source: &Table, target: &Table) -> Vec<String> {
    let only = |ours: &Table, theirs: &Table, side: &str| -> Vec<String> {
        let lacks = |name: &str| !theirs.columns.iter().any(|column| column.name == name);
        ours.columns
            .iter()
            .filter(|column| lacks(&column.name))
            .map(|column| format!("column {} is only on the {side}", column.name))
            .collect()
    };
    [only(source, target, "source"), only(target, source, "target")].concat()
}

/// What a table's two digests mean. Differing rows are not named yet.
pub fn judge(table: &TablePlan, method: Method, read: &[Read; 2]) -> (Outcome, Option<TableResult>) {
    let [source, target] = match read {
        [Ok(source), Ok(target)] => [source, target],
        [Err(reason), _] => return (unreadable("source", reason), None),
        [_, Err(reason)] => return (unreadable("target", reason), None),
    };
    let outcome = if source.rows != target.rows {
        Outcome::different(format!("{} rows on the source, {} on the target", source.rows, target.rows))
    } else if method == Method::Counts {
        Outcome::NotCompared { reason: format!("only counted: {} rows on both sides", source.rows) }
    } else if source.sums != target.sums {
        Outcome::different(format!("{} rows on both sides, but not the same", source.rows))
    } else {
        Outcome::Equal
    };
    let result = TableResult {
        table: table.name.to_string(),
        rows: [source.rows, target.rows],
        checksums: (method != Method::Counts).then(|| [source.checksum(), target.checksum()]),
    };
    (outcome, Some(result))
}

fn unreadable(side: &str, reason: &str) -> Outcome {
    Outcome::NotCompared { reason: format!("could not be read on the {side}: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Chunk;
    use crate::transfer::digest::Digest;

    fn judged(method: Method, source: Read, target: Read) -> Outcome {
        let table = TablePlan {
            name: QualifiedName::new("public", "asset"),
            columns: vec![],
            generated: vec![],
            key: vec![],
            condition: None,
            is_unlogged: false,
            bytes: 0,
            heap_bytes: 0,
            estimated_rows: None,
            chunks: vec![Chunk::WHOLE],
        };
        judge(&table, method, &[source, target]).0
    }

    fn digest(rows: u64, sum: u64) -> Digest {
        Digest { rows, sums: [sum; 4] }
    }

    #[test]
    fn only_equal_digests_are_equal() {
        assert_eq!(judged(Method::Digests, Ok(digest(2, 1)), Ok(digest(2, 1))), Outcome::Equal);
        for other in [digest(3, 1), digest(2, 2)] {
            assert!(matches!(judged(Method::Reread, Ok(digest(2, 1)), Ok(other)), Outcome::Different { .. }));
        }
    }

    #[test]
    fn counting_and_failing_to_read_prove_nothing() {
        let is_skipped = |outcome| matches!(outcome, Outcome::NotCompared { .. });
        assert!(is_skipped(judged(Method::Counts, Ok(digest(2, 0)), Ok(digest(2, 0)))));
        assert!(!is_skipped(judged(Method::Counts, Ok(digest(2, 0)), Ok(digest(1, 0)))));
        assert!(is_skipped(judged(Method::Digests, Err("no".into()), Ok(digest(2, 0)))));
        assert!(is_skipped(judged(Method::Digests, Ok(digest(2, 0)), Err("no".into()))));
    }
}
