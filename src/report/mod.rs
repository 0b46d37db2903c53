//! Everything that a person or a script sees: stdout carries results, stderr progress.
//!
//! - [`Listener`] takes the events of a run and shows them as bars, plain lines or JSON lines; [`Recorder`] takes
//!   them too and writes `progress.json`.
//! - [`Report`] is what a run has come to, kept in its run directory as `report.json`; [`page`] makes
//!   `report.html` of it, [`summary`] a text. [`Status`] is what a run directory tells from outside.
//! - [`findings`], [`survey()`], [`plan`], [`settings`], [`closing`] and [`error`] turn what a stage returned into a text; [`json`] turns
//!   it into the last line of `--output json`.
//!
//! Texts are made by pure functions of the value and a [`Page`], and written by [`print`]. Names from a
//! database are escaped, so that none of them can talk to a terminal. A reader that has gone (a closed pipe)
//! is no reason to stop a move: errors of writing are ignored.
//!
//! A report never fails a run either: what cannot be written is a warning.

mod bars;
mod closing;
mod document;
mod error;
pub(crate) mod files;
mod findings;
mod freeze;
mod grid;
mod html;
mod json;
mod listener;
mod plain;
mod plan;
mod process;
mod progress;
mod recorder;
mod rehearsal;
#[cfg(test)]
pub(crate) mod sample;
mod settings;
mod status;
mod summary;
mod survey;
mod text;
mod verdict;

use std::io::Write as _;

pub use closing::closing;
pub use document::{Conclusion, Format, Index, Parts, Report, Search, State, Table, VERSION, document};
pub use error::{Again, error};
pub use files::FileError;
pub use findings::findings;
pub use freeze::{freeze, restoration};
pub use html::page;
pub use json::{CommandResult, Failure};
pub use listener::{Listener, LogWriter, Mode};
pub use plan::plan;
pub use process::{Checked, Ending, Finding, Process, Span, StageSpan, Throughput};
pub use progress::{StageTiming, TableTiming, Timings};
pub use recorder::{Beginning, History, Live, Recorder, RunningStage, RunningWork};
pub use rehearsal::{Part, Peak, REHEARSE_AGAIN, Rehearsal, Space, Window};
pub use settings::settings;
pub use status::{FinishedStage, Status, StatusError, report_of, status};
pub use summary::summary;
pub use survey::survey;
pub use text::{Page, bytes, duration, escape, number};
pub use verdict::{Scope, sentence};

/// Writes a result to stdout.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes what is no result to stderr.
pub fn complain(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
}
