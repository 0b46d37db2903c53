//! The programs that tests run: `pgmove` itself, and `psql` for whatever they need to arrange.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Seek, Write},
    process::{Child, Command, Stdio},
};

use super::Install;

/// The built `pgmove`, which finds the newest `pg_dump` first and nothing of the caller's `PG...` variables.
pub(crate) fn pgmove() -> assert_cmd::Command {
    assert_cmd::Command::from_std(pgmove_process())
}

/// The same, to be started and left alone for a while.
pub(crate) fn pgmove_process() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgmove"));
    clear_postgres(&mut command);
    command.env("PATH", client_path());
    command
}

/// Runs SQL in the database of `uri` and returns what it printed: a line a row, fields parted by `|`.
///
/// # Errors
/// What `psql` wrote to stderr, when a statement fails or the database cannot be reached; later ones are not run.
pub(crate) fn psql(uri: &str, sql: &str) -> Result<String, String> {
    // A file rather than a pipe: psql may answer at length before it has read everything.
    let mut input = tempfile::tempfile().expect("a temporary file");
    input
        .write_all(sql.as_bytes())
        .and_then(|()| input.rewind())
        .expect("a temporary file takes the statements");
    let mut command = Command::new("psql");
    clear_postgres(&mut command);
    let output = command
        .env("PATH", client_path())
        .args([
            "--no-psqlrc",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            "--dbname",
            uri,
        ])
        .stdin(Stdio::from(input))
        .output()
        .expect("psql of the newest server runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let printed = String::from_utf8(output.stdout).expect("psql prints UTF-8");
    Ok(printed.trim_end_matches('\n').to_owned())
}

/// A transaction that stays open; it is rolled back when the value is dropped.
pub(crate) struct Held(Child);

/// Runs SQL in a transaction of the database of `uri`, and leaves it open.
pub(crate) fn hold(uri: &str, sql: &str) -> Held {
    let mut command = Command::new("psql");
    clear_postgres(&mut command);
    let mut child = command
        .env("PATH", client_path())
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", uri])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql of the newest server runs");
    let statements = format!("BEGIN; {sql};\n\\echo held\n");
    let input = child.stdin.as_mut().expect("stdin is piped");
    input.write_all(statements.as_bytes()).expect("psql reads");
    let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
    assert!(output.lines().map_while(Result::ok).any(|line| line == "held"), "psql refused {sql}");
    Held(child)
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The path on which the newest client tools come first.
pub(crate) fn client_path() -> OsString {
    let newest = Install::all().last().expect("cargo xtask servers brings servers");
    let inherited = env::var_os("PATH").unwrap_or_default();
    let parts = std::iter::once(newest.client_bin_dir.clone()).chain(env::split_paths(&inherited));
    env::join_paths(parts).expect("a directory whose name holds no colon")
}

/// libpq would take what is missing in a URI from these.
fn clear_postgres(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
}
