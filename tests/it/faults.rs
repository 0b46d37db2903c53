//! Connections that are cut at the worst moments: the work is done again, the run goes on by itself, or it stops and is
//! resumed; the rows arrive once.

use std::sync::{Arc, LazyLock};

use crate::support::{
    Cut, Database, Fault, Move, Proxy, SMALL, Server, State, Variant, Vectors, leftovers, state, wait_until,
};

/// A source that nobody writes to, for all tests here; they only read it.
static SOURCE: LazyLock<(Database, State)> = LazyLock::new(|| {
    let server = quiet(16);
    let source = SMALL.fill(&server, Vectors::of(&server));
    let end = state(&source);
    (source, end)
});

fn quiet(major: u32) -> Arc<Server> {
    Server::start(major, &Variant { settings: "autovacuum = off".into(), ..Variant::default() })
}

/// Between pgmove and which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Source,
    Target,
}

/// Runs a move through the fault and resumes it if it stopped, which it does not do by itself. The exit code of the first
/// process.
#[track_caller]
fn move_through(at: At, fault: Fault) -> Option<i32> {
    let (source, end) = &*SOURCE;
    let target = Server::shared(18).database();
    let mut run = Move::new(source, &target);
    let proxy = between(at, source, &target, &mut run);
    proxy.set(fault);
    let first = run.run(&["--retries=0"]);
    assert!(proxy.fired() > 0, "{fault:?} did not happen:\n{}", first.output);
    let last = match first.code {
        Some(5) => run.run(&["--resume"]),
        Some(3) => {
            assert_eq!(leftovers(&target), "", "{fault:?}");
            run.assert_left_only_a_report();
            run.run(&[])
        }
        code => {
            assert_eq!(code, Some(0), "{fault:?}: {}", first.output);
            first.clone()
        }
    };
    assert_eq!(last.code, Some(0), "{fault:?}:\n{}\nthen:\n{}", first.output, last.output);
    assert_eq!(leftovers(&target), "", "{fault:?}");
    state(&target).assert_equal(end);
    first.code
}

fn between(at: At, source: &Database, target: &Database, run: &mut Move) -> Proxy {
    let port = match at {
        At::Source => source.server.port,
        At::Target => target.server.port,
    };
    let proxy = Proxy::start(port);
    match at {
        At::Source => run.source = proxy.uri(&run.source, port),
        At::Target => run.target = proxy.uri(&run.target, port),
    }
    proxy
}

fn once(words: &'static str, spared: usize, cut: Cut) -> Fault {
    Fault { words, spared, cut, times: 1 }
}

#[test]
fn rows_cut_on_their_way_are_sent_again() {
    for (at, fault) in [
        (At::Source, once("TO STDOUT", 10, Cut::Answer(3000))),
        (At::Source, Fault { words: "TO STDOUT", spared: 20, cut: Cut::Answer(40), times: 3 }),
        (At::Source, once("TO STDOUT", 15, Cut::Request)),
        (At::Target, once("FROM STDIN", 10, Cut::RequestAfter(2000))),
        (At::Target, Fault { words: "FROM STDIN", spared: 20, cut: Cut::RequestAfter(30), times: 3 }),
        (At::Target, once("FROM STDIN", 12, Cut::Answer(0))),
    ] {
        assert_eq!(move_through(at, fault), Some(0), "{fault:?}");
    }
}

#[test]
fn a_commit_whose_answer_is_lost_happens_once() {
    for fault in [
        once("'chunk:", 5, Cut::Request),
        once("'chunk:", 5, Cut::Answer(0)),
        Fault { words: "'chunk:", spared: 0, cut: Cut::Answer(0), times: 4 },
        once("'large-objects:", 0, Cut::Request),
        once("'large-objects:", 0, Cut::Answer(0)),
    ] {
        assert_eq!(move_through(At::Target, fault), Some(0), "{fault:?}");
    }
}

#[test]
fn a_server_that_does_not_notice_the_cut_is_not_waited_for() {
    for fault in [once("FROM STDIN", 10, Cut::Silent), once("'chunk:", 5, Cut::Silent)] {
        assert_eq!(move_through(At::Target, fault), Some(0), "{fault:?}");
    }
}

#[test]
fn an_index_whose_connection_is_cut_is_built_once() {
    for fault in [
        once("CREATE INDEX", 3, Cut::Request),
        once("CREATE INDEX", 3, Cut::Answer(0)),
        once("PRIMARY KEY", 30, Cut::Answer(0)),
        once("FOREIGN KEY", 30, Cut::Answer(0)),
    ] {
        assert_eq!(move_through(At::Target, fault), Some(0), "{fault:?}");
    }
}

/// A table in chunks with both kinds of unique constraint, a key that refers to each.
const KEYS: &str = "
CREATE TABLE photo (id integer PRIMARY KEY, name text NOT NULL, CONSTRAINT \"by; name\" UNIQUE (name, id));
INSERT INTO photo SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 4000) AS n;
CREATE TABLE tag (photo integer NOT NULL REFERENCES photo, name text, FOREIGN KEY (name, photo) REFERENCES photo (name, id));
INSERT INTO tag SELECT id, name FROM photo WHERE id % 10 = 0;
COMMENT ON CONSTRAINT photo_pkey ON photo IS 'one';
ALTER TABLE photo CLUSTER ON photo_pkey;
";

#[test]
fn a_large_tables_keys_are_made_upon_their_indexes() {
    let source = quiet(16).database();
    source.psql(KEYS);
    let expected = state(&source);
    for fault in [
        once("CREATE UNIQUE INDEX", 0, Cut::Answer(0)),
        once("CREATE UNIQUE INDEX", 1, Cut::Request),
        once("PRIMARY KEY USING INDEX", 0, Cut::Answer(0)),
        once("UNIQUE USING INDEX", 0, Cut::Request),
    ] {
        let target = Server::shared(18).database();
        let mut run = Move::new(&source, &target).with("--chunk-size=1");
        run.run(&["--dry-run"]).assert(
            0,
            &["unique index: 2", "ADD CONSTRAINT \"photo_pkey\" PRIMARY KEY USING INDEX \"photo_pkey\""],
        );
        let proxy = between(At::Target, &source, &target, &mut run);
        proxy.set(fault);
        let ended = run.run(&[]);
        assert!(proxy.fired() > 0, "{fault:?} did not happen:\n{}", ended.output);
        ended.assert(0, &[]);
        assert_eq!(leftovers(&target), "", "{fault:?}");
        state(&target).assert_equal(&expected);
    }
}

#[test]
fn outside_of_the_lanes_a_cut_connection_stops_a_run_that_can_be_resumed() {
    for (at, fault) in [
        (At::Target, once("CREATE SCHEMA IF NOT EXISTS pgmove", 0, Cut::Answer(0))),
        (At::Target, once("CREATE TYPE", 0, Cut::Answer(0))),
        (At::Target, once("'ddl:", 0, Cut::Answer(0))),
        (At::Target, once("pg_catalog.setval", 0, Cut::Answer(0))),
        (At::Target, once("REFRESH MATERIALIZED VIEW", 0, Cut::Answer(0))),
        (At::Target, once("CREATE TRIGGER", 0, Cut::Answer(0))),
        (At::Target, once("DROP SCHEMA IF EXISTS pgmove", 0, Cut::Answer(0))),
    ] {
        let code = move_through(at, fault);
        assert!(matches!(code, Some(0 | 5)), "{fault:?}: {code:?}");
    }
}

#[test]
fn outside_of_the_lanes_a_cut_connection_is_gone_on_from() {
    let (source, end) = &*SOURCE;
    for (at, fault) in [
        // Before the first write.
        (At::Source, once("pg_export_snapshot", 0, Cut::Answer(0))),
        (At::Target, once("pg_try_advisory_lock", 0, Cut::Answer(0))),
        (At::Target, once("CREATE SCHEMA IF NOT EXISTS pgmove", 0, Cut::Answer(0))),
        (At::Target, once("'ddl:", 0, Cut::Answer(0))),
        (At::Source, once("\u{b}SELECT\0", 0, Cut::Request)),
        (At::Target, once("pg_catalog.setval", 0, Cut::Request)),
        (At::Target, once("CREATE TRIGGER", 0, Cut::Answer(0))),
        (At::Target, once("pg_init_privs", 0, Cut::Request)),
        (At::Target, once("UPDATE pgmove.run", 0, Cut::Answer(0))),
        // After the verdict.
        (At::Target, once("DROP SCHEMA IF EXISTS pgmove", 0, Cut::Request)),
    ] {
        let target = Server::shared(18).database();
        let mut run = Move::new(source, &target);
        let proxy = between(at, source, &target, &mut run);
        proxy.set(fault);
        let ended = run.run(&[]);
        assert_eq!(proxy.fired(), 1, "{fault:?} did not happen:\n{}", ended.output);
        ended.assert(0, &["equal: ", "going on from the journal in 2 s"]);
        assert_eq!(leftovers(&target), "", "{fault:?}");
        state(&target).assert_equal(end);
    }
}

#[test]
fn a_cut_while_the_schemas_are_compared_is_no_verdict() {
    // pg_dump reads this catalog, and nothing of pgmove's own does.
    for cut in [Cut::Request, Cut::Answer(0)] {
        assert_eq!(move_through(At::Target, once("pg_init_privs", 0, cut)), Some(5), "{cut:?}");
    }
}

#[test]
fn before_the_first_write_a_cut_connection_leaves_nothing() {
    for (at, fault) in [
        (At::Source, once("pg_export_snapshot", 0, Cut::Answer(0))),
        (At::Source, once("LOCK TABLE", 0, Cut::Request)),
        (At::Target, once("pg_try_advisory_lock", 0, Cut::Answer(0))),
    ] {
        assert_eq!(move_through(at, fault), Some(3), "{fault:?}");
    }
}

#[test]
fn a_server_that_cannot_be_reached_any_more_stops_the_run() {
    let (source, end) = &*SOURCE;
    for at in [At::Source, At::Target] {
        let target = Server::shared(18).database();
        let mut run = Move::new(source, &target);
        let proxy = between(at, source, &target, &mut run);
        let mut running = run.start(&["--retries=1"]);
        assert!(wait_until(
            &mut running,
            &target,
            "SELECT count(*) > 10 FROM pgmove.ledger WHERE item ~ 'chunk'"
        ));
        proxy.sever();
        let ended = running.wait();
        ended.assert(5, &["going on from the journal in 2 s", "could not connect to the", "--resume"]);
        proxy.heal();
        run.run(&["--resume"]).assert(0, &[]);
        assert_eq!(leftovers(&target), "");
        state(&target).assert_equal(end);
    }
}
