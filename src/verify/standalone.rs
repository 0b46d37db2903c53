//! Comparing two databases by themselves, at any time, without a plan or a run.
//!
//! Takes two endpoints; gives a [`Comparison`] in which everything that could not be compared stands as such.
//! Both sides are only read (but for definitions that are tried on the target and rolled back, see
//! [`redefine`](crate::verify::redefine)). The rows of each side are those of one moment, but the two moments
//! differ: what is written to the source meanwhile can show as a difference, and then a warning says so.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::catalog::{Catalog, TableKind};
use crate::event::{Event, Stage};
use crate::journal::SourceState;
use crate::pg::{Access, Endpoint, QualifiedName, Session};
use crate::plan::{VectorIndexChoice, ddl, make};
use crate::schema::{ChildEndpoint, ChildLimits, ClientSearch, ClientTools, DumpRequest, Entry, dump_schema};
use crate::verify::settings::Expected;
use crate::verify::subjects::{self, Reading, Subject};
use crate::verify::{
    Aspect, Comparison, Outcome, Snapshot, TableResult, VerifyError, extensions, large_objects, schema,
    sequences, settings, source, validity, vector_search,
};

/// How to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// How rows are read and compared.
    pub reading: Reading,
    /// The role that got everything, where owners were not kept.
    pub owner: Option<String>,
    /// Which vector indexes the target was to get.
    pub vector_index: VectorIndexChoice,
    /// Where `pg_dump` is, which reads the schemas, and a private directory without `source.dump` and `target.dump` for it to write
    /// these; without it the schemas are not compared.
    pub clients: Option<(ClientSearch, PathBuf)>,
}

/// Compares everything.
pub async fn verify(
    source: &Endpoint,
    target: &Endpoint,
    options: &Options,
) -> Result<Comparison, VerifyError> {
    let begun = Instant::now();
    let ours = read_catalog(source).await?;
    let theirs = read_catalog(target).await?;
    let encoding = ours.database.encoding.as_str();
    let copy_encoding = (encoding != "UTF8").then(|| encoding.to_owned());
    let endpoints = [source, target]
        .map(|endpoint| Endpoint { copy_encoding: copy_encoding.clone(), ..endpoint.clone() });

    let mut comparison = Comparison::default();
    compare_rows(&endpoints, &ours, &theirs, options, &mut comparison).await?;
    compare_objects([source, target], &ours, &theirs, Expected::default(), &mut comparison).await?;
    compare_schemas([source, target], &ours, &theirs, options, &mut comparison).await?;

    let events = &options.reading.events;
    let later = read_catalog(source).await?;
    if source::unchanged(&state(&ours), &state(&later), false) != Outcome::Equal {
        events.warn("the source's server was written to meanwhile: differences may come from that");
    }
    events.emit(Event::StageFinished { stage: Stage::Verify, seconds: begun.elapsed().as_secs_f64() });
    Ok(comparison)
}

async fn read_catalog(endpoint: &Endpoint) -> Result<Catalog, VerifyError> {
    let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
    let catalog = Catalog::read(&session.client, endpoint.side).await?;
    session.close().await;
    Ok(catalog)
}

fn state(catalog: &Catalog) -> SourceState {
    SourceState {
        system_identifier: catalog.server.system_identifier.clone(),
        snapshot: catalog.snapshot.clone(),
    }
}

/// Compares what holds rows, and large objects.
async fn compare_rows(
    endpoints: &[Endpoint; 2],
    ours: &Catalog,
    theirs: &Catalog,
    options: &Options,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let tables = make::tables(ours, theirs, options.reading.jobs, None);
    let subjects = subjects::all(tables, ours, theirs, comparison);
    options.reading.events.emit(started(&subjects));
    let names = |catalog: &Catalog| -> Vec<QualifiedName> {
        let ordinary = catalog.tables.iter().filter(|table| table.kind == TableKind::Ordinary);
        ordinary.map(|table| table.name.clone()).collect()
    };
    let [source, target] = endpoints;
    let snapshots =
        [Snapshot::take(source, &names(ours)).await?, Snapshot::take(target, &names(theirs)).await?];
    let snapshots = subjects::compare(snapshots, subjects, &options.reading, comparison).await?;
    let roles = theirs.roles.iter().map(|role| role.name.clone()).collect();
    let (owner, limit) = (options.owner.as_deref(), options.reading.named_rows);
    let sessions = [snapshots[0].session().await?, snapshots[1].session().await?];
    large_objects::compare([&sessions[0], &sessions[1]], owner, &roles, limit, comparison).await?;
    for session in sessions {
        session.close().await;
    }
    for snapshot in snapshots {
        snapshot.release().await;
    }
    Ok(())
}

/// Each side is read.
fn started(subjects: &[Subject]) -> Event {
    let tables = || subjects.iter().map(|subject| &subject.table);
    Event::StageStarted {
        stage: Stage::Verify,
        items: Some(2 * subjects.len() as u64),
        bytes: Some(2 * tables().map(|table| table.bytes).sum::<u64>()),
        rows: tables().map(|table| table.estimated_rows.map(|rows| 2 * rows)).sum(),
    }
}

/// Compares everything that holds no rows, but for the schema. Both catalogs are as of now; sequences are read
/// again.
pub async fn compare_objects(
    endpoints: [&Endpoint; 2],
    ours: &Catalog,
    theirs: &Catalog,
    expected: Expected<'_>,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let mut values = Vec::with_capacity(2);
    for (endpoint, catalog) in endpoints.into_iter().zip([ours, theirs]) {
        let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
        values.push(sequences::values(&session, endpoint.side, &catalog.sequences).await?);
        session.close().await;
    }
    sequences::compare(&values[0], &values[1], comparison);
    validity::indexes(ours, theirs, comparison);
    validity::constraints(ours, theirs, comparison);
    extensions::compare(ours, theirs, comparison);
    settings::compare(ours, theirs, expected, comparison);
    vector_search::compare(endpoints[1], theirs, comparison).await
}

/// Compares the DDL of both sides, as both have it now.
pub async fn compare_schemas(
    endpoints: [&Endpoint; 2],
    ours: &Catalog,
    theirs: &Catalog,
    options: &Options,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let Some((search, directory)) = &options.clients else {
        comparison.push(
            "schema",
            Aspect::Schema,
            Outcome::not_compared("there is no pg_dump to read it with"),
        );
        return Ok(());
    };
    let needed = ours.server.major().max(theirs.server.major()).unsigned_abs();
    let tools = match ClientTools::find(search, needed).await {
        Ok(tools) => tools,
        Err(error) => {
            comparison.push("schema", Aspect::Schema, Outcome::not_compared(error.to_string()));
            return Ok(());
        }
    };
    let [source, target] = endpoints;
    let dumps = tokio::try_join!(
        dumped(source, &tools, directory, options),
        dumped(target, &tools, directory, options)
    );
    let (expected, found) = match dumps {
        Ok(dumps) => dumps,
        Err(_) if options.reading.stop.is_cancelled() => return Err(VerifyError::Interrupted),
        // pg_dump reads everything or nothing: one table that it may not lock is enough.
        Err(VerifyError::Dump(error)) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            comparison.push("schema", Aspect::Schema, Outcome::not_compared(format!("{error}{cause}")));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let counted = |table: &TableResult| (table.table.clone(), table.rows[0]);
    let counts: HashMap<String, u64> = comparison.tables.iter().map(counted).collect();
    let vector_rows = ours
        .tables
        .iter()
        .filter_map(|table| Some((table.name.clone(), *counts.get(&table.name.to_string())?)))
        .collect();
    let input = ddl::Input {
        source: ours,
        target: theirs,
        tables: &[],
        vector_rows: &vector_rows,
        owner: options.owner.as_deref(),
        vector_index: options.vector_index,
        // These decide how a statement is carried out, not what it says.
        has_admin: true,
        index_memory: 0,
        jobs: options.reading.jobs,
        setting_contexts: &BTreeMap::new(),
    };
    schema::check(&expected, &found, &input, target, comparison).await
}

/// The entries of one side.
async fn dumped(
    endpoint: &Endpoint,
    tools: &ClientTools,
    directory: &Path,
    options: &Options,
) -> Result<Vec<Entry>, VerifyError> {
    let (side, archive) = (endpoint.side, directory.join(format!("{}.dump", endpoint.side)));
    let child = ChildEndpoint {
        dbname_keywords: endpoint.conninfo.keyword_string(None),
        passfile_line: endpoint.conninfo.passfile_line()?,
    };
    let limits = ChildLimits { stall: options.reading.stall, cancel: options.reading.stop.clone() };
    let request =
        DumpRequest { tools, endpoint: &child, snapshot: None, archive: &archive, limits: &limits, side };
    Ok(dump_schema(&request).await?.entries)
}
