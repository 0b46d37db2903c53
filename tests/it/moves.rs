//! Whole moves on real servers: everything arrives, nothing of pgmove stays, and the source is only read.

use std::sync::Arc;

use crate::support::{
    Move, SMALL, Server, State, Variant, Vectors, images, leftovers, pairs, pgmove, psql, smoke_pair, state,
    untouched,
};

/// A source that nothing but the test writes to: no other test, no autovacuum.
fn quiet(major: u32) -> Arc<Server> {
    Server::start(major, &Variant { settings: "autovacuum = off".into(), ..Variant::default() })
}

/// What a legacy vector extension and its indexes become is another server's object of the same name.
fn comparable(state: State) -> State {
    state.without(&["comment on extension"])
}

/// The source must be quiet.
fn library_moves(source: &Arc<Server>, target: &Arc<Server>) {
    let source = SMALL.fill(source, Vectors::of(source));
    let target = target.database();
    let before = untouched(&source);
    let run = Move::new(&source, &target);
    run.run(&[]).assert(0, &[]);
    assert_eq!(untouched(&source), before);
    assert_eq!(leftovers(&target), "");
    comparable(state(&target)).assert_equal(&comparable(state(&source)));
    assert!(run.journal().iter().any(|record| record["record"] == "finished"));
}

#[test]
fn the_library_moves_from_14_to_16() {
    library_moves(&quiet(14), &Server::shared(16));
}

#[test]
fn the_library_moves_from_15_to_17() {
    library_moves(&quiet(15), &Server::shared(17));
}

#[test]
fn the_library_moves_from_16_to_18() {
    library_moves(&quiet(16), &Server::shared(18));
}

#[test]
fn the_library_moves_between_containers() {
    let Some((source, target)) = images() else { return };
    let (source, target) = (Server::start_image(&source), Server::shared_image(&target));
    // Each in a call of its own: ALTER SYSTEM refuses a transaction.
    for statement in ["ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"] {
        psql(&source.uri("postgres"), statement).expect("a superuser may");
    }
    library_moves(&source, &target);
}

/// Dry run, fence, a kill, the resume, and a comparison by itself.
#[test]
fn a_whole_window_on_every_pair() {
    for pair in pairs() {
        let source = SMALL.fill(&pair.source, Vectors::of(&pair.source));
        let target = pair.target.database();
        let before = state(&target);
        // Other tests write to the same server.
        let run = Move::new(&source, &target).with("--accept-writes");
        run.run(&["--dry-run"]).assert(0, &["public.asset"]);
        state(&target).assert_equal(&before);
        let mut running = run.start(&["--fence"]);
        assert!(running.reaches("copy"), "{}", running.output());
        running.kill();
        run.run(&["--resume"]).assert(0, &[]);
        assert_eq!(leftovers(&target), "");
        psql(&source.uri(), "CREATE TABLE late ()").expect_err("the source is fenced");
        let pgmove_on_source = |arguments: &[&str]| {
            let mut command = pgmove();
            command.args(arguments).args(["--source", &source.uri()]);
            command
        };
        pgmove_on_source(&["unfence"]).arg("--run-dir").arg(run.run_dir()).assert().success();
        comparable(state(&target)).assert_equal(&comparable(state(&source)));
        pgmove_on_source(&["verify", "--target", &target.uri()]).assert().success();
        target.psql("DELETE FROM asset_exif WHERE ctid = (SELECT min(ctid) FROM asset_exif)");
        pgmove_on_source(&["verify", "--target", &target.uri()]).assert().code(4);
    }
}

/// Where the source has VectorChord already, Immich's index and another of its access method stay what they are.
#[test]
fn indexes_of_vectorchord_are_kept() {
    let (server, targets) = (quiet(16), Server::shared(18));
    for options in [&[][..], &["--vector-index=keep"]] {
        let (source, target) = (server.database(), targets.database());
        source.admin_psql("CREATE EXTENSION vchord CASCADE");
        source.psql(include_str!("../fixtures/verify/vectors.sql"));
        // In so small a table the planner goes by the key instead.
        source.psql("DROP INDEX some_only");
        Move::new(&source, &target).run(options).assert(0, &["recall"]);
        assert_eq!(leftovers(&target), "");
        let methods = "SELECT string_agg(amname, ' ' ORDER BY c.relname) FROM pg_class AS c
                       JOIN pg_am AS am ON am.oid = c.relam WHERE c.relkind = 'i' AND amname <> 'btree'";
        assert_eq!(target.psql(methods), "vchordrq hnsw ivfflat vchordrq hnsw");
        assert_eq!(target.psql(methods), source.psql(methods));
    }
}

/// From 0.3 on pgvecto.rs has a binary form, but its own.
#[test]
fn embeddings_of_a_newer_pgvecto_rs_arrive_too() {
    let server = quiet(16);
    if !server.offers("vectors") {
        return;
    }
    let (source, target) = (server.database(), Server::shared(18).database());
    source.admin_psql("CREATE EXTENSION vectors VERSION '0.4.0'; GRANT USAGE ON SCHEMA vectors TO PUBLIC");
    source.psql(
        "CREATE TABLE smart_search (id integer PRIMARY KEY, embedding vectors.vector(3));
         INSERT INTO smart_search SELECT n, ARRAY[n, 1.0 / n, -0.5]::real[] FROM generate_series(1, 500) AS n;
         CREATE INDEX clip_index ON smart_search USING vectors (embedding vectors.vector_cos_ops)",
    );
    Move::new(&source, &target).run(&[]).assert(0, &[]);
    let sum = "SELECT md5(string_agg(id || (embedding::real[])::text, ',' ORDER BY id)) FROM smart_search";
    assert_eq!(target.psql(sum), source.psql(sum));
    assert_eq!(leftovers(&target), "");
}

#[test]
fn a_dry_run_writes_nothing_on_either_side() {
    let (source_server, target_server) = (quiet(15), quiet(17));
    let source = SMALL.fill(&source_server, Vectors::of(&source_server));
    let target = target_server.database();
    let before = (untouched(&source), untouched(&target));
    let run = Move::new(&source, &target);
    run.run(&["--dry-run", "--digests"]).assert(0, &["public.asset"]);
    assert!((untouched(&source), untouched(&target)) == before, "a dry run has written");
    assert!(!run.run_dir().exists());
}

#[test]
fn the_oldest_source_moves_to_the_newest_target() {
    let pair = smoke_pair();
    let (source, target) = (pair.source.database(), pair.target.database());
    source.psql(
        "CREATE TABLE album (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, shared boolean);
         CREATE TABLE photo (id bigserial PRIMARY KEY, album integer REFERENCES album, taken timestamptz,
                             bytes bigint, megabytes numeric GENERATED ALWAYS AS (bytes / 1e6) STORED, embedding real[]);
         CREATE UNLOGGED TABLE thumbnail (photo bigint, body bytea);
         CREATE INDEX ON photo (taken DESC);
         CREATE VIEW recent AS SELECT id, taken FROM photo WHERE taken > '2020-01-01';
         INSERT INTO album (name, shared) SELECT 'album ' || n, NULLIF(n % 3, 0) = 1 FROM generate_series(1, 100) AS n;
         INSERT INTO photo (album, taken, bytes, embedding)
         SELECT n % 100 + 1, '2019-01-01'::timestamptz + n * interval '1 hour', n * 1000, ARRAY[n, 1.0 / n, 0]
         FROM generate_series(1, 20000) AS n;
         INSERT INTO thumbnail SELECT n, decode(md5(n::text), 'hex') FROM generate_series(1, 1000) AS n;
         SELECT lo_from_bytea(0, 'photo')",
    );
    // The server is shared with other tests, which write.
    Move::new(&source, &target).with("--accept-writes").run(&[]).assert(0, &[]);
    assert_eq!(leftovers(&target), "");
    state(&target).assert_equal(&state(&source));
}

#[test]
fn hostile_settings_of_the_source_change_no_value() {
    let server = quiet(15);
    let source = SMALL.fill(&server, Vectors::of(&server));
    source.psql(include_str!("../fixtures/library/settings-hostile.sql"));
    let target = Server::shared(17).database();
    let expected = state(&source);
    Move::new(&source, &target).run(&[]).assert(0, &[]);
    // That the source refuses writes is the fence's doing, or as good as that: the target is to be written.
    assert_eq!(leftovers(&target), "");
    comparable(state(&target)).assert_equal(&comparable(expected));
}

/// Defaults of the target's database and of both roles, on top of those of the source's database.
#[test]
fn hostile_settings_of_the_target_and_of_roles_change_no_value() {
    let hostile = include_str!("../fixtures/library/settings-hostile.sql");
    let server = quiet(16);
    let source = SMALL.fill(&server, Vectors::of(&server));
    let target = Server::shared(18).database();
    // A target that refuses writes is refused itself.
    let writable: Vec<&str> = hostile.lines().filter(|line| !line.contains("read_only")).collect();
    let of_role = writable.join("\n").replace("ALTER DATABASE %s", "ALTER ROLE %s");
    target.psql(&writable.join("\n"));
    for database in [&source, &target] {
        // The owner has the database's name.
        database.admin_psql(&of_role);
    }
    let expected = state(&source);
    Move::new(&source, &target).run(&[]).assert(0, &[]);
    assert_eq!(leftovers(&target), "");
    comparable(state(&target)).assert_equal(&comparable(expected));
}
