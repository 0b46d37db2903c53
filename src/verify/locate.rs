//! Which rows of a table differ.
//!
//! Two questions to each server, whatever the size of the table: first the digests of a few thousand buckets of
//! rows, told apart by the hash of their key; then the rows of buckets that differ, as hashes, until enough
//! rows are named. Contents stay on the servers: only hashes and keys come back. A row of a table without a key
//! is told apart by its own hash, and named by its place (`ctid`) on the side that has it.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use crate::pg::{Session, SessionError, quote_identifier, quote_literal};
use crate::plan::columns::ColumnPlan;
use crate::plan::{Chunk, TablePlan};
use crate::transfer::digest::Digest;
use crate::verify::Snapshot;
use crate::verify::hash::{self, LANE_SUMS};

/// Rows of a bucket, about: few enough to be listed, many enough that the buckets of a large table are few.
const BUCKET_ROWS: u64 = 128;

/// The most buckets, as a power of two: 65,536 digests are a few MiB.
const MOST_BITS: u32 = 16;

/// So many rows are listed of either side, but at least one bucket.
const LISTED_ROWS: u64 = 20_000;

/// No more rows than this come from a server, however they fall into buckets.
const LISTED_AT_MOST: usize = 100_000;

/// A row's place among the listed: the hash of its key.
type KeyHash = String;

/// Names at most `limit` differing rows of a table with at most `rows` rows on a side. The sessions are those
/// of the source and of the target, each in the snapshot in which the difference was found.
pub async fn locate(
    sessions: [&Session; 2],
    table: &TablePlan,
    rows: u64,
    limit: usize,
) -> Result<Vec<String>, SessionError> {
    let bits = (rows / BUCKET_ROWS).max(1).next_power_of_two().ilog2().clamp(4, MOST_BITS);
    let [ours, theirs] = on_both(sessions, table, &buckets_statement(table, bits)).await?;
    let buckets = differing(&buckets(&ours), &buckets(&theirs));
    let [ours, theirs] = on_both(sessions, table, &rows_statement(table, bits, &buckets)).await?;
    Ok(names(&listed(&ours), &listed(&theirs), limit))
}

/// The same with sessions of its own, in the snapshots of source and target.
pub async fn in_snapshots(
    snapshots: &[Snapshot; 2],
    table: &TablePlan,
    rows: u64,
    limit: usize,
) -> Result<Vec<String>, SessionError> {
    let sessions = [snapshots[0].session().await?, snapshots[1].session().await?];
    let named = locate([&sessions[0], &sessions[1]], table, rows, limit).await;
    for session in sessions {
        session.close().await;
    }
    named
}

async fn on_both(
    sessions: [&Session; 2],
    table: &TablePlan,
    query: &str,
) -> Result<[Vec<Row>; 2], SessionError> {
    let ask = async |session: &Session| {
        hash::in_copy_encoding(session, query)
            .await
            .map_err(|error| session.failed(format!("look for differing rows of {}", table.name), error))
    };
    let (ours, theirs) = tokio::try_join!(ask(sessions[0]), ask(sessions[1]))?;
    Ok([ours, theirs])
}

/// The columns of the primary key, if the table has one and all of it is compared.
fn key(table: &TablePlan) -> Option<Vec<&ColumnPlan>> {
    let column =
        |name: &String| table.columns.iter().chain(&table.generated).find(|column| column.name == *name);
    let columns: Option<Vec<&ColumnPlan>> = table.key.iter().map(column).collect();
    columns.filter(|columns| !columns.is_empty())
}

/// Each row's `hash`, `key_hash`, `bucket` and `label`.
fn hashed(table: &TablePlan, bits: u32) -> String {
    let key = key(table);
    let key_hash = key.as_ref().map_or("NULL".to_owned(), |columns| hash::hash_of(columns.iter().copied()));
    let label = key.map_or_else(
        || "'row at ' || ctid::text".to_owned(),
        |columns| {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let values: Vec<String> =
                columns.iter().map(|column| format!("{}::text", quote_identifier(&column.name))).collect();
            let begin = quote_literal(&format!("({})=(", names.join(", ")));
            format!("{begin} || concat_ws(', ', {}) || ')'", values.join(", "))
        },
    );
    // OFFSET 0 keeps the hashes from being computed wherever they are mentioned.
    format!(
        "SELECT hash, key_hash, label, \
         ('x' || substr(key_hash, 1, 4))::bit(16)::integer >> {} AS bucket \
         FROM (SELECT hash, coalesce(own_key_hash, hash) AS key_hash, label \
         FROM (SELECT {} AS hash, {key_hash} AS own_key_hash, {label} AS label FROM ONLY {}{} OFFSET 0) AS read) AS keyed",
        MOST_BITS - bits,
        hash::hash_of(&table.columns),
        table.name.sql(),
        table.filter(Chunk::WHOLE)
    )
}

fn buckets_statement(table: &TablePlan, bits: u32) -> String {
    format!(
        "SELECT bucket, count(*) AS row_count, {LANE_SUMS} FROM ({}) AS hashed GROUP BY bucket",
        hashed(table, bits)
    )
}

fn rows_statement(table: &TablePlan, bits: u32, buckets: &[i32]) -> String {
    let buckets: Vec<String> = buckets.iter().map(ToString::to_string).collect();
    // Labels come as bytes of UTF-8, because the session's encoding is that of COPY.
    format!(
        "SELECT key_hash, count(*) AS row_count, {LANE_SUMS}, \
         convert_to(left(min(label), 200), CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END) \
         AS label FROM ({}) AS hashed WHERE bucket = ANY ('{{{}}}'::integer[]) \
         GROUP BY key_hash ORDER BY key_hash COLLATE \"C\" LIMIT {LISTED_AT_MOST}",
        hashed(table, bits),
        buckets.join(",")
    )
}

fn buckets(rows: &[Row]) -> BTreeMap<i32, Digest> {
    rows.iter().map(|row| (row.get("bucket"), hash::digest_of(row))).collect()
}

/// The first buckets that differ, as many as may be listed.
fn differing(ours: &BTreeMap<i32, Digest>, theirs: &BTreeMap<i32, Digest>) -> Vec<i32> {
    let mut chosen = Vec::new();
    let mut rows = 0;
    for bucket in ours.keys().chain(theirs.keys().filter(|bucket| !ours.contains_key(bucket))) {
        let (our, their) =
            (ours.get(bucket).copied().unwrap_or_default(), theirs.get(bucket).copied().unwrap_or_default());
        if our == their {
            continue;
        }
        rows += our.rows.max(their.rows);
        if rows > LISTED_ROWS && !chosen.is_empty() {
            break;
        }
        chosen.push(*bucket);
    }
    chosen
}

/// The rows of one key: how many, what they hold, and a name for one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    digest: Digest,
    label: String,
}

fn listed(rows: &[Row]) -> BTreeMap<KeyHash, Listed> {
    let row = |row: &Row| {
        let label = String::from_utf8_lossy(row.get("label")).into_owned();
        (row.get("key_hash"), Listed { digest: hash::digest_of(row), label })
    };
    rows.iter().map(row).collect()
}

fn names(ours: &BTreeMap<KeyHash, Listed>, theirs: &BTreeMap<KeyHash, Listed>, limit: usize) -> Vec<String> {
    // A list that was cut says nothing about what would come after its end.
    let end = [ours, theirs]
        .into_iter()
        .filter(|listed| listed.len() == LISTED_AT_MOST)
        .filter_map(|listed| listed.keys().next_back())
        .min();
    let keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
    let finding = |key: &KeyHash| match (ours.get(key), theirs.get(key)) {
        (Some(our), None) => Some((&our.label, "only on the source".to_owned())),
        (None, Some(their)) => Some((&their.label, "only on the target".to_owned())),
        (Some(our), Some(their)) if our.digest.rows != their.digest.rows => {
            let what =
                format!("{} times on the source, {} on the target", our.digest.rows, their.digest.rows);
            Some((&our.label, what))
        }
        (Some(our), Some(their)) => {
            (our.digest != their.digest).then(|| (&our.label, "different".to_owned()))
        }
        (None, None) => None,
    };
    let mut found: Vec<_> =
        keys.filter(|key| end.is_none_or(|end| key <= &end)).filter_map(finding).collect();
    // Shorter first: most keys are numbers.
    found.sort_by_key(|(label, _)| (label.len(), *label));
    found.into_iter().take(limit).map(|(label, what)| format!("{what}: {label}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: u64, sum: u64) -> Digest {
        Digest { rows, sums: [sum; 4] }
    }

    #[test]
    fn differing_buckets_are_chosen_until_there_are_rows_enough() {
        let ours: BTreeMap<i32, Digest> =
            [(1, digest(5, 1)), (2, digest(5, 2)), (4, digest(LISTED_ROWS, 3)), (5, digest(1, 1))].into();
        let theirs = [(1, digest(5, 1)), (2, digest(5, 3)), (3, digest(1, 1))].into();
        assert_eq!(differing(&ours, &theirs), [2]);
        assert_eq!(differing(&[(4, digest(2 * LISTED_ROWS, 3))].into(), &BTreeMap::new()), [4]);
        assert_eq!(differing(&theirs, &[(1, digest(5, 1))].into()), [2, 3]);
    }

    #[test]
    fn rows_are_named_by_what_is_wrong_with_them() {
        let listed = |rows: &[(&str, u64, u64)]| -> BTreeMap<KeyHash, Listed> {
            rows.iter()
                .map(|(key, rows, sum)| {
                    (
                        (*key).to_owned(),
                        Listed { digest: digest(*rows, *sum), label: format!("(id)=({key})") },
                    )
                })
                .collect()
        };
        let ours = listed(&[("a", 1, 1), ("b", 1, 1), ("c", 1, 1), ("d", 2, 4)]);
        let theirs = listed(&[("a", 1, 1), ("b", 1, 2), ("d", 1, 2), ("e", 1, 1)]);
        assert_eq!(
            names(&ours, &theirs, 9),
            [
                "different: (id)=(b)",
                "only on the source: (id)=(c)",
                "2 times on the source, 1 on the target: (id)=(d)",
                "only on the target: (id)=(e)"
            ]
        );
        assert_eq!(names(&ours, &theirs, 1).len(), 1);
    }
}
