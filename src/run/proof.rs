//! The comparison at the end of a run: what the lanes found, and everything beside the rows.

use std::collections::BTreeSet;

use super::{Checked, Context};
use crate::catalog::{Catalog, TableKind};
use crate::error::{Error, Exit, Side};
use crate::event::Stage;
use crate::journal::SourceState;
use crate::pg::{Access, Endpoint, QualifiedName, Session};
use crate::plan::{Plan, TablePlan};
use crate::transfer::lane::Found;
use crate::transfer::snapshot::Snapshot;
use crate::verify::read::{self, Method, Request};
use crate::verify::{
    self, Aspect, Comparison, Outcome, TableResult, VerifyError, extensions, generated, large_objects,
    locate, sequences, settings, validity, vector_search,
};

/// How many differing rows of a table are named.
const NAMED_ROWS: usize = 10;

impl Context<'_> {
    /// Compares both sides, releases the snapshot, and looks whether the source stayed as it was.
    pub(super) async fn verify(
        &self,
        checked: &Checked,
        plan: &Plan,
        found: &Found,
        snapshot: Snapshot,
    ) -> Result<Comparison, Error> {
        let work = async {
            let mut comparison = Comparison::default();
            self.compare(checked, plan, found, &snapshot, &mut comparison).await?;
            let (state, accept_writes) = (snapshot.state.clone(), self.settings.accept_writes);
            snapshot.release().await;
            let later = self.source_state().await?;
            compare_states(&mut comparison, &state, &later, accept_writes);
            Ok::<_, VerifyError>(comparison)
        };
        self.stage(Stage::Verify, work).await.map_err(|error| match error {
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
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let encoded =
            |endpoint: &Endpoint| Endpoint { copy_encoding: plan.copy_encoding.clone(), ..endpoint.clone() };
        let source = verify::Snapshot::held_elsewhere(&encoded(&self.source), &snapshot.id);
        let target = Session::open(&self.target, Access::Read, "pg_catalog").await?;
        let (ours, theirs) = (&snapshot.catalog, Catalog::read(&target.client, Side::Target).await?);
        let sessions = [source.session().await?, target];

        for (index, table) in plan.tables.iter().enumerate() {
            let mut outcome = judge(table, found, index, comparison);
            if let Outcome::Different { rows, .. } = &mut outcome {
                let most = found.copied[index].rows.max(found.read_back[index].rows);
                *rows = locate::locate([&sessions[0], &sessions[1]], table, most, NAMED_ROWS).await?;
            }
            comparison.push(table.name.to_string(), Aspect::Rows, outcome);
        }
        let tables: Vec<QualifiedName> = theirs
            .tables
            .iter()
            .filter(|table| table.kind == TableKind::Ordinary)
            .map(|table| table.name.clone())
            .collect();
        let snapshots = [source, verify::Snapshot::take(&encoded(&self.target), &tables).await?];
        self.compare_computed(plan, ours, &theirs, snapshots, comparison).await?;

        // Sequences have no snapshot: both sides are read now.
        let fresh = Session::open(&self.source, Access::Read, "pg_catalog").await?;
        let values = [
            sequences::values(&fresh, Side::Source, &ours.sequences).await?,
            sequences::values(&sessions[1], Side::Target, &theirs.sequences).await?,
        ];
        fresh.close().await;
        sequences::compare(&values[0], &values[1], comparison);

        validity::indexes(ours, &theirs, comparison);
        validity::constraints(ours, &theirs, comparison);
        extensions::compare(ours, &theirs, comparison);
        let expected = settings::Expected {
            before: Some(&checked.target.database),
            held: &["default_transaction_read_only"],
        };
        settings::compare(ours, &theirs, expected, comparison);
        let roles: BTreeSet<String> = theirs.roles.iter().map(|role| role.name.clone()).collect();
        let owner = self.settings.choices.owner.as_deref();
        let [source, target] = &sessions;
        large_objects::compare([source, target], owner, &roles, NAMED_ROWS, comparison).await?;
        vector_search::compare(&self.target, &theirs, comparison).await?;
        for session in sessions {
            session.close().await;
        }
        Ok(())
    }

    /// Stored generated columns and materialised views: the target has computed them itself.
    async fn compare_computed(
        &self,
        plan: &Plan,
        ours: &Catalog,
        theirs: &Catalog,
        snapshots: [verify::Snapshot; 2],
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let columns = generated::columns(&plan.tables);
        let views = generated::matched_views(ours, theirs, comparison);
        let aspects = std::iter::repeat_n(Aspect::GeneratedColumns, columns.len())
            .chain(std::iter::repeat_n(Aspect::MaterializedView, views.len()));
        let request = Request {
            snapshots,
            tables: [columns, views].concat(),
            method: Method::Reread,
            lanes: usize::from(plan.jobs),
            events: self.events.clone(),
            stall: self.settings.connections.stall,
            stop: self.stop.clone(),
        };
        let (request, found) = read::read(request).await?;
        for ((table, read), aspect) in request.tables.iter().zip(&found).zip(aspects) {
            let outcome = generated::judge(table, Method::Reread, read);
            comparison.push(table.name.to_string(), aspect, outcome);
        }
        for snapshot in request.snapshots {
            snapshot.release().await;
        }
        Ok(())
    }

    async fn source_state(&self) -> Result<SourceState, VerifyError> {
        let session = Session::open(&self.source, Access::Read, "pg_catalog").await?;
        let catalog = Catalog::read(&session.client, Side::Source).await?;
        session.close().await;
        Ok(SourceState { system_identifier: catalog.server.system_identifier, snapshot: catalog.snapshot })
    }
}

/// Three numbers must be one: what was copied, what the source counts, what the target holds.
fn judge(table: &TablePlan, found: &Found, index: usize, comparison: &mut Comparison) -> Outcome {
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

fn compare_states(comparison: &mut Comparison, then: &SourceState, now: &SourceState, accept_writes: bool) {
    let detail = format!(
        "transaction ids were given out on the source's server since the snapshot ({} then, {} now): it was \
         written, or its state cannot be told",
        then.snapshot, now.snapshot
    );
    let outcome = match (then.is_proven_equal(now), accept_writes) {
        (true, _) => Outcome::Equal,
        (false, true) => Outcome::as_planned(detail),
        (false, false) => Outcome::not_compared(format!("{detail}; --accept-writes takes this as done")),
    };
    comparison.push("source", Aspect::SourceUnchanged, outcome);
}
