//! The check before anything is written: findings, each with its evidence and its remedy. Pure.

use serde::Serialize;

/// Whether a finding stops the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
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
    /// What was seen.
    pub evidence: String,
    /// What to do, with the statement or option where there is one.
    pub remedy: String,
}
