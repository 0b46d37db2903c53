//! The report of a run and what can be told of it from outside: while it works, after it was killed, and at its end.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path, thread};

use serde_json::Value;

use crate::support::{
    Database, Move, PASSWORD, Running, SMALL, Server, Vectors, hold, leftovers, pgmove, state, wait_until,
};

/// An index that cannot be built while somebody holds the lock; nobody does on the source.
const SAMPLE: &str = "
CREATE FUNCTION gate(value integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); RETURN value; END';
CREATE TABLE photo (id integer PRIMARY KEY, name text);
INSERT INTO photo SELECT n, 'photo ' || n FROM generate_series(1, 1000) AS n;
CREATE INDEX slow ON photo (gate(id));
";

const LOCK: &str = "SELECT pg_advisory_xact_lock(1)";

fn sample() -> (Database, Database) {
    let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
    source.psql(SAMPLE);
    (source, target)
}

/// Others write to the shared source.
fn lenient(source: &Database, target: &Database) -> Move {
    Move::new(source, target).with("--accept-writes")
}

/// A command that only reads a run directory: exit code and stdout.
fn ask(command: &str, directory: &Path, options: &[&str]) -> (i32, String) {
    let output =
        pgmove().arg(command).arg("--run-dir").arg(directory).args(options).output().expect("pgmove runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code().expect("no signal"), text + &String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn answer(command: &str, directory: &Path, options: &[&str]) -> String {
    let (code, text) = ask(command, directory, options);
    assert_eq!(code, 0, "{text}");
    text
}

/// The state that `pgmove status` tells a script.
fn status(directory: &Path) -> Value {
    let text = answer("status", directory, &["--output", "json"]);
    let result: Value = serde_json::from_str(&text).expect("it is JSON");
    result["result"]["status"].clone()
}

fn read(run: &Move, name: &str) -> String {
    fs::read_to_string(run.run_dir().join(name)).expect("the run has written it")
}

/// A run that stands still before its index.
fn held(run: &Move, target: &Database) -> Running {
    let mut running = run.start(&[]);
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event = 'advisory' AND application_name LIKE 'pgmove %' AND query LIKE 'CREATE INDEX slow%'";
    assert!(wait_until(&mut running, target, waits), "{}", running.output());
    running
}

#[test]
fn a_report_agrees_with_the_databases_and_can_be_made_again() {
    let (server, target) = (Server::shared(15), Server::shared(17).database());
    let source = SMALL.fill(&server, Vectors::of(&server));
    let run = lenient(&source, &target);
    let ended = run.run(&[]);
    ended.assert(0, &["equal: "]);
    let report = run.report();
    assert_eq!((&report["version"], &report["conclusion"]["state"]), (&1.into(), &"equal".into()));
    assert!(ended.output.contains(report["conclusion"]["sentence"].as_str().expect("a sentence")));

    let tables = report["tables"].as_array().expect("tables");
    let loaded = tables.iter().filter(|table| table["format"] != "refreshed").collect::<Vec<_>>();
    let there = "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace WHERE relkind = 'r'
                 AND nspname !~ '^pg_' AND nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend
                 WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')";
    assert_eq!(loaded.len().to_string(), source.admin_psql(there), "{loaded:?}");
    for table in &loaded {
        let name = table["table"].as_str().expect("a name");
        let count = format!("SELECT count(*) FROM ONLY {name}");
        for (side, database) in [&source, &target].into_iter().enumerate() {
            assert_eq!(table["rows"][side].to_string(), database.admin_psql(&count), "{name}");
        }
        assert_eq!(table["outcome"], "equal", "{name}");
        assert_eq!(table["checksums"][0], table["checksums"][1], "{name}");
    }
    let listed = loaded.iter().filter(|table| {
        let digits = table["checksums"][0].as_str().expect("a checksum").get(..8).expect("digits");
        let name = table["table"].as_str().expect("a name");
        ended.output.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains(digits))
    });
    assert!(listed.count() >= 15, "the closing page lists the largest tables");
    let indexes = report["indexes"].as_array().expect("indexes");
    let recall = |index: &Value| index["search"]["recall_at_10"].as_f64();
    assert!(indexes.iter().filter_map(recall).filter(|recall| *recall > 0.9).count() >= 2, "{indexes:?}");
    assert!(indexes.iter().all(|index| index["seconds"].is_f64()), "{indexes:?}");
    assert_eq!(report["processes"][0]["end"]["exit"], 0);
    assert!(
        report["processes"][0]["checked"]["versions"]["source"]
            .as_str()
            .is_some_and(|it| it.starts_with("15."))
    );

    for name in ["report.json", "report.html"] {
        let mode = fs::metadata(run.run_dir().join(name)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        assert!(!read(&run, name).contains(PASSWORD), "{name} tells a password");
    }
    assert!(!run.run_dir().join("progress.json").exists());
    assert_eq!(answer("report", &run.run_dir(), &["--output", "json"]), read(&run, "report.json"));
    assert_eq!(answer("report", &run.run_dir(), &["--html"]), read(&run, "report.html"));
    let text = answer("report", &run.run_dir(), &[]);
    let table =
        ended.output.lines().find(|line| line.starts_with("public.smart_search")).expect("it is listed");
    assert!(text.contains(table), "no {table} in {text}");
    assert!(text.trim_end().ends_with(report["conclusion"]["sentence"].as_str().expect("a sentence")));
    assert!(answer("status", &run.run_dir(), &[]).starts_with("equal: "));

    // A process that finds the run at its end takes nothing away.
    run.run(&["--resume"]).assert(0, &["had ended before"]);
    let again = run.report();
    for part in ["conclusion", "tables", "checks", "scope"] {
        assert!(again[part] == report[part], "another process has changed its {part}");
    }
    assert_eq!(again["processes"].as_array().map(Vec::len), Some(2));
    run.run(&["--resume", "--owner=nobody"]).assert(2, &["--owner nobody"]);
    assert_eq!(run.report(), again);
}

#[test]
fn a_run_is_told_of_while_it_works_after_it_was_killed_and_at_its_end() {
    let (source, target) = sample();
    let run = lenient(&source, &target);
    let directory = run.run_dir();
    let gate = hold(&target.uri(), LOCK);
    let mut running = held(&run, &target);
    let text = loop {
        assert!(running.is_running(), "{}", running.output());
        let text = answer("status", &directory, &[]);
        if text.contains("INDEX public.slow") {
            break text;
        }
    };
    for words in ["running: ", "indexes", "lane", "is read-only by default", &target.name] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    let told = status(&directory);
    assert_eq!(told["conclusion"]["state"], "running");
    assert_eq!(told["finished"][0]["stage"], "check", "{told}");
    assert!(answer("report", &directory, &[]).contains("running: "));
    // Asking leaves nothing: the run itself stands still.
    let contents = || {
        let entries =
            fs::read_dir(&directory).expect("readable").map(|entry| entry.expect("readable").path());
        let kept = entries.filter(|path| !path.to_string_lossy().contains("progress.json"));
        kept.map(|path| (fs::read(&path).expect("readable"), path)).collect::<BTreeSet<_>>()
    };
    let before = contents();
    assert_eq!(status(&directory)["conclusion"]["state"], "running");
    answer("report", &directory, &["--html"]);
    assert!(contents() == before, "asking has changed the run directory");

    running.kill();
    let told = status(&directory);
    assert_eq!(told["conclusion"]["state"], "killed");
    assert!(told["lanes"].as_array().is_some_and(|lanes| !lanes.is_empty()), "{told}");
    let page = answer("report", &directory, &["--html"]);
    assert!(page.contains("<strong>killed</strong>") && page.contains("INDEX public.slow"), "{page}");
    assert!(!directory.join("report.json").exists());

    drop(gate);
    // Somebody asks all the time.
    let asking = thread::spawn({
        let directory = directory.clone();
        move || {
            let mut states = Vec::new();
            while states.last() != Some(&"equal".to_owned()) {
                let told = status(&directory);
                states.push(told["conclusion"]["state"].as_str().expect("a word").to_owned());
            }
            states
        }
    });
    let ended = run.run(&["--resume"]);
    ended.assert(0, &["equal: "]);
    let states = asking.join().expect("each answer is one");
    let order = ["killed", "running", "equal"].map(|word| states.iter().rposition(|state| state == word));
    assert!(order.is_sorted() && states.iter().all(|state| state != "failed"), "{states:?}");
    let report = run.report();
    let processes = report["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), 2);
    assert_eq!((&processes[0]["end"], &processes[1]["end"]["exit"]), (&Value::Null, &0.into()));
    assert_eq!(report["tables"][0]["timing"]["rows"], 1000, "the first process copied it");
    assert_eq!(leftovers(&target), "");
    state(&target).assert_equal(&state(&source));
}

#[test]
fn a_run_that_stopped_has_a_report_that_says_so() {
    let (source, target) = sample();
    let run = lenient(&source, &target);
    target.psql("CREATE TABLE album (id integer)");
    run.run(&[]).assert(3, &["target-not-empty"]);
    let report = run.report();
    assert_eq!(
        (&report["conclusion"]["state"], &report["conclusion"]["exit"]),
        (&"refused".into(), &3.into())
    );
    let findings = report["findings"].as_array().expect("findings");
    assert!(findings.iter().any(|finding| finding["id"] == "target-not-empty"), "{findings:?}");
    assert!(answer("status", &run.run_dir(), &[]).starts_with("refused by the check; nothing was written"));
    assert!(read(&run, "report.html").contains("the target"));

    target.psql("DROP TABLE album");
    let gate = hold(&target.uri(), LOCK);
    let running = held(&run, &target);
    running.interrupt();
    running.wait().assert(130, &[]);
    let report = run.report();
    assert_eq!(report["conclusion"]["state"], "interrupted");
    assert_eq!(report["conclusion"]["error"]["messages"][0], "interrupted");
    assert!(report["tables"][0]["rows"].is_null(), "nothing was compared");
    assert!(answer("report", &run.run_dir(), &[]).contains("interrupted at a safe point"));
    assert_eq!(status(&run.run_dir())["marked"], target.name.as_str());
    drop(gate);
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(run.report()["conclusion"]["state"], "equal");
    assert!(status(&run.run_dir())["marked"].is_null());
}

#[test]
fn a_report_that_cannot_be_written_fails_no_run() {
    let (source, target) = sample();
    let run = lenient(&source, &target);
    let gate = hold(&target.uri(), LOCK);
    let running = held(&run, &target);
    fs::create_dir_all(run.run_dir().join("report.json/in the way")).expect("ours");
    drop(gate);
    running.wait().assert(0, &["equal: ", "the report could not be written"]);
    assert_eq!(leftovers(&target), "");
}

#[test]
fn a_restore_has_a_report_too() {
    let (source, target) = sample();
    let ground = tempfile::tempdir().expect("a temporary directory");
    let (archive, directory) = (ground.path().join("archive"), ground.path().join("run"));
    let dumped = pgmove()
        .args(["dump", "--accept-writes", "--source", &source.uri(), "--archive"])
        .arg(&archive)
        .output();
    assert!(dumped.is_ok_and(|output| output.status.success()));
    let mut restore = pgmove();
    restore
        .args(["restore", "--target", &target.uri(), "--run-dir"])
        .arg(&directory)
        .arg("--archive")
        .arg(&archive);
    let output = restore.output().expect("pgmove runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = answer("report", &directory, &[]);
    assert!(text.contains("from     archive ") && text.contains("equal: 1 table with 1,000 rows"), "{text}");
}

#[test]
fn a_fence_is_told_and_what_is_no_run_is_said() {
    let ground = tempfile::tempdir().expect("a temporary directory");
    let directory = ground.path().join("run");
    for command in ["status", "report"] {
        let (code, text) = ask(command, &directory, &[]);
        assert!(code == 2 && text.contains("holds no run") && text.contains("--run-dir"), "{text}");
    }
    let source = Server::shared(16).database();
    let fence = |command: &str| {
        let uri = source.uri();
        let mut fence = pgmove();
        fence.args([command, "--source", &uri, "--run-dir"]).arg(&directory).output().expect("pgmove runs")
    };
    assert!(fence("fence").status.success());
    let text = answer("status", &directory, &[]);
    for words in ["no run has begun", &format!("database {} is fenced", source.name), "pgmove unfence"] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    assert!(fence("unfence").status.success());
    assert!(!answer("status", &directory, &[]).contains("fenced"));
}
