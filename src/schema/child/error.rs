//! Why `pg_dump` or `pg_restore` has not done its work.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::error::{Class, Fault};
use crate::kubernetes::{ExecError, ResolveError};

/// Why a child's work is not done.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started, or its output not be read.
    #[error("could not run {program}")]
    Start {
        /// The program.
        program: String,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// The password file could not be written.
    #[error("could not write a private password file in {directory}")]
    Passfile {
        /// The directory of temporary files.
        directory: String,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// The socket that leads to the pod could not be made.
    #[error("could not make a socket that leads to the pod")]
    Socket(#[source] std::io::Error),
    /// It ended with an error.
    #[error("{program} failed ({status}): {message}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its own errors, one line each.
        message: String,
    },
    /// It was silent for too long.
    #[error("{program} showed no progress for {} s; last it said: {last}", stall.as_secs())]
    Stalled {
        /// The program.
        program: String,
        /// The limit.
        stall: Duration,
        /// The last line of its messages.
        last: String,
    },
    /// The caller cancelled.
    #[error("{program} was cancelled")]
    Cancelled {
        /// The program.
        program: String,
    },
    /// An archive goes to a pod and comes from one by way of this machine.
    #[error("could not {action} {}", path.display())]
    Archive {
        /// What was tried.
        action: &'static str,
        /// The archive.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: std::io::Error,
    },
    /// There is no pod to run it in, or none that it is to reach.
    #[error(transparent)]
    NoServer(Box<ResolveError>),
    /// A pod does not tell its address.
    #[error("there is no address at which a pod reaches {server}")]
    NoAddress {
        /// The server.
        server: String,
    },
    /// It could not be run in a pod, or not be heard to its end.
    #[error(transparent)]
    Exec(Box<ExecError>),
}

impl From<ResolveError> for ChildError {
    fn from(error: ResolveError) -> Self {
        ChildError::NoServer(Box::new(error))
    }
}

/// libpq's own words for a connection that could not be made or broke off.
const BROKEN: [&str; 7] = [
    "server closed the connection",
    "SSL connection has been closed unexpectedly",
    "could not receive data from server",
    "could not send data to server",
    "could not connect",
    "Connection refused",
    "connection to server",
];

/// A server's own words that another try does not change.
const NOT_ADMITTED: [&str; 2] = ["password authentication failed", "no pg_hba.conf entry"];

impl Fault for ChildError {
    fn class(&self) -> Class {
        match self {
            ChildError::NoServer(error) => error.class(),
            ChildError::Exec(error) => error.class(),
            ChildError::NoAddress { .. } => Class::Cluster,
            _ => Class::Environment,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            ChildError::Stalled { .. } => true,
            ChildError::Failed { message, .. } => {
                let says = |words: &[&str]| words.iter().any(|text| message.contains(text));
                says(&BROKEN) && !says(&NOT_ADMITTED)
            }
            ChildError::NoServer(error) => error.is_retryable(),
            ChildError::Exec(error) => error.is_retryable(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        let waits = || Some("look in pg_stat_activity and pg_locks for what it waits for".to_owned());
        match self {
            ChildError::Stalled { .. } => waits(),
            ChildError::Exec(error) if matches!(**error, ExecError::Stalled { .. }) => waits(),
            ChildError::NoServer(error) => error.hint(),
            ChildError::Exec(error) => error.hint(),
            _ => None,
        }
    }
}
