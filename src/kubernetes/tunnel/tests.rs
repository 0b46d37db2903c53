//! The protocol against the node's half of it, in the messages of a websocket.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use tokio::io::{DuplexStream, ReadBuf, duplex};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::TunnelCause;
use super::forward::{FRAME, Forward};

const PORT: u16 = 5432;

/// The streams, and the flag of a frame that is its stream's last.
const ERROR: u32 = 1;
const DATA: u32 = 3;
const LAST: u8 = 1;

type Node = WebSocketStream<DuplexStream>;

/// A tunnel over a pipe that holds `capacity` bytes each way, whose node sends these messages first.
async fn greeted(
    capacity: usize,
    messages: impl IntoIterator<Item = Message>,
) -> (Result<Forward<DuplexStream>, TunnelCause>, Node) {
    let (here, there) = duplex(capacity);
    let greeting = async {
        let mut node = WebSocketStream::from_raw_socket(there, Role::Server, None).await;
        assert!(node.next().await.expect("a message").expect("a message").is_binary());
        for message in messages {
            node.send(message).await.expect("sent");
        }
        node
    };
    tokio::join!(Forward::open(here, PORT), greeting)
}

/// One that is open.
async fn open(capacity: usize) -> (Forward<DuplexStream>, Node) {
    let (forward, node) = greeted(capacity, [accepted(DATA), accepted(ERROR)].map(Message::binary)).await;
    (forward.expect("the node has accepted both streams"), node)
}

fn frame(first: u32, flags: u8, content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(first);
    bytes.put_u8(flags);
    bytes.put_uint(content.len() as u64, 3);
    bytes.put_slice(content);
    bytes.freeze()
}

fn data(content: &[u8]) -> Message {
    Message::Binary(frame(DATA, 0, content))
}

fn accepted(stream: u32) -> Bytes {
    // Nobody looks at its headers.
    frame(0x8003_0002, 0, &[&stream.to_be_bytes()[..], b"headers"].concat())
}

fn reset(stream: u32) -> Message {
    Message::Binary(frame(0x8003_0003, 0, &[stream.to_be_bytes(), 5_u32.to_be_bytes()].concat()))
}

fn ping(id: u32) -> Message {
    Message::Binary(frame(0x8003_0006, 0, &id.to_be_bytes()))
}

fn close(code: CloseCode, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

/// What one read gives, at most `limit` bytes; nothing at the end.
async fn read(forward: &mut Forward<DuplexStream>, limit: usize) -> Result<Vec<u8>, TunnelCause> {
    let mut bytes = vec![0; limit];
    let mut buffer = ReadBuf::new(&mut bytes);
    poll_fn(|context| forward.poll_read(context, &mut buffer)).await?;
    let length = buffer.filled().len();
    bytes.truncate(length);
    Ok(bytes)
}

async fn write_all(forward: &mut Forward<DuplexStream>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = poll_fn(|context| forward.poll_write(context, bytes)).await.expect("written");
        bytes = &bytes[written..];
    }
    poll_fn(|context| forward.poll_flush(context)).await.expect("flushed");
}

/// What the node gets: the bytes, and the length of the longest frame.
async fn receive(node: &mut Node, length: usize) -> (Vec<u8>, usize) {
    let (mut received, mut longest) = (Vec::new(), 0);
    while received.len() < length {
        let message = node.next().await.expect("more").expect("a message").into_data();
        let content = message.slice(8..);
        assert_eq!(message, frame(DATA, 0, &content));
        longest = longest.max(content.len());
        received.extend_from_slice(&content);
    }
    (received, longest)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|position| u8::try_from(position * 7 % 251).expect("less than 256")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bytes_arrive_as_they_were_however_they_are_cut(
        capacity in 64_usize..200_000,
        sent in prop::collection::vec(0_usize..150_000, 1..4),
        answered in prop::collection::vec(0_usize..100_000, 1..6),
        piece in 1_usize..70_000,
        limit in 1_usize..70_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut forward, mut node) = open(capacity).await;
            let up = bytes(sent.iter().sum());
            let sending = async {
                let mut rest = &up[..];
                for length in &sent {
                    let (now, later) = rest.split_at(*length);
                    write_all(&mut forward, now).await;
                    rest = later;
                }
            };
            let ((), (received, longest)) = tokio::join!(sending, receive(&mut node, up.len()));
            assert!(received == up, "what was sent is not what arrived");
            assert!(longest <= FRAME);

            let down = bytes(answered.iter().sum());
            let (mut frames, mut rest) = (Vec::new(), &down[..]);
            for length in &answered {
                let (now, later) = rest.split_at(*length);
                // Without content, too, and with what means nothing here between.
                frames.extend([frame(DATA, 0, now), frame(0x8003_0009, 0, &[0; 8]), frame(ERROR, 0, &[])]);
                rest = later;
            }
            frames.extend([frame(DATA, LAST, &[]), frame(ERROR, LAST, &[])]);
            let frames = frames.concat();
            let answering = async {
                // A frame may begin and end anywhere in a message.
                for piece in frames.chunks(piece.max(frames.len() / 2000)) {
                    node.send(Message::binary(piece.to_vec())).await.expect("sent");
                    node.send(Message::Ping(Bytes::new())).await.expect("sent");
                }
            };
            let reading = async {
                let mut received = Vec::new();
                loop {
                    let some = read(&mut forward, limit).await.expect("a good end");
                    if some.is_empty() {
                        break received;
                    }
                    received.extend(some);
                }
            };
            let ((), received) = tokio::join!(answering, reading);
            assert!(received == down, "what was answered is not what arrived");
            assert_eq!(read(&mut forward, limit).await, Ok(vec![]), "an end stays one");
        });
    }
}

#[tokio::test]
async fn heads_may_come_in_pieces() {
    let frames =
        [frame(DATA, 0, b"ab"), accepted(ERROR), frame(DATA, LAST, b"c"), frame(ERROR, LAST, &[])].concat();
    for piece in [1, 4, 7] {
        let (mut forward, mut node) = open(1 << 16).await;
        for piece in frames.chunks(piece) {
            node.send(Message::binary(piece.to_vec())).await.expect("sent");
        }
        let mut received = Vec::new();
        while received.len() < 3 {
            received.extend(read(&mut forward, 2).await.expect("more"));
        }
        assert_eq!((&received[..], read(&mut forward, 2).await), (&b"abc"[..], Ok(vec![])));
    }
}

#[tokio::test]
async fn neither_words_nor_early_bytes_are_held_without_a_limit() {
    let (mut forward, mut node) = open(1 << 20).await;
    for _ in 0..100 {
        node.send(Message::Binary(frame(ERROR, 0, &[b'x'; 1000]))).await.expect("sent");
    }
    node.send(reset(DATA)).await.expect("sent");
    assert_eq!(read(&mut forward, 1).await, Err(TunnelCause::Forward("x".repeat(4096))));
    let (forward, _node) = greeted(1 << 20, vec![data(&[0; 9000]); 3]).await;
    assert!(matches!(forward, Err(TunnelCause::Protocol(_))));
}

#[tokio::test]
async fn bytes_that_come_before_both_streams_are_accepted_are_kept() {
    let [first, second] = [accepted(DATA), accepted(ERROR)].map(Message::binary);
    let (forward, _node) = greeted(1 << 16, [first, data(b"ab"), data(b"cd"), second]).await;
    let mut forward = forward.expect("open");
    assert_eq!(read(&mut forward, 3).await, Ok(b"abc".to_vec()));
    assert_eq!(read(&mut forward, 3).await, Ok(b"d".to_vec()));
}

#[tokio::test]
async fn what_is_not_the_protocol_is_refused() {
    let binary = |bytes: &[u8]| Message::binary(bytes.to_vec());
    for (messages, expected) in [
        (vec![binary(&frame(0x8002_0002, 0, &[0; 8]))], "a frame that begins with 80020002 came"),
        (vec![binary(b"HTTP/1.1")], "a frame that begins with 48545450 came"),
        (vec![binary(&[0x80, 3, 0, 4, 0, 255, 255, 255])], "a frame that begins with 80030004 came"),
        (vec![binary(&frame(7, 0, b"x"))], "a frame that begins with 00000007 came"),
        (vec![binary(&accepted(5))], "stream 5 was accepted, which nobody opened"),
        (vec![binary(&frame(0x8003_0003, 0, b"x"))], "a frame of type 3 without an id came"),
        (vec![binary(&frame(DATA, LAST, b"x")), binary(&frame(DATA, 0, b"y"))], "bytes came after their end"),
        (vec![Message::text("hello")], "a message that is not binary came"),
    ] {
        let (forward, _node) = greeted(1 << 16, messages).await;
        assert_eq!(forward.expect_err("refused"), TunnelCause::Protocol(expected.to_owned()));
    }
}

#[tokio::test]
async fn the_nodes_words_come_after_the_bytes_before_them() {
    let words = b"error forwarding port 5432: connection refused\n";
    let said = Message::Binary(frame(ERROR, 0, words));
    let cause = TunnelCause::Forward("error forwarding port 5432: connection refused".to_owned());
    let [data_ends, words_end] = [DATA, ERROR].map(|stream| Message::Binary(frame(stream, LAST, &[])));
    for messages in [
        // As the kubelet's library does it; a container runtime may have ended the data by then.
        vec![said.clone(), reset(DATA), reset(ERROR)],
        vec![data_ends.clone(), said.clone(), reset(DATA)],
        // As older ones do.
        vec![said.clone(), words_end.clone(), data_ends],
        // And cut.
        vec![said, close(CloseCode::Normal, "")],
    ] {
        let (mut forward, mut node) = open(1 << 16).await;
        node.send(data(b"FATAL")).await.expect("sent");
        for message in messages {
            node.send(message).await.expect("sent");
        }
        assert_eq!(read(&mut forward, 100).await, Ok(b"FATAL".to_vec()));
        assert_eq!(read(&mut forward, 100).await, Err(cause.clone()));
        assert_eq!(read(&mut forward, 100).await, Err(cause.clone()), "an end stays one");
    }
}

#[tokio::test]
async fn only_the_end_of_both_streams_is_an_end() {
    let ends = |stream| Message::Binary(frame(stream, LAST, &[]));
    let closed = |how: &str| Err(TunnelCause::Closed(how.to_owned()));
    for (messages, expected) in [
        (vec![ends(DATA), ends(ERROR)], Ok(vec![])),
        (vec![ends(ERROR), ends(DATA)], Ok(vec![])),
        (vec![ends(ERROR), Message::Binary(frame(DATA, LAST, b"last"))], Ok(b"last".to_vec())),
        // The API server closes so whatever has happened behind it.
        (vec![close(CloseCode::Normal, "")], closed("code 1000")),
        (vec![ends(DATA), close(CloseCode::Normal, "")], closed("code 1000")),
        (vec![close(CloseCode::Error, "idle")], closed("code 1011, idle")),
        (vec![Message::Close(None)], closed("without a code")),
        (vec![reset(DATA)], closed("stream 3 was reset with status 5")),
    ] {
        let (mut forward, mut node) = open(1 << 16).await;
        for message in messages {
            node.send(message).await.expect("sent");
        }
        assert_eq!(read(&mut forward, 100).await, expected);
        if expected.is_ok() {
            assert_eq!(read(&mut forward, 100).await, Ok(vec![]));
        }
    }
    let (mut forward, node) = open(1 << 16).await;
    drop(node);
    assert!(matches!(read(&mut forward, 100).await, Err(TunnelCause::Broken(_))));
    let (forward, _node) = greeted(1 << 16, [ends(DATA), ends(ERROR)]).await;
    assert!(matches!(forward, Err(TunnelCause::Closed(_))));
}

#[tokio::test]
async fn what_was_written_goes_out_when_the_answer_is_waited_for() {
    let (mut forward, mut node) = open(1 << 16).await;
    assert_eq!(poll_fn(|context| forward.poll_write(context, b"SSLRequest")).await, Ok(10));
    let answering = async {
        assert_eq!(node.next().await.expect("a message").expect("a message"), data(b"SSLRequest"));
        node.send(data(b"S")).await.expect("sent");
    };
    let (answer, ()) = tokio::join!(read(&mut forward, 1), answering);
    assert_eq!(answer, Ok(b"S".to_vec()));
}

#[tokio::test]
async fn a_writer_is_held_back_and_holds_up_no_reader() {
    let (mut forward, mut node) = open(1 << 10).await;
    let piece = bytes(1 << 20);
    let mut accepted = 0;
    while let Some(written) = poll_fn(|context| forward.poll_write(context, &piece)).now_or_never() {
        accepted += written.expect("written");
        assert!(accepted < 1 << 19, "what is not taken must not be held");
    }
    node.send(data(b"notice")).await.expect("sent");
    assert_eq!(read(&mut forward, 100).await, Ok(b"notice".to_vec()));
    // And it goes on where it was.
    let (received, ()) = tokio::join!(receive(&mut node, accepted), async {
        poll_fn(|context| forward.poll_flush(context)).await.expect("flushed");
    });
    assert_eq!(received.0.len(), accepted);
}

#[tokio::test(start_paused = true)]
async fn pings_are_sent_while_nothing_comes_and_a_dead_tunnel_is_given_up() {
    let (mut forward, mut node) = open(1 << 16).await;
    let begun = Instant::now();
    let cause = read(&mut forward, 1).await.expect_err("nobody answers");
    assert_eq!(cause, TunnelCause::Silent(Duration::from_secs(200)));
    assert_eq!(begun.elapsed(), Duration::from_secs(200));
    let mut sent = Vec::new();
    while let Some(Some(Ok(message))) = node.next().now_or_never() {
        sent.extend([message].into_iter().filter(|message| !message.is_close()));
    }
    assert_eq!(sent, vec![ping(1); 7]);

    // One that answers lives for ever.
    let (mut forward, mut node) = open(1 << 16).await;
    let answering = async {
        while let Some(Ok(asked)) = node.next().await {
            node.send(asked).await.expect("sent");
        }
    };
    let lived = timeout(Duration::from_secs(3600), async {
        tokio::select! { read = read(&mut forward, 1) => panic!("{read:?}"), () = answering => panic!("it ended") }
    });
    assert!(lived.await.is_err());
}

#[tokio::test]
async fn a_ping_of_the_node_is_answered() {
    let (mut forward, mut node) = open(1 << 16).await;
    for message in [ping(4), data(b"x")] {
        node.send(message).await.expect("sent");
    }
    assert_eq!(read(&mut forward, 1).await, Ok(b"x".to_vec()));
    assert!(read(&mut forward, 1).now_or_never().is_none());
    assert_eq!(node.next().await.expect("a message").expect("a message"), ping(4));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_bytes_is_not_taken_for_dead() {
    let (mut forward, _node) = open(1 << 10).await;
    let piece = bytes(1 << 20);
    let waiting = timeout(
        Duration::from_secs(1000),
        poll_fn(|context| {
            while forward.poll_write(context, &piece).is_ready() {}
            let mut byte = [0];
            match forward.poll_read(context, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(read) => Poll::Ready(read),
                Poll::Pending => Poll::Pending,
            }
        }),
    );
    assert!(waiting.await.is_err(), "whoever sends has a limit of its own");
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_was_written_and_ends_well_whatever_the_other_side_does() {
    let last = Message::Binary(frame(DATA, LAST, &[]));
    // It ends both streams when ours has ended, and closes.
    let (mut forward, mut node) = open(1 << 16).await;
    let begun = Instant::now();
    assert_eq!(poll_fn(|context| forward.poll_write(context, b"X")).await, Ok(1));
    let serving = async {
        let mut got = Vec::new();
        while let Some(Ok(message)) = node.next().await {
            if message == last {
                for message in [data(b"bye"), last.clone(), Message::Binary(frame(ERROR, LAST, &[]))] {
                    node.send(message).await.expect("sent");
                }
            }
            got.push(message);
        }
        got
    };
    let ((), got) = tokio::join!(poll_fn(|context| forward.poll_close(context)), serving);
    assert_eq!(got[..2], [data(b"X"), last]);
    assert!(got.len() == 3 && got[2].is_close(), "{got:?}");
    assert_eq!(read(&mut forward, 1).await, Ok(vec![]), "what was closed here did not break");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // It resets.
    let (mut forward, node) = open(1 << 16).await;
    drop(node);
    poll_fn(|context| forward.poll_close(context)).await;
    // It does nothing.
    let (mut forward, _node) = open(1 << 16).await;
    let begun = Instant::now();
    poll_fn(|context| forward.poll_close(context)).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}
