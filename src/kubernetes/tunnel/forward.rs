//! The port-forward protocol over a websocket: `v4.channel.k8s.io` with one port.
//!
//! Each frame is binary and begins with the number of its channel: 0 carries the connection's bytes both ways, 1 the
//! node's words about why it gave up. The server's first frame on each is the port, 16 bits little-endian (Kubernetes,
//! `k8s.io/cri-streaming/pkg/streaming/portforward/websocket.go`). When the pod's end of the connection is closed the
//! server closes the websocket with code 1000.
//!
//! There is no task: reading and writing poll the websocket directly, which saves a copy and a thread's switch for each
//! frame. Pings are sent from where the tunnel is read, since whoever waits for an answer reads; a tunnel that nobody
//! reads either has bytes waiting, or its user waits for something else and finds out when it reads again.
//!
//! A ping keeps load balancers from dropping the connection, and shows that the other side lives; the node itself counts
//! only frames of a channel, and cuts a stream that has had none for `streamingConnectionIdleTimeout` (4 h, on Talos 5 min;
//! `k8s.io/apimachinery/pkg/util/httpstream/wsstream/conn.go`, where pings are answered beneath). So an empty frame goes
//! with each ping, of which the server in the pod gets nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::TunnelCause;
use crate::pg::server_error::describe_chain;

/// How much of the connection's bytes a frame carries at most: containerd was measured fastest at 64 KiB. That is what a
/// lane gathers before it hands its rows over; the last row and the message's head go with them, or each such frame would
/// be followed by a tiny one.
pub(super) const FRAME: usize = 72 * 1024;

/// How much is read at once: TLS gives a record, of 16 KiB at most. The buffer is zeroed before each read, so the
/// library's own 128 KiB cost more than the read itself.
const READ: usize = 16 * 1024;

/// Load balancers drop connections that were idle for a minute, at the shortest.
const PING: Duration = Duration::from_secs(25);

/// How many pings in a row may go unanswered: three minutes, since a server that takes no bytes for a while (a
/// checkpoint on a slow disk) also holds back the answers behind them.
const UNANSWERED: u32 = 7;

/// How long the other side is waited for after we closed.
const CLOSE: Duration = Duration::from_secs(5);

/// The channels of the one port.
const DATA: u8 = 0;
const ERROR: u8 = 1;

/// One forwarded port.
#[derive(Debug)]
pub(super) struct Forward<S> {
    socket: WebSocketStream<S>,
    port: u16,
    /// Which of the channels have told their port.
    greeted: [bool; 2],
    /// What is left of the last frame.
    incoming: Bytes,
    /// Until the next ping.
    timer: Pin<Box<Sleep>>,
    unanswered: u32,
    /// Whether a frame may still be in the websocket's buffer.
    is_unflushed: bool,
    /// Whether a writer waits, since the other side takes no bytes at the moment.
    is_blocked: bool,
    /// How reading ended.
    end: Option<Result<(), TunnelCause>>,
    closing: Option<Closing>,
}

#[derive(Debug)]
struct Closing {
    is_sent: bool,
    limit: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Forward<S> {
    /// Over a connection that has become a websocket, of which nothing was read.
    pub(super) async fn new(connection: S, port: u16) -> Self {
        // A frame is written when it is there: gathered, what TLS does not take at once would be moved again and again.
        let config = WebSocketConfig::default().read_buffer_size(READ).write_buffer_size(0);
        Forward {
            socket: WebSocketStream::from_raw_socket(connection, Role::Client, Some(config)).await,
            port,
            greeted: [false; 2],
            incoming: Bytes::new(),
            timer: Box::pin(sleep(PING)),
            unanswered: 0,
            is_unflushed: false,
            is_blocked: false,
            end: None,
            closing: None,
        }
    }

    /// Waits until both channels have told their port. What is read must not be lost when a tunnel is closed at once:
    /// a socket that is closed with unread bytes is reset, and takes what it had sent along.
    pub(super) async fn greeting(&mut self) -> Result<(), TunnelCause> {
        while self.greeted != [true; 2] {
            match poll_fn(|context| self.poll_message(context)).await? {
                Some(data) if self.incoming.is_empty() => self.incoming = data,
                Some(data) => self.incoming = [&self.incoming[..], &data].concat().into(),
                None => return Err(TunnelCause::Closed("before it was open".to_owned())),
            }
        }
        Ok(())
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), TunnelCause>> {
        if self.closing.is_some() {
            return Poll::Ready(Ok(()));
        }
        while self.incoming.is_empty() {
            if let Some(end) = &self.end {
                return Poll::Ready(end.clone());
            }
            match ready!(self.poll_message(context)) {
                Ok(Some(data)) => self.incoming = data,
                Ok(None) => self.end = Some(Ok(())),
                Err(cause) => self.end = Some(Err(cause)),
            }
        }
        let length = self.incoming.len().min(buffer.remaining());
        buffer.put_slice(&self.incoming.split_to(length));
        Poll::Ready(Ok(()))
    }

    /// What the next message brings of the connection's bytes; `None` when the server in the pod closed its connection,
    /// which is an end as any stream has it.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, TunnelCause>> {
        let Poll::Ready(message) = self.socket.poll_next_unpin(context) else {
            // Whoever reads waits for an answer to what was written, flushed or not: tokio-postgres asks for TLS without.
            if self.is_unflushed && !self.is_blocked {
                let flushed = self.socket.poll_flush_unpin(context);
                self.is_unflushed = flushed.is_pending();
                if let Poll::Ready(Err(error)) = flushed {
                    return Poll::Ready(Err(broken(&error)));
                }
            }
            return self.poll_alive(context).map(Err);
        };
        self.unanswered = 0;
        Poll::Ready(match message {
            Some(Ok(Message::Close(Some(CloseFrame { code: CloseCode::Normal, .. })))) => Ok(None),
            Some(Ok(Message::Close(frame))) => Err(TunnelCause::Closed(describe_close(frame.as_ref()))),
            Some(Ok(message)) => self.take(message).map(Some),
            Some(Err(error)) => Err(broken(&error)),
            None => Err(TunnelCause::Broken("the connection to the API server ended".to_owned())),
        })
    }

    /// The connection's bytes in a message, if it has any.
    fn take(&mut self, message: Message) -> Result<Bytes, TunnelCause> {
        let mut frame = match message {
            Message::Binary(frame) => frame,
            // The websocket answers pings by itself.
            Message::Ping(_) | Message::Pong(_) => return Ok(Bytes::new()),
            other => return Err(TunnelCause::Protocol(format!("a frame that is not binary came: {other}"))),
        };
        let channel = frame.first().copied();
        let Some(channel @ (DATA | ERROR)) = channel else {
            return Err(TunnelCause::Protocol(format!("a frame of channel {channel:?} came")));
        };
        let content = frame.split_off(1);
        let greeted = &mut self.greeted[usize::from(channel)];
        if content.is_empty() {
            Ok(content)
        } else if !*greeted {
            *greeted = true;
            if content[..] == self.port.to_le_bytes() {
                Ok(Bytes::new())
            } else {
                Err(TunnelCause::Protocol(format!("channel {channel} did not begin with port {}", self.port)))
            }
        } else if channel == DATA {
            Ok(content)
        } else {
            Err(TunnelCause::Forward(String::from_utf8_lossy(&content).trim().to_owned()))
        }
    }

    /// Sends pings and empty frames while nothing comes; ready when nothing came for too long.
    fn poll_alive(&mut self, context: &mut Context<'_>) -> Poll<TunnelCause> {
        while self.timer.as_mut().poll(context).is_ready() {
            self.timer.as_mut().reset(Instant::now() + PING);
            // A ping would wait behind the bytes that are not taken, and take the writer's place as the one to be woken.
            if self.is_blocked {
                continue;
            }
            if self.unanswered == UNANSWERED {
                return Poll::Ready(TunnelCause::Silent(PING * (UNANSWERED + 1)));
            }
            self.unanswered += 1;
            let mut socket = Pin::new(&mut self.socket);
            for message in [Message::Ping(Bytes::new()), Message::Binary(Bytes::from_static(&[DATA]))] {
                if let Poll::Ready(Ok(())) = socket.as_mut().poll_ready(context)
                    && socket.as_mut().start_send(message).is_ok()
                {
                    // What does not leave now leaves with the next frame; a connection that is broken is found by reading.
                    let _ = socket.as_mut().poll_flush(context);
                }
            }
        }
        Poll::Pending
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, TunnelCause>> {
        let is_ready = self.socket.poll_ready_unpin(context);
        self.is_blocked = is_ready.is_pending();
        ready!(is_ready).map_err(|error| broken(&error))?;
        let length = bytes.len().min(FRAME);
        let mut frame = BytesMut::with_capacity(1 + length);
        frame.put_u8(DATA);
        frame.put_slice(&bytes[..length]);
        self.socket.start_send_unpin(Message::Binary(frame.freeze())).map_err(|error| broken(&error))?;
        self.is_unflushed = true;
        Poll::Ready(Ok(length))
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TunnelCause>> {
        let is_flushed = self.socket.poll_flush_unpin(context);
        self.is_blocked = is_flushed.is_pending();
        self.is_unflushed = is_flushed.is_pending();
        is_flushed.map_err(|error| broken(&error))
    }

    /// Closes the websocket and waits a moment until the other side did, too. A client closes when it has sent its last
    /// message, so whatever happens now, a reset above all, is a good end.
    pub(super) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let closing =
            self.closing.get_or_insert_with(|| Closing { is_sent: false, limit: Box::pin(sleep(CLOSE)) });
        if closing.limit.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut socket = Pin::new(&mut self.socket);
        if !closing.is_sent {
            if ready!(socket.as_mut().poll_close(context)).is_err() {
                return Poll::Ready(());
            }
            closing.is_sent = true;
        }
        while let Some(Ok(message)) = ready!(socket.as_mut().poll_next(context)) {
            if matches!(message, Message::Close(_)) {
                break;
            }
        }
        Poll::Ready(())
    }
}

fn broken(error: &SocketError) -> TunnelCause {
    TunnelCause::Broken(describe_chain(error))
}

fn describe_close(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) if frame.reason.is_empty() => format!("code {}", frame.code),
        Some(frame) => format!("code {}, {}", frame.code, frame.reason),
        None => "without a code".to_owned(),
    }
}
