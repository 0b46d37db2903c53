//! Local clusters: `initdb` and `postgres` of the installs that `cargo xtask servers` lists.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{
    Install, Variant,
    server::{PASSWORD, Place},
};

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

/// Over TCP by password, as applications connect, from any address of this machine; over the socket without, for the tests'
/// own convenience.
const HOST_BASED_AUTHENTICATION: &str = "
local all all trust
host all all 127.0.0.0/8 scram-sha-256
";

/// Makes a cluster, and the guard that will run it; see `guard.sh`.
pub(super) fn prepare(major: u32, variant: &Variant, port: u16) -> (Place, Child) {
    let install = Install::of(major);
    let account = Account::unprivileged();
    let temporary = tempfile::Builder::new()
        .prefix(&format!("pgmove-test-{major}-"))
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary directory");
    let directory = temporary.path();
    account.give(directory);
    let data = directory.join("data");
    initialise(install, &account, directory, variant.initdb);
    append(&data.join("postgresql.conf"), &settings(install, port, directory, variant));
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
        .command("sh", directory)
        .args(["-c", include_str!("guard.sh"), "guard"])
        .arg(directory)
        .arg(install.bin_dir.join("postgres"))
        .arg("-D")
        .arg(&data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // An interrupt from the terminal is for the tests; the guard notices when they are gone.
        .process_group(0)
        .spawn()
        .expect("sh runs");
    // From here on the guard removes it.
    (Place::Directory(temporary.keep()), guard)
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
