//! Unlogged tables, which a crash of the target's server empties: they are loaded again, or the run says that it must
//! start over.

use std::sync::Arc;

use crate::support::{Cut, Database, Ended, Fault, Move, Proxy, Server, Variant, leftovers, state};

/// Unlogged tables with a key only, in chunks, that refer to each other, to themselves, and one with a trigger.
const SAMPLE: &str = "
CREATE TABLE album (id integer PRIMARY KEY, name text);
INSERT INTO album SELECT n, 'album ' || n FROM generate_series(1, 100) AS n;
CREATE UNLOGGED TABLE free (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text);
INSERT INTO free (body) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 4000) AS n;
CREATE INDEX ON free (body);
CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM album;
";

const REFERRING: &str = "
CREATE UNLOGGED TABLE job (id integer PRIMARY KEY, parent integer REFERENCES job, album integer REFERENCES album);
INSERT INTO job SELECT n, NULLIF(n / 2, 0), n FROM generate_series(1, 50) AS n;
CREATE UNLOGGED TABLE step (job integer NOT NULL REFERENCES job, number integer);
INSERT INTO step SELECT n % 50 + 1, n FROM generate_series(1, 500) AS n;
";

const WATCHED: &str = "
CREATE UNLOGGED TABLE watched (id integer);
INSERT INTO watched SELECT generate_series(1, 10);
CREATE TABLE seen (id integer);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NEW; END';
CREATE TRIGGER watch AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION watch();
";

/// A server that writes nothing by itself.
fn quiet(major: u32) -> Arc<Server> {
    Server::start(major, &Variant { settings: "autovacuum = off".into(), ..Variant::default() })
}

struct Scene {
    source: Database,
    target: Database,
    run: Move,
}

impl Scene {
    fn new([source, target]: &[Arc<Server>; 2], sql: &str) -> Self {
        let (source, target) = (source.database(), target.database());
        source.psql(SAMPLE);
        source.psql(sql);
        let mut run = Move::new(&source, &target).with("--chunk-size=1").with("--accept-writes");
        run.admin = None;
        Self { source, target, run }
    }

    /// A run that breaks off where it sends these words to the target.
    fn break_off_at(&mut self, words: &'static str) {
        let port = self.target.server.port;
        let proxy = Proxy::start(port);
        proxy.set(Fault { words, spared: 0, cut: Cut::Request, times: 1 });
        let direct = std::mem::take(&mut self.run.target);
        self.run.target = proxy.uri(&direct, port);
        self.run.run(&["--retries=0"]).assert(5, &["--resume"]);
        self.run.target = direct;
    }

    /// The same, and then a crash of the target's server. What the resumed run says.
    fn crash_at(&mut self, words: &'static str) -> Ended {
        self.break_off_at(words);
        crash(&self.target);
        self.run.run(&["--resume"])
    }

    #[track_caller]
    fn assert_moved(&self, ended: &Ended) {
        ended.assert(0, &[]);
        assert_eq!(leftovers(&self.target), "");
        state(&self.target).assert_equal(&state(&self.source));
    }

    /// The resumed run refuses to go on, as often as it is asked, and the way that it names leads to the end.
    #[track_caller]
    fn assert_starts_over(&self, ended: &Ended, reason: &str) {
        for ended in [ended, &self.run.run(&["--resume"])] {
            ended.assert(7, &[reason, "start over with another --run-dir"]);
        }
        let mut again = Move::new(&self.source, &self.target).with("--accept-writes");
        again.admin = None;
        let ended = again.run(&["--replace", &self.target.name]);
        self.assert_moved(&ended);
    }
}

/// A crash that loses nothing but what is unlogged: what was committed is on the disk.
fn crash(database: &Database) {
    database.admin_psql("CHECKPOINT");
    database.server.crash();
    database.server.restart();
    assert_eq!(database.psql("SELECT count(*) FROM free"), "0", "a crash empties unlogged tables");
}

#[test]
fn unlogged_tables_that_a_crash_emptied_are_loaded_again() {
    let servers = [16, 18].map(quiet);
    // With and without a trigger that is not made yet.
    for (sql, words) in [("", "REFRESH MATERIALIZED VIEW"), (WATCHED, "CREATE TRIGGER")] {
        let mut scene = Scene::new(&servers, sql);
        let ended = scene.crash_at(words);
        scene.assert_moved(&ended);
    }
}

#[test]
fn emptied_tables_that_cannot_be_loaded_again_make_the_run_start_over() {
    let servers = [16, 18].map(quiet);
    let mut scene = Scene::new(&servers, REFERRING);
    // All foreign keys are made.
    let ended = scene.crash_at("REFRESH MATERIALIZED VIEW");
    scene.assert_starts_over(&ended, "public.job is unlogged");
    let mut scene = Scene::new(&servers, WATCHED);
    // The trigger is made, and would write into the other table.
    let ended = scene.crash_at("ANALYZE \"public\".\"summary\"");
    scene.assert_starts_over(&ended, "public.watched is unlogged");
}

#[test]
fn unlogged_tables_that_a_crash_of_the_source_emptied_are_empty_on_the_target() {
    let servers = [15, 17].map(quiet);
    let mut scene = Scene::new(&servers, WATCHED);
    scene.break_off_at("CREATE TRIGGER");
    let state = scene.source.psql("SELECT pg_current_snapshot()");
    crash(&scene.source);
    assert_eq!(
        scene.source.psql("SELECT pg_current_snapshot()"),
        state,
        "no transaction id tells of the crash"
    );
    let ended = scene.run.run(&["--resume"]);
    scene.assert_moved(&ended);
    // Where foreign keys stand between: not as far.
    let mut scene = Scene::new(&servers, REFERRING);
    scene.break_off_at("REFRESH MATERIALIZED VIEW");
    crash(&scene.source);
    let ended = scene.run.run(&["--resume"]);
    scene.assert_starts_over(&ended, "public.job has changed on the source");
}
