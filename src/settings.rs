//! What a command works with: validated once, after that nobody sees what was typed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cutover::freeze::WorkloadName;
use crate::error::Side;
use crate::kubernetes::{Operator, Psql};
use crate::pg::{ConnInfo, Endpoint};
use crate::plan::VectorIndexChoice;
use crate::plan::document::Document;
use crate::schema::ClientSearch;

/// Where the value of a setting comes from; a later one is stronger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "layer", rename_all = "lowercase")]
pub enum Origin {
    /// Nothing was said.
    Default,
    /// A settings file.
    File {
        /// Its path.
        file: PathBuf,
        /// The key's line, from 1.
        line: usize,
        /// The key's first character in the line, from 1.
        column: usize,
        /// The section's command, its words joined by dots; empty above all sections.
        section: String,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
}

impl Origin {
    /// How strong it is. A section is stronger than what stands above it.
    pub fn rank(&self) -> usize {
        match self {
            Origin::Default => 0,
            Origin::File { section, .. } if section.is_empty() => 1,
            Origin::File { section, .. } => 2 + section.matches('.').count(),
            Origin::Environment { .. } => usize::MAX,
        }
    }
}

/// `pgmove.toml:3:1`, or the name of the variable.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line, column, .. } => write!(f, "{}:{line}:{column}", file.display()),
            Origin::Environment { variable } => f.write_str(variable),
        }
    }
}

/// What `pgmove config show` prints.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// Every option; one that holds differently for some commands is there several times.
    pub options: Vec<Held>,
    /// The variables that give passwords.
    pub passwords: Vec<PasswordVariable>,
}

/// A value that an option has.
#[derive(Debug, Serialize)]
pub struct Held {
    /// The option's name without dashes.
    pub option: String,
    /// A boolean, a number or a text without its password; `null` if there is none.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub from: Origin,
    /// The commands for which it is so.
    pub commands: Vec<String>,
}

/// A variable that may give a password.
#[derive(Debug, Serialize)]
pub struct PasswordVariable {
    /// Its name.
    pub variable: &'static str,
    /// Whether it is set; its value is nobody's business.
    pub is_set: bool,
}

/// How to reach the databases.
#[derive(Debug, Clone)]
pub struct Connections {
    /// The source; `None` if an archive takes its place.
    pub source: Option<Arc<ConnInfo>>,
    /// The target, as an ordinary owner.
    pub target: Arc<ConnInfo>,
    /// The target as a superuser, for what its owner may not do.
    pub target_admin: Option<Arc<ConnInfo>>,
    /// Who does that where there is no such login.
    pub substitute: Substitute,
    /// The operator of the target, if it is to create extensions that only a superuser may.
    pub operator: Option<Operator>,
    /// Where to look for pg_dump and pg_restore.
    pub client: ClientSearch,
    /// How long a stream or a child process may stand still.
    pub stall: Duration,
}

/// What takes the place of a superuser's login to the target.
#[derive(Debug, Clone, Default)]
pub enum Substitute {
    /// Nothing.
    #[default]
    None,
    /// psql in the pod of the target's server.
    Psql(Psql),
    /// Nothing, since neither of the ways that were tried leads there: for these reasons.
    Nobody(String),
}

impl Connections {
    /// Endpoints whose sessions are named `application_name`.
    ///
    /// # Panics
    /// If the source is asked for where an archive takes its place: a defect of the caller.
    pub fn endpoint(&self, side: Side, application_name: &str) -> Endpoint {
        let conninfo = match side {
            Side::Source => self.source.as_ref().expect("only a restore has no source server"),
            Side::Target => &self.target,
        };
        Endpoint {
            side,
            conninfo: Arc::clone(conninfo),
            application_name: application_name.to_owned(),
            copy_encoding: None,
        }
    }

    /// psql in the target's pod, if that takes the place of an admin, in sessions named `application_name`.
    pub fn psql(&self, application_name: &str) -> Option<Psql> {
        match &self.substitute {
            Substitute::Psql(psql) => {
                let (application_name, stall) = (application_name.to_owned(), self.stall);
                Some(Psql { application_name, stall, ..psql.clone() })
            }
            Substitute::None | Substitute::Nobody(_) => None,
        }
    }

    /// The admin's endpoint, if there is one.
    pub fn admin(&self, application_name: &str) -> Option<Endpoint> {
        self.target_admin.as_ref().map(|conninfo| Endpoint {
            side: Side::Target,
            conninfo: Arc::clone(conninfo),
            application_name: application_name.to_owned(),
            copy_encoding: None,
        })
    }
}

/// What is rewritten on the way; a comparison must know it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// The role that gets every object; `None` keeps owners where the role exists.
    pub owner: Option<String>,
    /// Which vector indexes the target gets.
    pub vector_index: VectorIndexChoice,
}

/// The rewrites that were asked for by option.
#[derive(Debug, Clone, Default)]
pub struct GivenChoices {
    /// `--owner`.
    pub owner: Option<String>,
    /// `--vector-index`.
    pub vector_index: Option<VectorIndexChoice>,
}

impl GivenChoices {
    /// With the defaults for what was not given.
    pub fn or_default(&self) -> Choices {
        Choices {
            owner: self.owner.clone(),
            vector_index: self.vector_index.unwrap_or(VectorIndexChoice::Auto),
        }
    }
}

/// What a run does beyond the source's server to keep it from being written.
#[derive(Debug, Clone)]
pub struct FreezeSettings {
    /// Workloads to stop besides those that are connected.
    pub named: Vec<WorkloadName>,
    /// How long nothing may change while pods and sessions end.
    pub patience: Duration,
    /// Where this process works, for another one that finds its Lease.
    pub place: String,
}

/// What becomes of freeze and fence when a run fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They stay, for a run that goes on; the way back is said
    Keep,
    /// The application runs on the source as before
    Rollback,
}

/// `pgmove run`.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent option of the command line")]
pub struct RunSettings {
    /// The databases.
    pub connections: Connections,
    /// The rewrites; a resumed run goes by those that it began with.
    pub choices: GivenChoices,
    /// Read everything, write nothing.
    pub dry_run: bool,
    /// In a dry run, hash the source's rows.
    pub digests: bool,
    /// Go on with the run in `run_dir`.
    pub resume: bool,
    /// Drop what the target holds; the user has named its database.
    pub replace: bool,
    /// Stop what writes to the source before the snapshot; the source must be in Kubernetes.
    pub freeze: Option<FreezeSettings>,
    /// Fence the source before the snapshot.
    pub fence: bool,
    /// What becomes of freeze and fence if the run does not end with 0.
    pub on_failure: OnFailure,
    /// Where plan and journal are.
    pub run_dir: PathBuf,
    /// How often the run goes on by itself after a cut connection, when it has come no further in between.
    pub retries: u32,
    /// Lanes; `None` decides from both servers and this machine.
    pub jobs: Option<u16>,
    /// Size of chunks, in bytes; `None` decides from size and lanes.
    pub chunk_bytes: Option<u64>,
    /// Memory for index builds, in bytes; `None` decides from the server's setting.
    pub index_memory: Option<u64>,
    /// Accept that the source was written since the snapshot.
    pub accept_writes: bool,
    /// Leave the ledger in the target.
    pub keep_ledger: bool,
    /// The archive to write beside the load.
    pub archive: Option<PathBuf>,
    /// The archive to load, in the place of a source.
    pub restored: Option<PathBuf>,
    /// How much all lanes read from the source in a second, in bytes.
    pub max_rate: Option<u64>,
    /// The scratch database that is moved into, of a rehearsal.
    pub rehearsal: Option<String>,
    /// The plan to keep to.
    pub given_plan: Option<Arc<Document>>,
}

/// How often a run goes on by itself where nothing is said.
pub const RETRIES: u32 = 3;

impl RunSettings {
    /// A run that nothing else is said of.
    pub fn new(connections: Connections, run_dir: PathBuf) -> RunSettings {
        RunSettings {
            connections,
            choices: GivenChoices::default(),
            dry_run: false,
            digests: false,
            resume: false,
            replace: false,
            freeze: None,
            fence: false,
            on_failure: OnFailure::Keep,
            run_dir,
            retries: RETRIES,
            jobs: None,
            chunk_bytes: None,
            index_memory: None,
            accept_writes: false,
            keep_ledger: false,
            archive: None,
            restored: None,
            given_plan: None,
            rehearsal: None,
            max_rate: None,
        }
    }
}

/// `pgmove dump`.
#[derive(Debug, Clone)]
pub struct DumpSettings {
    /// The database.
    pub source: Arc<ConnInfo>,
    /// The archive to write.
    pub archive: PathBuf,
    /// Where to look for pg_dump.
    pub client: ClientSearch,
    /// How long a stream or a child process may stand still.
    pub stall: Duration,
    /// Lanes; `None` decides from the server and this machine.
    pub jobs: Option<u16>,
    /// Size of chunks, in bytes; `None` decides from size and lanes.
    pub chunk_bytes: Option<u64>,
    /// How much all lanes read in a second, in bytes.
    pub max_rate: Option<u64>,
    /// Accept that the source was written since the snapshot.
    pub accept_writes: bool,
}
