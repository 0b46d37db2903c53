//! How a cluster is named on the command line, and a server in it reached.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::connections;
use crate::error::{Error, Exit, Fault, Side};
use crate::kubernetes::{self, Access, Account, ApiServer, Kubeconfig, ObjectRef, Route, SecretChoice};
use crate::pg::Endpoint;

/// The cluster, as kubectl's options name it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Cluster {
    /// The namespace of the source and its applications [default: the context's]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, else ~/.kube/config, else the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Cluster {
    pub(super) async fn connect(&self) -> Result<ApiServer, Error> {
        let access = Access {
            kubeconfig: match &self.kubeconfig {
                Some(file) => Kubeconfig::File(file.clone()),
                None => Kubeconfig::Usual(connections::kubeconfigs()),
            },
            context: self.context.clone(),
            namespace: self.namespace.clone(),
        };
        ApiServer::connect(&access).await.map_err(|error| Error::new(Exit::Usage, error))
    }
}

/// The server behind an object, with the login that its pod was made with.
pub(super) async fn endpoint(
    server: &ApiServer,
    source: &ObjectRef,
    secret: Option<&SecretChoice>,
    application_name: &str,
) -> Result<Endpoint, Error> {
    let route = Route::new(server.clone(), source.clone(), None);
    let conninfo = kubernetes::conninfo(route, secret, Account::Application).await.map_err(refused)?;
    Ok(Endpoint {
        side: Side::Source,
        conninfo: Arc::new(conninfo),
        application_name: application_name.to_owned(),
        copy_encoding: None,
    })
}

fn refused(error: impl Fault) -> Error {
    Error::new(Exit::Refused, error)
}
