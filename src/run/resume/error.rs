//! Why a run cannot go on.

use crate::catalog::DatabaseIdentity;
use crate::error::{Class, Fault, Side};
use crate::kubernetes::PsqlError;
use crate::pg::SessionError;

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The target belongs to another run, or to nobody.
    #[error("the target holds no ledger of run {run}{}", .found.as_ref().map(|found| format!(", but one of run {found}")).unwrap_or_default())]
    OtherLedger {
        /// This run.
        run: String,
        /// The run whose ledger is there.
        found: Option<String>,
    },
    /// Another database is named than the run began with.
    #[error("the {side} of the run is database {begun}, not {found}")]
    OtherDatabase {
        /// Which of the two.
        side: Side,
        /// The run's.
        begun: DatabaseIdentity,
        /// What was found.
        found: DatabaseIdentity,
    },
    /// A rewrite is asked for that the run did not begin with.
    #[error("the run was begun with {begun}, and goes on with that, not with {given}")]
    OtherChoice {
        /// The run's option.
        begun: String,
        /// What was given.
        given: String,
    },
    /// Sessions of an earlier process go on in the target.
    #[error("sessions of the interrupted run do not end on the target: {0}")]
    Leftovers(String),
    /// The source's schema has changed.
    #[error("the source's schema has changed since the run began: {0}")]
    SchemaChanged(String),
    /// A restore was begun from another archive.
    #[error("the archive is not the one that the run began with")]
    OtherArchive,
    /// A table has changed that cannot be copied again.
    #[error("{0} has changed on the source, and its foreign keys or triggers are made already")]
    Tied(String),
    /// A crash of the target's server has emptied an unlogged table that cannot be loaded again.
    #[error(
        "{0} is unlogged: a crash of the target's server emptied it, and its foreign keys or triggers are made already"
    )]
    Emptied(String),
    /// A session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// psql in the target's pod did not answer.
    #[error(transparent)]
    Psql(#[from] PsqlError),
}

impl Fault for ResumeError {
    fn class(&self) -> Class {
        match self {
            ResumeError::OtherLedger { .. } | ResumeError::Leftovers(_) | ResumeError::Emptied(_) => {
                Class::Target
            }
            ResumeError::OtherArchive
            | ResumeError::OtherDatabase { .. }
            | ResumeError::OtherChoice { .. } => Class::User,
            ResumeError::SchemaChanged(_) | ResumeError::Tied(_) => Class::Source,
            ResumeError::Session(error) => error.class(),
            ResumeError::Psql(error) => error.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            ResumeError::Session(error) => error.is_retryable(),
            ResumeError::Psql(error) => error.is_retryable(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ResumeError::Session(error) => error.hint(),
            ResumeError::Psql(error) => error.hint(),
            ResumeError::OtherDatabase { side, .. } => Some(format!(
                "name the {side} that the run began with, or start over with another --run-dir"
            )),
            ResumeError::OtherChoice { .. } => {
                Some("resume without that option, or start over with another --run-dir".into())
            }
            ResumeError::Leftovers(_) => Some(
                "end them as a superuser (SELECT pg_terminate_backend(...)) or give --target-admin, then go on with --resume"
                    .into(),
            ),
            _ => Some(
                "start over with another --run-dir, and --replace with the name of the target database to drop what is there"
                    .into(),
            ),
        }
    }
}
