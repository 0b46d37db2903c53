//! What `pgmove check` looks at beyond the check of a run: what takes long to read, and what is only good to know.
//!
//! Takes both catalogs and the plan, gives findings ([`findings`], pure) and a [`Summary`] of sizes and needs. What
//! decides whether a run may begin is in [`crate::preflight`], so that a run finds it too; here is what only an operator
//! asks for before a window. The source is only read. What cannot be looked at is a [`Skipped`] with its reason, never a
//! good answer.

mod activity;
mod content;
mod embedding;
mod read;
mod summary;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use serde::Serialize;

use crate::catalog::{Catalog, Extension};
use crate::plan::Plan;
use crate::preflight::{Finding, ObjectKind, Rights, Severity, few};

pub use embedding::Embeddings;
pub use read::{OpenTransaction, ReadError, RoleSetting, TransactionAge, ages, elsewhere, source};
pub use summary::{ExtensionRow, Needs, Side, Size, Summary, VectorBuild, summary};

/// What was read for the survey alone.
#[derive(Debug, Default)]
pub struct Found {
    /// Transactions that are open on the source's server.
    pub transactions: Vec<OpenTransaction>,
    /// The ages of the databases of the source's server, the oldest first.
    pub source_ages: Vec<TransactionAge>,
    /// The same of the target's.
    pub target_ages: Vec<TransactionAge>,
    /// What the embeddings of the source hold.
    pub embeddings: Vec<Embeddings>,
    /// Settings of roles, on the source.
    pub role_settings: Vec<RoleSetting>,
    /// Extensions in database `postgres` of the target's server.
    pub elsewhere: Vec<Extension>,
    /// What could not be looked at.
    pub skipped: Vec<Skipped>,
}

/// Something that was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Everything that the survey's findings depend on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The source.
    pub source: &'a Catalog,
    /// The target.
    pub target: &'a Catalog,
    /// What the source's role can read there.
    pub source_rights: &'a Rights,
    /// Whether statements that need a superuser can be sent to the target.
    pub has_superuser: bool,
    /// What was read.
    pub found: &'a Found,
    /// The plan; none where there cannot be one.
    pub plan: Option<&'a Plan>,
    /// What the target's server has of memory, in bytes, if that was told.
    pub memory_limit: Option<u64>,
}

impl Input<'_> {
    /// The source's objects of a kind, by name.
    fn named(&self, kind: ObjectKind) -> Option<String> {
        let objects = self.source_rights.named.iter().filter(|object| object.kind == kind);
        let names: Vec<String> = objects.map(|object| crate::pg::display_identifier(&object.name)).collect();
        (!names.is_empty()).then(|| few(names))
    }
}

/// All findings of the survey, in the order of [`sort`].
pub fn findings(input: &Input<'_>) -> Vec<Finding> {
    let mut found =
        [activity::findings(input), embedding::findings(input), content::findings(input)].concat();
    sort(&mut found);
    found
}

/// Blocking findings first, notes last.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| Reverse(finding.severity));
}

fn note(
    id: &'static str,
    title: impl Into<String>,
    evidence: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    let (title, evidence, remedy) = (title.into(), evidence.into(), remedy.into());
    Finding { id, severity: Severity::Note, title, evidence, remedy }
}

fn warning(
    id: &'static str,
    title: impl Into<String>,
    evidence: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity: Severity::Warning, ..note(id, title, evidence, remedy) }
}

fn blocking(
    id: &'static str,
    title: impl Into<String>,
    evidence: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity: Severity::Blocking, ..note(id, title, evidence, remedy) }
}
