//! Where a server is and how to log in: libpq's connection strings.
//!
//! [`ConnInfo::parse`] takes a `postgres://` URI or a keyword string as libpq documents them ("Connection
//! Strings", "Parameter Key Words") and gives a validated [`ConnInfo`]. It reads no environment: what libpq
//! would take from there stands in [`Defaults`]. Only the existence of files in `~/.postgresql` is looked at.
//!
//! A parameter that libpq has and pgmove has not is refused by name, and so is an unknown one: silently
//! ignoring `require_auth` or `sslcrl` would make a connection weaker than its user believes.
//!
//! Passwords are [`SecretString`]s; neither `Debug` nor `Display` nor an error shows one.

mod keywords;
mod parse;
mod passfile;
mod settings;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::error::{Class, Fault};
use crate::kubernetes::{Renewal, Route};

pub use passfile::PassfileAnswer;

/// What libpq takes from the environment and the account that runs it.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// The operating system's user name: the default of `user`.
    pub user: Option<String>,
    /// The home directory: `~/.pgpass`, `~/.postgresql/root.crt`, `postgresql.crt` and `postgresql.key`.
    pub home: Option<PathBuf>,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A host name or an IP address without brackets.
    Name(String),
    /// The directory that holds the server's Unix socket.
    SocketDirectory(PathBuf),
    /// A pod, reached by a tunnel.
    Pod {
        /// Finds the pod, anew for each connection.
        route: Arc<Route>,
        /// The name that its certificate must carry: no certificate names a pod or a tunnel.
        certificate_name: String,
    },
}

/// How much a connection is protected (libpq's `sslmode`; `allow` is not offered).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server has it, unverified.
    Prefer,
    /// TLS or nothing; the chain is verified only if there is a root certificate.
    Require,
    /// TLS, and the certificate's chain ends in a trusted root.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

impl SslMode {
    /// libpq's word.
    pub fn keyword(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// Where trusted root certificates come from (`sslrootcert`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// The roots that this machine trusts (`sslrootcert=system`).
    System,
    /// A PEM file.
    File(PathBuf),
    /// PEM that was read elsewhere.
    Text {
        /// Where, for messages.
        origin: String,
        /// The certificates.
        pem: String,
    },
}

/// The client's own certificate (`sslcert`, `sslkey`), both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

/// Whether SCRAM is bound to the TLS channel (`channel_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// A server that does not offer it is refused.
    Require,
}

/// TCP keepalive. libpq leaves unset values to the system, where a dead peer is noticed after two hours;
/// ours are shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe (`keepalives_idle`).
    pub idle: Duration,
    /// Time between probes (`keepalives_interval`).
    pub interval: Duration,
    /// Unanswered probes after which the connection counts as lost (`keepalives_count`).
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: 6 }
    }
}

/// How long to wait for a server when the string does not say (libpq waits for ever).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A validated connection string.
#[derive(Debug, Clone)]
pub struct ConnInfo {
    host: Host,
    address: Option<IpAddr>,
    port: u16,
    user: String,
    database: String,
    password: Option<SecretString>,
    renewal: Option<Arc<Renewal>>,
    is_admin: bool,
    passfile: Option<PathBuf>,
    ssl_mode: SslMode,
    root_certificates: Option<RootCertificates>,
    client_certificate: Option<ClientCertificate>,
    channel_binding: ChannelBinding,
    options: Option<String>,
    application_name: Option<String>,
    connect_timeout: Option<Duration>,
    keepalive: Option<Keepalive>,
    tcp_user_timeout: Option<Duration>,
}

impl ConnInfo {
    /// Reads a `postgres://` or `postgresql://` URI, or a string of `keyword=value` pairs.
    ///
    /// What is not said is as in libpq, but for three: without a host it is `localhost` (libpq takes a socket
    /// directory that was compiled in), `connect_timeout` is 30 s, and keepalive is that of [`Keepalive`].
    pub fn parse(text: &str, defaults: &Defaults) -> Result<ConnInfo, ConnInfoError> {
        settings::assemble(parse::parameters(text)?, defaults)
    }

    /// Where the server listens; also the name that its certificate must carry.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The address to connect to instead of resolving the host (`hostaddr`).
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The TCP port, or the number in the socket file's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The password, if one is known. One in a passfile is known only after
    /// [`ConnInfo::password_from_passfile`].
    pub fn password(&self) -> Option<SecretString> {
        let renewed = self.renewal.as_ref().and_then(|renewal| renewal.latest());
        renewed.or_else(|| self.password.clone())
    }

    /// Where a password that the server refuses is read again.
    pub fn renewal(&self) -> Option<&Arc<Renewal>> {
        self.renewal.as_ref()
    }

    /// Whether this is the administrator's login, whose password is asked for apart.
    pub fn is_admin(&self) -> bool {
        self.is_admin
    }

    /// How the connection is protected.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// Where trusted roots come from, if anything is to be verified against them.
    pub fn root_certificates(&self) -> Option<&RootCertificates> {
        self.root_certificates.as_ref()
    }

    /// The client's certificate, shown to a server that asks for one.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        self.client_certificate.as_ref()
    }

    /// Whether SCRAM is bound to the TLS channel.
    pub fn channel_binding(&self) -> ChannelBinding {
        self.channel_binding
    }

    /// Command line options for the server process (`-c name=value ...`).
    pub fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// The application name that the string asks for.
    pub fn application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// How long to wait for each address to answer, and for the login; `None` is without limit
    /// (`connect_timeout=0`).
    pub fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    /// TCP keepalive; `None` if the string turns it off.
    pub fn keepalive(&self) -> Option<Keepalive> {
        self.keepalive
    }

    /// How long sent data may stay unacknowledged (Linux only).
    pub fn tcp_user_timeout(&self) -> Option<Duration> {
        self.tcp_user_timeout
    }

    /// The path of the server's Unix socket, if that is how it is reached.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::SocketDirectory(directory) if self.address.is_none() => {
                Some(directory.join(format!(".s.PGSQL.{}", self.port)))
            }
            _ => None,
        }
    }

    /// The same login with this password.
    #[must_use]
    pub fn with_password(mut self, password: SecretString) -> ConnInfo {
        self.password = Some(password);
        self.renewal = None;
        self
    }

    /// The same login, whose password is read again when the server refuses it.
    #[must_use]
    pub fn renewed_by(mut self, renewal: Arc<Renewal>) -> ConnInfo {
        self.renewal = Some(renewal);
        self
    }

    /// The same login, as the administrator's.
    #[must_use]
    pub fn as_admin(mut self) -> ConnInfo {
        self.is_admin = true;
        self
    }

    /// The way to the pod, if that is where the server is.
    pub fn route(&self) -> Option<&Arc<Route>> {
        match &self.host {
            Host::Pod { route, .. } => Some(route),
            _ => None,
        }
    }

    /// The same login over a Unix socket in this directory, where there is no TLS: libpq does not even take its parameters
    /// where it was built without.
    #[must_use]
    pub fn at_socket(&self, directory: &Path) -> ConnInfo {
        ConnInfo {
            host: Host::SocketDirectory(directory.to_owned()),
            address: None,
            ssl_mode: SslMode::Disable,
            root_certificates: None,
            client_certificate: None,
            ..self.clone()
        }
    }

    /// The same login over TCP to this address, without a name of its own.
    #[must_use]
    pub fn at_address(&self, address: IpAddr, port: u16) -> ConnInfo {
        ConnInfo { host: Host::Name(address.to_string()), address: None, port, ..self.clone() }
    }

    /// The same login, but over tunnels to a pod; the host becomes the name that the server's certificate must carry.
    /// The connection to the API server is encrypted already, so `sslmode=disable` is the mode to parse it with, unless
    /// TLS to the server itself is wanted.
    #[must_use]
    pub fn in_pod(mut self, route: Arc<Route>) -> ConnInfo {
        let certificate_name = match self.host {
            Host::Name(name) | Host::Pod { certificate_name: name, .. } => name,
            Host::SocketDirectory(_) => String::new(),
        };
        self.host = Host::Pod { route, certificate_name };
        self.address = None;
        self
    }

    /// The same login, protected like this. Roots are what verification needs.
    #[must_use]
    pub fn with_tls(mut self, ssl_mode: SslMode, roots: Option<RootCertificates>) -> ConnInfo {
        self.ssl_mode = ssl_mode;
        self.root_certificates = roots;
        self
    }

    /// The same login to another database of the same server.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> ConnInfo {
        self.database = database.into();
        self
    }
}

/// `user@host:port/database`: for messages; never the password.
impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.user)?;
        match &self.host {
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]")?,
            Host::Name(name) => f.write_str(name)?,
            Host::SocketDirectory(directory) => write!(f, "{}", directory.display())?,
            // The pod's port is the one that the route finds.
            Host::Pod { route, .. } => return write!(f, "{route}/{}", self.database),
        }
        write!(f, ":{}/{}", self.port, self.database)
    }
}

/// What is wrong with a connection string. No variant holds a value that could be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnInfoError {
    /// Neither a URI nor pairs, or a quote or bracket that does not end.
    #[error("the connection string is malformed: {0}")]
    Syntax(String),
    /// A parameter that libpq does not know either.
    #[error("unknown connection parameter \"{0}\"")]
    Unknown(String),
    /// A parameter, or a value of one, that libpq has and pgmove has not.
    #[error("connection parameter {parameter} is not supported: {reason}")]
    Unsupported {
        /// The parameter, or `parameter=value`.
        parameter: String,
        /// Why, or what to do instead.
        reason: &'static str,
    },
    /// A value that the parameter cannot have.
    #[error("connection parameter {parameter} cannot be \"{value}\": {expected}")]
    Value {
        /// The parameter.
        parameter: &'static str,
        /// What was given.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// No user was given, and the operating system has no name for this account.
    #[error("the connection string names no user")]
    NoUser,
    /// Verification was asked for, and there is nothing to verify against.
    #[error("sslmode={0} needs a root certificate, and there is none")]
    NoRootCertificate(&'static str),
    /// A passfile is read line by line, so such a password cannot stand in one.
    #[error("the password has a line break or a zero byte, which a passfile cannot hold")]
    PasswordForPassfile,
}

impl Fault for ConnInfoError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            ConnInfoError::Syntax(_) => {
                "write postgres://user@host:port/database?parameter=value, with special letters as %XX"
            }
            ConnInfoError::Unknown(_) => {
                "look for a spelling error; the known parameters are those of PostgreSQL's libpq"
            }
            ConnInfoError::NoUser => "add the role to the connection string: postgres://ROLE@host/database",
            ConnInfoError::NoRootCertificate(_) => {
                "add sslrootcert=FILE with the certificate authority of the server, or sslrootcert=system"
            }
            ConnInfoError::PasswordForPassfile => "give the role another password",
            ConnInfoError::Unsupported { .. } | ConnInfoError::Value { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
