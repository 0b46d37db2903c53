//! A large table's unique constraint in two steps: its index, then the constraint upon it. Pure.
//!
//! `ADD CONSTRAINT` keeps every reader away (ACCESS EXCLUSIVE) for as long as it builds the index. `CREATE UNIQUE
//! INDEX` (SHARE) does not, so the rows are read back meanwhile; the constraint then takes the index as it is.
//! What stands on the target afterwards is the same.

use crate::plan::{LockMode, Phase, Step, TablePlan};
use crate::schema::{Change, Rewrite, unique_constraint};

/// The index of the step's constraint as a step of its own, to be taken before; the constraint then takes that index.
/// None for a step that makes no unique constraint, and for tables of one chunk, where there is nothing to win.
pub(super) fn split(step: &mut Step, id: u32, tables: &[TablePlan]) -> Option<(Step, Change)> {
    let Phase::Build { table: Some(table), .. } = step.phase else { return None };
    if tables[table].chunks.len() < 2 {
        return None;
    }
    let statement = step.statements.first_mut()?;
    let constraint = unique_constraint(statement)?;
    let (index, upon) = (constraint.index(), constraint.upon_index());
    let change = Change {
        rewrite: Rewrite::UniqueIndex,
        entry: step.id,
        object: step.object.clone(),
        before: statement.clone(),
        after: Some(format!("{index};\n{upon}")),
        reason: "the rows are read back while the index is built".to_owned(),
    };
    *statement = upon;
    step.needs.push(id);
    let first = Step {
        id,
        object: format!("INDEX {}", constraint.index_name()),
        phase: Phase::Build { table: Some(table), lock: LockMode::Share },
        route: step.route,
        needs: vec![],
        statements: vec![index],
        // The second step builds nothing.
        maintenance_work_mem: std::mem::take(&mut step.maintenance_work_mem),
        vector_index: None,
        may_hold_secrets: false,
        masked_digest: None,
        extension: None,
    };
    Some((first, change))
}
