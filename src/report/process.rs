//! What one process of a run did and when: stages, lanes, throughput. A fold over the events, of bounded size
//! whatever the run moves: neighbouring works of a lane and neighbouring points of the throughput are put
//! together where they become too many. Pure; the clock is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Stage, Versions};
use crate::preflight::{self, Severity};
use crate::report::progress::{Progress, StageTiming, TableTiming};

/// So many works are kept at most.
const WORKS: usize = 1000;
/// So many points of the throughput.
const POINTS: usize = 600;
/// The finest distance of two points, in milliseconds.
const INTERVAL: u64 = 100;
/// So many warnings.
const WARNINGS: usize = 100;

/// What one process of a run did. Moments are in seconds since it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// pgmove's version.
    pub pgmove: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it is known to have worked, in seconds.
    pub seconds: f64,
    /// How it ended; `None` while it works, and of one that was killed.
    pub end: Option<Ending>,
    /// What it was told, by option.
    pub settings: BTreeMap<String, String>,
    /// What it found on both sides; `None` if it did not come so far.
    pub checked: Option<Checked>,
    /// The stages that began.
    pub stages: Vec<StageSpan>,
    /// What lanes worked on, by lane and beginning.
    pub works: Vec<Span>,
    /// Bytes a time.
    pub throughput: Throughput,
    /// What was done with each table.
    pub tables: BTreeMap<String, TableTiming>,
    /// How long each index and constraint took, in seconds.
    pub builds: BTreeMap<String, f64>,
    /// Warnings, in order, at most a hundred.
    pub warnings: Vec<String>,
    /// How many further warnings there were.
    pub further_warnings: u64,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Its exit code.
    pub exit: u8,
    /// In a sentence.
    pub sentence: String,
}

/// The result of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What both sides run.
    pub versions: Versions,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// One finding of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable name: `target-not-empty`.
    pub id: String,
    /// Whether it stopped the run.
    pub severity: Severity,
    /// The finding in a sentence.
    pub title: String,
    /// What was seen.
    pub evidence: String,
    /// All that a list in the evidence stands for.
    #[serde(default)]
    pub objects: Vec<String>,
    /// What to do.
    pub remedy: String,
}

impl From<&preflight::Finding> for Finding {
    fn from(found: &preflight::Finding) -> Self {
        Finding {
            id: found.id.to_owned(),
            severity: found.severity,
            title: found.title.clone(),
            evidence: found.evidence.clone(),
            objects: found.objects.clone(),
            remedy: found.remedy.clone(),
        }
    }
}

/// A stage, and when it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageSpan {
    /// When it began.
    pub start: f64,
    /// What it did.
    #[serde(flatten)]
    pub timing: StageTiming,
}

/// What a lane worked on for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// The lane, from 0.
    pub lane: usize,
    /// The stage.
    pub stage: Stage,
    /// The item; the first, where several are put together.
    pub item: String,
    /// How many items are put together.
    pub items: u64,
    /// When it began.
    pub start: f64,
    /// When it ended.
    pub end: f64,
}

impl Span {
    fn length(&self) -> f64 {
        self.end - self.start
    }

    /// Whether the next one may be put together with it, where nothing shorter than `resolution` is told apart.
    fn is_near(&self, next: &Span, resolution: f64) -> bool {
        next.start - self.end <= resolution
            && (self.stage == next.stage || self.length().min(next.length()) <= resolution)
    }

    fn join(&mut self, next: Span) {
        let (items, start, end) = (self.items + next.items, self.start, next.end);
        if next.length() > self.length() {
            *self = next;
        }
        (self.items, self.start, self.end) = (items, start, end);
    }
}

/// How much went through in equal times, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throughput {
    /// How long one of them is, in milliseconds.
    pub interval_milliseconds: u64,
    /// Bytes that were copied in each, attempts that were rolled back among them.
    pub copied: Vec<u64>,
    /// Bytes that were read to be compared.
    pub compared: Vec<u64>,
}

impl Throughput {
    fn add(&mut self, stage: Stage, bytes: u64, now: Duration) {
        let slot = self.reach(now);
        let series = if stage == Stage::Copy { &mut self.copied } else { &mut self.compared };
        series[slot] += bytes;
    }

    /// Makes room up to now; the point of now.
    fn reach(&mut self, now: Duration) -> usize {
        let milliseconds = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        while milliseconds / self.interval_milliseconds >= POINTS as u64 {
            self.interval_milliseconds *= 2;
            for series in [&mut self.copied, &mut self.compared] {
                *series = series.chunks(2).map(|pair| pair.iter().sum()).collect();
            }
        }
        let slot = usize::try_from(milliseconds / self.interval_milliseconds).expect("fewer than POINTS");
        for series in [&mut self.copied, &mut self.compared] {
            series.resize(series.len().max(slot + 1), 0);
        }
        slot
    }
}

/// What is known of the process so far.
#[derive(Debug)]
pub(super) struct Recording {
    process: Process,
    pub(super) progress: Progress,
    running: BTreeMap<usize, Span>,
}

impl Recording {
    pub(super) fn new(started: Timestamp, settings: BTreeMap<String, String>) -> Self {
        Recording {
            process: Process {
                pgmove: env!("CARGO_PKG_VERSION").to_owned(),
                started,
                seconds: 0.0,
                end: None,
                settings,
                checked: None,
                stages: vec![],
                works: vec![],
                throughput: Throughput { interval_milliseconds: INTERVAL, copied: vec![], compared: vec![] },
                tables: BTreeMap::new(),
                builds: BTreeMap::new(),
                warnings: vec![],
                further_warnings: 0,
            },
            progress: Progress::default(),
            running: BTreeMap::new(),
        }
    }

    /// Takes one event, which came `now` after the process started.
    pub(super) fn apply(&mut self, event: &Event, now: Duration) {
        self.progress.apply(event, now);
        let at = seconds(now);
        match event {
            Event::Checked { versions, findings } => {
                let findings = findings.iter().map(Finding::from).collect();
                self.process.checked = Some(Checked { versions: versions.clone(), findings });
            }
            Event::ItemStarted { stage, lane, item, .. } => {
                let span =
                    Span { lane: *lane, stage: *stage, item: item.clone(), items: 1, start: at, end: at };
                self.running.insert(*lane, span);
            }
            Event::ItemFinished { stage, lane, item, seconds } => {
                if let Some(span) = self.running.remove(lane) {
                    self.keep(Span { end: at, ..span });
                }
                if *stage == Stage::Indexes {
                    *self.process.builds.entry(item.clone()).or_default() += seconds;
                }
            }
            Event::Progress { stage, bytes, .. } => self.process.throughput.add(*stage, *bytes, now),
            Event::Warning { message } if self.process.warnings.len() < WARNINGS => {
                self.process.warnings.push(message.clone());
            }
            Event::Warning { .. } => self.process.further_warnings += 1,
            // What was broken off on a lane.
            Event::StageFinished { stage, .. } => {
                let broken: Vec<usize> =
                    self.running.values().filter(|span| span.stage == *stage).map(|span| span.lane).collect();
                for lane in broken {
                    if let Some(span) = self.running.remove(&lane) {
                        self.keep(Span { end: at, ..span });
                    }
                }
            }
            Event::StageStarted { .. }
            | Event::IndexProgress { .. }
            | Event::Retry { .. }
            | Event::Note { .. } => {}
        }
    }

    fn keep(&mut self, span: Span) {
        let works = &mut self.process.works;
        works.push(span);
        if works.len() <= WORKS {
            return;
        }
        // Half of them, so that this is not done for every work.
        let mut resolution: f64 = 0.001;
        while works.len() > WORKS / 2 && resolution.is_finite() {
            let mut lanes: BTreeMap<usize, Vec<Span>> = BTreeMap::new();
            for span in works.drain(..) {
                let lane = lanes.entry(span.lane).or_default();
                match lane.last_mut() {
                    Some(last) if last.is_near(&span, resolution) => last.join(span),
                    _ => lane.push(span),
                }
            }
            *works = lanes.into_values().flatten().collect();
            resolution *= 2.0;
        }
    }

    /// The process as it is now.
    pub(super) fn process(&self, now: Duration) -> Process {
        let mut process = self.process.clone();
        process.throughput.reach(now);
        let spans = self.progress.stages();
        process.stages = spans
            .map(|stage| StageSpan { start: seconds(stage.started), timing: stage.timing(now) })
            .collect();
        let end = seconds(now);
        process.works.extend(self.running.values().map(|span| Span { end, ..span.clone() }));
        process.works.sort_by(|a, b| a.lane.cmp(&b.lane).then(a.start.total_cmp(&b.start)));
        process.tables = self.progress.timings(now).tables;
        process.seconds = end;
        process
    }
}

/// To the millisecond: nobody reads more.
fn seconds(time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a run are far below 2^52")]
    let milliseconds = time.as_millis() as f64;
    milliseconds / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Recording {
        Recording::new(Timestamp::UNIX_EPOCH, BTreeMap::new())
    }

    fn work(recording: &mut Recording, lane: usize, number: u64, stage: Stage, times: [u64; 2]) {
        let (item, [start, end]) = (format!("public.t{number}"), times.map(Duration::from_millis));
        let started = Event::ItemStarted { stage, lane, item: item.clone(), table: None, bytes: None };
        recording.apply(&started, start);
        recording.apply(&Event::Progress { stage, lane, rows: 1, bytes: 1000 }, start);
        recording.apply(&Event::ItemFinished { stage, lane, item, seconds: 0.0 }, end);
    }

    #[test]
    fn however_long_a_run_is_it_is_told_in_bounded_space_and_whole() {
        let mut recording = recording();
        // A month, in which four lanes copy and compare by turns.
        let each = 30 * 86_400_000 / 20_000;
        for number in 0..20_000 {
            let stage = if number % 3 == 0 { Stage::Verify } else { Stage::Copy };
            for lane in 0..4 {
                work(&mut recording, lane, number, stage, [number * each, (number + 1) * each]);
            }
        }
        for _ in 0..300 {
            recording.apply(&Event::Warning { message: "slow".into() }, Duration::from_secs(1));
        }
        let process = recording.process(Duration::from_millis(20_000 * each));
        assert!(process.works.len() <= WORKS, "{}", process.works.len());
        assert_eq!(process.works.iter().map(|work| work.items).sum::<u64>(), 80_000);
        for lane in 0..4 {
            let of_lane = process.works.iter().filter(|work| work.lane == lane).collect::<Vec<_>>();
            let busy: f64 = of_lane.iter().map(|work| work.end - work.start).sum();
            assert!((busy - process.seconds).abs() < 1.0, "lane {lane}: {busy} of {}", process.seconds);
            assert!(of_lane.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
        let Throughput { copied, compared, .. } = &process.throughput;
        assert!(copied.len() <= POINTS && copied.len() > POINTS / 3, "{}", copied.len());
        assert_eq!(copied.iter().chain(compared).sum::<u64>(), 80_000_000);
        assert_eq!((process.warnings.len(), process.further_warnings), (WARNINGS, 200));
        assert!(serde_json::to_string(&process).expect("plain data").len() < 1 << 20);
    }

    #[test]
    fn what_was_broken_off_is_told() {
        let mut recording = recording();
        let item = "public.photo".to_owned();
        let started = Event::ItemStarted { stage: Stage::Copy, lane: 1, item, table: None, bytes: None };
        recording.apply(&started, Duration::from_millis(500));
        let running = recording.process(Duration::from_secs(2));
        assert_eq!((running.works[0].start, running.works[0].end), (0.5, 2.0));
        recording.apply(&Event::StageFinished { stage: Stage::Copy, seconds: 3.0 }, Duration::from_secs(3));
        let over = recording.process(Duration::from_secs(9));
        assert_eq!((over.works.len(), over.works[0].end), (1, 3.0));
    }
}
