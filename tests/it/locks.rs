//! The locks of the snapshot's holder: nothing empties a table between its chunks, or before the first.

use std::thread;

use tokio::runtime::Runtime;

use crate::support::{Database, Move, Running, Server, hold, leftovers, psql, state, wait_until};

/// A table in several chunks, whose rows the target takes up to the lock that a test holds there, and a smaller one that
/// is copied after it.
const SAMPLE: &str = "
CREATE FUNCTION gate(id integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN IF id = 25000 THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); END IF; RETURN true; END';
CREATE TABLE photo (id integer CHECK (public.gate(id)), name text);
INSERT INTO photo SELECT n, repeat(md5(n::text), 2) FROM generate_series(1, 40000) AS n;
CREATE TABLE later (id integer);
INSERT INTO later SELECT generate_series(1, 1000);
";

/// A run that stands still in the middle of a table: one chunk is committed, another waits, one has not begun.
struct Scene {
    source: Database,
    target: Database,
    /// Its directory goes with it.
    _run: Move,
    running: Running,
    gate: (Runtime, tokio_postgres::Client),
}

impl Scene {
    fn new() -> Self {
        let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
        source.psql(SAMPLE);
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(target.connect());
        runtime.block_on(client.batch_execute("SELECT pg_advisory_lock(1)")).expect("nobody holds it");
        let mut run = Move::new(&source, &target);
        run.options = ["--jobs=1", "--chunk-size=1", "--accept-writes"].map(String::from).to_vec();
        let mut running = run.start(&[]);
        let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()
                     AND wait_event = 'advisory' AND application_name LIKE 'pgmove %'";
        assert!(wait_until(&mut running, &target, waits), "{}", running.output());
        assert_ne!(target.admin_psql("SELECT count(*) FROM pgmove.ledger WHERE item LIKE 'chunk:%'"), "0");
        Self { source, target, _run: run, running, gate: (runtime, client) }
    }

    /// Gives up when it has waited for so many seconds.
    fn truncate(&self, table: &str, seconds: u32) -> thread::JoinHandle<Result<String, String>> {
        let statement = format!("SET lock_timeout = '{seconds}s'; TRUNCATE {table}");
        let uri = self.source.uri();
        thread::spawn(move || psql(&uri, &statement))
    }

    /// Lets the run go on.
    fn open(gate: &(Runtime, tokio_postgres::Client)) {
        gate.0.block_on(gate.1.batch_execute("SELECT pg_advisory_unlock_all()")).expect("it is held");
    }
}

#[test]
fn a_truncate_waits_for_the_run() {
    let mut scene = Scene::new();
    let expected = state(&scene.source);
    // What the run has not locked in every session waits behind these in turn, so they give up.
    let truncates = ["photo", "later"].map(|table| scene.truncate(table, 5));
    let waiting =
        "SELECT count(*) = 2 FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE NOT granted
                   AND datname = current_database() AND mode = 'AccessExclusiveLock'
                   AND relation IN ('photo'::regclass, 'later'::regclass)";
    while psql(&scene.source.admin_uri(), waiting).as_deref() != Ok("t") {
        assert!(truncates.iter().all(|truncate| !truncate.is_finished()), "TRUNCATE did not wait");
    }
    assert!(scene.running.is_running());
    Scene::open(&scene.gate);
    scene.running.wait().assert(0, &[]);
    for truncate in truncates {
        truncate.join().expect("psql runs").expect_err("the lock was held for longer");
    }
    assert_eq!(leftovers(&scene.target), "");
    state(&scene.target).assert_equal(&expected);
}

#[test]
fn without_its_holder_a_run_reads_again() {
    let scene = Scene::new();
    let ended = scene.source.admin_psql(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database()
         AND application_name LIKE 'pgmove %' AND state = 'idle in transaction' ORDER BY backend_start LIMIT 1",
    );
    assert_eq!(ended, "t", "the holder's session is the oldest");
    scene.truncate("later", 60).join().expect("psql runs").expect("nobody holds the lock any more");
    Scene::open(&scene.gate);
    scene.running.wait().assert(0, &["source's snapshot is lost", "going on from the journal"]);
    assert_eq!(leftovers(&scene.target), "");
    state(&scene.target).assert_equal(&state(&scene.source));
}

#[test]
fn a_view_that_is_locked_while_it_is_compared_is_no_verdict() {
    let (source, target) = (Server::shared(15).database(), Server::shared(17).database());
    // 16 and later write a view of one table without the table's name; the other one takes its time to be filled.
    source.psql(
        "CREATE TABLE photo (id integer); CREATE VIEW seen AS SELECT photo.id FROM photo;
         CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one FROM pg_sleep(2)",
    );
    let run = Move::new(&source, &target).with("--accept-writes");
    let mut running = run.start(&[]);
    let is_copied = "SELECT count(*) > 0 FROM pgmove.ledger WHERE item LIKE 'chunk:%'";
    assert!(wait_until(&mut running, &target, is_copied), "{}", running.output());
    let held = hold(&target.admin_uri(), "LOCK TABLE seen IN ACCESS SHARE MODE");
    running.wait().assert(
        5,
        &["could not try a definition of the source on the target", "another session holds the lock"],
    );
    drop(held);
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(leftovers(&target), "");
}
