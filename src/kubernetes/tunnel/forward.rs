//! The port-forward protocol over a websocket: `SPDY/3.1+portforward.k8s.io` with one port.
//!
//! The websocket ends at the API server, which takes the bytes of SPDY out of its messages and passes them on to the node
//! (Kubernetes 1.31 and later, KEP-4006; `k8s.io/apiserver/pkg/util/proxy/streamtunnel.go`). That is kubectl's way too. The
//! older one, `v4.channel.k8s.io`, is a websocket up to the node, whose library unmasks what comes byte by byte.
//!
//! There is no task: reading and writing poll the websocket directly, which saves a copy and a thread's switch for each
//! frame. Pings are sent from where the tunnel is read, since whoever waits for an answer reads; a tunnel that nobody
//! reads either has bytes waiting, or its user waits for something else and finds out when it reads again.
//!
//! A ping is one of SPDY, so that the node answers it. It keeps load balancers from dropping the connection, and the node from
//! cutting one that is idle for `streamingConnectionIdleTimeout` (4 h, on Talos 5 min). It also shows that the node is gone: when
//! its connection breaks without a word, the API server closes the websocket only when something more comes from here (a lock in
//! streamtunnel.go, 1.34).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::TunnelCause;
use super::spdy::{self, Came, Streams};
use crate::pg::server_error::describe_chain;

/// How much of the connection's bytes a frame carries at most: what a lane hands over at once, with its last row, or each such frame
/// would be followed by a tiny one.
pub(super) const FRAME: usize = 64 * 1024;

/// How much is read at once: TLS gives a record, of 16 KiB at most. The buffer is zeroed before each read, so the
/// library's own 128 KiB cost more than the read itself.
const READ: usize = 16 * 1024;

/// So many bytes of a server that speaks first are kept until both streams are accepted.
const EARLY: usize = 16 * 1024;

/// Load balancers drop connections that were idle for a minute, at the shortest.
const PING: Duration = Duration::from_secs(25);

/// How many pings in a row may go unanswered: three minutes, since a server that takes no bytes for a while (a
/// checkpoint on a slow disk) also holds back the answers behind them.
const UNANSWERED: u32 = 7;

/// How long the other side is waited for after we closed.
const CLOSE: Duration = Duration::from_secs(5);

/// One forwarded port.
#[derive(Debug)]
pub(super) struct Forward<S> {
    socket: WebSocketStream<S>,
    streams: Streams,
    /// What is left of the last frame's bytes.
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
    step: Step,
    limit: Pin<Box<Sleep>>,
}

/// What is next when a tunnel is closed.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// To end the stream.
    End,
    /// To wait until the other side has ended it, too.
    Ended,
    /// To close the websocket.
    Close,
    /// To wait until it is closed.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Forward<S> {
    /// Over a connection that has become a websocket, of which nothing was read. Waits until the node has accepted both
    /// streams.
    pub(super) async fn open(connection: S, port: u16) -> Result<Self, TunnelCause> {
        // A frame is written when it is there: gathered, what TLS does not take at once would be moved again and again.
        let config = WebSocketConfig::default().read_buffer_size(READ).write_buffer_size(0);
        let mut forward = Forward {
            socket: WebSocketStream::from_raw_socket(connection, Role::Client, Some(config)).await,
            streams: Streams::default(),
            incoming: Bytes::new(),
            timer: Box::pin(sleep(PING)),
            unanswered: 0,
            is_unflushed: false,
            is_blocked: false,
            end: None,
            closing: None,
        };
        let opening = Message::Binary(spdy::opening(port));
        forward.socket.send(opening).await.map_err(|error| broken(&error))?;
        loop {
            match poll_fn(|context| forward.poll_message(context)).await? {
                Came::Open => return Ok(forward),
                Came::Bytes(bytes) if forward.incoming.len() < EARLY => {
                    forward.incoming = [&forward.incoming[..], &bytes].concat().into();
                }
                Came::Bytes(_) => {
                    return Err(TunnelCause::Protocol(
                        "bytes came, and no end of them, before it was open".to_owned(),
                    ));
                }
                Came::End => return Err(TunnelCause::Closed("before it was open".to_owned())),
            }
        }
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
                Ok(Came::Bytes(bytes)) => self.incoming = bytes,
                Ok(Came::Open) => {}
                Ok(Came::End) => self.end = Some(Ok(())),
                Err(cause) => self.end = Some(Err(cause)),
            }
        }
        let length = self.incoming.len().min(buffer.remaining());
        buffer.put_slice(&self.incoming.split_to(length));
        Poll::Ready(Ok(()))
    }

    /// What comes next.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Came, TunnelCause>> {
        loop {
            if let Some(came) = self.streams.next()? {
                return Poll::Ready(Ok(came));
            }
            if !self.is_blocked
                && let Some(answer) = self.streams.answer()
            {
                self.send_aside(answer, context);
            }
            let Poll::Ready(message) = self.socket.poll_next_unpin(context) else {
                // Whoever reads waits for an answer to what was written, flushed or not: tokio-postgres asks for TLS without.
                if self.is_unflushed && !self.is_blocked {
                    let flushed = self.socket.poll_flush_unpin(context);
                    self.is_unflushed = flushed.is_pending();
                    if let Poll::Ready(Err(error)) = flushed {
                        return Poll::Ready(Err(self.failed(&error)));
                    }
                }
                return self.poll_alive(context).map(Err);
            };
            self.unanswered = 0;
            let cause = match message {
                Some(Ok(Message::Binary(bytes))) => {
                    self.streams.feed(bytes);
                    continue;
                }
                // The websocket answers pings by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(frame))) => TunnelCause::Closed(describe_close(frame.as_ref())),
                Some(Ok(_)) => TunnelCause::Protocol("a message that is not binary came".to_owned()),
                Some(Err(error)) => broken(&error),
                None => TunnelCause::Broken("the connection to the API server ended".to_owned()),
            };
            return Poll::Ready(Err(self.streams.broken(cause)));
        }
    }

    /// Sends what is not the connection's bytes, if there is room.
    fn send_aside(&mut self, frame: Bytes, context: &mut Context<'_>) {
        if let Poll::Ready(Ok(())) = self.socket.poll_ready_unpin(context)
            && self.socket.start_send_unpin(Message::Binary(frame)).is_ok()
        {
            // What does not leave now leaves with the next frame; a connection that is broken is found by reading.
            let _ = self.socket.poll_flush_unpin(context);
        }
    }

    /// Sends pings while nothing comes; ready when nothing came for too long.
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
            self.send_aside(spdy::ping(), context);
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
        ready!(is_ready).map_err(|error| self.failed(&error))?;
        let length = bytes.len().min(FRAME);
        let frame = Message::Binary(spdy::data(&bytes[..length]));
        self.socket.start_send_unpin(frame).map_err(|error| self.failed(&error))?;
        self.is_unflushed = true;
        Poll::Ready(Ok(length))
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TunnelCause>> {
        let is_flushed = self.socket.poll_flush_unpin(context);
        self.is_blocked = is_flushed.is_pending();
        self.is_unflushed = is_flushed.is_pending();
        is_flushed.map_err(|error| self.failed(&error))
    }

    /// Why the connection broke, or what the node had said before.
    fn failed(&self, error: &SocketError) -> TunnelCause {
        self.streams.broken(broken(error))
    }

    /// Ends the stream and closes the websocket, and waits a moment until the other side did, too. A client closes when it has
    /// sent its last message, so whatever happens now, a reset above all, is a good end.
    pub(super) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let first = if self.end.is_some() { Step::Close } else { Step::End };
        let closing =
            self.closing.get_or_insert_with(|| Closing { step: first, limit: Box::pin(sleep(CLOSE)) });
        if closing.limit.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut step = closing.step;
        loop {
            let next = self.poll_step(step, context);
            let Poll::Ready(Some(next)) = next else { return next.map(drop) };
            step = next;
            self.closing.as_mut().expect("it was set above").step = next;
        }
    }

    /// A step of closing, and the next one; none after the last, and when the connection is broken.
    fn poll_step(&mut self, step: Step, context: &mut Context<'_>) -> Poll<Option<Step>> {
        Poll::Ready(match step {
            Step::End => {
                let is_ready = ready!(self.socket.poll_ready_unpin(context));
                let sent = is_ready.and_then(|()| self.socket.start_send_unpin(Message::Binary(spdy::end())));
                sent.is_ok().then_some(Step::Ended)
            }
            Step::Ended => {
                let is_flushed = ready!(self.socket.poll_flush_unpin(context)).is_ok();
                while is_flushed && !matches!(ready!(self.poll_message(context)), Ok(Came::End) | Err(_)) {}
                is_flushed.then_some(Step::Close)
            }
            Step::Close => ready!(self.socket.poll_close_unpin(context)).is_ok().then_some(Step::Closed),
            Step::Closed => {
                let more = ready!(self.socket.poll_next_unpin(context));
                matches!(more, Some(Ok(message)) if !message.is_close()).then_some(Step::Closed)
            }
        })
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
