//! The findings of the check, for a person: the blocking ones first, each with what was seen and what to do.

use std::cmp::Reverse;
use std::fmt::Write as _;

use crate::error::Exit;
use crate::preflight::{Finding, Severity};
use crate::report::text::{Colour, Page, count};

/// All findings and their number, of a command that ends with `exit`.
pub fn findings(findings: &[Finding], exit: Exit, page: Page) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| Reverse(finding.severity));
    let mut out = String::new();
    for finding in &sorted {
        let (word, colour) = match finding.severity {
            Severity::Blocking => ("blocking", Colour::Red),
            Severity::Warning => ("warning", Colour::Yellow),
            Severity::Note => ("note", Colour::Bold),
        };
        let mut entry = String::new();
        page.wrap(&mut entry, &format!("{word}: "), &format!("{} [{}]", finding.title, finding.id));
        out.push_str(&entry.replacen(word, &page.paint(word, colour), 1));
        for (lead, text) in [("  seen: ", &finding.evidence), ("  next: ", &finding.remedy)] {
            page.wrap(&mut out, lead, text);
        }
        out.push('\n');
    }
    let of = |severity| sorted.iter().filter(|finding| finding.severity == severity).count() as u64;
    let (blocking, warnings) = (of(Severity::Blocking), of(Severity::Warning));
    let notes = match of(Severity::Note) {
        0 => String::new(),
        notes => format!(" ({} beside)", count(notes, "note", "notes")),
    };
    let _ = match (blocking, warnings) {
        (0, 0) => writeln!(out, "check: nothing stands in the way{notes}"),
        (0, _) => {
            let warnings = count(warnings, "warning", "warnings");
            writeln!(out, "check: {warnings}; nothing stands in the way{notes}")
        }
        _ => {
            let blocking = count(blocking, "blocking finding", "blocking findings");
            let warnings = count(warnings, "warning", "warnings");
            if exit == Exit::Resumable {
                writeln!(
                    out,
                    "check: stopped, {blocking} and {warnings}; nothing more was written\n  \
                     what the run had written before stays, a fence too\n  \
                     next: mend what is blocking, then go on with --resume"
                )
            } else {
                writeln!(out, "check: refused, {blocking} and {warnings}; nothing was written{notes}")
            }
        }
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn findings_for_a_person() {
        insta::assert_snapshot!(findings(&sample::findings(), Exit::Refused, sample::PAGE));
    }

    #[test]
    fn no_finding_is_said_too() {
        assert_eq!(findings(&[], Exit::Done, sample::PAGE), "check: nothing stands in the way\n");
        assert_eq!(
            findings(&sample::findings()[..1], Exit::Done, sample::PAGE).lines().last(),
            Some("check: 1 warning; nothing stands in the way")
        );
    }

    #[test]
    fn a_run_that_had_written_before_is_stopped_and_can_go_on() {
        let text = findings(&sample::findings(), Exit::Resumable, sample::PAGE);
        assert!(!text.contains("nothing was written"), "{text}");
        assert!(text.contains("what the run had written before stays"), "{text}");
    }

    #[test]
    fn the_severity_is_coloured_on_a_terminal() {
        let page = Page { is_coloured: true, ..sample::PAGE };
        assert!(
            findings(&sample::findings(), Exit::Refused, page)
                .starts_with("\x1b[31mblocking\x1b[0m: the target")
        );
    }
}
