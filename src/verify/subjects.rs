//! Everything that holds rows, compared in two snapshots: tables, generated columns, materialised views.
//!
//! A run compares its tables by the digests of the copy and has only the rest read here; by itself, a comparison
//! reads everything. An archive holds digests of the rest, for the target that it is restored into.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, TableKind};
use crate::error::Side;
use crate::event::Events;
use crate::pg::{Endpoint, QualifiedName};
use crate::plan::{TablePlan, make};
use crate::verify::read::{self, Method, Read, Request};
use crate::verify::{Aspect, Comparison, Outcome, Snapshot, VerifyError, generated, locate, rows};

/// How rows are read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// How they are compared.
    pub method: Method,
    /// How many lanes, each with a session a side.
    pub jobs: u16,
    /// How many differing rows of a table are named at most.
    pub named_rows: usize,
    /// How long a stream may stand still.
    pub stall: Duration,
    /// Who listens.
    pub events: Events,
    /// Cancelled to stop.
    pub stop: CancellationToken,
}

/// Something that holds rows, and what of it is compared.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What is compared: rows, generated columns or a materialised view.
    pub aspect: Aspect,
    /// Its columns, key and chunks.
    pub table: TablePlan,
}

/// What the target computed again. `tables` are those that both sides have. What only one side has becomes a check.
pub fn recomputed(
    tables: &[TablePlan],
    source: &Catalog,
    target: &Catalog,
    comparison: &mut Comparison,
) -> Vec<Subject> {
    let of = |aspect| move |table| Subject { aspect, table };
    let columns = generated::columns(tables).into_iter().map(of(Aspect::GeneratedColumns));
    let views = generated::matched_views(source, target, comparison);
    columns.chain(views.into_iter().map(of(Aspect::MaterializedView))).collect()
}

/// What any target will compute again, planned without knowing it: each table's columns in the order of the
/// tables, then the materialised views that hold rows.
pub fn archived(source: &Catalog, jobs: u16) -> Vec<Subject> {
    let columns = generated::columns(&make::archived_tables(source, jobs, None)).into_iter();
    let views = make::archived_views(source).into_iter();
    let columns = columns.map(|table| Subject { aspect: Aspect::GeneratedColumns, table });
    columns.chain(views.map(|table| Subject { aspect: Aspect::MaterializedView, table })).collect()
}

/// Reads tables on one side only, in a snapshot that the caller holds.
pub async fn read_one_side(
    endpoint: &Endpoint,
    snapshot: &str,
    tables: Vec<TablePlan>,
    reading: &Reading,
) -> Result<Vec<Read>, VerifyError> {
    // The other side has no part, so nobody asks its snapshot.
    let held = || Snapshot::held_elsewhere(endpoint, snapshot);
    let request = request([held(), held()], tables, vec![endpoint.side], reading);
    let (_, found) = read::read(request).await?;
    let of_side = |[source, target]: [Read; 2]| if endpoint.side == Side::Source { source } else { target };
    Ok(found.into_iter().map(of_side).collect())
}

/// How tables are read with this reading.
pub(crate) fn request(
    snapshots: [Snapshot; 2],
    tables: Vec<TablePlan>,
    sides: Vec<Side>,
    reading: &Reading,
) -> Request {
    Request {
        snapshots,
        tables,
        sides,
        method: reading.method,
        lanes: usize::from(reading.jobs),
        events: reading.events.clone(),
        stall: reading.stall,
        stop: reading.stop.clone(),
    }
}

/// The tables that hold rows of their own.
pub(crate) fn tables_of(catalog: &Catalog) -> Vec<QualifiedName> {
    let ordinary = catalog.tables.iter().filter(|table| table.kind == TableKind::Ordinary);
    ordinary.map(|table| table.name.clone()).collect()
}

/// Tables and what the target computed again.
pub fn all(
    tables: Vec<TablePlan>,
    source: &Catalog,
    target: &Catalog,
    comparison: &mut Comparison,
) -> Vec<Subject> {
    let tables = rows::matched(tables, source, target, comparison);
    let recomputed = recomputed(&tables, source, target, comparison);
    let rows = tables.into_iter().map(|table| Subject { aspect: Aspect::Rows, table });
    rows.chain(recomputed).collect()
}

/// Reads all subjects on both sides, and names the rows of those that differ. The snapshots come back.
pub async fn compare(
    snapshots: [Snapshot; 2],
    subjects: Vec<Subject>,
    reading: &Reading,
    comparison: &mut Comparison,
) -> Result<[Snapshot; 2], VerifyError> {
    let (aspects, tables): (Vec<Aspect>, Vec<TablePlan>) =
        subjects.into_iter().map(|subject| (subject.aspect, subject.table)).unzip();
    let sides = vec![Side::Source, Side::Target];
    let (request, found) = read::read(request(snapshots, tables, sides, reading)).await?;
    for ((table, read), aspect) in request.tables.iter().zip(&found).zip(aspects) {
        let mut outcome = if aspect == Aspect::Rows {
            let (outcome, result) = rows::judge(table, reading.method, read);
            comparison.tables.extend(result);
            outcome
        } else {
            generated::judge(table, reading.method, read)
        };
        if let (Outcome::Different { rows, .. }, [Ok(ours), Ok(theirs)]) = (&mut outcome, read) {
            let most = ours.rows.max(theirs.rows);
            *rows = locate::in_snapshots(&request.snapshots, table, most, reading.named_rows).await?;
        }
        comparison.push(table.name.to_string(), aspect, outcome);
    }
    Ok(request.snapshots)
}
