//! The protocol against the server's half of a websocket, frame by frame.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
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

/// Both halves of a websocket over a pipe that holds `capacity` bytes each way.
async fn pair(capacity: usize) -> (Forward<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (here, there) = duplex(capacity);
    let server = WebSocketStream::from_raw_socket(there, Role::Server, None).await;
    (Forward::new(here, PORT).await, server)
}

/// After the server's first frames.
async fn open(capacity: usize) -> (Forward<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (mut forward, mut server) = pair(capacity).await;
    for channel in [0, 1] {
        server.send(frame(channel, &PORT.to_le_bytes())).await.expect("sent");
    }
    forward.greeting().await.expect("both channels have told their port");
    (forward, server)
}

fn frame(channel: u8, content: &[u8]) -> Message {
    Message::binary([&[channel], content].concat())
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

/// What the server gets: the bytes, and the length of the longest frame.
async fn receive(server: &mut WebSocketStream<DuplexStream>, length: usize) -> (Vec<u8>, usize) {
    let (mut received, mut longest) = (Vec::new(), 0);
    while received.len() < length {
        let message = server.next().await.expect("more").expect("a frame").into_data();
        assert_eq!(message[0], 0);
        longest = longest.max(message.len());
        received.extend_from_slice(&message[1..]);
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
        limit in 1_usize..70_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut forward, mut server) = open(capacity).await;
            let up = bytes(sent.iter().sum());
            let sending = async {
                let mut rest = &up[..];
                for length in &sent {
                    let (now, later) = rest.split_at(*length);
                    write_all(&mut forward, now).await;
                    rest = later;
                }
            };
            let ((), (received, longest)) = tokio::join!(sending, receive(&mut server, up.len()));
            assert!(received == up, "what was sent is not what arrived");
            assert!(longest <= 1 + FRAME);

            let down = bytes(answered.iter().sum());
            let answering = async {
                let mut rest = &down[..];
                for length in &answered {
                    let (now, later) = rest.split_at(*length);
                    // Without content, too.
                    server.send(frame(0, now)).await.expect("sent");
                    server.send(Message::Ping(Bytes::new())).await.expect("sent");
                    rest = later;
                }
                server.send(close(CloseCode::Normal, "")).await.expect("sent");
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
async fn bytes_that_come_with_the_greeting_are_kept() {
    let (mut forward, mut server) = pair(1 << 16).await;
    for message in
        [frame(0, &PORT.to_le_bytes()), frame(0, b"ab"), frame(0, b"cd"), frame(1, &PORT.to_le_bytes())]
    {
        server.send(message).await.expect("sent");
    }
    forward.greeting().await.expect("both channels have told their port");
    assert_eq!(read(&mut forward, 3).await, Ok(b"abc".to_vec()));
    assert_eq!(read(&mut forward, 3).await, Ok(b"d".to_vec()));
}

#[tokio::test]
async fn what_is_not_the_protocol_is_refused() {
    for (messages, expected) in [
        (vec![frame(0, &5433_u16.to_le_bytes())], "channel 0 did not begin with port 5432"),
        (vec![frame(1, b"error")], "channel 1 did not begin with port 5432"),
        (vec![frame(0, &[0x38])], "channel 0 did not begin with port 5432"),
        (vec![frame(7, b"x")], "a frame of channel Some(7) came"),
        (vec![Message::binary(Bytes::new())], "a frame of channel None came"),
        (vec![Message::text("hello")], "a frame that is not binary came: hello"),
    ] {
        let (mut forward, mut server) = pair(1 << 16).await;
        for message in messages {
            server.send(message).await.expect("sent");
        }
        assert_eq!(forward.greeting().await, Err(TunnelCause::Protocol(expected.to_owned())));
    }
}

#[tokio::test]
async fn the_nodes_words_come_after_the_bytes_before_them() {
    let (mut forward, mut server) = open(1 << 16).await;
    server.send(frame(0, b"FATAL")).await.expect("sent");
    server.send(frame(1, b"error forwarding port 5432: connection refused\n")).await.expect("sent");
    server.send(close(CloseCode::Normal, "")).await.expect("sent");
    assert_eq!(read(&mut forward, 100).await, Ok(b"FATAL".to_vec()));
    let cause = TunnelCause::Forward("error forwarding port 5432: connection refused".to_owned());
    assert_eq!(read(&mut forward, 100).await, Err(cause.clone()));
    assert_eq!(read(&mut forward, 100).await, Err(cause), "an end stays one");
}

#[tokio::test]
async fn only_a_normal_close_is_an_end() {
    for (message, expected) in [
        (close(CloseCode::Normal, "anything"), Ok(vec![])),
        (close(CloseCode::Away, ""), Err(TunnelCause::Closed("code 1001".to_owned()))),
        (close(CloseCode::Error, "idle"), Err(TunnelCause::Closed("code 1011, idle".to_owned()))),
        (Message::Close(None), Err(TunnelCause::Closed("without a code".to_owned()))),
    ] {
        let (mut forward, mut server) = open(1 << 16).await;
        server.send(message).await.expect("sent");
        assert_eq!(read(&mut forward, 100).await, expected);
    }
    let (mut forward, server) = open(1 << 16).await;
    drop(server);
    assert!(matches!(read(&mut forward, 100).await, Err(TunnelCause::Broken(_))));
    let (mut forward, mut server) = pair(1 << 16).await;
    server.send(close(CloseCode::Normal, "")).await.expect("sent");
    assert!(matches!(forward.greeting().await, Err(TunnelCause::Closed(_))));
}

#[tokio::test]
async fn what_was_written_goes_out_when_the_answer_is_waited_for() {
    let (mut forward, mut server) = open(1 << 16).await;
    assert_eq!(poll_fn(|context| forward.poll_write(context, b"SSLRequest")).await, Ok(10));
    let answering = async {
        assert_eq!(server.next().await.expect("a frame").expect("a frame"), frame(0, b"SSLRequest"));
        server.send(frame(0, b"S")).await.expect("sent");
    };
    let (answer, ()) = tokio::join!(read(&mut forward, 1), answering);
    assert_eq!(answer, Ok(b"S".to_vec()));
}

#[tokio::test]
async fn a_writer_is_held_back_and_holds_up_no_reader() {
    let (mut forward, mut server) = open(1 << 10).await;
    let piece = bytes(1 << 20);
    let mut accepted = 0;
    while let Some(written) = poll_fn(|context| forward.poll_write(context, &piece)).now_or_never() {
        accepted += written.expect("written");
        assert!(accepted < 1 << 19, "what is not taken must not be held");
    }
    server.send(frame(0, b"notice")).await.expect("sent");
    assert_eq!(read(&mut forward, 100).await, Ok(b"notice".to_vec()));
    // And it goes on where it was.
    let (received, ()) = tokio::join!(receive(&mut server, accepted), async {
        poll_fn(|context| forward.poll_flush(context)).await.expect("flushed");
    });
    assert_eq!(received.0.len(), accepted);
}

#[tokio::test(start_paused = true)]
async fn pings_are_sent_while_nothing_comes_and_a_dead_tunnel_is_given_up() {
    let (mut forward, mut server) = open(1 << 16).await;
    let begun = Instant::now();
    let reading = async {
        let cause = read(&mut forward, 1).await.expect_err("nobody answers");
        (cause, begun.elapsed())
    };
    // A websocket that is not polled answers nothing; what it got is counted afterwards.
    let (cause, waited) = reading.await;
    assert_eq!((cause, waited), (TunnelCause::Silent(Duration::from_secs(200)), Duration::from_secs(200)));
    let mut sent = Vec::new();
    while let Some(Some(Ok(message))) = server.next().now_or_never() {
        sent.extend([message].into_iter().filter(|message| !message.is_close()));
    }
    // An empty frame with each ping, since the node does not count those.
    assert_eq!(sent, vec![[Message::Ping(Bytes::new()), frame(0, b"")]; 7].concat());

    // One that answers lives for ever.
    let (mut forward, mut server) = open(1 << 16).await;
    let answering = async { while server.next().await.is_some_and(|message| message.is_ok()) {} };
    let lived = timeout(Duration::from_secs(3600), async {
        tokio::select! { read = read(&mut forward, 1) => panic!("{read:?}"), () = answering => panic!("it ended") }
    });
    assert!(lived.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_bytes_is_not_taken_for_dead() {
    let (mut forward, _server) = open(1 << 10).await;
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
    // It closes, too.
    let (mut forward, mut server) = open(1 << 16).await;
    let begun = Instant::now();
    assert_eq!(poll_fn(|context| forward.poll_write(context, b"X")).await, Ok(1));
    let serving = async {
        let first = server.next().await.expect("a frame").expect("a frame");
        let second = server.next().await.expect("a frame").expect("a frame");
        // The websocket answers when it is polled once more.
        let _ = server.next().await;
        (first, second)
    };
    let ((), (first, second)) = tokio::join!(poll_fn(|context| forward.poll_close(context)), serving);
    assert_eq!(first, frame(0, b"X"));
    assert!(second.is_close());
    assert_eq!(read(&mut forward, 1).await, Ok(vec![]), "what was closed here did not break");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // It resets.
    let (mut forward, server) = open(1 << 16).await;
    drop(server);
    poll_fn(|context| forward.poll_close(context)).await;
    // It does nothing.
    let (mut forward, _server) = open(1 << 16).await;
    let begun = Instant::now();
    poll_fn(|context| forward.poll_close(context)).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}
