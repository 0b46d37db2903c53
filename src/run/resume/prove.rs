//! What an earlier process has loaded, held against the source as it is now.

use std::collections::HashMap;

use super::{ResumeError, first_change};
use crate::error::{Error, Exit};
use crate::journal::{PLAN, RunDirectory, SCHEMA};
use crate::pg::Session;
use crate::plan::{Plan, TablePlan, make};
use crate::run::{Checked, Context};
use crate::schema::Entry;
use crate::transfer::digest::Digest;
use crate::transfer::lane::large_object;
use crate::transfer::ledger;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::work::Work;

impl Context<'_> {
    /// The source may have changed since the rows in the target were read: its schema must be the same, and each
    /// loaded table is proven.
    pub(super) async fn prove_again(
        &self,
        directory: &RunDirectory,
        checked: &Checked,
        snapshot: &Snapshot,
        plan: &mut Plan,
        done: &mut HashMap<String, Option<Digest>>,
        target: &Session,
    ) -> Result<(), Error> {
        let before: Vec<Entry> =
            directory.read_document(SCHEMA).map_err(|error| Error::new(Exit::StartOver, error))?;
        let now = self.entries(checked, snapshot, directory.path()).await?;
        if let Some(changed) = first_change(&before, &now) {
            return Err(Error::new(Exit::StartOver, ResumeError::SchemaChanged(changed)));
        }
        self.events.note("the source may have changed since; reading and hashing what was copied");
        self.prove_tables(snapshot, plan, done, target).await?;
        // The digest of a batch is of contents only, and owner, grants or comment may have changed: large objects are
        // copied again, those that are there now.
        for (batch, &planned) in plan.large_objects.iter().enumerate() {
            self.safe_point()?;
            let item = Work::LargeObjects { batch }.item(plan).expect("a batch is in the ledger");
            let forget = ledger::forget(std::slice::from_ref(&item));
            let message = format!("{}; {forget}", large_object::remove(planned));
            target
                .run(&message, "remove large objects")
                .await
                .map_err(|error| Error::new(Exit::Resumable, error))?;
            done.remove(&item);
        }
        plan.large_objects = make::batches(&snapshot.large_objects);
        directory.write_document(PLAN, plan).map_err(|error| Error::new(Exit::Resumable, error))
    }

    /// Each loaded table must have the digest that was loaded, as of the new snapshot. One that has changed is copied
    /// again.
    async fn prove_tables(
        &self,
        snapshot: &Snapshot,
        plan: &Plan,
        done: &mut HashMap<String, Option<Digest>>,
        target: &Session,
    ) -> Result<(), Error> {
        for (table, planned) in plan.tables.iter().enumerate() {
            self.safe_point()?;
            let items: Vec<String> = (0..planned.chunks.len())
                .filter_map(|chunk| Work::Chunk { table, chunk }.item(plan))
                .collect();
            if !items.iter().any(|item| done.contains_key(item)) {
                continue;
            }
            let loaded: Option<Vec<Digest>> =
                items.iter().map(|item| done.get(item).copied().flatten()).collect();
            if let Some(loaded) = loaded {
                let now = self.interruptible(self.digest(planned, snapshot)).await?;
                if now == loaded.into_iter().sum() {
                    continue;
                }
            }
            // TRUNCATE fails where a foreign key points to the table, and loaded rows would fire triggers.
            if !tied(target, &[planned]).await?.is_empty() {
                return Err(Error::new(Exit::StartOver, ResumeError::Tied(planned.name.to_string())));
            }
            // Its lists are of the rows that were there when it was built.
            let (indexes, built): (Vec<String>, Vec<String>) = plan
                .steps
                .iter()
                .enumerate()
                .filter_map(|(step, found)| {
                    let index = found.vector_index.as_ref().filter(|index| index.table == planned.name)?;
                    let drop = format!("DROP INDEX IF EXISTS {}; ", index.index.sql());
                    Some((drop, Work::Build { step }.item(plan)?))
                })
                .unzip();
            let stale = [items, built].concat();
            let forget = ledger::forget(&stale);
            let message = format!("BEGIN; {}{}; {forget}; COMMIT", indexes.concat(), planned.empty());
            target
                .run(&message, format!("empty {}", planned.name))
                .await
                .map_err(|error| Error::new(Exit::Resumable, error))?;
            for item in &stale {
                done.remove(item);
            }
        }
        Ok(())
    }
}

/// Unlogged tables that are not wholly in the ledger are loaded again, be it that a crash of the server has emptied
/// them and their ledger; one with foreign keys or triggers would refuse its rows, or write elsewhere.
pub(super) async fn refuse_emptied(
    session: &Session,
    plan: &Plan,
    done: &HashMap<String, Option<Digest>>,
) -> Result<(), Error> {
    let is_done = |work: Work| work.item(plan).is_some_and(|item| done.contains_key(&item));
    let is_emptied = |(table, planned): &(usize, &TablePlan)| {
        let mut chunks = (0..planned.chunks.len()).map(|chunk| Work::Chunk { table: *table, chunk });
        // An extension's own triggers are there before the first row.
        planned.is_unlogged && planned.condition.is_none() && !chunks.all(is_done)
    };
    let emptied: Vec<_> = plan.tables.iter().enumerate().filter(is_emptied).map(|(_, found)| found).collect();
    match tied(session, &emptied).await?.first() {
        Some(planned) => Err(Error::new(Exit::StartOver, ResumeError::Emptied(planned.name.to_string()))),
        None => Ok(()),
    }
}

/// Those of the tables that cannot be emptied and loaded again, because foreign keys or triggers are made.
async fn tied<'a>(target: &Session, tables: &[&'a TablePlan]) -> Result<Vec<&'a TablePlan>, Error> {
    let names: Vec<String> = tables.iter().map(|planned| planned.name.sql()).collect();
    let rows = target.client.query(include_str!("../../../sql/transfer/tied_tables.sql"), &[&names]).await;
    let rows =
        rows.map_err(|error| Error::new(Exit::Resumable, target.failed("look for triggers", error)))?;
    let is_tied =
        |planned: &&TablePlan| rows.iter().any(|row| row.get::<_, &str>("name") == planned.name.sql());
    Ok(tables.iter().copied().filter(is_tied).collect())
}
