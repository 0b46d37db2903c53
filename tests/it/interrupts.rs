//! An interrupt within a long statement: the process ends at once, the server's statement too, and a resumed run comes
//! to its end.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::support::{
    Cut, Database, Fault, Move, Proxy, Running, Server, hold, leftovers, pgmove_process, state, wait_until,
};

/// An index and a materialised view that cannot be made while somebody holds a lock; nobody does on the source.
const SAMPLE: &str = "
CREATE FUNCTION gate(key bigint, value integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(key); RETURN value; END';
CREATE TABLE photo (id integer PRIMARY KEY, name text);
INSERT INTO photo SELECT n, 'photo ' || n FROM generate_series(1, 1000) AS n;
CREATE INDEX slow ON photo (gate(1, id));
CREATE MATERIALIZED VIEW summary AS SELECT gate(2, count(*)::integer) AS photos FROM photo;
CREATE TRIGGER watch BEFORE UPDATE ON photo FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
";

/// An interrupt is obeyed within this time; on a busy machine the process itself takes a part of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Holds a lock of the sample.
struct Gate(Runtime, Client);

impl Gate {
    fn close(database: &Database, key: u8) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(database.connect());
        runtime
            .block_on(client.batch_execute(&format!("SELECT pg_advisory_lock({key})")))
            .expect("nobody holds it");
        Self(runtime, client)
    }

    fn open(self) {
        self.0.block_on(self.1.batch_execute("SELECT pg_advisory_unlock_all()")).expect("it is held");
    }
}

/// Waits until the server works on a statement of the run that begins so, and cannot go on.
fn wait_for(running: &mut Running, database: &Database, statement: &str) {
    let waits = format!(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'
         AND application_name LIKE 'pgmove %' AND query LIKE '{statement}%'"
    );
    assert!(wait_until(running, database, &waits), "{}", running.output());
}

#[test]
fn an_interrupt_ends_the_statement_that_runs() {
    let source = Server::shared(16).database();
    source.psql(SAMPLE);
    for (key, statement, signal) in
        [(1, "CREATE INDEX slow", "INT"), (2, "REFRESH MATERIALIZED VIEW", "TERM")]
    {
        let target = Server::shared(18).database();
        let run = Move::new(&source, &target).with("--accept-writes");
        let gate = Gate::close(&target, key);
        let mut running = run.start(&[]);
        wait_for(&mut running, &target, statement);
        let begun = Instant::now();
        running.signal(signal);
        running.wait().assert(130, &["interrupted", "--resume"]);
        let working = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name LIKE 'pgmove %'";
        while target.admin_psql(working) != "0" && begun.elapsed() < PATIENCE {}
        assert!(begun.elapsed() < PATIENCE, "{statement} went on for {:?}", begun.elapsed());
        gate.open();
        run.run(&["--resume"]).assert(0, &[]);
        assert_eq!(leftovers(&target), "");
        state(&target).assert_equal(&state(&source));
    }
}

#[test]
fn an_interrupt_ends_the_hashing_of_a_resumed_run() {
    let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
    source.psql(SAMPLE);
    let mut run = Move::new(&source, &target).with("--accept-writes");
    let gate = Gate::close(&target, 1);
    let mut running = run.start(&[]);
    wait_for(&mut running, &target, "CREATE INDEX slow");
    running.kill();
    gate.open();
    source.psql("UPDATE photo SET name = 'changed' WHERE id = 1");
    let proxy = Proxy::start(source.server.port);
    let direct = std::mem::take(&mut run.source);
    run.source = proxy.uri(&direct, source.server.port);
    proxy.set(Fault { words: "TO STDOUT", spared: 0, cut: Cut::HoldAnswer(0), times: 1 });
    let mut running = run.start(&["--resume"]);
    while proxy.fired() == 0 {
        assert!(running.is_running(), "{}", running.output());
    }
    let begun = Instant::now();
    running.interrupt();
    running.wait().assert(130, &["interrupted", "--resume"]);
    assert!(begun.elapsed() < PATIENCE, "it went on for {:?}", begun.elapsed());
    run.source = direct;
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(leftovers(&target), "");
    state(&target).assert_equal(&state(&source));
}

#[test]
fn an_interrupted_dump_has_nothing_to_resume() {
    let source = Server::shared(16).database();
    source.psql("CREATE TABLE photo (id integer PRIMARY KEY)");
    let ground = tempfile::tempdir().expect("a temporary directory");
    // pg_dump reads this catalog when it has its locks.
    let held = hold(&source.admin_uri(), "LOCK TABLE pg_catalog.pg_init_privs");
    let mut command = pgmove_process();
    command.args(["dump", "--source", &source.uri(), "--archive"]).arg(ground.path().join("dump"));
    let mut running = Running::start(&mut command);
    let is_held = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pg_dump'
        AND datname = current_database() AND wait_event_type = 'Lock'";
    assert!(wait_until(&mut running, &source, is_held), "{}", running.output());
    running.interrupt();
    let ended = running.wait();
    ended.assert(130, &["interrupted; dump again"]);
    assert!(!ended.output.contains("--resume"), "{}", ended.output);
    drop(held);
}
