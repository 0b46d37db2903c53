//! The connection to a cluster's API server: from a kubeconfig, or from the account of the pod that pgmove runs in.
//!
//! [`Access`] says which kubeconfig, context and namespace; [`ApiServer::connect`] gives the client. Certificates, tokens,
//! exec and OIDC credential plugins, impersonation and `tls-server-name` are kube's. An error never repeats what a
//! kubeconfig holds, nor what a credential plugin printed to its standard output: both may be secrets.

mod error;

use std::fmt;
use std::io;
use std::path::PathBuf;

use kube::client::{AuthError, Body, ClientBuilder};
use kube::config::{Config, InClusterError, KubeConfigOptions};
use tower::util::MapRequestLayer;

pub use error::AccessError;
pub(super) use error::plugin_failure;

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
    let plugin = config.auth_info.exec.clone();
    let build =
        move || Ok(ClientBuilder::try_from(config)?.with_layer(&MapRequestLayer::new(unpooled)).build());
    // A credential plugin is run here, and waited for.
    let made = tokio::task::spawn_blocking(build).await;
    made.expect("making a client does not panic").map_err(|cause| match cause {
        kube::Error::Auth(cause) => {
            let is_missing =
                matches!(&cause, AuthError::AuthExecStart(error) if error.kind() == io::ErrorKind::NotFound);
            AccessError::Credentials {
                context: context.map(str::to_owned),
                install: plugin
                    .as_ref()
                    .filter(|_| is_missing)
                    .map(|plugin| plugin.install_hint.clone().unwrap_or_default()),
                plugin: plugin.and_then(|plugin| plugin.command),
                reason: plugin_failure(&cause),
            }
        }
        cause => AccessError::Context {
            context: context.unwrap_or("in-cluster").to_owned(),
            reason: cause.to_string(),
        },
    })
}

/// A request whose connection ends with it, unless it becomes a websocket.
fn unpooled(mut request: http::Request<Body>) -> http::Request<Body> {
    let close = http::HeaderValue::from_static("close");
    request.headers_mut().entry(http::header::CONNECTION).or_insert(close);
    request
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::error::Fault;

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
    async fn a_credential_plugin_that_is_missing_is_to_be_installed() {
        let install = "command: nowhere-to-be-found\n      installHint: brew install it";
        for (command, how) in
            [("command: nowhere-to-be-found", ""), (install, "; the kubeconfig says: brew install it")]
        {
            let text = kubeconfig("").replace("command: sh", command);
            let error = connect(&text, Some("work"), None).await.expect_err("it is not there");
            assert_eq!(
                error.to_string(),
                "there are no credentials for context \"work\" from nowhere-to-be-found: the credential plugin could not be \
                 started: No such file or directory (os error 2)"
            );
            let hint = format!("install nowhere-to-be-found, or have its directory in PATH{how}");
            assert_eq!(error.hint().as_deref(), Some(&*hint));
        }
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
