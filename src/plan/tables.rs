//! How each table is copied: format, chunks, and the SQL for both ends. Pure.

use serde::{Deserialize, Serialize};

use crate::catalog::{Column, Generated, Persistence, Table, Types};
use crate::pg::{QualifiedName, quote_identifier};
use crate::plan::columns::{ColumnPlan, Treatment, treat};
use crate::transfer::relay::Rows;

/// A table to be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePlan {
    /// Its name, on both sides.
    pub name: QualifiedName,
    /// The columns that are copied, in the source's order; generated ones are left out.
    pub columns: Vec<ColumnPlan>,
    /// Stored generated columns: recomputed by the target, compared apart.
    pub generated: Vec<ColumnPlan>,
    /// The primary key's columns, to name differing rows by; empty without one.
    pub key: Vec<String>,
    /// For an extension's configuration table: which rows are the user's.
    pub condition: Option<String>,
    /// Whether a crash of the server empties it.
    pub is_unlogged: bool,
    /// Heap and TOAST on the source, in bytes.
    pub bytes: u64,
    /// Of these the heap.
    pub heap_bytes: u64,
    /// The source's estimate.
    pub estimated_rows: Option<u64>,
    /// The pieces it is copied in; they tile the table.
    pub chunks: Vec<Chunk>,
}

/// A piece of a table: pages from (inclusive) and to (exclusive); `None` is unbounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The first page.
    pub from: Option<u64>,
    /// The page after the last. The last chunk of a table has none, so that nothing can lie behind it.
    pub to: Option<u64>,
}

impl Chunk {
    /// The whole table.
    pub const WHOLE: Chunk = Chunk { from: None, to: None };
}

/// What decides how tables are cut.
#[derive(Debug, Clone, Copy)]
pub struct Cutting {
    /// About how many bytes a chunk has.
    pub chunk_bytes: u64,
    /// Whether the source scans TID ranges without reading the whole table (from 14).
    pub has_tid_range_scan: bool,
}

/// The size of chunks: enough of them to keep every lane busy to the end, none so small that its
/// transaction costs more than its rows, none so large that a retry hurts.
pub fn chunk_bytes(total: u64, jobs: u16) -> u64 {
    const MIB: u64 = 1024 * 1024;
    (total / (u64::from(jobs.max(1)) * 8)).clamp(16 * MIB, 256 * MIB)
}

/// Pieces of a table of `pages` pages and `bytes` bytes (TOAST included).
pub fn cut(pages: u64, bytes: u64, cutting: Cutting) -> Vec<Chunk> {
    let count = if cutting.has_tid_range_scan {
        (bytes / cutting.chunk_bytes.max(1)).clamp(1, pages.max(1))
    } else {
        1
    };
    (0..count)
        .map(|index| Chunk {
            from: (index > 0).then(|| pages * index / count),
            to: (index + 1 < count).then(|| pages * (index + 1) / count),
        })
        .collect()
}

impl TablePlan {
    /// Plans one table of the source.
    pub fn new(table: &Table, types: &Types, cutting: Cutting, same_version: impl Fn(&str) -> bool) -> Self {
        let (stored, copied): (Vec<_>, Vec<_>) =
            table.columns.iter().cloned().partition(|column| column.generated.is_some());
        let stored: Vec<_> =
            stored.into_iter().filter(|column| column.generated == Some(Generated::Stored)).collect();
        let condition =
            table.configuration.as_ref().map(|found| found.condition.clone()).filter(|text| !text.is_empty());
        let is_cut = condition.is_none() && table.access_method.as_deref() == Some("heap");
        TablePlan {
            name: table.name.clone(),
            columns: planned(&copied, types, &same_version),
            generated: planned(&stored, types, &same_version),
            key: table.primary_key.clone(),
            condition,
            is_unlogged: table.persistence == Persistence::Unlogged,
            bytes: table.total_bytes,
            heap_bytes: table.heap_bytes,
            estimated_rows: table.estimated_rows,
            chunks: if is_cut { cut(table.pages, table.total_bytes, cutting) } else { vec![Chunk::WHOLE] },
        }
    }

    /// Why the table travels as text; `None` if it travels in binary.
    pub fn text_reason(&self) -> Option<String> {
        self.columns.iter().find_map(|column| match &column.treatment {
            Treatment::Text(reason) => Some(format!("column {}: {reason}", column.name)),
            _ => None,
        })
    }

    /// What its rows look like on the wire.
    pub fn rows(&self) -> Rows {
        if self.text_reason().is_some() {
            return Rows::Text;
        }
        Rows::Binary {
            columns: self.columns.len(),
            masked: positions(&self.columns, &Treatment::MaskedArray),
            embedded: positions(&self.columns, &Treatment::Embedding),
            is_archived: false,
        }
    }

    /// The source's COPY of one chunk.
    pub fn copy_out(&self, chunk: Chunk) -> String {
        let is_text = self.text_reason().is_some();
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| if is_text { quote_identifier(&column.name) } else { column.binary() })
            .collect();
        let format = if is_text { "text" } else { "binary" };
        format!("COPY ({}) TO STDOUT (FORMAT {format})", self.select(&columns, chunk))
    }

    /// The target's COPY of one chunk. `freeze` needs a table that was truncated in the same transaction.
    pub fn copy_in(&self, freeze: bool) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quote_identifier(&column.name)).collect();
        // A table without columns to copy has no list: `t ()` is no SQL.
        let list = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        let format = if self.text_reason().is_some() { "text" } else { "binary" };
        let freeze = if freeze { ", FREEZE" } else { "" };
        format!("COPY {}{list} FROM STDIN (FORMAT {format}{freeze})", self.name.sql())
    }

    /// The COPY whose rows are hashed, equal on both sides; always binary.
    pub fn copy_hashed(&self, chunk: Chunk) -> String {
        let columns: Vec<String> = self.columns.iter().map(ColumnPlan::hashed).collect();
        format!("COPY ({}) TO STDOUT (FORMAT binary)", self.select(&columns, chunk))
    }

    /// Positions of the hashed columns whose element OID is hashed as zero.
    pub fn masked(&self) -> Vec<usize> {
        positions(&self.columns, &Treatment::MaskedArray)
    }

    /// Counts the table's rows, knowing nothing of chunks.
    pub fn count(&self) -> String {
        format!("SELECT pg_catalog.count(*) FROM ONLY {}{}", self.name.sql(), self.filter(Chunk::WHOLE))
    }

    /// Empties the target's table of what a move has put there; an extension keeps its own rows.
    pub fn empty(&self) -> String {
        match &self.condition {
            None => format!("TRUNCATE ONLY {}", self.name.sql()),
            Some(_) => format!("DELETE FROM ONLY {}{}", self.name.sql(), self.filter(Chunk::WHOLE)),
        }
    }

    fn select(&self, columns: &[String], chunk: Chunk) -> String {
        format!("SELECT {} FROM ONLY {}{}", columns.join(", "), self.name.sql(), self.filter(chunk))
    }

    /// The WHERE clause of a chunk. An extension's condition is stored with its leading WHERE.
    pub(crate) fn filter(&self, chunk: Chunk) -> String {
        if let Some(condition) = &self.condition {
            return format!(" {condition}");
        }
        let bounds: Vec<String> = [(chunk.from, ">="), (chunk.to, "<")]
            .into_iter()
            .filter_map(|(page, operator)| Some(format!("ctid {operator} '({},0)'::tid", page?)))
            .collect();
        if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) }
    }
}

/// How these columns are treated.
pub(crate) fn planned(
    columns: &[Column],
    types: &Types,
    same_version: impl Fn(&str) -> bool,
) -> Vec<ColumnPlan> {
    columns
        .iter()
        .map(|column| ColumnPlan {
            name: column.name.clone(),
            treatment: treat(column.type_oid, types, &same_version),
        })
        .collect()
}

fn positions(columns: &[ColumnPlan], treatment: &Treatment) -> Vec<usize> {
    columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.treatment == *treatment)
        .map(|(position, _)| position)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(columns: &[(&str, Treatment)]) -> TablePlan {
        TablePlan {
            name: QualifiedName::new("public", "Asset"),
            columns: columns
                .iter()
                .map(|(name, treatment)| ColumnPlan { name: (*name).into(), treatment: treatment.clone() })
                .collect(),
            generated: vec![],
            key: vec![],
            condition: None,
            is_unlogged: false,
            bytes: 0,
            heap_bytes: 0,
            estimated_rows: None,
            chunks: vec![Chunk::WHOLE],
        }
    }

    #[test]
    fn binary_and_text_tables_have_their_statements() {
        let binary = table(&[("id", Treatment::Raw), ("embedding", Treatment::Embedding)]);
        let chunk = Chunk { from: Some(10), to: Some(20) };
        assert_eq!(
            binary.copy_out(chunk),
            r#"COPY (SELECT "id", "embedding"::real[] FROM ONLY "public"."Asset" WHERE ctid >= '(10,0)'::tid AND ctid < '(20,0)'::tid) TO STDOUT (FORMAT binary)"#
        );
        assert_eq!(
            binary.copy_in(true),
            r#"COPY "public"."Asset" ("id", "embedding") FROM STDIN (FORMAT binary, FREEZE)"#
        );
        let text = table(&[("id", Treatment::Raw), ("class", Treatment::Text("it is a raw OID".into()))]);
        assert_eq!(
            text.copy_out(Chunk::WHOLE),
            r#"COPY (SELECT "id", "class" FROM ONLY "public"."Asset") TO STDOUT (FORMAT text)"#
        );
        assert_eq!(
            text.copy_hashed(Chunk::WHOLE),
            r#"COPY (SELECT "id", "class"::text FROM ONLY "public"."Asset") TO STDOUT (FORMAT binary)"#
        );
        assert_eq!(text.text_reason().as_deref(), Some("column class: it is a raw OID"));
    }

    #[test]
    fn a_table_without_columns_has_no_list() {
        assert_eq!(table(&[]).copy_in(false), r#"COPY "public"."Asset" FROM STDIN (FORMAT binary)"#);
    }

    #[test]
    fn an_extensions_own_rows_are_never_removed() {
        let mut configuration = table(&[("srid", Treatment::Raw)]);
        assert_eq!(configuration.empty(), r#"TRUNCATE ONLY "public"."Asset""#);
        configuration.condition = Some("WHERE srid > 9000".into());
        assert_eq!(configuration.empty(), r#"DELETE FROM ONLY "public"."Asset" WHERE srid > 9000"#);
    }

    proptest! {
        #[test]
        fn chunks_tile_the_table(pages in 0u64..5_000_000, bytes in 0u64..1 << 40, size in 1u64..1 << 30) {
            let chunks = cut(pages, bytes, Cutting { chunk_bytes: size, has_tid_range_scan: true });
            prop_assert_eq!(chunks.first().and_then(|chunk| chunk.from), None);
            prop_assert_eq!(chunks.last().and_then(|chunk| chunk.to), None);
            for pair in chunks.windows(2) {
                prop_assert!(pair[0].to.is_some() && pair[0].to == pair[1].from);
                prop_assert!(pair[0].from.unwrap_or(0) < pair[0].to.unwrap_or(u64::MAX));
            }
        }
    }
}
