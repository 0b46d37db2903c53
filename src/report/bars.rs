//! Progress as bars, for a person at a terminal: one for each running stage, and a line a lane.
//!
//! indicatif draws; what is drawn is told by [`Progress`]. `MultiProgress::suspend` panics on a closed
//! terminal, `println` does not: only the latter is used.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::{Event, Stage};
use crate::report::listener::Output;
use crate::report::plain::{milestone, warning};
use crate::report::progress::{Progress, StageProgress};

/// A stage that is over sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(250);
/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(66);
/// More lanes than that are told as a number; more lines flicker.
const LANES: usize = 8;
/// Steps of a bar.
const STEPS: u64 = 1000;

/// The bars.
#[derive(Debug)]
pub(super) struct Bars {
    multi: MultiProgress,
    has_notes: bool,
    stages: BTreeMap<Stage, ProgressBar>,
    lanes: Vec<ProgressBar>,
    more: Option<ProgressBar>,
    /// The longest message so far: all bars end in the same column, and do not tremble with the digits.
    width: usize,
}

impl Bars {
    pub(super) fn new(multi: MultiProgress, has_notes: bool) -> Self {
        Bars { multi, has_notes, stages: BTreeMap::new(), lanes: Vec::new(), more: None, width: 0 }
    }

    fn println(&self, line: &str) {
        // Nothing is ever lost behind bars that cannot be drawn.
        let _ = if self.multi.is_hidden() {
            writeln!(std::io::stderr(), "{line}")
        } else {
            self.multi.println(line)
        };
    }
}

impl Output for Bars {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn event(&mut self, event: &Event, progress: &Progress, _now: Duration) {
        if let Event::StageFinished { stage, .. } = event
            && let Some(bar) = self.stages.remove(stage)
        {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        if let Some(line) = warning(event).or_else(|| milestone(event, progress, self.has_notes)) {
            self.println(&line);
        }
        if self.stages.is_empty() && !self.lanes.is_empty() {
            self.end();
        }
    }

    fn tick(&mut self, progress: &Progress, now: Duration) {
        let shown = progress.running().filter(|stage| now.saturating_sub(stage.started) >= PATIENCE);
        let shown: Vec<(&StageProgress, String)> = shown.map(|stage| (stage, stage.line(now))).collect();
        self.width = shown.iter().map(|(_, line)| line.chars().count()).fold(self.width, usize::max);
        for (stage, line) in shown {
            let position = self.stages.range(..stage.stage).count();
            let bar = self.stages.entry(stage.stage).or_insert_with(|| {
                let bar = self.multi.insert(position, ProgressBar::new(STEPS));
                bar.set_prefix(stage.title());
                bar
            });
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share is between 0 and 1"
            )]
            match stage.shown_share() {
                Some(share) => {
                    bar.set_style(style("{prefix:<8} {wide_bar} {msg}"));
                    bar.set_position((share * STEPS as f64) as u64);
                }
                None => bar.set_style(style("{prefix:<8} {wide_msg}")),
            }
            bar.set_message(format!("{line:<width$}", width = self.width));
        }
        if self.stages.is_empty() {
            return;
        }
        let shown = progress.lanes.len().min(LANES);
        while self.lanes.len() < shown {
            let bar = self.multi.insert(self.stages.len() + self.lanes.len(), ProgressBar::new(STEPS));
            bar.set_style(style("  {wide_msg} {prefix}"));
            self.lanes.push(bar);
        }
        for (bar, item) in self.lanes.iter().zip(progress.lanes.values()) {
            let (title, measure) = match item {
                Some(item) => (item.title(), item.measure(now)),
                None => ("-".to_owned(), String::new()),
            };
            bar.set_prefix(measure);
            bar.set_message(title);
        }
        if progress.lanes.len() > LANES {
            let more = self.more.get_or_insert_with(|| {
                let bar = self.multi.add(ProgressBar::new(STEPS));
                bar.set_style(style("  {wide_msg}"));
                bar
            });
            let busy = progress.lanes.values().skip(LANES).flatten().count();
            more.set_message(format!("and {busy} more"));
        }
    }

    fn end(&mut self) {
        let stages = std::mem::take(&mut self.stages).into_values();
        for bar in stages.chain(self.lanes.drain(..)).chain(self.more.take()) {
            bar.finish_and_clear();
            self.multi.remove(&bar);
        }
        let _ = self.multi.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant").progress_chars("━╾─")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use indicatif::{InMemoryTerm, ProgressDrawTarget, TermLike};

    use super::*;
    use crate::report::listener::replay;
    use crate::report::sample;

    fn screens(columns: u16, milliseconds: &[u64]) -> String {
        let terminal = InMemoryTerm::new(20, columns);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut bars = Bars::new(MultiProgress::with_draw_target(target), false);
        let mut wanted = milliseconds.iter().peekable();
        let mut seen = String::new();
        replay(&sample::script(), &mut bars, |now| {
            if wanted.next_if(|&&time| now >= Duration::from_millis(time)).is_some() {
                let _ = writeln!(seen, "== {} ms\n{}", now.as_millis(), terminal.contents());
            }
        });
        format!("{seen}== end\n{}", terminal.contents())
    }

    #[test]
    fn bars_on_a_usual_terminal() {
        insta::assert_snapshot!(screens(80, &[400, 4500, 6500, 10_000, 12_000]));
    }

    #[test]
    fn bars_on_a_narrow_terminal() {
        insta::assert_snapshot!(screens(60, &[4500, 10_000]));
    }

    #[test]
    fn eight_lanes_are_shown_and_the_others_counted() {
        let terminal = InMemoryTerm::new(20, 60);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut bars = Bars::new(MultiProgress::with_draw_target(target), false);
        let mut script =
            vec![(0, Event::StageStarted { stage: Stage::Verify, items: None, bytes: None, rows: None })];
        script.extend((0..11).map(|lane| {
            let item = format!("read back public.t{lane}");
            (100, Event::ItemStarted { stage: Stage::Verify, lane, item, table: None, bytes: None })
        }));
        script.push((2000, Event::Note { message: "not asked for".into() }));
        let mut last = String::new();
        replay(&script, &mut bars, |_| last = terminal.contents());
        assert_eq!(last.lines().count(), 10, "{last}");
        assert!(last.ends_with("and 3 more"), "{last}");
    }

    #[test]
    fn a_terminal_that_is_gone_stops_nothing() {
        #[derive(Debug)]
        struct Closed;
        impl TermLike for Closed {
            fn width(&self) -> u16 {
                80
            }
            fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
                self.move_cursor_up(n)
            }
            fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
                self.move_cursor_up(n)
            }
            fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
                self.move_cursor_up(n)
            }
            fn write_line(&self, _: &str) -> std::io::Result<()> {
                self.move_cursor_up(0)
            }
            fn write_str(&self, _: &str) -> std::io::Result<()> {
                self.move_cursor_up(0)
            }
            fn clear_line(&self) -> std::io::Result<()> {
                self.move_cursor_up(0)
            }
            fn flush(&self) -> std::io::Result<()> {
                self.move_cursor_up(0)
            }
        }
        let target = ProgressDrawTarget::term_like(Box::new(Closed));
        let mut bars = Bars::new(MultiProgress::with_draw_target(target), true);
        let timings = replay(&sample::script(), &mut bars, |_| {});
        assert_eq!(timings.stages.len(), 3);
    }
}
