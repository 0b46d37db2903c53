//! What `pgmove check` looks at beyond the check of a run: what takes long to read, and what is only good to know.
//!
//! Takes both catalogs and the plan, gives findings ([`findings`], pure) and a [`Summary`] of sizes and needs. What
//! decides whether a run may begin is in [`crate::preflight`], so that a run finds it too; here is what only an operator
//! asks for before a window. The source is only read. What cannot be looked at is a [`Skipped`] with its reason, never a
//! good answer.

mod activity;
mod application;
mod content;
mod damage;
mod duplicates;
mod embedding;
mod large_object;
mod read;
mod summary;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::catalog::{Catalog, Extension};
use crate::error::Error;
use crate::pg::Oid;
use crate::plan::{Plan, Route};
use crate::preflight::{Few, Finding, ObjectKind, Rights, blocking, counted, few, note, sort, warning};

pub use application::{Application, Roots};
pub(crate) use content::index_memory;
pub use damage::Damage;
pub use duplicates::Duplicates;
pub use embedding::Embeddings;
pub use read::{OpenTransaction, ReadError, RoleSetting, TransactionAge, deep, elsewhere, source, target};
pub use summary::{ExtensionRow, Needs, Side, Size, Summary, VectorBuild, summary};

/// What was read for the survey alone.
#[derive(Debug, Default)]
pub struct Found {
    /// Whether the survey's own reads of the source came to their end.
    pub is_source_read: bool,
    /// Whether every table was read through to its end.
    pub is_read_through: bool,
    /// Transactions that are open on the source's server.
    pub transactions: Vec<OpenTransaction>,
    /// The ages of the databases of the source's server, the oldest first.
    pub source_ages: Vec<TransactionAge>,
    /// The same of the target's.
    pub target_ages: Vec<TransactionAge>,
    /// What the databases of the target's server hold, in bytes, as far as the role may know; 0 where that was not read.
    pub target_bytes: u64,
    /// What the embeddings of the source hold.
    pub embeddings: Vec<Embeddings>,
    /// The application that the source belongs to, if it is a known one.
    pub application: Option<Application>,
    /// Settings of roles, on the source.
    pub role_settings: Vec<RoleSetting>,
    /// Extensions in database `postgres` of the target's server.
    pub elsewhere: Vec<Extension>,
    /// Rows that cannot be read; only where every table was read through, as the next two.
    pub damage: Vec<Damage>,
    /// Large objects that cannot be read, with the server's words.
    pub damaged_objects: Vec<(Oid, String)>,
    /// Rows that unique keys should not have let in.
    pub duplicates: Vec<Duplicates>,
    /// Definitions that the target refused in a scratch database; none where they were not tried.
    pub refused: Option<Vec<Refused>>,
    /// What could not be looked at.
    pub skipped: Vec<Skipped>,
}

/// A definition that the target refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What was to be made.
    pub object: String,
    /// Its statement, shortened if it is long.
    pub statement: String,
    /// What the target says.
    pub words: String,
    /// How many later ones were refused for want of it, as far as can be told.
    pub followers: usize,
}

/// What is looked at beside the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What the target's server has of memory, in bytes, if that is known.
    pub memory_limit: Option<u64>,
    /// Whether every table is read through, and every definition tried in a scratch database of the target.
    pub is_deep: bool,
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
    /// The target's volumes.
    pub volumes: Volumes,
    /// What was asked for.
    pub options: Options,
}

/// The volumes that the target's data lie on, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volumes {
    /// The size of the one with the tables, in bytes.
    pub data: Option<u64>,
    /// Whether WAL has one of its own.
    pub has_wal: bool,
    /// The size of that one, in bytes.
    pub wal: Option<u64>,
}

impl Input<'_> {
    /// Whether the plan leaves an extension to the target's operator.
    fn is_left_to_operator(&self, extension: &str) -> bool {
        let steps = self.plan.iter().flat_map(|plan| &plan.steps);
        let mut left = steps.filter(|step| step.route == Route::Operator);
        left.any(|step| step.extension.as_ref().is_some_and(|wanted| wanted.name == extension))
    }

    /// The source's objects of a kind, by name.
    fn named(&self, kind: ObjectKind) -> Option<Few> {
        let objects = self.source_rights.named.iter().filter(|object| object.kind == kind);
        let names: Vec<String> = objects.map(|object| crate::pg::display_identifier(&object.name)).collect();
        (!names.is_empty()).then(|| few(names))
    }
}

/// The move cannot be planned for a reason that no check has foreseen.
pub fn plan_impossible(error: &Error) -> Finding {
    blocking(
        "plan-impossible",
        "the move cannot be planned at this moment",
        error.chain().join(": "),
        remedy(error),
    )
}

/// Something could not be read.
pub fn look_failed(what: &str, error: &Error) -> Finding {
    blocking(
        "look-failed",
        format!("the check could not look at {what}"),
        error.chain().join(": "),
        remedy(error),
    )
}

fn remedy(error: &Error) -> String {
    error.fault.hint().unwrap_or_else(|| "see to what the message names, then check again".into())
}

/// All findings of the survey, blocking ones first, notes last.
pub fn findings(input: &Input<'_>) -> Vec<Finding> {
    let mut found = [
        damage::findings(input),
        large_object::findings(input),
        duplicates::findings(input),
        refused(input),
        activity::findings(input),
        embedding::findings(input),
        application::findings(input),
        content::findings(input),
    ]
    .concat();
    sort(&mut found);
    found
}

fn refused(input: &Input<'_>) -> Vec<Finding> {
    let finding = |refused: &Refused| {
        let followers = match refused.followers {
            0 => String::new(),
            more => format!("; {} that name it are refused with it", counted(more as u64, "definition")),
        };
        blocking(
            "definition-refused",
            format!("the target refuses {}", refused.object),
            format!("{}{followers}; the statement: {}", refused.words, refused.statement),
            "change the definition on the source to one that both servers take, or drop it there; if a role, an extension \
             or a setting is missing on the target, add it",
        )
    };
    input.found.refused.iter().flatten().map(finding).collect()
}
