//! `--output json`: one event a line, and one last line `{"result": …}`.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Class, Error, Exit};
use crate::event::Event;
use crate::plan::Plan;
use crate::preflight::Finding;
use crate::report::listener::Output;
use crate::report::progress::{Progress, Timings};
use crate::verify::{Comparison, Verdict};

/// Events as lines.
#[derive(Debug)]
pub(super) struct Lines<W>(W);

impl<W: Write + Send> Lines<W> {
    pub(super) fn new(out: W) -> Self {
        Lines(out)
    }
}

impl<W: Write + Send> Output for Lines<W> {
    fn interval(&self) -> Duration {
        Duration::MAX
    }

    fn event(&mut self, event: &Event, _progress: &Progress, _now: Duration) {
        let line = serde_json::to_string(event).expect("events are plain values");
        let _ = writeln!(self.0, "{line}").and_then(|()| self.0.flush());
    }

    fn tick(&mut self, _progress: &Progress, _now: Duration) {}
}

/// How a command ended, for a script. Parts that the command does not have are left out.
#[derive(Debug, Default, Serialize)]
pub struct CommandResult<'a> {
    /// The process's exit code.
    pub exit: Option<Exit>,
    /// What the comparison proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The verdict in one sentence, as a person reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentence: Option<String>,
    /// All that was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<&'a Comparison>,
    /// All findings of the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub findings: Option<&'a [Finding]>,
    /// What was done, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<&'a Plan>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<&'a Timings>,
    /// Why it stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// An error, for a script.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Who has to act.
    pub class: Class,
    /// What failed, and its causes, outermost first.
    pub messages: Vec<String>,
    /// The next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Failure { class: error.fault.class(), messages: error.chain(), hint: error.fault.hint() }
    }
}

impl CommandResult<'_> {
    /// The last line, with its line break.
    pub fn line(&self) -> String {
        let result = serde_json::json!({ "result": self });
        format!("{result}\n")
    }
}
