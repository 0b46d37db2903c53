//! Reports of the sample.

use std::time::Duration;

use super::{error, findings, plan, scope, script};
use crate::event::{Event, ExtensionVersions, Versions};
use crate::preflight::Severity;
use crate::report::document::{Conclusion, Parts, Report};
use crate::report::process::{Ending, Process, Recording};
use crate::report::recorder::History;
use crate::report::rehearsal::{Part, Peak, Rehearsal, Space, Window};
use crate::report::verdict::sentence;
use crate::verify::Comparison;

/// The process that hears [`script`], after a check.
fn process() -> Process {
    let started = "2026-11-23T02:14:05Z".parse().expect("a moment");
    let settings = [("fence", "true"), ("jobs", "2"), ("vector-index", "auto")];
    let settings = settings.map(|(option, value)| (option.to_owned(), value.to_owned()));
    let mut recording = Recording::new(started, settings.into());
    let versions = Versions {
        source: "15.12 (Debian 15.12-1.pgdg120+1)".into(),
        target: "17.6".into(),
        client_tools: Some("17.6".into()),
        extensions: vec![ExtensionVersions { name: "vectors".into(), source: "0.2.0".into(), target: None }],
    };
    let warnings = findings().into_iter().filter(|finding| finding.severity == Severity::Warning).collect();
    let checked = Event::Checked { versions, findings: warnings };
    for (time, event) in [(100, checked)].into_iter().chain(script()) {
        recording.apply(&event, Duration::from_millis(time));
    }
    Process { pgmove: "0.1.0".into(), ..recording.process(Duration::from_millis(16_700)) }
}

/// The report of a run of two processes, the first of which was killed.
pub(crate) fn report(comparison: &Comparison) -> Report {
    let killed = Process { started: "2026-11-23T02:10:00Z".parse().expect("a moment"), ..process() };
    let sentence = sentence(comparison, scope());
    let exit = comparison.verdict().exit();
    let history = History::default().and(killed).and(process());
    Report::new(Parts {
        run: "20261123-021409".into(),
        source: "immich@old.example:5432/immich".into(),
        target: "app@new.example:5432/app".into(),
        conclusion: Conclusion::verdict(exit, sentence.clone()),
        plan: Some(&plan()),
        comparison: Some((comparison, scope())),
        findings: &[],
        history: history.ended(Ending { exit: exit.code(), sentence }),
    })
}

/// A rehearsal that took a minute.
pub(crate) fn rehearsal() -> Rehearsal {
    let part = Part { name: "comparing".into(), seconds: 60.0 };
    Rehearsal {
        target: "app@new:5432/app".into(),
        max_rate: None,
        window: Some(Window { seconds: 60.0, parts: vec![part], shorter: vec![] }),
        space: Some(Space {
            database_bytes: 3 << 30,
            wal_bytes: 4 << 30,
            temporary_bytes: 1 << 20,
            peak: Peak { database_bytes: 3 << 30, wal_bytes: 1 << 30, temporary_bytes: 1 << 19 },
        }),
    }
}

/// The report of a run that an error stopped before it was compared.
pub(crate) fn stopped() -> Report {
    let conclusion = Conclusion::error(&error());
    let ending = Ending { exit: 5, sentence: conclusion.sentence.clone() };
    Report::new(Parts {
        run: "20261123-021409".into(),
        source: "immich@old.example:5432/immich".into(),
        target: "app@new.example:5432/app".into(),
        conclusion,
        plan: Some(&plan()),
        comparison: None,
        findings: &findings(),
        history: History::default().and(process()).ended(ending),
    })
}
