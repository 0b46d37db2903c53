//! A stand-in for an API server: pods whose port-forward leads to a real server of this machine, with faults at exact
//! bytes, which a real one cannot be told to have. What only a real one shows is tested on a real one.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::TcpStream as Socket,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use serde_json::json;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::HeaderValue,
        protocol::CloseFrame,
    },
};

use super::moving::Reach;

mod exec;

pub(crate) use exec::Loss;

/// The port that PostgreSQL has in a pod that says no other one.
const PORT: u16 = 5432;

/// What a tunnel suffers when the client has sent the fault's words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The pod whose tunnels suffer it; any if it is empty.
    pub(crate) pod: &'static str,
    /// What the client sends; any first bytes if it is empty.
    pub(crate) words: &'static str,
    /// How many tunnels may send that before.
    pub(crate) spared: usize,
    /// How many suffer it.
    pub(crate) times: usize,
    /// After so many bytes more of which direction.
    pub(crate) after: After,
    /// What happens then.
    pub(crate) end: End,
}

/// A place in one direction of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// So many bytes of the client, the message with the words among them.
    Up(usize),
    /// So many bytes of the server.
    Down(usize),
}

/// The streams of a tunnel, what begins a control frame, and the flag of a stream's last frame (SPDY/3.1).
const ERROR: u32 = 1;
const DATA: u32 = 3;
const SYN_REPLY: u32 = 0x8003_0002;
const RST_STREAM: u32 = 0x8003_0003;
const FIN: u8 = 1;

/// How a tunnel ends, or does not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// As a load balancer cuts it.
    Reset,
    /// By a close frame with this code.
    Close(u16),
    /// By the node's words on the stream for them, and a reset of both.
    Error(&'static str),
    /// By a frame of a stream that there is not.
    Garbage,
    /// Nothing gets through any more, for so long.
    Hold(Duration),
}

/// The server; it ends with the test process.
pub(crate) struct StandIn {
    kubeconfig: PathBuf,
    shared: Arc<Shared>,
    _directory: tempfile::TempDir,
}

#[derive(Default)]
struct Shared {
    loss: Mutex<Option<Loss>>,
    /// What the next programs lose, the last one first.
    next_losses: Mutex<Vec<Loss>>,
    /// The programs that were run, with their arguments.
    commands: Mutex<Vec<Vec<String>>>,
    /// What is added to the environment of programs.
    environment: Mutex<Vec<(&'static str, OsString)>>,
    pods: Mutex<BTreeMap<String, Pod>>,
    fault: Mutex<Option<Fault>>,
    seen: AtomicUsize,
    fired: AtomicUsize,
    refusals: Mutex<Vec<(u16, &'static str)>>,
    opened: AtomicUsize,
}

#[derive(Clone)]
struct Pod {
    uid: String,
    server: u16,
    /// The port that it says its server has.
    port: u16,
}

fn uid_of(pod: &str) -> String {
    format!("uid-of-{pod}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StandIn {
    /// With these pods, each in front of the server with this port.
    pub(crate) fn start(pods: &[(&str, u16)]) -> StandIn {
        Self::with_ports(pods, |_| PORT)
    }

    /// The same, but programs in a pod reach each server too: at the pod's address and port.
    pub(crate) fn with_addresses(pods: &[(&str, u16)]) -> StandIn {
        Self::with_ports(pods, |server| server)
    }

    fn with_ports(pods: &[(&str, u16)], port: fn(u16) -> u16) -> StandIn {
        let shared = Arc::new(Shared::default());
        for (name, server) in pods {
            let pod = Pod { uid: uid_of(name), server: *server, port: port(*server) };
            lock(&shared.pods).insert((*name).to_owned(), pod);
        }
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        listener.set_nonblocking(true).expect("a socket");
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&accepting).serve(stream));
                }
            });
        });
        let directory = tempfile::tempdir().expect("a temporary directory");
        let kubeconfig = directory.path().join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "somebody", "user": {}}],
            "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "somebody"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("a file of a temporary directory");
        StandIn { kubeconfig, shared, _directory: directory }
    }

    /// The way to it.
    pub(crate) fn reach(&self) -> Reach {
        Reach { kubeconfig: self.kubeconfig.clone(), namespace: "media".into() }
    }

    /// Sets the fault, in place of an earlier one.
    pub(crate) fn set(&self, fault: Fault) {
        self.shared.seen.store(0, Ordering::SeqCst);
        self.shared.fired.store(0, Ordering::SeqCst);
        *lock(&self.shared.fault) = Some(fault);
    }

    /// How many tunnels have suffered the fault.
    pub(crate) fn fired(&self) -> usize {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// How many tunnels there have been.
    pub(crate) fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Has the next tunnels refused so, one after the other; where a fault is set, those after it has struck.
    pub(crate) fn refuse(&self, refusals: &[(u16, &'static str)]) {
        *lock(&self.shared.refusals) = refusals.iter().rev().copied().collect();
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        stream.set_nodelay(true).expect("a TCP socket");
        let mut head = vec![0; 1 << 14];
        let path = loop {
            let Ok(length @ 1..) = stream.peek(&mut head).await else { return };
            let text = String::from_utf8_lossy(&head[..length]);
            if text.contains("\r\n\r\n") {
                break text.split(' ').nth(1).unwrap_or_default().to_owned();
            }
        };
        let name = path.trim_start_matches("/api/v1/namespaces/media/pods/");
        let (name, rest) = name.split_once('/').unwrap_or((name, ""));
        let pod = lock(&self.pods).get(name).cloned();
        let is_due = lock(&self.fault).is_none() || self.fired.load(Ordering::SeqCst) > 0;
        let is_refused = is_due && rest.starts_with("portforward");
        let refusal = if is_refused { lock(&self.refusals).pop() } else { None };
        match (pod, refusal) {
            (_, Some((code, message))) => answer(stream, code, &status(code, name, message)).await,
            (None, _) => answer(stream, 404, &status(404, name, "not found")).await,
            (Some(_), None) if rest.starts_with("exec") => self.exec(stream, &path).await,
            (Some(pod), None) if rest.starts_with("portforward") => self.forward(stream, &pod).await,
            (Some(pod), None) => answer(stream, 200, &description(name, &pod)).await,
        }
    }

    async fn forward(&self, stream: TcpStream, pod: &Pod) {
        let raw = stream.into_std().expect("a socket");
        let stream = TcpStream::from_std(raw.try_clone().expect("a socket handle")).expect("a socket");
        let Some(socket) = upgrade(stream, "SPDY/3.1+portforward.k8s.io").await else { return };
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (mut sink, mut source) = socket.split();
        // The client opens both streams with its first message.
        let _ = source.next().await;
        for stream in [ERROR, DATA] {
            let _ = sink.send(spdy(SYN_REPLY, 0, &stream.to_be_bytes())).await;
        }
        let server = match TcpStream::connect(("127.0.0.1", pod.server)).await {
            Ok(server) => server,
            Err(error) => {
                give_up(&mut sink, &format!("error forwarding port {} to pod: {error}", pod.port)).await;
                return;
            }
        };
        let (from, to) = server.into_split();
        let struck = Mutex::new(None);
        let left = AtomicUsize::new(usize::MAX);
        let end = tokio::select! {
            end = self.up(pod, source, to, &struck, &left) => end,
            end = down(from, &mut sink, &left) => end,
        };
        let end = if end { lock(&struck).take() } else { None };
        match end.map(|fault: Fault| fault.end) {
            None => {
                for stream in [ERROR, DATA] {
                    let _ = sink.send(spdy(stream, FIN, &[])).await;
                }
                let _ = sink.send(close(1000)).await;
            }
            Some(End::Close(code)) => drop(sink.send(close(code)).await),
            Some(End::Error(words)) => give_up(&mut sink, words).await,
            Some(End::Garbage) => drop(sink.send(spdy(9, 0, b"9")).await),
            Some(End::Reset) => reset(&raw),
            Some(End::Hold(time)) => {
                tokio::time::sleep(time).await;
                reset(&raw);
            }
        }
    }

    /// From the client to the server, until either ends or the fault strikes. Whether it struck.
    async fn up(
        &self,
        pod: &Pod,
        mut source: SplitStream<WebSocketStream<TcpStream>>,
        mut server: tokio::net::tcp::OwnedWriteHalf,
        struck: &Mutex<Option<Fault>>,
        left_down: &AtomicUsize,
    ) -> bool {
        let mut left = usize::MAX;
        while let Some(Ok(message)) = source.next().await {
            let Message::Binary(frame) = message else { continue };
            // The client's frames are a message each.
            let Some(bytes) = frame.strip_prefix(&DATA.to_be_bytes()) else { continue };
            let (head, bytes) = bytes.split_at(4);
            if head[0] == FIN {
                return false;
            }
            if lock(struck).is_none()
                && let Some(fault) = self.strikes(pod, bytes)
            {
                *lock(struck) = Some(fault);
                match fault.after {
                    After::Up(bytes) => left = bytes,
                    After::Down(bytes) => left_down.store(bytes, Ordering::SeqCst),
                }
            }
            let passed = bytes.len().min(left);
            if server.write_all(&bytes[..passed]).await.is_err() {
                return false;
            }
            if left != usize::MAX {
                left -= passed;
                if left == 0 {
                    return true;
                }
            }
        }
        false
    }

    fn strikes(&self, pod: &Pod, sent: &[u8]) -> Option<Fault> {
        let fault = (*lock(&self.fault))?;
        (fault.pod.is_empty() || pod.uid == uid_of(fault.pod)).then_some(())?;
        let words = fault.words.as_bytes();
        (words.is_empty() || sent.windows(words.len()).any(|window| window == words)).then_some(())?;
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        (fault.spared..fault.spared + fault.times).contains(&seen).then(|| {
            self.fired.fetch_add(1, Ordering::SeqCst);
            fault
        })
    }
}

/// From the server to the client, until the server ends or no byte is left. Whether none is.
async fn down(
    mut server: tokio::net::tcp::OwnedReadHalf,
    sink: &mut SplitSink<WebSocketStream<TcpStream>, Message>,
    left: &AtomicUsize,
) -> bool {
    // As large as containerd's frames.
    let mut buffer = vec![0; 32 << 10];
    loop {
        let Ok(length @ 1..) = server.read(&mut buffer).await else { return false };
        let limit = left.load(Ordering::SeqCst);
        let passed = length.min(limit);
        if passed > 0 && sink.send(spdy(DATA, 0, &buffer[..passed])).await.is_err() {
            return false;
        }
        if limit != usize::MAX {
            left.fetch_sub(passed, Ordering::SeqCst);
            if passed == limit || passed < length {
                return true;
            }
        }
    }
}

/// A frame of SPDY: its first four bytes, its flags, and what is in it.
fn spdy(first: u32, flags: u8, content: &[u8]) -> Message {
    let length = u32::try_from(content.len()).expect("less than 16 MiB");
    let head = [first, u32::from(flags) << 24 | length].map(u32::to_be_bytes);
    Message::binary([head.concat().as_slice(), content].concat())
}

/// As the kubelet's library does it: the node's words, and both streams are reset.
async fn give_up(sink: &mut SplitSink<WebSocketStream<TcpStream>, Message>, words: &str) {
    let _ = sink.send(spdy(ERROR, 0, words.as_bytes())).await;
    for stream in [DATA, ERROR] {
        let _ = sink.send(spdy(RST_STREAM, 0, &[stream, 5].map(u32::to_be_bytes).concat())).await;
    }
}

fn close(code: u16) -> Message {
    Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))
}

fn reset(socket: &Socket) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(std::net::Shutdown::Both);
}

/// The websocket of this protocol.
async fn upgrade(stream: TcpStream, protocol: &'static str) -> Option<WebSocketStream<TcpStream>> {
    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
    let greet = |_: &Request, mut response: Response| {
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, greet).await.ok()
}

async fn answer(mut stream: TcpStream, code: u16, body: &serde_json::Value) {
    let body = body.to_string();
    let mut head = vec![0; 1 << 14];
    let _ = stream.read(&mut head).await;
    let text = format!(
        "HTTP/1.1 {code} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

fn status(code: u16, name: &str, message: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message,
        "reason": "", "details": {"name": name, "kind": "pods"},
    })
}

fn description(name: &str, pod: &Pod) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "media", "uid": pod.uid},
        "spec": {"containers": [{
            "name": "postgres", "image": "postgres:16", "ports": [{"name": "postgresql", "containerPort": pod.port}],
        }]},
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{
                "name": "postgres", "ready": true, "restartCount": 0, "image": "postgres:16", "imageID": "",
                "state": {"running": {}},
            }],
        },
    })
}
