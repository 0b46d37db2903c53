//! SPDY/3.1 as port-forward speaks it: two streams, one for the connection's bytes both ways, one for the node's words
//! about why it gave up (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>; Kubernetes,
//! `k8s.io/cri-streaming/pkg/streaming/portforward/httpstream.go`). Bytes in, bytes out: what carries them is not known here.
//!
//! The node ends both streams when the server in the pod closes its connection, and resets them when it has given up, with its
//! words before. It has no flow control of its own (`github.com/moby/spdystream`), so what carries the bytes holds them back.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::TunnelCause;

/// The ids of the streams: odd, since the client opens them, and in rising order.
const ERROR: u32 = 1;
const DATA: u32 = 3;

/// Each frame begins with so many bytes: what it is, flags, and the length of the rest.
const HEAD: usize = 8;

/// In the first bit of the head, and the version after it.
const CONTROL: u16 = 0x8003;

/// Control frames by their type.
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;

/// The last frame of its stream in this direction.
const FIN: u8 = 1;

/// Control frames are short; a longer one is none.
const LONGEST: usize = 1 << 16;

/// So much of the node's words is kept.
const WORDS: usize = 4096;

/// Both streams of a tunnel, seen from the client.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// What has come and was not looked at.
    received: Bytes,
    /// What has come of a head, or of a control frame after it.
    begun: BytesMut,
    /// The frame whose head has come.
    frame: Option<Frame>,
    is_accepted: [bool; 2],
    has_ended: [bool; 2],
    /// Of the node.
    words: Vec<u8>,
    /// A ping of the other side that was not answered.
    asked: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    flags: u8,
    /// How much of it has not come.
    left: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Data { stream: u32 },
    Control { number: u16 },
}

/// What a frame brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// The node has accepted both streams. What it gets on a stream that it refuses, it drops silently.
    Open,
    /// The connection's bytes.
    Bytes(Bytes),
    /// The server in the pod has closed its connection.
    End,
}

impl Streams {
    /// Takes what has come after all before was looked at.
    pub(super) fn feed(&mut self, bytes: Bytes) {
        debug_assert!(self.received.is_empty(), "it would be lost");
        self.received = bytes;
    }

    /// What it brings next; nothing if more has to come. An end stays one.
    pub(super) fn next(&mut self) -> Result<Option<Came>, TunnelCause> {
        loop {
            let Some(frame) = self.frame else {
                match self.has_ended {
                    [true, _] if !self.words.is_empty() => return Err(self.given_up()),
                    [true, true] => return Ok(Some(Came::End)),
                    _ => {}
                }
                if !self.gather(HEAD) {
                    return Ok(None);
                }
                self.frame = Some(Frame::of(self.begun.split())?);
                continue;
            };
            match frame.kind {
                Kind::Data { stream } => {
                    let part = self.received.split_to(frame.left.min(self.received.len()));
                    let left = frame.left - part.len();
                    self.frame = (left > 0).then_some(Frame { left, ..frame });
                    if left > 0 && part.is_empty() {
                        return Ok(None);
                    }
                    let bytes = self.data(stream, part)?;
                    if left == 0 && frame.flags & FIN != 0 {
                        self.ended(stream);
                    }
                    if !bytes.is_empty() {
                        return Ok(Some(Came::Bytes(bytes)));
                    }
                }
                Kind::Control { number } => {
                    if !self.gather(frame.left) {
                        return Ok(None);
                    }
                    self.frame = None;
                    let content = self.begun.split();
                    let were_open = self.is_accepted == [true; 2];
                    self.control(number, frame.flags, content)?;
                    if !were_open && self.is_accepted == [true; 2] {
                        return Ok(Some(Came::Open));
                    }
                }
            }
        }
    }

    /// Why it is no more, when what carries the bytes has ended before the streams.
    pub(super) fn broken(&self, cause: TunnelCause) -> TunnelCause {
        if self.words.is_empty() { cause } else { self.given_up() }
    }

    /// The answer to a ping of the other side.
    pub(super) fn answer(&mut self) -> Option<Bytes> {
        self.asked.take().map(ping_of)
    }

    fn gather(&mut self, length: usize) -> bool {
        let missing = length - self.begun.len();
        self.begun.put(self.received.split_to(missing.min(self.received.len())));
        self.begun.len() == length
    }

    /// The connection's bytes in a part of a frame.
    fn data(&mut self, stream: u32, part: Bytes) -> Result<Bytes, TunnelCause> {
        match stream {
            DATA if self.has_ended[1] && !part.is_empty() => {
                Err(TunnelCause::Protocol("bytes came after their end".to_owned()))
            }
            DATA => Ok(part),
            _ => {
                let room = WORDS - self.words.len();
                self.words.extend_from_slice(&part[..part.len().min(room)]);
                Ok(Bytes::new())
            }
        }
    }

    fn ended(&mut self, stream: u32) {
        self.has_ended[usize::from(stream == DATA)] = true;
    }

    fn given_up(&self) -> TunnelCause {
        TunnelCause::Forward(String::from_utf8_lossy(&self.words).trim().to_owned())
    }

    fn control(&mut self, number: u16, flags: u8, mut content: BytesMut) -> Result<(), TunnelCause> {
        if !matches!(number, SYN_REPLY | RST_STREAM | PING) {
            // Settings, windows, a farewell: nothing that two streams need.
            return Ok(());
        }
        let Ok(id) = content.try_get_u32() else {
            return Err(TunnelCause::Protocol(format!("a frame of type {number} without an id came")));
        };
        match number {
            PING => {
                // Ours are odd, and this is their answer.
                self.asked = (id % 2 == 0).then_some(id).or(self.asked);
                Ok(())
            }
            RST_STREAM => {
                let status = content.try_get_u32().unwrap_or_default();
                let cause = TunnelCause::Closed(format!("stream {id} was reset with status {status}"));
                Err(self.broken(cause))
            }
            _ if id != ERROR && id != DATA => {
                Err(TunnelCause::Protocol(format!("stream {id} was accepted, which nobody opened")))
            }
            _ => {
                self.is_accepted[usize::from(id == DATA)] = true;
                if flags & FIN != 0 {
                    self.ended(id);
                }
                Ok(())
            }
        }
    }
}

impl Frame {
    fn of(mut head: BytesMut) -> Result<Frame, TunnelCause> {
        let (first, second, flags) = (head.get_u16(), head.get_u16(), head.get_u8());
        let left = usize::try_from(head.get_uint(3)).expect("24 bits");
        let kind = match (u32::from(first) << 16 | u32::from(second), first) {
            (stream @ (ERROR | DATA), _) => Kind::Data { stream },
            (_, CONTROL) if left <= LONGEST => Kind::Control { number: second },
            (other, _) => {
                return Err(TunnelCause::Protocol(format!("a frame that begins with {other:08x} came")));
            }
        };
        Ok(Frame { kind, flags, left })
    }
}

/// Opens both streams to a port.
pub(super) fn opening(port: u16) -> Bytes {
    let mut bytes = BytesMut::new();
    // The node's words go one way.
    syn_stream(&mut bytes, (ERROR, FIN), "error", port);
    syn_stream(&mut bytes, (DATA, 0), "data", port);
    bytes.freeze()
}

/// A frame of the connection's bytes.
pub(super) fn data(content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + content.len());
    bytes.put_u32(DATA);
    put_flags_and_length(&mut bytes, 0, content.len());
    bytes.put_slice(content);
    bytes.freeze()
}

/// The client will send no more.
pub(super) fn end() -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(DATA);
    put_flags_and_length(&mut bytes, FIN, 0);
    bytes.freeze()
}

/// Asks for a sign of life.
pub(super) fn ping() -> Bytes {
    ping_of(1)
}

fn ping_of(id: u32) -> Bytes {
    let mut bytes = BytesMut::new();
    put_control(&mut bytes, PING, 0, 4);
    bytes.put_u32(id);
    bytes.freeze()
}

fn syn_stream(bytes: &mut BytesMut, (id, flags): (u32, u8), kind: &str, port: u16) {
    let mut headers = BytesMut::new();
    let all = [("streamtype", kind), ("port", &port.to_string()), ("requestid", "0")];
    headers.put_u32(3);
    for text in all.iter().flat_map(|(name, value)| [name, value]) {
        headers.put_u32(u32::try_from(text.len()).expect("a short word"));
        headers.put_slice(text.as_bytes());
    }
    // All headers of a connection are one zlib stream (RFC 1950), here of blocks that are stored as they are (RFC 1951, 3.2.4);
    // an empty one makes whoever inflates them give out what came before.
    let mut block = BytesMut::new();
    if id == ERROR {
        block.put_slice(&[0x78, 0x01]);
    }
    for stored in [&headers[..], &[]] {
        let length = u16::try_from(stored.len()).expect("three short headers");
        block.put_u8(0);
        block.put_u16_le(length);
        block.put_u16_le(!length);
        block.put_slice(stored);
    }
    put_control(bytes, SYN_STREAM, flags, 10 + block.len());
    bytes.put_u32(id);
    // Beside no other stream, of the highest priority.
    bytes.put_slice(&[0; 6]);
    bytes.put(block);
}

fn put_control(bytes: &mut BytesMut, number: u16, flags: u8, length: usize) {
    bytes.put_u16(CONTROL);
    bytes.put_u16(number);
    put_flags_and_length(bytes, flags, length);
}

fn put_flags_and_length(bytes: &mut BytesMut, flags: u8, length: usize) {
    bytes.put_u8(flags);
    bytes.put_uint(length as u64, 3);
}
