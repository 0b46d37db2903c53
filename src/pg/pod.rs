//! Connections to a server in a pod: the pod is looked for, and a tunnel opened to it, anew for each.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{tls_connect, within};
use super::connect_error::Refusal;
use super::conninfo::ConnInfo;
use crate::kubernetes::{Route, Tunnel};

/// How long after an attempt to open a tunnel the next one follows.
const WAIT: Duration = Duration::from_secs(1);

/// What sets TLS up within a tunnel.
pub(crate) type TunnelTls = <MakeRustlsConnect as MakeTlsConnect<Tunnel>>::TlsConnect;

/// A tunnel to the pod that is there now, with TLS set up for it if that is wanted within the tunnel too. An API server or
/// a pod that restarts is waited for, as long as a server may take to be connected to.
pub(crate) async fn open_tunnel(conninfo: &ConnInfo) -> Result<(Tunnel, Option<TunnelTls>), Refusal> {
    let route = conninfo.route().expect("the caller has looked");
    let tls = tls_connect::<Tunnel>(conninfo)?;
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
    let tunnel = outcome.map_err(|timeout| passing.unwrap_or(timeout))??;
    Ok((tunnel, tls))
}

async fn attempt(route: Arc<Route>) -> Result<Tunnel, Refusal> {
    let at = route.resolve().await.map_err(Refusal::NoPod)?;
    Tunnel::open(&route.server, &at).await.map_err(Refusal::Tunnel)
}
