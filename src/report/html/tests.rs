use super::*;
use crate::plan::NotCarried;
use crate::report::process::{Finding, Span};
use crate::report::{document, sample};
use crate::verify::{Aspect, Outcome};

/// With the styles left out: they say nothing of the report.
fn body(report: &Report) -> String {
    let page = page(report).replace(include_str!("report.css"), "");
    page.replace("><", ">\n<")
}

/// Whether they do what they are for, only a browser tells.
#[test]
fn a_page_has_styles_for_phones_and_for_paper() {
    let page = page(&sample::report(&sample::equal()));
    for rule in ["@media screen and (max-width: 44rem) {", "@media print {", "name=\"viewport\""] {
        assert!(page.contains(rule), "{rule}");
    }
}

#[test]
fn a_proven_move() {
    insta::assert_snapshot!(body(&sample::report(&sample::equal())));
}

#[test]
fn a_move_that_differs() {
    insta::assert_snapshot!(body(&sample::report(&sample::different())));
}

#[test]
fn a_run_that_stopped_says_so_first() {
    let page = body(&sample::stopped());
    let said = page.find("<strong>stopped</strong>").expect("it says so");
    assert!(page.find("<h2>").is_some_and(|section| said < section), "{page}");
    for words in ["No space left on device", "Next: give the target", "Nothing was compared", "blocking"] {
        assert!(page.contains(words), "no {words} in {page}");
    }
}

/// Every text of a report that is not pgmove's own.
fn fill(report: &mut Report, text: &str) {
    let own = || text.to_owned();
    (report.run, report.source, report.target) = (own(), own(), own());
    report.conclusion.sentence = own();
    for table in &mut report.tables {
        table.table = own();
        table.text_reason = Some(own());
        table.checksums = Some([own(), own()]);
    }
    for index in &mut report.indexes {
        index.object = own();
        (index.table, index.access_method) = (Some(own()), Some(own()));
    }
    for check in &mut report.checks {
        check.object = own();
        check.outcome = match (&check.outcome, check.aspect) {
            (Outcome::Equal, Aspect::Sequence) => Outcome::Different { detail: own(), rows: vec![own()] },
            (Outcome::Equal, Aspect::Rows) => Outcome::NotCompared { reason: own() },
            _ => Outcome::AsPlanned { detail: own() },
        };
    }
    report.findings = vec![Finding {
        id: own(),
        severity: crate::preflight::Severity::Blocking,
        title: own(),
        evidence: own(),
        objects: vec![own()],
        remedy: own(),
    }];
    for change in &mut report.rewrites {
        (change.object, change.before, change.reason) = (own(), own(), own());
        change.after = change.after.is_some().then(own);
    }
    report.not_carried = vec![NotCarried { object: own(), reason: own() }];
    for process in &mut report.history.processes {
        process.pgmove = own();
        process.warnings.push(own());
        process.settings = [(own(), own())].into();
        process.works.push(Span {
            lane: 1,
            stage: crate::event::Stage::Copy,
            item: own(),
            items: 2,
            start: 1.0,
            end: 2.0,
        });
        if let Some(end) = &mut process.end {
            end.sentence = own();
        }
        if let Some(checked) = &mut process.checked {
            (checked.versions.source, checked.versions.target) = (own(), own());
            checked.versions.client_tools = Some(own());
            for extension in &mut checked.versions.extensions {
                (extension.name, extension.source, extension.target) = (own(), own(), Some(own()));
            }
        }
    }
}

/// The elements and attributes of a page, whatever its texts are.
fn skeleton(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("an element ends");
        assert!(!text.contains('>'), "a text ends an element: {piece}");
        // Values are put in quotes and have none.
        let names = tag.split('"').step_by(2).collect::<Vec<_>>();
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        tags.push(names.join("\"\""));
    }
    tags
}

#[test]
fn no_name_becomes_a_part_of_the_page() {
    let filled = |text: &str| {
        let mut report = sample::report(&sample::equal());
        fill(&mut report, text);
        body(&report)
    };
    let harmless = filled("name");
    assert!(harmless.matches("name").count() > 60, "{harmless}");
    for hostile in [
        "</title><script>alert(1)</script>",
        "</style><svg onload=alert(1)>",
        "\" onmouseover=\"alert(1)",
        "' onmouseover='alert(1)",
        "]]><!-- &lt;script&gt; -->",
    ] {
        let page = filled(hostile);
        assert_eq!(skeleton(&page), skeleton(&harmless), "{hostile}");
    }
    let hidden = filled("\x1b]0;a\x07\u{202e}b\u{0}");
    assert!(!hidden.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{hidden}");
    assert!(hidden.contains("\\x1b]0;a\\x07\\u{202e}b\\x00"), "{hidden}");
}

#[test]
fn the_page_needs_nothing_beside_itself() {
    let page = page(&sample::report(&sample::equal()));
    for word in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn of_a_huge_plan_the_page_stays_readable_and_the_json_has_all() {
    let mut report = sample::report(&sample::equal());
    let table = report.tables[0].clone();
    report.tables = vec![table; 5000];
    let page = page(&report);
    assert!(page.contains("and 4,000 more, all in report.json") && page.len() < 1 << 20, "{}", page.len());
    let read: Report = serde_json::from_str(&document(&report)).expect("it is JSON");
    assert_eq!(read.tables.len(), 5000);
}

#[test]
fn every_stage_has_a_colour() {
    let style = include_str!("report.css");
    for stage in super::chart::STAGES.map(crate::event::Stage::title) {
        assert!(style.contains(&format!("--{stage}: #")), "{stage}");
        assert!(
            style.contains(&format!(".{stage} {{ fill: var(--{stage}); background: var(--{stage}); }}")),
            "{stage}"
        );
    }
}
