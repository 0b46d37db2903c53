//! The report of a run: begun with each of its processes, written when that ends, however it ends.

use std::collections::BTreeMap;

use super::{Context, Outcome, Source, planned, resume};
use crate::error::{Error, Exit};
use crate::event::{Event, Events, Versions};
use crate::journal::{PLAN, Record, RunDirectory};
use crate::plan::Plan;
use crate::preflight::Finding;
use crate::report::files::{self, PAGE, PROGRESS, REPORT};
use crate::report::{self, Beginning, Conclusion, Ending, History, Live, Parts, Recorder, Report, Scope};
use crate::run::check::Checked;
use crate::settings::{Choices, RunSettings};
use crate::verify::Comparison;

/// What is written down while a process works.
pub(super) struct Recording {
    recorder: Recorder,
    beginning: Beginning,
    /// What the run had come to before this process.
    earlier: Option<Report>,
}

impl Recording {
    /// Begins, and gives the events that it hears too.
    pub(super) fn begin(directory: &RunDirectory, context: &Context<'_>) -> (Recording, Events) {
        // A file that cannot be read tells nothing of what was before; it will be replaced.
        let path = directory.path();
        let report: Option<Report> = files::read(path, REPORT).ok().flatten();
        let live: Option<Live> = files::read(path, PROGRESS).ok().flatten();
        let report = report.filter(|report| report.run == context.run);
        let live = live.filter(|live| live.run == context.run);
        let history = live.map(|live| live.history).or_else(|| Some(report.as_ref()?.history.clone()));
        let beginning = Beginning {
            run: context.run.clone(),
            source: match &context.source {
                Source::Server(endpoint) => endpoint.conninfo.to_string(),
                Source::Archive(stored) => format!("archive {}", stored.archive.sha256()),
            },
            target: context.target.conninfo.to_string(),
            settings: settings(context.settings, &context.choices),
            earlier: history.unwrap_or_default(),
        };
        let (events, receiver) = context.events.and_another();
        let recorder = Recorder::start(receiver, path, beginning.clone());
        (Recording { recorder, beginning, earlier: report }, events)
    }

    /// Writes what the process has come to.
    pub(super) fn end(self, directory: &RunDirectory, outcome: &Result<Outcome, Error>, events: &Events) {
        let Recording { recorder, beginning, earlier } = self;
        let written = recorder.finish().ok_or_else(|| std::io::Error::other("its thread has panicked"));
        let written = written.and_then(|history| {
            let report = of(directory, outcome, &beginning, earlier.as_ref(), history);
            files::write(directory.path(), REPORT, report::document(&report).as_bytes(), true)?;
            files::write(directory.path(), PAGE, report::page(&report).as_bytes(), true)
        });
        match written {
            Ok(()) => {
                files::remove_progress(directory.path());
                events.note(format!("the report is {}", directory.path().join(PAGE).display()));
            }
            Err(error) => events.warn(format!(
                "the report could not be written into {}: {error}; the run itself is as it says",
                directory.path().display()
            )),
        }
    }
}

fn of(
    directory: &RunDirectory,
    outcome: &Result<Outcome, Error>,
    beginning: &Beginning,
    earlier: Option<&Report>,
    history: History,
) -> Report {
    let records = directory.records();
    let end = match outcome {
        Ok(Outcome::Refused(_)) => Conclusion::end(Exit::Refused),
        Ok(Outcome::Stopped(_)) => Conclusion::end(Exit::Resumable),
        Ok(Outcome::Planned { .. }) => Conclusion::end(Exit::Done),
        Ok(Outcome::Moved { comparison, scope }) => {
            Conclusion::verdict(comparison.verdict().exit(), report::sentence(comparison, *scope))
        }
        Ok(Outcome::Cleared { verdict, exit }) => Conclusion::verdict(*exit, verdict.clone()),
        Err(error) => Conclusion::error(error),
    };
    let ending = Ending {
        exit: end.exit.unwrap_or_default(),
        sentence: end.error.as_ref().map_or(&end.sentence, |error| &error.messages[0]).clone(),
    };
    let standing = resume::standing_verdict(records);
    let conclusion = match &standing {
        // What a later process was refused does not undo it.
        Some((verdict, exit)) if records.contains(&Record::Finished) => {
            Conclusion::verdict(resume::exit_of(*exit), verdict.clone())
        }
        _ => end,
    };
    let before: Option<(Comparison, Scope)> =
        standing.and(earlier).and_then(|earlier| Some((earlier.comparison()?, earlier.scope)));
    let findings: &[Finding] = match outcome {
        Ok(Outcome::Refused(findings) | Outcome::Stopped(findings)) => findings,
        _ => &[],
    };
    let plan: Option<Plan> = directory.read_document(PLAN).ok();
    Report::new(Parts {
        run: beginning.run.clone(),
        source: beginning.source.clone(),
        target: beginning.target.clone(),
        conclusion,
        plan: plan.as_ref(),
        comparison: match outcome {
            Ok(Outcome::Moved { comparison, scope }) => Some((comparison.as_ref(), *scope)),
            _ => before.as_ref().map(|(comparison, scope)| (comparison, *scope)),
        },
        findings,
        history: history.ended(ending),
    })
}

/// What a process was told, by option.
pub(super) fn settings(settings: &RunSettings, choices: &Choices) -> BTreeMap<String, String> {
    const MIB: u64 = 1024 * 1024;
    let by_itself =
        |value: Option<u64>| value.map_or("decided by pgmove".to_owned(), |value| value.to_string());
    let path = |path: &std::path::Path| path.display().to_string();
    let told = [
        ("run-dir", Some(path(&settings.run_dir))),
        ("resume", Some(settings.resume.to_string())),
        ("freeze", Some(settings.freeze.is_some().to_string())),
        ("fence", Some(settings.fence.to_string())),
        ("replace", Some(settings.replace.to_string())),
        ("jobs", Some(by_itself(settings.jobs.map(u64::from)))),
        ("chunk-size", Some(by_itself(settings.chunk_bytes.map(|bytes| bytes / MIB)))),
        ("index-memory", Some(by_itself(settings.index_memory.map(|bytes| bytes / MIB)))),
        ("max-rate", settings.max_rate.map(|bytes| (bytes / MIB).to_string())),
        ("plan", settings.given_plan.as_ref().map(|plan| format!("SHA-256 {}", plan.sha256))),
        ("accept-writes", Some(settings.accept_writes.to_string())),
        ("keep-ledger", Some(settings.keep_ledger.to_string())),
        ("vector-index", Some(choices.vector_index.to_string())),
        ("owner", choices.owner.clone()),
        ("archive", settings.archive.as_deref().or(settings.restored.as_deref()).map(path)),
        ("target-admin", settings.connections.target_admin.as_ref().map(ToString::to_string)),
        ("target-privileges", settings.connections.psql("").as_ref().map(ToString::to_string)),
    ];
    told.into_iter().filter_map(|(option, value)| Some((option.to_owned(), value?))).collect()
}

impl Context<'_> {
    /// Tells the result of the check.
    pub(super) fn announce_check(&self, checked: &Checked) {
        self.events.emit(Event::Checked {
            versions: Versions {
                source: checked.source.server.version.clone(),
                target: checked.target.server.version.clone(),
                client_tools: checked.tools.as_ref().ok().map(ToString::to_string),
                extensions: planned::extensions(checked),
            },
            findings: checked.findings.clone(),
        });
    }
}
