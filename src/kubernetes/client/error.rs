//! Why there is no client, or no credentials for it, and what the operator can do.

use std::io;
use std::path::PathBuf;

use kube::client::AuthError;
use kube::client::oidc_errors::{Error as OidcError, RefreshError};
use kube::config::{InClusterError, KubeconfigError};

use crate::error::{Class, Fault};

/// What went wrong with a credential plugin, without its standard output, which holds the token, and without its arguments
/// and environment, which may hold one too.
pub(in crate::kubernetes) fn plugin_failure(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.trim();
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            format!("the credential plugin failed ({}){said}", out.status)
        }
        AuthError::AuthExecStart(cause) => format!("the credential plugin could not be started: {cause}"),
        AuthError::AuthExecParse(_) => "the credential plugin's output could not be read".to_owned(),
        AuthError::ExecPluginFailed => "the credential plugin gave no credentials".to_owned(),
        AuthError::ParseTokenKey(_) => "the credential provider's output could not be read".to_owned(),
        AuthError::Oidc(OidcError::RefreshInit(cause)) => {
            format!("the id-token of the OIDC login has expired, and cannot be renewed: {cause}")
        }
        AuthError::Oidc(OidcError::Refresh(cause)) => {
            format!(
                "the id-token of the OIDC login has expired, and was not renewed: {}",
                refused_renewal(cause)
            )
        }
        other => other.to_string(),
    }
}

/// Why an OIDC provider has given no new token, without its answer, which may hold one.
fn refused_renewal(error: &RefreshError) -> String {
    let mut innermost: &dyn std::error::Error = match error {
        RefreshError::InvalidMetadata(_) | RefreshError::InvalidTokenResponse(_) => {
            return "its provider's answer could not be understood".to_owned();
        }
        error => error,
    };
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No kubeconfig, and this is no pod.
    #[error("there is no kubeconfig")]
    NoKubeconfig {
        /// The files that could have been one.
        looked_for: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("could not read kubeconfig {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is no kubeconfig. Its text is not repeated: it may hold a token.
    #[error("kubeconfig {} is malformed{at}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// `, line 3, column 5`, where that is known.
        at: String,
    },
    /// The context is not there.
    #[error("the kubeconfig has no context \"{context}\"")]
    UnknownContext {
        /// What was asked for.
        context: String,
        /// Those there are.
        contexts: Vec<String>,
    },
    /// No context was asked for, and none is the current one.
    #[error("the kubeconfig has no current context")]
    NoCurrentContext {
        /// Those there are.
        contexts: Vec<String>,
    },
    /// What the context names is missing or wrong: its cluster, a certificate, a proxy.
    #[error("context \"{context}\" of the kubeconfig cannot be used: {reason}")]
    Context {
        /// The context.
        context: String,
        /// kube's words.
        reason: String,
    },
    /// The credential plugin of the context failed.
    #[error("there are no credentials for {}{}: {reason}", match context {
        Some(context) => format!("context \"{context}\""),
        None => "the service account of this pod".to_owned(),
    }, match plugin {
        Some(plugin) => format!(" from {plugin}"),
        None => String::new(),
    })]
    Credentials {
        /// The context; none in a pod.
        context: Option<String>,
        /// The program that gives them.
        plugin: Option<String>,
        /// Of a program that is not there, the kubeconfig's words on how to install it; they may be empty.
        install: Option<String>,
        /// What failed.
        reason: String,
    },
    /// In a pod, whose service account cannot be used.
    #[error("the service account of this pod cannot be used")]
    ServiceAccount(#[source] InClusterError),
}

impl AccessError {
    pub(super) fn of_file(path: PathBuf, cause: KubeconfigError) -> AccessError {
        match cause {
            KubeconfigError::ReadConfig(cause, _) => AccessError::Unreadable { path, cause },
            KubeconfigError::Parse(cause) => {
                let at = cause.location();
                let at = at.map(|at| format!(", line {}, column {}", at.line(), at.column()));
                AccessError::Malformed { path, at: at.unwrap_or_default() }
            }
            // Merging: files of another kind or version.
            other => AccessError::Malformed { path, at: format!(": {other}") },
        }
    }
}

impl Fault for AccessError {
    fn class(&self) -> Class {
        match self {
            AccessError::Credentials { .. } | AccessError::ServiceAccount(_) => Class::Environment,
            _ => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        let known = |contexts: &[String]| match contexts {
            [] => "it has none".to_owned(),
            contexts => format!("it has {}", contexts.join(", ")),
        };
        match self {
            AccessError::NoKubeconfig { looked_for } => {
                let files: Vec<_> = looked_for.iter().map(|file| file.display().to_string()).collect();
                Some(format!("name one, or put it where kubectl looks for it: {}", files.join(", ")))
            }
            AccessError::UnknownContext { contexts, .. } => Some(known(contexts)),
            AccessError::NoCurrentContext { contexts } => {
                Some(format!("name a context: {}", known(contexts)))
            }
            AccessError::Credentials { plugin: Some(plugin), install: Some(how), .. } => {
                let how = how.trim();
                let how =
                    if how.is_empty() { String::new() } else { format!("; the kubeconfig says: {how}") };
                Some(format!("install {plugin}, or have its directory in PATH{how}"))
            }
            AccessError::Credentials { context: Some(context), .. } => {
                Some(format!("log in as you do for kubectl, and try kubectl --context {context} auth whoami"))
            }
            AccessError::Credentials { context: None, .. } | AccessError::ServiceAccount(_) => Some(
                "mount a service account token into the pod, which the user of its container can read"
                    .to_owned(),
            ),
            AccessError::Unreadable { .. } | AccessError::Malformed { .. } | AccessError::Context { .. } => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_an_oidc_provider_is_not_repeated() {
        let answer = serde_json::from_str::<Vec<u8>>("\"hidden\"").expect_err("no list");
        let error = AuthError::Oidc(OidcError::Refresh(RefreshError::InvalidTokenResponse(answer)));
        assert_eq!(
            plugin_failure(&error),
            "the id-token of the OIDC login has expired, and was not renewed: its provider's answer could not be understood"
        );
    }
}
