//! What an ordinary role may not do on the target is known before anything is written, whatever it is.

use crate::support::{Cut, Database, Fault, Move, Proxy, Server, leftovers, state};

fn pair() -> (Database, Database) {
    (Server::shared(16).database(), Server::shared(17).database())
}

/// Without `--target-admin`.
fn ordinary(source: &Database, target: &Database) -> Move {
    // The server is shared with other tests, which write.
    let mut run = Move::new(source, target).with("--accept-writes");
    run.admin = None;
    run
}

fn settings(database: &Database) -> String {
    database.admin_psql(
        "SELECT setconfig FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase
         WHERE d.datname = current_database() AND setrole = 0",
    )
}

#[test]
fn a_setting_of_a_superuser_is_asked_for_before_the_copy() {
    let (source, target) = pair();
    source.psql("CREATE TABLE photo (id integer)");
    let set = |database: &Database| {
        format!("ALTER DATABASE {} SET log_min_duration_statement = '5s'", database.name)
    };
    source.admin_psql(&set(&source));
    let run = ordinary(&source, &target);
    let statement = format!("ALTER DATABASE \"{}\" SET \"log_min_duration_statement\" TO '5s'", target.name);
    for options in [&[][..], &["--dry-run"]] {
        run.run(options).assert(3, &["needs-superuser", &statement, "--target-admin"]);
    }
    assert_eq!((leftovers(&target), settings(&target)), (String::new(), String::new()));
    run.assert_left_only_a_report();
    // With one, or where one has set it, the move goes through.
    target.admin_psql(&set(&target));
    run.run(&[]).assert(0, &["equal: "]);
    let target = Server::shared(17).database();
    Move::new(&source, &target).with("--accept-writes").run(&[]).assert(0, &["equal: "]);
    assert_eq!(settings(&target), settings(&source));
}

#[test]
fn a_setting_of_pgvector_needs_nobody() {
    let (source, target) = pair();
    for database in [&source, &target] {
        database.admin_psql("CREATE EXTENSION vector");
    }
    source.psql("CREATE TABLE photo (id integer, embedding vector(3))");
    source.admin_psql(&format!(
        "ALTER DATABASE {0} SET hnsw.ef_search = 50; ALTER DATABASE {0} SET ivfflat.probes = 3",
        source.name
    ));
    ordinary(&source, &target).run(&[]).assert(0, &["equal: "]);
    assert_eq!(settings(&target), settings(&source));
    // Another library's is a placeholder, which only a superuser may set.
    source.admin_psql(&format!("ALTER DATABASE {} SET photo.library = 'family'", source.name));
    let target = Server::shared(17).database();
    target.admin_psql("CREATE EXTENSION vector");
    ordinary(&source, &target).run(&[]).assert(3, &["needs-superuser", "\"photo\".\"library\" TO '***'"]);
}

/// Extensions with configuration tables are rare: this makes one of another.
fn configure(database: &Database, rows: &str) {
    database.admin_psql(&format!(
        "CREATE EXTENSION hstore;
        CREATE TABLE place (id integer PRIMARY KEY, name text, is_own boolean);
        CREATE SEQUENCE place_id START 5;
        GRANT SELECT ON place, place_id TO PUBLIC;
        ALTER EXTENSION hstore ADD TABLE place;
        ALTER EXTENSION hstore ADD SEQUENCE place_id;
        UPDATE pg_extension SET extconfig = ARRAY['place'::regclass::oid, 'place_id'::regclass::oid],
            extcondition = ARRAY['WHERE is_own', ''] WHERE extname = 'hstore';
        INSERT INTO place VALUES (1, 'north pole', false), (2, 'south pole', false);
        {rows}"
    ));
}

#[test]
fn configuration_tables_of_extensions_are_moved_by_a_superuser_or_not_at_all() {
    let (source, target) = pair();
    configure(&source, "INSERT INTO place VALUES (3, 'home', true); SELECT setval('place_id', 9)");
    source.psql("CREATE TABLE photo (id integer)");
    configure(&target, "");
    let mut run = ordinary(&source, &target).with("--owner").with(&target.name);
    run.run(&[])
        .assert(3, &["extension-configuration", "hstore", "public.place", "public.place_id", "--owner"]);
    assert_eq!(leftovers(&target), "");
    run.target = target.admin_uri();
    run.run(&[]).assert(0, &["equal: "]);
    assert_eq!(
        target.psql("SELECT id, name, is_own FROM place ORDER BY id"),
        "1|north pole|f\n2|south pole|f\n3|home|t"
    );
    state(&target).assert_equal(&state(&source));
}

const EVENT_TRIGGER: &str = "
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION watch();
";

#[test]
fn a_superusers_statement_whose_answer_is_lost_is_sent_once() {
    let (source, target) = pair();
    source.admin_psql(EVENT_TRIGGER);
    let mut run = Move::new(&source, &target).with("--accept-writes");
    let proxy = Proxy::start(target.server.port);
    run.admin = Some(proxy.uri(&target.admin_uri(), target.server.port));
    proxy.set(Fault { words: "CREATE EVENT TRIGGER", spared: 0, cut: Cut::Answer(0), times: 1 });
    run.run(&[]).assert(0, &["going on from the journal"]);
    assert_eq!(proxy.fired(), 1);
    assert_eq!(leftovers(&target), "");
}

#[test]
fn an_administrator_of_another_database_is_refused() {
    let (source, target) = pair();
    let other = Server::shared(17).database();
    let mut run = Move::new(&source, &target);
    run.admin = Some(other.admin_uri());
    run.run(&[]).assert(3, &["--target-admin leads to another database", &other.name, &target.name]);
    assert_eq!((leftovers(&target), leftovers(&other)), (String::new(), String::new()));
}
