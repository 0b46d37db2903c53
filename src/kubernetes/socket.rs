//! A Unix socket that leads to a pod, for programs that know no tunnels: `pg_dump`.
//!
//! [`Bridge::listen`] makes the socket in a private directory (0700), so that only this account reaches it. Each connection
//! to it gets a tunnel of its own, to the pod that is there then; TLS to the server, where it is asked for, is set up
//! here, since libpq uses none on a Unix socket. When the bridge goes, socket and connections go with it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::tls::TlsConnect as _;

use crate::pg::conninfo::SslMode;
use crate::pg::pod::open_tunnel;
use crate::pg::server_error::describe_chain;
use crate::pg::{ConnInfo, Refusal};

/// How much is read from either side at once: what a frame of a tunnel holds.
const BUFFER: usize = 64 * 1024;

/// How long connections may take to end after the program has.
const END: Duration = Duration::from_secs(5);

/// `SSLRequest` (protocol documentation, "SSL Session Encryption").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A socket that leads to a pod.
#[derive(Debug)]
pub(crate) struct Bridge {
    directory: PathBuf,
    failure: Arc<OnceLock<String>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Bridge {
    /// Makes the socket and serves it on this runtime.
    pub(crate) fn listen(conninfo: &Arc<ConnInfo>) -> io::Result<Bridge> {
        let directory = private_directory(&std::env::temp_dir())?;
        let path = directory.join(format!(".s.PGSQL.{}", conninfo.port()));
        let listener = UnixListener::bind(path).inspect_err(|_| remove(&directory))?;
        let failure = Arc::new(OnceLock::new());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(serve(listener, Arc::clone(conninfo), Arc::clone(&failure), stopped));
        Ok(Bridge { directory, failure, stop: Some(stop), serving })
    }

    /// The directory of the socket: libpq's `host`.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits a moment until the connections of a program that has ended are closed in the pod, too; gives the first
    /// reason why one was cut.
    pub(crate) async fn close(mut self) -> Option<String> {
        drop(self.stop.take());
        // Those that are still there then end with the bridge.
        let _ = tokio::time::timeout(END, &mut self.serving).await;
        self.failure.get().cloned()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.serving.abort();
        remove(&self.directory);
    }
}

async fn serve(
    listener: UnixListener,
    conninfo: Arc<ConnInfo>,
    failure: Arc<OnceLock<String>>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        let program = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((program, _)) => program,
                Err(error) => {
                    let _ = failure.set(error.to_string());
                    break;
                }
            },
            _ = &mut stopped => break,
        };
        let (conninfo, failure) = (Arc::clone(&conninfo), Arc::clone(&failure));
        connections.spawn(async move {
            if let Err(reason) = connect(program, &conninfo).await {
                let _ = failure.set(reason);
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

/// Carries one connection of the program to its end. It is dropped, and so closed, when the tunnel breaks.
async fn connect(mut program: UnixStream, conninfo: &ConnInfo) -> Result<(), String> {
    let refused = |refusal: Refusal| describe_chain(&refusal);
    let (mut tunnel, tls) = open_tunnel(conninfo).await.map_err(refused)?;
    let Some(tls) = tls else { return carry(&mut program, &mut tunnel).await };
    let answer = async {
        tunnel.write_all(&SSL_REQUEST).await?;
        tunnel.flush().await?;
        tunnel.read_u8().await
    };
    match answer.await {
        Ok(b'S') => {
            let mut stream = tls.connect(tunnel).await.map_err(|error| describe_chain(&error))?;
            introduce(&mut program, &mut stream).await.map_err(|error| describe_chain(&error))?;
            carry(&mut program, &mut stream).await
        }
        Ok(_) if conninfo.ssl_mode() == SslMode::Prefer => carry(&mut program, &mut tunnel).await,
        Ok(_) => Err(refused(Refusal::TlsRefused { mode: conninfo.ssl_mode() })),
        Err(error) => Err(describe_chain(&error)),
    }
}

/// Passes on what the program begins with, and the server's answer without the offer to bind the login to the TLS channel:
/// libpq has none on its side, and takes the offer for an attack.
async fn introduce(
    program: &mut UnixStream,
    pod: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    let startup = message(program, 0).await?;
    pod.write_all(&startup).await?;
    pod.flush().await?;
    let answer = message(pod, 1).await?;
    program.write_all(&without_channel_binding(answer)).await
}

/// One message whose length follows `type_length` bytes (protocol documentation, "Message Formats"). None of those that a
/// connection begins with is long.
async fn message(stream: &mut (impl AsyncRead + Unpin), type_length: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; type_length + 4];
    stream.read_exact(&mut message).await?;
    let length = u32::from_be_bytes(message[type_length..].try_into().expect("four bytes"));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(4..=BUFFER).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not PostgreSQL's protocol"));
    }
    message.resize(type_length + length, 0);
    stream.read_exact(&mut message[type_length + 4..]).await?;
    Ok(message)
}

/// `AuthenticationSASL` without the mechanisms that bind the channel; any other message as it is.
fn without_channel_binding(message: Vec<u8>) -> Vec<u8> {
    const SASL: [u8; 4] = 10_u32.to_be_bytes();
    if message[0] != b'R' || message.get(5..9) != Some(&SASL[..]) {
        return message;
    }
    let names =
        message[9..].split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.ends_with(b"-PLUS"));
    let names: Vec<u8> = names.flat_map(|name| name.iter().copied().chain([0])).chain([0]).collect();
    let length = u32::try_from(8 + names.len()).expect("it was longer before");
    [&b"R"[..], &length.to_be_bytes(), &SASL, &names].concat()
}

async fn carry(
    program: &mut UnixStream,
    pod: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), String> {
    let carried = copy_bidirectional_with_sizes(program, pod, BUFFER, BUFFER).await;
    carried.map(drop).map_err(|error| describe_chain(&error))
}

/// A new directory that only this account may enter. The path of a socket may have 107 bytes, which a run directory's
/// may well exceed: so it is made where temporary files are.
fn private_directory(parent: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("pgmove-socket-{}-{count}", std::process::id()));
        // Creating fails if the name is taken, so nobody else can have put anything there.
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => return Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn remove(directory: &Path) {
    // Nothing can be done about a failure here; the directory stays private.
    let _ = std::fs::remove_dir_all(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_offer_to_bind_the_channel_is_left_out() {
        let offer = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0".to_vec();
        let left = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec();
        assert_eq!(without_channel_binding(offer), left);
        assert_eq!(without_channel_binding(left.clone()), left);
        for other in [&b"R\0\0\0\x08\0\0\0\0"[..], b"E\0\0\0\x0a\0\0\0\x0aX\0"] {
            assert_eq!(without_channel_binding(other.to_vec()), other);
        }
    }

    #[tokio::test]
    async fn a_message_is_read_to_its_end_and_no_further() {
        let mut stream = &b"\0\0\0\x08abcdR\0\0\0\x04rest"[..];
        assert_eq!(message(&mut stream, 0).await.expect("whole"), b"\0\0\0\x08abcd");
        assert_eq!(message(&mut stream, 1).await.expect("whole"), b"R\0\0\0\x04");
        assert_eq!(stream, b"rest");
        for wrong in [&b"HTTP/1.1 400 Bad Request"[..], b"\0\0\0\x03", b"\0\0\0\x08abc"] {
            message(&mut &wrong[..], 0).await.expect_err("not a message");
        }
    }

    #[test]
    fn the_directory_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().expect("a directory");
        let directory = private_directory(parent.path()).expect("made");
        let mode = std::fs::metadata(&directory).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        remove(&directory);
        assert_eq!(std::fs::read_dir(parent.path()).expect("a directory").count(), 0);
    }
}
