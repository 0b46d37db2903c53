//! `--output json`: one event a line, and one last line `{"result": …}`.

use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cutover::freeze::FreezePlan;
use crate::cutover::rollback::Restoration;
use crate::error::{Class, Error, Exit};
use crate::event::Event;
use crate::plan::document::Document;
use crate::preflight::Finding;
use crate::report::listener::Output;
use crate::report::progress::{Progress, Timings};
use crate::report::rehearsal::Rehearsal;
use crate::report::status::Status;
use crate::settings::Overview;
use crate::survey::Summary;
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
#[derive(Debug, Serialize)]
pub struct CommandResult<'a> {
    /// The process's exit code.
    pub exit: Exit,
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
    /// What `pgmove check` has seen beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<&'a Summary>,
    /// What was done, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<&'a Document>,
    /// The settings that hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<&'a Overview>,
    /// What else came of it, as a person reads it: a line each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<&'a [String]>,
    /// What was frozen, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<&'a FreezePlan>,
    /// What was put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restoration: Option<&'a Restoration>,
    /// What a run directory tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a Status>,
    /// What a rehearsal has shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<&'a Rehearsal>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<&'a Timings>,
    /// Why it stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// An error, for a script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// A result of nothing but its exit code, to be filled in.
    pub fn new(exit: Exit) -> Self {
        CommandResult {
            exit,
            verdict: None,
            sentence: None,
            comparison: None,
            findings: None,
            summary: None,
            plan: None,
            settings: None,
            lines: None,
            freeze: None,
            restoration: None,
            status: None,
            rehearsal: None,
            timings: None,
            error: None,
        }
    }

    /// The last line, with its line break.
    pub fn line(&self) -> String {
        let result = serde_json::json!({ "result": self });
        format!("{result}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::listener::replay;
    use crate::report::{sample, sentence};

    #[test]
    fn every_event_is_a_line() {
        let mut lines = Lines::new(Vec::new());
        replay(&sample::script(), &mut lines, |_| {});
        let text = String::from_utf8(lines.0).expect("JSON is UTF-8");
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is a value")).collect();
        assert_eq!(events.len(), sample::script().len());
        insta::assert_snapshot!(text.lines().take(8).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn the_last_line_is_the_result() {
        let (comparison, error) = (sample::counted(), sample::error());
        let result = CommandResult {
            verdict: Some(comparison.verdict()),
            sentence: Some(sentence(&comparison, sample::scope())),
            comparison: Some(&comparison),
            error: Some(Failure::from(&error)),
            ..CommandResult::new(error.exit)
        };
        let line = result.line();
        assert!(line.ends_with("}\n") && line.lines().count() == 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        insta::assert_snapshot!(serde_json::to_string_pretty(&value).expect("it was JSON"));
    }
}
