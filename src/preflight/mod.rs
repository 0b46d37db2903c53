//! The check before anything is written: findings, each with its evidence and its remedy.
//!
//! [`findings`] takes what was read from both servers ([`Input`]) and gives all findings at once, blocking ones
//! first. It is pure and cannot fail: no I/O, no clock. One file a theme, one function a question; each returns
//! the findings of its question, none where all is well. What a server hides from an ordinary role is never
//! taken for a good answer: it becomes a warning that says so.
//!
//! The few reads that the catalog does not hold are [`Rights`], read once a side by [`Rights::read`].

mod activity;
mod capacity;
mod content;
mod extension;
pub mod kubernetes;
mod locale;
mod permission;
mod rights;
mod server;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod vector;

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, DatabaseIdentity, SessionRights};
use crate::plan::VectorIndexChoice;
use crate::schema::{ClientError, ClientTools};

pub(crate) use capacity::lock_table;
pub use extension::extensions_needed;
pub(crate) use extension::{create, in_order, is_older, libraries};
pub use rights::{
    DefaultPrivileges, LargeObjectOwner, NamedObject, ObjectKind, Rights, RightsError, UnreadableRelation,
};

/// Whether a finding stops the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know; nothing has to be done. Only `pgmove check` tells it.
    Note,
    /// The run goes on, but the operator should know.
    Warning,
    /// The run is refused.
    Blocking,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable name: `target-not-empty`.
    pub id: &'static str,
    /// Whether it stops the run.
    pub severity: Severity,
    /// The finding in a sentence, naming the object.
    pub title: String,
    /// What was seen; of a long list the first few.
    pub evidence: String,
    /// All that the list in the evidence stands for; empty where there is none.
    pub objects: Vec<String>,
    /// What to do, with the statement or option where there is one.
    pub remedy: String,
}

/// Everything that the check looks at.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent fact that the check goes by")]
pub struct Input<'a> {
    /// What is in the source.
    pub source: &'a Catalog,
    /// What is in the target, as its ordinary role sees it. Where an admin connection is given and the role is
    /// not told `shared_preload_libraries`, the caller fills it in from that connection.
    pub target: &'a Catalog,
    /// What the source's role can read there.
    pub source_rights: &'a Rights,
    /// The same of the target's role.
    pub target_rights: &'a Rights,
    /// What the role of `--target-admin` may do; `None` without that connection.
    pub admin: Option<&'a SessionRights>,
    /// The database that connection leads to.
    pub admin_database: Option<&'a DatabaseIdentity>,
    /// Whether the target's operator creates extensions.
    pub has_operator: bool,
    /// The client tools, or why there are none.
    pub client_tools: Result<&'a ClientTools, &'a ClientError>,
    /// Whether both endpoints name the same host and port.
    pub has_same_address: bool,
    /// Whose ledger the target holds.
    pub ledger: Ledger<'a>,
    /// Whether `--replace` names the target: then its objects are dropped and need not be missing.
    pub replaces_target: bool,
    /// Whether the source is fenced before its snapshot is taken.
    pub is_fenced: bool,
    /// The role of `--owner`; `None` keeps owners.
    pub owner: Option<&'a str>,
    /// Which vector indexes are wanted.
    pub vector_index: VectorIndexChoice,
    /// How many lanes.
    pub jobs: u16,
}

/// Whose ledger (schema `pgmove`) the target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger<'a> {
    /// There is none.
    None,
    /// This run's: it is resumed, and what the target holds is its own work.
    Own,
    /// The run's with this id.
    Other(&'a str),
}

impl Input<'_> {
    /// Whether statements that need a superuser on the target can be sent.
    fn has_superuser(&self) -> bool {
        self.target.session.is_superuser || self.admin.is_some_and(|admin| admin.is_superuser)
    }
}

/// All findings, blocking ones first, else in the order in which a person would mend them.
pub fn findings(input: &Input<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for check in [
        server::findings,
        target::findings,
        permission::findings,
        extension::findings,
        vector::findings,
        locale::findings,
        capacity::findings,
        content::findings,
        activity::findings,
    ] {
        found.extend(check(input));
    }
    sort(&mut found);
    found
}

/// Blocking findings first, notes last; those alike keep their order.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| Reverse(finding.severity));
}

/// Whether any of the findings refuses the run.
pub fn is_refused(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Blocking)
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evidence {
    text: String,
    objects: Vec<String>,
}

impl From<&str> for Evidence {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Evidence {
    fn from(text: String) -> Self {
        Evidence { text, objects: vec![] }
    }
}

impl From<&String> for Evidence {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<Few> for Evidence {
    fn from(list: Few) -> Self {
        Evidence { text: list.to_string(), objects: list.0 }
    }
}

pub(crate) fn blocking(
    id: &'static str,
    title: impl Into<String>,
    evidence: impl Into<Evidence>,
    remedy: impl Into<String>,
) -> Finding {
    let (title, remedy) = (title.into(), remedy.into());
    let Evidence { text: evidence, objects } = evidence.into();
    Finding { id, severity: Severity::Blocking, title, evidence, objects, remedy }
}

pub(crate) fn warning(
    id: &'static str,
    title: impl Into<String>,
    evidence: impl Into<Evidence>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity: Severity::Warning, ..blocking(id, title, evidence, remedy) }
}

pub(crate) fn note(
    id: &'static str,
    title: impl Into<String>,
    evidence: impl Into<Evidence>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { severity: Severity::Note, ..blocking(id, title, evidence, remedy) }
}

/// A number and its noun: `1 object`, `12 objects`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// A list of which a person is shown the first few, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Few(Vec<String>);

pub(crate) fn few<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> Few {
    Few(items.into_iter().map(|item| item.to_string()).collect())
}

impl Few {
    /// The list within a longer text.
    pub(crate) fn within(self, text: impl FnOnce(&Few) -> String) -> Evidence {
        Evidence { text: text(&self), objects: self.0 }
    }

    /// All of it.
    pub(crate) fn all(self) -> Vec<String> {
        self.0
    }
}

impl fmt::Display for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        match self.0.get(SHOWN..) {
            Some(rest) if !rest.is_empty() => {
                write!(f, "{} and {} more", self.0[..SHOWN].join(", "), rest.len())
            }
            _ => f.write_str(&self.0.join(", ")),
        }
    }
}
