//! What a run does or did, told from its run directory alone. It only reads, and keeps nobody from anything: the
//! journal's lock is asked for no longer than it takes to see who holds it ([`journal::is_worked_on`]).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use crate::catalog::DatabaseIdentity;
use crate::cutover::freeze;
use crate::error::{Class, Fault};
use crate::journal::{self, JournalError, PLAN, Record};
use crate::plan::Plan;
use crate::report::document::{Conclusion, Parts, Report, State};
use crate::report::error::Again;
use crate::report::files::{self, FileError, PROGRESS, REPORT};
use crate::report::recorder::{History, Live, RunningStage, RunningWork};
use crate::report::rehearsal::REHEARSE_AGAIN;
use crate::report::text::{Colour, Page, clock, count, duration, escape};

/// What a run directory tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The run's id; `None` where only a fence is recorded.
    pub run: Option<String>,
    /// How it ended, or that it did not; `None` where only a fence is recorded.
    pub conclusion: Option<Conclusion>,
    /// The source, without secrets.
    pub source: Option<String>,
    /// The target, without secrets.
    pub target: Option<String>,
    /// Whether it is a rehearsal: its target is a scratch database, which is dropped.
    pub is_rehearsal: bool,
    /// How many processes have worked on it.
    pub processes: u64,
    /// When the last process started.
    pub started: Option<Timestamp>,
    /// Until when it is known what it did.
    pub heard: Option<Timestamp>,
    /// The stages that the last process has finished, with their seconds.
    pub finished: Vec<FinishedStage>,
    /// The stages that run, or ran when it was killed.
    pub running: Vec<RunningStage>,
    /// What lanes work on, or worked on when it was killed.
    pub lanes: Vec<RunningWork>,
    /// The last process's latest warnings.
    pub warnings: Vec<String>,
    /// The databases that are fenced: they refuse writes.
    pub fenced: Vec<String>,
    /// What is frozen in Kubernetes, an object each.
    pub frozen: Vec<String>,
    /// The target's database, while it is read-only by default because no verdict was reached.
    pub marked: Option<String>,
}

/// A stage that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FinishedStage {
    /// The stage.
    pub stage: crate::event::Stage,
    /// How long it took.
    pub seconds: f64,
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nothing is there.
    #[error("{0} holds no run")]
    Missing(PathBuf),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file of the report cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A run is there, and nothing was written of it yet.
    #[error("{0} holds no report yet")]
    NoReport(PathBuf),
}

impl Fault for StatusError {
    fn class(&self) -> Class {
        match self {
            StatusError::Missing(_) | StatusError::NoReport(_) => Class::User,
            StatusError::Journal(error) => error.class(),
            StatusError::File(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            StatusError::Missing(_) => Some("name the directory of the run with --run-dir".into()),
            StatusError::NoReport(_) => Some("`pgmove status` tells what is known of it".into()),
            StatusError::Journal(error) => error.hint(),
            StatusError::File(error) => error.hint(),
        }
    }
}

/// What is known of a run.
enum Known {
    /// A process works; what it has told so far.
    Working(Option<Live>),
    /// The last process was killed; what it had told.
    Killed(Live),
    /// The last process ended.
    Ended(Option<Box<Report>>),
}

/// Reads what is known of a run, in an order that takes no process that just ends for one that was killed: progress
/// is removed before the lock is given up, so one that is there before and after nobody held the lock stays.
fn known(directory: &Path) -> Result<Known, StatusError> {
    loop {
        let before: Option<Live> = files::read(directory, PROGRESS)?;
        let is_working = journal::is_worked_on(directory)?;
        let after: Option<Live> = files::read(directory, PROGRESS)?;
        return Ok(match (is_working, before, after) {
            (true, _, after) => Known::Working(after),
            (false, Some(before), Some(after)) if before == after => killed(directory, after)?,
            (false, None, None) => Known::Ended(files::read(directory, REPORT)?.map(Box::new)),
            _ => continue,
        });
    }
}

/// A process that was killed while it looked after a run that had its verdict takes nothing away from that.
fn killed(directory: &Path, live: Live) -> Result<Known, StatusError> {
    let report: Option<Report> = files::read(directory, REPORT)?;
    let records = records(directory)?;
    let is_fence = |record: &&Record| matches!(record, Record::Fence { .. } | Record::Unfenced { .. });
    let is_over = records.iter().rev().find(|record| !is_fence(record)) == Some(&Record::Finished);
    Ok(match report.filter(|report| is_over && report.run == live.run) {
        Some(report) => Known::Ended(Some(Box::new(report))),
        None => Known::Killed(live),
    })
}

fn records(directory: &Path) -> Result<Vec<Record>, StatusError> {
    match journal::read(directory) {
        Err(JournalError::Missing(_)) => Ok(vec![]),
        other => Ok(other?),
    }
}

fn is_rehearsal(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record, Record::Rehearsal { .. }))
}

/// What is to be done after a process that was killed.
fn again(records: &[Record]) -> Again {
    if is_rehearsal(records) { Again::Anew(REHEARSE_AGAIN) } else { Again::Resume }
}

/// The report of a run: the one that was written, or one of what is known while it works and after it was killed.
pub fn report_of(directory: &Path) -> Result<Report, StatusError> {
    let (live, conclusion) = match known(directory)? {
        Known::Ended(Some(report)) => return Ok(*report),
        Known::Working(Some(live)) => (live, Conclusion::running()),
        Known::Killed(live) => (live, Conclusion::killed(again(&records(directory)?))),
        Known::Ended(None) | Known::Working(None) if records(directory)?.is_empty() => {
            return Err(StatusError::Missing(directory.to_owned()));
        }
        Known::Ended(None) | Known::Working(None) => return Err(StatusError::NoReport(directory.to_owned())),
    };
    let plan: Option<Plan> = files::read(directory, PLAN)?;
    let Live { run, source, target, history, .. } = live;
    let plan = plan.filter(|plan| plan.run == run);
    Ok(Report::new(Parts {
        run,
        source,
        target,
        conclusion,
        plan: plan.as_ref(),
        comparison: None,
        findings: &[],
        history,
    }))
}

/// What a run directory tells.
pub fn status(directory: &Path) -> Result<Status, StatusError> {
    let known = known(directory)?;
    let records = records(directory)?;
    let begun = records.iter().rev().find_map(|record| match record {
        Record::Started { run, source, target, .. } => Some((run.clone(), source.clone(), target.clone())),
        _ => None,
    });
    let told = match known {
        Known::Working(Some(live)) => Told::by(live, Conclusion::running()),
        Known::Killed(live) => Told::by(live, Conclusion::killed(again(&records))),
        Known::Ended(Some(report)) => {
            let Report { run, source, target, history, conclusion, rehearsal, .. } = *report;
            let names = Some((run, source, target));
            let is_rehearsal = rehearsal.is_some();
            Told { history, conclusion: Some(conclusion), names, is_rehearsal, ..Told::default() }
        }
        Known::Working(None) => Told { conclusion: Some(Conclusion::running()), ..Told::default() },
        Known::Ended(None) if records.is_empty() => {
            return Err(StatusError::Missing(directory.to_owned()));
        }
        Known::Ended(None) => Told {
            conclusion: (begun.is_some() || is_rehearsal(&records))
                .then(|| Conclusion::killed(again(&records))),
            ..Told::default()
        },
    };
    let Told { history, running, lanes, conclusion, names, is_rehearsal: rehearsed } = told;
    let names = names.or(begun);
    let last = history.processes.last();
    let mark = records.iter().rev().find_map(|record| match record {
        Record::Mark { database, .. } => Some(Some(database.clone())),
        Record::Finished => Some(None),
        _ => None,
    });
    Ok(Status {
        processes: history.further + history.processes.len() as u64,
        started: last.map(|process| process.started),
        heard: last.map(|process| process.started + std::time::Duration::from_secs_f64(process.seconds)),
        finished: last
            .into_iter()
            .flat_map(|process| &process.stages)
            .filter(|stage| stage.timing.is_finished)
            .map(|stage| FinishedStage { stage: stage.timing.stage, seconds: stage.timing.seconds })
            .collect(),
        running,
        lanes,
        warnings: last.map(|process| latest(&process.warnings)).unwrap_or_default(),
        fenced: fenced(&records),
        frozen: freeze::recorded(&records).iter().map(ToString::to_string).collect(),
        marked: mark.flatten(),
        is_rehearsal: rehearsed || is_rehearsal(&records),
        conclusion,
        run: names.as_ref().map(|(run, ..)| run.clone()),
        source: names.as_ref().map(|(_, source, _)| source.clone()),
        target: names.map(|(.., target)| target),
    })
}

/// What was written down of a run.
#[derive(Default)]
struct Told {
    history: History,
    running: Vec<RunningStage>,
    lanes: Vec<RunningWork>,
    conclusion: Option<Conclusion>,
    /// The run, its source and its target.
    names: Option<(String, String, String)>,
    /// Whether its report is that of a rehearsal, whose journal is gone.
    is_rehearsal: bool,
}

impl Told {
    fn by(live: Live, conclusion: Conclusion) -> Told {
        let Live { run, source, target, running, lanes, history, .. } = live;
        let names = Some((run, source, target));
        Told { history, running, lanes, conclusion: Some(conclusion), names, is_rehearsal: false }
    }
}

/// So many warnings are told.
const WARNINGS: usize = 5;

fn latest(warnings: &[String]) -> Vec<String> {
    warnings[warnings.len().saturating_sub(WARNINGS)..].to_vec()
}

/// The databases whose fence stands.
fn fenced(records: &[Record]) -> Vec<String> {
    let mut standing: Vec<&DatabaseIdentity> = Vec::new();
    for record in records {
        match record {
            Record::Fence { database, .. } if !standing.iter().any(|other| other.is_same_as(database)) => {
                standing.push(database);
            }
            Record::Unfenced { database } => standing.retain(|other| !other.is_same_as(database)),
            _ => {}
        }
    }
    standing.iter().map(|database| database.name.clone()).collect()
}

impl Status {
    /// For a person.
    pub fn text(&self, directory: &Path, page: Page) -> String {
        let mut out = String::new();
        match &self.conclusion {
            Some(conclusion) => self.run_text(conclusion, page, &mut out),
            None => page.wrap(&mut out, "", "no run has begun here"),
        }
        if let Some(database) = &self.marked {
            let text = "is read-only by default until the run has its verdict";
            page.wrap(&mut out, "target   ", &format!("database {} {text}", escape(database)));
        }
        if !self.frozen.is_empty() {
            let back = format!("pgmove rollback --run-dir {}", directory.display());
            let text = format!("{} are frozen; to put them back: {back}", self.frozen.join(", "));
            page.wrap(&mut out, "cluster  ", &escape(&text));
        }
        for database in &self.fenced {
            let lift = format!("pgmove unfence --source SOURCE --run-dir {}", directory.display());
            let text =
                format!("database {} is fenced and refuses writes; to lift it: {lift}", escape(database));
            page.wrap(&mut out, "source   ", &text);
        }
        out
    }

    fn run_text(&self, conclusion: &Conclusion, page: Page, out: &mut String) {
        let colour = match conclusion.state {
            State::Equal => Colour::Green,
            State::Running => Colour::Bold,
            State::NotAllCompared | State::Refused | State::Interrupted => Colour::Yellow,
            State::Different | State::Stopped | State::Killed | State::Failed => Colour::Red,
        };
        let mut head = String::new();
        page.wrap(&mut head, "", &conclusion.sentence);
        out.push_str(&page.paint(head.trim_end(), colour));
        out.push('\n');
        for message in conclusion.error.iter().flat_map(|error| &error.messages) {
            page.wrap(out, "  because: ", message);
        }
        if let Some(hint) = conclusion.error.as_ref().and_then(|error| error.hint.as_ref()) {
            page.wrap(out, "  next: ", hint);
        }
        if let Some(run) = &self.run {
            let processes = count(self.processes, "process", "processes");
            let kind = if self.is_rehearsal { ", a rehearsal: its target is dropped again" } else { "" };
            page.wrap(out, "run      ", &format!("{}, {processes}{kind}", escape(run)));
        }
        for (lead, side) in [("from     ", &self.source), ("to       ", &self.target)] {
            if let Some(side) = side {
                page.wrap(out, lead, side);
            }
        }
        if let (Some(started), Some(heard)) = (self.started, self.heard) {
            let passed = clock(heard.duration_since(started).as_secs_f64());
            let text = format!("{}, {passed} until {}", time(started), time(heard));
            page.wrap(out, "began    ", &text);
        }
        for stage in &self.finished {
            let _ = writeln!(out, "{:<8} done in {}", stage.stage.title(), duration(stage.seconds));
        }
        for stage in &self.running {
            let _ = writeln!(out, "{:<8} {}", stage.stage.title(), escape(&stage.text));
        }
        for work in &self.lanes {
            page.wrap(out, &format!("  lane {:<2} ", work.lane), &format!("{}  {}", work.item, work.text));
        }
        for warning in &self.warnings {
            page.wrap(out, "warning: ", warning);
        }
    }
}

/// `2026-11-23 02:14:09 UTC`.
pub(super) fn time(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
