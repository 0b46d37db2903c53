//! Connections to a server in a pod: the pod is looked for, and a tunnel opened to it, anew for each. An API server or a pod
//! that restarts is waited for, as long as a server may take to be connected to.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{connect_error, tls_connect, within};
use super::connect_error::{ConnectError, Refusal};
use super::conninfo::ConnInfo;
use super::session::Endpoint;
use crate::kubernetes::{Pinned, Route, Tunnel};

/// How long after an attempt the next one follows.
const WAIT: Duration = Duration::from_secs(1);

/// What sets TLS up within a tunnel.
pub(crate) type TunnelTls = <MakeRustlsConnect as MakeTlsConnect<Tunnel>>::TlsConnect;

/// A tunnel to the pod that is there now, with TLS set up for it if that is wanted within the tunnel too.
pub(crate) async fn open_tunnel(conninfo: &ConnInfo) -> Result<(Tunnel, Option<TunnelTls>), Refusal> {
    let tls = tls_connect::<Tunnel>(conninfo)?;
    let tunnel = patiently(conninfo, |route: Arc<Route>| async move {
        let at = route.resolve().await.map_err(Refusal::NoPod)?;
        Tunnel::open(&route.server, &at).await.map_err(Refusal::Tunnel)
    });
    Ok((tunnel.await?, tls))
}

/// The server in a pod as its cluster tells it now.
///
/// # Panics
/// If the server is in no pod: a defect of the caller.
pub(crate) async fn look(endpoint: &Endpoint) -> Result<Pinned, ConnectError> {
    let conninfo = &endpoint.conninfo;
    let looked =
        patiently(
            conninfo,
            |route: Arc<Route>| async move { Pinned::look(&route).await.map_err(Refusal::NoPod) },
        );
    looked.await.map_err(|refusal| connect_error(conninfo, endpoint.side, refusal))
}

/// Whether the cluster knows another password than this, which the server has refused.
pub(super) async fn renew(conninfo: &ConnInfo, refused: Option<SecretString>) -> bool {
    let (Some(route), Some(renewal), Some(refused)) = (conninfo.route(), conninfo.renewal(), refused) else {
        return false;
    };
    let (route, renewal, user) = (Arc::clone(route), Arc::clone(renewal), conninfo.user().to_owned());
    let reading = tokio::spawn(async move { renewal.renew(&route, &user, &refused).await });
    AbortOnDropHandle::new(reading).await.expect("it does not panic, and is not aborted while it is awaited")
}

/// Makes attempts as long as what is in the way may pass.
async fn patiently<T, F>(conninfo: &ConnInfo, attempt: impl Fn(Arc<Route>) -> F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Refusal>> + Send + 'static,
{
    let route = conninfo.route().expect("the caller has looked");
    let mut passing = None;
    let attempts = async {
        loop {
            // On a stack of its own: kube's layers are deep, and connections are opened deep within a run.
            let attempt = AbortOnDropHandle::new(tokio::spawn(attempt(Arc::clone(route))));
            match attempt.await.expect("it does not panic, and is not aborted while it is awaited") {
                Err(refusal) if refusal.is_passing() => passing = Some(refusal),
                outcome => return outcome,
            }
            tokio::time::sleep(WAIT).await;
        }
    };
    let outcome = within(conninfo.connect_timeout(), attempts).await;
    outcome.map_err(|timeout| passing.unwrap_or(timeout))?
}
