//! What a rehearsal has shown: how long the window takes, what it consists of, what would make it shorter, and the
//! space that it needs. Pure: made of what was recorded of the rehearsal's process, nothing is guessed.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::event::Stage;
use crate::report::process::{Process, Span};
use crate::report::text::{Colour, Page, bytes, count, duration, escape, rate};

/// From this part of the window on something is worth to be named.
const WORTH: f64 = 0.1;
/// From this part of their time on lanes are busy.
const BUSY: f64 = 0.8;

/// What a person is to do after one that was not finished.
pub const REHEARSE_AGAIN: &str = "rehearse again";

/// What a rehearsal has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The target that was rehearsed for; it was not touched.
    pub target: String,
    /// The limit on what was read from the source, in bytes a second.
    pub max_rate: Option<u64>,
    /// The window; `None` if the rehearsal did not come to a verdict.
    pub window: Option<Window>,
    /// The space on the target; `None` if it could not be measured.
    pub space: Option<Space>,
}

/// How long the window takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// In seconds, as rehearsed.
    pub seconds: f64,
    /// What it consists of, in order.
    pub parts: Vec<Part>,
    /// What would make it shorter, as far as that was measured.
    pub shorter: Vec<String>,
}

/// A part of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// What is done.
    pub name: String,
    /// How long, in seconds.
    pub seconds: f64,
}

/// Space that the move needed on the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// The largest size of the database that was seen, in bytes.
    pub database_bytes: u64,
    /// WAL that the whole server wrote meanwhile, in bytes.
    pub wal_bytes: u64,
    /// Temporary files that were written, all together, in bytes: no more than this at one time.
    pub temporary_bytes: u64,
    /// The moment at which the disk held most of it.
    pub peak: Peak,
}

/// What the disk held of a move at one moment, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// The database.
    pub database_bytes: u64,
    /// By how much the server's WAL had grown.
    pub wal_bytes: u64,
    /// Temporary files.
    pub temporary_bytes: u64,
}

impl Peak {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.database_bytes + self.wal_bytes + self.temporary_bytes
    }
}

impl Window {
    /// The window as it was rehearsed by one process.
    pub fn of(process: &Process, max_rate: Option<u64>) -> Window {
        let stage = |wanted: Stage| process.stages.iter().find(|span| span.timing.stage == wanted);
        let end = |wanted: Stage| stage(wanted).map_or(0.0, |span| span.start + span.timing.seconds);
        let begun = stage(Stage::Copy).map_or(0.0, |span| span.start);
        let built = end(Stage::Copy).max(end(Stage::Indexes)).max(begun);
        let copied = last_end(process, |work| work.stage == Stage::Copy).unwrap_or(begun).clamp(begun, built);
        // One after the other; what a stage does before its time (reading back beside the copy) is no part of its own.
        let ends = [
            ("check and plan", end(Stage::Check)),
            ("schema", begun),
            ("rows, and what is built beside them", copied),
            ("indexes and constraints after the last row", built),
            ("sequences, triggers, rights, views", end(Stage::Finish)),
            ("comparing", end(Stage::Verify)),
            ("the rest", process.seconds),
        ];
        let mut now = 0.0;
        let part = |(name, end): (&str, f64)| {
            let seconds = (end - now).max(0.0);
            now += seconds;
            Part { name: name.to_owned(), seconds }
        };
        let parts = ends.into_iter().map(part).collect();
        let mut window = Window { seconds: process.seconds, parts, shorter: vec![] };
        window.shorter = window.advice(process, (begun, copied, built), max_rate);
        window
    }

    fn advice(
        &self,
        process: &Process,
        (begun, copied, built): (f64, f64, f64),
        max_rate: Option<u64>,
    ) -> Vec<String> {
        let mut advice = Vec::new();
        let is_worth = |seconds: f64| seconds > WORTH * self.seconds;
        let copy = process.stages.iter().find(|span| span.timing.stage == Stage::Copy);
        let moved = copy.map_or(0, |span| span.timing.bytes);
        if let (Some(limit), true) = (max_rate, is_worth(copied - begun)) {
            advice.push(format!(
                "rows were read at no more than {}/s (--max-rate): without that limit they take less than {}",
                bytes(limit),
                duration(copied - begun)
            ));
        } else if let (Some(rate), true) = (rate(moved, copied - begun), is_worth(copied - begun)) {
            advice.push(format!(
                "rows came at {rate}: pgmove nearer to both servers, or faster ones, if that is what limits it"
            ));
        }
        let lanes = process.works.iter().map(|work| work.lane).max().map_or(0, |last| last + 1);
        #[expect(clippy::cast_precision_loss, reason = "there are at most 256 lanes")]
        let time = (built - begun) * lanes as f64;
        let within = |work: &&Span| work.end > begun && work.start < built;
        let busy: f64 =
            process.works.iter().filter(within).map(|work| work.end.min(built) - work.start.max(begun)).sum();
        if lanes > 0 && is_worth(built - begun) && busy >= BUSY * time {
            advice.push(format!(
                "{} worked {:.0} % of the time between the first row and the last index: more lanes (--jobs), where both \
                 servers and this machine have cores to spare",
                count(lanes as u64, "lane", "lanes"),
                100.0 * busy / time
            ));
        }
        let alone = alone(process, begun, built).filter(|(_, seconds)| lanes > 1 && is_worth(*seconds));
        if let Some((last, seconds)) = alone {
            advice.push(format!(
                "for {} nothing was left to do but {}: more memory for it (--index-memory), or more parallel workers \
                 (max_parallel_maintenance_workers of the target)",
                duration(seconds),
                last.item
            ));
        }
        let largest = process.builds.iter().max_by(|one, other| one.1.total_cmp(other.1));
        if let Some((object, seconds)) = largest.filter(|(_, seconds)| is_worth(**seconds)) {
            advice.push(format!("the longest single build is {object}, {}", duration(*seconds)));
        }
        advice
    }

    /// `the window will take about 12 minutes`: in whole minutes, rounded up.
    pub fn sentence(&self) -> String {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a window has few minutes"
        )]
        let minutes = (self.seconds / 60.0).ceil().max(1.0) as u64;
        format!(
            "the window will take about {}: {} as rehearsed, and the time to stop the application and to start it again",
            count(minutes, "minute", "minutes"),
            duration(self.seconds)
        )
    }
}

fn last_end(process: &Process, wanted: impl Fn(&Span) -> bool) -> Option<f64> {
    process.works.iter().filter(|work| wanted(work)).map(|work| work.end).max_by(f64::total_cmp)
}

/// The build that ended last, and how long no other lane worked before its end.
fn alone(process: &Process, begun: f64, built: f64) -> Option<(&Span, f64)> {
    let within = |work: &&Span| work.start >= begun && work.end <= built + 0.01;
    let last = process.works.iter().filter(within).max_by(|one, other| one.end.total_cmp(&other.end));
    let last = last.filter(|work| work.stage == Stage::Indexes);
    last.map(|last| {
        let others = last_end(process, |work| work.lane != last.lane && work.start < last.end);
        let since = others.unwrap_or(begun).max(last.start);
        (last, (last.end - since).max(0.0))
    })
}

impl Rehearsal {
    /// The words for a person.
    pub fn text(&self, page: Page) -> String {
        let mut out = String::new();
        let head = |out: &mut String, title: &str| {
            let _ = writeln!(out, "\n{}", page.paint(title, Colour::Bold));
        };
        let told = format!("this was a rehearsal: {} was not touched, and is not moved to", self.target);
        page.wrap(&mut out, "", &escape(&told));
        if let Some(window) = &self.window {
            head(&mut out, "the window");
            // What took no time is no news.
            for part in window.parts.iter().filter(|part| part.seconds >= 0.0005) {
                page.wrap(&mut out, "  ", &format!("{:>12}  {}", duration(part.seconds), part.name));
            }
            if !window.shorter.is_empty() {
                head(&mut out, "what would make it shorter");
            }
            for advice in &window.shorter {
                page.wrap(&mut out, "  - ", &escape(advice));
            }
        }
        if let Some(space) = &self.space {
            head(&mut out, "space on the target, at the most");
            page.wrap(&mut out, "  ", &space.text());
        }
        if let Some(window) = &self.window {
            let _ = writeln!(out);
            page.wrap(&mut out, "", &window.sentence());
        }
        out
    }
}

impl Space {
    /// The words for a person.
    pub fn text(&self) -> String {
        let Peak { database_bytes, wal_bytes, temporary_bytes } = self.peak;
        format!(
            "{} at one moment: {} of data and indexes, {} by which WAL had grown, {} of temporary files (looked at every second); \
             written in all: {} of WAL, of which the server keeps as much as it is set to, and {} of temporary files",
            bytes(self.peak.bytes()),
            bytes(database_bytes),
            bytes(wal_bytes),
            bytes(temporary_bytes),
            bytes(self.wal_bytes),
            bytes(self.temporary_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_rehearsal_for_a_person() {
        let process = process(&[(0, Stage::Copy, 0.0, 300.0), (0, Stage::Indexes, 300.0, 900.0)]);
        let rehearsal = Rehearsal { window: Some(Window::of(&process, None)), ..sample::rehearsal() };
        insta::assert_snapshot!(rehearsal.text(sample::PAGE));
    }

    /// Copies and builds from second 10 to the last end, and then compares for 50 seconds.
    fn process(works: &[(usize, Stage, f64, f64)]) -> Process {
        let mut process = sample::report(&sample::equal()).history.processes.remove(0);
        let span = process.stages[0].clone();
        process.works = works
            .iter()
            .map(|(lane, stage, start, end)| Span {
                lane: *lane,
                stage: *stage,
                item: format!(
                    "{} {lane}",
                    if *stage == Stage::Copy { "public.asset" } else { "INDEX public.clip_index" }
                ),
                items: 1,
                start: start + 10.0,
                end: end + 10.0,
            })
            .collect();
        process.builds = works
            .iter()
            .filter(|work| work.1 == Stage::Indexes)
            .map(|work| (format!("INDEX public.clip_index {}", work.0), work.3 - work.2))
            .collect();
        let length = works.iter().map(|work| work.3).fold(0.0, f64::max);
        let stages = [
            (Stage::Check, 0.0, 6.0),
            (Stage::Schema, 6.0, 4.0),
            (Stage::Copy, 10.0, length),
            (Stage::Indexes, 10.0, length),
            (Stage::Verify, 10.0 + length, 50.0),
        ];
        process.stages = stages
            .into_iter()
            .map(|(stage, start, seconds)| {
                let mut span = span.clone();
                span.start = start;
                (span.timing.stage, span.timing.seconds) = (stage, seconds);
                span.timing.bytes = if stage == Stage::Copy { 300 << 20 } else { 0 };
                span
            })
            .collect();
        process.seconds = 60.0 + length;
        process
    }

    #[test]
    fn the_parts_make_up_the_window() {
        let window =
            Window::of(&process(&[(0, Stage::Copy, 0.0, 300.0), (1, Stage::Indexes, 200.0, 900.0)]), None);
        let parts: Vec<f64> = window.parts.iter().map(|part| part.seconds).collect();
        assert_eq!(parts, [6.0, 4.0, 300.0, 600.0, 0.0, 50.0, 0.0]);
        assert!((window.seconds - parts.iter().sum::<f64>()).abs() < 1e-9);
        assert!(
            window.sentence().starts_with("the window will take about 16 minutes: "),
            "{}",
            window.sentence()
        );
    }

    #[test]
    fn what_would_make_it_shorter_is_what_was_measured() {
        use Stage::{Copy, Indexes};
        let advice =
            |works: &[(usize, Stage, f64, f64)], limit| Window::of(&process(works), limit).shorter.join("\n");
        let tail = advice(&[(0, Copy, 0.0, 300.0), (1, Copy, 0.0, 300.0), (1, Indexes, 300.0, 900.0)], None);
        assert!(
            tail.contains("for 10 min 00 s nothing was left to do but INDEX public.clip_index 1"),
            "{tail}"
        );
        assert!(!tail.contains("--jobs"), "{tail}");
        let busy = advice(&[(0, Copy, 0.0, 900.0), (1, Copy, 0.0, 890.0)], None);
        assert!(busy.contains("2 lanes worked 99 % of the time"), "{busy}");
        assert!(!busy.contains("nothing was left to do"), "{busy}");
        let limited = advice(&[(0, Copy, 0.0, 900.0)], Some(4 << 20));
        assert!(limited.contains("no more than 4.00 MiB/s (--max-rate)"), "{limited}");
        // What hardly took time is no matter.
        let short = advice(&[(0, Copy, 0.0, 2.0), (1, Indexes, 2.0, 3.0)], None);
        assert_eq!(short, "");
    }
}
