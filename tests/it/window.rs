//! The steps of a maintenance window by themselves: fence, move, unfence, with applications that do not know of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::support::{Database, Ended, Move, Server, leftovers, pgmove, psql, state, wait_until};

const SAMPLE: &str = "
CREATE TABLE photo (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
INSERT INTO photo (name) SELECT 'photo ' || n FROM generate_series(1, 1000) AS n;
";

/// Long enough for a test to write to the source after the snapshot: it is filled again on the target.
const SLOW: &str = "CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one FROM pg_sleep(1.5);";

/// Less than a fence waits for sessions that do not end.
const AT_ONCE: Duration = Duration::from_secs(8);

fn source() -> Database {
    let source = Server::shared(16).database();
    source.psql(SAMPLE);
    source
}

fn settings(source: &Database) -> String {
    source.admin_psql(
        "SELECT setrole::regrole, setconfig FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase
         WHERE d.datname = current_database() ORDER BY setrole",
    )
}

/// `pgmove fence` or `unfence`.
fn pgmove_on(command: &str, source: &Database, run: &Move) -> Ended {
    let output = pgmove()
        .args([command, "--source", &source.uri(), "--run-dir"])
        .arg(run.run_dir())
        .output()
        .expect("pgmove runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    // Wherever its lines are broken.
    let printed = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ended { code: output.status.code(), output: printed }
}

fn is_fenced(source: &Database) -> bool {
    psql(&source.uri(), "INSERT INTO photo (name) VALUES ('late')")
        .is_err_and(|error| error.contains("read-only transaction"))
}

/// An application: sessions that run a statement again and again until it is dropped, each in a connection of its own.
struct Application {
    is_over: Arc<AtomicBool>,
    failures: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Application {
    fn start(uri: &str, sessions: usize, statement: &'static str) -> Self {
        let (is_over, failures) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let begun = Arc::new(AtomicU32::new(0));
        let threads = (0..sessions)
            .map(|_| {
                let (is_over, failures, begun) =
                    (Arc::clone(&is_over), Arc::clone(&failures), Arc::clone(&begun));
                let uri = uri.to_owned();
                thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        begun.fetch_add(1, Ordering::Relaxed);
                        if psql(&uri, statement).is_err() {
                            failures.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        while begun.load(Ordering::Relaxed) < 2 * u32::try_from(sessions).expect("a few") {
            thread::sleep(Duration::from_millis(10));
        }
        Self { is_over, failures, threads }
    }

    /// How many of its statements failed.
    fn stop(mut self) -> u32 {
        self.end();
        self.failures.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.end();
    }
}

/// A session that sleeps; what became of it is known when it is joined.
fn sleeper(uri: &str, database: &Database) -> JoinHandle<Result<String, String>> {
    let (uri, statement) = (uri.to_owned(), "SELECT pg_sleep(30)");
    let session = thread::spawn(move || psql(&uri, statement));
    let is_there = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND datname = current_database()";
    while database.admin_psql(is_there) != "t" {
        thread::sleep(Duration::from_millis(20));
    }
    session
}

#[test]
fn a_fence_stops_writers_and_is_lifted_without_a_trace() {
    let read_only = "SET default_transaction_read_only = on";
    for former in ["RESET work_mem", "SET default_transaction_read_only = off", read_only] {
        let (source, target) = (source(), Server::shared(18).database());
        source.psql(&format!("ALTER DATABASE {} {former}", source.name));
        let before = settings(&source);
        let run = Move::new(&source, &target);
        let session = sleeper(&source.uri(), &source);
        pgmove_on("fence", &source, &run).assert(0, &["refuses writes", "pgmove unfence"]);
        let ended = session.join().expect("a thread").expect_err("the fence ends sessions");
        assert!(ended.contains("terminating connection"), "{ended}");
        assert!(is_fenced(&source));
        // What it says is what holds, and so is its exit code.
        let (code, said) =
            if former == read_only { (8, "refuses writes still") } else { (0, "accepts writes as before") };
        pgmove_on("unfence", &source, &run).assert(code, &[said]);
        assert_eq!(settings(&source), before);
        assert_eq!(is_fenced(&source), former == read_only);
        // Once more: the setting is not the fence's any more.
        pgmove_on("unfence", &source, &run).assert(code, &["nothing was changed"]);
        assert_eq!(settings(&source), before);
    }
}

#[test]
fn sessions_that_begin_after_the_fence_are_left_alone() {
    let (source, target) = (source(), Server::shared(18).database());
    let run = Move::new(&source, &target);
    let pool = Application::start(&source.uri(), 6, "SELECT pg_sleep(0.3)");
    let begun = Instant::now();
    let ended = pgmove_on("fence", &source, &run);
    ended.assert(0, &["refuses writes"]);
    assert!(!ended.output.contains("able to write"), "{}", ended.output);
    assert!(begun.elapsed() < AT_ONCE, "waited for sessions that are fenced");
    assert!(pool.stop() <= 6, "a session that began after the fence was ended");
}

#[test]
fn a_superusers_session_is_named_and_not_waited_for() {
    let (source, target) = (source(), Server::shared(18).database());
    let run = Move::new(&source, &target);
    let session = sleeper(&source.admin_uri(), &source);
    let begun = Instant::now();
    pgmove_on("fence", &source, &run).assert(8, &["able to write: process", "of role postgres (psql)"]);
    assert!(begun.elapsed() < AT_ONCE, "waited for a session that it may not end");
    source.admin_psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND datname = current_database()");
    session.join().expect("a thread").expect_err("it was ended");
}

#[test]
fn a_fenced_move_under_a_hammering_writer_is_proven() {
    let (source, target) = (source(), Server::shared(18).database());
    let run = Move::new(&source, &target);
    let writer = Application::start(&source.uri(), 2, "INSERT INTO photo (name) VALUES ('new')");
    run.run(&["--fence"]).assert(0, &["equal: "]);
    assert!(writer.stop() > 0, "nothing was refused");
    assert!(is_fenced(&source), "the fence stays");
    assert_eq!(leftovers(&target), "");
    state(&target).assert_equal(&state(&source));
    assert!(source.psql("SELECT count(*) FROM photo").parse::<u32>().expect("a number") > 1000);
    pgmove_on("unfence", &source, &run).assert(0, &["accepts writes as before"]);
    assert_eq!(settings(&source), "");
}

#[test]
fn an_application_that_overrides_the_fence_is_found_out() {
    let (source, target) = (source(), Server::shared(18).database());
    source.psql(SLOW);
    let run = Move::new(&source, &target);
    let mut running = run.start(&["--fence"]);
    assert!(
        wait_until(&mut running, &target, "SELECT count(*) > 0 FROM pgmove.ledger"),
        "{}",
        running.output()
    );
    assert!(is_fenced(&source));
    source.admin_psql(
        // With a key of its own: a sequence that moved would be found first, if it moved late enough.
        "SET default_transaction_read_only = off; INSERT INTO photo (id, name) OVERRIDING SYSTEM VALUE VALUES (1000000, 'overridden')",
    );
    running.wait().assert(8, &["the source was written since its snapshot: public.photo has changed"]);
}

#[test]
fn a_run_takes_up_the_directory_that_a_fence_has_made() {
    let (source, target) = (source(), Server::shared(18).database());
    source.psql(&format!("ALTER DATABASE {} SET default_transaction_read_only = off", source.name));
    let before = settings(&source);
    let mut run = Move::new(&source, &target);
    pgmove_on("fence", &source, &run).assert(0, &["refuses writes"]);
    // A run that is refused leaves the fence's record.
    target.psql("CREATE TABLE taken (id integer)");
    run.run(&[]).assert(3, &["target-not-empty"]);
    target.psql("DROP TABLE taken");
    // The same when it is refused after it has begun; the fence was there before it, and stays.
    source.admin_psql("SET default_transaction_read_only = off; CREATE FUNCTION watch() RETURNS integer LANGUAGE sql LEAKPROOF AS 'SELECT 1'");
    run.admin = None;
    run.run(&["--fence"]).assert(3, &["needs-superuser"]);
    assert!(is_fenced(&source));
    source.admin_psql("SET default_transaction_read_only = off; DROP FUNCTION watch()");
    run.run(&[]).assert(0, &["equal: "]);
    assert_eq!(leftovers(&target), "");
    assert!(is_fenced(&source));
    // What has a run in it is not taken for another.
    run.run(&[]).assert(2, &["already holds a run"]);
    pgmove_on("unfence", &source, &run).assert(0, &["accepts writes as before"]);
    assert_eq!(settings(&source), before);
}

#[test]
fn a_fence_is_not_lifted_under_a_run_nor_by_guess() {
    let (source, target) = (source(), Server::shared(18).database());
    source.psql(SLOW);
    let run = Move::new(&source, &target);
    let mut running = run.start(&["--fence"]);
    assert!(
        wait_until(&mut running, &target, "SELECT count(*) > 0 FROM pgmove.ledger"),
        "{}",
        running.output()
    );
    let id = run.journal()[0]["run"].as_str().expect("the run's id").to_owned();
    pgmove_on("unfence", &source, &run).assert(2, &["another pgmove works in", &id]);
    assert!(is_fenced(&source));
    running.wait().assert(0, &["equal: "]);

    let journal = run.run_dir().join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).expect("a journal");
    std::fs::write(&journal, format!("{}\n{text}", &text[..20])).expect("it can be damaged");
    let reset = format!("ALTER DATABASE \"{}\"", source.name);
    pgmove_on("unfence", &source, &run)
        .assert(2, &["journal.jsonl, line 1,", &reset, "RESET default_transaction_read_only"]);
    assert!(is_fenced(&source));
    std::fs::write(&journal, text).expect("it can be mended");
    pgmove_on("unfence", &source, &run).assert(0, &["accepts writes as before"]);
    assert_eq!(settings(&source), "");

    // Without a record there is nothing to put back: the setting is removed, and that is said.
    let elsewhere = Move::new(&source, &target);
    pgmove_on("unfence", &source, &elsewhere).assert(0, &["nothing was changed"]);
    source.psql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", source.name));
    pgmove_on("unfence", &source, &elsewhere).assert(0, &["no fence is recorded", "the setting was removed"]);
    assert_eq!(settings(&source), "");
}
