//! `run --replace`: the target is emptied of what is the user's, of nothing else, and only when it is named.

use std::{thread, time::Duration};

use crate::support::{Database, Move, Running, Server, Variant, leftovers, psql, untouched, wait_until};

const EXTENSIONS: &str =
    "SELECT extname, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace ORDER BY 1";

/// One of each kind of object that an owner can make, and two extensions.
const CROWD: &str = r#"
CREATE EXTENSION pg_trgm;

CREATE SCHEMA "od""d Schema";
CREATE TYPE "od""d Schema"."Mood" AS ENUM ('good', 'bad');
CREATE TABLE "od""d Schema"."Table; DROP" (mood "od""d Schema"."Mood", embedding public.vector(3));
CREATE VIEW public.across AS SELECT * FROM "od""d Schema"."Table; DROP";

CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a integer, b mood);
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE CAST (pair AS text) WITH INOUT;
CREATE SEQUENCE counter;
CREATE TABLE asset (id serial PRIMARY KEY, mood mood, size positive, embedding vector(3), body text,
                    number integer GENERATED ALWAYS AS IDENTITY);
CREATE INDEX ON asset USING hnsw (embedding vector_l2_ops);
CREATE STATISTICS asset_facts ON id, mood FROM asset;
CREATE TABLE "Child" (id integer PRIMARY KEY, asset integer REFERENCES asset, back integer);
ALTER TABLE asset ADD COLUMN child integer REFERENCES "Child";
CREATE TABLE part (id integer, body text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_2 (id integer, body text);
ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20);
CREATE VIEW recent AS SELECT * FROM asset;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM recent;
CREATE FUNCTION overloaded(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION overloaded(VARIADIC mood[]) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "Quoted Name"(asset, OUT a integer, INOUT b text DEFAULT 'x,y') LANGUAGE sql AS $$SELECT 1, 'x'$$;
CREATE PROCEDURE proceed(IN a integer, INOUT b integer) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE add_up(integer) (SFUNC = int4pl, STYPE = integer);
CREATE AGGREGATE count_all(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON asset FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION same(mood, mood) RETURNS boolean LANGUAGE sql AS 'SELECT $1 = $2';
CREATE OPERATOR === (LEFTARG = mood, RIGHTARG = mood, FUNCTION = same);
CREATE COLLATION plain FROM "C";
CREATE CONVERSION conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION searching (PARSER = "default");
CREATE PUBLICATION changes FOR TABLE asset;
SELECT count(lo_create(0)) FROM generate_series(1, 1500);
"#;

const SOURCE: &str = "
CREATE SCHEMA album;
CREATE TABLE asset (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE album.entry (id serial PRIMARY KEY, asset integer REFERENCES asset);
INSERT INTO asset SELECT n, 'asset ' || n FROM generate_series(1, 5000) AS n;
INSERT INTO album.entry (asset) SELECT n FROM generate_series(1, 5000) AS n;
SELECT lo_from_bytea(0, 'photo');
";

fn source() -> Database {
    let source = Server::shared(15).database();
    source.psql(SOURCE);
    source
}

/// A target that an owner has filled.
fn crowded(server: &std::sync::Arc<Server>) -> Database {
    let target = server.database();
    if server.offers("vector") {
        target.admin_psql("CREATE EXTENSION vector");
        target.psql(CROWD);
    } else {
        let index = "CREATE INDEX ON asset USING hnsw (embedding vector_l2_ops);";
        target.psql(
            &CROWD.replace(index, "").replace("public.vector(3)", "real[]").replace("vector(3)", "real[]"),
        );
    }
    target
}

/// A move between shared servers, on which other tests write.
fn replacing(source: &Database, target: &Database) -> Move {
    Move::new(source, target)
        .with("--accept-writes")
        .with(&format!("--replace={}", target.name))
        .with(&format!("--owner={}", target.name))
}

/// That both are equal, but for where the target has its extensions.
fn assert_moved(source: &Database, target: &Database) {
    let names =
        "SELECT string_agg(format('%s %s', c.relkind, c.oid::regclass), ',' ORDER BY c.oid::regclass::text)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'i') AND nspname IN ('public', 'album', 'od\"d Schema')";
    assert_eq!(target.psql(names), source.psql(names));
    for rows in ["asset", "album.entry", "pg_largeobject_metadata"] {
        let count = format!("SELECT count(*) FROM {rows}");
        assert_eq!(target.psql(&count), source.psql(&count), "{rows}");
    }
    assert_eq!(leftovers(target), "");
}

#[test]
fn what_is_the_users_goes_and_extensions_stay() {
    for major in [14, 16, 17, 18] {
        let (source, target) = (Server::shared(14).database(), crowded(&Server::shared(major)));
        source.psql(SOURCE);
        target.admin_psql(&format!("ALTER DATABASE {} SET work_mem = '5MB'", target.name));
        if major < 15 {
            // There schema public is not the owner's.
            target.admin_psql("GRANT ALL ON SCHEMA public TO PUBLIC");
        }
        let before = target.psql(EXTENSIONS);
        replacing(&source, &target).run(&[]).assert(0, &[]);
        assert_eq!(target.psql(EXTENSIONS), before);
        assert_eq!(target.psql("SHOW work_mem"), "5MB");
        assert_moved(&source, &target);
    }
}

#[test]
fn a_schema_that_an_extension_stands_in_stays_without_the_users_objects() {
    let (source, target) = (source(), Server::shared(17).database());
    target.psql(
        "CREATE SCHEMA extensions;
         CREATE EXTENSION pg_trgm SCHEMA extensions;
         CREATE TABLE extensions.beside (id integer PRIMARY KEY, name text);
         CREATE INDEX ON extensions.beside USING gin (name extensions.gin_trgm_ops);
         CREATE FUNCTION extensions.like_it(text) RETURNS real LANGUAGE sql AS 'SELECT extensions.similarity($1, $1)'",
    );
    let before = target.psql(EXTENSIONS);
    replacing(&source, &target).run(&[]).assert(0, &["schema extensions is on the target"]);
    assert_eq!(target.psql(EXTENSIONS), before);
    assert_eq!(target.psql("SELECT to_regclass('extensions.beside'), to_regproc('extensions.like_it')"), "|");
    assert_eq!(target.psql("SELECT count(*) FROM asset"), "5000");
}

#[test]
fn a_schema_larger_than_the_lock_table_is_dropped_in_parts() {
    // 10 * (200 + 10) locks.
    let settings = "max_locks_per_transaction = 10".into();
    let server = Server::start(17, &Variant { settings, ..Variant::default() });
    let (source, target) = (source(), server.database());
    target.psql("CREATE SCHEMA large; CREATE TABLE part (id integer, body text) PARTITION BY LIST (id);");
    for begin in (0..400).step_by(50) {
        let end = begin + 49;
        target.psql(&format!(
            "DO $$ BEGIN FOR n IN {begin}..{end} LOOP
                 EXECUTE format('CREATE TABLE large.t%s (id serial PRIMARY KEY, body text UNIQUE)', n);
                 EXECUTE format('CREATE TABLE part_%1$s PARTITION OF part FOR VALUES IN (%1$s)', n);
             END LOOP; END $$"
        ));
    }
    let whole = psql(&target.uri(), "BEGIN; DROP SCHEMA large CASCADE; DROP TABLE part; ROLLBACK;");
    assert!(whole.is_err_and(|error| error.contains("shared memory")), "the test proves nothing");
    replacing(&source, &target).run(&[]).assert(0, &[]);
    assert_moved(&source, &target);
}

/// What there is, roughly.
fn contents(database: &Database) -> String {
    database.psql("SELECT count(*), sum(oid::bigint) FROM pg_class; SELECT count(*) FROM pg_depend; SELECT count(*) FROM pg_largeobject_metadata")
}

#[test]
fn another_name_is_refused() {
    let (source, target) = (source(), crowded(&Server::shared(17)));
    let before = contents(&target);
    let run = Move::new(&source, &target).with("--replace=other");
    run.run(&[]).assert(2, &["names database other", &target.name]);
    assert_eq!(contents(&target), before);
    assert!(!run.run_dir().exists());
}

#[test]
fn a_dry_run_lists_and_drops_nothing() {
    let quiet = Variant { settings: "autovacuum = off".into(), ..Variant::default() };
    let (source, target) = (source(), crowded(&Server::start(17, &quiet)));
    let before = untouched(&target);
    let listed = ["objects are", "of the target dropped", "and 1,5"];
    replacing(&source, &target).run(&["--dry-run"]).assert(0, &listed);
    assert!(untouched(&target) == before, "a dry run has written");
}

#[test]
fn nothing_is_dropped_where_the_role_may_not_drop_everything() {
    let (source, target) = (source(), crowded(&Server::shared(17)));
    // The owner of schema public may drop what others have in it.
    target.admin_psql("CREATE SCHEMA guarded; CREATE TABLE guarded.secret (id integer); ALTER VIEW recent OWNER TO postgres");
    let before = contents(&target);
    let run = replacing(&source, &target);
    let ended = run.run(&[]);
    ended.assert(3, &["may not drop", "schema guarded", "DROP SCHEMA IF EXISTS guarded CASCADE"]);
    assert!(!ended.output.contains("view public.recent;"), "{}", ended.output);
    assert_eq!(contents(&target), before);
    run.assert_left_only_a_report();
}

#[tokio::test]
async fn a_target_in_use_is_refused() {
    let (source, target) = (source(), crowded(&Server::shared(17)));
    let application = target.connect().await;
    let before = contents(&target);
    replacing(&source, &target).run(&[]).assert(3, &["in use", "--replace"]);
    assert_eq!(contents(&target), before);
    drop(application);
}

fn wait_for_the_record(run: &Move, running: &mut Running) {
    while !run.journal().iter().any(|record| record["record"] == "replaced") {
        assert!(running.is_running(), "{}", running.output());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_after_the_drop_it_is_resumed() {
    let (source, target) = (source(), crowded(&Server::shared(17)));
    let mut run = replacing(&source, &target);
    let mut running = run.start(&[]);
    wait_for_the_record(&run, &mut running);
    let is_over = "SELECT count(*) > 0 FROM pgmove.ledger WHERE item = 'replaced'";
    assert!(wait_until(&mut running, &target, is_over), "{}", running.output());
    running.kill();
    run.options.retain(|option| !option.starts_with("--replace"));
    run.run(&["--resume"]).assert(0, &[]);
    assert_moved(&source, &target);
}

#[tokio::test]
async fn killed_within_the_drop_it_is_resumed_by_the_journal() {
    let (source, target) = (source(), crowded(&Server::shared(17)));
    // The check cannot tell what a superuser's session is doing.
    let uri = format!("{}&application_name=pgmove", target.admin_uri());
    let (blocker, connection) =
        tokio_postgres::connect(&uri, tokio_postgres::NoTls).await.expect("a superuser may connect");
    tokio::spawn(connection);
    blocker.batch_execute("BEGIN; LOCK TABLE asset IN ACCESS SHARE MODE").await.expect("a lock");
    let mut run = replacing(&source, &target);
    let mut running = run.start(&[]);
    wait_for_the_record(&run, &mut running);
    let is_waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'asset'::regclass";
    assert!(wait_until(&mut running, &target, is_waiting), "{}", running.output());
    running.kill();
    blocker.batch_execute("ROLLBACK").await.expect("the lock is given back");
    assert_eq!(target.psql("SELECT count(*) FROM pg_largeobject_metadata"), "0");
    run.options.retain(|option| !option.starts_with("--replace"));
    run.run(&["--resume"]).assert(0, &[]);
    assert_moved(&source, &target);
}

#[test]
fn the_work_of_another_run_is_replaced_with_its_ledger_and_mark() {
    let (source, target) = (source(), Server::shared(17).database());
    let first = Move::new(&source, &target);
    let mut running = first.start(&[]);
    assert!(wait_until(&mut running, &target, "SELECT to_regclass('public.asset') IS NOT NULL"));
    running.kill();
    Move::new(&source, &target).run(&[]).assert(3, &["another run", "--replace"]);
    replacing(&source, &target).run(&[]).assert(0, &[]);
    assert_moved(&source, &target);
    assert_eq!(target.psql("SHOW default_transaction_read_only"), "off");
}
