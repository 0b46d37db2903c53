//! The comparison at the end of a restore: the target with the archive that was loaded into it, no source at
//! hand.

use std::collections::BTreeSet;

use super::proof::{NAMED_ROWS, encoded, judge};
use super::{Checked, Context};
use crate::catalog::Catalog;
use crate::journal::RunDirectory;
use crate::plan::Plan;
use crate::transfer::archive::contents::{Contents, Recomputed};
use crate::transfer::lane::Found;
use crate::verify::large_objects::{self, Place};
use crate::verify::subjects::{self, tables_of};
use crate::verify::{self, Aspect, Comparison, VerifyError, generated, sequences, settings};

impl Context<'_> {
    /// Compares everything, with what the archive holds of the source.
    pub(super) async fn compare_stored(
        &self,
        stored: &Contents,
        checked: &Checked,
        plan: &Plan,
        found: &Found,
        directory: &RunDirectory,
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let (ours, theirs) = (&stored.source.catalog, self.target_catalog().await?);
        for (index, table) in plan.tables.iter().enumerate() {
            let outcome = judge(table, found, index, comparison);
            comparison.push(table.name.to_string(), Aspect::Rows, outcome);
        }
        let endpoint = encoded(&self.target, plan);
        let snapshot = verify::Snapshot::take(&endpoint, &tables_of(&theirs)).await?;
        self.compare_recomputed(stored, plan, &theirs, snapshot.id(), comparison).await?;
        self.compare_stored_large_objects(stored, &theirs, &snapshot, comparison).await?;
        snapshot.release().await;
        let expected = settings::Expected {
            before: plan.target_database.as_ref(),
            held: &["default_transaction_read_only"],
        };
        let values = sequences::known(&stored.sequences);
        verify::compare_objects(&self.target, &values, [ours, &theirs], expected, comparison).await?;
        let found = self.target_schema(checked, directory).await?;
        self.compare_schema(plan, stored.entries.clone(), found, [ours, &theirs], comparison).await
    }

    /// Compares what the target has computed again, in a snapshot of it.
    async fn compare_recomputed(
        &self,
        stored: &Contents,
        plan: &Plan,
        theirs: &Catalog,
        snapshot: &str,
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let views = generated::matched_views(&stored.source.catalog, theirs, comparison);
        let is_comparable = |found: &&Recomputed| {
            found.aspect != Aspect::MaterializedView || views.iter().any(|view| view.name == found.table.name)
        };
        let computed: Vec<&Recomputed> = stored.recomputed.iter().filter(is_comparable).collect();
        let tables = computed.iter().map(|found| found.table.clone()).collect();
        let (endpoint, reading) = (encoded(&self.target, plan), self.reading(plan));
        let read = subjects::read_one_side(&endpoint, snapshot, tables, &reading).await?;
        for (Recomputed { aspect, table, found }, read) in computed.into_iter().zip(read) {
            let outcome = generated::judge(table, reading.method, &[found.clone().into(), read]);
            comparison.push(table.name.to_string(), *aspect, outcome);
        }
        Ok(())
    }

    async fn compare_stored_large_objects(
        &self,
        stored: &Contents,
        theirs: &Catalog,
        snapshot: &verify::Snapshot,
        comparison: &mut Comparison,
    ) -> Result<(), VerifyError> {
        let roles: BTreeSet<String> = theirs.roles.iter().map(|role| role.name.clone()).collect();
        let owner = self.choices.owner.as_deref();
        let target = snapshot.session().await?;
        let places = [Place::Archive(&stored.archive), Place::Server(&target)];
        large_objects::compare_places(places, owner, &roles, NAMED_ROWS, comparison).await?;
        target.close().await;
        Ok(())
    }
}
