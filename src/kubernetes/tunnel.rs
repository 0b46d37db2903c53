//! A tunnel: one PostgreSQL connection, carried by one websocket to `pods/portforward`.
//!
//! [`Tunnel::open`] asks the API server for the websocket and gives a byte stream to the port of the pod, without a port
//! on this machine. Nothing is shared between tunnels, so that one that is slow or breaks holds up no other. It has a
//! limit to what it holds (a message each way, and the websocket's own buffers), and reading and writing do not wait for
//! each other. A tunnel that breaks gives an [`std::io::Error`] with a [`BrokenTunnel`] inside; whoever was using it opens
//! another one, to the pod that is there then.
//!
//! Frames are our own: kube's `Portforwarder` sends 4 KiB in each, needs a task and a copy more, and never pings.
//! It has no half-close: the node closes both directions when the client closes one, so shutting a tunnel down ends it.

mod error;
mod forward;
mod spdy;
#[cfg(test)]
mod tests;
mod upgrade;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ApiServer, PodPort};
use forward::Forward;

pub use error::{BrokenTunnel, TunnelCause, TunnelError};

/// A byte stream to a port of a pod. It must stay on the runtime on which it was opened.
#[derive(Debug)]
pub struct Tunnel {
    /// Pod and port.
    at: String,
    /// On the heap: the futures of every connection hold a tunnel's size several times over.
    forward: Box<Forward<TokioIo<Upgraded>>>,
}

impl Tunnel {
    /// Opens a tunnel. Returns when the pod's node has answered; whether anything listens on the port shows when the
    /// tunnel is first read. It has no limit of its own to the wait.
    pub async fn open(server: &ApiServer, at: &PodPort) -> Result<Tunnel, TunnelError> {
        let pods = kube::core::Request::new(Pod::url_path(&(), Some(&at.namespace)));
        let request = pods.portforward(&at.pod, &[at.port]).expect("one port is what a request can have");
        let connection = upgrade::upgrade(server.client(), request).await;
        let connection = connection.map_err(|error| TunnelError::of(&error, server, at))?;
        let forward = Forward::open(TokioIo::new(connection), at.port).await;
        let forward = forward.map_err(|cause| BrokenTunnel { at: at.to_string(), cause })?;
        Ok(Tunnel { at: at.to_string(), forward: Box::new(forward) })
    }

    fn io_error(&self, cause: TunnelCause) -> io::Error {
        BrokenTunnel { at: self.at.clone(), cause }.into()
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.forward.poll_read(context, buffer).map_err(|cause| self.io_error(cause))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.forward.poll_write(context, bytes).map_err(|cause| self.io_error(cause))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.forward.poll_flush(context).map_err(|cause| self.io_error(cause))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.forward.poll_close(context).map(Ok)
    }
}
