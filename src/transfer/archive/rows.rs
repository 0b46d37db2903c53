//! A chunk's content as single rows, as a server's COPY sends them.
//!
//! Blocks of an archive end anywhere. In COPY BINARY a row is found by its fields' lengths, in COPY text by its
//! line feed: one within a value is written as `\n` (documentation of COPY, "Text Format"), and no server
//! encoding has that byte inside another character. What is no such stream is a [`RelayError`]; memory is
//! bounded by the largest row, and no length is trusted beyond [`LARGEST_FIELD`].

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::try_unfold;

use super::format::WireFormat;
use super::reader::Reader;
use crate::transfer::digest::RowError;
use crate::transfer::relay::{HEADER, RelayError, TRAILER};

/// The largest value that a server holds, in bytes (`MaxAllocSize` in `utils/memutils.h`).
const LARGEST_FIELD: usize = 0x3fff_ffff;

/// The rows of a chunk. The last item is an error unless the file was exactly what the manifest says.
pub fn rows(reader: Reader, format: WireFormat) -> impl Stream<Item = Result<Bytes, RelayError>> {
    let cutter =
        Cutter { format, is_begun: format == WireFormat::Text, messages: 0, buffer: BytesMut::new() };
    try_unfold((reader, cutter), async |(mut reader, mut cutter)| {
        loop {
            if let Some(row) = cutter.cut()? {
                return Ok(Some((row, (reader, cutter))));
            }
            match reader.next().await? {
                Some(block) => cutter.buffer.extend_from_slice(&block),
                None if cutter.buffer.is_empty() => return Ok(None),
                None => return Err(RelayError::Stream("ends within a row")),
            }
        }
    })
}

struct Cutter {
    format: WireFormat,
    /// Whether the header is over.
    is_begun: bool,
    /// How many there were, the header among them.
    messages: u64,
    buffer: BytesMut,
}

impl Cutter {
    /// The next row, header or trailer, if all of it is there.
    fn cut(&mut self) -> Result<Option<Bytes>, RelayError> {
        let length = match self.format {
            WireFormat::Text => self.buffer.iter().position(|byte| *byte == b'\n').map(|end| end + 1),
            WireFormat::Binary if !self.is_begun => {
                self.is_begun = self.buffer.len() >= HEADER.len();
                self.is_begun.then_some(HEADER.len())
            }
            WireFormat::Binary => {
                row_length(&self.buffer).map_err(|source| RelayError::Row { row: self.messages, source })?
            }
        };
        let row = length.map(|length| self.buffer.split_to(length).freeze());
        self.messages += u64::from(row.is_some());
        Ok(row)
    }
}

/// How long the row at the beginning of `bytes` is, or the trailer; `None` if its end is not there yet.
fn row_length(bytes: &[u8]) -> Result<Option<usize>, RowError> {
    let Some((count, mut rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
    if count == TRAILER {
        return Ok(Some(TRAILER.len()));
    }
    for _ in 0..u16::try_from(i16::from_be_bytes(*count)).map_err(|_| RowError::Framing)? {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        rest = match i32::from_be_bytes(*length) {
            -1 => after,
            length => {
                let length = usize::try_from(length).map_err(|_| RowError::Framing)?;
                if length > LARGEST_FIELD {
                    return Err(RowError::Framing);
                }
                let Some(after) = after.get(length..) else { return Ok(None) };
                after
            }
        };
    }
    Ok(Some(bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(format: WireFormat, blocks: &[&[u8]]) -> Result<Vec<Bytes>, RelayError> {
        let mut cutter =
            Cutter { format, is_begun: format == WireFormat::Text, messages: 0, buffer: BytesMut::new() };
        let mut found = Vec::new();
        for block in blocks {
            cutter.buffer.extend_from_slice(block);
            while let Some(row) = cutter.cut()? {
                found.push(row);
            }
        }
        Ok(found)
    }

    #[test]
    fn lengths_that_no_server_sends_are_refused() {
        for row in [&[0x80, 0][..], &[0, 1, 0xff, 0xff, 0xff, 0xfe], &[0, 1, 0x40, 0, 0, 0]] {
            let error = cut(WireFormat::Binary, &[HEADER, row]).expect_err("no row");
            assert!(matches!(error, RelayError::Row { row: 1, .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn rows_are_found_wherever_blocks_end(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), 0..4), 0..6),
            size in 1usize..20,
        ) {
            let mut messages = vec![HEADER.to_vec()];
            for row in &rows {
                let mut bytes = i16::try_from(row.len()).expect("short").to_be_bytes().to_vec();
                for field in row {
                    let length = field.as_ref().map_or(-1, |field| i32::try_from(field.len()).expect("short"));
                    bytes.extend(length.to_be_bytes());
                    bytes.extend(field.iter().flatten());
                }
                messages.push(bytes);
            }
            messages.push(TRAILER.to_vec());
            let stream = messages.concat();
            let blocks: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(cut(WireFormat::Binary, &blocks).expect("proper"), messages);
        }

        #[test]
        fn lines_are_found_wherever_blocks_end(lines in prop::collection::vec("[a-z\\\\]{0,9}", 0..6), size in 1usize..20) {
            let messages: Vec<Vec<u8>> = lines.iter().map(|line| format!("{line}\n").into_bytes()).collect();
            let stream = messages.concat();
            let blocks: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(cut(WireFormat::Text, &blocks).expect("proper"), messages);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = cut(WireFormat::Binary, &[HEADER, &bytes]);
        }
    }
}
