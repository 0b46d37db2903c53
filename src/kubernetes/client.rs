//! The connection to a cluster's API server: from a kubeconfig, or from the account of the pod that pgmove runs in.
//!
//! [`Access`] says which kubeconfig, context and namespace; [`ApiServer::connect`] gives the client. Certificates, tokens,
//! exec and OIDC credential plugins, impersonation and `tls-server-name` are kube's. An error never repeats what a
//! kubeconfig holds, nor what a credential plugin printed to its standard output: both may be secrets.

use std::fmt;
use std::io;
use std::path::PathBuf;

use kube::client::{AuthError, Body, ClientBuilder};
use kube::config::{Config, InClusterError, KubeConfigOptions, KubeconfigError};
use tower::util::MapRequestLayer;

use crate::error::{Class, Fault};

/// Which kubeconfig is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kubeconfig {
    /// This file, which must be there.
    File(PathBuf),
    /// Those of these files that are there, merged as kubectl does (`KUBECONFIG`, `~/.kube/config`). If none is, pgmove
    /// runs in a pod, and uses its service account.
    Usual(Vec<PathBuf>),
}

/// How to reach a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The kubeconfig.
    pub kubeconfig: Kubeconfig,
    /// The context; without it, the kubeconfig's current one.
    pub context: Option<String>,
    /// The namespace; without it, the context's, or the pod's own.
    pub namespace: Option<String>,
}

/// A cluster's API server, with the account that speaks to it.
#[derive(Clone)]
pub struct ApiServer {
    client: kube::Client,
    url: String,
    context: Option<String>,
    namespace: String,
}

impl ApiServer {
    /// Reads the kubeconfig and makes a client. Nothing is sent yet, but a credential plugin may already run.
    pub async fn connect(access: &Access) -> Result<ApiServer, AccessError> {
        let (config, context) = config(access).await?;
        let namespace =
            access.namespace.clone().unwrap_or_else(|| config.default_namespace.trim().to_owned());
        let client = client(&config, context.as_deref()).await?;
        Ok(ApiServer { client, url: config.cluster_url.to_string(), context, namespace })
    }

    /// The same server, asked through another client: one with layers of its own.
    #[must_use]
    pub fn through(self, client: kube::Client) -> ApiServer {
        ApiServer { client, ..self }
    }

    /// The client, for requests that are not made here.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Where objects are looked for.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The kubeconfig's context; none in a pod.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// The URL of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The server and the context, never the credentials.
impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("url", &self.url)
            .field("context", &self.context)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// kube's configuration, and the name of the context.
async fn config(access: &Access) -> Result<(Config, Option<String>), AccessError> {
    let files = match &access.kubeconfig {
        Kubeconfig::File(file) => vec![file.clone()],
        Kubeconfig::Usual(files) => files.iter().filter(|file| file.exists()).cloned().collect(),
    };
    if files.is_empty() && access.context.is_none() {
        return match Config::incluster() {
            Ok(config) => Ok((config, None)),
            Err(InClusterError::ReadEnvironmentVariable(_)) => Err(no_kubeconfig(access)),
            Err(cause) => Err(AccessError::ServiceAccount(cause)),
        };
    }
    if files.is_empty() {
        return Err(no_kubeconfig(access));
    }
    let mut merged = kube::config::Kubeconfig::default();
    for file in files {
        let read = kube::config::Kubeconfig::read_from(&file).and_then(|next| merged.merge(next));
        merged = read.map_err(|cause| AccessError::of_file(file, cause))?;
    }
    let contexts = || merged.contexts.iter().map(|context| context.name.clone()).collect();
    let Some(context) = access.context.clone().or_else(|| merged.current_context.clone()) else {
        return Err(AccessError::NoCurrentContext { contexts: contexts() });
    };
    if !merged.contexts.iter().any(|known| known.name == context) {
        return Err(AccessError::UnknownContext { context, contexts: contexts() });
    }
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    match Config::from_custom_kubeconfig(merged, &options).await {
        Ok(config) => Ok((config, Some(context))),
        Err(cause) => Err(AccessError::Context { context, reason: cause.to_string() }),
    }
}

fn no_kubeconfig(access: &Access) -> AccessError {
    AccessError::NoKubeconfig {
        looked_for: match &access.kubeconfig {
            Kubeconfig::File(file) => vec![file.clone()],
            Kubeconfig::Usual(files) => files.clone(),
        },
    }
}

/// A client that all runtimes can share. A connection is driven by the runtime that opened it, so each request has one
/// of its own: from a pool, a lane might get one that another lane takes with it when it ends.
async fn client(config: &Config, context: Option<&str>) -> Result<kube::Client, AccessError> {
    let config = config.clone();
    let plugin = config.auth_info.exec.as_ref().and_then(|plugin| plugin.command.clone());
    let build =
        move || Ok(ClientBuilder::try_from(config)?.with_layer(&MapRequestLayer::new(unpooled)).build());
    // A credential plugin is run here, and waited for.
    let made = tokio::task::spawn_blocking(build).await;
    made.expect("making a client does not panic").map_err(|cause| {
        let context = context.unwrap_or("in-cluster").to_owned();
        match cause {
            kube::Error::Auth(cause) => {
                AccessError::Credentials { context, plugin, reason: plugin_failure(&cause) }
            }
            cause => AccessError::Context { context, reason: cause.to_string() },
        }
    })
}

/// A request whose connection ends with it, unless it becomes a websocket.
fn unpooled(mut request: http::Request<Body>) -> http::Request<Body> {
    let close = http::HeaderValue::from_static("close");
    request.headers_mut().entry(http::header::CONNECTION).or_insert(close);
    request
}

/// What went wrong with a credential plugin, without its standard output, which holds the token, and without its arguments
/// and environment, which may hold one too.
pub(super) fn plugin_failure(error: &AuthError) -> String {
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
        other => other.to_string(),
    }
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
    #[error("there are no credentials for context \"{context}\"{}: {reason}", match plugin {
        Some(plugin) => format!(" from {plugin}"),
        None => String::new(),
    })]
    Credentials {
        /// The context.
        context: String,
        /// The program that gives them.
        plugin: Option<String>,
        /// What failed.
        reason: String,
    },
    /// In a pod, whose service account cannot be used.
    #[error("the service account of this pod cannot be used")]
    ServiceAccount(#[source] InClusterError),
}

impl AccessError {
    fn of_file(path: PathBuf, cause: KubeconfigError) -> AccessError {
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
            AccessError::Credentials { context, .. } => {
                Some(format!("log in as you do for kubectl, and try kubectl --context {context} auth whoami"))
            }
            AccessError::ServiceAccount(_) => Some("mount a service account token into the pod".to_owned()),
            AccessError::Unreadable { .. } | AccessError::Malformed { .. } | AccessError::Context { .. } => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    /// Two contexts; the second one's credentials come from a plugin.
    fn kubeconfig(plugin: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: home\n\
             clusters:\n- name: home\n  cluster: {{ server: 'https://127.0.0.1:1' }}\n\
             contexts:\n\
             - name: home\n  context: {{ cluster: home, user: home, namespace: media }}\n\
             - name: work\n  context: {{ cluster: home, user: plugin }}\n\
             - name: broken\n  context: {{ cluster: nowhere, user: home }}\n\
             users:\n- name: home\n  user: {{ token: hidden-token }}\n\
             - name: plugin\n  user:\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: sh\n      \
             args: ['-c', '{plugin}']\n      interactiveMode: Never\n"
        )
    }

    async fn connect(
        text: &str,
        context: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<ApiServer, AccessError> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config");
        std::fs::write(&file, text).expect("the file is written");
        let (context, namespace) = (context.map(str::to_owned), namespace.map(str::to_owned));
        ApiServer::connect(&Access { kubeconfig: Kubeconfig::File(file), context, namespace }).await
    }

    #[tokio::test]
    async fn context_and_namespace_are_those_that_are_asked_for_or_the_kubeconfigs() {
        let text = kubeconfig("");
        let server = connect(&text, None, None).await.expect("the current context");
        assert_eq!((server.context(), server.namespace()), (Some("home"), "media"));
        let server = connect(&text, Some("home"), Some("photos")).await.expect("this context");
        assert_eq!(server.namespace(), "photos");
        assert!(!format!("{server:?}").contains("hidden"), "{server:?}");
    }

    #[tokio::test]
    async fn an_unknown_context_is_answered_with_those_there_are() {
        let error = connect(&kubeconfig(""), Some("hmoe"), None).await.expect_err("unknown");
        assert_eq!(error.to_string(), "the kubeconfig has no context \"hmoe\"");
        assert_eq!(error.hint().as_deref(), Some("it has home, work, broken"));
        let error = connect(&kubeconfig(""), Some("broken"), None).await.expect_err("no such cluster");
        assert!(error.to_string().contains("nowhere"), "{error}");
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_read_is_named_and_not_repeated() {
        let error = connect("users:\n- name: [hidden-token\n", None, None).await.expect_err("no YAML");
        assert!(error.to_string().contains("config is malformed, line "), "{error}");
        assert!(!format!("{error:?}").contains("hidden"), "{error:?}");
        let missing = PathBuf::from("/nowhere/config");
        let access = |kubeconfig| Access { kubeconfig, context: None, namespace: None };
        let error =
            ApiServer::connect(&access(Kubeconfig::File(missing.clone()))).await.expect_err("missing");
        assert_eq!(error.to_string(), "could not read kubeconfig /nowhere/config");
        let error = ApiServer::connect(&access(Kubeconfig::Usual(vec![missing]))).await.expect_err("no pod");
        assert!(matches!(error, AccessError::NoKubeconfig { .. }), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("/nowhere/config")));
    }

    #[tokio::test]
    async fn a_credential_plugin_that_fails_is_named_without_its_output() {
        let text = kubeconfig("echo hidden-token; echo expired >&2; exit 3");
        let error = connect(&text, Some("work"), None).await.expect_err("the plugin fails");
        assert_eq!(
            error.to_string(),
            "there are no credentials for context \"work\" from sh: the credential plugin failed (exit status: 3): expired"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("kubectl --context work auth whoami")));
        assert!(!format!("{error:?} {error}").contains("hidden"), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_reached_is_named() {
        let server = connect(&kubeconfig(""), None, None).await.expect("nothing is sent yet");
        let error = server.get::<Pod>(&(), "media", "x").await.expect_err("nobody listens there");
        assert_eq!(error.to_string(), "could not get Pod x in namespace media");
        assert!(error.is_retryable());
        let cause = error.cause.to_string();
        assert!(cause.contains("https://127.0.0.1:1/") && cause.contains("refused"), "{cause}");
    }
}
