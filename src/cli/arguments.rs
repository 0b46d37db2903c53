//! The command line as it is typed: one definition for parsing, `--help`, completions and man pages, the environment
//! variables and the keys of `pgmove.toml` (`layers` gives each option its variable and its key).
//!
//! An option whose value may hold a password is marked by `hide_env_values`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::commands::MIB;
use super::endpoints::{ClientOptions, Cluster, Endpoints, Sides, SourceObject, Target, TargetObject};
use super::{check, freeze, help, init, plan, rbac, rehearse, rollback};
use crate::settings::RETRIES;

/// Moves a PostgreSQL database from one server to another and proves that both sides are equal.
///
/// The move streams rows in binary through this machine, hashes them on the way, rebuilds indexes (vector
/// indexes too), and then compares both sides by row counts, checksums and schema. Exit code 0 means proven.
#[derive(Debug, Parser)]
#[command(name = "pgmove", version, after_help = help::PROGRAM, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) display: Display,
}

/// Where settings are read from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// The settings file, which may hold every other option [default: ./pgmove.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "PGMOVE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// How a command talks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Display {
    /// Print nothing but errors and the verdict
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more: each statement's object, and every object that differs as planned (-v); the log of the libraries (-vv)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// What stdout carries: text for people, or JSON, one event a line and the result last
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// The form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables and sentences.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented pgmove.toml from what is in a Kubernetes cluster, where nothing is changed
    #[command(after_help = init::EXAMPLES)]
    Init(Box<init::Arguments>),
    /// Look at both sides before a move: what stands in its way, what is good to know, what it needs; only reads
    #[command(after_help = check::EXAMPLES)]
    Check(Box<check::Arguments>),
    /// Move a database: check, copy, rebuild indexes, verify, verdict
    #[command(after_help = help::RUN)]
    Run(Box<Run>),
    /// Tell everything that a run would do, in order, and write nothing
    #[command(after_help = help::PLAN)]
    Plan(Box<plan::Arguments>),
    /// Do the whole move into a scratch database of the target, prove it, and tell how long the window will take
    #[command(after_help = help::REHEARSE)]
    Rehearse(Box<rehearse::Arguments>),
    /// Dump a database into an archive: rows, DDL, digests
    #[command(after_help = help::DUMP)]
    Dump(Dump),
    /// Load an archive into an empty database, and prove that it holds what was dumped
    #[command(after_help = help::RESTORE)]
    Restore(Box<Restore>),
    /// Look into archives
    #[command(subcommand)]
    Archive(Archive),
    /// Compare two databases, at any time
    #[command(after_help = help::VERIFY)]
    Verify(Box<Verify>),
    /// Stop what writes to a source in Kubernetes, and what would start it again
    #[command(after_help = freeze::EXAMPLES)]
    Freeze(Box<freeze::Arguments>),
    /// Put back what a freeze has changed
    #[command(after_help = rollback::EXAMPLES)]
    Rollback(rollback::Arguments),
    /// Print the least Role for a move in Kubernetes, with its RoleBinding, as kubectl applies them
    #[command(after_help = rbac::EXAMPLES)]
    Rbac(Box<rbac::Arguments>),
    /// Tell what a run does or did, from its run directory; may be asked at any time, also while the run works
    #[command(after_help = STATUS_EXAMPLES)]
    Status(RunDirectoryOption),
    /// Show a run's report again: as text, as JSON, or as a page of HTML
    #[command(after_help = REPORT_EXAMPLES)]
    Report(Wanted),
    /// Make a source refuse writes, and end the sessions that could write
    #[command(after_help = help::FENCE)]
    Fence(Fence),
    /// Lift the fence of a source
    #[command(after_help = help::UNFENCE)]
    Unfence(Unfence),
    /// Look into the settings
    #[command(subcommand)]
    Config(Config),
    /// Print a shell's completions
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands
    #[command(after_help = help::MAN)]
    Man {
        /// Write a page for each command into this directory
        #[arg(long, value_name = "DIRECTORY")]
        output_dir: Option<PathBuf>,
    },
}

impl Command {
    /// Whether stdout is to be a file's content, to which nothing may be added.
    pub(crate) fn prints_content(&self) -> bool {
        matches!(self, Command::Rbac(_) | Command::Completions { .. } | Command::Man { output_dir: None })
    }
}

const STATUS_EXAMPLES: &str = "\
Examples:
  See from another terminal how far a run is:
    watch pgmove status --run-dir pgmove-runs/immich

Nothing is written and nobody is kept waiting. The exit code is 0 if there is something to tell, whatever it is.";

const REPORT_EXAMPLES: &str = "\
Examples:
  Read the report of the only run there is:
    pgmove report
  Keep it as a page for a browser, for a phone or for paper (the run directory has it already):
    pgmove report --run-dir pgmove-runs/immich --html >immich.html
  Ask it something (docs/report.md describes every field):
    pgmove report --output json | jq '.tables[] | {table, rows, checksums}'";

/// How much is done at once.
#[derive(Debug, Args)]
pub(crate) struct Lanes {
    /// How many lanes load and build at once [default: from the servers and this machine]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Memory for all index builds that run at once, on the target [default: 1024 or the server's setting]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1_048_576))]
    pub(crate) index_memory: Option<u64>,
}

impl Lanes {
    /// In bytes.
    pub(crate) fn index_memory(&self) -> Option<u64> {
        self.index_memory.map(|size| size * MIB)
    }
}

/// How a target is loaded, from a server or from an archive.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Go on with the interrupted run in the run directory, with the rewrites that it began with
    #[arg(long)]
    pub(crate) resume: bool,
    /// Drop everything that the target database holds before it is loaded; DATABASE must be its name. Extensions and
    /// settings stay
    #[arg(long, value_name = "DATABASE")]
    pub(crate) replace: Option<String>,
    /// Where plan and journal of the run are kept [default: pgmove-runs/<database>]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Go on by itself so often after a lost connection, a restart of a server or a switchover; counted anew when the run has
    /// come further
    #[arg(long, value_name = "N", default_value_t = RETRIES)]
    pub(crate) retries: u32,
    #[command(flatten)]
    pub(crate) lanes: Lanes,
    /// Leave pgmove's ledger (schema pgmove) in the target
    #[arg(long)]
    pub(crate) keep_ledger: bool,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent option")]
#[expect(clippy::struct_field_names, reason = "the option is called --dry-run")]
pub(crate) struct Run {
    /// Do all the reading, print what would be done, and write nothing on either side
    #[arg(long, conflicts_with_all = ["resume", "fence"])]
    pub(crate) dry_run: bool,
    /// Also read and hash every row of the source in a dry run
    #[arg(long, requires = "dry_run")]
    pub(crate) digests: bool,
    /// Do what the plan of `pgmove plan --save FILE` says, or nothing: a changed source or target is refused
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["resume", "jobs", "chunk_size", "index_memory", "owner", "vector_index"]
    )]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Make the source refuse writes before its snapshot is taken, and leave it so (see `pgmove unfence`)
    #[arg(long)]
    pub(crate) fence: bool,
    /// Split tables into chunks of about this size [default: from size and jobs]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) chunk_size: Option<u64>,
    /// Read no more than this from the source in a second, on all lanes together [default: no limit]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) max_rate: Option<u64>,
    /// Accept that the source was written since the snapshot; without it such a run does not end with 0
    #[arg(long)]
    pub(crate) accept_writes: bool,
    /// Write a compressed archive of the source beside the load, into a new directory (see `pgmove restore`)
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "dry_run")]
    pub(crate) archive: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) endpoints: Endpoints,
    #[command(flatten)]
    pub(crate) freezing: freeze::Freezing,
    #[command(flatten)]
    pub(crate) choices: Choices,
}

/// What is rewritten on the way; `run` and `verify` must agree on it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rewrites")]
pub(crate) struct Choices {
    /// Give every object to this role instead of its owner's namesake
    #[arg(long, value_name = "ROLE")]
    pub(crate) owner: Option<String>,
    /// Access method of the target's vector indexes [default: auto]
    #[arg(long, value_enum)]
    pub(crate) vector_index: Option<VectorIndex>,
}

/// Which access method vector indexes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VectorIndex {
    /// vchordrq for Immich's two and for pgvecto.rs indexes where the target offers it, else hnsw; others kept
    Auto,
    /// Every vector index as vchordrq
    Vchordrq,
    /// Every vector index as hnsw
    Hnsw,
    /// As on the source
    Keep,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// The database to dump: postgres://user@host:port/database?sslmode=…, "host=… dbname=…", or in Kubernetes sts/NAME,
    /// deploy/NAME, pod/NAME, svc/NAME, cluster/NAME
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) source: String,
    /// Where the archive is written: a directory that does not exist, or is empty
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) archive: PathBuf,
    /// How many lanes read at once [default: from the server and this machine]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Split tables into chunks of about this size [default: from size and jobs]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) chunk_size: Option<u64>,
    /// Read no more than this from the source in a second, on all lanes together [default: no limit]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) max_rate: Option<u64>,
    /// Accept that the source was written since the snapshot; without it such a dump does not end with 0
    #[arg(long)]
    pub(crate) accept_writes: bool,
    // A heading is for all that follows it.
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) source_object: SourceObject,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The archive to load
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) archive: PathBuf,
    /// Read the archive's description, print what would be done, and write nothing
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) target_object: TargetObject,
    #[command(flatten)]
    pub(crate) choices: Choices,
}

/// Which run.
#[derive(Debug, Args)]
pub(crate) struct RunDirectoryOption {
    /// The directory of the run [default: the only one in pgmove-runs]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) run_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Wanted {
    #[command(flatten)]
    pub(crate) run_dir: RunDirectoryOption,
    /// Print the page of HTML
    #[arg(long)]
    pub(crate) html: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Archive {
    /// Read an archive through: sizes, hashes, and the digests of its rows
    #[command(after_help = help::CHECK)]
    Check {
        /// The archive
        #[arg(value_name = "DIRECTORY")]
        archive: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print every setting of every command: its value, and where that comes from; never a password
    #[command(after_help = help::SHOW)]
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// How many tables are compared at once
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Compare row counts only
    #[arg(long)]
    pub(crate) counts: bool,
    /// Stream every row of both sides and hash it here, instead of hashing in the servers
    #[arg(long, conflicts_with = "counts")]
    pub(crate) reread: bool,
    /// How many differing rows of a table are named
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) show_rows: usize,
    #[command(flatten)]
    pub(crate) sides: Sides,
    #[command(flatten)]
    pub(crate) choices: Choices,
}

/// A database to fence.
#[derive(Debug, Args)]
pub(crate) struct Fence {
    /// The database to fence: postgres://user@host:port/database?sslmode=…, "host=… dbname=…", or in Kubernetes sts/NAME,
    /// deploy/NAME, pod/NAME, svc/NAME, cluster/NAME
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) source: String,
    /// Where the former setting is kept [default: pgmove-runs/<database>]
    #[arg(long = "run-dir", value_name = "DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) source_object: SourceObject,
}

/// A database that is fenced.
#[derive(Debug, Args)]
pub(crate) struct Unfence {
    /// The fenced database: postgres://user@host:port/database?sslmode=…, "host=… dbname=…", or in Kubernetes sts/NAME,
    /// deploy/NAME, pod/NAME, svc/NAME, cluster/NAME
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) source: String,
    /// Where the fence has kept the former setting [default: pgmove-runs/<database>]
    #[arg(long = "run-dir", value_name = "DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) source_object: SourceObject,
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_page_of_help() {
        let mut command = crate::cli::layers::described().term_width(100);
        command.build();
        let mut pages = String::new();
        page(&mut command, &mut pages);
        insta::assert_snapshot!(pages);
    }

    /// The page of a command, and those of its own commands.
    fn page(command: &mut clap::Command, pages: &mut String) {
        // Whatever the environment has set.
        *command = std::mem::take(command).mut_args(|argument| argument.hide_env_values(true));
        let name = command.get_bin_name().unwrap_or("pgmove").to_owned();
        let _ = write!(pages, "==== {name}\n{}\n", command.render_long_help());
        for command in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            page(command, pages);
        }
    }

    #[test]
    fn what_a_run_and_a_restore_share_stands_under_the_same_headings() {
        let command = Arguments::command();
        let heading = |name: &str, option: &str| {
            let command = command.find_subcommand(name).expect("a command");
            let found = command.get_arguments().find(|argument| argument.get_long() == Some(option));
            found.unwrap_or_else(|| panic!("{name} has no --{option}")).get_help_heading()
        };
        for (expected, options) in [
            (None, &["dry-run", "resume", "replace", "run-dir", "jobs", "index-memory", "keep-ledger"][..]),
            (Some("Databases"), &["target", "target-admin", "client", "client-directory"]),
            (Some("Kubernetes"), &["namespace", "target-secret", "target-sslmode"]),
            (Some("Rewrites"), &["owner", "vector-index"]),
        ] {
            for option in options {
                assert_eq!([heading("run", option), heading("restore", option)], [expected; 2], "--{option}");
            }
        }
    }
}
