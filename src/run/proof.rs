//! The comparison at the end of a run: what the lanes found, and everything beside the rows.
//!
//! At its end it looks whether the source stayed as it was in the snapshot. If transaction ids were given out on
//! its server since (by an application, but also by autovacuum, or in another database), every row is read and
//! hashed once more: equal digests prove what the ids cannot.

use std::collections::BTreeSet;

use super::prepare::SCHEMA;
use super::{Checked, Context, Source, resume};
use crate::catalog::{Catalog, TableKind};
use crate::error::{Error, Exit, Side};
use crate::event::Stage;
use crate::journal::{RunDirectory, SourceState};
use crate::pg::{Access, Endpoint, QualifiedName, Session};
use crate::plan::{Plan, TablePlan};
use crate::schema::Entry;
use crate::transfer::lane::Found;
use crate::transfer::snapshot::Snapshot;
use crate::verify::read::{self, Method, Request};
use crate::verify::subjects::{self, Reading};
use crate::verify::{
    self, Aspect, Comparison, Outcome, TableResult, Verdict, VerifyError, large_objects, locate, settings,
    source,
};

/// How many differing rows of a table are named.
const NAMED_ROWS: usize = 10;

impl Context<'_> {
    /// Compares both sides, releases the snapshot, and looks whether the source stayed as it was.
    pub(super) async fn verify(
        &self,
        directory: &RunDirectory,
        checked: &Checked,
        plan: &Plan,
        found: &Found,
        snapshot: Snapshot,
    ) -> Result<Comparison, Error> {
        let before: Vec<Entry> =
            directory.read_document(SCHEMA).map_err(|error| Error::new(Exit::Resumable, error))?;
        // An archive does not change: its hash was compared.
        let now = match &self.source {
            Source::Server(_) => Some(self.entries(checked, &snapshot, directory.path()).await?),
            Source::Archive(_) => None,
        };
        let work = async {
            let mut comparison = Comparison::default();
            if let Source::Archive(stored) = &self.source {
                self.compare_stored(stored, checked, plan, found, directory, &mut comparison).await?;
            }
            let Some(now) = now else { return Ok(comparison) };
            self.compare(checked, plan, found, &snapshot, directory, &mut comparison).await?;
            let outcome = match resume::first_change(&before, &now) {
                Some(changed) => {
                    self.written(format!("the source's schema was changed meanwhile: {changed}"))
                }
                None => self.source_unchanged(plan, found, &snapshot).await?,
            };
            comparison.push("source", Aspect::SourceUnchanged, outcome);
            snapshot.release().await;
            Ok(comparison)
        };
        Box::pin(self.stage(Stage::Verify, work)).await.map_err(|error| match error {
            VerifyError::Interrupted => Error::new(Exit::Interrupted, super::Interrupted),
            error => Error::new(Exit::Resumable, error),
        })
    }

    async fn compare(
        &self,
        checked: &Checked,
        plan: &Plan,
        found: &Found,
        snapshot: &Snapshot,
        directory: &RunDirectory,
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let (ours, theirs) = (&snapshot.catalog, self.target_catalog().await?);
        let snapshots = [
            verify::Snapshot::held_elsewhere(&encoded(self.source.server(), plan), &snapshot.id),
            verify::Snapshot::take(&encoded(&self.target, plan), &tables_of(&theirs)).await?,
        ];
        for (index, table) in plan.tables.iter().enumerate() {
            let mut outcome = judge(table, found, index, comparison);
            if let Outcome::Different { rows, .. } = &mut outcome {
                let most = found.copied[index].rows.max(found.read_back[index].rows);
                *rows = locate::in_snapshots(&snapshots, table, most, NAMED_ROWS).await?;
            }
            comparison.push(table.name.to_string(), Aspect::Rows, outcome);
        }
        let reading = self.reading(plan);
        let recomputed = subjects::recomputed(&plan.tables, ours, &theirs, comparison);
        let snapshots = subjects::compare(snapshots, recomputed, &reading, comparison).await?;
        self.compare_large_objects(&snapshots, &theirs, comparison).await?;
        for snapshot in snapshots {
            snapshot.release().await;
        }
        let endpoints = [self.source.server(), &self.target];
        let expected = settings::Expected {
            before: Some(&checked.target.database),
            held: &["default_transaction_read_only"],
        };
        verify::compare_objects(endpoints, ours, &theirs, expected, comparison).await?;
        let options = verify::Options {
            reading,
            owner: self.settings.choices.owner.clone(),
            vector_index: self.settings.choices.vector_index,
            clients: Some((self.settings.connections.client.clone(), directory.path().to_owned())),
        };
        verify::compare_schemas(endpoints, ours, &theirs, &options, comparison).await
    }

    async fn compare_large_objects(
        &self,
        snapshots: &[verify::Snapshot; 2],
        theirs: &Catalog,
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let roles: BTreeSet<String> = theirs.roles.iter().map(|role| role.name.clone()).collect();
        let sessions = [snapshots[0].session().await?, snapshots[1].session().await?];
        let owner = self.settings.choices.owner.as_deref();
        large_objects::compare([&sessions[0], &sessions[1]], owner, &roles, NAMED_ROWS, comparison).await?;
        for session in sessions {
            session.close().await;
        }
        Ok(())
    }

    /// Whether the source is as it was: by its transaction ids, or else by its contents.
    async fn source_unchanged(
        &self,
        plan: &Plan,
        found: &Found,
        snapshot: &Snapshot,
    ) -> Result<Outcome, VerifyError> {
        let session = Session::open(self.source.server(), Access::Read, "pg_catalog").await?;
        let now = Catalog::read(&session.client, Side::Source).await?;
        session.close().await;
        let state = SourceState {
            system_identifier: now.server.system_identifier.clone(),
            snapshot: now.snapshot.clone(),
        };
        let outcome = source::unchanged(&snapshot.state, &state, self.settings.accept_writes);
        if outcome == Outcome::Equal || self.settings.accept_writes {
            return Ok(outcome);
        }
        self.events.note("the source may have been written since its snapshot; reading and hashing it again");
        let theirs = self.target_catalog().await?;
        let (source, target) = (encoded(self.source.server(), plan), encoded(&self.target, plan));
        let later = [
            verify::Snapshot::take(&source, &tables_of(&now)).await?,
            verify::Snapshot::take(&target, &tables_of(&theirs)).await?,
        ];
        let reading = self.reading(plan);
        let (request, read) = read::read(Request {
            snapshots: later,
            tables: plan.tables.clone(),
            sides: vec![Side::Source],
            method: Method::Digests,
            lanes: usize::from(reading.jobs),
            events: reading.events,
            stall: reading.stall,
            stop: reading.stop,
        })
        .await?;
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

    fn written(&self, detail: String) -> Outcome {
        source::written(detail, self.settings.accept_writes)
    }

    pub(super) async fn target_catalog(&self) -> Result<Catalog, VerifyError> {
        let session = Session::open(&self.target, Access::Read, "pg_catalog").await?;
        let catalog = Catalog::read(&session.client, Side::Target).await?;
        session.close().await;
        Ok(catalog)
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

fn tables_of(catalog: &Catalog) -> Vec<QualifiedName> {
    let ordinary = catalog.tables.iter().filter(|table| table.kind == TableKind::Ordinary);
    ordinary.map(|table| table.name.clone()).collect()
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
