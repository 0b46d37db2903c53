//! Pictures of a process as inline SVG: when which stage and which lane worked, and how much went through.
//!
//! Widths are per cent of the page's, heights and letters are not, so that letters stay readable on a phone.

use maud::{Markup, html};

use crate::event::Stage;
use crate::report::html::Shown;
use crate::report::process::Process;
use crate::report::text::{bytes, clock, count, duration, rate};

/// Each has a colour of its own in report.css.
pub(super) const STAGES: [Stage; 8] = [
    Stage::Check,
    Stage::Freeze,
    Stage::Fence,
    Stage::Schema,
    Stage::Copy,
    Stage::Indexes,
    Stage::Finish,
    Stage::Verify,
];

/// The height of a row, with its label above its bar.
const ROW: usize = 30;
const LABEL: usize = 11;
const BAR: usize = 12;
/// Room for the moments below.
const AXIS: usize = 18;

/// The stages and lanes of a process.
pub(super) fn timeline(process: &Process) -> Markup {
    let total = process.seconds.max(0.001);
    let mut lanes: Vec<usize> = process.works.iter().map(|work| work.lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let rows = process.stages.len() + lanes.len();
    let height = rows * ROW + AXIS;
    let bar = |row: usize, start: f64, end: f64, stage: Stage, title: &str| {
        let width = share(end - start, total).max(0.15);
        html! {
            rect class=(class(stage)) x=(percent(share(start, total).min(100.0 - width))) width=(percent(width))
                y=(row * ROW + LABEL + 4) height=(BAR) { title { (Shown(title)) } }
        }
    };
    html! {
        svg.chart role="img" aria-label="when each stage and each lane worked" width="100%" height=(height) {
            (grid(rows * ROW, total))
            @for (row, stage) in process.stages.iter().enumerate() {
                @let end = stage.start + stage.timing.seconds;
                @let title = format!("{}: {}{}", stage.timing.stage.title(), duration(stage.timing.seconds),
                    if stage.timing.is_finished { "" } else { ", not finished" });
                text x="0" y=(row * ROW + LABEL) { (title) }
                (bar(row, stage.start, end.min(total), stage.timing.stage, &title))
            }
            @for (row, lane) in lanes.iter().enumerate() {
                @let row = row + process.stages.len();
                text x="0" y=(row * ROW + LABEL) { "lane " (lane) }
                @for work in process.works.iter().filter(|work| work.lane == *lane) {
                    @let more = if work.items > 1 {
                        format!(" and {}", count(work.items - 1, "more", "more"))
                    } else {
                        String::new()
                    };
                    @let title = format!("{}: {}{more}, {}", work.stage.title(), work.item, duration(work.end - work.start));
                    (bar(row, work.start, work.end, work.stage, &title))
                }
            }
        }
        p.legend {
            @for stage in STAGES {
                @if process.stages.iter().any(|found| found.timing.stage == stage) {
                    span { span class={ "key " (class(stage)) } {} " " (stage.title()) }
                }
            }
        }
    }
}

/// Bytes a second of a process over its time; nothing if there were none.
pub(super) fn throughput(process: &Process) -> Markup {
    let series = [(Stage::Copy, &process.throughput.copied), (Stage::Verify, &process.throughput.compared)];
    let highest = series.iter().flat_map(|(_, points)| points.iter()).copied().max().unwrap_or_default();
    if highest == 0 {
        return html! {};
    }
    let (total, height) = (process.seconds.max(0.001), 120);
    let interval = float(process.throughput.interval_milliseconds) / 1000.0;
    html! {
        svg.chart role="img" aria-label="bytes a second" width="100%" height=(height + LABEL + AXIS + 4) {
            text x="0" y=(LABEL) { "at most " (rate(highest, interval).unwrap_or_default()) }
            svg x="0" y=(LABEL + 4) width="100%" height=(height) viewBox="0 0 1000 100" preserveAspectRatio="none" {
                @for (stage, points) in series {
                    @if points.iter().any(|bytes| *bytes > 0) {
                        path class=(class(stage)) d=(area(points, interval, total, highest)) {}
                    }
                }
            }
            svg x="0" y="0" width="100%" height=(height + LABEL + AXIS + 4) { (grid(height + LABEL + 4, total)) }
        }
        p.legend {
            @for (stage, points) in series {
                @let sum = points.iter().sum();
                @if sum > 0 {
                    span {
                        span class={ "key " (class(stage)) } {}
                        " " (if stage == Stage::Copy { "copied" } else { "read back and compared" }) ", " (bytes(sum))
                    }
                }
            }
        }
    }
}

/// The outline of steps, a step a point, in a field of 1000 by 100.
fn area(points: &[u64], interval: f64, total: f64, highest: u64) -> String {
    use std::fmt::Write as _;
    let mut path = "M0 100".to_owned();
    let mut last = 100.0;
    for (position, bytes) in points.iter().enumerate() {
        let y = 100.0 - 100.0 * float(*bytes) / float(highest);
        // Steps of one height are one.
        if (y - last).abs() > f64::EPSILON {
            let x = (1000.0 * float(position as u64) * interval / total).min(1000.0);
            let _ = write!(path, "H{x:.1}V{y:.1}");
            last = y;
        }
    }
    let end = (1000.0 * float(points.len() as u64) * interval / total).min(1000.0);
    let _ = write!(path, "H{end:.1}V100Z");
    path
}

/// Lines at the quarters, and their moments below.
fn grid(height: usize, total: f64) -> Markup {
    html! {
        @for quarter in 0..=4_u32 {
            @let x = f64::from(quarter) * 25.0;
            line.grid x1=(percent(x)) x2=(percent(x)) y1="0" y2=(height) {}
            text x=(percent(x)) y=(height + AXIS - 4) text-anchor=(match quarter { 0 => "start", 4 => "end", _ => "middle" }) {
                @let moment = total * f64::from(quarter) / 4.0;
                (if total < 60.0 { format!("{moment:.1} s") } else { clock(moment) })
            }
        }
    }
}

fn class(stage: Stage) -> &'static str {
    // The titles are letters only.
    stage.title()
}

fn share(part: f64, total: f64) -> f64 {
    (100.0 * part / total).clamp(0.0, 100.0)
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

#[expect(clippy::cast_precision_loss, reason = "it is drawn")]
fn float(value: u64) -> f64 {
    value as f64
}
