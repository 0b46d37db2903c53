use super::*;
use crate::report::rehearsal::REHEARSE_AGAIN;
use crate::report::sample;

#[test]
fn what_is_read_back_is_what_was_written() {
    let rehearsed = sample::stopped().of_rehearsal(sample::rehearsal(), Again::Anew(REHEARSE_AGAIN));
    for report in [sample::report(&sample::different()), sample::stopped(), rehearsed] {
        let read: Report = serde_json::from_str(&document(&report)).expect("it is JSON");
        assert_eq!(read, report);
        assert_eq!(document(&read), document(&report));
    }
}

#[test]
fn a_report_for_a_script() {
    insta::assert_snapshot!(document(&sample::report(&sample::different())));
}

/// The names of all fields, but for objects whose keys are names of something.
fn fields(value: &serde_json::Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                let is_map =
                    ["settings", "builds"].contains(&name.as_str()) || name == "tables" && value.is_object();
                if !is_map {
                    fields(value, found);
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_is_described() {
    let mut found = std::collections::BTreeSet::new();
    let rehearsed = sample::stopped().of_rehearsal(sample::rehearsal(), Again::Anew(REHEARSE_AGAIN));
    for report in [sample::report(&sample::different()), sample::stopped(), rehearsed] {
        fields(&serde_json::to_value(report).expect("plain data"), &mut found);
    }
    let text = include_str!("../../../docs/report.md");
    let missing: Vec<_> = found.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(found.len() > 60 && missing.is_empty(), "docs/report.md does not tell of {missing:?}");
}

#[test]
fn it_tells_of_the_comparison_that_it_is_made_of() {
    let comparison = sample::different();
    let found = sample::report(&comparison).comparison().expect("it was compared");
    assert_eq!(found.checks, comparison.checks);
    assert_eq!(found.vector_search, comparison.vector_search);
    assert_eq!(found.verdict(), comparison.verdict());
    let sorted = |comparison: &Comparison| {
        let mut tables = comparison.tables.clone();
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        tables
    };
    assert_eq!(sorted(&found), sorted(&comparison));
    assert_eq!(sample::stopped().comparison(), None);
}

#[test]
fn a_later_format_is_not_taken_for_this_one() {
    let mut value = serde_json::to_value(sample::stopped()).expect("plain data");
    assert!(serde_json::from_value::<Report>(value.clone()).is_ok());
    value["version"] = (VERSION + 1).into();
    let refused = serde_json::from_value::<Report>(value).expect_err("it is later");
    assert!(refused.to_string().contains("reads up to"), "{refused}");
}

#[test]
fn several_processes_are_one_run() {
    let report = sample::report(&sample::equal());
    let alone = sample::stopped();
    assert_eq!(report.timings().stages[1].bytes, 2 * alone.timings().stages[1].bytes);
    let seconds = |report: &Report| report.timings().tables["public.asset"].copy_seconds;
    assert!((seconds(&report) - 2.0 * seconds(&alone)).abs() < 1e-9);
}

#[test]
fn a_word_stands_for_each_exit() {
    for (exit, state) in [
        (Exit::Done, State::Equal),
        (Exit::Different, State::Different),
        (Exit::NotAllCompared, State::NotAllCompared),
        (Exit::Refused, State::Refused),
        (Exit::Resumable, State::Stopped),
        (Exit::Interrupted, State::Interrupted),
        (Exit::StartOver, State::Failed),
    ] {
        assert_eq!(State::from(exit), state);
    }
}
