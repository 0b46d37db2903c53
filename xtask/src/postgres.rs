//! A PostgreSQL server of the demo: a cluster of its own on loopback, run by an ordinary user.
//!
//! Takes an install and a directory for data, log and Unix socket; gives a server that accepts connections. Whoever made
//! the directory sees to it that the server ends (see `demo-guard.sh`). Fails with what the server's own programs say.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{debian, install::Install, process};

/// Name and password of the superuser; over the Unix socket no password is asked for.
pub(crate) const SUPERUSER: &str = "postgres";
pub(crate) const SUPERUSER_PASSWORD: &str = "superuser-demo";

/// A running server.
pub(crate) struct Cluster<'a> {
    install: &'a Install,
    directory: PathBuf,
    /// On 127.0.0.1.
    pub(crate) port: u16,
}

impl<'a> Cluster<'a> {
    /// Makes a cluster in a new `directory` and starts it; `preload` is its `shared_preload_libraries`.
    pub(crate) fn start(install: &'a Install, directory: &Path, preload: &str) -> Result<Self> {
        fs::create_dir(directory).with_context(|| directory.display().to_string())?;
        let cluster = Self { install, directory: directory.to_owned(), port: free_port()? };
        if debian::is_root() {
            process::run(Command::new("chown").arg(format!("{SUPERUSER}:")).arg(directory))?;
        }
        cluster.initialise()?;
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             shared_preload_libraries = '{preload}'\nshared_buffers = '128MB'\nmax_wal_size = '4GB'\n\
             password_encryption = 'scram-sha-256'\n",
            cluster.port,
            directory.display()
        );
        cluster.append("postgresql.conf", &settings)?;
        // Answers when the server accepts connections. It gives the server a session of its own, so that an interrupt
        // from the terminal does not reach it.
        let log = directory.join("log");
        process::output(cluster.command("pg_ctl").args(["start", "--wait", "--silent", "--log"]).arg(&log))
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(cluster)
    }

    /// A URI of a database here, without a password.
    pub(crate) fn uri(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements and files in one session of psql, in this order; the first error ends it.
    pub(crate) fn psql(
        &self,
        role: &str,
        database: &str,
        statements: &[&str],
        files: &[PathBuf],
    ) -> Result<()> {
        let mut command = Command::new(self.install.client_bin_dir.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--host"]).arg(&self.directory);
        command.arg(format!("--port={}", self.port));
        command.args(["--username", role, "--dbname", database]);
        for statement in statements {
            command.args(["--command", statement]);
        }
        for file in files {
            command.arg("--file").arg(file);
        }
        // Notices and the results of functions are of no interest.
        command.env("PGOPTIONS", "--client-min-messages=warning");
        process::output(&mut command).map(drop)
    }

    fn initialise(&self) -> Result<()> {
        let password = self.directory.join("password");
        fs::write(&password, SUPERUSER_PASSWORD)?;
        process::output(
            self.command("initdb")
                .args(["--username", SUPERUSER, "--auth-local=trust", "--auth-host=scram-sha-256"])
                .arg(format!("--pwfile={}", password.display()))
                .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]),
        )?;
        Ok(fs::remove_file(password)?)
    }

    /// One of the server's programs, by the user who runs it; `PostgreSQL` refuses root.
    fn command(&self, program: &str) -> Command {
        let program = self.install.bin_dir.join(program);
        let mut command = if debian::is_root() {
            let mut command = Command::new("setpriv");
            // Debian's package, which the legacy server comes from, has made this user.
            command.args(["--reuid", SUPERUSER, "--regid", SUPERUSER, "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("--pgdata").arg(self.directory.join("data")).current_dir(&self.directory);
        command
    }

    fn append(&self, file: &str, text: &str) -> Result<()> {
        let path = self.directory.join("data").join(file);
        let usual = fs::read_to_string(&path)?;
        Ok(fs::write(path, usual + text)?)
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
