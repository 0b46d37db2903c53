//! `pgmove check --deep` on real servers: damage that only reading everything finds, and definitions that the target
//! refuses.

use std::{
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
};

use crate::check::{Check, assert_said, found};
use crate::support::{Database, Running, SMALL, Server, Variant, Vectors, leftovers, psql, state, untouched};

fn pair() -> (Database, Database) {
    (Server::shared(16).database(), Server::shared(17).database())
}

/// Databases of the target's role but its own.
fn scratch_databases(target: &Database) -> String {
    target.admin_psql(&format!(
        "SELECT string_agg(datname, ' ') FROM pg_database WHERE datdba = '{0}'::regrole AND datname <> '{0}'",
        target.name
    ))
}

/// Rows come in while the index is not maintained.
fn past(database: &Database, index: &str, rows: &str) {
    let ready = |is_ready| {
        format!("UPDATE pg_index SET indisready = {is_ready} WHERE indexrelid = '{index}'::regclass")
    };
    database.admin_psql(&ready(false));
    database.psql(rows);
    database.admin_psql(&ready(true));
}

#[test]
fn a_sound_library_passes_a_deep_check_and_nothing_is_left() {
    let quiet = Server::start(15, &Variant { settings: "autovacuum = off".into(), ..Variant::default() });
    let source = SMALL.fill(&quiet, Vectors::of(&quiet));
    let target = Server::shared(17).database();
    let before = (untouched(&source), state(&target));
    let (code, result) = Check::new(&source, &target).result(&["--deep"]);
    assert_eq!(code, 0, "{result:#}");
    // Only what no check without rows can find, and what the source does not show its role.
    let skipped = result["summary"]["skipped"].as_array().expect("a list");
    let why: Vec<&str> = skipped.iter().filter_map(|skipped| skipped["why"].as_str()).collect();
    assert!(
        matches!(why[..], [hidden, rows] if hidden.contains("pg_read_all_settings") && rows.contains("no rows")),
        "{why:?}"
    );
    let looked = result["summary"]["looked_at"].as_array().expect("a list");
    assert!(
        looked.iter().any(|looked| looked.as_str().is_some_and(|what| what.contains("scratch database")))
    );
    assert_eq!(untouched(&source), before.0);
    state(&target).assert_equal(&before.1);
    assert_eq!((leftovers(&target), scratch_databases(&target)), (String::new(), String::new()));
}

#[test]
fn duplicates_that_a_unique_index_hides_are_found() {
    let (source, target) = pair();
    source.psql(
        "CREATE TABLE photo (id integer, owner text, name text, deleted boolean DEFAULT false);
         CREATE UNIQUE INDEX photo_id ON photo (id);
         CREATE UNIQUE INDEX photo_name ON photo (owner, lower(name)) WHERE NOT deleted;
         CREATE TABLE tag (label text, UNIQUE NULLS NOT DISTINCT (label));
         INSERT INTO photo VALUES (1, 'ann', 'Lion'), (2, 'ann', 'tiger'), (NULL, 'bob', NULL), (NULL, 'bob', NULL);
         INSERT INTO tag VALUES ('sea'), (NULL)",
    );
    let check = Check::new(&source, &target);
    let (code, result) = check.result(&["--deep"]);
    assert_eq!(code, 0, "{result:#}");
    past(&source, "photo_id", "INSERT INTO photo VALUES (1, 'eve', 'bear'), (1, 'eve', 'wolf')");
    let (code, result) = check.result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(
        &result,
        "hidden-duplicates",
        &["index public.photo_id", "1 values in 3 rows", "(0,1) and (0,5)"],
    );
    assert_eq!(found(&result).iter().filter(|(id, _)| *id == "hidden-duplicates").count(), 1, "{result:#}");
    // Nobody who does not read the table itself sees them.
    let (code, result) = check.result(&[]);
    assert_eq!(code, 0, "{result:#}");
    source.psql("DELETE FROM photo WHERE owner = 'eve'");
    // Neither deleted ones nor those without a name are duplicates; a case apart is one.
    past(
        &source,
        "photo_name",
        "INSERT INTO photo VALUES (5, 'ann', 'LION', false), (6, 'ann', 'tiger', true), (7, 'ann', 'tiger', true), (8, 'bob', NULL, false)",
    );
    past(&source, "tag_label_key", "INSERT INTO tag VALUES (NULL)");
    let (code, result) = check.result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    let findings = result["findings"].as_array().expect("a list");
    let duplicates = findings.iter().filter(|found| found["id"] == "hidden-duplicates");
    let titles: Vec<&str> = duplicates.filter_map(|found| found["title"].as_str()).collect();
    assert_eq!(titles.len(), 2, "{result:#}");
    assert!(
        titles[0].contains("public.photo_name") && titles[1].contains("public.tag_label_key"),
        "{titles:?}"
    );
}

/// Large enough for its index to be the cheaper way.
#[test]
fn duplicates_are_looked_for_without_the_index_that_hides_them() {
    let (source, target) = pair();
    source.psql(
        "CREATE TABLE photo AS SELECT n AS id, repeat('x', 100) AS note FROM generate_series(1, 50000) AS n;
         CREATE UNIQUE INDEX photo_id ON photo (id); VACUUM ANALYZE photo",
    );
    past(&source, "photo_id", "INSERT INTO photo VALUES (7, 'again')");
    let seen = "SET enable_hashagg = off; SELECT count(*) FROM (SELECT id FROM photo GROUP BY id HAVING count(*) > 1) AS d";
    assert_eq!(source.psql(seen), "0", "the index hides it");
    let (code, result) = Check::new(&source, &target).result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "hidden-duplicates", &["index public.photo_id", "1 values in 2 rows"]);
}

#[test]
fn rows_that_cannot_be_read_are_named() {
    let (source, target) = pair();
    source.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY, note text);
         ALTER TABLE photo ALTER note SET STORAGE EXTERNAL;
         INSERT INTO photo SELECT n, CASE n % 100 WHEN 0 THEN repeat('long ', 1000) ELSE 'short' END
         FROM generate_series(1, 2000) AS n",
    );
    source.admin_psql(
        "CREATE EXTENSION pg_surgery;
         DO $$ DECLARE toast regclass; BEGIN
             SELECT reltoastrelid INTO toast FROM pg_class WHERE oid = 'photo'::regclass;
             PERFORM heap_force_kill(toast, ARRAY['(0,1)', '(10,1)']::tid[]);
         END $$; DROP EXTENSION pg_surgery",
    );
    let (code, result) = Check::new(&source, &target).result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(
        &result,
        "rows-unreadable",
        &["public.photo", "chunk number", "DELETE FROM \"public\".\"photo\""],
    );
    let said = crate::check::said(&result, "rows-unreadable");
    // The rows that are named are those that cannot be read, and the statement of the remedy mends the table.
    let rows: Vec<&str> = said.split_whitespace().filter_map(|word| word.strip_suffix("):")).collect();
    assert_eq!(rows.len(), 2, "{said}");
    for row in rows {
        psql(&source.uri(), &format!("SELECT length(note || '') FROM photo WHERE ctid = '{row})'"))
            .expect_err("damaged");
        source.psql(&format!("DELETE FROM photo WHERE ctid = '{row})'"));
    }
    let (code, result) = Check::new(&source, &target).result(&["--deep"]);
    assert_eq!(code, 0, "{result:#}");
}

#[test]
fn large_objects_and_materialised_views_that_cannot_be_read_are_named() {
    let (source, target) = pair();
    source.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY, note text);
         INSERT INTO photo SELECT n, repeat('long ', 2000) || n FROM generate_series(1, 20) AS n;
         CREATE MATERIALIZED VIEW notes AS SELECT id, reverse(note) AS note FROM photo WITH NO DATA;
         ALTER MATERIALIZED VIEW notes ALTER note SET STORAGE EXTERNAL; REFRESH MATERIALIZED VIEW notes;
         SELECT lo_from_bytea(5000 + n, convert_to(repeat('whole ', 1000), 'UTF8')) FROM generate_series(1, 30) AS n",
    );
    let check = Check::new(&source, &target);
    let (code, result) = check.result(&["--deep"]);
    assert_eq!(code, 0, "{result:#}");
    let toast = "SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'notes'::regclass";
    let toast = source.admin_psql(toast);
    source.admin_psql(&format!(
        "CREATE EXTENSION pg_surgery; SELECT heap_force_kill('{toast}', ARRAY['(0,1)']::tid[]); DROP EXTENSION pg_surgery;
         SET allow_system_table_mods = on;
         UPDATE pg_largeobject SET data = repeat('x', 4000)::bytea WHERE loid = 5007 AND pageno = 1"
    ));
    let (code, result) = check.result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    let findings = result["findings"].as_array().expect("a list");
    let unreadable = findings.iter().filter(|found| found["id"] == "rows-unreadable");
    let said: Vec<String> = unreadable.map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:#?}");
    let has = |words: &[&str]| said.iter().any(|said| words.iter().all(|word| said.contains(word)));
    assert!(
        has(&["materialised view public.notes", "chunk number", "REFRESH MATERIALIZED VIEW"]),
        "{said:#?}"
    );
    assert!(has(&["large objects", "5007: ", "lo_unlink(5007)"]) && !has(&["5008: "]), "{said:#?}");
}

/// As a damaged page may do, of which the server then does not say a word.
#[test]
fn a_read_that_ends_the_session_is_a_finding_beside_the_others() {
    let (source, target) = pair();
    let calm = |language: &str, body: &str| {
        source.admin_psql(&format!(
            "CREATE OR REPLACE FUNCTION calm(integer) RETURNS integer IMMUTABLE SECURITY DEFINER LANGUAGE {language} AS '{body}'"
        ));
    };
    calm("sql", "SELECT $1");
    source.psql(
        "CREATE TABLE photo (id integer); CREATE UNIQUE INDEX photo_key ON photo (calm(id));
         INSERT INTO photo VALUES (1); CREATE UNLOGGED TABLE draft (id integer)",
    );
    calm("plpgsql", "BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN $1; END");
    let (code, result) = Check::new(&source, &target).result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "look-failed", &["blocking", "every row of the source", "terminating connection"]);
    assert!(found(&result).contains(&("unlogged-tables", "warning")), "{result:#}");
}

#[test]
fn a_page_that_cannot_be_read_is_named() {
    let server = Server::start(16, &Variant::default());
    let (source, target) = (server.database(), Server::shared(17).database());
    source.psql(
        "CREATE TABLE photo AS SELECT n AS id, repeat('x', 100) AS note FROM generate_series(1, 1000) AS n",
    );
    let file = source.admin_psql("SELECT pg_relation_filepath('photo')");
    server.stop();
    let path = server.directory().expect("a local server").join("data").join(file);
    let mut pages = OpenOptions::new().write(true).open(&path).expect("the table's file");
    pages.seek(SeekFrom::Start(5 * 8192)).and_then(|_| pages.write_all(&[0xff; 24])).expect("page 5");
    drop(pages);
    server.restart();
    let (code, result) = Check::new(&source, &target).result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "rows-unreadable", &["public.photo", "page 5: invalid page in block 5"]);
}

#[test]
fn a_definition_that_the_target_refuses_is_named_and_the_scratch_database_goes() {
    let (source, target) = pair();
    source.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY, taken date);
         CREATE VIEW buffers AS SELECT buffers_backend FROM pg_stat_bgwriter;
         CREATE VIEW more AS SELECT * FROM buffers; CREATE INDEX ON photo (taken)",
    );
    let mut check = Check::new(&source, &target);
    let (code, result) = check.result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    let phrases = [
        "VIEW public.buffers",
        "column",
        "does not exist",
        "CREATE VIEW",
        "that name it are refused with it",
    ];
    assert_said(&result, "definition-refused", &phrases);
    assert_eq!(found(&result).iter().filter(|(id, _)| *id == "definition-refused").count(), 1, "{result:#}");
    assert_eq!((leftovers(&target), scratch_databases(&target)), (String::new(), String::new()));
    check.admin = None;
    let (code, result) = check.result(&["--deep"]);
    assert_eq!(code, 0, "{result:#}");
    let skipped = &result["summary"]["skipped"];
    assert!(skipped.to_string().contains("needs --target-admin"), "{skipped:#}");
}

/// Servers from 17 on pin the path while an index is built. What only rows show is said not to have been tried.
#[test]
fn an_index_over_a_function_that_needs_a_search_path_is_tried_as_far_as_it_goes_without_rows() {
    let (source, target) = pair();
    source.psql(
        "CREATE FUNCTION plain(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)';
         CREATE FUNCTION folded(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT plain($1)';
         CREATE FUNCTION late(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN plain($1); END';
         CREATE TABLE photo (name text); CREATE INDEX photo_folded ON photo (folded(name));
         CREATE INDEX photo_late ON photo (late(name))",
    );
    let (code, result) = Check::new(&source, &target).result(&["--deep"]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "definition-refused", &["INDEX public.photo_folded", "plain(text) does not exist"]);
    let refused = found(&result).iter().filter(|(id, _)| *id == "definition-refused").count();
    assert_eq!(refused, 1, "the other one is seen with rows only: {result:#}");
    let skipped = result["summary"]["skipped"].to_string();
    assert!(skipped.contains("bodies of functions"), "{skipped}");
}

/// The scratch database has the target's extensions, where the target has them.
#[test]
fn definitions_are_tried_with_the_extensions_of_the_target() {
    let (source, target) = pair();
    source.admin_psql("CREATE EXTENSION hstore");
    source.psql("CREATE TABLE photo (tags hstore)");
    // Only where it is there already, in a version that the server would not make by itself.
    target.admin_psql(
        "CREATE EXTENSION hstore; UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'hstore'",
    );
    let ended = Running::start(&mut Check::new(&source, &target).command(&["--deep", "-v"])).wait();
    ended.assert(0, &["extension hstore is 0.9 on the target", "default version"]);
    assert_eq!(scratch_databases(&target), "");
}

/// A predicate that is folded when its index is made sleeps in the scratch database only.
#[test]
fn an_interrupt_while_definitions_are_tried_drops_the_scratch_database() {
    let (source, target) = pair();
    source.psql(
        "CREATE TABLE photo (id integer);
         CREATE FUNCTION slow() RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
             $$ BEGIN IF current_database() LIKE 'pgmove\\_%' THEN PERFORM pg_sleep(300); END IF; RETURN 1; END $$;
         CREATE INDEX ON photo (id) WHERE id > slow()",
    );
    let mut running = Running::start(&mut Check::new(&source, &target).command(&["--deep"]));
    let sleeps = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = '{}' AND wait_event = 'PgSleep'",
        target.name
    );
    while running.is_running() && target.admin_psql(&sleeps) != "t" {}
    assert!(running.is_running(), "{}", running.output());
    assert_ne!(scratch_databases(&target), "");
    running.interrupt();
    running.wait().assert(130, &["check again"]);
    assert_eq!(scratch_databases(&target), "");
}
