//! The results for people: Markdown tables, on stdout and in docs/performance.md.

use std::{fmt::Write, fs};

use anyhow::{Context, Result, ensure};

use super::{
    contestant::{PEAK_BOUND, PEAK_LANES},
    results::{CaseResults, ContestantResults, Results},
};
use crate::process;

/// What stands between these lines of the document comes from here.
pub(super) const BEGIN: &str = "<!-- figures: written by `cargo xtask bench --write` -->";
const END: &str = "<!-- end of figures -->";

/// Everything that was measured.
pub(super) fn text(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!("{}\n\n", machine.host);
    if results.quick {
        text.push_str("Small databases (--quick): the figures mean nothing.\n\n");
    }
    let _ = writeln!(text, "Versions: {}.", machine.versions.join("; "));
    let settings: Vec<String> =
        machine.server_settings.iter().map(|setting| format!("`{setting}`")).collect();
    let _ = writeln!(text, "Both servers: {}.", settings.join(", "));
    for case in &results.cases {
        text.push('\n');
        write_case(&mut text, case);
    }
    text
}

/// Replaces the figures of docs/performance.md that follow the line `begin`, and leaves everything around them.
///
/// # Errors
/// When the document cannot be read or written, or does not say where figures stand.
pub(super) fn write(begin: &str, figures: &str) -> Result<()> {
    let document = process::workspace().join("docs/performance.md");
    let name = || document.display().to_string();
    let before = fs::read_to_string(&document).with_context(name)?;
    fs::write(&document, replace(&before, begin, figures).with_context(name)?).with_context(name)
}

fn replace(document: &str, begin: &str, figures: &str) -> Result<String> {
    let (head, rest) = document.split_once(begin).with_context(|| format!("there is no {begin:?}"))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("there is no {END:?}"))?;
    ensure!(!tail.contains(begin), "the document has two places for figures");
    Ok(format!("{head}{begin}\n\n{figures}\n{END}{tail}"))
}

fn write_case(text: &mut String, case: &CaseResults) {
    let _ = writeln!(
        text,
        "### {}: {} {}, {:.2} GB with indexes\n\n\
         | | median | fastest to slowest | processor time | its own part | load | pgmove / this | in single rounds | bound |\n\
         |---|---|---|---|---|---|---|---|---|",
        case.case.name(),
        case.size,
        case.case.description(),
        gigabytes(case.database_bytes),
    );
    for contestant in &case.contestants {
        write_contestant(text, case, contestant);
    }
    let verdict = if case.peak_holds() { "holds" } else { "**missed**" };
    let _ = writeln!(
        text,
        "\nPeak memory of pgmove with {PEAK_LANES} lanes: {:.1} MiB (bound {} MiB: {verdict}).",
        mebibytes(case.peak_bytes),
        PEAK_BOUND >> 20,
    );
    for contestant in &case.contestants {
        if let Some(bytes) = contestant.runs.last().and_then(|run| run.archive_bytes) {
            let _ = writeln!(text, "The archive takes {:.2} GB.", gigabytes(bytes));
        }
    }
}

fn write_contestant(text: &mut String, case: &CaseResults, contestant: &ContestantResults) {
    let (fastest, slowest) = contestant.spread();
    let (ratio, rounds, bound) = match case.ratio(contestant) {
        None => (String::new(), String::new(), String::new()),
        Some(ratio) => (
            format!("{:.2}", ratio.value),
            format!("{:.2} to {:.2}", ratio.rounds.0, ratio.rounds.1),
            contestant.bound.map_or_else(String::new, |bound| {
                format!("≤ {bound}: {}", if ratio.value <= bound { "holds" } else { "**missed**" })
            }),
        ),
    };
    let loads: Vec<f64> = contestant.runs.iter().map(|run| run.load).collect();
    let load = loads.iter().sum::<f64>() / f64::from(u32::try_from(loads.len()).unwrap_or(u32::MAX));
    let _ = writeln!(
        text,
        "| {} | {:.2} s | {fastest:.2} to {slowest:.2} s | {:.1} s | {:.1} s | {load:.1} | {ratio} | {rounds} | {bound} |",
        contestant.name,
        contestant.median(),
        contestant.processor(),
        contestant.own_processor(),
    );
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_figures_are_replaced() {
        let other = format!("<!-- other -->\nothers\n{END}\n");
        let document = format!("{other}head\n{BEGIN}\nold\n{END}\ntail\n{other}");
        let replaced = replace(&document, BEGIN, "new\n").expect("a place for figures");
        assert_eq!(replaced, format!("{other}head\n{BEGIN}\n\nnew\n\n{END}\ntail\n{other}"));
        assert_eq!(replace(&replaced, BEGIN, "new\n").expect("the same place"), replaced);
        assert!(replace("nothing", BEGIN, "new").is_err());
        assert!(replace(&format!("{END}{BEGIN}"), BEGIN, "new").is_err());
    }
}
