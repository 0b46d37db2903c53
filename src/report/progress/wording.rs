//! How far a stage or a lane is, in words.

use std::time::Duration;

use crate::event::Stage;
use crate::report::progress::{LaneItem, StageProgress};
use crate::report::text;

impl StageProgress {
    /// `61 %  73,000 rows  190 MiB of about 312 MiB  76.0 MiB/s  2 s left`.
    pub(in crate::report) fn line(&self, now: Duration) -> String {
        let elapsed = now.saturating_sub(self.begun.unwrap_or(self.started)).as_secs_f64();
        let mut parts = Vec::new();
        let share = self.shown_share();
        if let Some(share) = share {
            parts.push(percent(share));
        }
        if self.shown_bytes == 0 {
            match self.total_items {
                Some(total) => {
                    let done = text::number(self.items.min(total));
                    parts
                        .push(format!("{done} of {}", text::count(total, self.noun(false), self.noun(true))));
                }
                None if self.items > 0 => {
                    parts.push(text::count(self.items, self.noun(false), self.noun(true)));
                }
                None => {}
            }
        }
        if self.shown_rows > 0 {
            parts.push(text::count(self.shown_rows, "row", "rows"));
        }
        if self.shown_bytes > 0 {
            parts.push(text::bytes(self.shown_bytes));
        }
        let (since, before) = self.samples[0];
        let window = now.saturating_sub(since).as_secs_f64();
        let is_running = window > 0.5 && share != Some(1.0);
        parts.extend(text::rate(self.shown_bytes - before, window).filter(|_| is_running));
        // An early or an overtaken estimate says nothing about the end.
        match share {
            Some(share) if elapsed > 1.0 && (0.03..0.99).contains(&share) => {
                parts.push(format!("{} left", text::clock((elapsed * (1.0 - share) / share).ceil())));
            }
            _ if self.begun.is_none() && self.total_items.is_some() => parts.push("waiting".to_owned()),
            _ => parts.push(text::clock(elapsed)),
        }
        parts.join("  ")
    }

    /// `43 chunks, about 120,000 rows, about 312 MiB`.
    pub(in crate::report) fn totals(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.total_items.map(|items| text::count(items, self.noun(false), self.noun(true))));
        parts.extend(self.total_rows.map(|rows| format!("about {}", text::count(rows, "row", "rows"))));
        parts.extend(self.total_bytes.map(|bytes| format!("about {}", text::bytes(bytes))));
        parts.join(", ")
    }

    /// `copy     39 tables  120,000 rows  312 MiB  4.1 s  76.0 MiB/s`.
    pub(in crate::report) fn finished_line(&self) -> String {
        let seconds = self.finished.unwrap_or_default();
        let mut parts = Vec::new();
        match self.tables.len() as u64 {
            tables if tables > 0 && matches!(self.stage, Stage::Copy | Stage::Verify) => {
                parts.push(text::count(tables, "table", "tables"));
            }
            _ if self.items > 0 => parts.push(text::count(self.items, self.noun(false), self.noun(true))),
            _ => {}
        }
        if self.rows > 0 {
            parts.push(text::count(self.rows, "row", "rows"));
        }
        if self.bytes > 0 {
            parts.push(text::bytes(self.bytes));
        }
        parts.push(text::duration(seconds));
        parts.extend(text::rate(self.bytes, seconds));
        if self.retries > 0 {
            parts.push(text::count(self.retries, "retry", "retries"));
        }
        format!("{:<8} {}", self.title(), parts.join("  "))
    }

    fn noun(&self, is_plural: bool) -> &'static str {
        let (one, many) = match self.stage {
            Stage::Copy => ("chunk", "chunks"),
            Stage::Check | Stage::Fence | Stage::Verify => ("check", "checks"),
            Stage::Freeze | Stage::Schema | Stage::Indexes | Stage::Finish => ("step", "steps"),
        };
        if is_plural { many } else { one }
    }
}

impl LaneItem {
    /// Whether the server tells of its phases.
    pub(in crate::report) fn is_building(&self) -> bool {
        self.phase.is_some()
    }

    /// What it is and in which phase: `index clip_index: loading tuples`.
    pub(in crate::report) fn title(&self) -> String {
        let name = text::escape(&self.item);
        match &self.phase {
            Some((phase, _)) => format!("{name}: {}", text::escape(phase)),
            None => name.into_owned(),
        }
    }

    /// How far it is: `45 %  12 s`.
    pub(in crate::report) fn measure(&self, now: Duration) -> String {
        let elapsed = text::clock(now.saturating_sub(self.started).as_secs_f64());
        match &self.phase {
            Some((_, Some(share))) => format!("{}  {elapsed:>6}", percent(share / 100.0)),
            _ if self.bytes > 0 => format!("{}  {elapsed:>6}", text::bytes(self.bytes)),
            _ => elapsed,
        }
    }
}

/// ` 61 %`, rounded down: nothing is called whole before it is.
fn percent(share: f64) -> String {
    format!("{:>3.0} %", (share.clamp(0.0, 1.0) * 100.0).floor())
}
