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
use crate::report::progress::Progress;

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
}

impl Bars {
    pub(super) fn new(multi: MultiProgress, has_notes: bool) -> Self {
        Bars { multi, has_notes, stages: BTreeMap::new(), lanes: Vec::new(), more: None }
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
        for stage in progress.running().filter(|stage| now.saturating_sub(stage.started) >= PATIENCE) {
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
            bar.set_message(stage.line(now));
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
    ProgressStyle::with_template(template).expect("the templates are constant").progress_chars("━╸ ")
}
