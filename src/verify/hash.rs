//! The digest of rows, computed by their own server.
//!
//! Equal bit by bit to [`Digester`](crate::transfer::digest::Digester) over the rows of
//! [`TablePlan::copy_hashed`]. A column's bytes come from `record_send(ROW(column))`, whose result is an int32
//! count of columns, the column's type OID, and then just what COPY BINARY has: int32 length, -1 for NULL, and
//! the bytes of the type's send function (`record_send` in `utils/adt/rowtypes.c`). So no name of a send
//! function has to be known, and domains, arrays and types of extensions are alike.

use tokio_postgres::Row;

use crate::pg::Session;
use crate::plan::columns::{ColumnPlan, Treatment};
use crate::plan::{Chunk, TablePlan};
use crate::transfer::digest::Digest;

/// The four lanes of a row's hash, given as 64 hexadecimal digits: signed, since the server has no unsigned
/// 64-bit type. Their sums are `numeric` and do not overflow.
pub(super) const LANE_SUMS: &str = "\
coalesce(sum(('x' || substr(hash, 1, 16))::bit(64)::bigint), 0)::text AS lane_1, \
coalesce(sum(('x' || substr(hash, 17, 16))::bit(64)::bigint), 0)::text AS lane_2, \
coalesce(sum(('x' || substr(hash, 33, 16))::bit(64)::bigint), 0)::text AS lane_3, \
coalesce(sum(('x' || substr(hash, 49, 16))::bit(64)::bigint), 0)::text AS lane_4";

/// The expression of a row's hash, as 64 hexadecimal digits.
pub(super) fn hash_of<'a>(columns: impl IntoIterator<Item = &'a ColumnPlan>) -> String {
    let bytes: Vec<String> = columns.into_iter().map(bytes_of).collect();
    let bytes = if bytes.is_empty() { "''::bytea".to_owned() } else { bytes.join(" || ") };
    format!("encode(sha256({bytes}), 'hex')")
}

/// The bytes of one column, as in COPY BINARY.
fn bytes_of(column: &ColumnPlan) -> String {
    let value = column.hashed();
    let bytes = format!("substring(record_send(ROW({value})) FROM 9)");
    match column.treatment {
        // The element's OID stands at 8..12 of the value, which comes after its length.
        Treatment::MaskedArray => format!(
            "CASE WHEN {value} IS NULL THEN {bytes} \
             ELSE overlay({bytes} PLACING '\\x00000000'::bytea FROM 13 FOR 4) END"
        ),
        Treatment::Raw | Treatment::Embedding | Treatment::Text(_) => bytes,
    }
}

/// The query that gives the digest of a chunk.
pub fn statement(table: &TablePlan, chunk: Chunk) -> String {
    // OFFSET 0 keeps the subquery from being pulled up, which would hash each row four times.
    format!(
        "SELECT count(*) AS row_count, {LANE_SUMS} FROM (SELECT {} AS hash FROM ONLY {}{} OFFSET 0) AS hashed",
        hash_of(&table.columns),
        table.name.sql(),
        table.filter(chunk)
    )
}

/// Asks the server for the digest of a chunk. The session's `search_path` must be `pg_catalog`.
pub async fn digest(
    session: &Session,
    table: &TablePlan,
    chunk: Chunk,
) -> Result<Digest, tokio_postgres::Error> {
    let row = in_copy_encoding(session, &statement(table, chunk)).await?;
    Ok(row.first().map(digest_of).unwrap_or_default())
}

/// Runs a query while texts are sent in the encoding of COPY, in which they are hashed. Nothing but digits may
/// be in what it returns.
pub(super) async fn in_copy_encoding(
    session: &Session,
    query: &str,
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = session.client.prepare(query).await?;
    session.set_copy_encoding().await?;
    let rows = session.client.query(&statement, &[]).await?;
    session.copy_ended().await?;
    Ok(rows)
}

/// The digest in the columns `row_count` and `lane_1` to `lane_4`.
pub(super) fn digest_of(row: &Row) -> Digest {
    let rows = u64::try_from(row.get::<_, i64>("row_count")).unwrap_or_default();
    let sums = ["lane_1", "lane_2", "lane_3", "lane_4"].map(|lane| reduced(row.get(lane)));
    Digest { rows, sums }
}

/// A signed sum modulo 2^64. Fewer than 2^63 rows of 64 bits each fit an `i128`.
fn reduced(sum: &str) -> u64 {
    let sum: i128 = sum.parse().expect("a sum of bigint is a whole number");
    u64::try_from(sum.rem_euclid(1 << 64)).expect("it was reduced modulo 2^64")
}

/// The average row, in bytes, below which reading rows is cheaper than having them hashed by the server.
///
/// Measured on two cores over loopback: rows of 100 bytes take 1.1 µs each in SQL (most of it the price of the
/// expressions, which does not depend on the width) and 0.4 µs when read and hashed here; rows of 2 kB take
/// 11 µs in SQL, and reading them costs a network's bandwidth besides.
const WIDE_ROW: u64 = 1024;

/// Whether the server hashes the table's rows, rather than sending them to be hashed here.
pub fn is_hashed_by_server(table: &TablePlan) -> bool {
    match table.estimated_rows {
        Some(rows) if rows > 0 => table.bytes / rows >= WIDE_ROW,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_sums_are_reduced() {
        assert_eq!(reduced("-1"), u64::MAX);
        assert_eq!(reduced("18446744073709551617"), 1);
        assert_eq!(reduced("-36893488147419103232"), 0);
    }

    #[test]
    fn each_column_is_hashed_as_it_is_treated() {
        let column = |name: &str, treatment| ColumnPlan { name: name.into(), treatment };
        assert_eq!(hash_of(&[]), "encode(sha256(''::bytea), 'hex')");
        assert_eq!(
            hash_of(&[column("id", Treatment::Raw), column("Class", Treatment::Text(String::new()))]),
            "encode(sha256(substring(record_send(ROW(\"id\")) FROM 9) || \
             substring(record_send(ROW(\"Class\"::text)) FROM 9)), 'hex')"
        );
    }
}
