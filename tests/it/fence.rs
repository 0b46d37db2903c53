//! The fence of a source: whatever ends a run, it can be lifted, and the database's settings are those of before.

use crate::support::{Cut, Database, Fault, Move, Proxy, Server, leftovers, pgmove, psql, state, wait_until};

const SAMPLE: &str = "
CREATE TABLE photo (id integer PRIMARY KEY, name text);
INSERT INTO photo SELECT n, 'photo ' || n FROM generate_series(1, 1000) AS n;
";

/// What the database may have set before: nothing, or the fence's own setting among others.
const FORMER: [&str; 2] = [
    "",
    "ALTER DATABASE DB SET work_mem = '5MB'; ALTER DATABASE DB SET default_transaction_read_only = off;
     ALTER DATABASE DB SET statement_timeout = '1h'; ALTER ROLE DB IN DATABASE DB SET work_mem = '6MB';",
];

fn source(former: &str) -> Database {
    let source = Server::shared(16).database();
    source.psql(SAMPLE);
    source.admin_psql(&former.replace("DB", &source.name));
    source
}

fn settings(source: &Database) -> String {
    source.admin_psql(
        "SELECT setrole::regrole, setconfig FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase
         WHERE d.datname = current_database() ORDER BY setrole",
    )
}

fn fenced_move(source: &Database, target: &Database) -> Move {
    // The server is shared with other tests, which write.
    Move::new(source, target).with("--fence").with("--accept-writes")
}

/// Whether the owner's sessions may write.
fn is_fenced(source: &Database) -> bool {
    psql(&source.uri(), "INSERT INTO photo VALUES (0, '')")
        .is_err_and(|error| error.contains("read-only transaction"))
}

#[track_caller]
fn assert_unfences(run: &Move, source: &Database, former: &str) {
    assert!(is_fenced(source));
    let output = pgmove()
        .args(["unfence", "--source", &source.uri(), "--run-dir"])
        .arg(run.run_dir())
        .output()
        .expect("pgmove runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(settings(source), former);
    source.psql("BEGIN; DELETE FROM photo; ROLLBACK");
}

/// A run that is killed as soon as the statement is true in the database.
fn kill_at(run: &Move, database: &Database, statement: &str) {
    let mut running = run.start(&[]);
    assert!(wait_until(&mut running, database, statement), "{}", running.output());
    running.kill();
}

#[test]
fn a_fence_that_a_killed_run_left_is_lifted() {
    let is_set = "SELECT count(*) = 1 FROM pg_db_role_setting, unnest(setconfig) AS setting JOIN pg_database AS d ON true
                  WHERE d.datname = current_database() AND setdatabase = d.oid AND setting = 'default_transaction_read_only=on'";
    let has_begun = "SELECT count(*) > 0 FROM pgmove.ledger";
    for former in FORMER {
        let (source, target) = (source(former), Server::shared(18).database());
        let before = settings(&source);
        let run = fenced_move(&source, &target);
        kill_at(&run, &source, is_set);
        assert_unfences(&run, &source, &before);
        // Fenced again, and killed while it loads; the run's end leaves the fence, with what was before the first.
        let target = Server::shared(18).database();
        let run = fenced_move(&source, &target);
        kill_at(&run, &target, has_begun);
        run.run(&["--resume"]).assert(0, &[]);
        assert_eq!(leftovers(&target), "");
        state(&target).assert_equal(&state(&source));
        assert_unfences(&run, &source, &before);
    }
}

#[test]
fn a_run_that_was_unfenced_and_resumed_is_unfenced_again() {
    let (source, target) = (source(FORMER[1]), Server::shared(18).database());
    let before = settings(&source);
    let run = fenced_move(&source, &target);
    kill_at(&run, &target, "SELECT count(*) > 0 FROM pgmove.ledger");
    assert_unfences(&run, &source, &before);
    run.run(&["--resume"]).assert(0, &[]);
    assert_unfences(&run, &source, &before);
}

#[test]
fn a_fence_whose_answer_is_lost_is_lifted() {
    let source = source(FORMER[1]);
    let before = settings(&source);
    for cut in [Cut::Request, Cut::Answer(0)] {
        let target = Server::shared(18).database();
        let mut run = fenced_move(&source, &target);
        let proxy = Proxy::start(source.server.port);
        let direct = std::mem::take(&mut run.source);
        run.source = proxy.uri(&direct, source.server.port);
        proxy.set(Fault { words: "ALTER DATABASE", spared: 0, cut, times: 1 });
        run.run(&["--retries=0"]).assert(5, &["--resume"]);
        run.source = direct;
        run.run(&["--resume"]).assert(0, &[]);
        assert_unfences(&run, &source, &before);
    }
}

#[test]
fn a_run_that_is_refused_leaves_no_fence() {
    let (source, target) = (source(FORMER[1]), Server::shared(18).database());
    // Found when the plan is made, which is after the fence.
    source.admin_psql("CREATE FUNCTION watch() RETURNS integer LANGUAGE sql LEAKPROOF AS 'SELECT 1'");
    let before = settings(&source);
    let mut run = fenced_move(&source, &target);
    run.admin = None;
    run.run(&[]).assert(3, &["superuser"]);
    assert_eq!(settings(&source), before);
    assert_eq!(leftovers(&target), "");
    run.assert_left_only_a_report();
}

#[test]
fn a_run_that_comes_too_late_leaves_no_fence() {
    let (source, target) = (source(FORMER[1]), Server::shared(18).database());
    let before = settings(&source);
    let run = fenced_move(&source, &target);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let other = runtime.block_on(target.connect());
    let lock = include_str!("../../sql/session/lock.sql");
    runtime.block_on(other.batch_execute(lock)).expect("nobody holds it");
    run.run(&[]).assert(3, &["another pgmove works on database", "the fence was lifted again"]);
    assert_eq!(settings(&source), before);
    run.assert_left_only_a_report();
}

#[test]
fn a_run_that_stops_says_that_the_source_is_fenced() {
    let (source, target) = (source(FORMER[0]), Server::shared(18).database());
    let mut run = fenced_move(&source, &target);
    let proxy = Proxy::start(target.server.port);
    run.target = proxy.uri(&run.target, target.server.port);
    proxy.set(Fault { words: "UPDATE pgmove.run", spared: 0, cut: Cut::Request, times: 1 });
    run.run(&["--retries=0"]).assert(5, &["the source is fenced still", "pgmove unfence"]);
    assert!(is_fenced(&source));
}

/// Two directories, of which each has kept what it found.
#[test]
fn a_fence_over_another_one_does_not_say_that_it_opens_the_source() {
    let source = source("");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let told = |command: &str, run_dir: &str| {
        let output = pgmove()
            .current_dir(directory.path())
            .args([command, "--source", &source.uri(), "--run-dir", run_dir])
            .output()
            .expect("pgmove runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    assert_eq!(told("fence", "first").0, Some(0));
    assert_eq!(told("fence", "second").0, Some(0));
    let (code, said) = told("unfence", "second");
    assert!(code == Some(8) && said.contains("refuses writes still"), "{code:?} {said}");
    assert!(is_fenced(&source));
    let (code, said) = told("unfence", "first");
    assert!(code == Some(0) && said.contains("accepts writes as before"), "{code:?} {said}");
    assert!(!is_fenced(&source));
}
