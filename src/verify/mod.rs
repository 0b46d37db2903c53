//! Comparing two databases, and what the comparison says.
//!
//! A [`Comparison`] is a list of checks, each of one aspect of one object, and each with an outcome that is
//! never left open: equal, different, or not compared for a reason. Only a comparison whose every check is
//! equal proves anything; [`Comparison::verdict`] is the only place that decides.

mod error;
pub mod extensions;
pub mod generated;
pub mod hash;
pub mod large_objects;
pub mod locate;
pub mod read;
pub mod redefine;
pub mod rights;
pub mod rows;
pub mod schema;
pub mod sequences;
pub mod settings;
pub mod snapshot;
pub mod source;
pub mod standalone;
pub mod subjects;
pub mod validity;
pub mod vector_search;

use serde::{Deserialize, Serialize};

use crate::error::Exit;
pub use error::VerifyError;
use error::is_passing;
pub use read::{Method, Read};
pub use snapshot::Snapshot;
pub(crate) use standalone::read_catalog;
pub use standalone::{Options, compare_objects, verify};

/// What is compared of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Number and content of a table's rows.
    Rows,
    /// Values of stored generated columns, which the target computed again.
    GeneratedColumns,
    /// Content of a materialised view, which the target computed again.
    MaterializedView,
    /// Value of a sequence.
    Sequence,
    /// Contents, owners and grants of large objects.
    LargeObjects,
    /// DDL of a schema object.
    Schema,
    /// Validity of an index.
    Index,
    /// Validity of a constraint.
    Constraint,
    /// Presence and version of an extension.
    Extension,
    /// A setting of the database.
    Setting,
    /// A vector index answers queries, and answers them well.
    VectorSearch,
    /// Whether the source stayed as it was in the snapshot.
    SourceUnchanged,
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Compared and equal.
    Equal,
    /// Different as the plan says it must be (a rewrite); told, and no obstacle.
    AsPlanned {
        /// What differs and by which rule.
        detail: String,
    },
    /// Compared and different.
    Different {
        /// In what.
        detail: String,
        /// The differing rows by key or ctid, at most as many as were asked for; never their contents.
        rows: Vec<String>,
    },
    /// Not compared.
    NotCompared {
        /// Why not.
        reason: String,
    },
}

impl Outcome {
    /// A difference without rows.
    pub fn different(detail: impl Into<String>) -> Outcome {
        Outcome::Different { detail: detail.into(), rows: vec![] }
    }

    /// A difference that the plan explains.
    pub fn as_planned(detail: impl Into<String>) -> Outcome {
        Outcome::AsPlanned { detail: detail.into() }
    }

    /// A check that was not made.
    pub fn not_compared(reason: impl Into<String>) -> Outcome {
        Outcome::NotCompared { reason: reason.into() }
    }
}

/// One aspect of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The object: `public.asset`, `index clip_index`.
    pub object: String,
    /// What was compared.
    pub aspect: Aspect,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What two tables hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableResult {
    /// The table.
    pub table: String,
    /// Rows on the source and on the target.
    pub rows: [u64; 2],
    /// Checksums on the source and on the target; `None` where only rows were counted.
    pub checksums: Option<[String; 2]>,
}

/// How a vector index of the target answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VectorSearchResult {
    /// The index.
    pub index: String,
    /// The plan of a nearest-neighbour query.
    pub plan: String,
    /// Whether that plan uses the index.
    pub is_used: bool,
    /// The part of the ten nearest rows that the index finds, over the sample; `None` if the table is empty.
    pub recall_at_10: Option<f64>,
    /// How many stored rows were used as queries.
    pub sample: usize,
}

/// Everything that was compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// The checks, in the order in which they were made.
    pub checks: Vec<Check>,
    /// The tables.
    pub tables: Vec<TableResult>,
    /// The vector indexes.
    pub vector_search: Vec<VectorSearchResult>,
}

/// What a comparison proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every check is equal (or as planned).
    Equal,
    /// At least one check is different.
    Different,
    /// None is different, but at least one was not made.
    NotAllCompared,
}

impl Comparison {
    /// Adds a check.
    pub fn push(&mut self, object: impl Into<String>, aspect: Aspect, outcome: Outcome) {
        self.checks.push(Check { object: object.into(), aspect, outcome });
    }

    /// What it proves. A comparison of nothing proves nothing.
    pub fn verdict(&self) -> Verdict {
        let has = |wanted: fn(&Outcome) -> bool| self.checks.iter().any(|check| wanted(&check.outcome));
        if has(|outcome| matches!(outcome, Outcome::Different { .. })) {
            Verdict::Different
        } else if self.checks.is_empty() || has(|outcome| matches!(outcome, Outcome::NotCompared { .. })) {
            Verdict::NotAllCompared
        } else {
            Verdict::Equal
        }
    }
}

impl Verdict {
    /// The exit code that goes with it.
    pub fn exit(self) -> Exit {
        match self {
            Verdict::Equal => Exit::Done,
            Verdict::Different => Exit::Different,
            Verdict::NotAllCompared => Exit::NotAllCompared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides() {
        let different = Outcome::Different { detail: "1 row".into(), rows: vec![] };
        let skipped = Outcome::NotCompared { reason: "asked so".into() };
        let of = |outcomes: &[&Outcome]| {
            let mut comparison = Comparison::default();
            for outcome in outcomes {
                comparison.push("public.asset", Aspect::Rows, (*outcome).clone());
            }
            comparison.verdict()
        };
        assert_eq!(of(&[]), Verdict::NotAllCompared);
        assert_eq!(of(&[&Outcome::Equal]), Verdict::Equal);
        assert_eq!(of(&[&Outcome::Equal, &skipped]), Verdict::NotAllCompared);
        assert_eq!(of(&[&skipped, &different, &Outcome::Equal]), Verdict::Different);
    }
}
