//! `pgmove check` on real servers: what it finds, and that it only reads.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{
    Database, Ended, Running, SMALL, Server, Variant, Vectors, hold, leftovers, pgmove_process, psql,
    smoke_pair, state, untouched,
};

/// A check between two databases, with the target's superuser.
pub(crate) struct Check {
    source: String,
    target: String,
    pub(crate) admin: Option<String>,
}

impl Check {
    pub(crate) fn new(source: &Database, target: &Database) -> Self {
        Self { source: source.uri(), target: target.uri(), admin: Some(target.admin_uri()) }
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = pgmove_process();
        command.args(["check", "--source", &self.source, "--target", &self.target]);
        if let Some(admin) = &self.admin {
            command.args(["--target-admin", admin]);
        }
        command.args(more).stdin(Stdio::null());
        command
    }

    fn run(&self, more: &[&str]) -> Ended {
        Running::start(&mut self.command(more)).wait()
    }

    /// The exit code, and the result in JSON.
    pub(crate) fn result(&self, more: &[&str]) -> (i32, Value) {
        let mut options = vec!["--output", "json"];
        options.extend(more);
        let ended = self.run(&options);
        let last = ended.output.lines().find(|line| line.starts_with("{\"result\"")).expect("a result");
        let value: Value = serde_json::from_str(last).expect("it is JSON");
        (ended.code.expect("it ended by itself"), value["result"].clone())
    }
}

fn pair() -> (Database, Database) {
    (Server::shared(16).database(), Server::shared(17).database())
}

/// The findings' names and severities.
pub(crate) fn found(result: &Value) -> Vec<(&str, &str)> {
    let findings = result["findings"].as_array().expect("a check tells its findings");
    findings.iter().map(|found| (text(&found["id"]), text(&found["severity"]))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// What a finding of this name says, all of it.
#[track_caller]
pub(crate) fn said(result: &Value, id: &str) -> String {
    let findings = result["findings"].as_array().expect("a check tells its findings");
    let finding = findings.iter().find(|found| found["id"] == id);
    let finding = finding.unwrap_or_else(|| panic!("no {id} in {:?}", found(result)));
    ["severity", "title", "evidence", "remedy"].map(|field| text(&finding[field])).join("\n")
}

#[track_caller]
pub(crate) fn assert_said(result: &Value, id: &str, phrases: &[&str]) {
    let said = said(result, id);
    for phrase in phrases {
        assert!(said.contains(phrase), "no {phrase:?} in:\n{said}");
    }
}

#[test]
fn a_check_reads_only_and_says_what_it_has_looked_at() {
    // Nothing but the test writes to the source: no other test, no autovacuum.
    let quiet = Server::start(15, &Variant { settings: "autovacuum = off".into(), ..Variant::default() });
    let source = SMALL.fill(&quiet, Vectors::of(&quiet));
    let target = Server::shared(17).database();
    let before = (untouched(&source), state(&target));
    let check = Check::new(&source, &target);
    let (code, result) = check.result(&["--fence"]);
    assert_eq!(code, 0, "{result:#}");
    let summary = &result["summary"];
    assert_eq!(summary["table_count"], 67, "{summary:#}");
    assert_eq!(summary["tables"].as_array().map(Vec::len), Some(10));
    assert!(summary["needs"]["total"].as_u64() > summary["row_bytes"].as_u64(), "{summary:#}");
    assert!(summary["looked_at"].as_array().is_some_and(|looked| looked.len() > 12), "{summary:#}");
    // Only what nobody asked for, and what the source does not show its role.
    let skipped = summary["skipped"].as_array().expect("a list");
    let why: Vec<&str> = skipped.iter().map(|skipped| text(&skipped["why"])).collect();
    assert!(
        matches!(why[..], [hidden, deep] if hidden.contains("pg_read_all_settings") && deep.contains("--deep")),
        "{why:?}"
    );
    assert_eq!(summary["vector_builds"].as_array().map(Vec::len), Some(2), "{summary:#}");
    let severities: Vec<&str> = found(&result).into_iter().map(|(_, severity)| severity).collect();
    let order = |severity: &&str| ["blocking", "warning", "note"].iter().position(|known| known == severity);
    assert!(severities.is_sorted_by_key(order), "{severities:?}");
    for id in ["large-objects", "travels-as-text", "unlogged-tables", "settings-carried"] {
        said(&result, id);
    }
    check.run(&["--fence"]).assert(0, &["looked at:", "free space: not known", "nothing stands in the way"]);
    assert_eq!(untouched(&source), before.0);
    state(&target).assert_equal(&before.1);
    assert_eq!(leftovers(&target), "");
}

#[test]
fn the_oldest_source_can_be_checked() {
    let pair = smoke_pair();
    let (source, target) = (pair.source.database(), pair.target.database());
    source.psql("CREATE TABLE photo (id integer PRIMARY KEY)");
    Check::new(&source, &target).run(&[]).assert(0, &["PostgreSQL 12", "nothing stands in the way"]);
}

#[test]
fn a_check_finds_what_a_run_and_its_plan_would_refuse_at_once() {
    let (source, target) = pair();
    source.psql("CREATE TABLE photo (id integer); CREATE SCHEMA given AUTHORIZATION CURRENT_USER");
    source.admin_psql(&format!(
        "ALTER DATABASE {} SET log_min_duration_statement = '5s'; CREATE EXTENSION earthdistance CASCADE;
         CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION watch();",
        source.name
    ));
    target.psql("CREATE TABLE here ()");
    let mut check = Check::new(&source, &target);
    check.admin = None;
    let (code, result) = check.result(&[]);
    assert_eq!(code, 3, "{result:#}");
    let blocking: Vec<&str> = found(&result)
        .into_iter()
        .filter(|(_, severity)| *severity == "blocking")
        .map(|(id, _)| id)
        .collect();
    for id in ["target-not-empty", "extension-needs-superuser", "needs-superuser"] {
        assert!(blocking.contains(&id), "no {id} in {blocking:?}");
    }
    // The event trigger by the check, the setting by the plan; neither twice.
    assert_eq!(blocking.iter().filter(|id| **id == "needs-superuser").count(), 2, "{result:#}");
    check.run(&[]).assert(3, &["check: refused", "log_min_duration_statement", "event trigger watching"]);
    // With everything given, nothing is left.
    target.psql("DROP TABLE here");
    check.admin = Some(target.admin_uri());
    let (code, result) = check.result(&[]);
    assert_eq!(code, 0, "{result:#}");
    assert_said(&result, "over-admin", &["EXTENSION earthdistance", "EVENT TRIGGER watching"]);
    assert_said(&result, "event-triggers", &["watching"]);
    assert_said(&result, "settings-carried", &["log_min_duration_statement"]);
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let (source, target) = pair();
    source.psql("CREATE TABLE photo (id integer)");
    let nothing = tempfile::tempdir().expect("a directory");
    let check = Check::new(&source, &target);
    let directory = nothing.path().to_str().expect("a path in UTF-8");
    let ended = check.run(&["--client-directory", directory]);
    ended.assert(
        3,
        &["[client-tools]", "not looked at: every definition", "pg_dump and pg_restore cannot be used"],
    );
    // The maintenance database is closed to the role.
    let server = Server::start(17, &Variant::default());
    psql(&server.uri("postgres"), "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        .expect("it is the superuser");
    let target = server.database();
    let (code, result) = Check::new(&source, &target).result(&[]);
    assert_eq!(code, 0, "{result:#}");
    let skipped = &result["summary"]["skipped"];
    assert!(text(&skipped[0]["what"]).contains("database postgres"), "{skipped:#}");
    assert!(text(&skipped[0]["why"]).contains("postgres"), "{skipped:#}");
}

#[test]
fn extensions_in_the_wrong_database_are_explained() {
    let server = Server::start(17, &Variant::default());
    psql(&server.uri("postgres"), "CREATE EXTENSION earthdistance CASCADE").expect("it is the superuser");
    let (source, target) = (Server::shared(16).database(), server.database());
    source.admin_psql("CREATE SCHEMA geo; CREATE EXTENSION earthdistance SCHEMA geo CASCADE");
    let mut check = Check::new(&source, &target);
    let (code, result) = check.result(&[]);
    assert_eq!(code, 0, "{result:#}");
    assert_said(&result, "extension-elsewhere", &["note", "earthdistance"]);
    check.admin = None;
    let (code, result) = check.result(&[]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "extension-elsewhere", &["warning", "postInitSQL", &target.name]);
    // The statements of the remedy put them where the source has them, in an order that works.
    let said = said(&result, "extension-elsewhere");
    let (_, statements) = said.split_once("CREATE SCHEMA").expect("statements");
    target.admin_psql(&format!("CREATE SCHEMA{statements}; GRANT USAGE ON SCHEMA geo TO {}", target.name));
    let placed = "SELECT string_agg(extname || ' ' || extnamespace::regnamespace, ', ' ORDER BY extname) FROM pg_extension
        WHERE extname <> 'plpgsql'";
    assert_eq!(target.admin_psql(placed), "cube geo, earthdistance geo");
    let (code, result) = check.result(&[]);
    assert_eq!((code, found(&result).iter().any(|(id, _)| *id == "extension-elsewhere")), (0, false));
}

/// Under the stand-in of pgvecto.rs, which takes every value as that does.
#[test]
fn embeddings_that_pgvector_refuses_are_counted() {
    let (source, target) = (Server::shared(16).database(), Server::shared(17).database());
    source.admin_psql("CREATE EXTENSION vectors; GRANT USAGE ON SCHEMA vectors TO PUBLIC");
    source.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY, embedding vectors.vector(3));
         INSERT INTO photo VALUES (1, '[1,2,3]'), (2, NULL), (3, '[4,5,6]');
         CREATE TABLE free (embedding vectors.vector); INSERT INTO free VALUES ('[1,2]'), ('[1,2,3]')",
    );
    let check = Check::new(&source, &target);
    let (code, result) = check.result(&[]);
    assert_eq!(code, 0, "{result:#}");
    assert_said(&result, "embedding-dimensions-mixed", &["note", "public.free.embedding: 2 to 3"]);
    source.psql("INSERT INTO photo VALUES (4, '[1,2]'), (5, '[NaN,1,2]'), (6, '[1,inf,2]')");
    let (code, result) = check.result(&[]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "embedding-not-finite", &["public.photo.embedding: 2 of 5 rows"]);
    assert_said(&result, "embedding-dimensions", &["declared 3, found 2 to 3"]);
    // The queries of the remedies show the rows.
    let shown = |id: &str| {
        let said = said(&result, id);
        let (_, query) = said.split_once("look at them: ").expect("a query");
        let (query, _) = query.split_once(';').expect("its end");
        source.psql(&format!("{query} ORDER BY 1")).replace('\n', " ")
    };
    assert_eq!((shown("embedding-not-finite"), shown("embedding-dimensions")), ("5 6".into(), "4".into()));
}

/// As in an image without pgvecto.rs.
#[test]
fn embeddings_whose_library_is_missing_are_told() {
    let (source, target) = (Server::shared(16).database(), Server::shared(17).database());
    source.admin_psql("CREATE EXTENSION vectors; GRANT USAGE ON SCHEMA vectors TO PUBLIC");
    source.psql("CREATE TABLE photo (embedding vectors.vector(3)); INSERT INTO photo VALUES ('[1,2,3]')");
    let remove_from = |functions: &str| {
        source.admin_psql(&format!(
            "UPDATE pg_proc SET probin = '$libdir/nowhere' WHERE pronamespace = 'vectors'::regnamespace \
             AND proname ~ '{functions}'"
        ))
    };
    let check = Check::new(&source, &target);
    remove_from("_to_array");
    let (code, result) = check.result(&[]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(
        &result,
        "embeddings-unreadable",
        &["public.photo.embedding", "could not access file", "image"],
    );
    // Without the rest of it, PostgreSQL itself cannot say what the column is.
    remove_from("_vectors_");
    check
        .run(&[])
        .assert(3, &["could not access file \"$libdir/nowhere\"", "start the source with an image"]);
}

#[test]
fn a_build_that_is_larger_than_the_server_is_found() {
    let (source, target) = pair();
    source.psql("CREATE TABLE photo (id integer PRIMARY KEY)");
    let check = Check::new(&source, &target);
    // The test servers have 64 MiB of buffers.
    let (code, result) = check.result(&["--memory-limit", "128", "--index-memory", "1024", "--jobs", "1"]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "index-memory", &["limit 128 MiB", "photo_pkey", "1.00 GiB", "1.06 GiB"]);
    let (code, result) = check.result(&["--memory-limit", "2048", "--index-memory", "1024", "--jobs", "1"]);
    assert_eq!(code, 0, "{result:#}");
}

/// Two builds that fit by themselves, and not together: a primary key, and a vector index with what it takes beside its share.
#[test]
fn builds_that_run_together_are_held_against_the_servers_memory_together() {
    let (source, target) = (Server::shared(16).database(), Server::shared(17).database());
    source.admin_psql("CREATE EXTENSION vector");
    source.psql(
        "CREATE TABLE smart_search (id integer PRIMARY KEY, embedding vector(512));
         CREATE INDEX clip_index ON smart_search USING hnsw (embedding vector_cosine_ops)",
    );
    let check = Check::new(&source, &target);
    let of = |limit: &str, jobs: &str| {
        check.result(&["--memory-limit", limit, "--index-memory", "128", "--jobs", jobs])
    };
    // The test servers have 64 MiB of buffers, and each of two lanes has 64 MiB for a build.
    let (code, result) = of("180", "2");
    assert_eq!(code, 3, "{result:#}");
    assert_said(
        &result,
        "index-memory",
        &["limit 180 MiB", "run at once 128 MiB", "INDEX public.clip_index", "smart_search_pkey", "192 MiB"],
    );
    assert_eq!(of("200", "2").0, 0, "it is enough");
}

/// Nothing of what was found is lost for it. pgmove itself does not read this catalog, pg_dump does.
#[test]
fn what_keeps_pg_dump_from_its_work_is_a_finding_beside_the_others() {
    let (source, target) = pair();
    source.psql(
        "CREATE TABLE photo (id integer); CREATE UNLOGGED TABLE draft (id integer); SELECT lo_create(0)",
    );
    source.admin_psql("REVOKE SELECT ON pg_catalog.pg_init_privs FROM PUBLIC");
    let (code, result) = Check::new(&source, &target).result(&[]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(
        &result,
        "plan-impossible",
        &["blocking", "pg_dump", "permission denied for table pg_init_privs"],
    );
    for id in ["unlogged-tables", "large-objects", "no-fence"] {
        said(&result, id);
    }
    let skipped = result["summary"]["skipped"].as_array().expect("a list");
    let unplanned = |skipped: &Value| {
        text(&skipped["what"]).contains("every definition") && text(&skipped["why"]).contains("pg_init_privs")
    };
    assert!(skipped.iter().any(unplanned), "{skipped:#?}");
    assert_eq!(result["summary"]["table_count"], 2);
}

#[test]
fn what_goes_on_on_the_source_is_told() {
    let server = Server::start(16, &Variant::default());
    let (source, other) = (server.database(), server.database());
    let target = Server::shared(17).database();
    source.psql("CREATE TABLE photo (id integer)");
    other.psql("CREATE TABLE purchase (id integer); BEGIN; INSERT INTO purchase VALUES (1); PREPARE TRANSACTION 'order 7'");
    let writer = hold(&source.admin_uri(), "INSERT INTO photo VALUES (1)");
    // As if the database had never been vacuumed for so long.
    source.admin_psql(&format!(
        "UPDATE pg_database SET datfrozenxid = ((txid_current() - 1700000000 + 4294967296) % 4294967296)::text::xid \
         WHERE datname = '{}'",
        source.name
    ));
    let check = Check::new(&source, &target);
    let (code, result) = check.result(&[]);
    assert_eq!(code, 0, "{result:#}");
    // Whose session it is, and since when, is hidden from the owner; that it writes is not.
    assert_said(&result, "source-written", &["psql of postgres"]);
    let skipped = result["summary"]["skipped"].as_array().expect("a list");
    let is_age = |skipped: &&Value| text(&skipped["what"]) == "the age of 1 open transaction on the source";
    let hidden = skipped.iter().find(is_age).unwrap_or_else(|| panic!("{skipped:#?}"));
    assert!(text(&hidden["why"]).contains("pg_read_all_stats"), "{hidden}");
    assert_said(&result, "prepared-elsewhere", &["order 7", &other.name]);
    assert_said(&result, "source-wraparound", &[&source.name, "1,700,000,", "VACUUM (FREEZE)"]);
    drop(writer);
    other.psql("ROLLBACK PREPARED 'order 7'");
}

#[test]
fn what_is_moved_in_a_certain_way_is_noted() {
    let (source, target) = (Server::shared(16).database(), Server::shared(17).database());
    source.psql("CREATE TABLE photo (id integer, place regclass); SELECT lo_create(0); CREATE PUBLICATION feed FOR TABLE photo");
    source.admin_psql(&format!(
        "ALTER ROLE {0} SET work_mem = '8MB'; ALTER DATABASE {0} SET vectors.enable_index = 'off';
         CREATE EXTENSION postgres_fdw; CREATE SERVER archive FOREIGN DATA WRAPPER postgres_fdw",
        source.name
    ));
    let (code, result) = Check::new(&source, &target).result(&["--owner", &target.name]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "large-objects", &["1 of them"]);
    assert_said(&result, "publications", &["feed"]);
    assert_said(&result, "foreign-servers", &["archive"]);
    assert_said(&result, "role-settings", &["work_mem", &source.name]);
    assert_said(&result, "settings-left", &["vectors.enable_index", "it belongs to pgvecto.rs"]);
    assert_said(&result, "travels-as-text", &["public.photo", "regclass is a raw OID in binary"]);
}

#[test]
fn an_interrupt_ends_a_check_on_the_server_too() {
    let (source, target) = pair();
    source.psql("CREATE TABLE photo (id integer)");
    let locked = hold(&source.uri(), "LOCK TABLE photo");
    let running = Running::start(&mut Check::new(&source, &target).command(&[]));
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while source.admin_psql(waits) != "t" {}
    running.interrupt();
    running.wait().assert(130, &["check again"]);
    drop(locked);
}
