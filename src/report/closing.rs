//! The end of a run or a comparison: how long it took, what was compared, what was found, the verdict.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use crate::report::grid::grid;
use crate::report::progress::Timings;
use crate::report::text::{Colour, Page, bytes, count, duration, escape, number, rate};
use crate::report::verdict::{Scope, named, noun, sentence};
use crate::verify::{Aspect, Check, Comparison, Outcome, Verdict};

/// So many tables are listed; the rest is counted.
const LISTED_TABLES: usize = 20;
/// So many objects are listed under one reason; all with `-v`.
const LISTED_OBJECTS: usize = 20;
/// The same where the reason is the plan's: nobody has to look for them.
const LISTED_PLANNED: usize = 3;
/// So many reasons are listed; all are in the JSON.
const LISTED_REASONS: usize = 50;
/// Digits of a checksum that are shown; enough to tell two apart, and all of them are in the JSON.
const CHECKSUM_DIGITS: usize = 8;

/// The whole report, the verdict last. With `is_verbose` every object is listed that is not simply equal.
pub fn closing(
    comparison: &Comparison,
    timings: &Timings,
    scope: Scope,
    is_verbose: bool,
    page: Page,
) -> String {
    let mut sections =
        vec![stages(timings, page), tables(comparison, timings, page), vectors(comparison, page)];
    sections.extend(details(comparison, is_verbose, page));
    let colour = match comparison.verdict() {
        Verdict::Equal => Colour::Green,
        Verdict::Different => Colour::Red,
        Verdict::NotAllCompared => Colour::Yellow,
    };
    sections.push(page.paint(&sentence(comparison, scope), colour) + "\n");
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

fn stages(timings: &Timings, page: Page) -> String {
    let row = |stage: &crate::report::StageTiming| {
        let some = |value: u64, text: String| if value > 0 { text } else { String::new() };
        vec![
            format!("{}{}", stage.stage.title(), if stage.is_finished { "" } else { " (not finished)" }),
            duration(stage.seconds),
            some(stage.items, number(stage.items)),
            some(stage.rows, number(stage.rows)),
            some(stage.bytes, bytes(stage.bytes)),
            rate(stage.bytes, stage.seconds).unwrap_or_default(),
            some(stage.retries, number(stage.retries)),
        ]
    };
    let rows: Vec<Vec<String>> = timings.stages.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    grid(page, &["stage", ">time", ">items", ">rows", ">bytes", ">rate", ">retries"], &rows)
}

fn tables(comparison: &Comparison, timings: &Timings, page: Page) -> String {
    // A table's worst check speaks for it.
    let mut worst: HashMap<&str, &Outcome> = HashMap::new();
    let of_tables = |check: &&Check| matches!(check.aspect, Aspect::Rows | Aspect::GeneratedColumns);
    for check in comparison.checks.iter().filter(of_tables) {
        let outcome = worst.entry(&check.object).or_insert(&check.outcome);
        if severity(&check.outcome) > severity(outcome) {
            *outcome = &check.outcome;
        }
    }
    let timing = |name: &str| timings.tables.get(name).copied().unwrap_or_default();
    let outcome = |name: &str| worst.get(name).copied();
    let mut sorted: Vec<_> = comparison.tables.iter().collect();
    sorted.sort_by_cached_key(|table| {
        let severity = outcome(&table.table).map_or(2, severity);
        let size = (timing(&table.table).bytes, table.rows[0]);
        (std::cmp::Reverse((severity, size)), table.table.clone())
    });
    if sorted.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = sorted
        .iter()
        .take(LISTED_TABLES)
        .map(|table| {
            let timing = timing(&table.table);
            let of = |[source, target]: [String; 2]| {
                if source == target { source } else { format!("{source} / {target}") }
            };
            let checksums = table
                .checksums
                .clone()
                .map(|both| both.map(|sum| sum.chars().take(CHECKSUM_DIGITS).collect()));
            let was_copied = timing.copy_seconds > 0.0;
            vec![
                table.table.clone(),
                of(table.rows.map(number)),
                if was_copied { bytes(timing.bytes) } else { String::new() },
                if was_copied { duration(timing.copy_seconds) } else { String::new() },
                checksums.map(of).unwrap_or_default(),
                outcome(&table.table).map_or("not compared", word).to_owned(),
            ]
        })
        .collect();
    let is_even = comparison.tables.iter().all(|table| table.rows[0] == table.rows[1]);
    let head = if is_even { ">rows" } else { ">rows, source / target" };
    let mut out = grid(page, &["table", head, ">bytes", ">copied in", "checksum", "outcome"], &rows);
    let rest = sorted.iter().skip(LISTED_TABLES);
    let unequal = rest.clone().filter(|table| outcome(&table.table) != Some(&Outcome::Equal)).count();
    match (rest.count(), unequal) {
        (0, _) => {}
        (more, 0) => {
            let _ = writeln!(out, "and {} more, all equal", number(more as u64));
        }
        (more, unequal) => {
            let _ = writeln!(
                out,
                "and {} more, {} of them not equal",
                number(more as u64),
                number(unequal as u64)
            );
        }
    }
    out
}

fn vectors(comparison: &Comparison, page: Page) -> String {
    let row = |found: &crate::verify::VectorSearchResult| {
        vec![
            found.index.clone(),
            if found.is_used { "yes" } else { "NO" }.to_owned(),
            found.recall_at_10.map_or("table is empty".to_owned(), |recall| format!("{recall:.3}")),
            number(found.sample as u64),
        ]
    };
    let rows: Vec<Vec<String>> = comparison.vector_search.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    grid(page, &["vector index", "used", ">recall at 10", ">queries"], &rows)
}

/// Objects of which the same is told.
struct Group<'a> {
    objects: Vec<&'a str>,
    rows: &'a [String],
}

/// What was different, not compared, and as planned; objects with equal reasons together, unless rows are named.
fn details(comparison: &Comparison, is_verbose: bool, page: Page) -> Vec<String> {
    let mut sections = Vec::new();
    let limit = |limit: usize| if is_verbose { usize::MAX } else { limit };
    for (title, wanted, listed) in [
        ("different", 3, limit(LISTED_OBJECTS)),
        ("not compared", 2, limit(LISTED_OBJECTS)),
        ("different as planned", 1, limit(LISTED_PLANNED)),
    ] {
        let mut groups: BTreeMap<(Aspect, &str, &str), Group<'_>> = BTreeMap::new();
        for check in comparison.checks.iter().filter(|check| severity(&check.outcome) == wanted) {
            let (reason, rows): (_, &[String]) = match &check.outcome {
                Outcome::Different { detail, rows } => (detail, rows),
                Outcome::AsPlanned { detail } => (detail, &[]),
                Outcome::NotCompared { reason } => (reason, &[]),
                Outcome::Equal => continue,
            };
            let apart = if rows.is_empty() { "" } else { &check.object };
            let group =
                groups.entry((check.aspect, reason, apart)).or_insert(Group { objects: vec![], rows });
            group.objects.push(&check.object);
        }
        if groups.is_empty() {
            continue;
        }
        let is_cut = groups.len() > limit(LISTED_REASONS)
            || groups.values().any(|Group { objects, .. }| objects.len() > listed);
        let mut out = format!("{title}{}:\n", if is_cut { " (all with -v)" } else { "" });
        for ((aspect, reason, _), Group { objects, rows }) in groups.iter().take(limit(LISTED_REASONS)) {
            let (one, many) = noun(*aspect);
            let head = match objects[..] {
                [object] => named(*aspect, object),
                _ => count(objects.len() as u64, one, many),
            };
            let names: Vec<_> = objects.iter().take(listed).map(|object| escape(object)).collect();
            let names = match objects.len() - names.len() {
                0 => names.join(", "),
                rest => format!("{} and {} more", names.join(", "), number(rest as u64)),
            };
            match objects.len() {
                1 => page.wrap(&mut out, "  ", &format!("{head}: {reason}")),
                _ if listed == LISTED_PLANNED => {
                    page.wrap(&mut out, "  ", &format!("{head}: {reason} ({names})"));
                }
                _ => {
                    page.wrap(&mut out, "  ", &format!("{head}: {reason}"));
                    page.wrap(&mut out, "    ", &names);
                }
            }
            for row in *rows {
                page.wrap(&mut out, "    row ", &escape(row));
            }
        }
        if groups.len() > limit(LISTED_REASONS) {
            let _ = writeln!(out, "  and {} more", number((groups.len() - LISTED_REASONS) as u64));
        }
        sections.push(out);
    }
    sections
}

/// The order of outcomes, the worst highest.
pub(super) fn severity(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Equal => 0,
        Outcome::AsPlanned { .. } => 1,
        Outcome::NotCompared { .. } => 2,
        Outcome::Different { .. } => 3,
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Equal => "equal",
        Outcome::AsPlanned { .. } => "as planned",
        Outcome::NotCompared { .. } => "not compared",
        Outcome::Different { .. } => "DIFFERENT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::verify::TableResult;

    #[test]
    fn the_end_of_a_proven_move() {
        insta::assert_snapshot!(closing(
            &sample::equal(),
            &sample::timings(),
            sample::scope(),
            false,
            sample::PAGE
        ));
    }

    #[test]
    fn the_end_of_a_comparison_that_differs() {
        let page = Page { width: 80, ..sample::PAGE };
        insta::assert_snapshot!(closing(
            &sample::different(),
            &Timings::default(),
            sample::scope(),
            false,
            page
        ));
    }

    #[test]
    fn the_end_of_a_comparison_of_counts() {
        insta::assert_snapshot!(closing(
            &sample::counted(),
            &Timings::default(),
            Scope::default(),
            false,
            sample::PAGE
        ));
    }

    #[test]
    fn of_many_tables_the_largest_are_listed() {
        let mut comparison = Comparison::default();
        for table in 0..1000 {
            let name = format!("public.t{table}");
            comparison.tables.push(TableResult { table: name.clone(), rows: [table; 2], checksums: None });
            comparison.push(name, Aspect::Rows, Outcome::Equal);
        }
        let text = closing(&comparison, &Timings::default(), Scope::default(), false, sample::PAGE);
        assert!(text.contains("\nand 980 more, all equal\n") && text.contains("public.t999"), "{text}");
    }

    #[test]
    fn what_is_as_planned_is_one_line_a_reason_and_all_of_it_when_asked() {
        let mut comparison = Comparison::default();
        for table in 0..107 {
            comparison.push(
                format!("TABLE public.t{table}"),
                Aspect::Schema,
                Outcome::as_planned("given to app"),
            );
        }
        comparison.push("vectors", Aspect::Extension, Outcome::as_planned("replaced by vector"));
        let text = |is_verbose| {
            closing(&comparison, &Timings::default(), Scope::default(), is_verbose, sample::PAGE)
        };
        let expected = "different as planned (all with -v):\n  \
            107 schema objects: given to app (TABLE public.t0, TABLE public.t1, TABLE public.t2 and 104 more)\n  \
            extension vectors: replaced by vector\n\n";
        assert!(text(false).starts_with(expected), "{}", text(false));
        let all = text(true).split_whitespace().collect::<Vec<_>>().join(" ");
        let names: Vec<String> = (0..107).map(|table| format!("TABLE public.t{table}")).collect();
        assert!(all.contains(&names.join(", ")) && !all.contains("more"), "{all}");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let mut comparison = Comparison::default();
        let name = "public.\"a\nequal: \x1b[2J\"";
        comparison.tables.push(TableResult { table: name.into(), rows: [1; 2], checksums: None });
        comparison.push(
            name,
            Aspect::Rows,
            Outcome::Different { detail: "1 row".into(), rows: vec!["\x07".into()] },
        );
        let text = closing(&comparison, &Timings::default(), Scope::default(), false, sample::PAGE);
        assert!(!text.contains(['\x1b', '\x07']), "{text}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("equal")), "{text}");
    }
}
