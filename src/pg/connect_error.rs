//! Why a server could not be connected to, told apart by what the operator has to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::conninfo::{ConnInfo, SslMode};
use super::server_error::{describe, describe_response};
use super::tls::TlsSetupError;
use crate::error::{Class, Fault, Side};
use crate::kubernetes::{BrokenTunnel, ResolveError, TunnelError};

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
#[error("could not connect to the {side}{}, {server}", if *.is_admin { " as administrator" } else { "" })]
pub struct ConnectError {
    /// Which of the two databases.
    pub side: Side,
    /// Whether it is the administrator's connection.
    pub is_admin: bool,
    /// `user@host:port/database`.
    pub server: String,
    /// Why.
    #[source]
    pub refusal: Box<Refusal>,
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The name service knows no such host, or does not answer.
    #[error("host \"{host}\" could not be resolved")]
    HostNotResolved {
        /// The host.
        host: String,
        /// The resolver's answer.
        #[source]
        cause: io::Error,
    },
    /// No address of the host accepts the connection.
    #[error("no server accepts connections at {address}")]
    Unreachable {
        /// The last address that was tried.
        address: String,
        /// The system's answer.
        #[source]
        cause: io::Error,
    },
    /// There is no Unix socket.
    #[error("there is no socket {}", path.display())]
    NoSocket {
        /// The socket file.
        path: PathBuf,
    },
    /// No answer in time, while connecting or during the login.
    #[error("no answer within {} s", limit.as_secs())]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// No pod is behind the object that was named.
    #[error(transparent)]
    NoPod(ResolveError),
    /// The pod cannot be reached, or its tunnel broke during the login.
    #[error(transparent)]
    Tunnel(TunnelError),
    /// A certificate file of ours.
    #[error(transparent)]
    TlsSetup(#[from] TlsSetupError),
    /// TLS is required here, and the server has none.
    #[error("the server has no TLS, but sslmode={} requires it", mode.keyword())]
    TlsRefused {
        /// The mode asked for.
        mode: SslMode,
    },
    /// `pg_hba.conf` refuses this login unencrypted, and `sslmode=disable` leaves it no other way.
    #[error("the server does not admit this login without TLS: {message}")]
    TlsRequired {
        /// The server's words.
        message: String,
    },
    /// The certificate does not come from a trusted root, or is expired or malformed.
    #[error("the server's certificate is not trusted")]
    CertificateNotTrusted(#[source] rustls::Error),
    /// The certificate is good, but for another host.
    #[error("the server's certificate does not name the host")]
    CertificateForOtherHost(#[source] rustls::Error),
    /// Another failure of the handshake.
    #[error("the TLS handshake failed")]
    Tls(#[source] rustls::Error),
    /// The server asks for a password, and none is known.
    #[error("the server asks for a password, and none was given")]
    PasswordRequired,
    /// Wrong password, or no such role: the server does not tell which.
    #[error("the server refused the password: {message}")]
    WrongPassword {
        /// The server's words.
        message: String,
    },
    /// `pg_hba.conf` has no line for this login, or one that refuses it.
    #[error("the server does not admit this login: {message}")]
    NotAdmitted {
        /// The server's words.
        message: String,
    },
    /// The role does not exist.
    #[error("{message}")]
    UnknownRole {
        /// The server's words.
        message: String,
    },
    /// The database does not exist.
    #[error("{message}")]
    UnknownDatabase {
        /// The server's words.
        message: String,
    },
    /// All connections are taken.
    #[error("the server has no connection left: {message}")]
    TooManyConnections {
        /// The server's words.
        message: String,
    },
    /// The server starts, stops or recovers.
    #[error("the server is not ready: {message}")]
    NotReady {
        /// The server's words.
        message: String,
    },
    /// Any other answer of the server.
    #[error("the server refused the connection: {message}")]
    Refused {
        /// The server's words.
        message: String,
    },
    /// The server and pgmove have no way of login in common, or channel binding fails.
    #[error("the login failed: {message}")]
    Login {
        /// What was missing.
        message: String,
    },
    /// The connection broke, or the peer does not speak PostgreSQL's protocol.
    #[error("the connection broke during the login: {}", describe(.0))]
    Broken(tokio_postgres::Error),
}

impl Refusal {
    /// Tells an error of tokio-postgres's handshake apart.
    pub(super) fn of(error: tokio_postgres::Error, conninfo: &ConnInfo) -> Refusal {
        if let Some(response) = error.as_db_error() {
            return Refusal::of_response(response, conninfo);
        }
        if let Some(tunnel) = BrokenTunnel::find(&error) {
            return Refusal::Tunnel(tunnel.clone().into());
        }
        if let Some(tls) = find_rustls(&error) {
            return Refusal::of_tls(tls.clone());
        }
        // The kinds of tokio-postgres's errors are private, so its words must do; the tests against real
        // servers hold them fast.
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        match (error.to_string().as_str(), cause.as_str()) {
            ("invalid configuration", "password missing") => Refusal::PasswordRequired,
            ("error performing TLS handshake", "server does not support TLS") => {
                Refusal::TlsRefused { mode: conninfo.ssl_mode() }
            }
            ("authentication error", _) => Refusal::Login { message: cause },
            _ => Refusal::Broken(error),
        }
    }

    /// Whether a tunnel may come about in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Refusal::NoPod(error) => error.is_retryable(),
            Refusal::Tunnel(error) => error.is_passing(),
            _ => false,
        }
    }

    fn of_response(response: &DbError, conninfo: &ConnInfo) -> Refusal {
        let message = describe_response(response);
        let might_be_encrypted = conninfo.ssl_mode() == SslMode::Disable && conninfo.socket_path().is_none();
        match response.code() {
            &SqlState::INVALID_PASSWORD => Refusal::WrongPassword { message },
            &SqlState::INVALID_CATALOG_NAME => Refusal::UnknownDatabase { message },
            &SqlState::TOO_MANY_CONNECTIONS => Refusal::TooManyConnections { message },
            &SqlState::CANNOT_CONNECT_NOW | &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN => {
                Refusal::NotReady { message }
            }
            // One SQLSTATE for all of these; messages may be translated, the names of the server's C functions
            // (ClientAuthentication in auth.c, InitializeSessionUserId in miscinit.c) are not.
            &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => match response.routine() {
                Some("InitializeSessionUserId") => Refusal::UnknownRole { message },
                Some("ClientAuthentication") if might_be_encrypted => Refusal::TlsRequired { message },
                _ => Refusal::NotAdmitted { message },
            },
            _ => Refusal::Refused { message },
        }
    }

    fn of_tls(error: rustls::Error) -> Refusal {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        match error {
            rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
                Refusal::CertificateForOtherHost(error)
            }
            rustls::Error::InvalidCertificate(_) => Refusal::CertificateNotTrusted(error),
            error => Refusal::Tls(error),
        }
    }
}

/// rustls's error within tokio-postgres's, where it is wrapped in an `io::Error`, which shows its content only
/// by `get_ref`.
fn find_rustls(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    std::error::Error::source(error)?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

impl Fault for ConnectError {
    fn class(&self) -> Class {
        match *self.refusal {
            Refusal::TlsSetup(_) => Class::Environment,
            Refusal::PasswordRequired => Class::User,
            Refusal::NoPod(ref error) => error.class(),
            Refusal::Tunnel(ref error) => error.class(),
            _ => self.side.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        // A server that restarts refuses connections, and its socket is gone for a moment.
        match &*self.refusal {
            Refusal::NoPod(error) => error.is_retryable(),
            Refusal::Tunnel(error) => error.is_retryable(),
            refusal => matches!(
                refusal,
                Refusal::Unreachable { .. }
                    | Refusal::NoSocket { .. }
                    | Refusal::Timeout { .. }
                    | Refusal::TooManyConnections { .. }
                    | Refusal::NotReady { .. }
                    | Refusal::Broken(_)
            ),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match &*self.refusal {
            Refusal::HostNotResolved { .. } => {
                "check the host's spelling, and that this machine's name service knows it; hostaddr=ADDRESS goes without"
            }
            Refusal::Unreachable { .. } => {
                "check host and port, that the server runs, and that no firewall is between"
            }
            Refusal::NoSocket { .. } => {
                "check that the server runs, and the directory and port against its unix_socket_directories and port"
            }
            Refusal::Timeout { .. } => "check host, port and firewall, or give a longer connect_timeout",
            Refusal::NoPod(error) => return error.hint(),
            Refusal::Tunnel(error) => return error.hint(),
            Refusal::TlsSetup(_) => "check sslrootcert, sslcert and sslkey: PEM files, the key not encrypted",
            Refusal::TlsRefused { .. } => {
                "turn on ssl in the server's postgresql.conf; or, on a network you trust, use sslmode=prefer"
            }
            Refusal::TlsRequired { .. } => {
                "use sslmode=require; if that is refused too, pg_hba.conf has no line for this login"
            }
            Refusal::CertificateNotTrusted(_) => {
                "give the authority that signed the server's certificate by sslrootcert=FILE"
            }
            Refusal::CertificateForOtherHost(_) => {
                "use a name from the certificate's subjectAltName as host (hostaddr gives its address; the common name does not count), or sslmode=verify-ca"
            }
            Refusal::Tls(_) => {
                "check that the server offers TLS 1.2 or 1.3, and whether it asks for a client certificate (sslcert, sslkey)"
            }
            Refusal::PasswordRequired => match (self.side, self.is_admin) {
                (_, true) => {
                    "set PGMOVE_TARGET_ADMIN_PASSWORD for the role of --target-admin, or add a line to the passfile"
                }
                (Side::Source, _) => "set PGMOVE_SOURCE_PASSWORD, or add a line to the passfile",
                (Side::Target, _) => "set PGMOVE_TARGET_PASSWORD, or add a line to the passfile",
            },
            Refusal::WrongPassword { .. } => {
                "check role and password; the server does not tell which of them is wrong"
            }
            Refusal::NotAdmitted { .. } => {
                "add a line for this role, database and address to the server's pg_hba.conf and reload it"
            }
            Refusal::UnknownRole { .. } => "check the role in the connection string, and that it has LOGIN",
            Refusal::UnknownDatabase { .. } => {
                "check the database in the connection string; pgmove does not create it"
            }
            Refusal::TooManyConnections { .. } => {
                "lower --jobs, or raise the server's max_connections or the role's CONNECTION LIMIT"
            }
            Refusal::NotReady { .. } => "wait until the server accepts connections",
            Refusal::Login { .. } => {
                "the server must offer scram-sha-256, md5 or password; channel_binding=require needs TLS and scram-sha-256"
            }
            Refusal::Refused { .. } | Refusal::Broken(_) => return None,
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_password_is_named_by_the_variable_of_its_login() {
        for (side, is_admin, variable, login) in [
            (Side::Source, false, "PGMOVE_SOURCE_PASSWORD", "the source, "),
            (Side::Target, false, "PGMOVE_TARGET_PASSWORD", "the target, "),
            (Side::Target, true, "PGMOVE_TARGET_ADMIN_PASSWORD", "the target as administrator, "),
        ] {
            let refusal = Box::new(Refusal::PasswordRequired);
            let error = ConnectError { side, is_admin, server: "app@new:5432/app".into(), refusal };
            assert!(error.hint().is_some_and(|hint| hint.contains(variable)), "{error}");
            assert!(error.to_string().contains(login), "{error}");
        }
    }
}
