//! Why nothing was put back.

use crate::cutover::lease::LeaseError;
use crate::cutover::object::ObjectKey;
use crate::error::{Class, Fault};
use crate::journal::JournalError;
use crate::kubernetes::ApiError;

/// Why nothing was put back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// A run is at work, or the Leases cannot be read.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The API server refused, or cannot be reached.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It could not be written down.
    #[error("could not record the rollback")]
    Journal(#[from] JournalError),
    /// None of the journal's objects is here.
    #[error(
        "none of the {count} frozen objects is in the cluster at {url}: {first} {}",
        if *has_namesake { "is another one there" } else { "is not there" }
    )]
    Elsewhere {
        /// How many the journal names.
        count: usize,
        /// The API server.
        url: String,
        /// One of them.
        first: Box<ObjectKey>,
        /// Whether another object has its name.
        has_namesake: bool,
    },
}

impl Fault for RollbackError {
    fn class(&self) -> Class {
        match self {
            RollbackError::Lease(error) => error.class(),
            RollbackError::Api(error) => error.class(),
            RollbackError::Journal(error) => error.class(),
            RollbackError::Elsewhere { .. } => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RollbackError::Lease(error) => error.hint(),
            RollbackError::Api(error) => error.hint(),
            RollbackError::Journal(error) => error.hint(),
            RollbackError::Elsewhere { .. } => Some(
                "name the cluster of the freeze (--context, --kubeconfig); if it is this one, they were removed or made anew since, \
                 and nothing is left to put back; nothing was changed, and the journal goes on knowing what is frozen"
                    .to_owned(),
            ),
        }
    }
}
