//! Errors and exit codes.
//!
//! Rules for errors in this crate:
//! - Every module has its own `thiserror` enum. Messages are lowercase and name the object:
//!   `could not copy public.asset, chunk 3 of 17`.
//! - Every error type implements [`Fault`]: it knows its class, whether a retry helps, and a hint (the next
//!   step for the operator) where there is one.
//! - The cause is the `source()`; a message never repeats it. [`crate::report`] prints the whole chain.
//! - The exit code is decided once, by the command, from what was already done when the error came.

use std::error::Error as StdError;

/// Who has to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What was typed, or a settings file.
    User,
    /// This machine: a missing program, a full disk, a file that cannot be read.
    Environment,
    /// The source server or what is in it.
    Source,
    /// The target server or what is in it.
    Target,
    /// The Kubernetes cluster.
    Cluster,
    /// Data that is not what it must be: a digest that differs, a damaged archive. Never retried.
    Integrity,
    /// A defect of pgmove.
    Internal,
}

/// One of the two databases of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The database moved from.
    Source,
    /// The database moved into.
    Target,
}

impl Side {
    /// The class of an error that comes from this side's server.
    pub fn class(self) -> Class {
        match self {
            Side::Source => Class::Source,
            Side::Target => Class::Target,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Target => "target",
        })
    }
}

/// What every error of this crate can say about itself.
pub trait Fault: StdError + Send + Sync + 'static {
    /// Who has to act.
    fn class(&self) -> Class;

    /// Whether the same work may succeed when it is tried again with a new connection.
    fn is_retryable(&self) -> bool {
        false
    }

    /// The side on which a lock was waited for until the time allowed for it was over.
    fn lock_timeout(&self) -> Option<Side> {
        None
    }

    /// The next step, as a sentence for the operator.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The process's exit code; a contract (README, "Exit codes").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(into = "u8")]
pub enum Exit {
    /// Done, and proven where there was something to prove.
    #[default]
    Done,
    /// A defect of pgmove.
    Internal,
    /// Usage or settings.
    Usage,
    /// Preflight refused; nothing was written.
    Refused,
    /// Verification found a difference.
    Different,
    /// Stopped; can be resumed.
    Resumable,
    /// Failed, and what keeps the application from the source was undone; can be resumed.
    RolledBack,
    /// Failed, must start over; the message says what is left where.
    StartOver,
    /// Equal as far as compared, but something was not compared.
    NotAllCompared,
    /// Interrupted at a safe point; can be resumed.
    Interrupted,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Internal => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Different => 4,
            Exit::Resumable => 5,
            Exit::RolledBack => 6,
            Exit::StartOver => 7,
            Exit::NotAllCompared => 8,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> u8 {
        exit.code()
    }
}

/// An error on its way to the operator: the fault, and the exit code that the command gave it.
#[derive(Debug)]
pub struct Error {
    /// How the process ends.
    pub exit: Exit,
    /// What went wrong.
    pub fault: Box<dyn Fault>,
}

impl Error {
    /// An error that ends the process with `exit`.
    pub fn new(exit: Exit, fault: impl Fault) -> Self {
        Error { exit, fault: Box::new(fault) }
    }

    /// The messages of the fault and its causes, outermost first, without repetitions.
    pub fn chain(&self) -> Vec<String> {
        chain(self.fault.as_ref())
    }
}

/// The messages of an error and its causes, outermost first, without repetitions.
pub(crate) fn chain(error: &dyn StdError) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if messages.last() != Some(&message) {
            messages.push(message);
        }
        cause = error.source();
    }
    messages
}
