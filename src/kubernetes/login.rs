//! From an object to a connection: the login that the cluster knows, over tunnels to the pod behind the object.

use std::sync::{Arc, PoisonError, RwLock};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::cluster::{Account, ClusterError, login};
use super::credentials::{CredentialError, Credentials, SecretChoice};
use super::object::Kind;
use super::orphan::Orphan;
use super::request::ApiError;
use super::workload::{ResolveError, Route};
use crate::error::{Class, Fault};
use crate::pg::{ConnInfo, ConnInfoError, Defaults};

/// The connection string of the server behind an object. What `secret` holds goes before what the object tells.
pub async fn conninfo(
    route: Route,
    secret: Option<&SecretChoice>,
    account: Account,
) -> Result<ConnInfo, LoginError> {
    let (credentials, host) = if route.object.kind == Kind::Cluster {
        (login(&route, secret, account).await?, format!("{}-rw", route.object.name))
    } else {
        let found = match route.find().await {
            Ok(found) => found,
            Err(error) => return Err(gone(&route, error).await),
        };
        (Credentials::find(&route.server, &found, secret).await?, route.object.name.clone())
    };
    let Credentials { user, password, database } = credentials;
    let quoted = |value: &str| format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"));
    // The connection to the API server is encrypted, and no certificate names a pod.
    let text = format!(
        "user={} dbname={} host={} sslmode=disable",
        quoted(&user.value),
        quoted(&database.value),
        quoted(&host)
    );
    let conninfo = ConnInfo::parse(&text, &Defaults::default())?;
    let conninfo = match password {
        Some(password) => conninfo
            .with_password(password.value)
            .renewed_by(Arc::new(Renewal::new(secret.cloned(), account))),
        None => conninfo,
    };
    Ok(conninfo.in_pod(Arc::new(route)))
}

/// A password that the cluster knows, and may know better than whoever has read it a while ago: Secrets are rotated.
#[derive(Debug)]
pub struct Renewal {
    secret: Option<SecretChoice>,
    account: Account,
    /// What was read last, once the first one was refused.
    latest: RwLock<Option<SecretString>>,
    /// One at a time reads, for all that are refused.
    reading: Mutex<()>,
}

impl Renewal {
    fn new(secret: Option<SecretChoice>, account: Account) -> Renewal {
        Renewal { secret, account, latest: RwLock::default(), reading: Mutex::default() }
    }

    /// The password, if it was read again.
    pub fn latest(&self) -> Option<SecretString> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the login again after the server has refused `former`. Whether it has another password now.
    pub async fn renew(&self, route: &Route, user: &str, former: &SecretString) -> bool {
        let _reading = self.reading.lock().await;
        let is_other = |password: &SecretString| password.expose_secret() != former.expose_secret();
        if self.latest().is_some_and(|latest| is_other(&latest)) {
            return true;
        }
        // That it cannot be read does not make the refused password a better one.
        let Ok(found) = conninfo(route.clone(), self.secret.as_ref(), self.account).await else {
            return false;
        };
        let Some(password) = found.password().filter(|found| is_other(found)) else { return false };
        if found.user() != user {
            return false;
        }
        *self.latest.write().unwrap_or_else(PoisonError::into_inner) = Some(password);
        true
    }
}

/// The error of a workload that is not there, with what it left behind.
async fn gone(route: &Route, error: ResolveError) -> LoginError {
    let is_gone = matches!(&error, ResolveError::Api(ApiError { request, .. } ) if request.kind == route.object.kind.name())
        && matches!(&error, ResolveError::Api(error) if error.is_not_found());
    if is_gone && matches!(route.object.kind, Kind::StatefulSet | Kind::Deployment) {
        // That claims cannot be listed is no second error: the first one says what to do.
        let orphans = Orphan::look(route).await.unwrap_or_default();
        if let Some(orphan) = orphans.into_iter().next() {
            return LoginError::Gone(Box::new(orphan));
        }
    }
    LoginError::Resolve(error)
}

/// Why there is no connection string.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No server behind the object.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The workload is gone, and its data are left.
    #[error("{}", .0.finding().title)]
    Gone(Box<Orphan>),
    /// A Cluster without the login.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No login in the environment or the Secret.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A login that cannot be written as a connection string.
    #[error(transparent)]
    ConnInfo(#[from] ConnInfoError),
}

impl LoginError {
    fn fault(&self) -> Option<&dyn Fault> {
        match self {
            LoginError::Resolve(error) => Some(error),
            LoginError::Gone(_) => None,
            LoginError::Cluster(error) => Some(error),
            LoginError::Credentials(error) => Some(error),
            LoginError::ConnInfo(error) => Some(error),
        }
    }
}

impl Fault for LoginError {
    fn class(&self) -> Class {
        self.fault().map_or(Class::User, Fault::class)
    }

    fn is_retryable(&self) -> bool {
        self.fault().is_some_and(Fault::is_retryable)
    }

    fn hint(&self) -> Option<String> {
        match self {
            LoginError::Gone(orphan) => Some(orphan.finding().remedy),
            other => other.fault()?.hint(),
        }
    }
}
