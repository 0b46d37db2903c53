//! Why there is no Lease.

use jiff::Timestamp;

use super::{OBJECTS, VALID};
use crate::error::{Class, Fault};
use crate::kubernetes::ApiError;

/// Why there is no Lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another run works on the same source.
    #[error("{by} works on this source{}", since_when(.since.as_ref()))]
    Held {
        /// Where the Lease is.
        namespace: String,
        /// Its name.
        name: String,
        /// Who has it.
        by: String,
        /// Since when.
        since: Option<Timestamp>,
    },
    /// Another run has taken it over.
    #[error("lease {namespace}/{name} was taken over by {by}")]
    Lost {
        /// Where the Lease is.
        namespace: String,
        /// Its name.
        name: String,
        /// Who has it.
        by: String,
    },
    /// Its list of objects cannot be read.
    #[error("annotation {OBJECTS} of lease {namespace}/{name} cannot be read")]
    Damaged {
        /// Where the Lease is.
        namespace: String,
        /// Its name.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The API server refused, or cannot be reached.
    #[error(transparent)]
    Api(#[from] ApiError),
}

fn since_when(time: Option<&Timestamp>) -> String {
    time.map(|time| format!(", since {}", time.strftime("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default()
}

impl Fault for LeaseError {
    fn class(&self) -> Class {
        match self {
            LeaseError::Held { .. } | LeaseError::Lost { .. } => Class::User,
            LeaseError::Damaged { .. } => Class::Integrity,
            LeaseError::Api(error) => error.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, LeaseError::Api(error) if error.is_retryable())
    }

    fn hint(&self) -> Option<String> {
        match self {
            LeaseError::Held { namespace, name, .. } => Some(format!(
                "wait for it, or stop it; what was killed counts as gone {} s later (kubectl -n {namespace} get lease {name})",
                VALID.as_secs()
            )),
            LeaseError::Lost { .. } => {
                Some("see what that run does before you go on with this one".to_owned())
            }
            LeaseError::Damaged { namespace, name, .. } => Some(format!(
                "remove it (kubectl -n {namespace} delete lease {name}); a rollback then searches the namespaces it is given"
            )),
            LeaseError::Api(error) => error.hint(),
        }
    }
}
