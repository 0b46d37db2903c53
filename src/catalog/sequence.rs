//! Sequences and their values.
//!
//! Sequences have no snapshot: their values are read apart from the catalog, with [`sequence_values`], and
//! read again before the verdict.

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::CatalogError;
use super::query::{Reader, Record, sql_file};
use super::table::Configuration;
use crate::error::Side;
use crate::pg::{Oid, QualifiedName};

/// A sequence of the user; identity sequences are among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: QualifiedName,
    /// The role that owns it.
    pub owner: String,
    /// `smallint`, `integer` or `bigint`.
    pub data_type: String,
    /// The column that owns it.
    pub owned_by: Option<SequenceColumn>,
    /// For a configuration sequence of an extension: which one.
    pub configuration: Option<Configuration>,
}

/// The column that a sequence goes with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceColumn {
    /// The table.
    pub table: QualifiedName,
    /// The column.
    pub column: String,
    /// Whether it is an identity column, not `OWNED BY`.
    pub is_identity: bool,
}

/// Where a sequence stands. Both fields are needed: (1, false) gives 1 next, (1, true) gives 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// The sequence.
    pub name: QualifiedName,
    /// `last_value`.
    pub last_value: i64,
    /// `is_called`.
    pub is_called: bool,
}

impl Sequence {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("sequences"), &[]).await?;
        records.iter().map(Sequence::decode).collect()
    }

    fn decode(record: &Record) -> Result<Self, CatalogError> {
        let table = record.optional_name("table_schema", "table_name")?;
        let column: Option<String> = record.get("column_name")?;
        let is_identity = record.get("is_identity")?;
        Ok(Sequence {
            oid: record.oid("oid")?,
            name: record.qualified("schema", "name")?,
            owner: record.get("owner")?,
            data_type: record.get("data_type")?,
            owned_by: table.zip(column).map(|(table, column)| SequenceColumn { table, column, is_identity }),
            configuration: Configuration::decode(record)?,
        })
    }
}

/// Sequences that one statement reads. The server parses a UNION ALL by recursion and locks each relation in
/// it, so a statement must not grow with the database.
const BATCH: usize = 500;

/// Reads where sequences stand, in the order of `sequences`, with one statement for every 500.
///
/// `pg_sequence_last_value` would lose `is_called`, so the sequences themselves are read. That needs SELECT on
/// each, which their owner has. Call it outside a transaction: inside one, a lock on each sequence is kept to
/// its end, and the values are as of now all the same.
pub async fn sequence_values(
    client: &Client,
    side: Side,
    sequences: &[Sequence],
) -> Result<Vec<SequenceValue>, CatalogError> {
    let reader = Reader { client, side };
    let mut values = Vec::with_capacity(sequences.len());
    for batch in sequences.chunks(BATCH) {
        let records = reader.query("sequence_values", &values_statement(batch), &[]).await?;
        for record in records {
            let position: i32 = record.get("position")?;
            let sequence = usize::try_from(position).ok().and_then(|position| batch.get(position));
            values.push(SequenceValue {
                name: sequence.ok_or_else(|| record.shape("position", position))?.name.clone(),
                last_value: record.get("last_value")?,
                is_called: record.get("is_called")?,
            });
        }
    }
    Ok(values)
}

/// One statement that reads all sequences of a batch; a relation cannot be a parameter. `position` is the
/// place in the batch.
fn values_statement(batch: &[Sequence]) -> String {
    let selects: Vec<String> = batch
        .iter()
        .enumerate()
        .map(|(position, sequence)| {
            format!("SELECT {position} AS position, last_value, is_called FROM {}", sequence.name.sql())
        })
        .collect();
    format!("{} ORDER BY position", selects.join(" UNION ALL "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(name: &str) -> Sequence {
        Sequence {
            oid: Oid(16384),
            name: QualifiedName::new("public", name),
            owner: "app".to_owned(),
            data_type: "bigint".to_owned(),
            owned_by: None,
            configuration: None,
        }
    }

    #[test]
    fn one_statement_reads_a_batch_and_quotes_each_name() {
        assert_eq!(
            values_statement(&[sequence("a"), sequence("b\"; DROP TABLE x; --")]),
            "SELECT 0 AS position, last_value, is_called FROM \"public\".\"a\" \
             UNION ALL SELECT 1 AS position, last_value, is_called \
             FROM \"public\".\"b\"\"; DROP TABLE x; --\" ORDER BY position"
        );
    }
}
