//! Progress as lines, for a stderr that is no terminal: a file, a container's log.

use std::io::Write;
use std::time::Duration;

use crate::event::Event;
use crate::report::listener::Output;
use crate::report::progress::{Progress, StageProgress};
use crate::report::text::escape;

/// How often a running stage tells how far it is.
const INTERVAL: Duration = Duration::from_secs(5);
/// The same when the run takes longer than [`LONG`]: a log of hours should be readable.
const LONG_INTERVAL: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);

/// Lines; quiet ones are warnings only.
#[derive(Debug)]
pub(super) struct Plain<W> {
    out: W,
    has_notes: bool,
    is_quiet: bool,
    time: Duration,
}

impl<W: Write + Send> Plain<W> {
    pub(super) fn new(out: W, has_notes: bool) -> Self {
        Plain { out, has_notes, is_quiet: false, time: Duration::ZERO }
    }

    pub(super) fn quiet(out: W) -> Self {
        Plain { out, has_notes: false, is_quiet: true, time: Duration::ZERO }
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}

impl<W: Write + Send> Output for Plain<W> {
    fn interval(&self) -> Duration {
        if self.time < LONG { INTERVAL } else { LONG_INTERVAL }
    }

    fn event(&mut self, event: &Event, progress: &Progress, _now: Duration) {
        if let Some(line) = warning(event) {
            if !self.is_quiet || matches!(event, Event::Warning { .. }) {
                self.line(&line);
            }
        } else if !self.is_quiet
            && let Some(line) = milestone(event, progress, self.has_notes)
        {
            self.line(&line);
        } else if !self.is_quiet
            && let Event::StageStarted { stage, .. } = event
        {
            let totals = progress.of(*stage).map(StageProgress::totals).unwrap_or_default();
            self.line(format!("{:<8} started  {totals}", stage.title()).trim_end());
        }
    }

    fn tick(&mut self, progress: &Progress, now: Duration) {
        if self.is_quiet {
            return;
        }
        self.time = now;
        for stage in progress.running().filter(|stage| now.saturating_sub(stage.started) >= INTERVAL / 2) {
            // A stage that waits for another has nothing to tell.
            if stage.has_begun() {
                self.line(&format!("{:<8} {}", stage.title(), stage.line(now)));
            }
        }
        for item in progress.lanes.values().flatten().filter(|item| item.is_building()) {
            self.line(&format!("{:<8} {}  {}", "", item.title(), item.measure(now)));
        }
    }
}

/// What must be seen: a warning, or that something is tried again.
pub(super) fn warning(event: &Event) -> Option<String> {
    match event {
        Event::Warning { message } => Some(format!("warning: {}", escape(message))),
        Event::Retry { item, reason, .. } => Some(format!("retry: {}: {}", escape(item), escape(reason))),
        _ => None,
    }
}

/// What stays on the screen beside that: the end of a stage, and notes if they are asked for.
pub(super) fn milestone(event: &Event, progress: &Progress, has_notes: bool) -> Option<String> {
    match event {
        Event::StageFinished { stage, .. } => progress.of(*stage).map(StageProgress::finished_line),
        Event::Note { message } if has_notes => Some(escape(message).into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::listener::replay;
    use crate::report::sample;

    fn lines(mut plain: Plain<Vec<u8>>) -> String {
        replay(&sample::script(), &mut plain, |_| {});
        String::from_utf8_lossy(&plain.out).into_owned()
    }

    #[test]
    fn lines_for_a_log() {
        insta::assert_snapshot!(lines(Plain::new(Vec::new(), true)));
    }

    #[test]
    fn quiet_tells_warnings_only() {
        let text = lines(Plain::quiet(Vec::new()));
        assert_eq!(text, "warning: the source was written: table \"a\\x1b[31m\"\n");
    }
}
