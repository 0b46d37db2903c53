//! The comparison at the end of a restore: the target with the archive that was loaded into it, no source at
//! hand.

use super::proof::judge;
use super::{Checked, Context};
use crate::error::Side;
use crate::journal::RunDirectory;
use crate::pg::{Access, Session};
use crate::plan::Plan;
use crate::transfer::archive::contents::Contents;
use crate::transfer::lane::{Found, hash_large_objects};
use crate::transfer::work::Work;
use crate::verify::{
    Aspect, Comparison, Outcome, VerifyError, extensions, sequences, settings, validity, vector_search,
};

impl Context<'_> {
    /// Compares everything that the archive holds; what it does not hold is told as not compared.
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
        let computed = plan.tables.iter().filter(|table| !table.generated.is_empty());
        let computed = computed.map(|table| (table, Aspect::GeneratedColumns));
        let views = plan.materialized_views.iter().map(|view| (view, Aspect::MaterializedView));
        for (table, aspect) in computed.chain(views) {
            let reason = "the target has computed it again, and the archive holds nothing to compare it with";
            comparison.push(table.name.to_string(), aspect, Outcome::not_compared(reason));
        }
        let target = Session::open(&self.target, Access::Read, "pg_catalog").await?;
        let archived = stored
            .sequences
            .iter()
            .map(|value| (value.name.clone(), Ok((value.last_value, value.is_called))));
        let values = sequences::values(&target, Side::Target, &theirs.sequences).await?;
        sequences::compare(&archived.collect(), &values, comparison);
        validity::indexes(ours, &theirs, comparison);
        validity::constraints(ours, &theirs, comparison);
        extensions::compare(ours, &theirs, comparison);
        let expected = settings::Expected {
            before: Some(&checked.target.database),
            held: &["default_transaction_read_only"],
        };
        settings::compare(ours, &theirs, expected, comparison);
        if !plan.large_objects.is_empty() {
            let outcome = stored_large_objects(stored, plan, &target).await?;
            comparison.push("large objects", Aspect::LargeObjects, outcome);
        }
        target.close().await;
        vector_search::compare(&self.target, &theirs, comparison).await?;
        let found = self.target_schema(checked, directory).await?;
        self.compare_schema(stored.entries.clone(), found, [ours, &theirs], comparison).await
    }
}

/// Reads the target's large objects back and compares them with the archive's digests.
async fn stored_large_objects(
    stored: &Contents,
    plan: &Plan,
    target: &Session,
) -> Result<Outcome, VerifyError> {
    let mut different = Vec::new();
    for (batch, range) in plan.large_objects.iter().enumerate() {
        let member = Work::LargeObjects { batch }.member().expect("a batch has its place in an archive");
        let found = hash_large_objects(target, *range).await?;
        if stored.archive.manifest().chunk(&member).map(|record| record.digest) != Some(found) {
            different.push(format!("{} to {}", range.first, range.last));
        }
    }
    if different.is_empty() {
        return Ok(Outcome::Equal);
    }
    Ok(Outcome::Different { detail: "their contents differ".into(), rows: different })
}
