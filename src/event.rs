//! What happens during a command, as typed events.
//!
//! Stages emit; bars, plain lines, JSON lines, the log and the report listen. A stage never prints. Events of
//! all lanes go through one bounded channel, so every listener sees one order.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::{Deserialize, Serialize};

use crate::preflight::Finding;

/// A stage of a move, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Connect, read both catalogs, preflight, plan.
    Check,
    /// Stop what writes to the source, in its cluster.
    Freeze,
    /// Make the source refuse writes.
    Fence,
    /// Extensions and everything that must exist before rows can be loaded.
    Schema,
    /// Rows, large objects, sequences.
    Copy,
    /// Indexes and unique constraints.
    Indexes,
    /// Foreign keys, triggers, policies, materialised views, statistics.
    Finish,
    /// Compare both sides.
    Verify,
}

impl Stage {
    /// The word for a person.
    pub fn title(self) -> &'static str {
        match self {
            Stage::Check => "check",
            Stage::Freeze => "freeze",
            Stage::Fence => "fence",
            Stage::Schema => "schema",
            Stage::Copy => "copy",
            Stage::Indexes => "indexes",
            Stage::Finish => "finish",
            Stage::Verify => "verify",
        }
    }
}

/// What stands on both sides, and between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The source's server.
    pub source: String,
    /// The target's server.
    pub target: String,
    /// `pg_dump` and `pg_restore`: their version, and the directory or the pod that they are in; none if none will do.
    pub client_tools: Option<String>,
    /// The source's extensions.
    pub extensions: Vec<ExtensionVersions>,
}

/// An extension of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionVersions {
    /// Its name.
    pub name: String,
    /// Its version on the source.
    pub source: String,
    /// The version that the target has or would create; `None` if it offers none.
    pub target: Option<String>,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage begins. Totals are estimates where they are not known exactly; `None` where unknown.
    StageStarted {
        /// The stage.
        stage: Stage,
        /// How many work items it has (chunks, statements, indexes, tables to compare).
        items: Option<u64>,
        /// How many bytes it will move or read, estimated.
        bytes: Option<u64>,
        /// How many rows it will move or read, estimated.
        rows: Option<u64>,
    },
    /// A stage is over.
    StageFinished {
        /// The stage.
        stage: Stage,
        /// How long it took.
        seconds: f64,
    },
    /// Both sides were read and checked.
    Checked {
        /// What they run.
        versions: Versions,
        /// What was found, the blocking ones first.
        findings: Vec<Finding>,
    },
    /// A work item of a stage begins on a lane.
    ItemStarted {
        /// The stage.
        stage: Stage,
        /// The lane, from 0.
        lane: usize,
        /// What it is: `public.asset, chunk 3 of 17`, `index clip_index`. Unique within the stage.
        item: String,
        /// The table that it works on, as [`crate::pg::QualifiedName`] displays it.
        table: Option<String>,
        /// Its share of the stage's bytes, estimated, where that is known.
        bytes: Option<u64>,
    },
    /// Progress within an item since the last such event.
    Progress {
        /// The stage.
        stage: Stage,
        /// The lane.
        lane: usize,
        /// Further rows.
        rows: u64,
        /// Further bytes.
        bytes: u64,
    },
    /// What the server tells of an index build (`pg_stat_progress_create_index`).
    IndexProgress {
        /// The lane.
        lane: usize,
        /// The index.
        item: String,
        /// The server's phase.
        phase: String,
        /// Per cent of the phase, where the server tells.
        percent: Option<f64>,
    },
    /// A work item is done.
    ItemFinished {
        /// The stage.
        stage: Stage,
        /// The lane.
        lane: usize,
        /// What it is.
        item: String,
        /// How long it took.
        seconds: f64,
    },
    /// Something went wrong and is tried again.
    Retry {
        /// The stage.
        stage: Stage,
        /// What is tried again.
        item: String,
        /// Why.
        reason: String,
    },
    /// Something the operator should know; the run goes on.
    Warning {
        /// The sentence.
        message: String,
    },
    /// Something of interest, at `-v`.
    Note {
        /// The sentence.
        message: String,
    },
}

/// How many events wait at most; a slow terminal slows the lanes down rather than filling memory.
const CAPACITY: usize = 1024;

/// The sending end, cloned into every stage and lane. Each listener has a channel of its own.
#[derive(Debug, Clone)]
pub struct Events(Vec<SyncSender<Event>>);

impl Events {
    /// A channel: the sending end for stages, the receiving end for one listener.
    pub fn channel() -> (Events, Receiver<Event>) {
        Events::none().and_another()
    }

    /// A sending end that nobody listens to.
    pub fn none() -> Events {
        Events(Vec::new())
    }

    /// A sending end that one more listener hears.
    pub fn and_another(&self) -> (Events, Receiver<Event>) {
        let (sender, receiver) = sync_channel(CAPACITY);
        (Events(self.0.iter().cloned().chain([sender]).collect()), receiver)
    }

    /// Sends an event. A listener that is gone is no reason to stop a move.
    pub fn emit(&self, event: Event) {
        if let Some((last, others)) = self.0.split_last() {
            for sender in others {
                let _ = sender.send(event.clone());
            }
            let _ = last.send(event);
        }
    }

    /// Sends a warning.
    pub fn warn(&self, message: impl Into<String>) {
        self.emit(Event::Warning { message: message.into() });
    }

    /// Sends a note.
    pub fn note(&self, message: impl Into<String>) {
        self.emit(Event::Note { message: message.into() });
    }
}
