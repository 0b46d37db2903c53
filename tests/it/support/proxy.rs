//! A TCP proxy between pgmove and a server, which cuts connections at a chosen place of their streams, or holds them, for
//! ever or for a while.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

/// What happens to a connection when the client has sent the fault's words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// At once: the server never sees the message.
    Request,
    /// At once, and the server does not notice: its connection stays, and nobody is there.
    Silent,
    /// After so many further bytes of the client.
    RequestAfter(usize),
    /// After so many bytes of the server's answer; with 0 the server has done what it was told, and nobody knows.
    Answer(i64),
    /// Not at all: after so many further bytes of the client nothing gets through, and no end of either side.
    HoldRequest(usize),
    /// The same, after so many bytes of the server's answer.
    HoldAnswer(i64),
    /// The same, and after this time everything gets through as before.
    DelayAnswer(i64, Duration),
}

/// When a connection is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// What the client sends.
    pub(crate) words: &'static str,
    /// How often it may send that before.
    pub(crate) spared: usize,
    /// How the connection ends.
    pub(crate) cut: Cut,
    /// How many connections end so.
    pub(crate) times: usize,
}

/// From where to where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Listens on a port of its own and passes everything on, until a fault is set.
pub(crate) struct Proxy {
    /// On 127.0.0.1.
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    fault: Mutex<Option<Fault>>,
    cut: Mutex<Option<(Direction, usize)>>,
    seen: AtomicUsize,
    fired: AtomicUsize,
    is_severed: AtomicBool,
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Proxy {
    /// In front of a server's port.
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        // Ends with the test process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.is_severed.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                accepting.pass_on(client, server);
            }
        });
        Self { port, shared }
    }

    /// The same URI, by way of the proxy.
    pub(crate) fn uri(&self, uri: &str, server: u16) -> String {
        uri.replace(&format!("127.0.0.1:{server}"), &format!("127.0.0.1:{}", self.port))
    }

    /// Sets the fault, in place of an earlier one.
    pub(crate) fn set(&self, fault: Fault) {
        self.shared.seen.store(0, Ordering::SeqCst);
        self.shared.fired.store(0, Ordering::SeqCst);
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// Cuts the first connection that carries more than so many bytes in this direction, after exactly these: for what is
    /// encrypted.
    pub(crate) fn cut(&self, direction: Direction, bytes: usize) {
        self.shared.fired.store(0, Ordering::SeqCst);
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some((direction, bytes));
    }

    /// How many connections the fault has cut.
    pub(crate) fn fired(&self) -> usize {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// Resets every connection, and every new one.
    pub(crate) fn sever(&self) {
        self.shared.is_severed.store(true, Ordering::SeqCst);
        for (client, server) in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            end(&client, &server);
        }
    }

    /// Passes everything on again.
    pub(crate) fn heal(&self) {
        self.shared.is_severed.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn pass_on(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().expect("a socket handle");
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a TCP socket");
        }
        let answers = Arc::new(Answers::default());
        let pair = (clone(&client), clone(&server));
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(pair);
        let (limit, ours) = (Arc::clone(&answers), (clone(&client), clone(&server)));
        let shared = Arc::clone(self);
        thread::spawn(move || forward_answers(ours.1, ours.0, &shared, &limit));
        let shared = Arc::clone(self);
        thread::spawn(move || shared.forward_requests(client, server, &answers));
    }

    /// Whether a connection that has sent these bytes is to be cut, and how.
    fn strikes(&self, sent: &[u8]) -> Option<Cut> {
        let fault = (*self.fault.lock().unwrap_or_else(PoisonError::into_inner))?;
        sent.windows(fault.words.len()).any(|window| window == fault.words.as_bytes()).then_some(())?;
        let is_spared = self.seen.fetch_add(1, Ordering::SeqCst) < fault.spared;
        let is_over = self.seen.load(Ordering::SeqCst) > fault.spared + fault.times;
        (!is_spared && !is_over).then(|| {
            self.fired.fetch_add(1, Ordering::SeqCst);
            fault.cut
        })
    }

    /// How much of these bytes still gets through, if the connection is to be cut within them.
    fn cuts(&self, direction: Direction, carried: &mut usize, length: usize) -> Option<usize> {
        let before = *carried;
        *carried += length;
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, bytes) = cut.take_if(|(of, bytes)| *of == direction && (before..*carried).contains(bytes))?;
        self.fired.fetch_add(1, Ordering::SeqCst);
        Some(bytes - before)
    }

    fn forward_requests(&self, mut client: TcpStream, mut server: TcpStream, answers: &Answers) {
        let mut buffer = vec![0; 1 << 16];
        let (mut left, mut is_held, mut carried) = (usize::MAX, false, 0);
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            if let Some(passed) = self.cuts(Direction::Up, &mut carried, length) {
                let _ = server.write_all(&buffer[..passed]);
                return end(&client, &server);
            }
            if left == usize::MAX {
                match self.strikes(&buffer[..length]) {
                    None => {}
                    Some(Cut::Request) => left = 0,
                    // The server's socket lives on in `open`.
                    Some(Cut::Silent) => return reset(&client),
                    Some(Cut::RequestAfter(bytes)) => left = length + bytes,
                    Some(Cut::Answer(bytes)) => answers.left.store(bytes, Ordering::SeqCst),
                    Some(Cut::HoldRequest(bytes)) => (left, is_held) = (length + bytes, true),
                    Some(Cut::HoldAnswer(bytes)) => {
                        answers.is_held.store(true, Ordering::SeqCst);
                        answers.left.store(bytes, Ordering::SeqCst);
                    }
                    Some(Cut::DelayAnswer(bytes, delay)) => {
                        *answers.delay.lock().unwrap_or_else(PoisonError::into_inner) = Some(delay);
                        answers.left.store(bytes, Ordering::SeqCst);
                    }
                }
            }
            let passed = length.min(left);
            if server.write_all(&buffer[..passed]).is_err() {
                break;
            }
            if left != usize::MAX {
                left -= passed;
                if left == 0 {
                    hold(is_held);
                    return end(&client, &server);
                }
            }
        }
        let _ = server.shutdown(Shutdown::Write);
    }
}

fn forward_answers(mut server: TcpStream, mut client: TcpStream, shared: &Shared, limit: &Answers) {
    let (mut buffer, mut carried) = (vec![0; 1 << 16], 0);
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        if let Some(passed) = shared.cuts(Direction::Down, &mut carried, length) {
            let _ = client.write_all(&buffer[..passed]);
            return end(&client, &server);
        }
        let left = limit.left.load(Ordering::SeqCst);
        let passed = usize::try_from(left).map_or(0, |left| length.min(left));
        if client.write_all(&buffer[..passed]).is_err() {
            break;
        }
        if left != i64::MAX {
            limit.left.fetch_sub(i64::try_from(passed).unwrap_or(i64::MAX), Ordering::SeqCst);
            if passed < length {
                let delay = limit.delay.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(delay) = delay {
                    thread::sleep(delay);
                    limit.left.store(i64::MAX, Ordering::SeqCst);
                    if client.write_all(&buffer[passed..length]).is_err() {
                        break;
                    }
                    continue;
                }
                hold(limit.is_held.load(Ordering::SeqCst));
                return end(&client, &server);
            }
        }
    }
    let _ = client.shutdown(Shutdown::Write);
}

/// What a connection may still answer.
struct Answers {
    left: AtomicI64,
    is_held: AtomicBool,
    /// How long it stands still; then it goes on.
    delay: Mutex<Option<Duration>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { left: AtomicI64::new(i64::MAX), is_held: AtomicBool::default(), delay: Mutex::default() }
    }
}

/// Keeps the calling thread, and its connection with it, until the test process ends.
fn hold(is_held: bool) {
    if is_held {
        loop {
            thread::park();
        }
    }
}

/// Resets the client's side, as a firewall would, and closes the server's.
fn end(client: &TcpStream, server: &TcpStream) {
    reset(client);
    let _ = server.shutdown(Shutdown::Both);
}

fn reset(client: &TcpStream) {
    let _ = SockRef::from(client).set_linger(Some(Duration::ZERO));
    let _ = client.shutdown(Shutdown::Both);
}
