//! What the program ends with: exit code and last words of a move whose source is written, and of a comparison.

use serde_json::Value;

use crate::support::{
    Cut, Database, Ended, Fault, Install, Move, Proxy, Server, Variant, hold, leftovers, pgmove, psql,
    wait_until,
};

/// The materialised view is filled again on the target, and gives the test time to write to the source.
const SAMPLE: &str = "
CREATE TABLE photo (id integer PRIMARY KEY, name text);
INSERT INTO photo SELECT n, 'photo ' || n FROM generate_series(1, 1000) AS n;
CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one FROM pg_sleep(1.5);
";

/// Moves the sample, and runs a statement on the source's server, in this database of it, once rows are copied.
fn move_while(source: &Database, database: &str, statement: &str, options: &[&str]) -> Ended {
    let target = Server::shared(18).database();
    let run = Move::new(source, &target);
    let mut running = run.start(&[&["-v"], options].concat());
    assert!(
        wait_until(&mut running, &target, "SELECT count(*) > 0 FROM pgmove.ledger WHERE item ~ '^chunk'"),
        "{}",
        running.output()
    );
    psql(&source.server.uri(database), statement).expect("a superuser may");
    let ended = running.wait();
    assert_eq!(leftovers(&target), "");
    ended
}

#[test]
fn a_source_that_is_written_meanwhile_is_not_proven_unless_that_is_accepted() {
    // Nobody else gives transaction ids out on this server.
    let server = Server::start(16, &Variant { settings: "autovacuum = off".into(), ..Variant::default() });
    let source = server.database();
    source.psql(SAMPLE);
    let change = "UPDATE photo SET name = 'changed' WHERE id = 7";
    move_while(&source, &source.name, change, &[])
        .assert(8, &["the source was written since its snapshot: public.photo has changed"]);
    move_while(&source, &source.name, change, &["--accept-writes"]).assert(0, &["equal: "]);
    // An id that is given out elsewhere proves nothing: the rows are read again, and are the same.
    let again = "reading and hashing it again";
    move_while(&source, "postgres", "SELECT txid_current()", &[]).assert(0, &[again, "equal: "]);
    // Not even that happens where none was given out.
    let quiet = move_while(&source, "postgres", "SELECT 1", &[]);
    quiet.assert(0, &["equal: "]);
    assert!(!quiet.output.contains(again), "{}", quiet.output);
}

/// `pgmove verify`: exit code, stdout, stderr.
fn verified(source: &Database, target: &Database, options: &[&str]) -> (i32, String, String) {
    let tools = &Install::all().last().expect("cargo xtask servers brings servers").client_bin_dir;
    let output = pgmove()
        .args(["verify", "--source", &source.uri(), "--target", &target.uri(), "--owner", &target.name])
        .arg("--client-directory")
        .arg(tools)
        .args(options)
        .output()
        .expect("pgmove runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

#[test]
fn a_comparison_ends_with_what_it_proves() {
    let [source, target] = [16, 17].map(|major| {
        let database = Server::shared(major).database();
        database.psql(&SAMPLE.replace("1.5", "0"));
        database
    });
    for options in [&[][..], &["--reread"]] {
        let (code, stdout, stderr) = verified(&source, &target, options);
        assert_eq!(code, 0, "{options:?}\n{stdout}\n{stderr}");
        assert!(stdout.contains("\nequal: 1 table with 1,000 rows"), "{stdout}");
    }
    let (code, stdout, _) = verified(&source, &target, &["--counts"]);
    assert_eq!(code, 8, "{stdout}");
    assert!(stdout.contains("not compared"), "{stdout}");

    target.psql("UPDATE photo SET name = 'changed' WHERE id = 7; DELETE FROM photo WHERE id = 8");
    for options in [&[][..], &["--reread"]] {
        let (code, stdout, _) = verified(&source, &target, options);
        assert_eq!(code, 4, "{stdout}");
        for words in ["DIFFERENT", "1000 rows on the source, 999 on the target", "(id)=(7)", "(id)=(8)"] {
            assert!(stdout.contains(words), "no {words} in:\n{stdout}");
        }
    }
    assert_eq!(verified(&source, &target, &["--counts"]).0, 4);
}

#[test]
fn a_script_reads_json_and_a_quiet_comparison_says_one_sentence() {
    // Others write to a shared source, which would be warned of.
    let quiet = Server::start(16, &Variant { settings: "autovacuum = off".into(), ..Variant::default() });
    let [source, target] = [quiet, Server::shared(17)].map(|server| {
        let database = server.database();
        database.psql(&SAMPLE.replace("1.5", "0"));
        database
    });
    let (code, stdout, stderr) = verified(&source, &target, &["--quiet"]);
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    assert_eq!(stderr, "");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    assert!(stdout.starts_with("equal: "), "{stdout}");

    target.psql("DELETE FROM photo WHERE id = 8");
    let (code, stdout, stderr) = verified(&source, &target, &["--output", "json"]);
    assert_eq!((code, stderr.as_str()), (4, ""), "{stdout}");
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let (result, events) = lines.split_last().expect("there is a result");
    assert!(!events.is_empty() && events.iter().all(|event| event.get("result").is_none()), "{stdout}");
    let result = &result["result"];
    assert_eq!(result["exit"], 4);
    assert_eq!(result["verdict"], "different");
    let tables = result["comparison"]["tables"].as_array().expect("tables");
    assert!(
        tables.iter().any(|table| table["table"] == "public.photo" && table["rows"][1] == 999),
        "{tables:?}"
    );

    let (code, stdout, _) = verified(&source, &target, &["--quiet"]);
    assert_eq!(code, 4);
    assert!(stdout.starts_with("DIFFERENT"), "{stdout}");
}

#[test]
fn a_comparison_that_breaks_off_is_not_refused_but_to_be_done_again() {
    let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
    for database in [&source, &target] {
        database.psql("CREATE TABLE photo AS SELECT n AS id FROM generate_series(1, 1000) AS n");
    }
    let proxy = Proxy::start(source.server.port);
    proxy.set(Fault { words: "TO STDOUT", spared: 0, cut: Cut::Request, times: usize::MAX });
    let uri = proxy.uri(&source.uri(), source.server.port);
    let output = pgmove().args(["verify", "--source", &uri, "--target", &target.uri()]).output();
    let output = output.expect("pgmove runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let ended = Ended { code: output.status.code(), output: text.clone() };
    ended.assert(5, &["not finished; compare again"]);
    assert!(proxy.fired() > 0 && !text.contains("--resume"), "{text}");
}

#[test]
fn a_comparison_without_a_directory_for_temporary_files_names_it() {
    let [source, target] = [16, 17].map(|major| Server::shared(major).database());
    let mut verify = pgmove();
    verify.args(["verify", "--source", &source.uri(), "--target", &target.uri()]);
    let output = verify.env("TMPDIR", "/nowhere").output().expect("pgmove runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    for words in ["could not create /nowhere/pgmove-", "TMPDIR"] {
        assert!(stderr.contains(words), "no {words} in:\n{stderr}");
    }
}

/// The last line of a command that prints JSON, with its exit code.
fn result(arguments: &[&str]) -> (i32, Value) {
    let output = pgmove().args(arguments).args(["--output", "json"]).output().expect("pgmove runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let last = stdout.lines().next_back().unwrap_or_else(|| panic!("no result of {arguments:?}"));
    let line: Value = serde_json::from_str(last).expect("each line is JSON");
    (output.status.code().expect("no signal"), line["result"].clone())
}

#[test]
fn a_script_is_told_all_that_a_person_is() {
    let [source, target] = [16, 17].map(|major| Server::shared(major).database());
    source.psql(&SAMPLE.replace("1.5", "0"));
    let ground = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| ground.path().join(name).display().to_string();
    let (archive, run, fences) = (path("archive"), path("run"), path("fences"));
    let (from, to) = (source.uri(), target.uri());
    // A session that the fence's role may not end.
    let survivor = hold(&source.admin_uri(), "SELECT 1");
    let moving = ["run", "--source", &from, "--target", &to, "--owner", &target.name, "--run-dir", &run];
    let fence = ["--source", &from, "--run-dir", &fences];
    for (code, arguments, words) in [
        (0, [&moving[..], &["--dry-run", "--digests"]].concat(), "  public.photo"),
        (0, vec!["dump", "--source", &from, "--accept-writes", "--archive", &archive], "has the SHA-256 "),
        (0, [&moving[..], &["--accept-writes"]].concat(), ""),
        (0, [&moving[..], &["--resume"]].concat(), "had ended before with the verdict: equal: "),
        (8, [&["fence"][..], &fence[..]].concat(), "still connected, and able to write: "),
        (0, [&["unfence"][..], &fence[..]].concat(), "accepts writes as before the fence"),
        (0, vec!["archive", "check", &archive], "as it was written"),
    ] {
        let (ended, result) = result(&arguments);
        assert_eq!(ended, code, "{arguments:?}: {result}");
        let lines: Vec<&str> =
            result["lines"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert!(words.is_empty() || lines.iter().any(|line| line.contains(words)), "{arguments:?}: {result}");
    }
    drop(survivor);
    std::fs::write(ground.path().join("archive/data/0/0.zst"), "damage").expect("written");
    let (ended, result) = result(&["archive", "check", &archive]);
    assert_eq!(ended, 4, "{result}");
    assert!(result["lines"][0].as_str().is_some_and(|line| line.starts_with("DAMAGED: ")), "{result}");
}
