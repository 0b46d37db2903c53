//! Everything that a person or a script sees: stdout carries results, stderr progress.
//!
//! - [`Listener`] takes the events of a run and shows them as bars, plain lines or JSON lines.
//! - [`findings`], [`plan`], [`settings`], [`closing`] and [`error`] turn what a stage returned into a text; [`json`] turns
//!   it into the last line of `--output json`.
//!
//! Texts are made by pure functions of the value and a [`Page`], and written by [`print`]. Names from a
//! database are escaped, so that none of them can talk to a terminal. A reader that has gone (a closed pipe)
//! is no reason to stop a move: errors of writing are ignored.

mod bars;
mod closing;
mod error;
mod findings;
mod freeze;
mod grid;
mod json;
mod listener;
mod plain;
mod plan;
mod progress;
#[cfg(test)]
mod sample;
mod settings;
mod text;
mod verdict;

use std::io::Write as _;

pub use closing::closing;
pub use error::{Again, error};
pub use findings::findings;
pub use freeze::{freeze, restoration};
pub use json::{CommandResult, Failure};
pub use listener::{Listener, LogWriter, Mode};
pub use plan::plan;
pub use progress::{StageTiming, TableTiming, Timings};
pub use settings::settings;
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
