//! Writes down what a process of a run does: `progress.json` in the run directory, about once a second.
//!
//! It is what `pgmove status` reads, and what is left of a process that is killed. It is replaced by renaming, so
//! that no reader sees half of it, and never synced: it decides nothing. One thread listens and never waits for a
//! disk, another one writes; what cannot be written is left out.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Stage};
use crate::report::files::{PROGRESS, write};
use crate::report::process::{Ending, Process, Recording};

/// How often progress is written, unless that takes long.
const INTERVAL: Duration = Duration::from_secs(1);
/// Making it may take this part of the time.
const SHARE: u32 = 20;
/// So many processes of a run are told of, the latest.
const PROCESSES: usize = 8;

/// What is known of a run while it works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// The version of this format, as of the report.
    pub version: u32,
    /// The run's id.
    pub run: String,
    /// The source, without secrets.
    pub source: String,
    /// The target, without secrets.
    pub target: String,
    /// The number of the process that works, on its machine.
    pub process_id: u32,
    /// When this was written.
    pub at: Timestamp,
    /// The stages that run.
    pub running: Vec<RunningStage>,
    /// What lanes work on.
    pub lanes: Vec<RunningWork>,
    /// The run's processes; the last one works.
    pub history: History,
}

/// The processes of a run, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The latest.
    pub processes: Vec<Process>,
    /// How many there were before them.
    pub further: u64,
}

impl History {
    /// With one more.
    #[must_use]
    pub fn and(&self, process: Process) -> History {
        let mut history = self.clone();
        history.processes.push(process);
        while history.processes.len() > PROCESSES {
            history.processes.remove(0);
            history.further += 1;
        }
        history
    }

    /// With the end of the last one.
    #[must_use]
    pub fn ended(mut self, end: Ending) -> History {
        if let Some(last) = self.processes.last_mut() {
            last.end = Some(end);
        }
        self
    }
}

/// How far a stage is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStage {
    /// The stage.
    pub stage: Stage,
    /// As it is shown: `61 %  73,000 rows  190 MiB  76.0 MiB/s  2 s left`.
    pub text: String,
}

/// What a lane works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningWork {
    /// The lane, from 0.
    pub lane: usize,
    /// The stage.
    pub stage: Stage,
    /// The item, and its phase where the server tells one.
    pub item: String,
    /// How far it is: `45 %  12 s`.
    pub text: String,
}

/// What a process begins with.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// The run's id.
    pub run: String,
    /// The source, without secrets.
    pub source: String,
    /// The target, without secrets.
    pub target: String,
    /// What it was told, by option.
    pub settings: std::collections::BTreeMap<String, String>,
    /// The processes before it.
    pub earlier: History,
}

/// The threads that listen and write.
#[derive(Debug)]
pub struct Recorder {
    listening: JoinHandle<History>,
    writing: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
}

impl Recorder {
    /// Begins to write down what `receiver` gets.
    pub fn start(receiver: Receiver<Event>, directory: &Path, beginning: Beginning) -> Recorder {
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        // One waits to be written: a disk that is slow makes progress rarer, and nothing slower.
        let (documents, written) = sync_channel::<Vec<u8>>(1);
        let directory = directory.to_owned();
        let writing = std::thread::spawn(move || {
            for document in written {
                // Progress that is not told is no reason to stop a move.
                let _: io::Result<()> = write(&directory, PROGRESS, &document, false);
            }
        });
        let listening = std::thread::spawn(move || listen(&receiver, &beginning, &documents, &flag));
        Recorder { listening, writing, is_over }
    }

    /// Takes what was sent so far, and gives the run's processes with this one. Senders that still exist are not
    /// waited for. `None` only by a defect.
    pub fn finish(self) -> Option<History> {
        self.is_over.store(true, Ordering::Release);
        let history = self.listening.join().ok();
        let _ = self.writing.join();
        history
    }
}

/// At most this long after [`Recorder::finish`] the thread notices it.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

fn listen(
    receiver: &Receiver<Event>,
    beginning: &Beginning,
    documents: &SyncSender<Vec<u8>>,
    is_over: &AtomicBool,
) -> History {
    let begun = Instant::now();
    let mut recording = Recording::new(Timestamp::now(), beginning.settings.clone());
    let mut due = Duration::ZERO;
    loop {
        // Read before the channel: what was sent before the flag was set still counts.
        let is_last = is_over.load(Ordering::Acquire);
        let now = begun.elapsed();
        if now >= due {
            let document = serde_json::to_vec(&live(beginning, &recording, now));
            let _ = documents.try_send(document.expect("it is plain data"));
            due = now + INTERVAL.max(begun.elapsed().saturating_sub(now) * SHARE);
        }
        let heard = receiver.recv_timeout(if is_last { Duration::ZERO } else { LONGEST_WAIT });
        match heard {
            Ok(event) => recording.apply(&event, begun.elapsed()),
            Err(RecvTimeoutError::Timeout) if !is_last => {}
            Err(_) => break,
        }
    }
    beginning.earlier.and(recording.process(begun.elapsed()))
}

fn live(beginning: &Beginning, recording: &Recording, now: Duration) -> Live {
    let running = recording.progress.running();
    let working = recording.progress.lanes.iter().filter_map(|(lane, item)| Some((*lane, item.as_ref()?)));
    Live {
        version: super::VERSION,
        run: beginning.run.clone(),
        source: beginning.source.clone(),
        target: beginning.target.clone(),
        process_id: std::process::id(),
        at: Timestamp::now(),
        running: running.map(|found| RunningStage { stage: found.stage, text: found.line(now) }).collect(),
        lanes: working
            .map(|(lane, item)| RunningWork {
                lane,
                stage: item.stage,
                item: item.title(),
                text: item.measure(now),
            })
            .collect(),
        history: beginning.earlier.and(recording.process(now)),
    }
}
