//! What happens between a run that stopped and its resume: another database, other options, a crash, sessions that
//! stay. And what a run may not take for its own.

use std::{fs, sync::Arc, thread, time::Duration};

use crate::support::{
    Cut, Database, Fault, Move, Proxy, SMALL, Server, Variant, Vectors, leftovers, pgmove, psql, state,
    wait_until,
};

const SAMPLE: &str = "
CREATE TABLE kept (id integer PRIMARY KEY, note text);
INSERT INTO kept SELECT n, 'note ' || n FROM generate_series(1, 500) AS n;
CREATE TABLE child (id integer REFERENCES kept);
INSERT INTO child SELECT n FROM generate_series(1, 100) AS n;
CREATE UNLOGGED TABLE fleeting (id integer);
INSERT INTO fleeting SELECT generate_series(1, 50);
CREATE SEQUENCE counter;
SELECT nextval('counter'), nextval('counter');
";

/// In the finish stage: rows, indexes and foreign keys are there.
const SEQUENCES: &str = "pg_catalog.setval";
/// Rows, index and finish stage are over, and compared.
const VERDICT: &str = "UPDATE pgmove.run";
/// The verdict is in the journal.
const CLEAR: &str = "DROP SCHEMA IF EXISTS pgmove";

fn quiet(major: u32) -> Arc<Server> {
    Server::start(major, &Variant { settings: "autovacuum = off".into(), ..Variant::default() })
}

fn sample(server: &Arc<Server>) -> Database {
    let database = server.database();
    database.psql(SAMPLE);
    database
}

/// A run whose target's connection is cut when it sends these words; resumed, it goes straight to the target.
#[track_caller]
fn cut_at(words: &'static str, mut run: Move, target: &Database, code: i32) -> Move {
    let proxy = Proxy::start(target.server.port);
    let direct = std::mem::replace(&mut run.target, proxy.uri(&target.uri(), target.server.port));
    proxy.set(Fault { words, spared: 0, cut: Cut::Request, times: 1 });
    run.run(&["--retries=0"]).assert(code, &[]);
    assert_eq!(proxy.fired(), 1);
    run.target = direct;
    run
}

#[test]
fn a_run_directory_of_somebody_else_is_left_alone() {
    let (source, target) = (sample(&Server::shared(16)), Server::shared(18).database());
    let mut run = Move::new(&source, &target);
    run.target = run.target.replace("owner-secret", "mistyped");
    fs::create_dir(run.run_dir()).expect("a directory");
    run.run(&[]).assert(3, &[]);
    run.assert_left_only_a_report();
    let photo = run.run_dir().join("photo.jpg");
    fs::write(&photo, "dear").expect("a file");
    run.run(&[]).assert(2, &["holds no run", "--run-dir"]);
    assert_eq!(fs::read(&photo).expect("still there"), b"dear");
    assert_eq!(fs::read_dir(run.run_dir()).expect("still there").count(), 3);
}

#[test]
fn a_run_goes_on_with_its_own_databases_only() {
    let server = quiet(16);
    let (source, twin) = (sample(&server), sample(&server));
    let targets = Server::shared(18);
    let (target, other) = (targets.database(), targets.database());
    let mut run = cut_at(SEQUENCES, Move::new(&source, &target), &target, 5);
    let own = std::mem::replace(&mut run.source, twin.uri());
    run.run(&["--resume"]).assert(2, &["the source of the run is database", &source.name, &twin.name]);
    run.source = own;
    let own = std::mem::replace(&mut run.target, other.uri());
    run.run(&["--resume"]).assert(2, &["the target of the run is database", &target.name, &other.name]);
    assert_eq!(leftovers(&other), "");
    run.target = own;
    run.run(&["--resume"]).assert(0, &[]);
    // Nor is a verdict repeated for a target that it is not about.
    run.target = other.uri();
    run.run(&["--resume"]).assert(2, &["the target of the run is database"]);
}

#[test]
fn a_run_goes_on_with_the_options_it_began_with() {
    let server = quiet(16);
    let source = SMALL.fill(&server, Vectors::of(&server));
    let target = Server::shared(18).database();
    let mut run = Move::new(&source, &target);
    run.options.extend([
        "--vector-index=hnsw".into(),
        format!("--owner={}", target.name),
        "--keep-ledger".into(),
    ]);
    let mut run = cut_at(SEQUENCES, run, &target, 5);
    run.options.truncate(1);
    run.run(&["--resume", "--vector-index=vchordrq"]).assert(2, &["--vector-index hnsw"]);
    run.run(&["--resume", "--owner=postgres"]).assert(2, &[&format!("--owner {}", target.name)]);
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(target.admin_psql("SELECT count(*) > 0 FROM pgmove.ledger"), "t");
    // The target is live: what a crash empties from now on is not loaded again.
    target.admin_psql("TRUNCATE pgmove.ledger_unlogged");
    run.run(&["--resume"]).assert(0, &["the run had ended before"]);
    assert_eq!(target.admin_psql("SELECT count(*) > 0 FROM pgmove.ledger"), "t");
}

#[test]
fn rows_of_another_encoding_have_one_digest() {
    let source = quiet(16).database_with("TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    source.psql(SAMPLE);
    source.psql("UPDATE kept SET note = 'déjà vu ' || id");
    let target = Server::shared(18).database();
    let dry = Move::new(&source, &target).run(&["--dry-run", "--digests"]);
    dry.assert(0, &[]);
    let is_kept = |line: &&str| line.ends_with("public.kept") && line.contains(" 500 ");
    let digest = dry.output.lines().find(is_kept).expect("the digest of the table");
    // Foreign keys are made: were the table taken for changed, the run would have to start over.
    let run = cut_at(SEQUENCES, Move::new(&source, &target), &target, 5);
    source.psql("SELECT txid_current()");
    run.run(&["--resume"]).assert(0, &[&digest[..8]]);
}

#[test]
fn a_crash_of_the_source_empties_what_is_unlogged() {
    let server = quiet(16);
    let source = sample(&server);
    for crashes in [false, true] {
        let target = Server::shared(18).database();
        let run = cut_at(SEQUENCES, Move::new(&source, &target), &target, 5);
        if crashes {
            server.crash();
        } else {
            server.stop();
        }
        server.restart();
        run.run(&["--resume"]).assert(0, &[]);
        assert_eq!(
            target.psql("SELECT count(*) FROM fleeting"),
            source.psql("SELECT count(*) FROM fleeting")
        );
    }
    assert_eq!(source.psql("SELECT count(*) FROM fleeting"), "0");
}

#[test]
fn a_verdict_does_not_outlive_a_crash_of_the_target() {
    let source = sample(&quiet(16));
    let targets = quiet(18);
    let target = targets.database();
    let run = cut_at(CLEAR, Move::new(&source, &target), &target, 5);
    targets.crash();
    targets.restart();
    run.run(&["--resume"]).assert(0, &["lost something after the verdict"]);
    assert_eq!(target.psql("SELECT count(*) FROM fleeting"), "50");
    assert_eq!(leftovers(&target), "");
}

#[test]
fn sessions_that_stay_are_ended_or_named() {
    let source = sample(&quiet(16));
    let target = Server::shared(18).database();
    let mut run = cut_at(SEQUENCES, Move::new(&source, &target), &target, 5);
    let id = run.journal()[0]["run"].as_str().expect("the run's id").to_owned();
    let uri = format!("{}&application_name=pgmove%20{id}", target.admin_uri());
    let left = thread::spawn(move || psql(&uri, "SELECT pg_sleep(300)"));
    let is_there = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgmove {id}'");
    while target.admin_psql(&is_there) == "0" {
        thread::sleep(Duration::from_millis(50));
    }
    let admin = run.admin.take();
    run.run(&["--resume"]).assert(5, &["do not end on the target: process", "of role postgres"]);
    run.admin = admin;
    run.run(&["--resume"]).assert(0, &[]);
    assert!(left.join().expect("psql ran").is_err(), "it was ended");
}

#[test]
fn a_sequence_that_moves_during_the_run_is_a_write_to_the_source() {
    let source = sample(&quiet(16));
    source.psql("CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one, pg_sleep(3)::text AS nothing");
    for (options, code) in [(&[][..], 8), (&["--accept-writes"], 0)] {
        let target = Server::shared(18).database();
        let mut running = Move::new(&source, &target).start(options);
        let refreshes = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()
            AND query LIKE 'REFRESH%' AND state = 'active' AND pid <> pg_backend_pid()";
        assert!(wait_until(&mut running, &target, refreshes));
        source.psql("SELECT nextval('counter')");
        running.wait().assert(code, &["sequence public.counter has moved"]);
    }
}

#[test]
fn a_holder_that_is_lost_after_the_copy_is_missed_within_the_stage() {
    let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
    // Only the target takes its time.
    source.psql(
        "CREATE TABLE kept (id integer);
         CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one FROM pg_sleep(
             CASE WHEN current_setting('server_version_num')::integer < 180000 THEN 0 ELSE 100 END)",
    );
    let mut running = Move::new(&source, &target).with("--accept-writes").start(&[]);
    let refreshes = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()
        AND query LIKE 'REFRESH%' AND state = 'active' AND pid <> pg_backend_pid()";
    assert!(wait_until(&mut running, &target, refreshes), "{}", running.output());
    let ended = target.admin_psql(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_database AS d ON d.oid = database
         WHERE locktype = 'advisory' AND granted AND datname = current_database()",
    );
    assert_eq!(ended, "t", "the run's lock has a holder");
    // It is asked once a minute.
    while !running.output().contains("going on from the journal") {
        assert!(running.is_running(), "{}", running.output());
        assert_eq!(psql(&target.admin_uri(), refreshes).as_deref(), Ok("t"), "the stage goes on");
        thread::sleep(Duration::from_millis(200));
    }
    running.interrupt();
    running.wait().assert(130, &["the session that holds the run's lock on the target is lost"]);
}

#[test]
fn a_view_that_relies_on_the_search_path_is_refreshed() {
    let source = Server::shared(14).database();
    source.psql(
        "CREATE TABLE photo (id integer); INSERT INTO photo VALUES (1), (2);
        CREATE FUNCTION photos() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM photo';
        CREATE MATERIALIZED VIEW number AS SELECT photos() AS photos;",
    );
    // From 17 on the server sets a path of its own.
    let target = Server::shared(16).database();
    let ended = Move::new(&source, &target).run(&["--accept-writes"]);
    ended.assert(0, &["public.number names objects without their schema"]);
    assert_eq!(target.psql("SELECT photos FROM number"), "2");
}

#[test]
fn a_verdict_does_not_outlive_a_failover_to_a_replica_that_lags() {
    let source = sample(&quiet(16));
    let target = Server::shared(18).database();
    let run = cut_at(CLEAR, Move::new(&source, &target), &target, 5);
    // Such a replica lacks what was committed last: the seal, and what the sequences were set to.
    target.admin_psql(
        "BEGIN READ WRITE; UPDATE pgmove.run SET sealed_at = NULL; SELECT setval('public.counter', 1); COMMIT",
    );
    run.run(&["--resume"]).assert(0, &["lost something after the verdict"]);
    assert_eq!(target.psql("SELECT last_value FROM counter"), source.psql("SELECT last_value FROM counter"));
    assert_eq!(leftovers(&target), "");
}

#[test]
fn an_archive_of_a_run_that_was_refused_is_not_in_the_way() {
    let source = sample(&quiet(16));
    let target = Server::shared(18).database();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = directory.path().join("archive");
    let run = Move::new(&source, &target).with(&format!("--archive={}", archive.display()));
    let mut run = cut_at("pg_try_advisory_lock", run, &target, 3);
    assert!(!archive.exists());
    // Nor that of a run which has tried twice: it was the first try that had made it.
    let proxy = Proxy::start(target.server.port);
    let direct = std::mem::replace(&mut run.target, proxy.uri(&target.uri(), target.server.port));
    proxy.set(Fault { words: "pg_try_advisory_lock", spared: 0, cut: Cut::Request, times: 2 });
    run.run(&["--retries=1"]).assert(3, &[]);
    assert_eq!(proxy.fired(), 2);
    assert!(!archive.exists());
    run.target = direct;
    run.run(&[]).assert(0, &[]);
    pgmove().args(["archive", "check"]).arg(&archive).assert().success();
}

#[test]
fn a_finished_archive_is_not_taken_for_one_of_another_state() {
    let source = sample(&quiet(16));
    let target = Server::shared(18).database();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = directory.path().join("archive");
    let run = Move::new(&source, &target).with(&format!("--archive={}", archive.display()));
    let run = cut_at("UPDATE pgmove.run", run, &target, 5);
    source.psql("INSERT INTO fleeting VALUES (51)");
    run.run(&["--resume"]).assert(5, &["is finished", "remove it"]);
    fs::rename(&archive, directory.path().join("former")).expect("moved away");
    run.run(&["--resume"]).assert(0, &[]);
    // 500 + 100 + 51.
    let check = pgmove().args(["archive", "check"]).arg(&archive).assert().success();
    let printed = String::from_utf8_lossy(&check.get_output().stdout).into_owned();
    assert!(printed.contains("651 rows"), "{printed}");
    state(&target).assert_equal(&state(&source));
}

#[test]
fn nothing_is_removed_from_a_target_that_another_run_holds() {
    let (source, target) = (sample(&quiet(16)), Server::shared(18).database());
    let run = cut_at(SEQUENCES, Move::new(&source, &target), &target, 5);
    source.psql("INSERT INTO fleeting VALUES (0)");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let other = runtime.block_on(target.connect());
    let lock = include_str!("../../sql/session/lock.sql");
    runtime.block_on(other.batch_execute(lock)).expect("nobody holds it");
    run.run(&["--resume"]).assert(5, &["another pgmove works on database"]);
    assert_eq!(target.psql("SELECT count(*) FROM fleeting"), "50");
    runtime.block_on(other.batch_execute("SELECT pg_advisory_unlock_all()")).expect("it is held");
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(target.psql("SELECT count(*) FROM fleeting"), "51");
}

#[test]
fn what_the_run_itself_has_set_is_not_what_was_there_before() {
    let (source, target) = (sample(&quiet(16)), Server::shared(18).database());
    let set = |database: &Database, what: &str| {
        database.admin_psql(&format!("ALTER DATABASE {} {what}", database.name));
    };
    set(&source, "SET work_mem = '7MB'");
    set(&target, "SET temp_buffers = '9MB'");
    let run = cut_at(VERDICT, Move::new(&source, &target), &target, 5);
    set(&source, "RESET work_mem");
    run.run(&["--resume"]).assert(4, &["work_mem"]);
}

#[test]
fn a_vector_index_is_built_again_with_the_rows_it_was_built_on() {
    let (server, targets) = (quiet(16), Server::shared(18));
    let (source, target) = (server.database(), targets.database());
    source.admin_psql("CREATE EXTENSION vector");
    source.psql(
        "CREATE TABLE face (id integer PRIMARY KEY, embedding vector(3));
         INSERT INTO face SELECT n, ARRAY[n, n % 7, n % 11]::vector FROM generate_series(1, 500) AS n;
         CREATE INDEX face_index ON face USING hnsw (embedding vector_l2_ops)",
    );
    let run = cut_at(VERDICT, Move::new(&source, &target), &target, 5);
    let index = || target.psql("SELECT 'face_index'::regclass::oid, 'face_pkey'::regclass::oid");
    let before = index();
    let vacuumed = "SELECT vacuum_count > 0 FROM pg_stat_user_tables WHERE relname = 'face'";
    assert_eq!(target.psql(vacuumed), "t", "a vector index is built on what was vacuumed");
    source.psql("UPDATE face SET embedding = '[0,0,0]' WHERE id = 7");
    run.run(&["--resume"]).assert(0, &[]);
    let (before, after) = (before.split_once('|').expect("two"), index());
    let after = after.split_once('|').expect("two");
    assert_ne!(before.0, after.0, "the vector index is another one");
    assert_eq!(before.1, after.1, "the key's is the same");
    state(&target).assert_equal(&state(&source));
}
