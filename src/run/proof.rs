//! The comparison at the end of a run: what the lanes found, and everything beside the rows.
//!
//! At its end it looks whether the source stayed as it was in the snapshot. If transaction ids were given out on
//! its server since (by an application, but also by autovacuum, or in another database), every row is read and
//! hashed once more: equal digests prove what the ids cannot.

use std::collections::BTreeSet;

use super::{Checked, Context, Source, resume};
use crate::catalog::{Catalog, SequenceValue, SourceState};
use crate::error::{Error, Exit, Side};
use crate::event::Stage;
use crate::journal::{RunDirectory, SCHEMA};
use crate::pg::{Access, Endpoint, Session};
use crate::plan::{Plan, TablePlan};
use crate::schema::Entry;
use crate::transfer::lane::Found;
use crate::transfer::snapshot::Snapshot;
use crate::verify::read::{self, Method};
use crate::verify::schema::{Held, Schema};
use crate::verify::subjects::{self, Reading, tables_of};
use crate::verify::{
    self, Aspect, Comparison, Outcome, TableResult, Verdict, VerifyError, large_objects, locate, sequences,
    settings, source,
};

/// How many differing rows of a table are named.
pub(super) const NAMED_ROWS: usize = 10;

/// What was moved, and what is known of both sides since.
struct Moved<'a> {
    checked: &'a Checked,
    plan: &'a Plan,
    /// What the lanes counted and hashed.
    found: &'a Found,
    /// Where the source's sequences stood when the target's were set.
    sequences: sequences::Values,
    snapshot: &'a Snapshot,
    /// The source's DDL that was planned from.
    schema: &'a [Entry],
    directory: &'a RunDirectory,
}

impl Context<'_> {
    /// Compares both sides, and looks whether the source stayed as it was.
    pub(super) async fn verify(
        &self,
        directory: &RunDirectory,
        checked: &Checked,
        plan: &Plan,
        (found, values): (&Found, &[SequenceValue]),
        holders: (&Snapshot, &Session),
    ) -> Result<Comparison, Error> {
        let snapshot = holders.0;
        let schema: Vec<Entry> =
            directory.read_document(SCHEMA).map_err(|error| Error::new(Exit::Resumable, error))?;
        let work = async {
            let mut comparison = Comparison::default();
            // An archive does not change: its hash was compared.
            if let Source::Archive(stored) = &self.source {
                self.compare_stored(stored, checked, plan, found, directory, &mut comparison).await?;
                return Ok(comparison);
            }
            let sequences = sequences::known(values);
            let moved = Moved { checked, plan, found, sequences, snapshot, schema: &schema, directory };
            self.compare(&moved, &mut comparison).await?;
            let outcome = self.source_unchanged(&moved).await?;
            comparison.push("source", Aspect::SourceUnchanged, outcome);
            Ok(comparison)
        };
        let work = async {
            work.await.map_err(|error| match error {
                VerifyError::Interrupted => Error::new(Exit::Interrupted, super::Interrupted),
                error => Error::new(Exit::Resumable, error),
            })
        };
        Box::pin(self.stage(Stage::Verify, self.holding(holders, work))).await
    }

    async fn compare(&self, moved: &Moved<'_>, comparison: &mut Comparison) -> Result<(), VerifyError> {
        let theirs = self.target_catalog().await?;
        let ((), found) = tokio::try_join!(
            self.compare_contents(moved, &theirs, comparison),
            self.target_schema(moved.checked, moved.directory)
        )?;
        let catalogs = [&moved.snapshot.catalog, &theirs];
        self.compare_schema(moved.plan, moved.schema.to_owned(), found, catalogs, comparison).await
    }

    /// Everything but the schema.
    async fn compare_contents(
        &self,
        moved: &Moved<'_>,
        theirs: &Catalog,
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let Moved { plan, found, snapshot, .. } = moved;
        let ours = &snapshot.catalog;
        let snapshots = [
            verify::Snapshot::held_elsewhere(&encoded(self.source.server(), plan), &snapshot.id),
            verify::Snapshot::take(&encoded(&self.target, plan), &tables_of(theirs)).await?,
        ];
        for (index, table) in plan.tables.iter().enumerate() {
            let mut outcome = judge(table, found, index, comparison);
            if let Outcome::Different { rows, .. } = &mut outcome {
                let most = found.copied[index].rows.max(found.read_back[index].rows);
                *rows = locate::in_snapshots(&snapshots, table, most, NAMED_ROWS).await?;
            }
            comparison.push(table.name.to_string(), Aspect::Rows, outcome);
        }
        let recomputed = subjects::recomputed(&plan.tables, ours, theirs, comparison);
        let snapshots = subjects::compare(snapshots, recomputed, &self.reading(plan), comparison).await?;
        self.compare_large_objects(&snapshots, theirs, comparison).await?;
        for snapshot in snapshots {
            snapshot.release().await;
        }
        let expected = settings::Expected {
            before: plan.target_database.as_ref(),
            held: &["default_transaction_read_only"],
        };
        verify::compare_objects(&self.target, &moved.sequences, [ours, theirs], expected, comparison).await
    }

    /// The target's DDL as it is now.
    pub(super) async fn target_schema(
        &self,
        checked: &Checked,
        directory: &RunDirectory,
    ) -> Result<Schema, VerifyError> {
        let tools = checked.tools();
        verify::schema::read(&self.target, tools, directory.path(), &self.limits()).await
    }

    /// The source's DDL, as it was planned from, with the target's.
    pub(super) async fn compare_schema(
        &self,
        plan: &Plan,
        source: Vec<Entry>,
        found: Schema,
        catalogs: [&Catalog; 2],
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let (existing, choices) = (&plan.existing_schemas, &self.choices);
        let masked = |entries: Vec<Entry>| entries.into_iter().map(Entry::masked).collect();
        let schemas = [Ok(masked(source)), found.map(masked)];
        verify::schema::compare(schemas, catalogs, existing, choices, (&self.target, Held::Stop), comparison)
            .await
    }

    async fn compare_large_objects(
        &self,
        snapshots: &[verify::Snapshot; 2],
        theirs: &Catalog,
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let roles: BTreeSet<String> = theirs.roles.iter().map(|role| role.name.clone()).collect();
        let sessions = [snapshots[0].session().await?, snapshots[1].session().await?];
        let owner = self.choices.owner.as_deref();
        large_objects::compare([&sessions[0], &sessions[1]], owner, &roles, NAMED_ROWS, comparison).await?;
        for session in sessions {
            session.close().await;
        }
        Ok(())
    }

    /// Whether the source is as it was: by its sequences, which move without a transaction id, and by its
    /// transaction ids, or else by its contents.
    async fn source_unchanged(&self, moved: &Moved<'_>) -> Result<Outcome, VerifyError> {
        let Moved { plan, found, snapshot, .. } = moved;
        let session = Session::open(self.source.server(), Access::Read, "pg_catalog").await?;
        let state = SourceState::read(&session.client, Side::Source).await?;
        let values = sequences::values(&session, Side::Source, &snapshot.catalog.sequences).await?;
        if let Some(sequence) = sequences::first_moved(&moved.sequences, &values) {
            session.close().await;
            return Ok(
                self.written(format!("the source was written meanwhile: sequence {sequence} has moved"))
            );
        }
        let outcome = source::unchanged(&snapshot.state, &state, self.settings.accept_writes);
        if outcome == Outcome::Equal || self.settings.accept_writes {
            session.close().await;
            return Ok(outcome);
        }
        self.events.note("the source may have been written since its snapshot; reading and hashing it again");
        let now = Catalog::read(&session.client, Side::Source).await?;
        session.close().await;
        if let Some(detail) = self.schema_changed(moved).await? {
            return Ok(self.written(detail));
        }
        let theirs = self.target_catalog().await?;
        let (source, target) = (encoded(self.source.server(), plan), encoded(&self.target, plan));
        let later = [
            verify::Snapshot::take(&source, &tables_of(&now)).await?,
            verify::Snapshot::take(&target, &tables_of(&theirs)).await?,
        ];
        let reading = Reading { method: Method::Digests, ..self.reading(plan) };
        let request = subjects::request(later, plan.tables.clone(), vec![Side::Source], &reading);
        let (request, read) = read::read(request).await?;
        let changed = plan
            .tables
            .iter()
            .zip(&found.copied)
            .zip(&read)
            .find(|((_, copied), [ours, _])| ours.as_ref().ok() != Some(copied));
        let mut beside = Comparison::default();
        self.compare_large_objects(&request.snapshots, &theirs, &mut beside).await?;
        for snapshot in request.snapshots {
            snapshot.release().await;
        }
        let tables = |catalog: &Catalog| tables_of(catalog).into_iter().collect::<BTreeSet<_>>();
        Ok(match changed {
            Some(((table, _), _)) => {
                self.written(format!("the source was written since its snapshot: {} has changed", table.name))
            }
            None if tables(&now) != tables(&snapshot.catalog) => {
                self.written("the source's tables are not those of its snapshot any more".into())
            }
            None if beside.verdict() != Verdict::Equal => {
                self.written("the source's large objects have changed since its snapshot".into())
            }
            None => Outcome::Equal,
        })
    }

    /// What has become of the source's schema, if it is not as it was planned from.
    async fn schema_changed(&self, moved: &Moved<'_>) -> Result<Option<String>, VerifyError> {
        let tools = moved.checked.tools();
        let now =
            verify::schema::read(self.source.server(), tools, moved.directory.path(), &self.limits()).await?;
        Ok(match now {
            Ok(now) => {
                resume::first_change(moved.schema, &now.into_iter().map(Entry::masked).collect::<Vec<_>>())
                    .map(|changed| format!("the source's schema was changed meanwhile: {changed}"))
            }
            Err(reason) => Some(format!("the source's schema could not be read again: {reason}")),
        })
    }

    fn written(&self, detail: String) -> Outcome {
        source::written(detail, self.settings.accept_writes)
    }

    pub(super) async fn target_catalog(&self) -> Result<Catalog, VerifyError> {
        verify::read_catalog(&self.target).await
    }

    pub(super) fn reading(&self, plan: &Plan) -> Reading {
        Reading {
            method: Method::Reread,
            jobs: plan.jobs,
            named_rows: NAMED_ROWS,
            stall: self.settings.connections.stall,
            events: self.events.clone(),
            stop: self.stop.clone(),
        }
    }
}

pub(super) fn encoded(endpoint: &Endpoint, plan: &Plan) -> Endpoint {
    Endpoint { copy_encoding: plan.copy_encoding.clone(), ..endpoint.clone() }
}

/// Three numbers must be one: what was copied, what the source counts, what the target holds.
pub(super) fn judge(table: &TablePlan, found: &Found, index: usize, comparison: &mut Comparison) -> Outcome {
    let (copied, read_back) = (found.copied[index], found.read_back[index]);
    comparison.tables.push(TableResult {
        table: table.name.to_string(),
        rows: [copied.rows, read_back.rows],
        checksums: Some([copied.checksum(), read_back.checksum()]),
    });
    match found.counted[index] {
        None => Outcome::not_compared("the source's rows were not counted"),
        Some(counted) if counted != copied.rows => {
            Outcome::different(format!("{} rows were copied, the source counts {counted}", copied.rows))
        }
        Some(_) if copied.rows != read_back.rows => Outcome::different(format!(
            "{} rows on the source, {} on the target",
            copied.rows, read_back.rows
        )),
        Some(_) if copied != read_back => Outcome::different("equal numbers of rows with different contents"),
        Some(_) => Outcome::Equal,
    }
}
