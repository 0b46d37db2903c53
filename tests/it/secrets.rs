//! Passwords reach nothing that others can read or that stays: no argument, no child's environment, no file, no output.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use async_compression::tokio::bufread::ZstdDecoder;
use tokio::{io::AsyncReadExt, runtime::Runtime};

use crate::support::{Database, Server, pgmove};

/// Passwords of connections, and those that definitions of the source hold.
const CONNECTION: [&str; 2] = ["source-p4ss", "target-p4ss"];
const BEHIND: [&str; 2] = ["mapping-p4ss", "subscription-p4ss"];
const SERVER: &str = "server-p4ss";
/// An application's own, kept as a setting of its database.
const SETTING: &str = "setting-p4ss";

const SAMPLE: &str = "
CREATE TABLE photo (id integer PRIMARY KEY);
INSERT INTO photo SELECT generate_series(1, 1000);
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER old FOREIGN DATA WRAPPER wrapper OPTIONS (password 'server-p4ss');
CREATE USER MAPPING FOR PUBLIC SERVER old OPTIONS (user 'me', password 'mapping-p4ss');
CREATE SUBSCRIPTION upstream CONNECTION 'host=/nowhere dbname=x password=subscription-p4ss' PUBLICATION p
    WITH (connect = false, slot_name = NONE);
";

/// Every file below the directory, as it is and, if it is a file of an archive, uncompressed.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
            continue;
        }
        let bytes = fs::read(&path).expect("readable");
        let content = if path.extension().is_some_and(|extension| extension == "zst") {
            uncompressed(&bytes)
        } else {
            bytes
        };
        found.push((path.display().to_string(), content));
    }
    found
}

fn uncompressed(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = ZstdDecoder::new(bytes);
    decoder.multiple_members(true);
    let mut content = Vec::new();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(decoder.read_to_end(&mut content)).expect("zstd frames");
    content
}

fn has(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// The process's arguments, and its environment if it is a client program, that hold a secret.
fn betrayal(process: &Path) -> Option<String> {
    let read = |file: &str| fs::read(process.join(file)).unwrap_or_default();
    let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
    let is_client = ["pg_dump", "pg_restore"].contains(&name.as_str());
    let shown = [read("cmdline"), if is_client { read("environ") } else { Vec::new() }].concat();
    let all = CONNECTION.iter().chain(&BEHIND).chain([&SERVER, &SETTING]);
    all.copied().find(|secret| has(&shown, secret)).map(|secret| format!("{secret} in {name}"))
}

/// The database as a superuser or an owner of its own password.
fn uri(database: &Database, role: &str) -> String {
    format!("postgres://{role}@127.0.0.1:{}/{}?sslmode=disable", database.server.port, database.name)
}

#[test]
fn passwords_are_found_nowhere() {
    let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
    // Only a superuser is shown what subscriptions and user mappings hold.
    let reader = format!("{}_reader", source.name);
    source.admin_psql(&format!("CREATE ROLE {reader} SUPERUSER LOGIN PASSWORD 'source-p4ss'"));
    // Nor may anybody else make a foreign data wrapper.
    target.admin_psql(&format!("ALTER ROLE {} SUPERUSER PASSWORD 'target-p4ss'", target.name));
    source.admin_psql(SAMPLE);
    source.admin_psql(&format!("ALTER DATABASE {} SET app.jwt_secret = '{SETTING}'", source.name));
    let ground = tempfile::tempdir().expect("a temporary directory");
    let (run_dir, archive) = (ground.path().join("run"), ground.path().join("archive"));
    let run = |more: &[&str]| {
        let mut run = pgmove();
        run.args(["run", "--accept-writes"]).args(more);
        run.args(["--source", &uri(&source, &reader), "--target", &uri(&target, &target.name)]);
        run.args(["--target-admin", &target.admin_uri()]);
        run.env("PGMOVE_SOURCE_PASSWORD", CONNECTION[0]).env("PGMOVE_TARGET_PASSWORD", CONNECTION[1]);
        run.arg("--run-dir").arg(&run_dir).output().expect("pgmove runs")
    };
    let (is_over, mut outputs) = (AtomicBool::new(false), Vec::new());
    let (betrayals, has_seen_child) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut found, mut has_seen_child) = (Vec::new(), false);
            while !is_over.load(Ordering::SeqCst) {
                for process in fs::read_dir("/proc").expect("processes").flatten() {
                    found.extend(betrayal(&process.path()));
                    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                    has_seen_child |= name.trim() == "pg_dump";
                }
            }
            (found, has_seen_child)
        });
        outputs.push((0, run(&["--dry-run", "--output=json"])));
        outputs.push((0, run(&["--dry-run", "-vv"])));
        outputs.push((8, run(&["-v", &format!("--archive={}", archive.display())])));
        is_over.store(true, Ordering::SeqCst);
        watcher.join().expect("the watcher ends")
    });
    source.admin_psql("DROP SUBSCRIPTION upstream");
    source.admin_psql(&format!("DROP ROLE {reader}"));
    assert!(has_seen_child);
    assert!(betrayals.is_empty(), "{betrayals:?}");
    for (code, output) in outputs {
        let text = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&text);
        assert_eq!(output.status.code(), Some(code), "{printed}");
        for secret in CONNECTION.iter().chain(&BEHIND).chain([&SERVER, &SETTING]) {
            assert!(!has(&text, secret), "{secret} in:\n{printed}");
        }
    }
    let found = [files(&run_dir), files(&archive)].concat();
    for (file, content) in &found {
        for secret in CONNECTION.iter().chain(&BEHIND) {
            assert!(!has(content, secret), "{secret} in {file}");
        }
        assert!(Path::new(file).extension().is_none_or(|extension| extension != "dump"), "{file}");
    }
    // The search finds what is there: a server's options and a setting are moved, so the plan has them.
    for secret in [SERVER, SETTING] {
        let plan = found.iter().find(|(file, _)| file.ends_with("plan.json")).expect("a plan");
        assert!(has(&plan.1, secret));
        for file in ["journal.jsonl", "report.json", "report.html"] {
            let content = fs::read(run_dir.join(file)).expect("a file of the run");
            assert!(!has(&content, secret), "{secret} in {file}");
        }
    }
}
