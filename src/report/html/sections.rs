//! The tables and lists of the page. What would make it unreadable is counted instead; report.json has all of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::preflight::Severity;
use crate::report::closing::severity;
use crate::report::document::{Index, Report, Table};
use crate::report::html::{Lines, Shown};
use crate::report::plan::{LISTED_CHANGES, is_everywhere, name};
use crate::report::text::{bytes, count, duration, number};
use crate::report::verdict::{named, noun};
use crate::schema::{Change, Rewrite};
use crate::verify::{Aspect, Check, Outcome};

/// So many rows a table has.
const ROWS: usize = 1000;
/// So many objects are named under one reason.
const OBJECTS: usize = 20;

/// Digits of a checksum that are shown: enough to tell two apart.
const CHECKSUM_DIGITS: usize = 16;

/// A row is cells; a heading that begins with `>` is of numbers, one with `_` is of names, which may be long.
fn table(headings: &[&str], rows: Vec<Vec<Markup>>) -> Markup {
    let title = |heading: &str| heading.trim_start_matches(['>', '_']).to_owned();
    let class = |heading: &str| match heading.as_bytes()[0] {
        b'>' => Some("number"),
        b'_' => Some("name"),
        _ => None,
    };
    let further = rows.len().saturating_sub(ROWS) as u64;
    html! {
        table {
            thead { tr { @for heading in headings { th class=[class(heading)] { (title(heading)) } } } }
            tbody {
                @for row in rows.into_iter().take(ROWS) {
                    tr { @for (cell, heading) in row.into_iter().zip(headings) {
                        td class=[class(heading)] data-label=(title(heading)) { (cell) }
                    } }
                }
            }
        }
        @if further > 0 { p.note { "and " (number(further)) " more, all in report.json" } }
    }
}

/// What a rehearsal has shown.
pub(super) fn rehearsal(report: &Report) -> Markup {
    html! {
        @if let Some(found) = &report.rehearsal {
            h2 { "Rehearsal" }
            p { "This was a rehearsal: " (Shown(&found.target)) " was not touched, and is not moved to." }
            @if let Some(window) = &found.window {
                p { strong { (Shown(&window.sentence())) } }
                @let rows = window.parts.iter().map(|part| {
                    vec![html! { (Shown(&part.name)) }, html! { (duration(part.seconds)) }]
                });
                (table(&["_part of the window", ">time"], rows.collect()))
                @if !window.shorter.is_empty() {
                    p { "What would make it shorter:" }
                    ul { @for advice in &window.shorter { li { (Shown(advice)) } } }
                }
            }
            @if let Some(space) = &found.space { p { "Space on the target, at the most: " (space.text()) } }
        }
    }
}

/// What was compared, and what of that is not equal.
pub(super) fn checks(report: &Report) -> Markup {
    let mut aspects: BTreeMap<Aspect, [u64; 4]> = BTreeMap::new();
    for check in &report.checks {
        aspects.entry(check.aspect).or_default()[usize::from(severity(&check.outcome))] += 1;
    }
    let cell = |value: u64, class: &str| html! { @if value > 0 { span class=(class) { (number(value)) } } };
    let rows = aspects.iter().map(|(aspect, [equal, planned, missing, different])| {
        vec![
            html! { (noun(*aspect).1) },
            cell(*equal, "good"),
            cell(*planned, ""),
            cell(*different, "bad"),
            cell(*missing, "mind"),
        ]
    });
    html! {
        (outcomes(report, "Different", 3))
        h2 { "What was not compared" }
        @if report.checks.is_empty() {
            p { "Nothing was compared: the run has not come so far." }
        } @else if report.checks.iter().any(|check| severity(&check.outcome) == 2) {
            (groups(report, 2))
        } @else {
            p { "Nothing: every object on either side was compared." }
        }
        @if !report.checks.is_empty() {
            h2 { "What was compared" }
            (table(&["_what", ">equal", ">different as planned", ">different", ">not compared"], rows.collect()))
        }
    }
}

/// What differs as the plan says it must.
pub(super) fn as_planned(report: &Report) -> Markup {
    outcomes(report, "Different as planned", 1)
}

fn outcomes(report: &Report, title: &str, wanted: u8) -> Markup {
    html! {
        @if report.checks.iter().any(|check| severity(&check.outcome) == wanted) {
            h2 { (title) }
            (groups(report, wanted))
        }
    }
}

/// Objects of one outcome, those with equal reasons together.
fn groups(report: &Report, wanted: u8) -> Markup {
    let mut groups: BTreeMap<(Aspect, &str), Vec<&Check>> = BTreeMap::new();
    for check in report.checks.iter().filter(|check| severity(&check.outcome) == wanted) {
        let reason = match &check.outcome {
            Outcome::Different { detail, .. } | Outcome::AsPlanned { detail } => detail.as_str(),
            Outcome::NotCompared { reason } => reason,
            Outcome::Equal => continue,
        };
        groups.entry((check.aspect, reason)).or_default().push(check);
    }
    let further = groups.len().saturating_sub(ROWS) as u64;
    html! {
        ul {
            @for ((aspect, reason), checks) in groups.into_iter().take(ROWS) {
                li {
                    @if checks.len() > 1 { (count(checks.len() as u64, noun(aspect).0, noun(aspect).1)) ": " }
                    @else { (Shown(&named(aspect, &checks[0].object))) ": " }
                    (Lines(reason))
                    @if checks.len() > 1 {
                        p.note {
                            @for (position, check) in checks.iter().take(OBJECTS).enumerate() {
                                @if position > 0 { ", " }
                                (Shown(&check.object))
                            }
                            @if checks.len() > OBJECTS { " and " (number((checks.len() - OBJECTS) as u64)) " more" }
                        }
                    }
                    @for check in checks.iter().take(OBJECTS) {
                        @if let Outcome::Different { rows, .. } = &check.outcome {
                            @for row in rows { pre { "row " (Lines(row)) } }
                        }
                    }
                }
            }
        }
        @if further > 0 { p.note { "and " (number(further)) " more reasons, all in report.json" } }
    }
}

fn outcome(word: Option<&str>) -> Markup {
    let (class, word) = match word {
        Some("equal") => ("good", "equal"),
        Some("different") => ("bad", "DIFFERENT"),
        Some("as-planned") => ("", "as planned"),
        _ => ("mind", "not compared"),
    };
    html! { span class=(class) { (word) } }
}

pub(super) fn tables(report: &Report) -> Markup {
    let both = |[source, target]: [String; 2]| {
        if source == target { source } else { format!("{source} / {target}") }
    };
    let digits =
        |checksums: &[String; 2]| checksums.each_ref().map(|sum| sum.chars().take(CHECKSUM_DIGITS).collect());
    let mut sorted: Vec<&Table> = report.tables.iter().collect();
    let worst = |table: &Table| match table.outcome.as_deref() {
        Some("different") => 2,
        Some("equal" | "as-planned") => 0,
        _ => 1,
    };
    sorted.sort_by_key(|table| Reverse((worst(table), table.timing.bytes, table.rows.map(|rows| rows[0]))));
    let row = |table: &&Table| {
        let timing = table.timing;
        let was_copied = timing.copy_seconds > 0.0;
        vec![
            html! { (Shown(&table.table)) },
            html! { (outcome(table.outcome.as_deref())) },
            html! { @if let Some(rows) = table.rows { (both(rows.map(number))) } },
            html! { @if was_copied { (bytes(timing.bytes)) } },
            html! { @if was_copied { (duration(timing.copy_seconds)) } },
            html! { @if timing.verify_seconds > 0.0 { (duration(timing.verify_seconds)) } },
            html! {
                @if let Some(format) = table.format { (format.title()) }
                @if let Some(reason) = &table.text_reason { ": " (Shown(reason)) }
            },
            html! { @if let Some(checksums) = &table.checksums { code { (Shown(&both(digits(checksums)))) } } },
        ]
    };
    html! {
        @if !sorted.is_empty() {
            h2 { "Tables" }
            (table(
                &["_table", "outcome", ">rows", ">copied", ">copied in", ">compared in", "format", "checksum"],
                sorted.iter().map(row).collect(),
            ))
            @if report.tables.iter().any(|table| table.checksums.is_some()) {
                p.note { "A checksum is over every value of every row; its first " (CHECKSUM_DIGITS) " digits are shown, and all are in report.json." }
            }
        }
    }
}

pub(super) fn indexes(report: &Report) -> Markup {
    let (vectors, others): (Vec<&Index>, Vec<&Index>) =
        report.indexes.iter().partition(|index| index.search.is_some() || index.access_method.is_some());
    let time = |index: &Index| html! { @if let Some(seconds) = index.seconds { (duration(seconds)) } };
    let memory = |index: &Index| html! { @if index.memory > 0 { (bytes(index.memory)) } };
    let place = |index: &Index| html! { @if let Some(table) = &index.table { (Shown(table)) } };
    let vector = |index: &&Index| {
        vec![
            html! { (Shown(&index.object)) },
            place(index),
            html! { @if let Some(method) = &index.access_method { (Shown(method)) } },
            html! {
                @match &index.search {
                    Some(search) if search.is_used => span.good { "yes" },
                    Some(_) => span.bad { "NO" },
                    None => span.mind { "not asked" },
                }
            },
            html! {
                @if let Some(search) = &index.search {
                    @match search.recall_at_10 {
                        Some(recall) => (format!("{recall:.3}")),
                        None => "table is empty",
                    }
                }
            },
            html! { @if let Some(search) = &index.search { (number(search.sample as u64)) } },
            time(index),
            memory(index),
        ]
    };
    let mut slowest = others;
    slowest.sort_by(|a, b| b.seconds.unwrap_or(0.0).total_cmp(&a.seconds.unwrap_or(0.0)));
    let other =
        |index: &&Index| vec![html! { (Shown(&index.object)) }, place(index), time(index), memory(index)];
    html! {
        @if !vectors.is_empty() {
            h2 { "Vector indexes" }
            p.note { "A nearest-neighbour query was planned, and its answers held against an exact search." }
            (table(
                &["_index", "_table", "method", "used", ">recall at 10", ">queries", ">built in", ">memory"],
                vectors.iter().map(vector).collect(),
            ))
        }
        @if !slowest.is_empty() {
            h2 { "Indexes and constraints" }
            (table(&["_object", "_table", ">built in", ">memory"], slowest.iter().map(other).collect()))
        }
    }
}

pub(super) fn findings(report: &Report) -> Markup {
    let mut sorted: Vec<_> = report.findings.iter().collect();
    sorted.sort_by_key(|finding| Reverse(finding.severity));
    html! {
        h2 { "Findings of the check" }
        @if sorted.is_empty() { p { "None." } }
        @for finding in sorted {
            h3 {
                @match finding.severity {
                    Severity::Blocking => span.bad { "blocking" },
                    Severity::Warning => span.mind { "warning" },
                    Severity::Note => "note",
                }
                ": " (Shown(&finding.title)) " " span.note { "[" (Shown(&finding.id)) "]" }
            }
            p { "Seen: " (Lines(&finding.evidence)) }
            p { "Next: " (Lines(&finding.remedy)) }
        }
    }
}

pub(super) fn not_carried(report: &Report) -> Markup {
    html! {
        @if !report.not_carried.is_empty() {
            h2 { "Not carried" }
            p.note { "The source has it; the target will not." }
            ul { @for left in &report.not_carried { li { (Shown(&left.object)) ": " (Lines(&left.reason)) } } }
        }
    }
}

pub(super) fn rewrites(report: &Report) -> Markup {
    let mut rules: BTreeMap<Rewrite, Vec<&Change>> = BTreeMap::new();
    for change in &report.rewrites {
        rules.entry(change.rewrite).or_default().push(change);
    }
    html! {
        @if !rules.is_empty() {
            h2 { "Rewrites" }
            p.note { "Statements of the schema that were changed on the way, before and after." }
            @for (rule, changes) in rules {
                @let shown = if is_everywhere(rule) { LISTED_CHANGES } else { OBJECTS };
                h3 { (name(rule)) ": " (count(changes.len() as u64, "statement", "statements")) }
                @for change in changes.iter().take(shown) {
                    p { (Shown(&change.object)) ": " (Lines(&change.reason)) }
                    pre.before { (Lines(&change.before)) }
                    pre.after { @match &change.after { Some(after) => (Lines(after)), None => "(left out)" } }
                }
                @if changes.len() > shown {
                    p.note { "and " (number((changes.len() - shown) as u64)) " more, all in report.json" }
                }
            }
        }
    }
}

pub(super) fn settings(report: &Report) -> Markup {
    let Some(process) = report.history.processes.last() else { return html! {} };
    let rows = process
        .settings
        .iter()
        .map(|(option, value)| vec![html! { code { "--" (Shown(option)) } }, html! { (Shown(value)) }]);
    html! { h2 { "Settings" } (table(&["_option", "_value"], rows.collect())) }
}

pub(super) fn versions(report: &Report) -> Markup {
    let mut processes = report.history.processes.iter().rev();
    let last = processes.clone().next().map(|process| process.pgmove.as_str());
    let Some(checked) = processes.find_map(|process| process.checked.as_ref()) else { return html! {} };
    let versions = &checked.versions;
    let row = |what: &str, version: &str| vec![html! { (Shown(what)) }, html! { (Shown(version)) }];
    let mut rows = vec![
        row("pgmove", last.unwrap_or_default()),
        row("PostgreSQL of the source", &versions.source),
        row("PostgreSQL of the target", &versions.target),
    ];
    rows.extend(versions.client_tools.iter().map(|tools| row("pg_dump and pg_restore", tools)));
    rows.extend(versions.extensions.iter().map(|extension| {
        let target = extension
            .target
            .as_deref()
            .map_or("not offered by the target".to_owned(), |version| format!("{version} on the target"));
        row(
            &format!("extension {}", extension.name),
            &format!("{} on the source, {target}", extension.source),
        )
    }));
    html! { h2 { "Versions" } (table(&["_what", "_version"], rows)) }
}
