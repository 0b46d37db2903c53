//! A database for one test, and the ordinary role that owns it.

use std::{
    net::Ipv4Addr,
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::net::TcpSocket;
use tokio_postgres::NoTls;

use super::{Server, psql};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A fresh database; dropped, with its owner, when the value is.
///
/// The owner is what CloudNative-PG gives an application: it may log in and owns its database, and is nothing else.
pub(crate) struct Database {
    /// Where it is.
    pub(crate) server: Arc<Server>,
    /// Also the name of its owner.
    pub(crate) name: String,
}

impl Database {
    /// The owner's password.
    pub(crate) const PASSWORD: &str = "owner-secret";

    pub(super) fn create(server: &Arc<Server>, options: &str) -> Self {
        let name = format!("test_{}_{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let password = Self::PASSWORD;
        let sql = format!(
            "CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{password}';
            CREATE DATABASE {name} OWNER {name} {options};"
        );
        psql(&server.uri("postgres"), &sql).expect("a fresh database");
        Self { server: Arc::clone(server), name }
    }

    /// As its owner.
    pub(crate) fn uri(&self) -> String {
        let Self { server, name } = self;
        let password = Self::PASSWORD;
        format!("postgres://{name}:{password}@127.0.0.1:{}/{name}?sslmode=disable", server.port)
    }

    /// As the superuser.
    pub(crate) fn admin_uri(&self) -> String {
        self.server.uri(&self.name)
    }

    /// Runs SQL as the owner; see [`psql`]. A statement that fails ends the test.
    pub(crate) fn psql(&self, sql: &str) -> String {
        psql(&self.uri(), sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs SQL as the superuser; see [`psql`]. A statement that fails ends the test.
    pub(crate) fn admin_psql(&self, sql: &str) -> String {
        psql(&self.admin_uri(), sql).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A session of the owner, on the runtime of the calling test.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.uri(), NoTls).await.expect("the owner may connect");
        // Ends with its client.
        tokio::spawn(connection);
        client
    }

    /// The same from this address of this machine.
    pub(crate) async fn connect_from(&self, address: Ipv4Addr) -> tokio_postgres::Client {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((address, 0).into()).expect("an address of this machine");
        let server = (Ipv4Addr::LOCALHOST, self.server.port).into();
        let stream = socket.connect(server).await.expect("the server listens");
        let config: tokio_postgres::Config = self.uri().parse().expect("a URI");
        let (client, connection) =
            config.connect_raw(stream, NoTls).await.expect("the owner may connect from anywhere here");
        // Ends with its client.
        tokio::spawn(connection);
        client
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Self { server, name } = self;
        let uri = server.uri("postgres");
        // DROP DATABASE ... WITH (FORCE) came with PostgreSQL 13. What fails here is removed with the server.
        let _ = psql(
            &uri,
            &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
        );
        let _ = psql(&uri, &format!("DROP DATABASE {name}; DROP ROLE {name};"));
    }
}
