//! A running PostgreSQL server on loopback, with its data in a temporary directory.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{Database, Install, psql};

/// The superuser's password, over TCP; the Unix socket asks for none.
const PASSWORD: &str = "superuser-secret";

/// How long a server may take to accept connections, after a crash too.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Settings of every server. Nothing here has to survive the machine, so nothing waits for a disk.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 200
max_prepared_transactions = 10
password_encryption = 'scram-sha-256'
shared_buffers = '64MB'
";

/// Over TCP by password, as applications connect; over the socket without, for the tests' own convenience.
const HOST_BASED_AUTHENTICATION: &str = "
local all all trust
host all all 127.0.0.1/32 scram-sha-256
";

/// How a server differs from the usual one of its version.
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
    /// What it runs from.
    pub(crate) install: &'static Install,
    /// On 127.0.0.1.
    pub(crate) port: u16,
    /// Holds the Unix socket of that port.
    pub(crate) socket_dir: PathBuf,
    /// Ends the server when its stdin does.
    guard: Mutex<Child>,
}

type Shared = HashMap<(u32, Variant), Arc<OnceLock<Arc<Server>>>>;

static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

impl Server {
    /// The server of this major version that all tests share; started by the first that asks.
    pub(crate) fn shared(major: u32) -> Arc<Self> {
        Self::shared_variant(major, &Variant::default())
    }

    /// The shared server of this major version and variant.
    pub(crate) fn shared_variant(major: u32, variant: &Variant) -> Arc<Self> {
        let key = (major, variant.clone());
        let cell = Arc::clone(SHARED.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        Arc::clone(cell.get_or_init(|| Self::start(major, variant)))
    }

    /// A server for one test alone, which may crash it or change its settings.
    pub(crate) fn start(major: u32, variant: &Variant) -> Arc<Self> {
        let install = Install::of(major);
        let account = Account::unprivileged();
        let directory = tempfile::Builder::new()
            .prefix(&format!("pgmove-test-{major}-"))
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory")
            .keep();
        account.give(&directory);
        let data = directory.join("data");
        let port = free_port();
        initialise(install, &account, &directory, variant.initdb);
        append(&data.join("postgresql.conf"), &settings(install, port, &directory, variant));
        let rules = format!("{}\n{HOST_BASED_AUTHENTICATION}", variant.host_based_authentication);
        fs::write(data.join("pg_hba.conf"), rules).expect("pg_hba.conf can be written");
        for (name, contents) in &variant.files {
            let file = data.join(name);
            fs::write(&file, contents).expect("a file in the data directory");
            // The server refuses a key that others can read.
            fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its mode");
            account.give(&file);
        }
        let guard = account
            .command("sh", &directory)
            .args(["-c", include_str!("guard.sh"), "guard"])
            .arg(&directory)
            .arg(install.bin_dir.join("postgres"))
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal is for the tests; the guard notices when they are gone.
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let server = Self { install, port, socket_dir: directory, guard: Mutex::new(guard) };
        server.restart();
        Arc::new(server)
    }

    /// Its major version.
    pub(crate) fn major(&self) -> u32 {
        self.install.major
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
            if start.elapsed() > START_LIMIT {
                let log = fs::read_to_string(self.socket_dir.join("log")).unwrap_or_default();
                panic!("PostgreSQL {} did not start: {error}\n{log}", self.major());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn tell(&self, word: &str) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let words = guard.stdin.as_mut().expect("stdin is piped");
        writeln!(words, "{word}").expect("the guard lives as long as its server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let guard = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Closes its stdin first. Were it lost, there would be nothing more to do.
        let _ = guard.wait();
    }
}

/// Who runs the servers: PostgreSQL refuses root.
struct Account {
    /// User and group; none when this process is an ordinary user's already.
    ids: Option<(u32, u32)>,
}

impl Account {
    /// Debian's `postgres` where there is one, else `nobody`, when this process is root's.
    fn unprivileged() -> Self {
        let is_root = fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0;
        Self {
            ids: is_root.then(|| user_ids("postgres").or_else(|| user_ids("nobody")).expect("a user nobody")),
        }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory);
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
        command
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.ids {
            chown(path, Some(user), Some(group)).expect("root may change owners");
        }
    }
}

/// User and group number of a user of this machine.
fn user_ids(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let fields =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn initialise(install: &Install, account: &Account, directory: &Path, options: &[&str]) {
    let password = directory.join("password");
    fs::write(&password, PASSWORD).expect("the superuser's password");
    let output = account
        .command(install.bin_dir.join("initdb"), directory)
        .args([
            "--pgdata=data",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--pwfile=password",
            "--no-sync",
        ])
        .args(["--encoding=UTF8", "--locale=C.UTF-8"])
        .args(options)
        .output()
        .expect("initdb runs");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
}

fn settings(install: &Install, port: u16, directory: &Path, variant: &Variant) -> String {
    // Both refuse to work where they were not loaded with the server.
    let preload =
        ["vchord", "vectors"].into_iter().filter(|name| install.offers(name)).collect::<Vec<_>>().join(",");
    let directory = directory.display();
    format!(
        "{SETTINGS}shared_preload_libraries = '{preload}'\nport = {port}\nunix_socket_directories = '{directory}'\n{}\n",
        variant.settings
    )
}

fn append(file: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(file).expect("a file of the data directory");
    file.write_all(text.as_bytes()).expect("a line more");
}

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
