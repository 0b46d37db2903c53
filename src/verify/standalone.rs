//! Comparing two databases by themselves, at any time, without a plan or a run.
//!
//! Takes two endpoints; gives a [`Comparison`] in which everything that could not be compared stands as such.
//! Both sides are only read (but for definitions that are tried on the target and rolled back, see
//! [`redefine`](crate::verify::redefine)). The rows of each side are those of one moment, but the two moments
//! differ: what is written to the source meanwhile can show as a difference, and then a warning says so.

use std::path::PathBuf;
use std::time::Instant;

use crate::catalog::{Catalog, SourceState};
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::pg::{Access, Endpoint, Session};
use crate::plan::{ddl, make};
use crate::schema::{ChildLimits, ClientSearch, ClientTools};
use crate::settings::Choices;
use crate::verify::schema::Held;
use crate::verify::settings::Expected;
use crate::verify::subjects::{self, Reading, Subject, tables_of};
use crate::verify::{
    Comparison, Outcome, Snapshot, VerifyError, extensions, large_objects, schema, sequences, settings,
    source, validity, vector_search,
};

/// How to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// How rows are read and compared.
    pub reading: Reading,
    /// What was rewritten on the way.
    pub choices: Choices,
    /// Where `pg_dump` is, which reads the schemas.
    pub client: ClientSearch,
    /// A private directory for what it writes.
    pub scratch: PathBuf,
}

/// Compares everything. What stops it before the first row is compared is a refusal.
pub async fn verify(source: &Endpoint, target: &Endpoint, options: &Options) -> Result<Comparison, Error> {
    let checked = check(source, target, options).await.map_err(ended(Exit::Refused))?;
    compare(source, target, checked, options).await.map_err(ended(Exit::Resumable))
}

fn ended(exit: Exit) -> impl Fn(VerifyError) -> Error {
    move |error| match error {
        VerifyError::Interrupted => Error::new(Exit::Interrupted, error),
        error => Error::new(exit, error),
    }
}

/// Both sides as they were found, and what of their rows is to be compared.
struct Checked {
    begun: Instant,
    /// The source's, before anything was read.
    state: SourceState,
    ours: Catalog,
    theirs: Catalog,
    subjects: Vec<Subject>,
    snapshots: [Snapshot; 2],
    /// What needs no rows to be told.
    comparison: Comparison,
}

/// Reads both catalogs, and takes the snapshots with their locks.
async fn check(source: &Endpoint, target: &Endpoint, options: &Options) -> Result<Checked, VerifyError> {
    let begun = Instant::now();
    let state = read_state(source).await?;
    let ours = read_catalog(source).await?;
    let theirs = read_catalog(target).await?;
    let copy_encoding = make::copy_encoding(&ours);
    let [encoded_source, encoded_target] = [source, target]
        .map(|endpoint| Endpoint { copy_encoding: copy_encoding.clone(), ..endpoint.clone() });
    let mut comparison = Comparison::default();
    let tables = make::tables(&ours, &theirs, options.reading.jobs, None);
    let subjects = subjects::all(tables, &ours, &theirs, &mut comparison);
    options.reading.events.emit(started(&subjects));
    let snapshots = [
        Snapshot::take(&encoded_source, &tables_of(&ours)).await?,
        Snapshot::take(&encoded_target, &tables_of(&theirs)).await?,
    ];
    Ok(Checked { begun, state, ours, theirs, subjects, snapshots, comparison })
}

async fn compare(
    source: &Endpoint,
    target: &Endpoint,
    checked: Checked,
    options: &Options,
) -> Result<Comparison, VerifyError> {
    let Checked { begun, state, ours, theirs, subjects, snapshots, mut comparison } = checked;
    compare_rows(snapshots, subjects, &theirs, options, &mut comparison).await?;
    let session = Session::open(source, Access::Read, "pg_catalog").await?;
    let values = sequences::values(&session, source.side, &ours.sequences).await?;
    session.close().await;
    compare_objects(target, &values, [&ours, &theirs], Expected::default(), &mut comparison).await?;
    compare_schemas([source, target], [&ours, &theirs], options, &mut comparison).await?;

    let events = &options.reading.events;
    if source::unchanged(&state, &read_state(source).await?, false) != Outcome::Equal {
        events.warn("the source's server was written to meanwhile: differences may come from that");
    }
    events.emit(Event::StageFinished { stage: Stage::Verify, seconds: begun.elapsed().as_secs_f64() });
    Ok(comparison)
}

async fn read_state(endpoint: &Endpoint) -> Result<SourceState, VerifyError> {
    let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
    let state = SourceState::read(&session.client, endpoint.side).await?;
    session.close().await;
    Ok(state)
}

/// Reads a catalog over a session of its own.
pub(crate) async fn read_catalog(endpoint: &Endpoint) -> Result<Catalog, VerifyError> {
    let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
    let catalog = Catalog::read(&session.client, endpoint.side).await?;
    session.close().await;
    Ok(catalog)
}

/// Compares what holds rows, and large objects.
async fn compare_rows(
    snapshots: [Snapshot; 2],
    subjects: Vec<Subject>,
    theirs: &Catalog,
    options: &Options,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let snapshots = subjects::compare(snapshots, subjects, &options.reading, comparison).await?;
    let roles = theirs.roles.iter().map(|role| role.name.clone()).collect();
    let (owner, limit) = (options.choices.owner.as_deref(), options.reading.named_rows);
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

/// Compares everything that holds no rows, but for the schema. The target's sequences are read again, those of the
/// source stand at `values`.
pub async fn compare_objects(
    target: &Endpoint,
    values: &sequences::Values,
    [ours, theirs]: [&Catalog; 2],
    expected: Expected<'_>,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let session = Session::open(target, Access::Read, "pg_catalog").await?;
    let found = sequences::values(&session, target.side, &theirs.sequences).await?;
    session.close().await;
    sequences::compare(values, &found, comparison);
    validity::indexes(ours, theirs, comparison);
    validity::constraints(ours, theirs, comparison);
    extensions::compare(ours, theirs, comparison);
    settings::compare(ours, theirs, expected, comparison);
    vector_search::compare(target, theirs, comparison).await
}

/// Compares the DDL of both sides, as both have it now.
async fn compare_schemas(
    endpoints: [&Endpoint; 2],
    catalogs: [&Catalog; 2],
    options: &Options,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let needed = catalogs.map(|catalog| catalog.server.major().unsigned_abs());
    let schemas = match ClientTools::find(&options.client, needed[0].max(needed[1])).await {
        Err(error) => [Err(error.to_string()), Err(error.to_string())],
        Ok(tools) => {
            let Reading { stall, ref stop, .. } = options.reading;
            let limits = ChildLimits { stall, cancel: stop.clone() };
            let read = |endpoint| schema::read(endpoint, &tools, &options.scratch, &limits);
            let (source, target) = tokio::try_join!(read(endpoints[0]), read(endpoints[1]))?;
            [source, target]
        }
    };
    // Nobody knows which schemas the target had before: those that extensions stand in are taken for them.
    let existing = ddl::existing_schemas(catalogs[1]);
    schema::compare(schemas, catalogs, &existing, &options.choices, (endpoints[1], Held::Tell), comparison)
        .await
}
