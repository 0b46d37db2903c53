//! The report of a run as one value: `report.json`, specified in docs/report.md, and what is shown of it.
//!
//! Pure: made of the plan, the comparison and what the run's processes did. It can be read back, and all forms
//! (text, HTML) are made of it alone, so each can be made again.

mod parts;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Exit};
use crate::plan::{NotCarried, Plan};
use crate::report::Failure;
use crate::report::error::{Again, meaning};
use crate::report::process::Finding;
use crate::report::progress::{StageTiming, TableTiming, Timings};
use crate::report::recorder::History;
use crate::report::rehearsal::Rehearsal;
use crate::report::verdict::Scope;
use crate::schema::Change;
use crate::verify::{Check, Comparison, TableResult, VectorSearchResult};

/// The version of the format.
pub const VERSION: u32 = 1;

/// A later format may say the same words of other things.
fn this_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(deserializer)?;
    if version <= VERSION {
        return Ok(version);
    }
    let words = format!("its format is version {version}, and this pgmove reads up to {VERSION}");
    Err(serde::de::Error::custom(words))
}

/// What a run has come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    #[serde(deserialize_with = "this_version")]
    pub version: u32,
    /// The run's id.
    pub run: String,
    /// How it ended, or that it did not.
    pub conclusion: Conclusion,
    /// The source, without secrets.
    pub source: String,
    /// The target, without secrets.
    pub target: String,
    /// The point in time that was compared, and how many large objects.
    pub scope: Scope,
    /// What each stage did, all processes together.
    pub stages: Vec<StageTiming>,
    /// The tables and materialised views, in the plan's order.
    pub tables: Vec<Table>,
    /// The indexes and constraints that were built after the rows.
    pub indexes: Vec<Index>,
    /// Everything that was compared, or was not.
    pub checks: Vec<Check>,
    /// The findings of the last check.
    pub findings: Vec<Finding>,
    /// Changed statements, before and after.
    pub rewrites: Vec<Change>,
    /// What the source has and the target will not have.
    pub not_carried: Vec<NotCarried>,
    /// What a rehearsal has shown; `None` of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// The processes of the run.
    #[serde(flatten)]
    pub history: History,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// In a word.
    pub state: State,
    /// The exit code; `None` of a run that works, or was killed.
    pub exit: Option<u8>,
    /// In a sentence.
    pub sentence: String,
    /// Why it stopped.
    pub error: Option<Failure>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A process works on it.
    Running,
    /// Everything was compared and found equal.
    Equal,
    /// A difference was found.
    Different,
    /// No difference was found, but something was not compared.
    NotAllCompared,
    /// Refused; nothing was written.
    Refused,
    /// Stopped; can be gone on with.
    Stopped,
    /// Interrupted; can be gone on with.
    Interrupted,
    /// Its process ended without a word; can be gone on with.
    Killed,
    /// It must start over, or could not begin.
    Failed,
}

impl State {
    /// Whether both sides were compared.
    pub fn is_verdict(self) -> bool {
        matches!(self, State::Equal | State::Different | State::NotAllCompared)
    }

    /// The word for a person.
    pub fn title(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Equal => "proven equal",
            State::Different => "DIFFERENT",
            State::NotAllCompared => "not all compared",
            State::Refused => "refused",
            State::Stopped => "stopped",
            State::Interrupted => "interrupted",
            State::Killed => "killed",
            State::Failed => "failed",
        }
    }
}

impl From<Exit> for State {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => State::Equal,
            Exit::Different => State::Different,
            Exit::NotAllCompared => State::NotAllCompared,
            Exit::Refused => State::Refused,
            Exit::Resumable | Exit::RolledBack => State::Stopped,
            Exit::Interrupted => State::Interrupted,
            Exit::Internal | Exit::Usage | Exit::StartOver => State::Failed,
        }
    }
}

impl Conclusion {
    /// A verdict.
    pub fn verdict(exit: Exit, sentence: String) -> Conclusion {
        Conclusion { state: exit.into(), exit: Some(exit.code()), sentence, error: None }
    }

    /// An end without one, other than by an error.
    pub fn end(exit: Exit) -> Conclusion {
        Conclusion::verdict(exit, meaning(exit, Again::Resume))
    }

    /// An error.
    pub fn error(error: &Error) -> Conclusion {
        Conclusion { error: Some(Failure::from(error)), ..Conclusion::end(error.exit) }
    }

    /// A process works still.
    pub fn running() -> Conclusion {
        let sentence = "running: a process works on it".to_owned();
        Conclusion { state: State::Running, exit: None, sentence, error: None }
    }

    /// A process ended without a word.
    pub fn killed(again: Again) -> Conclusion {
        let next = match again {
            Again::Resume => "go on with --resume",
            Again::Anew(words) => words,
        };
        let sentence = format!("killed: its process ended without a word, or its machine crashed; {next}");
        Conclusion { state: State::Killed, exit: None, sentence, error: None }
    }
}

/// A table or a materialised view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub table: String,
    /// Rows on the source and on the target; `None` until they were compared.
    pub rows: Option<[u64; 2]>,
    /// Checksums on the source and on the target.
    pub checksums: Option<[String; 2]>,
    /// How the comparison of it ended: `equal`, `as-planned`, `different` or `not-compared`; `None` until then.
    pub outcome: Option<String>,
    /// How its rows travel.
    pub format: Option<Format>,
    /// Why they do not travel in binary.
    pub text_reason: Option<String>,
    /// In how many chunks.
    pub chunks: u64,
    /// What was done with it.
    pub timing: TableTiming,
}

/// How rows travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// In binary.
    Binary,
    /// In binary, embeddings converted on the way.
    Converted,
    /// As text.
    Text,
    /// Not at all: a materialised view is computed again.
    Refreshed,
}

impl Format {
    /// The words for a person.
    pub fn title(self) -> &'static str {
        match self {
            Format::Binary => "binary",
            Format::Converted => "binary, embeddings converted",
            Format::Text => "text",
            Format::Refreshed => "computed again",
        }
    }
}

/// An index or a constraint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// What it is: `INDEX public.clip_index`.
    pub object: String,
    /// Its table.
    pub table: Option<String>,
    /// The access method of a vector index.
    pub access_method: Option<String>,
    /// Memory that was planned for its build, in bytes; 0 is what the server gives.
    pub memory: u64,
    /// How long its build took, in seconds; `None` if it was not built, or by a process that nothing is known of.
    pub seconds: Option<f64>,
    /// How a vector index answers.
    pub search: Option<Search>,
}

/// How a vector index answers queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Its name.
    pub index: String,
    /// The plan of a nearest-neighbour query.
    pub plan: String,
    /// Whether that plan uses the index.
    pub is_used: bool,
    /// The part of the ten nearest rows that it finds; `None` if the table is empty.
    pub recall_at_10: Option<f64>,
    /// How many stored rows were used as queries.
    pub sample: usize,
}

/// What a report is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The run's id.
    pub run: String,
    /// The source, without secrets.
    pub source: String,
    /// The target, without secrets.
    pub target: String,
    /// How it ended.
    pub conclusion: Conclusion,
    /// The plan, if the run has one.
    pub plan: Option<&'a Plan>,
    /// The comparison, if the run has come so far, and what it was about.
    pub comparison: Option<(&'a Comparison, Scope)>,
    /// Findings that stopped the run after its check.
    pub findings: &'a [crate::preflight::Finding],
    /// The run's processes.
    pub history: History,
}

impl Report {
    /// Puts the parts together.
    pub fn new(parts: Parts<'_>) -> Report {
        let nothing = Comparison::default();
        let (comparison, scope) = parts.comparison.unwrap_or((&nothing, Scope::default()));
        let timings = parts::timings(&parts.history.processes);
        let checked = parts.history.processes.iter().rev().find_map(|process| process.checked.as_ref());
        let mut findings = checked.map(|checked| checked.findings.clone()).unwrap_or_default();
        for found in parts.findings.iter().map(Finding::from) {
            if !findings.contains(&found) {
                findings.push(found);
            }
        }
        Report {
            version: VERSION,
            run: parts.run,
            conclusion: parts.conclusion,
            source: parts.source,
            target: parts.target,
            scope,
            tables: parts::tables(parts.plan, comparison, &timings.tables),
            stages: timings.stages,
            indexes: parts::indexes(parts.plan, comparison, &parts.history.processes),
            checks: comparison.checks.clone(),
            findings,
            rewrites: parts.plan.map(|plan| plan.rewrites.clone()).unwrap_or_default(),
            not_carried: parts.plan.map(|plan| plan.not_carried.clone()).unwrap_or_default(),
            rehearsal: None,
            history: parts.history,
        }
    }

    /// The report of a rehearsal, which nobody goes on with; `again` says what to do instead.
    #[must_use]
    pub fn of_rehearsal(mut self, rehearsal: Rehearsal, again: Again) -> Report {
        let conclusion = &mut self.conclusion;
        if let (Some(exit), false) = (conclusion.exit, conclusion.state.is_verdict()) {
            let ends = [Exit::Resumable, Exit::Interrupted];
            if let Some(end) = ends.into_iter().find(|end| end.code() == exit) {
                conclusion.sentence = meaning(end, again);
            }
            if let Some(error) = &mut conclusion.error {
                error.hint = error.hint.take().filter(|hint| !hint.contains("resume"));
            }
        }
        self.rehearsal = Some(rehearsal);
        self
    }

    /// The comparison that it tells of; `None` if the run did not come so far.
    pub fn comparison(&self) -> Option<Comparison> {
        let tables = self.tables.iter().filter_map(|table| {
            let checksums = table.checksums.clone();
            Some(TableResult { table: table.table.clone(), rows: table.rows?, checksums })
        });
        let searches = self.indexes.iter().filter_map(|index| index.search.clone());
        let comparison = Comparison {
            checks: self.checks.clone(),
            tables: tables.collect(),
            vector_search: searches.map(VectorSearchResult::from).collect(),
        };
        (!comparison.checks.is_empty()).then_some(comparison)
    }

    /// How long everything took, all processes together.
    pub fn timings(&self) -> Timings {
        parts::timings(&self.history.processes)
    }
}

/// `report.json`.
pub fn document(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}

impl From<&VectorSearchResult> for Search {
    fn from(found: &VectorSearchResult) -> Self {
        let VectorSearchResult { index, plan, is_used, recall_at_10, sample } = found.clone();
        Search { index, plan, is_used, recall_at_10, sample }
    }
}

impl From<Search> for VectorSearchResult {
    fn from(found: Search) -> Self {
        let Search { index, plan, is_used, recall_at_10, sample } = found;
        VectorSearchResult { index, plan, is_used, recall_at_10, sample }
    }
}

#[cfg(test)]
mod tests;
