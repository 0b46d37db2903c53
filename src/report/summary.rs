//! A run's report as a text, as it stood at the run's end.

use std::fmt::Write as _;

use crate::report::document::{Conclusion, Report};
use crate::report::process::Finding;
use crate::report::status::time;
use crate::report::text::{Page, count};
use crate::report::{State, closing};

/// The report; with `is_verbose` every object is listed that is not simply equal.
pub fn summary(report: &Report, is_verbose: bool, page: Page) -> String {
    let mut out = String::new();
    page.wrap(&mut out, "run      ", &report.run);
    page.wrap(&mut out, "from     ", &report.source);
    page.wrap(&mut out, "to       ", &report.target);
    for process in &report.history.processes {
        let end = match &process.end {
            Some(end) => format!("exit code {}: {}", end.exit, end.sentence),
            None if report.conclusion.state == State::Running => "works still".to_owned(),
            None => "ended without a word".to_owned(),
        };
        page.wrap(&mut out, "process  ", &format!("{}; {end}", time(process.started)));
    }
    for Finding { id, title, remedy, .. } in &report.findings {
        page.wrap(&mut out, "finding  ", &format!("{title} [{id}]; {remedy}"));
    }
    let rewrites = report.rewrites.len() as u64;
    if rewrites > 0 {
        let text = count(rewrites, "changed statement", "changed statements");
        page.wrap(&mut out, "rewrites ", &format!("{text}; report.html and report.json have them"));
    }
    for left in &report.not_carried {
        page.wrap(&mut out, "not carried  ", &format!("{}: {}", left.object, left.reason));
    }
    out.push('\n');
    let comparison = report.comparison();
    if let Some(comparison) = &comparison {
        out.push_str(&closing(comparison, &report.timings(), report.scope, is_verbose, page));
    }
    // The verdict has been told, and is the last word unless something came after it.
    if comparison.is_none() || !report.conclusion.state.is_verdict() {
        out.push_str(&conclusion(&report.conclusion, page));
    }
    if let Some(rehearsal) = &report.rehearsal {
        let _ = writeln!(out);
        out.push_str(&rehearsal.text(page));
    }
    out
}

fn conclusion(conclusion: &Conclusion, page: Page) -> String {
    let mut out = String::new();
    page.wrap(&mut out, "", &conclusion.sentence);
    if let Some(error) = &conclusion.error {
        for message in &error.messages {
            page.wrap(&mut out, "  because: ", message);
        }
        if let Some(hint) = &error.hint {
            page.wrap(&mut out, "  next: ", hint);
        }
    }
    out
}
