//! What a run is given that cannot work: each is refused with its cause, nothing is written, and the exit code is right.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Arc, LazyLock},
};

use crate::support::{
    Database, Ended, Move, Server, Variant, hold, leftovers, pgmove, psql, state, wait_until,
};

/// A small source that all tests here read, on a server that nobody writes to.
static SOURCE: LazyLock<Database> = LazyLock::new(|| {
    let source = quiet(15, "").database();
    source.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY, name text);
         INSERT INTO photo SELECT n, 'photo ' || n FROM generate_series(1, 1000) AS n",
    );
    source
});

fn quiet(major: u32, settings: &str) -> Arc<Server> {
    Server::start(major, &Variant { settings: format!("autovacuum = off\n{settings}"), ..Variant::default() })
}

fn target() -> Database {
    Server::shared(17).database()
}

/// Runs, and expects a refusal that says this and leaves nothing behind.
#[track_caller]
fn refused(run: &Move, target: &Database, phrases: &[&str]) {
    let before = state(target);
    run.run(&[]).assert(3, phrases);
    run.assert_left_only_a_report();
    assert_eq!(leftovers(target), "");
    state(target).assert_equal(&before);
}

#[test]
fn an_endpoint_that_cannot_be_reached() {
    let target = target();
    let port = SOURCE.server.port;
    let changed = |from: &str, to: &str| {
        let mut run = Move::new(&SOURCE, &target);
        assert!(run.source.contains(from), "{}", run.source);
        run.source = run.source.replace(from, to);
        run
    };
    // Port 1 is nobody's.
    refused(
        &changed(&format!(":{port}/"), ":1/"),
        &target,
        &["could not connect to the source", "127.0.0.1"],
    );
    refused(
        &changed("127.0.0.1", "nowhere.invalid"),
        &target,
        &["could not connect to the source", "nowhere.invalid"],
    );
    refused(&changed("owner-secret", "wrong"), &target, &["could not connect to the source", "password"]);
    refused(
        &changed("sslmode=disable", "sslmode=require"),
        &target,
        &["could not connect to the source", "TLS", "sslmode"],
    );
    let database = format!("/{}?", SOURCE.name);
    refused(&changed(&database, "/nowhere?"), &target, &["\"nowhere\" does not exist"]);
    // The target, the same way.
    let mut run = Move::new(&SOURCE, &target);
    run.target = run.target.replace("owner-secret", "wrong");
    refused(&run, &target, &["could not connect to the target", "password"]);
    let mut run = Move::new(&SOURCE, &target);
    run.admin = run.admin.map(|uri| uri.replace("superuser-secret", "wrong"));
    refused(&run, &target, &["could not connect to the target", "password"]);
}

#[test]
fn a_server_that_wants_tls() {
    let server = Server::start(
        17,
        &Variant {
            host_based_authentication: "hostnossl all \"plain\" 127.0.0.1/32 reject".into(),
            ..Variant::default()
        },
    );
    let target = server.database();
    target.admin_psql("CREATE ROLE plain LOGIN");
    let mut run = Move::new(&SOURCE, &target);
    run.target = run.target.replace(&format!("{}:owner-secret", target.name), "plain:secret");
    refused(&run, &target, &["could not connect to the target", "pg_hba.conf"]);
}

#[test]
fn a_database_moved_into_itself() {
    let mut run = Move::new(&SOURCE, &SOURCE);
    refused(&run, &SOURCE, &["the same database"]);
    run.target = run.target.replace("127.0.0.1", "localhost");
    refused(&run, &SOURCE, &["the same database"]);
}

#[test]
fn a_target_that_holds_something() {
    for object in [
        "CREATE TABLE mine (id integer)",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE mine AS ENUM ('a')",
        "CREATE SCHEMA mine",
        "SELECT lo_from_bytea(0, 'mine')",
        "CREATE DOMAIN mine AS integer",
    ] {
        let target = target();
        target.psql(&format!("GRANT ALL ON SCHEMA public TO {}", target.name));
        target.psql(object);
        refused(&Move::new(&SOURCE, &target), &target, &["is not empty"]);
    }
}

#[test]
fn a_target_older_than_its_source() {
    let target = Server::shared(14).database();
    refused(&Move::new(&SOURCE, &target), &target, &["older"]);
}

#[test]
fn an_extension_that_cannot_be_had() {
    let source = quiet(15, "").database();
    source.admin_psql("CREATE EXTENSION earthdistance CASCADE");
    let target = target();
    // Without a superuser.
    let mut run = Move::new(&source, &target);
    run.admin = None;
    refused(&run, &target, &["earthdistance", "--target-admin"]);
    // The target's server does not offer it at all.
    let (source, target) = (quiet(14, "").database(), Server::shared(16).database());
    assert!(!target.server.offers("xml2"));
    source.admin_psql("CREATE EXTENSION xml2");
    refused(&Move::new(&source, &target), &target, &["does not offer extension xml2"]);
}

#[test]
fn a_library_that_is_not_preloaded() {
    let source = quiet(16, "").database();
    source.admin_psql("CREATE EXTENSION vectors");
    source.admin_psql("GRANT USAGE ON SCHEMA vectors TO PUBLIC");
    source.psql(
        "CREATE TABLE smart_search (id integer, embedding vectors.vector(3));
         INSERT INTO smart_search VALUES (1, '[1,2,3]');
         CREATE INDEX clip_index ON smart_search USING vectors (embedding vectors.vector_cos_ops)",
    );
    let target = quiet(18, "shared_preload_libraries = ''").database();
    refused(
        &Move::new(&source, &target).with("--vector-index=vchordrq"),
        &target,
        &["vchord", "shared_preload_libraries"],
    );
}

/// A directory with programs that print a version.
fn clients(version: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["pg_dump", "pg_restore"] {
        let file = directory.path().join(name);
        fs::write(&file, format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")).expect("a script");
        fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("its mode");
    }
    directory
}

#[test]
fn client_programs_that_are_missing_or_too_old() {
    let target = target();
    let old = clients("13.4");
    for (directory, phrases) in
        [(Path::new("/nonexistent"), ["pg_dump", "/nonexistent"]), (old.path(), ["13.4", "pg_dump"])]
    {
        let run =
            Move::new(&SOURCE, &target).with("--client-directory").with(&directory.display().to_string());
        refused(&run, &target, &phrases);
    }
}

#[test]
fn a_target_that_is_read_only() {
    let server = quiet(17, "hot_standby = on");
    let target = server.database();
    server.stop();
    let signal = server.directory().expect("a local server").join("data/standby.signal");
    fs::write(&signal, "").expect("a file in the data directory");
    server.restart();
    refused(&Move::new(&SOURCE, &target), &target, &["standby"]);
}

/// A file system of so many MiB; none where this process may not mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let directory = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o777))
            .tempdir()
            .expect("a directory");
        let disk = Self(directory);
        disk.resize("size", mebibytes).then_some(disk)
    }

    fn resize(&self, option: &str, mebibytes: u32) -> bool {
        let options = format!("{option}={mebibytes}m,mode=777");
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(self.0.path()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_is_full_stops_a_run_that_can_be_resumed() {
    let Some(disk) = SmallDisk::mount(24) else {
        eprintln!("not tested: this process may not mount a file system");
        return;
    };
    let server = quiet(17, "");
    let space = disk.0.path().join("space");
    let made = Command::new("install").args(["-d", "-o"]).arg("postgres").arg(&space).status();
    assert!(made.expect("install runs").success());
    psql(&server.uri("postgres"), &format!("CREATE TABLESPACE small LOCATION '{}'", space.display()))
        .expect("a tablespace");
    let target = server.database_with("TABLESPACE small");
    let source = quiet(15, "").database();
    source.psql(
        "CREATE TABLE large (id integer PRIMARY KEY, body text);
         INSERT INTO large SELECT n, string_agg(md5((n * 100 + m)::text), '') FROM generate_series(1, 20000) AS n, generate_series(1, 50) AS m GROUP BY n",
    );
    let run = Move::new(&source, &target);
    run.run(&[]).assert(5, &["public.large", "No space left on device", "--resume"]);
    assert!(disk.resize("remount,size", 400));
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(leftovers(&target), "");
    state(&target).assert_equal(&state(&source));
}

#[test]
fn a_row_that_the_target_rejects() {
    let source = quiet(15, "").database();
    source.psql(
        "CREATE TABLE picky (id integer PRIMARY KEY, CHECK (current_setting('server_version_num')::integer < 160000));
         INSERT INTO picky VALUES (1), (2)",
    );
    let target = target();
    let run = Move::new(&source, &target);
    run.run(&[]).assert(5, &["public.picky", "23514"]);
    // It stays so; the message is the same.
    run.run(&["--resume"]).assert(5, &["public.picky", "23514"]);
    assert_eq!(target.admin_psql("SELECT count(*) FROM picky"), "0");
}

#[test]
fn a_source_table_that_is_locked() {
    let source = quiet(15, "").database();
    source.psql("CREATE TABLE busy (id integer); CREATE TABLE idle (id integer)");
    let target = target();
    let held = hold(&source.uri(), "LOCK TABLE busy IN ACCESS EXCLUSIVE MODE");
    let named = holder(&source, "busy");
    let archive = tempfile::tempdir().expect("a temporary directory");
    let arguments = [
        vec!["dump".into(), format!("--archive={}", archive.path().display())],
        vec!["verify".into(), format!("--target={}", target.uri())],
    ];
    // They wait together.
    std::thread::scope(|scope| {
        for arguments in &arguments {
            let (named, uri) = (&named, source.uri());
            scope.spawn(move || {
                let output = pgmove().args(arguments).args(["--source", &uri]).output().expect("pgmove runs");
                let output = Ended {
                    code: output.status.code(),
                    output: String::from_utf8_lossy(&output.stderr).into_owned(),
                };
                output.assert(3, &["lock timeout", named]);
            });
        }
        refused(&Move::new(&source, &target), &target, &["lock timeout", &named]);
    });
    drop(held);
}

/// How the session is named that holds a table, or waits for it.
fn holder(database: &Database, table: &str) -> String {
    database.admin_psql(&format!(
        "SELECT format('session %s of role %s (\"%s\", statement begun %s UTC) %s AccessExclusiveLock on public.{table}',
                       pid, usename, application_name, to_char(query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
                       CASE WHEN granted THEN 'holds' ELSE 'waits for' END)
         FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE mode = 'AccessExclusiveLock' AND relation = 'public.{table}'::regclass"
    ))
}

#[test]
fn a_target_table_that_is_locked() {
    let target = target();
    target.psql("CREATE TABLE busy (id integer)");
    let held = hold(&target.uri(), "LOCK TABLE busy IN ACCESS EXCLUSIVE MODE");
    let run = Move::new(&SOURCE, &target);
    run.run(&[]).assert(3, &["lock timeout", &holder(&target, "busy"), "SELECT pg_terminate_backend("]);
    drop(held);
}

#[test]
fn a_drop_that_waits_for_the_run_is_named_before_and_after() {
    let source = quiet(15, "").database();
    source.psql("CREATE TABLE photo (id integer PRIMARY KEY)");
    let target = target();
    let run = Move::new(&source, &target);
    // pg_dump reads this catalog when it has its locks.
    let held = hold(&source.admin_uri(), "LOCK TABLE pg_catalog.pg_init_privs");
    let mut running = run.start(&[]);
    let is_held = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pg_dump'
        AND datname = current_database() AND wait_event_type = 'Lock'";
    assert!(wait_until(&mut running, &source, is_held), "{}", running.output());
    let uri = format!("{}&application_name=immich", source.uri());
    let dropping = std::thread::spawn(move || psql(&uri, "SET lock_timeout = '90s'; DROP TABLE photo"));
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'public.photo'::regclass";
    assert!(wait_until(&mut running, &source, waits), "{}", running.output());
    let named = format!("{}, behind the run's own locks", holder(&source, "photo"));
    drop(held);
    let pid = named.split(' ').nth(1).expect("its process");
    let remedy = format!("end it on the source: SELECT pg_terminate_backend({pid})");
    running
        .wait()
        .assert(5, &[&format!("warning: {named}"), &format!("lock on the source: {named}"), &remedy]);
    dropping.join().expect("the thread ends").expect("nobody holds the table any more");
}

#[test]
fn a_source_table_dropped_meanwhile() {
    let source = quiet(15, "").database();
    source.psql(
        "CREATE TABLE first (id integer PRIMARY KEY); INSERT INTO first SELECT generate_series(1, 200000);
         CREATE TABLE second (id integer PRIMARY KEY); INSERT INTO second SELECT generate_series(1, 200000)",
    );
    let (target, before) = (target(), state(&source));
    let run = Move::new(&source, &target);
    let mut running = run.start(&[]);
    assert!(wait_until(&mut running, &target, "SELECT true FROM pgmove.ledger LIMIT 1"));
    // The run's locks keep it waiting; whoever wants to read the table now waits behind it, the run too.
    let dropped = psql(&source.uri(), "SET lock_timeout = '60s'; DROP TABLE second");
    let ended = running.wait();
    if ended.code != Some(5) {
        assert!(matches!(ended.code, Some(0 | 8)), "{}", ended.output);
        assert_eq!(leftovers(&target), "");
        state(&target).assert_equal(&before);
        return;
    }
    ended.assert(5, &["lock", "--resume"]);
    dropped.expect("nobody holds the table any more");
    run.run(&["--resume"]).assert(7, &["schema has changed", "start over"]);
}

#[test]
fn a_table_that_the_source_role_may_not_read() {
    let source = quiet(15, "").database();
    source.admin_psql("CREATE TABLE public.secret (id integer); INSERT INTO public.secret VALUES (1)");
    let target = target();
    refused(&Move::new(&source, &target), &target, &["public.secret"]);
}

#[test]
fn what_was_typed_wrongly() {
    let (source, target) = (SOURCE.uri(), target());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = directory.path().join("run");
    let run = run.to_str().expect("a temporary path is UTF-8");
    let uri = target.uri();
    for (arguments, phrase) in [
        (vec!["run", "--source", &source, "--target", &uri, "--jbos=2"], "--jbos"),
        (vec!["run", "--source", &source, "--target", &uri, "--jobs=0"], "--jobs"),
        (vec!["run", "--source", &source, "--target", &uri, "--jobs=many"], "many"),
        (vec!["run", "--source", &source, "--target", &uri, "--vector-index=lsh"], "lsh"),
        (vec!["run", "--source", &source, "--target", &uri, "--dry-run", "--resume"], "--resume"),
        (vec!["run", "--source", &source], "--target"),
        (vec!["rnu"], "rnu"),
        (vec!["run", "--source", "postgres://u@h/d?sslmod=require", "--target", &uri], "sslmod"),
        (vec!["run", "--source", "postgres://u@h/d?sslmode=maybe", "--target", &uri], "maybe"),
        (vec!["run", "--source", "postgres://u@h1,h2/d", "--target", &uri], "host"),
        (vec!["run", "--source", "service=photos", "--target", &uri], "service"),
        (vec!["run", "--source", "postgres://u@h:port/d", "--target", &uri], "port"),
        (vec!["run", "--source", &source, "--target", &uri, "--resume", "--run-dir", run], run),
    ] {
        let output = pgmove().args(&arguments).current_dir(directory.path()).output().expect("pgmove runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(phrase), "{arguments:?}: {text}");
        assert!(!text.contains("owner-secret"), "{text}");
    }
    assert_eq!(leftovers(&target), "");
}
