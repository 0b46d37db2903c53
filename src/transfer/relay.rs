//! One COPY from the source into one COPY on the target, through this process.
//!
//! The server sends one CopyData message a row (protocol documentation, "COPY Operations"), so rows are told
//! apart without decoding them: each is checked, hashed, converted if it holds a legacy embedding, and
//! appended to a buffer that is handed to the target when it holds [`BUFFER`] bytes. Memory is bounded by
//! that buffer and the largest row. Nothing is ever flushed per row: that costs ten times the CPU.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio_postgres::{CopyInSink, CopyOutStream};

use crate::transfer::convert::{self, ConvertError};
use crate::transfer::digest::{Digest, Digester, RowError};

/// How many bytes are gathered before they are handed to the target.
pub const BUFFER: usize = 64 * 1024;

/// The signature, flags and extension length that a COPY BINARY stream begins with.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The field count that ends a COPY BINARY stream.
const TRAILER: &[u8] = &[0xff, 0xff];

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
    },
    /// COPY text; counted only.
    Text,
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
    /// The archive could not take the rows.
    #[error("could not write the archive")]
    Archive(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A further reader of the stream that the target gets.
pub trait Tee {
    /// Takes the next bytes of the stream.
    fn take(&mut self, bytes: &Bytes) -> impl Future<Output = Result<(), RelayError>>;
}

/// No further reader.
#[derive(Debug)]
pub struct NoTee;

impl Tee for NoTee {
    async fn take(&mut self, _bytes: &Bytes) -> Result<(), RelayError> {
        Ok(())
    }
}

/// Copies all rows of `source` into `target`, finishes the COPY (not the transaction around it), and returns
/// the digest; of text rows only the count counts. `progress` is told of rows and bytes as they are handed over.
///
/// On an error the sink is dropped, which makes the target abort its COPY.
pub async fn relay(
    source: CopyOutStream,
    target: CopyInSink<Bytes>,
    rows: &Rows,
    stall: Duration,
    tee: &mut impl Tee,
    mut progress: impl FnMut(u64, u64),
) -> Result<Digest, RelayError> {
    let mut source = std::pin::pin!(source);
    let mut target = std::pin::pin!(target);
    let mut state = State::new(rows);
    let mut reported = 0;
    while let Some(message) = next(&mut source, stall).await? {
        state.take(&message)?;
        if state.out.len() >= BUFFER {
            let bytes = state.out.split().freeze();
            tee.take(&bytes).await?;
            let (length, rows) = (bytes.len() as u64, state.count());
            feed(&mut target, bytes, stall).await?;
            progress(rows - reported, length);
            reported = rows;
        }
    }
    state.end()?;
    let bytes = state.out.split().freeze();
    tee.take(&bytes).await?;
    progress(state.count() - reported, bytes.len() as u64);
    feed(&mut target, bytes, stall).await?;
    let loaded = match tokio::time::timeout(stall, target.finish()).await {
        Ok(loaded) => loaded.map_err(RelayError::Target)?,
        Err(_) => return Err(RelayError::TargetStalled(stall)),
    };
    let digest = state.digest();
    if loaded == digest.rows { Ok(digest) } else { Err(RelayError::Count { sent: digest.rows, loaded }) }
}

/// Reads all rows of `source` and returns their digest.
pub async fn read(
    source: CopyOutStream,
    columns: usize,
    masked: &[usize],
    stall: Duration,
    mut progress: impl FnMut(u64, u64),
) -> Result<Digest, RelayError> {
    let mut source = std::pin::pin!(source);
    let mut state = State::new(&Rows::Binary { columns, masked: masked.to_vec(), embedded: Vec::new() });
    let (mut reported, mut bytes) = (0, 0);
    while let Some(message) = next(&mut source, stall).await? {
        bytes += message.len() as u64;
        state.take(&message)?;
        state.out.clear();
        if bytes >= BUFFER as u64 {
            progress(state.count() - reported, bytes);
            (reported, bytes) = (state.count(), 0);
        }
    }
    state.end()?;
    progress(state.count() - reported, bytes);
    Ok(state.digest())
}

async fn next(
    source: &mut std::pin::Pin<&mut CopyOutStream>,
    stall: Duration,
) -> Result<Option<Bytes>, RelayError> {
    match tokio::time::timeout(stall, source.next()).await {
        Ok(message) => message.transpose().map_err(RelayError::Source),
        Err(_) => Err(RelayError::Stalled(stall)),
    }
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

/// The stream between the two connections, one message at a time. No I/O.
struct State {
    out: BytesMut,
    stage: Stage,
    kind: Kind,
}

enum Kind {
    Binary { digester: Digester, columns: usize, embedded: Vec<usize> },
    Text { rows: u64 },
}

#[derive(PartialEq, Eq)]
enum Stage {
    Header,
    Rows,
    Ended,
}

impl State {
    fn new(rows: &Rows) -> Self {
        let (stage, kind) = match rows {
            Rows::Binary { columns, masked, embedded } => (
                Stage::Header,
                Kind::Binary {
                    digester: Digester::new(*columns).masking(masked),
                    columns: *columns,
                    embedded: embedded.clone(),
                },
            ),
            Rows::Text => (Stage::Rows, Kind::Text { rows: 0 }),
        };
        State { out: BytesMut::with_capacity(2 * BUFFER), stage, kind }
    }

    fn take(&mut self, message: &[u8]) -> Result<(), RelayError> {
        match &mut self.kind {
            Kind::Text { rows } => {
                *rows += 1;
                self.out.extend_from_slice(message);
                Ok(())
            }
            Kind::Binary { digester, columns, embedded } => {
                let mut row = message;
                if self.stage == Stage::Header {
                    // The header rides in the first row's message.
                    row = row.strip_prefix(HEADER).ok_or(RelayError::Stream("has no COPY BINARY header"))?;
                    self.out.extend_from_slice(HEADER);
                    self.stage = Stage::Rows;
                    if row.is_empty() {
                        return Ok(());
                    }
                }
                if self.stage == Stage::Ended {
                    return Err(RelayError::Stream("goes on after its end"));
                }
                if row == TRAILER {
                    self.out.extend_from_slice(TRAILER);
                    self.stage = Stage::Ended;
                    return Ok(());
                }
                let position = digester.digest().rows + 1;
                digester.row(row).map_err(|source| RelayError::Row { row: position, source })?;
                if embedded.is_empty() {
                    self.out.extend_from_slice(row);
                    Ok(())
                } else {
                    convert::embed(row, *columns, embedded, &mut self.out)
                        .map_err(|source| RelayError::Convert { row: position, source })
                }
            }
        }
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
mod tests {
    use super::*;

    fn binary() -> State {
        State::new(&Rows::Binary { columns: 1, masked: vec![], embedded: vec![] })
    }

    fn message(parts: &[&[u8]]) -> Bytes {
        Bytes::from(parts.concat())
    }

    const ROW: &[u8] = &[0, 1, 0, 0, 0, 1, b'a'];

    #[test]
    fn the_header_may_ride_in_the_first_row_or_come_alone() {
        for messages in [
            vec![message(&[HEADER, ROW]), message(&[TRAILER])],
            vec![message(&[HEADER]), message(&[ROW]), message(&[TRAILER])],
        ] {
            let mut state = binary();
            for message in messages {
                state.take(&message).expect("proper");
            }
            state.end().expect("ended");
            assert_eq!((state.count(), &state.out[..]), (1, &[HEADER, ROW, TRAILER].concat()[..]));
        }
    }

    #[test]
    fn a_cut_or_foreign_stream_is_refused() {
        assert!(matches!(binary().take(&message(&[ROW])), Err(RelayError::Stream(_))));
        let mut state = binary();
        state.take(&message(&[HEADER, ROW])).expect("proper");
        assert!(state.end().is_err());
        state.take(&message(&[TRAILER])).expect("proper");
        assert!(matches!(state.take(&message(&[ROW])), Err(RelayError::Stream(_))));
        let mut state = binary();
        let error = state.take(&message(&[HEADER, &ROW[..6]])).expect_err("short row");
        assert!(matches!(error, RelayError::Row { row: 1, .. }));
    }
}
