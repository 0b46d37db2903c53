//! Comparing two databases by themselves, at any time, without a plan or a run.
//!
//! Takes two endpoints; gives a [`Comparison`] in which everything that could not be compared stands as such.
//! Both sides are only read. The rows of each side are those of one moment, but the two moments differ:
//! what is written to the source meanwhile shows as a difference.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, TableKind};
use crate::error::Side;
use crate::event::{Event, Events, Stage};
use crate::pg::{Access, Endpoint, QualifiedName, Session};
use crate::plan::{TablePlan, make};
use crate::verify::read::{self, Method, Read, Request};
use crate::verify::{
    Aspect, Comparison, Outcome, Snapshot, VerifyError, extensions, generated, large_objects, locate, rows,
    sequences, settings, validity, vector_search,
};

/// How to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// How rows are compared.
    pub method: Method,
    /// How many lanes read rows.
    pub jobs: u16,
    /// The role that got everything, where owners were not kept.
    pub owner: Option<String>,
    /// How many differing rows of a table are named at most.
    pub named_rows: usize,
    /// How long a stream may stand still.
    pub stall: Duration,
    /// Who listens.
    pub events: Events,
    /// Cancelled to stop.
    pub stop: CancellationToken,
}

/// Compares everything.
pub async fn verify(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
) -> Result<Comparison, VerifyError> {
    let begun = Instant::now();
    let sessions = [
        Session::open(source, Access::Read, "pg_catalog").await?,
        Session::open(target, Access::Read, "pg_catalog").await?,
    ];
    let ours = Catalog::read(&sessions[0].client, Side::Source).await?;
    let theirs = Catalog::read(&sessions[1].client, Side::Target).await?;
    let encoding = ours.database.encoding.as_str();
    let copy_encoding = (encoding != "UTF8").then(|| encoding.to_owned());
    let endpoints = [source, target]
        .map(|endpoint| Endpoint { copy_encoding: copy_encoding.clone(), ..endpoint.clone() });

    let mut comparison = Comparison::default();
    compare_rows(&endpoints, &ours, &theirs, options, &mut comparison).await?;
    let values = [
        sequences::values(&sessions[0], Side::Source, &ours.sequences).await?,
        sequences::values(&sessions[1], Side::Target, &theirs.sequences).await?,
    ];
    sequences::compare(&values[0], &values[1], &mut comparison);
    validity::indexes(&ours, &theirs, &mut comparison);
    validity::constraints(&ours, &theirs, &mut comparison);
    extensions::compare(&ours, &theirs, &mut comparison);
    settings::compare(&ours, &theirs, settings::Expected::default(), &mut comparison);
    vector_search::compare(target, &theirs, &mut comparison).await?;
    for session in sessions {
        session.close().await;
    }
    let stage = Stage::Verify;
    options.events.emit(Event::StageFinished { stage, seconds: begun.elapsed().as_secs_f64() });
    Ok(comparison)
}

/// Compares tables, generated columns and materialised views.
async fn compare_rows(
    endpoints: &[Endpoint; 2],
    ours: &Catalog,
    theirs: &Catalog,
    options: &Options,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let planned = make::tables(ours, theirs, options.jobs, None);
    let tables = rows::matched(planned, ours, theirs, comparison);
    let generated = generated::columns(&tables);
    let views = generated::matched_views(ours, theirs, comparison);
    let aspects: Vec<Aspect> = [
        (Aspect::Rows, tables.len()),
        (Aspect::GeneratedColumns, generated.len()),
        (Aspect::MaterializedView, views.len()),
    ]
    .into_iter()
    .flat_map(|(aspect, count)| std::iter::repeat_n(aspect, count))
    .collect();
    let all = [tables, generated, views].concat();
    options.events.emit(Event::StageStarted {
        stage: Stage::Verify,
        items: Some(2 * all.len() as u64),
        bytes: Some(2 * all.iter().map(|table| table.bytes).sum::<u64>()),
        rows: all.iter().map(|table| table.estimated_rows.map(|rows| 2 * rows)).sum(),
    });
    let names = |catalog: &Catalog| -> Vec<QualifiedName> {
        let ordinary = catalog.tables.iter().filter(|table| table.kind == TableKind::Ordinary);
        ordinary.map(|table| table.name.clone()).collect()
    };
    let [source, target] = endpoints;
    let request = Request {
        snapshots: [
            Snapshot::take(source, &names(ours)).await?,
            Snapshot::take(target, &names(theirs)).await?,
        ],
        tables: all,
        method: options.method,
        lanes: usize::from(options.jobs),
        events: options.events.clone(),
        stall: options.stall,
        stop: options.stop.clone(),
    };
    let (request, found) = read::read(request).await?;
    let sessions = [request.snapshots[0].session().await?, request.snapshots[1].session().await?];
    for ((table, read), aspect) in request.tables.iter().zip(&found).zip(aspects) {
        let mut outcome = judged(table, aspect, options.method, read, comparison);
        if let (Outcome::Different { rows, .. }, [Ok(ours), Ok(theirs)]) = (&mut outcome, read) {
            let most = ours.rows.max(theirs.rows);
            *rows = locate::locate([&sessions[0], &sessions[1]], table, most, options.named_rows).await?;
        }
        comparison.push(table.name.to_string(), aspect, outcome);
    }
    let roles = theirs.roles.iter().map(|role| role.name.clone()).collect();
    let [source, target] = &sessions;
    large_objects::compare(
        [source, target],
        options.owner.as_deref(),
        &roles,
        options.named_rows,
        comparison,
    )
    .await?;
    for session in sessions {
        session.close().await;
    }
    for snapshot in request.snapshots {
        snapshot.release().await;
    }
    Ok(())
}

fn judged(
    table: &TablePlan,
    aspect: Aspect,
    method: Method,
    read: &[Read; 2],
    comparison: &mut Comparison,
) -> Outcome {
    if aspect != Aspect::Rows {
        return generated::judge(table, method, read);
    }
    let (outcome, result) = rows::judge(table, method, read);
    comparison.tables.extend(result);
    outcome
}
