//! Rehearsals: the whole move, beside the target's own database, of which nothing stays but a report.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Database, Ended, Move, Running, SMALL, Server, Variant, Vectors, leftovers, pgmove, pgmove_process, psql,
    state,
};

const SAMPLE: &str = "
CREATE TABLE photo (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
INSERT INTO photo (name) SELECT repeat('photo ', 40) || n FROM generate_series(1, 12000) AS n;
CREATE INDEX photo_name ON photo (name);
";

/// Long enough for a test to do something before the rehearsal ends: it is filled again on the target.
const SLOW: &str = "CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one FROM pg_sleep(2);";

/// A source, a target on a server of its own, and a directory to work in.
struct Ground {
    source: Database,
    target: Database,
    directory: tempfile::TempDir,
}

impl Ground {
    fn new(more: &str) -> Self {
        let source = Server::shared(16).database();
        source.psql(&format!("{SAMPLE}{more}"));
        Self::of(source, 18)
    }

    fn of(source: Database, major: u32) -> Self {
        let server: Arc<Server> = Server::start(major, &Variant::default());
        let target = server.database();
        target.psql("CREATE TABLE kept (id integer); INSERT INTO kept VALUES (7)");
        Self { source, target, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn command(&self, command: &str, options: &[&str]) -> Command {
        let mut process = pgmove_process();
        process.current_dir(self.directory.path());
        process.args([command, "--source", &self.source.uri(), "--target", &self.target.uri(), "--jobs=2"]);
        process.args(["--target-admin", &self.target.admin_uri()]).args(options);
        process
    }

    fn start(&self, options: &[&str]) -> Running {
        Running::start(&mut self.command("rehearse", options))
    }

    fn rehearse(&self, options: &[&str]) -> Ended {
        self.start(options).wait()
    }

    /// Where a rehearsal is kept by default.
    fn run_dir(&self) -> PathBuf {
        self.directory.path().join(format!("pgmove-runs/{}-rehearsal", self.source.name))
    }

    fn status(&self) -> String {
        let output = pgmove().current_dir(self.directory.path()).arg("status").output().expect("pgmove runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn report(&self) -> Value {
        let text = std::fs::read(self.run_dir().join("report.json")).expect("a rehearsal has a report");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    fn scratch_databases(&self) -> String {
        let statement =
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'pgmove%'";
        psql(&self.target.server.uri("postgres"), statement).expect("a running server")
    }

    /// Nothing but a report is left, and the target is as it was.
    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_eq!(self.scratch_databases(), "");
        assert_eq!(names(&self.run_dir()), ["report.html", "report.json"]);
        assert_eq!(leftovers(&self.target), "");
        assert_eq!(self.target.psql("SELECT id FROM kept"), "7");
        assert_eq!(self.target.psql("SELECT count(*) FROM pg_class WHERE relname = 'photo'"), "0");
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_rehearsal_proves_and_measures_the_move_and_leaves_nothing_but_its_report() {
    let ground = Ground::new("");
    let before = state(&ground.source);
    let ended = ground.rehearse(&[]);
    let said = [
        "equal: 1 table with 12,000 rows",
        "this was a rehearsal",
        "rows, and what is built beside them",
        "of data and indexes",
        "the window will take about 1 minute: ",
    ];
    ended.assert(0, &said);
    ground.assert_nothing_left();
    state(&ground.source).assert_equal(&before);
    let report = ground.report();
    let rehearsal = &report["rehearsal"];
    let parts = rehearsal["window"]["parts"].as_array().expect("parts");
    let sum: f64 = parts.iter().filter_map(|part| part["seconds"].as_f64()).sum();
    let seconds = rehearsal["window"]["seconds"].as_f64().expect("it was measured");
    assert!((seconds - sum).abs() < 0.1, "{rehearsal}");
    let space = |key: &str| rehearsal["space"][key].as_u64().expect("it was measured");
    assert!(
        space("database_bytes") > 10 << 20,
        "the rows, the indexes and a database's own catalogs: {rehearsal}"
    );
    assert!(space("wal_bytes") > 1 << 20, "{rehearsal}");
    let peak = rehearsal["space"]["peak"]["database_bytes"].as_u64().expect("a superuser may look");
    assert!(peak > 5 << 20 && peak <= space("database_bytes"), "{rehearsal}");
    assert_eq!(report["conclusion"]["state"], "equal");
    // Later, from the directory alone.
    let told = pgmove().current_dir(ground.directory.path()).arg("report").output().expect("pgmove runs");
    let told = String::from_utf8(told.stdout).expect("UTF-8");
    for phrase in &said[1..] {
        assert!(told.contains(phrase), "no {phrase:?} in {told}");
    }
    let page = std::fs::read_to_string(ground.run_dir().join("report.html")).expect("a page");
    assert!(page.contains("the window will take about 1 minute"), "{page}");
    // Beside a run, it is the run that is meant.
    let beside = ground.directory.path().join("pgmove-runs/another");
    std::fs::create_dir(&beside).expect("a directory");
    let told =
        pgmove().current_dir(ground.directory.path()).arg("report").assert().code(2).get_output().clone();
    let told = String::from_utf8(told.stderr).expect("UTF-8");
    assert!(told.contains("pgmove-runs/another holds no run"), "{told}");
    std::fs::remove_dir(&beside).expect("it is empty");
    // A plan says how long the window takes, since that was measured; of another target nothing was.
    ground.target.psql("DROP TABLE kept");
    let plan = Running::start(&mut ground.command("plan", &[])).wait();
    plan.assert(0, &["the window will take about", "as long as the rehearsal of"]);
    // And again, into the same directory.
    ground.target.psql("CREATE TABLE kept (id integer); INSERT INTO kept VALUES (7)");
    ground.rehearse(&[]).assert(0, &["the window will take"]);
    ground.assert_nothing_left();
}

#[test]
fn a_source_that_is_written_meanwhile_is_no_failure_of_a_rehearsal() {
    let ground = Ground::new(SLOW);
    let mut running = ground.start(&[]);
    assert!(running.reaches("finish"), "{}", running.output());
    ground.source.psql("INSERT INTO photo (name) VALUES ('late'); CREATE TABLE later (id integer)");
    running.wait().assert(0, &["equal: ", "this was a rehearsal", "the window will take"]);
    ground.assert_nothing_left();
    ground.source.psql("INSERT INTO photo (name) VALUES ('it was not fenced')");
}

#[test]
fn without_an_administrator_there_is_no_rehearsal() {
    let ground = Ground::new("");
    let mut command = pgmove_process();
    command.current_dir(ground.directory.path());
    command.args(["rehearse", "--source", &ground.source.uri(), "--target", &ground.target.uri()]);
    let ended = Running::start(&mut command).wait();
    ended.assert(3, &["a scratch database needs the administrator's connection", "--target-admin"]);
    assert_eq!(names(ground.directory.path()), Vec::<String>::new());
}

#[test]
fn temporary_files_count_wherever_a_server_has_them() {
    let ground = Ground::new("");
    let seen = || {
        let found = ground.target.admin_psql(include_str!("../../sql/scratch/disk.sql"));
        let (wal, temporary) = found.split_once('|').expect("two columns");
        (wal.parse::<u64>().expect("bytes"), temporary.parse::<u64>().expect("bytes"))
    };
    let (wal, before) = seen();
    assert!(wal >= 16 << 20, "there is at least one segment: {wal}");
    // One of a parallel worker, and one of its session alone.
    let (shared, own) = ("base/pgsql_tmp/pgsql_tmp1.0.fileset", "base/pgsql_tmp/pgsql_tmp1.1");
    let make = format!("mkdir -p {shared} && cat >{own} && cp {own} {shared}/0.0");
    ground.target.admin_psql(&format!("COPY (SELECT repeat('x', 99999)) TO PROGRAM '{make}'"));
    assert_eq!(seen().1, before + 200_000);
}

#[test]
fn a_rehearsal_that_is_interrupted_or_refused_leaves_no_database() {
    let ground = Ground::new(SLOW);
    for stage in ["check", "schema", "copy", "finish"] {
        let mut running = ground.start(&[]);
        assert!(running.reaches(stage), "{stage}: {}", running.output());
        running.interrupt();
        let ended = running.wait();
        ended.assert(130, &["interrupted", "rehearse again"]);
        assert!(!ended.output.contains("--resume"), "{}", ended.output);
        assert_eq!(ground.scratch_databases(), "", "{stage}");
        assert_eq!(leftovers(&ground.target), "");
    }
    ground.assert_nothing_left();
    assert_eq!(ground.report()["conclusion"]["state"], "interrupted");
    assert!(ground.report()["conclusion"]["sentence"].as_str().expect("words").contains("rehearse again"));
    ground.rehearse(&["--owner=nobody_at_all"]).assert(3, &["nobody_at_all"]);
    ground.assert_nothing_left();
}

#[test]
fn what_a_killed_rehearsal_has_left_is_dropped_by_the_next_and_what_another_works_in_is_not() {
    let ground = Ground::new(SLOW);
    let comment = format!("COMMENT ON DATABASE {} IS 'everybody''s photos'", ground.source.name);
    ground.source.psql(&comment);
    let mut running = ground.start(&[]);
    assert!(running.reaches("finish"), "{}", running.output());
    // The scratch database gets the source's comment.
    let described = "SELECT count(*) > 0 FROM pg_database WHERE shobj_description(oid, 'pg_database') = 'everybody''s photos'";
    while running.is_running() && ground.target.admin_psql(described) != "t" {}
    running.kill();
    let status = ground.status();
    assert!(status.contains("rehearse again") && status.contains("a rehearsal: "), "{status}");
    let left = ground.scratch_databases();
    assert!(left.starts_with("pgmove_") && !left.contains(' '), "{left}");
    // Its sessions end when they notice.
    let working = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgmove %'";
    while ground.target.admin_psql(working) != "0" {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut second = ground.start(&[]);
    assert!(second.reaches("finish"), "{}", second.output());
    let in_use = ground.scratch_databases();
    assert!(!in_use.contains(&left) && !in_use.contains(' '), "{left}: {in_use}");
    // Beside it, in another directory.
    let third = ground.rehearse(&["--run-dir=other"]);
    third.assert(0, &["the window will take"]);
    second.wait().assert(0, &[&format!("scratch database {left} was left"), "the window will take"]);
    ground.assert_nothing_left();
}

/// Before it has written a word into its directory, or just after.
#[test]
fn a_rehearsal_that_is_killed_at_once_is_in_nobodys_way() {
    let ground = Ground::new("");
    let mut running = ground.start(&[]);
    assert!(running.reaches("check"), "{}", running.output());
    running.kill();
    let status = ground.status();
    assert!(status.contains("rehearse again") && !status.contains("--resume"), "{status}");
    ground.rehearse(&[]).assert(0, &["the window will take"]);
    ground.assert_nothing_left();
}

/// Rows that a unique key hides come to light when the target builds its index, long after the first write.
#[test]
fn a_rehearsal_that_fails_after_it_has_written_leaves_no_database() {
    let ground = Ground::new(
        "CREATE TABLE tag (id integer); CREATE UNIQUE INDEX tag_id ON tag (id); INSERT INTO tag VALUES (1);",
    );
    let ready = |is_ready| {
        ground.source.admin_psql(&format!(
            "UPDATE pg_index SET indisready = {is_ready} WHERE indexrelid = 'tag_id'::regclass"
        ));
    };
    ready(false);
    ground.source.psql("INSERT INTO tag VALUES (1)");
    ready(true);
    let ended = ground.rehearse(&[]);
    ended.assert(5, &["the rehearsal was broken off", "tag_id", "23505", "rehearse again"]);
    assert!(!ended.output.contains("--resume"), "{}", ended.output);
    ground.assert_nothing_left();
    let report = ground.report();
    assert_eq!(report["conclusion"]["state"], "stopped", "{report}");
    assert!(report["rehearsal"]["window"].is_null(), "{report}");
}

#[test]
fn the_directory_of_a_run_is_not_taken_for_one_of_a_rehearsal() {
    let ground = Ground::new("");
    let target = ground.target.server.database();
    let run = Move::new(&ground.source, &target);
    run.run(&[]).assert(0, &["equal: "]);
    let directory = run.run_dir();
    let ended = ground.rehearse(&["--run-dir", directory.to_str().expect("UTF-8")]);
    ended.assert(2, &["already holds a run"]);
    assert!(directory.join("journal.jsonl").exists());
    assert_eq!(ground.scratch_databases(), "");
}

#[test]
fn the_extensions_of_the_target_are_those_of_the_rehearsal() {
    let ground = Ground::new("CREATE EXTENSION hstore; CREATE TABLE tagged (tags hstore);");
    ground.target.admin_psql(&format!(
        "CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO {}; CREATE EXTENSION hstore SCHEMA extensions",
        ground.target.name
    ));
    // As the run itself does, it compares the schema in which the extension is.
    let run = Move::new(&ground.source, &ground.target);
    let real = run.run(&["--replace", &ground.target.name]);
    ground.target.psql("CREATE TABLE IF NOT EXISTS kept (id integer); INSERT INTO kept VALUES (7)");
    let rehearsed = ground.rehearse(&[]);
    assert_eq!(rehearsed.code, real.code, "{}\n{}", rehearsed.output, real.output);
    assert_eq!(ground.scratch_databases(), "");
}

#[test]
fn the_source_is_read_no_faster_than_it_may_be() {
    let ground = Ground::new("");
    let limited = ground.rehearse(&["--max-rate=1"]);
    limited.assert(0, &["no more than 1.00 MiB/s (--max-rate)"]);
    let report = ground.report();
    let copy = report["stages"].as_array().expect("stages").iter().find(|stage| stage["stage"] == "copy");
    let copy = copy.expect("it has copied");
    let (bytes, seconds) =
        (copy["bytes"].as_f64().expect("bytes"), copy["seconds"].as_f64().expect("seconds"));
    assert!(bytes > 2.5 * 1024.0 * 1024.0, "{copy}");
    assert!(bytes / seconds <= 1024.0 * 1024.0, "{copy}");
    // What the server reads by itself to count the rows is paid for, too.
    assert!(bytes / seconds <= 0.6 * 1024.0 * 1024.0, "{copy}");
}

#[test]
fn the_library_is_rehearsed_with_its_embeddings() {
    let from = Server::shared(15);
    let ground = Ground::of(SMALL.fill(&from, Vectors::of(&from)), 18);
    ground.rehearse(&[]).assert(0, &["equal: ", "vector searches", "the window will take about"]);
    ground.assert_nothing_left();
    let versions = &ground.report()["processes"][0]["checked"]["versions"]["extensions"];
    let is_made =
        |found: &Value| found["name"] == "vchord" && found["source"] == "none" && found["target"].is_string();
    assert!(versions.as_array().expect("a list").iter().any(is_made), "{versions}");
}
