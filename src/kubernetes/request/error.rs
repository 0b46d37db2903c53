//! Why a request failed, and what the operator can do.

use std::error::Error as StdError;
use std::time::Duration;

use kube::client::AuthError;
use kube::core::Status;

use super::Request;
use crate::error::{Class, Fault};
use crate::kubernetes::client::plugin_failure;
use crate::kubernetes::role::VERBS;

/// How many names are listed of what is there instead.
const NAMES: usize = 20;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {request}")]
pub struct ApiError {
    /// What was asked for.
    pub request: Box<Request>,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why a request failed, told apart by what the operator has to do.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// 403.
    #[error("{account} may not {verb} {resource}")]
    Forbidden {
        /// Who asked, as the API server calls the account.
        account: String,
        /// The verb.
        verb: &'static str,
        /// The resource.
        resource: String,
    },
    /// 404 for this object.
    #[error("there is none of that name")]
    NotFound {
        /// The objects of this kind in that namespace, if they could be listed.
        there: Option<Vec<String>>,
        /// Other namespaces that have one of that name, as far as they could be listed.
        elsewhere: Vec<String>,
    },
    /// 404 for the kind.
    #[error("the cluster has no resource {0}")]
    UnknownResource(String),
    /// 401.
    #[error("the API server does not accept the credentials, which may have expired")]
    Unauthorized,
    /// The credential plugin failed when the token was to be renewed.
    #[error("{0}")]
    Credentials(String),
    /// No connection.
    #[error("the API server at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Its URL.
        url: String,
        /// The system's words.
        reason: String,
    },
    /// No answer in time.
    #[error("the API server at {url} gave no answer within {} s", limit.as_secs())]
    Timeout {
        /// Its URL.
        url: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Any other refusal.
    #[error("the API server answered {code}: {message}")]
    Refused {
        /// HTTP's status code.
        code: u16,
        /// Its words.
        message: String,
    },
    /// An answer that is not what it should be. It is not repeated: it may hold a secret.
    #[error("the API server's answer could not be understood")]
    Unintelligible,
}

impl ApiError {
    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.cause, Cause::NotFound { .. })
    }

    /// Whether the account lacks the right.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.cause, Cause::Forbidden { .. })
    }

    /// Whether the cluster has no such kind of object.
    pub fn is_unknown_resource(&self) -> bool {
        matches!(self.cause, Cause::UnknownResource(_))
    }
}

impl Fault for ApiError {
    fn class(&self) -> Class {
        if self.is_not_found() { Class::User } else { Class::Cluster }
    }

    fn is_retryable(&self) -> bool {
        match &self.cause {
            Cause::Unreachable { .. } | Cause::Timeout { .. } => true,
            Cause::Refused { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        let listed = |names: &[String]| {
            let more = names.len().saturating_sub(NAMES);
            let names = names[..names.len().min(NAMES)].join(", ");
            if more == 0 { names } else { format!("{names} and {more} more") }
        };
        match &self.cause {
            Cause::Forbidden { verb, .. } => Some(Request { verb, ..(*self.request).clone() }.rule()),
            Cause::NotFound { there, elsewhere } => {
                let Request { kind, namespace, .. } = &*self.request;
                let place =
                    namespace.as_ref().map_or("the cluster".to_owned(), |name| format!("namespace {name}"));
                let there = there.as_ref().map(|names| match &names[..] {
                    [] => format!("{place} has no {kind}"),
                    names => format!("{place} has {}", listed(names)),
                });
                let elsewhere = (!elsewhere.is_empty())
                    .then(|| format!("one of that name is in namespace {}", listed(elsewhere)));
                let sentences: Vec<String> = there.into_iter().chain(elsewhere).collect();
                (!sentences.is_empty()).then(|| sentences.join("; "))
            }
            Cause::UnknownResource(resource) if resource.ends_with("postgresql.cnpg.io") => {
                Some("CloudNative-PG is not installed in this cluster, or this is another cluster".to_owned())
            }
            Cause::Unauthorized | Cause::Credentials(_) => Some(
                "log in as you do for kubectl, and try kubectl auth whoami with the same context".to_owned(),
            ),
            Cause::Unreachable { .. } | Cause::Timeout { .. } => Some(
                "try kubectl version with the same context: is a VPN down, or is it another cluster?"
                    .to_owned(),
            ),
            Cause::UnknownResource(_) | Cause::Refused { .. } | Cause::Unintelligible => None,
        }
    }
}

impl Cause {
    /// Tells kube's errors apart. Their own words are not used: they repeat bodies of answers and outputs of plugins.
    pub fn of(error: &kube::Error, request: &Request, url: &str) -> Cause {
        match error {
            kube::Error::Api(status) => Cause::of_status(status, request),
            kube::Error::Auth(error) => Cause::Credentials(plugin_failure(error)),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Cause::Unintelligible,
            error => {
                let mut innermost: &(dyn StdError + 'static) = error;
                while let Some(cause) = innermost.source() {
                    if let Some(error) = cause.downcast_ref::<AuthError>() {
                        return Cause::Credentials(plugin_failure(error));
                    }
                    innermost = cause;
                }
                Cause::Unreachable { url: url.to_owned(), reason: innermost.to_string() }
            }
        }
    }

    fn of_status(status: &Status, request: &Request) -> Cause {
        let named = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        match status.code {
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden {
                // `pods "db-0" is forbidden: User "jane" cannot get resource "pods" in API group ""…`
                account: match status.message.split_once("User \"").and_then(|(_, rest)| rest.split_once('"'))
                {
                    Some((account, _)) => format!("account {account}"),
                    None => "the account".to_owned(),
                },
                // A websocket is a `get` and, since Kubernetes 1.35, a `create`: the answer tells which of them is missing.
                verb: VERBS
                    .into_iter()
                    .find(|verb| status.message.contains(&format!(" cannot {verb} ")))
                    .unwrap_or(request.verb),
                resource: request.resource.clone(),
            },
            404 if named => Cause::NotFound { there: None, elsewhere: Vec::new() },
            404 => Cause::UnknownResource(match &*request.group {
                "" => request.resource.clone(),
                group => format!("{}.{group}", request.resource),
            }),
            code => Cause::Refused { code, message: status.message.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::response::StatusDetails;

    use super::*;

    fn request(verb: &'static str, name: Option<&str>) -> Request {
        Request::of::<Pod>(&(), verb, Some("media"), name)
    }

    fn error(code: u16, message: &str, named: bool, request: Request) -> ApiError {
        let details = StatusDetails {
            name: if named { "x".into() } else { String::new() },
            group: String::new(),
            kind: "pods".into(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        let status = Status { code, message: message.into(), details: Some(details), ..Status::default() };
        let cause = Cause::of(&kube::Error::Api(Box::new(status)), &request, "https://10.0.0.1:6443/");
        ApiError { request: Box::new(request), cause }
    }

    #[test]
    fn a_missing_right_is_named_with_the_rule_that_grants_it() {
        let message = "pods \"x\" is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \
                       \"media\"";
        let error = error(403, message, false, request("list", None));
        assert_eq!(error.to_string(), "could not list Pods in namespace media");
        assert_eq!(error.cause.to_string(), "account jane may not list pods");
        assert_eq!(
            error.hint().as_deref(),
            Some(
                "a Role in namespace media with this rule, bound to the account, grants it:\n\
                 - apiGroups: [\"\"]\n  resources: [\"pods\"]\n  verbs: [\"list\"]"
            )
        );
        assert!(!error.is_retryable());
        let of_websocket = message.replace("cannot list", "cannot create");
        let error = self::error(403, &of_websocket, false, request("get", None));
        assert_eq!(error.cause.to_string(), "account jane may not create pods");
        assert!(error.hint().is_some_and(|hint| hint.contains("verbs: [\"create\"]")), "{:?}", error.hint());
    }

    #[test]
    fn what_is_there_instead_is_listed() {
        let mut error = error(404, "pods \"x\" not found", true, request("get", Some("x")));
        assert!(error.is_not_found() && error.class() == Class::User);
        assert_eq!(error.hint(), None, "nothing could be listed");
        let names = |count: usize| (0..count).map(|number| format!("p-{number}")).collect::<Vec<_>>();
        for (there, elsewhere, expected) in [
            (0, vec![], "namespace media has no Pod"),
            (
                2,
                vec!["photos".to_owned()],
                "namespace media has p-0, p-1; one of that name is in namespace photos",
            ),
        ] {
            error.cause = Cause::NotFound { there: Some(names(there)), elsewhere };
            assert_eq!(error.hint().as_deref(), Some(expected));
        }
        error.cause = Cause::NotFound { there: Some(names(25)), elsewhere: Vec::new() };
        assert!(error.hint().is_some_and(|hint| hint.ends_with("p-19 and 5 more")));
    }

    #[test]
    fn other_answers_are_told_apart() {
        let get = || request("get", Some("x"));
        assert!(
            error(404, "the server could not find the requested resource", false, get())
                .is_unknown_resource()
        );
        assert!(error(401, "Unauthorized", false, get()).hint().is_some_and(|hint| hint.contains("log in")));
        assert!(error(503, "etcdserver: leader changed", false, get()).is_retryable());
        assert!(!error(409, "conflict", false, get()).is_retryable());
    }

    #[test]
    fn what_may_hold_a_secret_is_not_repeated() {
        let parse = serde_json::from_str::<Vec<u8>>("\"hidden\"").expect_err("no list");
        let output = std::process::Output {
            status: std::process::ExitStatus::default(),
            stdout: b"{\"token\":\"hidden\"}".to_vec(),
            stderr: b"session expired\n".to_vec(),
        };
        let plugin = || AuthError::AuthExecRun {
            cmd: "TOKEN=hidden aws eks get-token".into(),
            out: Box::new(output.clone()),
        };
        let renewal: Box<dyn StdError + Send + Sync> = Box::new(plugin());
        for (error, expected) in [
            (kube::Error::SerdeError(parse), "could not be understood"),
            (kube::Error::Auth(plugin()), "session expired"),
            (kube::Error::Service(renewal), "the credential plugin failed"),
        ] {
            let request = request("get", Some("x"));
            let cause = Cause::of(&error, &request, "https://10.0.0.1:6443/");
            let error = ApiError { request: Box::new(request), cause };
            let words = format!("{error:?} {error} {} {:?}", error.cause, error.hint());
            assert!(words.contains(expected) && !words.contains("hidden"), "{words}");
        }
    }
}
