//! Rows that a unique key should not have let in. A damaged index hides them from every query that uses it, and they
//! come to light when the target builds the index anew.

use tokio_postgres::Row;

use super::read::{ReadError, Reader, refusal};
use super::{Input, Skipped, blocking};
use crate::catalog::Catalog;
use crate::pg::{QualifiedName, quote_identifier};
use crate::preflight::{Finding, few};
use crate::report::number;

/// Duplicates under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicates {
    /// The index.
    pub index: QualifiedName,
    /// Its table.
    pub table: QualifiedName,
    /// How many values are there more than once.
    pub keys: i64,
    /// How many rows have them.
    pub rows: i64,
    /// Where the first few are, without their values: `(0,1) and (0,7)`.
    pub examples: Vec<String>,
    /// The query that shows the values.
    pub query: String,
}

/// A unique index, as far as its duplicates go.
struct Key {
    index: QualifiedName,
    table: QualifiedName,
    keys: Vec<String>,
    predicate: Option<String>,
    nulls_are_equal: bool,
}

/// No index is used, and groups are sorted: a hash table would hold every row.
const WITHOUT_INDEXES: &str = "SET enable_indexscan = off; SET enable_indexonlyscan = off; \
    SET enable_bitmapscan = off; SET enable_hashagg = off";

/// Reads every table with a unique key through. `search_path` is the source's: functions in keys may count on it.
pub(super) async fn read(
    reader: &Reader<'_>,
    source: &Catalog,
    search_path: &str,
) -> Result<(Vec<Duplicates>, Vec<Skipped>), ReadError> {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let is_wanted = |table: &QualifiedName| source.tables.iter().any(|known| known.name == *table);
    let rows =
        reader.rows(include_str!("../../sql/survey/unique_keys.sql"), &[], "list the unique keys").await?;
    reader
        .rows("SELECT pg_catalog.set_config('search_path', $1, false)", &[&search_path], "set the path")
        .await?;
    reader.run(WITHOUT_INDEXES, "turn index scans off").await?;
    for row in &rows {
        let key = Key::of(row);
        if !is_wanted(&key.table) {
            continue;
        }
        let mut skip = |why: String| {
            skipped.push(Skipped { what: format!("duplicates that {} may hide", key.index), why });
        };
        if !row.get::<_, bool>("is_plain") {
            skip("its operator class has an equality of its own".into());
            continue;
        }
        match reader.rows(&key.statement(), &[], &format!("look for duplicates in {}", key.table)).await {
            Ok(counted) => found.extend(counted.first().and_then(|counted| key.found(counted))),
            Err(error) => skip(refusal(error)?.words),
        }
    }
    Ok((found, skipped))
}

impl Key {
    fn of(row: &Row) -> Key {
        let schema: String = row.get("schema");
        Key {
            index: QualifiedName::new(&schema, row.get::<_, String>("name")),
            table: QualifiedName::new(schema, row.get::<_, String>("table_name")),
            keys: row.get("keys"),
            predicate: row.get("predicate"),
            nulls_are_equal: row.get("nulls_are_equal"),
        }
    }

    /// `FROM … WHERE …` and `GROUP BY … HAVING …`.
    fn parts(&self) -> (String, String) {
        let predicate = self.predicate.iter().map(|predicate| format!("({predicate})"));
        // A key with a NULL is equal to none.
        let present =
            self.keys.iter().filter(|_| !self.nulls_are_equal).map(|key| format!("({key}) IS NOT NULL"));
        let conditions: Vec<String> = predicate.chain(present).collect();
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        (
            format!("FROM ONLY {}{filter}", self.table.sql()),
            format!("GROUP BY {} HAVING pg_catalog.count(*) > 1", self.keys.join(", ")),
        )
    }

    fn statement(&self) -> String {
        let (from, group) = self.parts();
        format!(
            "SELECT pg_catalog.count(*) AS keys, pg_catalog.sum(rows)::pg_catalog.int8 AS rows, \
             (pg_catalog.array_agg(example))[1:3] AS examples FROM (SELECT pg_catalog.count(*) AS rows, \
             pg_catalog.array_to_string((pg_catalog.array_agg(ctid::pg_catalog.text))[1:2], ' and ') AS example \
             {from} {group}) AS duplicate"
        )
    }

    fn found(&self, counted: &Row) -> Option<Duplicates> {
        let keys: i64 = counted.get("keys");
        let (from, group) = self.parts();
        (keys > 0).then(|| Duplicates {
            index: self.index.clone(),
            table: self.table.clone(),
            keys,
            rows: counted.get("rows"),
            examples: counted.get("examples"),
            query: format!("SELECT {}, count(*) {from} {group};", self.keys.join(", ")),
        })
    }
}

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    let finding = |found: &Duplicates| {
        blocking(
            "hidden-duplicates",
            format!("{} holds rows that unique index {} should not have let in", found.table, found.index),
            few(&found.examples).within(|examples| {
                let [keys, rows] = [found.keys, found.rows].map(|count| number(count.unsigned_abs()));
                format!("{keys} values in {rows} rows; {examples}")
            }),
            format!(
                "the index is damaged, and does not show them. On the source: SET enable_indexscan = off; SET \
                 enable_indexonlyscan = off; SET enable_bitmapscan = off; {} delete or change the rows that are too many, \
                 by ctid; then REINDEX INDEX {}.{};",
                found.query,
                quote_identifier(&found.index.schema),
                quote_identifier(&found.index.name)
            ),
        )
    };
    input.found.duplicates.iter().map(finding).collect()
}
