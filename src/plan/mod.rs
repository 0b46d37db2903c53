//! Everything that will be done, decided before anything is written. Pure: no I/O, no clock.

pub mod columns;
pub mod compare;
pub mod create_privilege;
pub mod database;
pub mod ddl;
pub mod document;
pub(crate) mod extensions;
pub mod make;
pub mod tables;
mod unique_index;
pub mod vector;

use serde::{Deserialize, Serialize};

use crate::catalog::{Database, UserObjects};
use crate::kubernetes::WantedExtension;
use crate::pg::{Oid, QualifiedName};
use crate::schema::Change;
use crate::schema::lexer::mask_strings;
use crate::schema::rewrite::{ExistingSchema, Roles};
pub use tables::{Chunk, TablePlan};

/// The whole move. It is written to the run directory before the first write to the target, and `--resume`
/// goes by it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The run's id; empty of a plan that no run goes by.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// The source's `search_path`: functions in defaults, checks and indexes may rely on it.
    pub search_path: String,
    /// The source's encoding, if its values do not travel in UTF-8.
    pub copy_encoding: Option<String>,
    /// How many lanes.
    pub jobs: u16,
    /// Memory for all index builds that run at once, in bytes.
    pub index_memory: u64,
    /// What is dropped on the target first, if anything is.
    #[serde(default)]
    pub replaced: Option<UserObjects>,
    /// The tables that hold rows.
    pub tables: Vec<TablePlan>,
    /// Materialised views in the order in which they are refreshed; compared apart.
    pub materialized_views: Vec<TablePlan>,
    /// Partitioned tables, to be analyzed after their partitions.
    pub partitioned: Vec<QualifiedName>,
    /// Sequences whose values are carried.
    pub sequences: Vec<QualifiedName>,
    /// Large objects, in batches.
    pub large_objects: Vec<LargeObjectBatch>,
    /// The target's roles, for owners and grants of large objects.
    pub roles: Roles,
    /// Schemas that the target had before anything was made there.
    pub existing_schemas: Vec<ExistingSchema>,
    /// The target's database as it was then: what it had of its own may stay. None for a dump.
    pub target_database: Option<Database>,
    /// Who takes the steps that need a superuser; none where there is none.
    #[serde(default)]
    pub admin: Option<String>,
    /// DDL in pg_dump's order.
    pub steps: Vec<Step>,
    /// What is changed in the DDL, before and after.
    pub rewrites: Vec<Change>,
    /// What the source has and the target will not have, with the reason.
    pub not_carried: Vec<NotCarried>,
}

impl Plan {
    /// The plan for a person: without what may be a password.
    #[must_use]
    pub fn shown(mut self) -> Plan {
        for step in &mut self.steps {
            let shown = step.shown();
            if shown != step.statements {
                let whole = step.statements.join(";\n");
                step.masked_digest = Some(document::slow_digest(&step.object, &whole));
                step.statements = shown;
            }
        }
        self
    }
}

/// Large objects that are copied in one transaction: OIDs from (inclusive) to (inclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectBatch {
    /// The first.
    pub first: Oid,
    /// The last.
    pub last: Oid,
}

/// When and how a step of DDL is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Before the rows, in order.
    PreData,
    /// An index or a unique constraint, as soon as its table (position in [`Plan::tables`]) is loaded.
    Build {
        /// The table; `None` for a partitioned table's own, which needs nothing but its `needs`.
        table: Option<usize>,
        /// What it locks the table with.
        lock: LockMode,
    },
    /// A foreign key, when both tables are loaded and indexed.
    ForeignKey {
        /// The tables it locks.
        tables: Vec<usize>,
    },
    /// After all of that, in order.
    Finish,
}

/// A table-level lock, by the statements of a move that take it (documentation, "Explicit Locking").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Reading.
    AccessShare,
    /// COPY.
    RowExclusive,
    /// VACUUM, ANALYZE, CREATE STATISTICS.
    ShareUpdateExclusive,
    /// CREATE INDEX.
    Share,
    /// A foreign key, on both its tables.
    ShareRowExclusive,
    /// TRUNCATE, and every other ALTER TABLE.
    AccessExclusive,
}

impl LockMode {
    /// Whether two sessions cannot hold both at once.
    pub fn conflicts_with(self, other: LockMode) -> bool {
        use LockMode::{
            AccessExclusive, AccessShare, RowExclusive, Share, ShareRowExclusive, ShareUpdateExclusive,
        };
        !match self {
            AccessShare => other != AccessExclusive,
            RowExclusive => matches!(other, AccessShare | RowExclusive | ShareUpdateExclusive),
            ShareUpdateExclusive => matches!(other, AccessShare | RowExclusive),
            Share => matches!(other, AccessShare | Share),
            ShareRowExclusive => other == AccessShare,
            AccessExclusive => false,
        }
    }
}

/// Over which connection a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// The target's ordinary role.
    Owner,
    /// The operator of the target's Cluster, before anything else is written; then the target's ordinary role finds it done.
    Operator,
    /// It needs a superuser: `--target-admin`, or what takes its place ([`Plan::admin`]).
    Admin,
}

/// One entry of the dump on its way into the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The dump's id of the entry.
    pub id: u32,
    /// What a person calls it.
    pub object: String,
    /// When.
    #[serde(flatten)]
    pub phase: Phase,
    /// Over which connection.
    pub route: Route,
    /// Steps (by id) that must be taken before; only among [`Phase::Build`] and [`Phase::ForeignKey`].
    pub needs: Vec<u32>,
    /// The statements, after all rewrites.
    pub statements: Vec<String>,
    /// Whether a string in them may be a password; [`Step::shown`] masks it.
    #[serde(default)]
    pub may_hold_secrets: bool,
    /// Where strings were masked: a slow digest of the statements as they were, by which a change is seen all the same.
    #[serde(default)]
    pub masked_digest: Option<String>,
    /// For an extension: what an operator is asked for, if it can be left to one.
    #[serde(default)]
    pub extension: Option<WantedExtension>,
    /// `maintenance_work_mem` for the step, in bytes; 0 leaves the server's.
    pub maintenance_work_mem: u64,
    /// For a vector index: what is known of it.
    pub vector_index: Option<VectorIndexPlan>,
}

impl Step {
    /// The statements for a person.
    pub fn shown(&self) -> Vec<String> {
        let shown = |text: &String| if self.may_hold_secrets { mask_strings(text) } else { text.clone() };
        self.statements.iter().map(shown).collect()
    }
}

/// A vector index of the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorIndexPlan {
    /// The index.
    pub index: QualifiedName,
    /// Its table.
    pub table: QualifiedName,
    /// The embedding's column.
    pub column: String,
    /// `hnsw`, `ivfflat`, `vchordrq`.
    pub access_method: String,
    /// The operator that the index answers: `<=>`.
    pub operator: String,
    /// For `vchordrq`: how many levels of lists it has, which is how many probes a query names.
    pub list_levels: usize,
    /// The number of lists of the finest level, 0 where there are none.
    pub lists: u64,
    /// Of a `vchordrq` index that an application knows as its own: the numbers of lists that it takes; with another one it
    /// builds the index again.
    #[serde(default)]
    pub expected_lists: Vec<u64>,
    /// Memory that the build takes beside `maintenance_work_mem`, in bytes.
    pub memory: u64,
}

/// Which access method the target's vector indexes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VectorIndexChoice {
    /// `vchordrq` for those of a known application and for pgvecto.rs indexes where the target offers it, else `hnsw`;
    /// others as they are.
    Auto,
    /// All `vchordrq`.
    Vchordrq,
    /// All `hnsw`.
    Hnsw,
    /// As they are.
    Keep,
}

impl std::fmt::Display for VectorIndexChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            VectorIndexChoice::Auto => "auto",
            VectorIndexChoice::Vchordrq => "vchordrq",
            VectorIndexChoice::Hnsw => "hnsw",
            VectorIndexChoice::Keep => "keep",
        })
    }
}

/// Something that stays behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCarried {
    /// What.
    pub object: String,
    /// Why.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::LockMode::{
        AccessExclusive, AccessShare, RowExclusive, Share, ShareRowExclusive, ShareUpdateExclusive,
    };
    use super::*;

    /// The documentation's table of conflicts, for the modes that a move takes.
    #[test]
    fn locks_conflict_as_documented() {
        let modes =
            [AccessShare, RowExclusive, ShareUpdateExclusive, Share, ShareRowExclusive, AccessExclusive];
        let conflicts = ["     X", "   XXX", "  XXXX", " XX XX", " XXXXX", "XXXXXX"];
        for (mode, row) in modes.iter().zip(conflicts) {
            for (other, cell) in modes.iter().zip(row.chars()) {
                assert_eq!(mode.conflicts_with(*other), cell == 'X', "{mode:?} and {other:?}");
            }
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        let step = |may_hold_secrets| Step {
            id: 1,
            object: "SERVER old".into(),
            phase: Phase::PreData,
            route: Route::Owner,
            needs: vec![],
            statements: vec!["CREATE SERVER old OPTIONS (password 'p;w')".into()],
            may_hold_secrets,
            masked_digest: None,
            extension: None,
            maintenance_work_mem: 0,
            vector_index: None,
        };
        assert_eq!(step(true).shown(), ["CREATE SERVER old OPTIONS (password '***')"]);
        assert_eq!(step(false).shown(), step(false).statements);
        let plan = |password: &str| {
            let mut step = step(true);
            step.statements[0] = step.statements[0].replace("p;w", password);
            Plan { steps: vec![step], ..crate::report::sample::plan() }.shown().steps.remove(0)
        };
        assert_eq!(plan("one").statements, plan("other").statements);
        assert_ne!(plan("one").masked_digest, plan("other").masked_digest);
        assert_eq!(plan("one").masked_digest, plan("one").masked_digest);
        // Python: hashlib.pbkdf2_hmac("sha256", statement, b"SERVER old", 600_000).hex()
        let known = "62e1cc3931dbd33b77acebea773dad8dd9a26847ca747696737dfebbf521b356";
        assert_eq!(plan("one").masked_digest.as_deref(), Some(known));
    }
}
