//! The listener that shows a command: a thread that takes its events.
//!
//! What it shows is one [`Output`] of several; how far everything is, [`Progress`] knows for all of them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::event::Event;
use crate::report::bars::Bars;
use crate::report::json::Lines;
use crate::report::plain::Plain;
use crate::report::progress::{Progress, Timings};

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Bars on stderr; plain lines after all if stderr is no terminal. One that cannot move its cursor
    /// (`TERM=dumb`) is for the caller to know: it wants [`Mode::Plain`].
    Bars {
        /// Whether notes are shown (`-v`).
        has_notes: bool,
    },
    /// Lines on stderr: stages, progress every few seconds, warnings.
    Plain {
        /// Whether notes are shown (`-v`).
        has_notes: bool,
    },
    /// Warnings only, on stderr.
    Quiet,
    /// One JSON object an event, on stdout.
    Json,
}

/// A way to show events. It is told of every event after [`Progress`] took it, and at least as often as its
/// interval says; times are since listening began.
pub(super) trait Output: Send {
    /// How long it waits for events before it draws again.
    fn interval(&self) -> Duration;
    /// Shows an event.
    fn event(&mut self, event: &Event, progress: &Progress, now: Duration);
    /// Shows that time went by.
    fn tick(&mut self, progress: &Progress, now: Duration);
    /// Clears what must not stay.
    fn end(&mut self) {}
}

/// The thread that listens.
#[derive(Debug)]
pub struct Listener {
    thread: JoinHandle<Timings>,
    is_over: Arc<AtomicBool>,
    bars: Option<MultiProgress>,
}

impl Listener {
    /// Begins to show what `receiver` gets.
    pub fn start(mode: Mode, receiver: Receiver<Event>) -> Listener {
        let mode = match mode {
            Mode::Bars { has_notes } if ProgressDrawTarget::stderr().is_hidden() => Mode::Plain { has_notes },
            mode => mode,
        };
        let mut bars = None;
        let output: Box<dyn Output> = match mode {
            Mode::Bars { has_notes } => {
                let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(30));
                bars = Some(multi.clone());
                Box::new(Bars::new(multi, has_notes))
            }
            Mode::Plain { has_notes } => Box::new(Plain::new(std::io::stderr(), has_notes)),
            Mode::Quiet => Box::new(Plain::quiet(std::io::stderr())),
            Mode::Json => Box::new(Lines::new(std::io::stdout())),
        };
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || listen(&receiver, output, &flag));
        Listener { thread, is_over, bars }
    }

    /// Where a log may write while bars are drawn.
    pub fn log(&self) -> LogWriter {
        LogWriter(self.bars.clone())
    }

    /// Shows what was sent so far, clears the bars, and tells how long everything took. Senders that still
    /// exist are not waited for.
    pub fn finish(self) -> Timings {
        self.is_over.store(true, Ordering::Release);
        // Only a defect of an output can make the thread panic; a report is no reason to lose a move.
        self.thread.join().unwrap_or_default()
    }
}

/// At most this long after [`Listener::finish`] the thread notices it.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

fn listen(receiver: &Receiver<Event>, mut output: Box<dyn Output>, is_over: &AtomicBool) -> Timings {
    let begun = Instant::now();
    let mut progress = Progress::default();
    let mut drawn = Duration::ZERO;
    loop {
        // Read before the channel: what was sent before the flag was set is still shown.
        let is_last = is_over.load(Ordering::Acquire);
        let heard = receiver.recv_timeout(if is_last { Duration::ZERO } else { LONGEST_WAIT });
        let now = begun.elapsed();
        match heard {
            Ok(event) => {
                progress.apply(&event, now);
                output.event(&event, &progress, now);
            }
            Err(RecvTimeoutError::Timeout) if !is_last => {}
            Err(_) => break,
        }
        if now.saturating_sub(drawn) >= output.interval() {
            output.tick(&progress, now);
            drawn = now;
        }
    }
    output.end();
    progress.timings(begun.elapsed())
}

/// Writes lines to stderr without tearing the bars.
#[derive(Debug, Clone)]
pub struct LogWriter(Option<MultiProgress>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &self.0 {
            Some(bars) => bars.println(String::from_utf8_lossy(bytes).trim_end_matches('\n'))?,
            None => std::io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Plays a script of events against a clock that does not run: `(milliseconds, event)`. `look` is called after
/// every drawing.
#[cfg(test)]
pub(super) fn replay(
    script: &[(u64, Event)],
    output: &mut dyn Output,
    mut look: impl FnMut(Duration),
) -> Timings {
    let mut progress = Progress::default();
    let mut drawn = Duration::ZERO;
    let mut now = Duration::ZERO;
    for (time, event) in script {
        while now < Duration::from_millis(*time) {
            now += Duration::from_millis(50);
            if now.saturating_sub(drawn) >= output.interval() {
                output.tick(&progress, now);
                drawn = now;
                look(now);
            }
        }
        progress.apply(event, now);
        output.event(event, &progress, now);
    }
    output.end();
    progress.timings(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Events, Stage};
    use crate::report::sample;

    #[test]
    fn finishing_waits_for_no_sender() {
        let (events, receiver) = Events::channel();
        let listener = Listener::start(Mode::Quiet, receiver);
        for (_, event) in sample::script() {
            if !matches!(event, Event::Warning { .. }) {
                events.emit(event);
            }
        }
        let timings = listener.finish();
        events.note("nobody hears this");
        assert_eq!(timings.stages.len(), 3);
        assert_eq!(timings.tables["public.smart_search"].rows, 100_000);
    }

    #[test]
    fn a_reader_that_is_gone_stops_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
        for output in [&mut Plain::new(Closed, true) as &mut dyn Output, &mut Lines::new(Closed)] {
            let timings = replay(&sample::script(), output, |_| {});
            assert_eq!(timings.stages.iter().map(|stage| stage.stage).max(), Some(Stage::Indexes));
        }
    }
}
