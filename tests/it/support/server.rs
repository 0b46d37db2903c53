//! A running PostgreSQL server on loopback.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{Database, container, local, psql};

/// The superuser's password, over TCP; a local cluster's Unix socket asks for none.
pub(crate) const PASSWORD: &str = "superuser-secret";

/// How long a server may take to accept connections, after a crash too.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How a local server differs from the usual one of its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    /// More options of `initdb`, such as `--locale=C`, `--encoding=LATIN1` or `--data-checksums`.
    pub(crate) initdb: &'static [&'static str],
    /// Lines of `postgresql.conf`; they win over the usual ones.
    pub(crate) settings: String,
    /// Lines of `pg_hba.conf`; they come before the usual ones, and so win.
    pub(crate) host_based_authentication: String,
    /// Name and contents of files in the data directory, such as a certificate and its key.
    pub(crate) files: Vec<(&'static str, String)>,
}

/// A running server; it ends with its last reference, or with the process.
pub(crate) struct Server {
    /// On 127.0.0.1.
    pub(crate) port: u16,
    place: Place,
    /// Ends the server when its stdin does.
    guard: Mutex<Child>,
    major: OnceLock<u32>,
}

/// Where a server runs.
pub(super) enum Place {
    /// A cluster in this directory, which also holds its log and its Unix socket.
    Directory(PathBuf),
    /// A container of this id.
    Container(String),
}

/// What a shared server is started from.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Origin {
    Local(u32, Variant),
    Image(String),
}

type Shared = HashMap<Origin, Arc<OnceLock<Arc<Server>>>>;

static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

impl Server {
    /// The local server of this major version that all tests share; started by the first that asks.
    pub(crate) fn shared(major: u32) -> Arc<Self> {
        Self::shared_variant(major, &Variant::default())
    }

    /// The shared local server of this major version and variant.
    pub(crate) fn shared_variant(major: u32, variant: &Variant) -> Arc<Self> {
        Self::share(&Origin::Local(major, variant.clone()))
    }

    /// The shared server in a container of this image.
    pub(crate) fn shared_image(image: &str) -> Arc<Self> {
        Self::share(&Origin::Image(image.to_owned()))
    }

    /// A local server for one test alone, which may crash it or change its settings.
    pub(crate) fn start(major: u32, variant: &Variant) -> Arc<Self> {
        Self::start_from(&Origin::Local(major, variant.clone()))
    }

    /// A server in a container for one test alone.
    pub(crate) fn start_image(image: &str) -> Arc<Self> {
        Self::start_from(&Origin::Image(image.to_owned()))
    }

    fn share(origin: &Origin) -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(shared.entry(origin.clone()).or_default());
        // Others may start at the same time.
        drop(shared);
        Arc::clone(cell.get_or_init(|| Self::start_from(origin)))
    }

    fn start_from(origin: &Origin) -> Arc<Self> {
        let port = free_port();
        let (place, guard) = match origin {
            Origin::Local(major, variant) => local::prepare(*major, variant, port),
            Origin::Image(image) => container::prepare(image, port),
        };
        let server = Self { port, place, guard: Mutex::new(guard), major: OnceLock::new() };
        server.restart();
        Arc::new(server)
    }

    /// Its major version, such as 16.
    pub(crate) fn major(&self) -> u32 {
        *self.major.get_or_init(|| {
            let number = psql(&self.uri("postgres"), "SHOW server_version_num").expect("a running server");
            number.parse::<u32>().expect("a number") / 10000
        })
    }

    /// Whether CREATE EXTENSION knows this name here.
    pub(crate) fn offers(&self, extension: &str) -> bool {
        let sql = format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'");
        psql(&self.uri("postgres"), &sql).as_deref() == Ok("1")
    }

    /// The directory of the Unix socket, and of all its files; none when the server runs in a container.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(directory),
            Place::Container(_) => None,
        }
    }

    /// The superuser's URI of a database here.
    pub(crate) fn uri(&self, database: &str) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// A fresh database, owned by an ordinary role of its own.
    pub(crate) fn database(self: &Arc<Self>) -> Database {
        Database::create(self, "")
    }

    /// A fresh database with more options of CREATE DATABASE, such as `TEMPLATE template0 LOCALE 'C'`.
    pub(crate) fn database_with(self: &Arc<Self>, options: &str) -> Database {
        Database::create(self, options)
    }

    /// Kills the postmaster at once, as a crash of its machine would; its sessions end a moment later.
    pub(crate) fn crash(&self) {
        self.tell("crash");
    }

    /// Stops the server as an administrator would, without waiting for its sessions.
    pub(crate) fn stop(&self) {
        self.tell("stop");
    }

    /// Starts the server after [`Self::crash`] or [`Self::stop`], and returns when it accepts connections.
    pub(crate) fn restart(&self) {
        let start = Instant::now();
        let uri = self.uri("postgres");
        loop {
            // Again each time: a postmaster gives up while sessions of a crashed one still end.
            self.tell("start");
            let Err(error) = psql(&uri, "SELECT 1") else { return };
            assert!(start.elapsed() < START_LIMIT, "the server did not start: {error}\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        match &self.place {
            Place::Directory(directory) => fs::read_to_string(directory.join("log")).unwrap_or_default(),
            Place::Container(id) => {
                let output = Command::new("docker").args(["logs", id]).output().expect("docker runs");
                String::from_utf8_lossy(&output.stderr).into_owned()
            }
        }
    }

    /// Has the guard obey a word, and waits until it did.
    fn tell(&self, word: &str) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let words = guard.stdin.as_mut().expect("stdin is piped");
        writeln!(words, "{word}").expect("the guard lives as long as its server");
        let answers = guard.stdout.as_mut().expect("stdout is piped");
        answers.read_exact(&mut [0]).expect("the guard answers with an empty line");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Closes its stdin first. Were it lost, there would be nothing more to do.
        let _ = guard.wait();
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
