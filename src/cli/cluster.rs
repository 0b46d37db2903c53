//! The way into a cluster, and to the server behind an object in it, as the options say.

use std::env;
use std::path::PathBuf;

use super::endpoints::{Cluster, ObjectOptions};
use crate::error::{Class, Error, Exit, Fault};
use crate::kubernetes::{self, Access, Account, ApiServer, Kind, Kubeconfig, ObjectRef, Route};
use crate::pg::ConnInfo;
use crate::pg::conninfo::{RootCertificates, SslMode};

impl Cluster {
    /// Where an object is, of which `options` may tell something else than these.
    pub(super) fn access(&self, options: &ObjectOptions<'_>) -> Access {
        let chosen =
            |own: Option<&str>, common: &Option<String>| own.or(common.as_deref()).map(str::to_owned);
        Access {
            kubeconfig: match options.kubeconfig.or(self.kubeconfig.as_deref()) {
                Some(file) => Kubeconfig::File(file.to_owned()),
                None => Kubeconfig::Usual(kubeconfigs()),
            },
            context: chosen(options.context, &self.context),
            namespace: chosen(options.namespace, &self.namespace),
        }
    }

    pub(super) async fn connect(&self, options: &ObjectOptions<'_>) -> Result<ApiServer, Error> {
        connect(&self.access(options)).await
    }
}

pub(super) async fn connect(access: &Access) -> Result<ApiServer, Error> {
    ApiServer::connect(access).await.map_err(|error| {
        // A login that has ended is no setting, and another one is.
        let exit = if error.class() == Class::User { Exit::Usage } else { Exit::Refused };
        Error::new(exit, error)
    })
}

/// Where kubectl looks for a kubeconfig.
fn kubeconfigs() -> Vec<PathBuf> {
    match env::var_os("KUBECONFIG").filter(|files| !files.is_empty()) {
        Some(files) => env::split_paths(&files).collect(),
        None => {
            env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config")).into_iter().collect()
        }
    }
}

/// The connection string of the server behind an object, with the login that the cluster knows.
pub(super) async fn conninfo(
    server: &ApiServer,
    object: &ObjectRef,
    options: &ObjectOptions<'_>,
    account: Account,
) -> Result<ConnInfo, Error> {
    // The Secret that was named holds the login of an ordinary role. Where it is not in a Secret of its own, the
    // superuser's is that of the pod's environment.
    let is_own = account == Account::Application || object.kind == Kind::Cluster;
    let secret = options.secret.filter(|_| is_own);
    let route = Route::new(server.clone(), object.clone(), options.container.map(str::to_owned));
    let conninfo = kubernetes::conninfo(route.clone(), secret, account).await.map_err(refused)?;
    let conninfo = match options.database {
        Some(database) => conninfo.with_database(database),
        None => conninfo,
    };
    let Some(mode) = options.sslmode.map(SslMode::from) else { return Ok(conninfo) };
    let roots = match mode {
        SslMode::VerifyFull => {
            let authority = kubernetes::authority(&route).await.map_err(refused)?;
            Some(RootCertificates::Text { origin: authority.origin, pem: authority.value })
        }
        _ => None,
    };
    Ok(conninfo.with_tls(mode, roots))
}

fn refused(error: impl Fault) -> Error {
    Error::new(Exit::Refused, error)
}
