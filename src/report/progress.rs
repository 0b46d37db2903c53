//! How far the stages are: a fold over the events. Pure; the clock is an argument.
//!
//! A share is never above 100 %, reaches 100 % only with the last item, and never goes back: what a retry
//! takes away is not counted, but what was shown stays shown until it is overtaken.

#[cfg(test)]
mod tests;
mod wording;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Stage};

/// How long everything took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// The stages that began, in order.
    pub stages: Vec<StageTiming>,
    /// The tables that items worked on, by name.
    pub tables: BTreeMap<String, TableTiming>,
}

/// What a stage did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTiming {
    /// The stage.
    pub stage: Stage,
    /// How long it took from beginning to end; of a stage that did not end, until the end of listening.
    pub seconds: f64,
    /// Whether it ended.
    pub is_finished: bool,
    /// Items that were finished.
    pub items: u64,
    /// Tables that these items worked on.
    pub tables: u64,
    /// Rows that went through it.
    pub rows: u64,
    /// Bytes that went through it, as they were on the wire.
    pub bytes: u64,
    /// How often an item was tried again.
    pub retries: u64,
}

/// What was done with a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TableTiming {
    /// Rows that were copied.
    pub rows: u64,
    /// Bytes that were copied, as they were on the wire.
    pub bytes: u64,
    /// Time that lanes spent copying; with several lanes more than passed on the clock.
    pub copy_seconds: f64,
    /// Time that lanes spent on its indexes and constraints.
    pub index_seconds: f64,
    /// Time that lanes spent comparing it.
    pub verify_seconds: f64,
}

/// The state that bars and lines show.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stages: BTreeMap<Stage, StageProgress>,
    pub(super) lanes: BTreeMap<usize, Option<LaneItem>>,
    tables: BTreeMap<String, TableTiming>,
}

/// What a lane does.
#[derive(Debug)]
pub(super) struct LaneItem {
    pub(super) stage: Stage,
    item: String,
    table: Option<String>,
    estimate: Option<u64>,
    rows: u64,
    bytes: u64,
    phase: Option<(String, Option<f64>)>,
    started: Duration,
}

#[derive(Debug)]
pub(super) struct StageProgress {
    pub(super) stage: Stage,
    pub(super) started: Duration,
    pub(super) finished: Option<f64>,
    total_items: Option<u64>,
    total_bytes: Option<u64>,
    total_rows: Option<u64>,
    items: u64,
    rows: u64,
    bytes: u64,
    /// Estimated bytes of finished items, in the measure of `total_bytes`.
    done: u64,
    retries: u64,
    /// When the first item began: a stage can wait for another.
    begun: Option<Duration>,
    tables: BTreeSet<String>,
    shown_rows: u64,
    shown_bytes: u64,
    shown_share: f64,
    /// Bytes at some moments of the last seconds.
    samples: VecDeque<(Duration, u64)>,
}

/// Over how much time the shown rate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(8);

impl StageProgress {
    fn new(stage: Stage, started: Duration) -> Self {
        StageProgress {
            stage,
            started,
            finished: None,
            total_items: None,
            total_bytes: None,
            total_rows: None,
            items: 0,
            rows: 0,
            bytes: 0,
            done: 0,
            retries: 0,
            begun: None,
            tables: BTreeSet::new(),
            shown_rows: 0,
            shown_bytes: 0,
            shown_share: 0.0,
            samples: VecDeque::from([(started, 0)]),
        }
    }
}

impl Progress {
    /// Takes one event, which came `now` after listening began.
    pub(super) fn apply(&mut self, event: &Event, now: Duration) {
        match event {
            Event::StageStarted { stage, items, bytes, rows } => {
                let found = self.stage(*stage, now);
                found.total_items = items.or(found.total_items);
                found.total_bytes = bytes.or(found.total_bytes);
                found.total_rows = rows.or(found.total_rows);
                found.finished = None;
            }
            Event::StageFinished { stage, seconds } => {
                let found = self.stage(*stage, now);
                // Reading back begins while others still copy, before its stage does.
                let early = found.begun.map_or(0.0, |begun| now.saturating_sub(begun).as_secs_f64());
                found.finished = Some(seconds.max(early));
                for lane in self.lanes.values_mut() {
                    *lane = lane.take().filter(|item| item.stage != *stage);
                }
                if self.running().next().is_none() {
                    self.lanes.clear();
                }
            }
            Event::ItemStarted { stage, lane, item, table, bytes } => {
                let found = self.stage(*stage, now);
                found.begun.get_or_insert(now);
                found.tables.extend(table.clone());
                let started = LaneItem {
                    stage: *stage,
                    item: item.clone(),
                    table: table.clone(),
                    estimate: *bytes,
                    rows: 0,
                    bytes: 0,
                    phase: None,
                    started: now,
                };
                self.lanes.insert(*lane, Some(started));
            }
            Event::Progress { stage, lane, rows, bytes } => {
                if let Some(Some(item)) = self.lanes.get_mut(lane) {
                    item.rows += rows;
                    item.bytes += bytes;
                }
                let found = self.stage(*stage, now);
                found.begun.get_or_insert(now);
                found.rows += rows;
                found.bytes += bytes;
            }
            Event::IndexProgress { lane, phase, percent, .. } => {
                if let Some(Some(item)) = self.lanes.get_mut(lane) {
                    item.phase = Some((phase.clone(), *percent));
                }
            }
            Event::ItemFinished { stage, lane, item, seconds } => {
                let running = self.lanes.insert(*lane, None).flatten();
                self.finish_item(*stage, running.filter(|running| running.item == *item), *seconds, now);
            }
            Event::Retry { stage, item, .. } => self.retry(*stage, item, now),
            Event::Checked { .. } | Event::Warning { .. } | Event::Note { .. } => {}
        }
        self.note_shown(now);
    }

    fn stage(&mut self, stage: Stage, now: Duration) -> &mut StageProgress {
        self.stages.entry(stage).or_insert_with(|| StageProgress::new(stage, now))
    }

    fn finish_item(&mut self, stage: Stage, item: Option<LaneItem>, seconds: f64, now: Duration) {
        let found = self.stage(stage, now);
        found.items += 1;
        let Some(item) = item else { return };
        found.done += item.estimate.unwrap_or(item.bytes);
        if let Some(table) = item.table {
            let timing = self.tables.entry(table).or_default();
            match stage {
                Stage::Copy => {
                    timing.rows += item.rows;
                    timing.bytes += item.bytes;
                    timing.copy_seconds += seconds;
                }
                Stage::Verify => timing.verify_seconds += seconds,
                _ => timing.index_seconds += seconds,
            }
        }
    }

    /// What an attempt had moved was rolled back with it.
    fn retry(&mut self, stage: Stage, name: &str, now: Duration) {
        let mut lost = (0, 0);
        let running = self.lanes.values_mut().flatten().find(|item| item.stage == stage && item.item == name);
        if let Some(item) = running {
            lost = (std::mem::take(&mut item.rows), std::mem::take(&mut item.bytes));
            item.phase = None;
        }
        let found = self.stage(stage, now);
        found.retries += 1;
        found.rows = found.rows.saturating_sub(lost.0);
        found.bytes = found.bytes.saturating_sub(lost.1);
    }

    fn note_shown(&mut self, now: Duration) {
        for stage in self.stages.values_mut().filter(|stage| stage.finished.is_none()) {
            let flying = self
                .lanes
                .values()
                .flatten()
                .filter(|item| item.stage == stage.stage)
                .map(|item| item.bytes.min(item.estimate.unwrap_or(u64::MAX)))
                .sum();
            stage.shown_share = stage.shown_share.max(stage.share(flying).unwrap_or(0.0));
            stage.shown_rows = stage.shown_rows.max(stage.rows);
            stage.shown_bytes = stage.shown_bytes.max(stage.bytes);
            if stage
                .samples
                .back()
                .is_none_or(|(time, _)| now.saturating_sub(*time) >= Duration::from_millis(500))
            {
                stage.samples.push_back((now, stage.shown_bytes));
            }
            while stage.samples.len() > 2 && now.saturating_sub(stage.samples[0].0) > RATE_WINDOW {
                stage.samples.pop_front();
            }
        }
    }

    /// The stages that are running, in order.
    pub(super) fn running(&self) -> impl Iterator<Item = &StageProgress> {
        self.stages.values().filter(|stage| stage.finished.is_none())
    }

    /// One stage, if it began.
    pub(super) fn of(&self, stage: Stage) -> Option<&StageProgress> {
        self.stages.get(&stage)
    }

    /// How long everything took until now.
    pub(super) fn timings(&self, now: Duration) -> Timings {
        let stages = self.stages.values().map(|stage| stage.timing(now)).collect();
        Timings { stages, tables: self.tables.clone() }
    }

    /// The stages that began, in order.
    pub(super) fn stages(&self) -> impl Iterator<Item = &StageProgress> {
        self.stages.values()
    }
}

impl StageProgress {
    /// What it did until now.
    pub(super) fn timing(&self, now: Duration) -> StageTiming {
        StageTiming {
            stage: self.stage,
            seconds: self.finished.unwrap_or_else(|| now.saturating_sub(self.started).as_secs_f64()),
            is_finished: self.finished.is_some(),
            items: self.items,
            tables: self.tables.len() as u64,
            rows: self.rows,
            bytes: self.bytes,
            retries: self.retries,
        }
    }

    pub(super) fn title(&self) -> &'static str {
        self.stage.title()
    }

    /// The part that is done, 0 to 1; `None` where no total is known. The measure is the bytes if they were
    /// estimated, else the items. Estimates can be too small: only the last item makes it whole.
    #[expect(clippy::cast_precision_loss, reason = "it is shown in per cent")]
    fn share(&self, flying: u64) -> Option<f64> {
        let is_last = self.total_items.is_some_and(|total| self.items >= total);
        let share = match (self.total_bytes, self.total_items) {
            _ if is_last => 1.0,
            (Some(total), _) if total > 0 => (self.done + flying) as f64 / total as f64,
            (_, Some(total)) => self.items as f64 / total as f64,
            _ => return None,
        };
        Some(if is_last { 1.0 } else { share.min(0.99) })
    }

    /// Whether anything of it was worked on.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What is shown of [`Self::share`].
    pub(super) fn shown_share(&self) -> Option<f64> {
        self.share(0).map(|_| self.shown_share)
    }
}
