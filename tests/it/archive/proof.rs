//! A restore proves all that a move proves, with no source at hand: what the target computes again, and large
//! objects with their owners, grants and comments.

use std::{fs, path::Path, sync::Arc};

use super::{Ground, check, dump, ends, reseal};
use crate::support::{Database, Pair, Server, pairs, pgmove};

/// Generated columns that are hashed as bytes and as text; materialised views with rows, without and never filled;
/// large objects shorter than a piece that is hashed, as long, and longer. The setting stands for all that a function
/// can find otherwise on the target.
const COMPUTED: &str = "
SET sample.answer = '42';
CREATE FUNCTION answer() RETURNS text IMMUTABLE LANGUAGE sql AS $$SELECT current_setting('sample.answer', true)$$;
CREATE TABLE photo (
    id int PRIMARY KEY, title text,
    size int GENERATED ALWAYS AS (length(title)) STORED,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', title)) STORED
);
INSERT INTO photo SELECT n, 'title ' || n FROM generate_series(1, 3000) AS n;
CREATE MATERIALIZED VIEW longest AS SELECT size, count(*), max(title) AS title FROM photo GROUP BY size;
CREATE UNIQUE INDEX ON longest (size);
CREATE MATERIALIZED VIEW of_views AS SELECT sum(size) AS size, to_tsvector('simple', min(title)) FROM longest;
CREATE MATERIALIZED VIEW without_rows AS SELECT * FROM photo WHERE id < 0;
CREATE MATERIALIZED VIEW never_filled AS SELECT * FROM photo WITH NO DATA;
SELECT lo_from_bytea(70001, ''), lo_from_bytea(70002, 'small'),
    lo_from_bytea(70003, decode(repeat('0123456789abcdef', 4 * 65536 * 2), 'hex')),
    lo_from_bytea(70004, decode(repeat('0123456789abcdef', 4 * 65536 * 2), 'hex') || 'end');
COMMENT ON LARGE OBJECT 70002 IS 'small';
GRANT SELECT ON LARGE OBJECT 70002 TO PUBLIC;
";

/// What must be equal on both sides, in one text.
const STATE: &str = "
SELECT md5(string_agg(p::text, ',' ORDER BY id)) FROM photo AS p;
SELECT * FROM longest ORDER BY size;
SELECT * FROM of_views;
SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY relname;
SELECT oid, md5(lo_get(oid)), obj_description(oid, 'pg_largeobject'), lomacl::text LIKE '%=r/%'
    FROM pg_largeobject_metadata ORDER BY oid;
";

fn database(server: &Arc<Server>, sql: &str) -> Database {
    let database = server.database();
    database.psql(sql);
    database
}

fn run(ground: &Ground, source: &Database, target: &Database, archive: &Path) -> assert_cmd::Command {
    let mut run = pgmove();
    run.args(["run", "--source", &source.uri(), "--target", &target.uri(), "--accept-writes"]);
    run.arg("--run-dir").arg(ground.path(&target.name)).arg("--archive").arg(archive);
    run
}

#[test]
fn a_restore_proves_all_without_its_source() {
    for Pair { source, target } in pairs() {
        let (ground, source) = (Ground::new(), database(&source, COMPUTED));
        let dumped = ground.dump(&source, "dump");
        let (beside, moved) = (ground.path("beside"), target.database());
        ends(&mut run(&ground, &source, &moved, &beside), 0);
        let expected = source.psql(STATE);
        drop(source);
        for archive in [dumped, beside] {
            ends(&mut check(&archive), 0);
            let restored = target.database();
            let text = ends(&mut ground.restore(&archive, &restored), 0);
            assert!(text.contains("4 materialised views"), "{text}");
            assert!(text.contains("4 large objects"), "{text}");
            assert_eq!(restored.psql(STATE), expected);
        }
    }
}

#[test]
fn values_that_the_target_computes_otherwise_are_different() {
    let (ground, source) = (Ground::new(), database(&Server::shared(16), COMPUTED));
    source.psql(
        "SET sample.answer = '42';
        CREATE TABLE asked (id int PRIMARY KEY, answer text GENERATED ALWAYS AS (answer()) STORED);
        INSERT INTO asked (id) VALUES (1), (2);
        CREATE MATERIALIZED VIEW told AS SELECT answer();",
    );
    let archive = ground.dump(&source, "dump");
    let target = Server::shared(18).database();
    let text = ends(&mut ground.restore(&archive, &target), 4);
    let told = "recomputed differently: 2 rows on both sides, but not the same";
    assert!(text.contains(&format!("table with generated columns public.asked: {told}")), "{text}");
    let told = "recomputed differently: 1 rows on both sides, but not the same";
    assert!(text.contains(&format!("materialised view public.told: {told}")), "{text}");
    assert!(
        text.contains("DIFFERENT: 1 of 2 tables with generated columns, 1 of 5 materialised views"),
        "{text}"
    );
}

#[test]
fn what_is_computed_again_is_hashed_as_of_the_snapshot() {
    let (ground, target) = (Ground::new(), Server::shared(18).database());
    let source = database(&Server::shared(16), COMPUTED);
    let archive = ground.path("dump");
    std::thread::scope(|scope| {
        let dump = scope.spawn(|| ends(&mut dump(&source, &archive), 0));
        let dumps = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'pg_dump' AND datname = current_database()";
        while source.psql(dumps) == "0" {
            assert!(!dump.is_finished(), "the dump was over before it was seen");
        }
        // pg_dump reads in the snapshot, so this comes after it.
        source.psql("INSERT INTO photo SELECT n, 'later' FROM generate_series(5001, 5100) AS n");
    });
    ends(&mut ground.restore(&archive, &target), 0);
    assert_eq!(target.psql("SELECT count(*) FROM photo"), "3000");
}

#[test]
fn values_of_another_encoding_are_equal() {
    let (ground, target) = (Ground::new(), Server::shared(18).database());
    let source = Server::shared(16).database_with("TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    source.psql(
        "SET client_encoding = 'UTF8';
        CREATE TABLE place (name text PRIMARY KEY, shown text GENERATED ALWAYS AS ('\u{e9}: ' || name) STORED);
        INSERT INTO place (name) VALUES ('Orl\u{e9}ans'), ('Bor\u{e5}s');
        CREATE MATERIALIZED VIEW places AS SELECT * FROM place;",
    );
    let archive = ground.dump(&source, "dump");
    ends(&mut ground.restore(&archive, &target), 0);
    assert_eq!(
        target.psql("SELECT shown FROM places ORDER BY name"),
        "\u{e9}: Bor\u{e5}s\n\u{e9}: Orl\u{e9}ans"
    );
}

#[test]
fn what_the_source_does_not_let_be_read_is_not_compared() {
    let (ground, source, target) =
        (Ground::new(), Server::shared(16).database(), Server::shared(18).database());
    source.psql(
        "CREATE TYPE pair AS (a int, b int);
        CREATE FUNCTION refuse(pair) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE 'no text'; END$$;
        CREATE CAST (pair AS text) WITH FUNCTION refuse(pair);
        CREATE MATERIALIZED VIEW pairs AS SELECT ROW(1, 2)::pair AS pair;",
    );
    let archive = ground.path("dump");
    let text = ends(&mut dump(&source, &archive), 8);
    assert!(text.contains("materialised view public.pairs") && text.contains("no text"), "{text}");
    let text = ends(&mut ground.restore(&archive, &target), 8);
    assert!(text.contains("could not be read on the source: no text"), "{text}");
}

#[test]
fn large_objects_with_their_owners_are_compared() {
    let (ground, source, target) =
        (Ground::new(), database(&Server::shared(16), COMPUTED), Server::shared(18).database());
    let role = format!("keeper_{}", source.name);
    for side in [&source, &target] {
        side.admin_psql(&format!("CREATE ROLE {role}; GRANT {role} TO {}", side.name));
    }
    // Without a value for the setting the view cannot be filled, and the restore stops before it compares.
    source.psql(&format!(
        "SET sample.needed = '1';
        CREATE MATERIALIZED VIEW needing AS SELECT current_setting('sample.needed');
        SELECT lo_from_bytea(70005, 'kept');
        COMMENT ON LARGE OBJECT 70005 IS 'kept';
        GRANT SELECT, UPDATE ON LARGE OBJECT 70005 TO PUBLIC;
        ALTER LARGE OBJECT 70005 OWNER TO {role};
        SELECT lo_from_bytea(oid, 'x') FROM generate_series(70006, 70009) AS oid;"
    ));
    let archive = ground.dump(&source, "dump");
    let text = ends(&mut ground.restore(&archive, &target), 5);
    assert!(text.contains("sample.needed"), "{text}");
    target.admin_psql(&format!(
        "SET default_transaction_read_only = off;
        ALTER ROLE {0} IN DATABASE {0} SET sample.needed = '1';
        COMMENT ON LARGE OBJECT 70002 IS 'another';
        SELECT lo_put(70004, 4 * 1024 * 1024 + 2, 'x');
        ALTER LARGE OBJECT 70005 OWNER TO {0};
        REVOKE UPDATE ON LARGE OBJECT 70006 FROM {0}; GRANT SELECT ON LARGE OBJECT 70007 TO {role};
        SELECT lo_unlink(70008); SELECT lo_from_bytea(80000, 'more'); ALTER LARGE OBJECT 80000 OWNER TO {0};",
        target.name
    ));
    let text = ends(ground.restore(&archive, &target).arg("--resume"), 4);
    let rows: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("row ")).collect();
    let expected = [
        "70002: another comment".to_owned(),
        "70004: other contents".to_owned(),
        format!("70005: owned by {role} on the source, by {} on the target", target.name),
        format!("70006: w of {} is missing on the target", target.name),
        format!("70007: r of {role} is only on the target"),
        "70008: only on the source".to_owned(),
        "80000: only on the target".to_owned(),
    ];
    assert_eq!(rows, expected, "{text}");
    // What was set for the view came after the run began, so it is no setting that the target had before.
    assert!(text.contains("setting sample.needed of role"), "{text}");
    assert!(text.contains("DIFFERENT: large objects, 1 of 7 settings;"), "{text}");
    for side in [&source, &target] {
        side.admin_psql(&format!(
            "SET default_transaction_read_only = off; DROP OWNED BY {role}; DROP ROLE {role}"
        ));
    }
}

/// Changes the manifest's list of attachments, and seals it.
fn change_attachments(archive: &Path, change: impl FnOnce(&mut Vec<serde_json::Value>)) {
    let path = archive.join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("a manifest")).expect("JSON");
    change(manifest["attachments"].as_array_mut().expect("attachments"));
    fs::write(&path, manifest.to_string()).expect("written");
    reseal(archive);
}

#[test]
fn damage_to_what_is_compared_is_named() {
    let (ground, source) = (Ground::new(), database(&Server::shared(16), COMPUTED));
    let (archive, target) = (ground.dump(&source, "dump"), Server::shared(18).database());
    for (file, code) in [("recomputed.json.zst", 3), ("large-objects-0.json.zst", 5)] {
        let path = archive.join("attachments").join(file);
        let whole = fs::read(&path).expect("an attachment");
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 0x10;
        for damaged in [&flipped[..], &whole[..whole.len() / 2], &[]] {
            fs::write(&path, damaged).expect("damaged");
            let target = Server::shared(18).database();
            let text = ends(&mut ground.restore(&archive, &target), code);
            assert!(text.contains(file), "{text}");
            let text = ends(&mut check(&archive), 4);
            assert!(text.contains(file), "{text}");
        }
        fs::write(&path, &whole).expect("mended");
    }
    let is_recomputed = |attachment: &serde_json::Value| attachment["name"] == "recomputed.json";
    // That of a database that computes nothing.
    let other = ground.dump(&Server::shared(16).database(), "other");
    let theirs: serde_json::Value =
        serde_json::from_slice(&fs::read(other.join("manifest.json")).expect("a manifest")).expect("JSON");
    let theirs = theirs["attachments"].as_array().expect("attachments");
    let theirs = theirs.iter().find(|attachment| is_recomputed(attachment)).expect("recomputed.json").clone();
    let file = "attachments/recomputed.json.zst";
    fs::copy(other.join(file), archive.join(file)).expect("copied");
    change_attachments(&archive, |attachments| {
        let ours = attachments.iter_mut().find(|attachment| is_recomputed(attachment));
        *ours.expect("recomputed.json") = theirs;
    });
    let text = ends(&mut ground.restore(&archive, &target), 3);
    assert!(text.contains("recomputed.json is damaged: it does not name"), "{text}");
    change_attachments(&archive, |attachments| attachments.retain(|attachment| !is_recomputed(attachment)));
    let text = ends(&mut ground.restore(&archive, &target), 3);
    assert!(text.contains("the archive has no attachment recomputed.json"), "{text}");
    assert_eq!(target.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "0");
}
