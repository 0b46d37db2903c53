//! What comes from the server, with the rows of a COPY put together.
//!
//! The server sends one CopyData message a row, and tokio-postgres gives each out by itself, which costs more than
//! hashing a narrow row. [`CopyStream`] stands between the connection (above TLS, if there is TLS) and
//! tokio-postgres, and makes one CopyData message of those that have come together: the same rows, whole, in the
//! same order. Every other message passes as it came, so notices, errors and the end of a COPY stay where they
//! were. Nothing waits here for more to come, and no more than [`BUFFER`] bytes are kept.
//!
//! A message is a type of one byte, an int32 that counts itself and the body, and the body (protocol documentation,
//! "Message Formats").

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::TryFutureExt;
use futures_util::future::MapOk;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// How much is read from the connection at once.
const BUFFER: usize = 64 * 1024;

/// The type of a message that holds a row.
const COPY_DATA: u8 = b'd';

/// The length of a message's type and length.
const HEADER: usize = 5;

/// A stream from the server, in which CopyData messages that come together are one.
#[derive(Debug)]
pub(super) struct CopyStream<S> {
    stream: S,
    stage: Stage,
    buffer: Vec<u8>,
    /// What of the buffer was read and not yet handed on: from `begin` to `end`.
    begin: usize,
    end: usize,
    /// How much is still to come of the message that is handed on as it came.
    rest: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// One byte, which is no message, will tell whether the server takes TLS ("SSL Session Encryption").
    Negotiation,
    /// It does, and another [`CopyStream`] stands above TLS.
    Encrypted,
    Messages,
}

impl<S> CopyStream<S> {
    /// Over a stream of messages.
    pub(super) fn new(stream: S) -> Self {
        CopyStream { stream, stage: Stage::Messages, buffer: Vec::new(), begin: 0, end: 0, rest: 0 }
    }

    /// Over a connection on which TLS is asked for first.
    pub(super) fn negotiating(stream: S) -> Self {
        CopyStream { stage: Stage::Negotiation, ..CopyStream::new(stream) }
    }

    /// Hands on what was read, but for a header that has not come as a whole.
    fn hand_on(&mut self, out: &mut ReadBuf<'_>) {
        while self.begin < self.end && out.remaining() > 0 {
            if self.rest == 0 && !self.merge(out) {
                match header(&self.buffer[self.begin..self.end]) {
                    Some((_, length)) => self.rest = length,
                    None => return,
                }
            }
            let length = self.rest.min(self.end - self.begin).min(out.remaining());
            out.put_slice(&self.buffer[self.begin..self.begin + length]);
            self.begin += length;
            self.rest -= length;
        }
    }

    /// Makes one message of the rows that have come, as many as `out` takes; `false` if it takes none.
    fn merge(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let begin = out.filled().len();
        let mut unread = &self.buffer[self.begin..self.end];
        while let Some((COPY_DATA, length)) = header(unread) {
            // The first header stays, and will count all.
            let skipped = if out.filled().len() == begin { 0 } else { HEADER };
            if length > unread.len() || length - skipped > out.remaining() {
                break;
            }
            out.put_slice(&unread[skipped..length]);
            unread = &unread[length..];
        }
        self.begin = self.end - unread.len();
        let merged = &mut out.filled_mut()[begin..];
        let length = u32::try_from(merged.len()).expect("it is no longer than the buffer");
        match merged.first_chunk_mut::<HEADER>() {
            Some([_, count @ ..]) => *count = (length - 1).to_be_bytes(),
            None => return false,
        }
        true
    }
}

/// The type and the whole length of the message that `bytes` begins with, if its header has come. After a length
/// that no message has, everything passes as it comes, for tokio-postgres to refuse.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let [kind, length @ ..] = *bytes.first_chunk::<HEADER>()?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length >= HEADER - 1);
    Some((kind, length.map_or(usize::MAX, |length| length + 1)))
}

impl<S: AsyncRead + Unpin> AsyncRead for CopyStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        if this.stage != Stage::Messages {
            ready!(Pin::new(&mut this.stream).poll_read(context, out))?;
            if let (Stage::Negotiation, Some(answer)) = (&this.stage, out.filled().get(before)) {
                this.stage = if *answer == b'S' { Stage::Encrypted } else { Stage::Messages };
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            this.hand_on(out);
            if out.filled().len() > before || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.buffer.is_empty() {
                this.buffer = vec![0; BUFFER];
            }
            this.buffer.copy_within(this.begin..this.end, 0);
            (this.begin, this.end) = (0, this.end - this.begin);
            let mut read = ReadBuf::new(&mut this.buffer[this.end..]);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            let length = read.filled().len();
            if length == 0 {
                // The connection has ended; if it did within a header, tokio-postgres is to see that.
                this.rest = this.end;
                this.hand_on(out);
                return Poll::Ready(Ok(()));
            }
            this.end += length;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CopyStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for CopyStream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// TLS with a [`CopyStream`] above it.
pub(super) struct AboveTls<T>(pub(super) T);

impl<S, T: TlsConnect<S>> TlsConnect<S> for AboveTls<T> {
    type Stream = CopyStream<T::Stream>;
    type Error = T::Error;
    type Future = MapOk<T::Future, fn(T::Stream) -> Self::Stream>;

    fn connect(self, stream: S) -> Self::Future {
        self.0.connect(stream).map_ok(CopyStream::new)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// A connection on which these bytes come, piece by piece, with a wait after each.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Pieces {
        fn new(bytes: &[u8], cuts: &[usize]) -> Self {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec());
            // An empty piece stands for a wait: the end of the connection is that no piece is left.
            Pieces(pieces.filter(|piece| !piece.is_empty()).flat_map(|piece| [piece, vec![]]).collect())
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.0.pop_front() else { return Poll::Ready(Ok(())) };
            if piece.is_empty() {
                return Poll::Pending;
            }
            let rest = piece.split_off(piece.len().min(out.remaining()));
            out.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    /// What is read until the connection ends, `size` bytes at a time.
    fn read(mut stream: CopyStream<Pieces>, size: usize) -> Vec<u8> {
        let mut found = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let mut space = vec![0; size];
            let mut out = ReadBuf::new(&mut space);
            match Pin::new(&mut stream).poll_read(&mut context, &mut out) {
                Poll::Pending => {}
                Poll::Ready(result) if out.filled().is_empty() => {
                    result.expect("nothing fails");
                    return found;
                }
                Poll::Ready(_) => found.extend_from_slice(out.filled()),
            }
        }
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short");
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    /// A row that tells its own length.
    fn row(length: u8) -> Vec<u8> {
        vec![length; usize::from(length)]
    }

    /// Rows and other messages in their order, whether rows came alone or together, and what is left at the end.
    fn contents(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, Vec<u8>) {
        let mut found = Vec::new();
        while let Some((kind, length)) = header(bytes).filter(|(_, length)| *length <= bytes.len()) {
            let mut body = &bytes[HEADER..length];
            bytes = &bytes[length..];
            if kind != COPY_DATA {
                found.push((kind, body.to_vec()));
                continue;
            }
            while let Some(&length) = body.first() {
                let (row, after) = body.split_at_checked(length.into()).expect("rows are whole");
                assert_eq!(row, super::tests::row(length));
                found.push((kind, row.to_vec()));
                body = after;
            }
        }
        (found, bytes.to_vec())
    }

    fn sample() -> Vec<u8> {
        [
            message(b'H', &[1, 0, 0]),
            message(COPY_DATA, &row(3)),
            message(COPY_DATA, &row(1)),
            message(b'N', b"notice"),
            message(COPY_DATA, &row(7)),
            message(COPY_DATA, &row(2)),
            message(COPY_DATA, &row(9)),
            message(b'c', &[]),
            message(b'C', b"COPY 5\0"),
            message(b'Z', b"T"),
        ]
        .concat()
    }

    #[test]
    fn rows_that_come_together_are_one_message() {
        let read = read(CopyStream::new(Pieces::new(&sample(), &[])), BUFFER);
        let expected = [
            message(b'H', &[1, 0, 0]),
            message(COPY_DATA, &[row(3), row(1)].concat()),
            message(b'N', b"notice"),
            message(COPY_DATA, &[row(7), row(2), row(9)].concat()),
            message(b'c', &[]),
            message(b'C', b"COPY 5\0"),
            message(b'Z', b"T"),
        ];
        assert_eq!(read, expected.concat());
    }

    #[test]
    fn nothing_is_lost_wherever_it_is_cut_or_ends() {
        let sample = sample();
        for end in 0..=sample.len() {
            for cut in 0..=end {
                for size in [1, 2, 12, 99] {
                    let read = read(CopyStream::new(Pieces::new(&sample[..end], &[cut])), size);
                    assert_eq!(contents(&read), contents(&sample[..end]), "{cut} of {end}, {size} at a time");
                }
            }
        }
    }

    #[test]
    fn a_row_that_has_come_does_not_wait_for_more() {
        let rows = [message(COPY_DATA, &row(3)), message(COPY_DATA, &row(4))].concat();
        for come in 1..=rows.len() {
            let mut stream = CopyStream::new(Pieces::new(&rows, &[come]));
            let mut space = [0; 64];
            let mut out = ReadBuf::new(&mut space);
            let mut context = Context::from_waker(Waker::noop());
            if Pin::new(&mut stream).poll_read(&mut context, &mut out).is_pending() {
                assert!(come < HEADER);
            }
            assert_eq!(contents(out.filled()).0, contents(&rows[..come]).0);
        }
    }

    #[test]
    fn a_length_that_no_message_has_is_left_to_be_refused() {
        for length in [0, 3, -1, i32::MIN] {
            let wrong = [&[COPY_DATA], &length.to_be_bytes()[..]].concat();
            let bytes = [message(COPY_DATA, &row(3)), wrong, sample()].concat();
            assert_eq!(read(CopyStream::new(Pieces::new(&bytes, &[])), BUFFER), bytes);
        }
    }

    #[test]
    fn what_is_encrypted_passes_as_it_comes() {
        let rows = [message(COPY_DATA, &row(3)), message(COPY_DATA, &row(4))].concat();
        let negotiating = |answer: u8| {
            let bytes = [&[answer], &rows[..]].concat();
            read(CopyStream::negotiating(Pieces::new(&bytes, &[1])), BUFFER)
        };
        assert_eq!(negotiating(b'S')[1..], rows);
        assert_eq!(negotiating(b'N')[1..], message(COPY_DATA, &[row(3), row(4)].concat()));
    }

    proptest! {
        #[test]
        fn any_messages_keep_their_contents_and_order(
            messages in prop::collection::vec((prop::sample::select(&b"dddddNcC"[..]), 1u8..40), 0..60),
            cuts in prop::collection::vec(0usize..2000, 0..20),
            size in 1usize..300,
        ) {
            let bytes: Vec<u8> =
                messages.iter().flat_map(|(kind, length)| message(*kind, &row(*length))).collect();
            let read = read(CopyStream::new(Pieces::new(&bytes, &cuts)), size);
            prop_assert_eq!(contents(&read), contents(&bytes));
        }

        #[test]
        fn no_bytes_are_added_or_make_it_panic(
            bytes in prop::collection::vec(prop::sample::select(&[0, 1, 4, 5, 9, b'd', b'N', 255][..]), 0..200),
            cuts in prop::collection::vec(0usize..200, 0..9),
            size in 1usize..50,
        ) {
            let read = read(CopyStream::new(Pieces::new(&bytes, &cuts)), size);
            prop_assert!(read.len() <= bytes.len());
        }
    }
}
