//! What a run came to.

use crate::cutover::freeze::FreezePlan;
use crate::error::{Class, Exit, Fault};
use crate::pg::SessionError;
use crate::plan::document::Document;
use crate::preflight::Finding;
use crate::report::Scope;
use crate::transfer::digest::Digest;
use crate::verify::Comparison;
use std::time::Duration;

/// What a run came to.
#[derive(Debug)]
pub enum Outcome {
    /// The check found something that stops the run; nothing was written.
    Refused(Vec<Finding>),
    /// The same of a run that has written before: that stays, and the run can go on.
    Stopped(Vec<Finding>),
    /// A dry run: what would be done.
    Planned {
        /// The plan.
        document: Box<Document>,
        /// Warnings of the check.
        findings: Vec<Finding>,
        /// The source's digests by table, if they were asked for.
        digests: Option<Vec<(String, Digest)>>,
        /// What would be frozen.
        freeze: Option<Box<FreezePlan>>,
    },
    /// The move is done and compared.
    Moved {
        /// The comparison.
        comparison: Box<Comparison>,
        /// What it was about.
        scope: Scope,
    },
    /// An earlier process had reached its verdict; what it had left in the target is removed.
    Cleared {
        /// The verdict, as the journal has it.
        verdict: String,
        /// Its exit code.
        exit: Exit,
    },
}

/// Why a session that holds something for the run is lost.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// It broke off.
    #[error(transparent)]
    Broken(SessionError),
    /// Its server is there, and says nothing.
    #[error("it has not answered for {} seconds", .0.as_secs())]
    Silent(Duration),
}

/// The session that holds the run's lock is gone. It lives as long as the server: after a crash, unlogged tables
/// are empty and the last commits lost, of which this process would know nothing.
#[derive(Debug, thiserror::Error)]
#[error("the session that holds the run's lock on the target is lost; its server may have crashed")]
pub(super) struct TargetLost(#[source] pub(super) Lost);

impl Fault for TargetLost {
    fn class(&self) -> Class {
        Class::Target
    }

    fn is_retryable(&self) -> bool {
        true
    }

    fn hint(&self) -> Option<String> {
        Some("go on with --resume: what the target still holds is kept".into())
    }
}

/// The operator asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Fault for Interrupted {
    fn class(&self) -> Class {
        Class::User
    }
}
