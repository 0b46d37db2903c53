//! Connections to real servers: every way in, and every refusal told apart.

use std::future::Future;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use pgmove::error::{Class, Fault, Side};
use pgmove::pg::connect::{Connected, Notice, cancel, connect};
use pgmove::pg::{ConnInfo, ConnectError, Defaults, Refusal};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_postgres::Client;

/// A server of its own, stopped when dropped. Its superuser `postgres` is trusted on the socket.
struct Server {
    directory: tempfile::TempDir,
    port: u16,
}

impl Server {
    /// Starts a server with these lines in `pg_hba.conf` and `postgresql.conf`.
    fn start(hba: &str, conf: &str, files: &[(&str, String)]) -> Server {
        let directory = tempfile::Builder::new().prefix("pgmove-").tempdir().expect("a directory");
        let port =
            StdTcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let server = Server { directory, port };
        let path = server.directory.path();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(path));
        }
        let data = server.data();
        run(as_postgres("initdb")
            .args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
            .arg(&data));
        let hba = format!("local all postgres trust\n{hba}\n");
        let conf = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n{conf}\n",
            path.display()
        );
        for (name, content) in [("pg_hba.conf", &hba), ("postgresql.conf", &conf)] {
            std::fs::write(data.join(name), content).expect("a file");
        }
        for (name, content) in files {
            let file = data.join(name);
            std::fs::write(&file, content).expect("a file");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
            if is_root() {
                run(Command::new("chown").arg("postgres:").arg(&file));
            }
        }
        server.pg_ctl(&["start", "-w", "-l", &path.join("log").display().to_string()]);
        server
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn pg_ctl(&self, arguments: &[&str]) {
        run(as_postgres("pg_ctl").arg("-D").arg(self.data()).args(arguments));
    }

    /// A connection string to the TCP port with these parameters added; `host=localhost` unless they say
    /// otherwise.
    fn tcp(&self, parameters: &str) -> ConnInfo {
        parse(&format!("host=localhost port={} dbname=postgres {parameters}", self.port))
    }

    fn socket(&self, parameters: &str) -> ConnInfo {
        let directory = self.directory.path().display();
        parse(&format!("host={directory} port={} user=postgres dbname=postgres {parameters}", self.port))
    }

    async fn superuser(&self) -> Session {
        session(&self.socket("")).await.expect("the superuser is trusted on the socket")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = as_postgres("pg_ctl").arg("-D").arg(self.data()).args(["stop", "-m", "immediate"]).output();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn server_program(name: &str) -> PathBuf {
    std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)))
        .filter(|path| path.exists())
        .max()
        .expect("PostgreSQL's programs are installed")
}

/// A server program; root is not allowed to run it.
fn as_postgres(program: &str) -> Command {
    let path = server_program(program);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path).current_dir("/");
    command
}

fn run(command: &mut Command) {
    // Not a pipe: the server inherits it, and keeps it open.
    let log = tempfile::tempfile().expect("a file");
    let status =
        command.stdout(log).stderr(std::process::Stdio::null()).status().expect("the program starts");
    assert!(status.success(), "{command:?}: {status}");
}

fn parse(text: &str) -> ConnInfo {
    let defaults = Defaults { user: Some("postgres".to_owned()), home: None };
    ConnInfo::parse(text, &defaults).expect("the string is valid")
}

struct Session {
    client: Client,
    notices: mpsc::Receiver<Notice>,
}

async fn session(conninfo: &ConnInfo) -> Result<Session, ConnectError> {
    let Connected { client, driver, notices } = connect(conninfo, "pgmove test", Side::Source).await?;
    tokio::spawn(driver);
    Ok(Session { client, notices })
}

impl Session {
    async fn value(&self, query: &str) -> String {
        self.client.query_one(query, &[]).await.expect("the query is valid").get(0)
    }

    async fn execute(&self, statements: &str) {
        self.client.batch_execute(statements).await.expect("the statements are valid");
    }

    /// The messages that rows came in, and how the COPY ended.
    async fn copy(&self, query: &str) -> (Vec<Bytes>, Result<(), tokio_postgres::Error>) {
        let rows = self.client.copy_out(&format!("COPY ({query}) TO STDOUT")).await.expect("the COPY begins");
        let mut rows = std::pin::pin!(rows);
        let mut messages = Vec::new();
        loop {
            match rows.try_next().await {
                Ok(Some(message)) => messages.push(message),
                ended => return (messages, ended.map(drop)),
            }
        }
    }
}

/// The protection of a session: `none`, or TLS's version. Its rows come whole, in their order and together.
async fn protection(conninfo: &ConnInfo) -> Result<String, ConnectError> {
    let session = session(conninfo).await?;
    let query = "SELECT coalesce(version, 'none') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let version = session.value(query).await;
    let (messages, ended) = session.copy("SELECT generate_series(1, 100000)").await;
    ended.expect("the COPY comes to its end");
    assert_eq!(messages.concat(), lines(1..=100_000));
    assert!(messages.len() < 10_000, "rows come together, not in {} messages", messages.len());
    Ok(version)
}

fn lines(numbers: impl Iterator<Item = i32>) -> Vec<u8> {
    numbers.flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

async fn refusal<T>(attempt: impl Future<Output = Result<T, ConnectError>>) -> ConnectError {
    attempt.await.err().expect("the connection is refused")
}

macro_rules! assert_refused {
    ($conninfo:expr, $refusal:pat, retryable: $retryable:expr) => {{
        let error = refusal(session(&$conninfo)).await;
        assert!(matches!(*error.refusal, $refusal), "{error:?}");
        assert_eq!(error.is_retryable(), $retryable, "{error:?}");
        assert!(error.to_string().starts_with("could not connect to the source, "), "{error}");
        error
    }};
}

#[tokio::test]
async fn plain_connections() {
    let hba = "host all scram,limited,ghost 127.0.0.1/32 scram-sha-256\n\
               host all md5 127.0.0.1/32 md5\n\
               host all open,absent 127.0.0.1/32 trust\n\
               local all barred reject\n\
               local all all scram-sha-256\n";
    let server = Server::start(hba, "max_connections = 20", &[]);
    let admin = server.superuser().await;
    admin
        .execute(
            "CREATE ROLE scram LOGIN PASSWORD 'pass wörd''\\'; CREATE ROLE open LOGIN;
             CREATE ROLE limited LOGIN PASSWORD 'x' CONNECTION LIMIT 0; CREATE ROLE outside LOGIN;
             SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'old'",
        )
        .await;
    admin.execute(r#"CREATE DATABASE "o'clock : 12\""#).await;

    // In, by every method. A server without TLS is taken as it is by sslmode=prefer, the default.
    let scram = r"user=scram password='pass wörd\'\\'";
    for conninfo in [
        server.tcp(scram),
        server.tcp(&format!("{scram} sslmode=disable hostaddr=127.0.0.1")),
        server.tcp("user=md5 password=old"),
        server.tcp("user=open"),
        server.socket(r"user=scram password='pass wörd\'\\' sslmode=require"),
    ] {
        assert_eq!(protection(&conninfo).await.expect("the login is right"), "none", "{conninfo}");
    }

    for way in [server.tcp(scram), server.socket(scram)] {
        let conninfo = way.with_database("o'clock : 12\\");
        assert_eq!(psql(&conninfo, "SELECT session_user, current_database()"), "scram|o'clock : 12\\");
    }

    let named = session(&server.tcp("user=open options='-c work_mem=7MB'")).await.expect("trusted");
    assert_eq!(named.value("SELECT current_setting('work_mem')").await, "7MB");
    assert_eq!(named.value("SELECT current_setting('application_name')").await, "pgmove test");
    // Spawned: lanes connect on threads of their own.
    let conninfo = server.tcp("user=open application_name=mine");
    let named =
        tokio::spawn(async move { session(&conninfo).await }).await.expect("no panic").expect("trusted");
    assert_eq!(named.value("SELECT current_setting('application_name')").await, "mine");

    let error = assert_refused!(server.tcp("user=scram"), Refusal::PasswordRequired, retryable: false);
    assert_eq!(error.class(), Class::User);
    assert!(error.hint().is_some_and(|hint| hint.contains("PGMOVE_SOURCE_PASSWORD")));
    assert_refused!(server.tcp("user=md5 password=new"), Refusal::WrongPassword { .. }, retryable: false);
    let error = assert_refused!(
        server.tcp("user=scram password=geheim"), Refusal::WrongPassword { .. }, retryable: false
    );
    assert!(!format!("{error:?}").contains("geheim"));
    assert_refused!(
        server.tcp("user=ghost password=x"), Refusal::WrongPassword { .. }, retryable: false
    );
    assert_refused!(server.tcp("user=absent"), Refusal::UnknownRole { .. }, retryable: false);
    let error = assert_refused!(
        server.tcp("user=open").with_database("nowhere"), Refusal::UnknownDatabase { .. }, retryable: false
    );
    assert_eq!(error.refusal.to_string(), "database \"nowhere\" does not exist (SQLSTATE 3D000)");
    assert_refused!(server.tcp("user=outside"), Refusal::NotAdmitted { .. }, retryable: false);
    let barred = server.socket("user=barred sslmode=disable");
    assert_refused!(barred, Refusal::NotAdmitted { .. }, retryable: false);
    assert_refused!(
        server.tcp("user=limited password=x"), Refusal::TooManyConnections { .. }, retryable: true
    );
    let error = assert_refused!(
        server.tcp("user=open sslmode=require"), Refusal::TlsRefused { .. }, retryable: false
    );
    assert_eq!(error.class(), Class::Source);
    assert_refused!(
        server.tcp(&format!("{scram} channel_binding=require")), Refusal::Login { .. }, retryable: false
    );

    // Going down: a smart shutdown waits for the sessions that there are.
    server.pg_ctl(&["stop", "-m", "smart", "-W"]);
    let going_down = tokio::time::timeout(Duration::from_secs(20), async {
        while session(&server.tcp("user=open")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    going_down.await.expect("the server stops taking connections");
    assert_refused!(server.tcp("user=open"), Refusal::NotReady { .. }, retryable: true);
}

#[tokio::test]
async fn notices_and_cancel() {
    let server = Server::start("", "", &[]);
    let mut session = server.superuser().await;
    session.execute("DO $$ BEGIN RAISE INFO 'first'; RAISE NOTICE 'second'; END $$").await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let notice = session.notices.recv().await.expect("the driver runs");
        told.push((notice.severity().to_owned(), notice.message().to_owned()));
    }
    let expected = [("INFO", "first"), ("NOTICE", "second")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(told, expected);

    // Between the rows of a COPY, too.
    session.execute("CREATE FUNCTION pg_temp.told(n int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE INFO ''%'', n; RETURN n; END'").await;
    let (messages, ended) = session.copy("SELECT pg_temp.told(n) FROM generate_series(1, 100) AS n").await;
    ended.expect("the COPY comes to its end");
    assert_eq!(messages.concat(), lines(1..=100));
    for number in 1..=100 {
        let notice = session.notices.recv().await.expect("the driver runs");
        assert_eq!(notice.message(), number.to_string());
    }
    // An error ends it, after all rows that were sent before.
    let (messages, ended) =
        session.copy("SELECT n + 0 / (50000 - n) FROM generate_series(1, 100000) AS n").await;
    let error = ended.expect_err("it divides by zero");
    assert_eq!(pgmove::pg::describe(&error), "division by zero (SQLSTATE 22012)");
    assert_eq!(messages.concat(), lines(1..50_000));

    // More than are kept, and nobody reads them.
    session.execute("DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE INFO 'x'; END LOOP; END $$").await;

    let token = session.client.cancel_token();
    let sleep = session.client.batch_execute("SELECT pg_sleep(60)");
    let conninfo = server.socket("");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel(&conninfo, token, Side::Source).await.expect("the server takes the request");
    };
    let (result, ()) = tokio::join!(sleep, stop);
    let error = result.expect_err("the statement was cancelled");
    assert_eq!(pgmove::pg::describe(&error), "canceling statement due to user request (SQLSTATE 57014)");

    let raise = "DO $$ BEGIN RAISE EXCEPTION 'm' USING DETAIL = 'd.', HINT = 'h'; END $$";
    let error = session.client.batch_execute(raise).await.expect_err("it raises");
    assert_eq!(
        pgmove::pg::describe(&error),
        "m (SQLSTATE P0001); detail: d; hint: h; where: PL/pgSQL function inline_code_block line 1 at RAISE"
    );
    let error = session.client.batch_execute("SELECT 1/0 FROM nowhere").await.expect_err("no such table");
    assert_eq!(pgmove::pg::describe(&error), "relation \"nowhere\" does not exist (SQLSTATE 42P01)");
}

/// What `psql` answers, started as pgmove starts client programs: nothing in the environment, the password in a
/// passfile of its own.
fn psql(conninfo: &ConnInfo, query: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let passfile = directory.path().join("pass: 'file'");
    let line = conninfo.passfile_line().expect("it has no line break").expect("a password");
    std::fs::write(&passfile, line.expose_secret()).expect("a file");
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let output = Command::new(server_program("psql"))
        .env_clear()
        .args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--command", query, "--dbname"])
        .arg(conninfo.keyword_string(Some(&passfile)))
        .output()
        .expect("psql starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A certificate and its key, both PEM.
struct Certified {
    certificate: String,
    key: String,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

fn authority() -> Authority {
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate").pem();
    Authority { issuer: Issuer::new(parameters, key), certificate }
}

impl Authority {
    fn certify(&self, common_name: &str, names: &[&str]) -> Certified {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).expect("the names are valid");
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Certified { certificate, key: key.serialize_pem() }
    }
}

#[tokio::test]
async fn tls_connections() {
    let ours = authority();
    let certified = ours.certify("server", &["localhost"]);
    // As PostgreSQL's manual makes one with `openssl req -x509`: its own authority.
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).expect("the name is valid");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own_key = KeyPair::generate().expect("a key");
    let self_signed = parameters.self_signed(&own_key).expect("a certificate").pem();

    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        path.display().to_string()
    };
    let root = file("root.crt", &ours.certificate);
    let other_root = file("other.crt", &authority().certificate);
    let self_signed_root = file("self.crt", &self_signed);
    let empty = file("empty.crt", "");
    let client = ours.certify("holder", &[]);
    let (client_crt, client_key) = (file("client.crt", &client.certificate), file("client.key", &client.key));

    let open_key = file("open.key", &client.key);
    std::fs::set_permissions(&open_key, std::fs::Permissions::from_mode(0o644)).expect("a mode");

    let server = Server::start(
        "hostssl all secured,scram 127.0.0.1/32 scram-sha-256\n\
         hostssl all holder 127.0.0.1/32 cert\n\
         host all open 127.0.0.1/32 trust\n",
        "ssl = on\nssl_ca_file = 'root.crt'",
        &[
            ("server.crt", certified.certificate),
            ("server.key", certified.key),
            ("root.crt", ours.certificate.clone()),
            ("self.crt", self_signed),
            ("self.key", own_key.serialize_pem()),
        ],
    );
    let admin = server.superuser().await;
    admin
        .execute("CREATE ROLE secured LOGIN PASSWORD 'p'; CREATE ROLE holder LOGIN; CREATE ROLE open LOGIN")
        .await;

    let secured = |parameters: &str| server.tcp(&format!("user=secured password=p {parameters}"));
    for parameters in [
        String::new(),
        "sslmode=require".to_owned(),
        "sslmode=require channel_binding=require".to_owned(),
        "channel_binding=disable".to_owned(),
        "host=127.0.0.1 sslmode=require".to_owned(),
        format!("sslmode=require sslrootcert={root}"),
        format!("host=127.0.0.1 sslmode=verify-ca sslrootcert={root}"),
        format!("sslmode=verify-full sslrootcert={root} channel_binding=require"),
        format!("hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={root}"),
    ] {
        let version = protection(&secured(&parameters)).await.expect(&parameters);
        assert_eq!(version, "TLSv1.3", "{parameters}");
    }
    let parameters = format!("sslmode=verify-full sslrootcert={root} channel_binding=require");
    assert_eq!(psql(&secured(&parameters), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "t");
    let open = server.tcp("user=open sslmode=disable");
    assert_eq!(protection(&open).await.expect("both ways are open"), "none");
    let holder = server.tcp(&format!("user=holder sslmode=require sslcert={client_crt} sslkey={client_key}"));
    assert_eq!(protection(&holder).await.expect("the certificate is the login"), "TLSv1.3");

    let sleeper = session(&secured("sslmode=require")).await.expect("the login is right");
    let token = sleeper.client.cancel_token();
    let sleep = sleeper.client.batch_execute("SELECT pg_sleep(60)");
    let conninfo = secured("sslmode=require");
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel(&conninfo, token, Side::Target).await.expect("the server takes the request");
    };
    assert!(tokio::join!(sleep, stop).0.is_err());

    assert_refused!(secured("sslmode=disable"), Refusal::TlsRequired { .. }, retryable: false);
    assert_refused!(server.tcp("user=holder"), Refusal::NotAdmitted { .. }, retryable: false);
    for mode in ["require", "verify-ca", "verify-full"] {
        let conninfo = secured(&format!("sslmode={mode} sslrootcert={other_root}"));
        assert_refused!(conninfo, Refusal::CertificateNotTrusted(_), retryable: false);
    }
    assert_refused!(
        secured("sslrootcert=system"),
        // A machine may have no roots at all.
        Refusal::CertificateNotTrusted(_) | Refusal::TlsSetup(_),
        retryable: false
    );
    let conninfo = secured(&format!("host=127.0.0.1 sslmode=verify-full sslrootcert={root}"));
    let error = assert_refused!(conninfo, Refusal::CertificateForOtherHost(_), retryable: false);
    assert!(error.hint().is_some_and(|hint| hint.contains("hostaddr")));
    for broken in [
        format!("sslmode=require sslrootcert={root}.absent"),
        format!("sslmode=verify-ca sslrootcert={empty}"),
        format!("sslcert={client_crt} sslkey={root}"),
        format!("sslcert={client_crt} sslkey={open_key}"),
    ] {
        let error = assert_refused!(secured(&broken), Refusal::TlsSetup(_), retryable: false);
        assert_eq!(error.class(), Class::Environment);
    }

    admin.execute("ALTER SYSTEM SET ssl_cert_file = 'self.crt'").await;
    admin.execute("ALTER SYSTEM SET ssl_key_file = 'self.key'").await;
    server.pg_ctl(&["restart", "-w", "-m", "fast"]);
    let trusted =
        secured(&format!("sslmode=verify-full sslrootcert={self_signed_root} channel_binding=require"));
    assert_eq!(protection(&trusted).await.expect("the certificate is its own root"), "TLSv1.3");
    let conninfo = secured(&format!("host=127.0.0.1 sslmode=verify-full sslrootcert={self_signed_root}"));
    assert_refused!(conninfo, Refusal::CertificateForOtherHost(_), retryable: false);
    let conninfo = secured(&format!("sslmode=verify-ca sslrootcert={root}"));
    assert_refused!(conninfo, Refusal::CertificateNotTrusted(_), retryable: false);
}

#[tokio::test]
async fn servers_that_are_not_there() {
    let error =
        assert_refused!(parse("host=nowhere.invalid"), Refusal::HostNotResolved { .. }, retryable: false);
    assert_eq!(error.class(), Class::Source);
    assert_eq!(error.to_string(), "could not connect to the source, postgres@nowhere.invalid:5432/postgres");

    let closed =
        StdTcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let conninfo = parse(&format!("host=127.0.0.1 port={}", closed.port()));
    assert_refused!(conninfo, Refusal::Unreachable { .. }, retryable: true);

    let directory = tempfile::tempdir().expect("a directory");
    let conninfo = parse(&format!("host={}", directory.path().display()));
    assert_refused!(conninfo, Refusal::NoSocket { .. }, retryable: true);
    let stale = Path::new(directory.path()).join(".s.PGSQL.5432");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    assert_refused!(conninfo, Refusal::Unreachable { .. }, retryable: true);
}

#[tokio::test]
async fn servers_that_do_not_answer_or_are_none() {
    let silent = StdTcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let conninfo = parse(&format!("host=127.0.0.1 port={port} connect_timeout=1"));
    assert_refused!(conninfo, Refusal::Timeout { .. }, retryable: true);

    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = web.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let mut request = [0; 8];
            let _ = stream.read_exact(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for mode in ["disable", "prefer"] {
        let conninfo = parse(&format!("host=127.0.0.1 port={port} sslmode={mode} connect_timeout=5"));
        assert_refused!(conninfo, Refusal::Broken(_), retryable: true);
    }
    // It answers, but neither yes nor no.
    let conninfo = parse(&format!("host=127.0.0.1 port={port} sslmode=require"));
    assert_refused!(conninfo, Refusal::TlsRefused { .. }, retryable: false);
}
