//! A run's report as one page of HTML that needs nothing beside itself: no script, no file, no network.
//!
//! What comes from a database, a server or the command line is filled in by [`Shown`]: its control characters are
//! made visible, and maud escapes the rest. A policy in the page forbids all that it does not need, too.

mod chart;
mod sections;

use std::fmt::Write as _;

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

use crate::report::document::{Report, State};
use crate::report::process::Process;
use crate::report::status::time;
use crate::report::text::{count, duration, escape};

/// A text that comes from outside.
struct Shown<'a>(&'a str);

impl Render for Shown<'_> {
    fn render_to(&self, buffer: &mut String) {
        let _ = maud::Escaper::new(buffer).write_str(&escape(self.0));
    }
}

/// The same, with its own line breaks.
struct Lines<'a>(&'a str);

impl Render for Lines<'_> {
    fn render_to(&self, buffer: &mut String) {
        for (position, line) in self.0.lines().enumerate() {
            if position > 0 {
                buffer.push('\n');
            }
            Shown(line).render_to(buffer);
        }
    }
}

/// The page.
pub fn page(report: &Report) -> String {
    let style = PreEscaped(include_str!("report.css"));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "pgmove run " (Shown(&report.run)) ": " (report.conclusion.state.title()) }
                style { (style) }
            }
            body {
                h1 { "pgmove run " (Shown(&report.run)) }
                (verdict(report))
                (sections::rehearsal(report))
                (facts(report))
                (sections::checks(report))
                (pictures(report))
                (sections::tables(report))
                (sections::indexes(report))
                (sections::findings(report))
                (sections::not_carried(report))
                (sections::as_planned(report))
                (sections::rewrites(report))
                (sections::settings(report))
                (sections::versions(report))
            }
        }
    };
    page.into_string() + "\n"
}

fn verdict(report: &Report) -> Markup {
    let conclusion = &report.conclusion;
    let class = match conclusion.state {
        State::Equal => "verdict proven",
        State::Running | State::NotAllCompared | State::Refused | State::Interrupted => "verdict",
        State::Different | State::Stopped | State::Killed | State::Failed => "verdict broken",
    };
    html! {
        section class=(class) {
            strong { (conclusion.state.title()) }
            p { (Shown(&conclusion.sentence)) }
            @if let Some(error) = &conclusion.error {
                @for message in &error.messages { p { (Lines(message)) } }
                @if let Some(hint) = &error.hint { p { "Next: " (Lines(hint)) } }
            }
        }
    }
}

fn facts(report: &Report) -> Markup {
    let first = report.history.processes.first();
    let seconds: f64 = report.history.processes.iter().map(|process| process.seconds).sum();
    html! {
        dl {
            dt { "Source" } dd { (Shown(&report.source)) }
            dt { "Target" } dd { (Shown(&report.target)) }
            @if let Some(as_of) = report.scope.as_of { dt { "Compared as of" } dd { (time(as_of)) } }
            @if let Some(first) = first {
                dt { "Began" } dd { (time(first.started)) }
                dt { "Worked for" } dd {
                    (duration(seconds))
                    @if report.history.processes.len() > 1 {
                        ", in " (count(report.history.processes.len() as u64, "process", "processes"))
                    }
                }
            }
            @if let Some(exit) = report.conclusion.exit { dt { "Exit code" } dd { (exit) } }
        }
    }
}

/// When which stage and lane worked, and how much went through: a pair of pictures for each process.
fn pictures(report: &Report) -> Markup {
    let processes = &report.history.processes;
    html! {
        @if !processes.is_empty() {
            h2 { "Time" }
            @if report.history.further > 0 {
                p.note { (count(report.history.further, "earlier process is", "earlier processes are")) " not shown." }
            }
            @for (number, process) in processes.iter().enumerate() {
                @if processes.len() > 1 {
                    h3 { "Process " (number as u64 + 1 + report.history.further) ", " (time(process.started)) }
                    p.note { (Shown(&end(report, number, process))) }
                }
                (chart::timeline(process))
                (chart::throughput(process))
                @let warnings = warnings(report, process);
                @if !warnings.is_empty() {
                    ul {
                        @for warning in warnings { li.mind { (Lines(warning)) } }
                        @if process.further_warnings > 0 {
                            li { (count(process.further_warnings, "further warning", "further warnings")) }
                        }
                    }
                }
            }
        }
    }
}

/// What a process warned of beside the findings, which have their own place.
fn warnings<'a>(report: &Report, process: &'a Process) -> Vec<&'a str> {
    let is_finding = |warning: &str| {
        report.findings.iter().any(|found| {
            warning
                .strip_prefix(&found.title)
                .is_some_and(|rest| rest.strip_prefix("; ") == Some(&found.remedy))
        })
    };
    process.warnings.iter().map(String::as_str).filter(|warning| !is_finding(warning)).collect()
}

fn end(report: &Report, number: usize, process: &Process) -> String {
    let is_last = number + 1 == report.history.processes.len();
    match &process.end {
        Some(end) => format!("ended with exit code {}: {}", end.exit, end.sentence),
        None if is_last && report.conclusion.state == State::Running => "works still".to_owned(),
        None => "ended without a word: it was killed, or its machine crashed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
