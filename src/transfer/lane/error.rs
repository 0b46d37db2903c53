//! Why a task of a lane failed.

use crate::error::{Class, Fault, Side};
use crate::pg::session::{self, SessionError};
use crate::transfer::relay::RelayError;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The task was told to stop; nothing of it is committed.
    #[error("interrupted")]
    Interrupted,
    /// A session failed.
    #[error("{what}")]
    Session {
        /// The task.
        what: String,
        /// Why.
        source: SessionError,
    },
    /// A stream failed.
    #[error("{what}")]
    Stream {
        /// The task.
        what: String,
        /// Why.
        source: StreamError,
    },
}

/// A relay's error, with the servers' own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}{detail}", detail = server_words(.0))]
pub struct StreamError(#[source] pub RelayError);

fn server_words(error: &RelayError) -> String {
    match error {
        RelayError::Source(error) | RelayError::Target(error) => format!(": {}", crate::pg::describe(error)),
        _ => String::new(),
    }
}

impl Fault for LaneError {
    fn class(&self) -> Class {
        match self {
            LaneError::Interrupted => Class::User,
            LaneError::Session { source, .. } => source.class(),
            LaneError::Stream { source, .. } => match &source.0 {
                RelayError::Source(_) | RelayError::Stalled(_) | RelayError::Convert { .. } => Class::Source,
                RelayError::Target(_) | RelayError::TargetStalled(_) => Class::Target,
                RelayError::Row { .. } | RelayError::Stream(_) | RelayError::Count { .. } => Class::Integrity,
                RelayError::Archive(error) => error.class(),
            },
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            LaneError::Interrupted => false,
            LaneError::Session { source, .. } => source.is_retryable(),
            LaneError::Stream { source, .. } => match &source.0 {
                RelayError::Source(error) | RelayError::Target(error) => session::is_retryable(error),
                // A stream that ends early is a connection that was cut.
                RelayError::Stalled(_) | RelayError::TargetStalled(_) | RelayError::Stream(_) => true,
                _ => false,
            },
        }
    }

    fn lock_timeout(&self) -> Option<Side> {
        match self {
            LaneError::Interrupted => None,
            LaneError::Session { source, .. } => source.lock_timeout(),
            LaneError::Stream { source, .. } => match &source.0 {
                RelayError::Source(error) if session::is_lock_timeout(error) => Some(Side::Source),
                RelayError::Target(error) if session::is_lock_timeout(error) => Some(Side::Target),
                _ => None,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            LaneError::Interrupted => None,
            LaneError::Session { source, .. } => source.hint(),
            LaneError::Stream { source, .. } => match &source.0 {
                RelayError::Convert { .. } => {
                    Some("pgvector holds finite numbers only: repair or delete the row on the source".into())
                }
                RelayError::Archive(error) => error.hint(),
                _ => None,
            },
        }
    }
}
