//! The verdict in one sentence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::report::text::{count, escape, number};
use crate::verify::{Aspect, Comparison, Outcome, Verdict};

/// What a comparison was about and does not hold itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// The point in time that was compared: the snapshot's.
    pub as_of: Option<Timestamp>,
    /// How many large objects were compared.
    pub large_objects: u64,
}

/// `equal: 52 tables with 1,204,331 rows, 7 sequences; proven as of 2026-11-23 02:14 UTC`.
pub fn sentence(comparison: &Comparison, scope: Scope) -> String {
    let verdict = comparison.verdict();
    let missing = not_compared(comparison);
    let mut text = match verdict {
        Verdict::Equal => format!("equal: {}", extent(comparison, scope)),
        Verdict::Different => format!("DIFFERENT: {}", differences(comparison)),
        Verdict::NotAllCompared if comparison.checks.is_empty() => "nothing was compared".to_owned(),
        Verdict::NotAllCompared => format!("equal as far as compared: {}", extent(comparison, scope)),
    };
    let planned = comparison.checks.iter().filter(|check| matches!(check.outcome, Outcome::AsPlanned { .. }));
    let planned = planned.count() as u64;
    if planned > 0 && verdict != Verdict::Different {
        let _ = write!(text, "; {} as planned", count(planned, "difference", "differences"));
    }
    if !missing.is_empty() {
        text.push_str("; not compared: ");
        text.push_str(&missing);
    }
    if let Some(as_of) = scope.as_of {
        let proven = if verdict == Verdict::Equal { "; proven as of " } else { "; as of " };
        text.push_str(proven);
        text.push_str(&as_of.strftime("%Y-%m-%d %H:%M UTC").to_string());
    }
    text
}

/// What was found equal, in numbers.
fn extent(comparison: &Comparison, scope: Scope) -> String {
    let is_held = |outcome: &Outcome| matches!(outcome, Outcome::Equal | Outcome::AsPlanned { .. });
    let checks = |aspect: Aspect| {
        comparison.checks.iter().filter(|check| check.aspect == aspect && is_held(&check.outcome)).count()
            as u64
    };
    let rows = comparison
        .tables
        .iter()
        .filter(|table| {
            let of_table =
                |check: &&crate::verify::Check| check.aspect == Aspect::Rows && check.object == table.table;
            comparison.checks.iter().find(of_table).is_some_and(|check| is_held(&check.outcome))
        })
        .map(|table| table.rows[0])
        .sum();
    let mut parts = Vec::new();
    let tables = checks(Aspect::Rows);
    if tables > 0 {
        parts.push(format!("{} with {}", count(tables, "table", "tables"), count(rows, "row", "rows")));
    }
    for aspect in [Aspect::MaterializedView, Aspect::Sequence, Aspect::Schema] {
        let number = checks(aspect);
        let (one, many) = noun(aspect);
        parts.extend((number > 0).then(|| count(number, one, many)));
    }
    if checks(Aspect::LargeObjects) > 0 && scope.large_objects > 0 {
        parts.push(count(scope.large_objects, "large object", "large objects"));
    }
    if checks(Aspect::VectorSearch) > 0 {
        parts.push(count(checks(Aspect::VectorSearch), "vector search", "vector searches"));
    }
    if parts.is_empty() { count(comparison.checks.len() as u64, "check", "checks") } else { parts.join(", ") }
}

/// `1 of 52 tables, 1 of 7 sequences`.
fn differences(comparison: &Comparison) -> String {
    let mut found: BTreeMap<Aspect, (u64, u64)> = BTreeMap::new();
    for check in &comparison.checks {
        let (different, all) = found.entry(check.aspect).or_default();
        *different += u64::from(matches!(check.outcome, Outcome::Different { .. }));
        *all += 1;
    }
    let parts = found.into_iter().filter(|(_, (different, _))| *different > 0);
    let parts: Vec<String> = parts
        .map(|(aspect, (different, all))| match aspect {
            Aspect::SourceUnchanged => "the source was written since its snapshot".to_owned(),
            Aspect::LargeObjects if all == 1 => "large objects".to_owned(),
            _ => format!("{} of {}", number(different), count(all, noun(aspect).0, noun(aspect).1)),
        })
        .collect();
    parts.join(", ")
}

/// What was not compared and why, equal reasons together; empty if all was.
fn not_compared(comparison: &Comparison) -> String {
    let mut found: BTreeMap<(Aspect, &str), Vec<&str>> = BTreeMap::new();
    for check in &comparison.checks {
        if let Outcome::NotCompared { reason } = &check.outcome {
            found.entry((check.aspect, reason)).or_default().push(&check.object);
        }
    }
    let part = |((aspect, reason), objects): (&(Aspect, &str), &Vec<&str>)| {
        let (one, many) = noun(*aspect);
        match objects[..] {
            [object] => format!("{} ({})", named(*aspect, object), escape(reason)),
            _ => format!("{} ({})", count(objects.len() as u64, one, many), escape(reason)),
        }
    };
    let mut parts: Vec<String> = found.iter().take(3).map(part).collect();
    if found.len() > parts.len() {
        parts.push(format!(
            "and {}",
            count((found.len() - parts.len()) as u64, "more reason", "more reasons")
        ));
    }
    parts.join(", ")
}

/// An object and what it is, each said once: `table public.asset`, `index clip_index`.
pub(super) fn named(aspect: Aspect, object: &str) -> String {
    let (one, _) = noun(aspect);
    let is_named = matches!(aspect, Aspect::SourceUnchanged | Aspect::LargeObjects)
        || object.to_lowercase().starts_with(&format!("{one} "));
    if is_named { escape(object).into_owned() } else { format!("{one} {}", escape(object)) }
}

/// What an aspect is of: one and several.
pub(super) fn noun(aspect: Aspect) -> (&'static str, &'static str) {
    match aspect {
        Aspect::Rows => ("table", "tables"),
        Aspect::GeneratedColumns => ("table with generated columns", "tables with generated columns"),
        Aspect::MaterializedView => ("materialised view", "materialised views"),
        Aspect::Sequence => ("sequence", "sequences"),
        Aspect::LargeObjects => ("batch of large objects", "batches of large objects"),
        Aspect::Schema => ("schema object", "schema objects"),
        Aspect::Index => ("index", "indexes"),
        Aspect::Constraint => ("constraint", "constraints"),
        Aspect::Extension => ("extension", "extensions"),
        Aspect::Setting => ("setting", "settings"),
        Aspect::VectorSearch => ("vector search", "vector searches"),
        Aspect::SourceUnchanged => ("source", "sources"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn objects_are_named_once() {
        assert_eq!(named(Aspect::Rows, "public.asset"), "table public.asset");
        assert_eq!(named(Aspect::Index, "index clip_index"), "index clip_index");
        assert_eq!(named(Aspect::LargeObjects, "large objects"), "large objects");
        assert_eq!(named(Aspect::Sequence, "a\n"), "sequence a\\n");
    }

    #[test]
    fn a_source_that_was_written_is_told_in_words() {
        let mut comparison = sample::equal();
        let detail = "12 transactions since the snapshot".to_owned();
        comparison.push("source", Aspect::SourceUnchanged, Outcome::Different { detail, rows: vec![] });
        assert_eq!(
            sentence(&comparison, Scope::default()),
            "DIFFERENT: the source was written since its snapshot"
        );
    }

    #[test]
    fn every_verdict_is_one_sentence() {
        let said = [sample::equal(), sample::different(), sample::counted(), Comparison::default()]
            .map(|comparison| sentence(&comparison, sample::scope()));
        insta::assert_snapshot!(said.join("\n"));
    }
}
