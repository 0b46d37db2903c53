//! Connections: a socket, TLS, the login.
//!
//! [`connect`] takes a [`ConnInfo`] and gives a [`Connected`]: the client, and the driver that carries its
//! bytes. The caller runs the driver beside the client, on the same thread where speed matters, and drops the
//! client to end it. Every wait has the limit of `connect_timeout`. tokio-postgres's `connect_raw` knows
//! neither timeouts nor keepalive nor several addresses: those are handled here.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;

use secrecy::ExposeSecret;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::sync::mpsc;
use tokio_postgres::error::DbError;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Connection, NoTls, config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connect_error::{ConnectError, Refusal};
use super::conninfo::{ChannelBinding, ConnInfo, Host, SslMode};
use super::copy_stream::{AboveTls, CopyStream};
use super::pod::{self, TunnelTls};
use super::tls;
use crate::error::Side;
use crate::kubernetes::Tunnel;

/// Carries the bytes of one connection until its client is dropped or the connection breaks.
pub type Driver = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// A message of the server that is not an answer: NOTICE, INFO, WARNING.
pub type Notice = DbError;

/// How many notices wait to be read; further ones are dropped, so that nobody has to read them.
const NOTICES: usize = 256;

/// A connection that came about.
pub struct Connected {
    /// Sends queries.
    pub client: Client,
    /// Must be polled (spawned or joined) for the client to get anywhere.
    pub driver: Driver,
    /// What the server tells beside its answers. May be dropped; holds the first 256 that were not read.
    pub notices: mpsc::Receiver<Notice>,
}

/// A stream to the server, before the login.
enum Socket {
    /// With TLS set up for it, unless it is not wanted.
    Tcp(TcpStream, Option<<MakeRustlsConnect as MakeTlsConnect<TcpStream>>::TlsConnect>),
    /// Never with TLS.
    Unix(UnixStream),
    /// To a pod, with TLS set up for it if it is wanted within the tunnel too.
    Tunnel(Tunnel, Option<TunnelTls>),
}

/// Connects and logs in. `application_name` is what `pg_stat_activity` shows unless the connection string has
/// one. If the server asks for a password and none is known, the refusal is [`Refusal::PasswordRequired`]: ask
/// for it, and try again with [`ConnInfo::with_password`]. A password that a cluster knows is read again there, once, when
/// the server refuses it.
pub async fn connect(
    conninfo: &ConnInfo,
    application_name: &str,
    side: Side,
) -> Result<Connected, ConnectError> {
    let password = conninfo.password();
    let attempt = || Box::pin(attempt(conninfo, application_name));
    let mut outcome = attempt().await;
    if matches!(outcome, Err(Refusal::WrongPassword { .. })) && pod::renew(conninfo, password).await {
        outcome = attempt().await;
    }
    outcome.map_err(|refusal| connect_error(conninfo, side, refusal))
}

async fn attempt(conninfo: &ConnInfo, application_name: &str) -> Result<Connected, Refusal> {
    let socket = open(conninfo).await?;
    let login = login(socket, config(conninfo, application_name));
    within(conninfo.connect_timeout(), login).await?.map_err(|error| Refusal::of(error, conninfo))
}

/// Asks the server to cancel what the token's connection is doing, over a connection of its own with the same
/// protection. The server does not tell whether there was anything to cancel.
pub async fn cancel(conninfo: &ConnInfo, token: CancelToken, side: Side) -> Result<(), ConnectError> {
    let request = async {
        let socket = open(conninfo).await?;
        let request = async {
            match socket {
                Socket::Unix(stream) => token.cancel_query_raw(stream, NoTls).await,
                Socket::Tcp(stream, None) => token.cancel_query_raw(stream, NoTls).await,
                Socket::Tcp(stream, Some(tls)) => token.cancel_query_raw(stream, tls).await,
                Socket::Tunnel(tunnel, None) => token.cancel_query_raw(tunnel, NoTls).await,
                Socket::Tunnel(tunnel, Some(tls)) => token.cancel_query_raw(tunnel, tls).await,
            }
        };
        within(conninfo.connect_timeout(), request).await?.map_err(|error| Refusal::of(error, conninfo))
    };
    request.await.map_err(|refusal| connect_error(conninfo, side, refusal))
}

pub(super) fn connect_error(conninfo: &ConnInfo, side: Side, refusal: Refusal) -> ConnectError {
    ConnectError {
        side,
        is_admin: conninfo.is_admin(),
        server: conninfo.to_string(),
        refusal: Box::new(refusal),
    }
}

pub(super) async fn within<F: Future>(limit: Option<Duration>, work: F) -> Result<F::Output, Refusal> {
    match limit {
        None => Ok(work.await),
        Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| Refusal::Timeout { limit }),
    }
}

/// The name that the certificate must carry, and that is sent as SNI.
fn tls_name(conninfo: &ConnInfo) -> String {
    match (conninfo.host(), conninfo.address()) {
        (Host::Name(name) | Host::Pod { certificate_name: name, .. }, _) => name.clone(),
        (Host::SocketDirectory(_), Some(address)) => address.to_string(),
        (Host::SocketDirectory(_), None) => String::new(),
    }
}

/// What tokio-postgres has to know for the login.
fn config(conninfo: &ConnInfo, application_name: &str) -> Config {
    let mut config = Config::new();
    config
        .user(conninfo.user())
        .dbname(conninfo.database())
        .application_name(conninfo.application_name().unwrap_or(application_name))
        .channel_binding(match conninfo.channel_binding() {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        })
        .ssl_mode(match conninfo.ssl_mode() {
            _ if conninfo.socket_path().is_some() => config::SslMode::Disable,
            SslMode::Disable => config::SslMode::Disable,
            SslMode::Prefer => config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => config::SslMode::Require,
        });
    if let Some(password) = conninfo.password() {
        config.password(password.expose_secret());
    }
    if let Some(options) = conninfo.options() {
        config.options(options);
    }
    config
}

/// TLS and the login.
async fn login(socket: Socket, config: Config) -> Result<Connected, tokio_postgres::Error> {
    let (sender, notices) = mpsc::channel(NOTICES);
    let (client, driver) = match socket {
        Socket::Unix(stream) => {
            let (client, connection) = config.connect_raw(CopyStream::new(stream), NoTls).await?;
            (client, drive(connection, sender))
        }
        Socket::Tcp(stream, None) => {
            let (client, connection) = config.connect_raw(CopyStream::new(stream), NoTls).await?;
            (client, drive(connection, sender))
        }
        Socket::Tcp(stream, Some(tls)) => {
            let stream = CopyStream::negotiating(stream);
            let (client, connection) = config.connect_raw(stream, AboveTls(tls)).await?;
            (client, drive(connection, sender))
        }
        Socket::Tunnel(tunnel, None) => {
            let (client, connection) = config.connect_raw(CopyStream::new(tunnel), NoTls).await?;
            (client, drive(connection, sender))
        }
        Socket::Tunnel(tunnel, Some(tls)) => {
            let stream = CopyStream::negotiating(tunnel);
            let (client, connection) = config.connect_raw(stream, AboveTls(tls)).await?;
            (client, drive(connection, sender))
        }
    };
    Ok(Connected { client, driver, notices })
}

/// Runs the connection, passing notices on.
fn drive<S, T>(mut connection: Connection<S, T>, notices: mpsc::Sender<Notice>) -> Driver
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(poll_fn(move |context| {
        while let Some(message) = ready!(connection.poll_message(context)?) {
            if let AsyncMessage::Notice(notice) = message {
                // Full or unread: see NOTICES.
                let _ = notices.try_send(notice);
            }
        }
        Ok(()).into()
    }))
}

/// A stream to the server, over the first of its addresses that answers.
async fn open(conninfo: &ConnInfo) -> Result<Socket, Refusal> {
    if let Some(path) = conninfo.socket_path() {
        return Ok(Socket::Unix(open_socket(&path, conninfo.connect_timeout()).await?));
    }
    if conninfo.route().is_some() {
        let (tunnel, tls) = pod::open_tunnel(conninfo).await?;
        return Ok(Socket::Tunnel(tunnel, tls));
    }
    let tls = tls_connect::<TcpStream>(conninfo)?;
    let mut failure = None;
    for address in addresses(conninfo).await? {
        let attempt = async {
            let stream = TcpStream::connect(address).await?;
            tune(&stream, conninfo)?;
            Ok(stream)
        };
        failure = match within(conninfo.connect_timeout(), attempt).await {
            Ok(Ok(stream)) => return Ok(Socket::Tcp(stream, tls)),
            Ok(Err(cause)) => Some(Refusal::Unreachable { address: address.to_string(), cause }),
            Err(timeout) => Some(timeout),
        };
    }
    Err(failure.unwrap_or_else(|| Refusal::HostNotResolved {
        host: tls_name(conninfo),
        cause: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
    }))
}

/// What sets TLS up on a stream, unless it is not wanted. Certificate files are read before there is a stream: without
/// them there is no use in connecting.
pub(super) fn tls_connect<S>(
    conninfo: &ConnInfo,
) -> Result<Option<<MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect>, Refusal>
where
    MakeRustlsConnect: MakeTlsConnect<S, Error = Infallible>,
{
    if conninfo.ssl_mode() == SslMode::Disable {
        return Ok(None);
    }
    let Ok(tls) = tls::connector(conninfo)?.make_tls_connect(&tls_name(conninfo));
    Ok(Some(tls))
}

async fn open_socket(path: &Path, limit: Option<Duration>) -> Result<UnixStream, Refusal> {
    match within(limit, UnixStream::connect(path)).await? {
        Ok(stream) => Ok(stream),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Refusal::NoSocket { path: path.to_owned() })
        }
        Err(cause) => Err(Refusal::Unreachable { address: path.display().to_string(), cause }),
    }
}

async fn addresses(conninfo: &ConnInfo) -> Result<Vec<SocketAddr>, Refusal> {
    let host = tls_name(conninfo);
    if let Some(address) = conninfo.address().or_else(|| host.parse::<IpAddr>().ok()) {
        return Ok(vec![SocketAddr::new(address, conninfo.port())]);
    }
    let lookup = within(conninfo.connect_timeout(), lookup_host((host.as_str(), conninfo.port()))).await?;
    match lookup.map(Iterator::collect) {
        Ok(addresses) => Ok(addresses),
        Err(cause) => Err(Refusal::HostNotResolved { host, cause }),
    }
}

fn tune(stream: &TcpStream, conninfo: &ConnInfo) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if let Some(keepalive) = conninfo.keepalive() {
        socket.set_tcp_keepalive(
            &TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count),
        )?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(conninfo.tcp_user_timeout())?;
    Ok(())
}
