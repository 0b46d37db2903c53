//! One COPY from the source into one COPY on the target, through this process.
//!
//! A CopyData message holds whole rows: the server sends each row in one (protocol documentation, "COPY
//! Operations"), and the connection puts those together that have come together (`src/pg/copy_stream.rs`). Rows are
//! told apart by the lengths of their fields, without decoding them: each is checked, hashed, converted if it holds
//! a legacy embedding, and appended to a buffer that is handed to the target when it holds [`BUFFER`] bytes. Memory
//! is bounded by that buffer and the largest row. Nothing is ever done with a message or a flush for each row:
//! that costs more than its hash.
//!
//! An archive may take the stream too, as the target gets it, or take the target's place ([`store`]); and it may
//! be the source ([`crate::transfer::archive::rows`]), which gives its rows one by one as a server does.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, Stream, StreamExt};
use tokio_postgres::{CopyInSink, CopyOutStream};

use crate::transfer::archive::{ArchiveError, MemberWriter};
use crate::transfer::convert::{self, ConvertError};
use crate::transfer::digest::{Digest, Digester, RowError, first_row};
use crate::transfer::rate::Rate;

/// How many bytes are gathered before they are handed to the target: with the row that makes them so many, and the message's head,
/// they are a frame of a tunnel (`src/kubernetes/tunnel/forward.rs`).
pub const BUFFER: usize = 56 * 1024;

/// The signature, flags and extension length that a COPY BINARY stream begins with.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The field count that ends a COPY BINARY stream.
pub(crate) const TRAILER: &[u8] = &[0xff, 0xff];

/// How slow a stream may be, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Pace<'a> {
    /// How long it may stand still.
    pub stall: Duration,
    /// How much of it is read in a second, with all others.
    pub rate: Option<&'a Rate>,
}

/// As fast as it comes.
impl From<Duration> for Pace<'static> {
    fn from(stall: Duration) -> Self {
        Pace { stall, rate: None }
    }
}

/// What the rows look like on the wire.
#[derive(Debug, Clone)]
pub enum Rows {
    /// COPY BINARY, hashed on the way.
    Binary {
        /// How many columns a row has.
        columns: usize,
        /// Positions of arrays whose element OID is hashed as zero.
        masked: Vec<usize>,
        /// Positions of `real[]` values that become `vector`.
        embedded: Vec<usize>,
        /// Whether they come from an archive: they are `vector` already, and hashed as the `real[]` they were.
        is_archived: bool,
    },
    /// COPY text; counted only.
    Text,
}

impl Rows {
    /// The same rows, but from an archive.
    #[must_use]
    pub fn archived(self) -> Rows {
        match self {
            Rows::Binary { columns, masked, embedded, .. } => {
                Rows::Binary { columns, masked, embedded, is_archived: true }
            }
            Rows::Text => Rows::Text,
        }
    }
}

/// Why a stream broke off.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The source stopped sending.
    #[error("the source broke off")]
    Source(#[source] tokio_postgres::Error),
    /// The target refused the rows or its connection is gone.
    #[error("the target refused the rows")]
    Target(#[source] tokio_postgres::Error),
    /// No byte for longer than allowed.
    #[error("no row came from the source for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The target took no byte for longer than allowed.
    #[error("the target took no row for {} s", .0.as_secs())]
    TargetStalled(Duration),
    /// The source sent no proper COPY BINARY stream.
    #[error("row {row} of the stream is not as COPY BINARY should be")]
    Row {
        /// Its position in the stream, from 1.
        row: u64,
        /// What is wrong.
        source: RowError,
    },
    /// An embedding that the target's type cannot hold.
    #[error("row {row} of the stream cannot be converted")]
    Convert {
        /// Its position in the stream, from 1.
        row: u64,
        /// What is wrong.
        source: ConvertError,
    },
    /// The stream had no header, no end, or something after it.
    #[error("the stream {0}")]
    Stream(&'static str),
    /// Both servers count rows; the counts must be one.
    #[error("{sent} rows were sent, and the target loaded {loaded}")]
    Count {
        /// Rows that came from the source.
        sent: u64,
        /// Rows that the target reports.
        loaded: u64,
    },
    /// The archive could not take the rows, or is not what was written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// A server's COPY as a stream of messages that hold whole rows.
pub fn from_server(rows: CopyOutStream) -> impl Stream<Item = Result<Bytes, RelayError>> {
    rows.map(|message| message.map_err(RelayError::Source))
}

/// Copies all rows of `source` into `target`, and as they go there into `archive` if there is one; finishes the
/// COPY (neither the transaction around it nor the archive's file), and returns the digest; of text rows only the
/// count counts. `progress` is told of rows and bytes as they are handed over.
///
/// On an error the sink is dropped, which makes the target abort its COPY.
pub async fn relay(
    source: impl Stream<Item = Result<Bytes, RelayError>>,
    target: CopyInSink<Bytes>,
    rows: &Rows,
    pace: Pace<'_>,
    archive: &mut Option<MemberWriter>,
    progress: impl FnMut(u64, u64),
) -> Result<Digest, RelayError> {
    let mut target = std::pin::pin!(target);
    let pass_on = async |bytes: Bytes| {
        if let Some(archive) = archive.as_mut() {
            archive.write(&bytes).await?;
        }
        feed(&mut target, bytes, pace.stall).await
    };
    let digest = drive(source, State::new(rows, Some(buffer())), pace, pass_on, progress).await?;
    // Finishing waits for triggers-free but possibly long work on the server (a large last buffer, WAL): the
    // server's own progress is not visible here, so the deadline is on the connection's keepalive.
    let loaded = target.finish().await.map_err(RelayError::Target)?;
    if loaded == digest.rows { Ok(digest) } else { Err(RelayError::Count { sent: digest.rows, loaded }) }
}

/// Copies all rows of `source` into `archive`, as a target would get them, and returns the digest as [`relay`]
/// does. The archive's file is not finished.
pub async fn store(
    source: impl Stream<Item = Result<Bytes, RelayError>>,
    archive: &mut MemberWriter,
    rows: &Rows,
    pace: Pace<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<Digest, RelayError> {
    let write = async |bytes: Bytes| Ok(archive.write(&bytes).await?);
    drive(source, State::new(rows, Some(buffer())), pace, write, progress).await
}

/// Reads all rows of `source`, and gives their digest as [`relay`] does.
pub async fn examine(
    source: impl Stream<Item = Result<Bytes, RelayError>>,
    rows: &Rows,
    pace: Pace<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<Digest, RelayError> {
    drive(source, State::new(rows, None), pace, async |_| Ok(()), progress).await
}

/// Reads all rows of `source`, a COPY BINARY of what is hashed, and returns their digest.
pub async fn read(
    source: CopyOutStream,
    columns: usize,
    masked: &[usize],
    pace: Pace<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<Digest, RelayError> {
    let rows = Rows::Binary { columns, masked: masked.to_vec(), embedded: Vec::new(), is_archived: false };
    examine(from_server(source), &rows, pace, progress).await
}

/// Takes rows until `source` ends; what they become goes to `take` in pieces of about [`BUFFER`].
async fn drive(
    source: impl Stream<Item = Result<Bytes, RelayError>>,
    mut state: State,
    pace: Pace<'_>,
    mut take: impl AsyncFnMut(Bytes) -> Result<(), RelayError>,
    mut progress: impl FnMut(u64, u64),
) -> Result<Digest, RelayError> {
    let mut source = std::pin::pin!(source);
    let mut reported = 0;
    loop {
        let message = next(&mut source, pace.stall).await?;
        let is_last = message.is_none();
        match message {
            Some(message) => state.take(&message)?,
            None => state.end()?,
        }
        if is_last || state.pending >= BUFFER {
            let length = std::mem::take(&mut state.pending) as u64;
            if let Some(out) = &mut state.out {
                take(out.split().freeze()).await?;
            }
            if let Some(rate) = pace.rate {
                rate.pay(length).await;
            }
            let count = state.count();
            progress(count - reported, length);
            reported = count;
        }
        if is_last {
            return Ok(state.digest());
        }
    }
}

async fn next(
    source: &mut std::pin::Pin<&mut impl Stream<Item = Result<Bytes, RelayError>>>,
    stall: Duration,
) -> Result<Option<Bytes>, RelayError> {
    // Most messages are there already: no timer for them.
    let message = if let Some(message) = source.next().now_or_never() {
        message
    } else {
        let waited = tokio::time::timeout(stall, source.next()).await;
        waited.map_err(|_| RelayError::Stalled(stall))?
    };
    message.transpose()
}

async fn feed(
    target: &mut std::pin::Pin<&mut CopyInSink<Bytes>>,
    bytes: Bytes,
    stall: Duration,
) -> Result<(), RelayError> {
    match tokio::time::timeout(stall, target.feed(bytes)).await {
        Ok(result) => result.map_err(RelayError::Target),
        Err(_) => Err(RelayError::TargetStalled(stall)),
    }
}

fn buffer() -> BytesMut {
    BytesMut::with_capacity(2 * BUFFER)
}

/// The stream between the two connections, one message at a time. No I/O.
struct State {
    /// What is handed on; `None` where rows are only hashed.
    out: Option<BytesMut>,
    /// How many bytes came in since they were last handed on.
    pending: usize,
    stage: Stage,
    kind: Kind,
}

enum Kind {
    Binary { digester: Digester, columns: usize, embedded: Vec<usize>, is_archived: bool },
    Text { rows: u64 },
}

#[derive(PartialEq, Eq)]
enum Stage {
    Header,
    Rows,
    Ended,
}

impl State {
    fn new(rows: &Rows, out: Option<BytesMut>) -> Self {
        let (stage, kind) = match rows {
            Rows::Binary { columns, masked, embedded, is_archived } => (
                Stage::Header,
                Kind::Binary {
                    digester: Digester::new(*columns).masking(masked),
                    columns: *columns,
                    embedded: embedded.clone(),
                    is_archived: *is_archived,
                },
            ),
            Rows::Text => (Stage::Rows, Kind::Text { rows: 0 }),
        };
        State { out, pending: 0, stage, kind }
    }

    /// Takes a message of whole rows.
    fn take(&mut self, message: &[u8]) -> Result<(), RelayError> {
        self.pending += message.len();
        let (digester, columns, embedded, is_archived) = match &mut self.kind {
            Kind::Text { rows } => {
                // A newline within a value is escaped.
                *rows += message.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
                if let Some(out) = &mut self.out {
                    out.extend_from_slice(message);
                }
                return Ok(());
            }
            Kind::Binary { digester, columns, embedded, is_archived } => {
                (digester, *columns, &*embedded, *is_archived && !embedded.is_empty())
            }
        };
        let mut rest = message;
        if self.stage == Stage::Header {
            // The header rides in the first row's message.
            rest = rest.strip_prefix(HEADER).ok_or(RelayError::Stream("has no COPY BINARY header"))?;
            self.stage = Stage::Rows;
        }
        let mut converted = None;
        if let Some(out) = &mut self.out {
            if embedded.is_empty() || is_archived {
                out.extend_from_slice(message);
            } else {
                out.extend_from_slice(&message[..message.len() - rest.len()]);
                converted = Some(out);
            }
        }
        while !rest.is_empty() {
            if self.stage == Stage::Ended {
                return Err(RelayError::Stream("goes on after its end"));
            }
            if let Some(after) = rest.strip_prefix(TRAILER) {
                if let Some(out) = &mut converted {
                    out.extend_from_slice(TRAILER);
                }
                self.stage = Stage::Ended;
                rest = after;
                continue;
            }
            let position = digester.digest().rows + 1;
            let damaged = |source| RelayError::Row { row: position, source };
            let unconvertible = |source| RelayError::Convert { row: position, source };
            let (row, after) = first_row(rest, columns).map_err(damaged)?;
            if is_archived {
                let mut original = BytesMut::with_capacity(row.len() * 2);
                convert::extract(row, columns, embedded, &mut original).map_err(unconvertible)?;
                digester.row(&original).map_err(damaged)?;
            } else {
                digester.row(row).map_err(damaged)?;
            }
            if let Some(out) = &mut converted {
                convert::embed(row, columns, embedded, out).map_err(unconvertible)?;
            }
            rest = after;
        }
        Ok(())
    }

    /// A stream that ends without its trailer is a stream that was cut.
    fn end(&self) -> Result<(), RelayError> {
        match (&self.kind, &self.stage) {
            (Kind::Text { .. }, _) | (_, Stage::Ended) => Ok(()),
            _ => Err(RelayError::Stream("ends without its trailer")),
        }
    }

    fn count(&self) -> u64 {
        self.digest().rows
    }

    fn digest(&self) -> Digest {
        match &self.kind {
            Kind::Binary { digester, .. } => digester.digest(),
            Kind::Text { rows } => Digest { rows: *rows, ..Digest::default() },
        }
    }
}

#[cfg(test)]
mod tests;
