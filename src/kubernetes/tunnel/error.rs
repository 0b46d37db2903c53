//! Why there is no tunnel, or why one broke, told apart by what the operator has to do.

use std::io;
use std::time::Duration;

use kube::client::UpgradeConnectionError;

use crate::error::{Class, Fault};
use crate::kubernetes::{ApiError, ApiServer, Cause, PodPort, Request};

/// A tunnel that did not come about, or that broke.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The API server did not open it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It broke, be it while it was opened.
    #[error(transparent)]
    Broken(#[from] BrokenTunnel),
}

/// A tunnel that broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tunnel to {at} {cause}")]
pub struct BrokenTunnel {
    /// Pod and port.
    pub at: String,
    /// Why.
    pub cause: TunnelCause,
}

/// Why a tunnel broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelCause {
    /// What answered does not speak the protocol: a proxy between, or frames that are not as they should be.
    #[error("met something that does not speak SPDY/3.1+portforward.k8s.io: {0}")]
    Protocol(String),
    /// The pod's node said so on the stream for its words: nobody listens on the port, or the connection was reset.
    #[error("was given up by the pod's node: {0}")]
    Forward(String),
    /// The other side closed the websocket, or reset a stream, and not because the server had closed its connection.
    #[error("was closed: {0}")]
    Closed(String),
    /// The connection to the API server broke.
    #[error("broke: {0}")]
    Broken(String),
    /// Nothing came, not even answers to pings.
    #[error("gave no sign of life for {} s", .0.as_secs())]
    Silent(Duration),
}

impl TunnelError {
    /// What kube says when the websocket does not come about.
    pub(super) fn of(error: &kube::Error, server: &ApiServer, at: &PodPort) -> TunnelError {
        match error {
            kube::Error::UpgradeConnection(answer)
                if !matches!(answer, UpgradeConnectionError::GetPendingUpgrade(_)) =>
            {
                BrokenTunnel { at: at.to_string(), cause: TunnelCause::Protocol(answer.to_string()) }.into()
            }
            error => {
                let request = Request {
                    verb: "get",
                    group: String::new(),
                    resource: "pods/portforward".to_owned(),
                    kind: "Pod".to_owned(),
                    namespace: Some(at.namespace.clone()),
                    name: Some(at.pod.clone()),
                };
                let cause = Cause::of(error, &request, server.url());
                ApiError { request: Box::new(request), cause }.into()
            }
        }
    }

    /// Whether it may come about in a moment: the API server or the pod restarts.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            TunnelError::Api(error) => error.is_retryable() || error.is_not_found(),
            TunnelError::Broken(error) => error.is_retryable(),
        }
    }
}

impl BrokenTunnel {
    /// Finds the tunnel's error within another one.
    pub(crate) fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a BrokenTunnel> {
        let mut error = Some(error);
        while let Some(found) = error {
            // An `io::Error` shows its content only by `get_ref`.
            let inner = found.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(tunnel) = inner.and_then(|inner| inner.downcast_ref()) {
                return Some(tunnel);
            }
            error = found.source();
        }
        None
    }
}

impl From<BrokenTunnel> for io::Error {
    fn from(error: BrokenTunnel) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, error)
    }
}

impl Fault for TunnelError {
    fn class(&self) -> Class {
        match self {
            TunnelError::Api(error) => error.class(),
            TunnelError::Broken(error) => error.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            // A pod that is replaced is not found for a moment, and an API server that restarts refuses everybody until
            // it has read its rules again.
            TunnelError::Api(_) => true,
            TunnelError::Broken(error) => error.is_retryable(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            TunnelError::Api(error) => error.hint(),
            TunnelError::Broken(error) => error.hint(),
        }
    }
}

impl Fault for BrokenTunnel {
    fn class(&self) -> Class {
        Class::Cluster
    }

    fn is_retryable(&self) -> bool {
        !matches!(self.cause, TunnelCause::Protocol(_))
    }

    fn hint(&self) -> Option<String> {
        let hint = match &self.cause {
            TunnelCause::Protocol(_) => {
                "a proxy before the API server may not pass websockets on: name the API server itself in the kubeconfig; Kubernetes \
                 before 1.31 does not speak it"
            }
            TunnelCause::Forward(_) => {
                "check that PostgreSQL runs in the pod and listens on this port: kubectl logs"
            }
            TunnelCause::Closed(_) | TunnelCause::Broken(_) | TunnelCause::Silent(_) => return None,
        };
        Some(hint.to_owned())
    }
}
