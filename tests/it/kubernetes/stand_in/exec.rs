//! `pods/exec`: runs the program on this machine, and loses bytes of it in silence where it is told to.

use std::{ffi::OsString, process::Stdio, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{Message, http::Uri};

use super::{Shared, StandIn, close, lock, upgrade};
use crate::support::{Server, client_path};

/// How many bytes get through; more are lost, and nobody is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// Of the standard input, which is closed then.
    pub(crate) input: usize,
    /// Of the standard output.
    pub(crate) output: usize,
    /// Of the standard error.
    pub(crate) messages: usize,
    /// Whether the stream is closed without a status.
    pub(crate) is_cut: bool,
}

impl Loss {
    /// Everything gets through.
    pub(crate) const NONE: Loss =
        Loss { input: usize::MAX, output: usize::MAX, messages: usize::MAX, is_cut: false };
}

impl StandIn {
    /// Has psql find a server, as its pod would: over its Unix socket, as the superuser and without a password.
    pub(crate) fn lead(&self, server: &Server) {
        *lock(&self.shared.environment) = vec![
            ("PATH", client_path()),
            ("PGHOST", server.directory().expect("a local server").into()),
            ("PGPORT", server.port.to_string().into()),
        ];
    }

    /// Has programs find others on this path, and what would lead them to no server.
    pub(crate) fn offer(&self, path: OsString) {
        *lock(&self.shared.environment) = vec![
            ("PATH", path),
            ("PGHOST", "elsewhere".into()),
            ("PGPASSWORD", "wrong".into()),
            ("PGSERVICE", "none".into()),
            ("PGSSLMODE", "verify-full".into()),
        ];
    }

    /// Has the next programs lose bytes, one after the other.
    pub(crate) fn lose_next(&self, losses: &[Loss]) {
        *lock(&self.shared.next_losses) = losses.iter().rev().copied().collect();
    }

    /// The programs that were run so far, with their arguments.
    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        lock(&self.shared.commands).clone()
    }

    /// Has programs lose bytes from now on.
    pub(crate) fn lose(&self, loss: Loss) {
        *lock(&self.shared.loss) = Some(loss);
    }
}

impl Shared {
    pub(super) async fn exec(&self, stream: TcpStream, path: &str) {
        let next = lock(&self.next_losses).pop();
        let loss = next.or(*lock(&self.loss)).unwrap_or(Loss::NONE);
        let uri: Uri = path.parse().expect("a path");
        let parameters: Vec<(String, String)> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(decode)
            .collect();
        let of = |wanted: &str| -> Vec<&str> {
            parameters.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &**value).collect()
        };
        assert_eq!(of("container"), ["postgres"]);
        let Some(socket) = upgrade(stream, "v5.channel.k8s.io").await else { return };
        let (mut sink, mut source) = socket.split();
        let command = of("command");
        lock(&self.commands).push(command.iter().map(ToString::to_string).collect());
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .envs(lock(&self.environment).clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("sh runs");
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (frames, mut sent) = mpsc::channel(1);
        let pass = |channel, stream, limit| pass_on(channel, stream, limit, frames.clone());
        let outputs = tokio::spawn(pass(1, Box::new(stdout.expect("piped")) as Stream, loss.output));
        let messages = tokio::spawn(pass(2, Box::new(stderr.expect("piped")) as Stream, loss.messages));
        drop(frames);
        let input = async {
            let mut left = loss.input;
            while let Some(Ok(message)) = source.next().await {
                let Message::Binary(frame) = message else { continue };
                let Some(bytes) = frame.strip_prefix(&[0]) else { continue };
                let passed = bytes.len().min(left);
                left -= passed;
                if let Some(stdin) = &mut stdin {
                    let _ = stdin.write_all(&bytes[..passed]).await;
                }
                if left == 0 {
                    stdin = None;
                }
            }
        };
        let output = async {
            while let Some(frame) = sent.recv().await {
                sink.send(Message::binary(frame)).await.expect("the client reads");
            }
            let _ = tokio::join!(outputs, messages);
            let status = child.wait().await.expect("a child");
            let status = if status.success() { "Success" } else { "Failure" };
            let text = json!({"metadata": {}, "status": status}).to_string();
            let end =
                if loss.is_cut { None } else { Some(Message::binary([b"\x03", text.as_bytes()].concat())) };
            for message in end.into_iter().chain([close(1000)]) {
                let _ = sink.send(message).await;
            }
        };
        // Input that nobody reads is taken to the end: a socket that is closed before would be reset, with what it sent.
        let _ = tokio::join!(output, tokio::time::timeout(Duration::from_secs(5), input));
    }
}

type Stream = Box<dyn AsyncRead + Send + Unpin>;

async fn pass_on(channel: u8, mut stream: Stream, mut left: usize, frames: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; 8 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let passed = length.min(left);
        left -= passed;
        if passed > 0 {
            let _ = frames.send([&[channel], &buffer[..passed]].concat()).await;
        }
    }
}

/// Of a query's pair.
fn decode((name, value): (&str, &str)) -> (String, String) {
    let (mut bytes, mut rest) = (Vec::new(), value.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                let digits = std::str::from_utf8(&digits).expect("hexadecimal").to_owned();
                u8::from_str_radix(&digits, 16).expect("hexadecimal")
            }
            other => other,
        });
    }
    (name.to_owned(), String::from_utf8(bytes).expect("UTF-8"))
}
