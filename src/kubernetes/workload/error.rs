//! Why there is no server behind an object.

use std::fmt;

use crate::error::{Class, Fault};
use crate::kubernetes::object::ObjectRef;
use crate::kubernetes::request::ApiError;

/// An object and its namespace, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The object.
    pub object: ObjectRef,
    /// Its namespace.
    pub namespace: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in namespace {}", self.object, self.namespace)
    }
}

/// Why there is no server to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A Service that leads to no pods of its own.
    #[error("{at} selects no pods")]
    NoSelector {
        /// The Service.
        at: Place,
    },
    /// A selector that kube cannot write.
    #[error("the selector of {at} cannot be used: {reason}")]
    Selector {
        /// The workload.
        at: Place,
        /// Why.
        reason: String,
    },
    /// There is no pod.
    #[error("{at} has no pod")]
    NoPod {
        /// The workload.
        at: Place,
        /// How many there shall be.
        replicas: i32,
    },
    /// No pod is ready.
    #[error("no pod of {at} is ready: {}", pods.join("; "))]
    NotReady {
        /// The workload.
        at: Place,
        /// Each pod with its state.
        pods: Vec<String>,
    },
    /// Several are, and none or more than one is marked as the primary.
    #[error("several pods of {at} are ready, and their labels do not tell which one takes writes: {}", pods.join(", "))]
    SeveralReady {
        /// The workload.
        at: Place,
        /// Their names.
        pods: Vec<String>,
    },
    /// A Cluster changes its primary just now.
    #[error("{at} changes its primary from {current} to {target}")]
    Switchover {
        /// The Cluster.
        at: Place,
        /// The pod that was the primary.
        current: String,
        /// The one that shall be, or `pending`.
        target: String,
    },
    /// A Cluster without a primary.
    #[error("{at} has no primary ({phase})")]
    NoPrimary {
        /// The Cluster.
        at: Place,
        /// The operator's words.
        phase: String,
    },
    /// The pod does not tell which container is PostgreSQL's, or has none of the name that was given.
    #[error("{}", match wanted {
        Some(wanted) => format!("pod {pod} has no container {wanted}"),
        None => format!("pod {pod} does not tell in which container PostgreSQL runs"),
    })]
    NoContainer {
        /// The pod.
        pod: String,
        /// The name that was given.
        wanted: Option<String>,
        /// The names of its containers.
        containers: Vec<String>,
    },
}

impl Fault for ResolveError {
    fn class(&self) -> Class {
        match self {
            ResolveError::Api(error) => error.class(),
            ResolveError::NoContainer { .. } | ResolveError::SeveralReady { .. } => Class::User,
            _ => Class::Cluster,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            ResolveError::Api(error) => error.is_retryable(),
            // A pod that was deleted is on its way back.
            ResolveError::NoPod { replicas, .. } => *replicas > 0,
            ResolveError::NotReady { .. }
            | ResolveError::Switchover { .. }
            | ResolveError::NoPrimary { .. } => true,
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ResolveError::Api(error) => error.hint(),
            ResolveError::NoPod { at: Place { object, namespace }, replicas: 0 } => Some(format!(
                "it is scaled to 0: kubectl --namespace {namespace} scale {object} --replicas=1 starts it"
            )),
            ResolveError::NoPod { at: Place { object, namespace }, .. } => {
                Some(format!("kubectl --namespace {namespace} describe {object} tells why none is made"))
            }
            ResolveError::NotReady { at: Place { namespace, .. }, pods } => {
                let pod = pods.first().and_then(|pod| pod.split(':').next()).unwrap_or_default();
                Some(format!("kubectl --namespace {namespace} describe pod/{pod} tells more"))
            }
            ResolveError::NoSelector { .. } => {
                Some("name the workload behind it: sts/NAME or deploy/NAME".to_owned())
            }
            ResolveError::SeveralReady { .. } => Some("name the one that takes writes: pod/NAME".to_owned()),
            ResolveError::NoContainer { containers, .. } => {
                Some(format!("name one of its containers: {}", containers.join(", ")))
            }
            ResolveError::Switchover { .. } => Some("wait until it is done".to_owned()),
            ResolveError::NoPrimary { at: Place { object, namespace }, .. } => {
                Some(format!("kubectl --namespace {namespace} describe {object} tells more"))
            }
            ResolveError::Selector { .. } => None,
        }
    }
}
