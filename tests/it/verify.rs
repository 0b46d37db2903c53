//! `verify` on real servers: equal databases are equal, and every change of one is found and named.

use std::{path::PathBuf, sync::Arc, time::Duration};

use pgmove::{
    catalog::Catalog,
    error::{Exit, Side},
    event::Events,
    pg::{Access, ConnInfo, Defaults, Endpoint, QualifiedName, Session},
    plan::{Chunk, VectorIndexChoice, make},
    schema::ClientSearch,
    settings::Choices,
    transfer::{pages::Pages, relay},
    verify::{Aspect, Comparison, Method, Options, Outcome, Verdict, hash, subjects::Reading, verify},
};

use crate::support::{Database, Install, Server};

fn endpoint(side: Side, uri: &str) -> Endpoint {
    Endpoint {
        side,
        conninfo: Arc::new(ConnInfo::parse(uri, &Defaults::default()).expect("a URI")),
        application_name: "pgmove".into(),
        copy_encoding: None,
    }
}

fn options(method: Method, target: &Database) -> Options {
    let reading = Reading {
        method,
        jobs: 2,
        named_rows: 5,
        stall: Duration::from_secs(30),
        events: Events::none(),
        stop: tokio_util::sync::CancellationToken::new(),
    };
    let choices = Choices { owner: Some(target.name.clone()), vector_index: VectorIndexChoice::Keep };
    Options { reading, choices, client: ClientSearch::default(), scratch: PathBuf::new() }
}

async fn compared(source: &Database, target: &Database, method: Method) -> Comparison {
    compared_with(source, target, options(method, target)).await
}

async fn compared_with(source: &Database, target: &Database, mut options: Options) -> Comparison {
    let scratch = tempfile::tempdir().expect("a directory");
    options.client.directory = Some(client_directory());
    options.scratch = scratch.path().to_owned();
    let [source, target] = [(Side::Source, source), (Side::Target, target)]
        .map(|(side, database)| endpoint(side, &database.uri()));
    verify(&source, &target, &options).await.expect("both can be read")
}

/// Two equal databases on one server.
fn twins(server: &Arc<Server>) -> [Database; 2] {
    [server.database(), server.database()].map(|database| {
        database.psql(include_str!("../fixtures/verify/small.sql"));
        database
    })
}

fn client_directory() -> PathBuf {
    Install::all().last().expect("cargo xtask servers brings servers").client_bin_dir.clone()
}

#[tokio::test]
async fn parts_of_a_table_that_grows_tile_it() {
    let database = Server::shared(18).database();
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS n");
    let endpoint = endpoint(Side::Target, &database.uri());
    let session = Session::open(&endpoint, Access::Read, "").await.expect("the owner may connect");
    let (pages, table) = (Pages::default(), QualifiedName::new("public", "t"));
    let first = pages.part(&session, &table, (0, 2)).await.expect("measured");
    database.psql("INSERT INTO t SELECT generate_series(1, 50000)");
    let second = pages.part(&session, &table, (1, 2)).await.expect("measured");
    assert!(first.to.is_some_and(|to| to > 0));
    assert_eq!((first.from, first.to, second.to), (None, second.from, None));
}

/// What is not equal, a line a check. Left out: each test database has an owner of its own.
fn findings(comparison: &Comparison) -> Vec<String> {
    let checks = comparison.checks.iter();
    checks
        .filter_map(|check| {
            let what = match &check.outcome {
                Outcome::Equal => return None,
                Outcome::AsPlanned { detail } if detail.starts_with("owned by") => return None,
                Outcome::AsPlanned { .. } if check.aspect == Aspect::Schema => return None,
                Outcome::AsPlanned { detail } => format!("as planned: {detail}"),
                Outcome::Different { detail, rows } if rows.is_empty() => detail.clone(),
                Outcome::Different { detail, rows } => format!("{detail}: {}", rows.join(", ")),
                Outcome::NotCompared { reason } => format!("not compared: {reason}"),
            };
            Some(format!("{}: {what}", check.object))
        })
        .collect()
}

#[tokio::test]
async fn equal_databases_are_equal() {
    let [source, target] = twins(&Server::shared(15));
    for method in [Method::Digests, Method::Reread] {
        let comparison = compared(&source, &target, method).await;
        assert_eq!(findings(&comparison), Vec::<String>::new());
        assert_eq!(comparison.verdict(), Verdict::Equal);
        assert_eq!(
            comparison.tables.iter().find(|table| table.table == "public.nothing").expect("there").rows,
            [3, 3]
        );
    }
    let counted = compared(&source, &target, Method::Counts).await;
    assert_eq!(counted.verdict().exit(), Exit::NotAllCompared);
}

/// A change of the target, and what is said of it: all of it, how each line of it begins.
const CHANGES: &[(&str, &[&str])] = &[
    (
        "UPDATE asset SET note = 'changed' WHERE id = 500",
        &["public.asset: 1000 rows on both sides, but not the same: different: (id)=(500)"],
    ),
    (
        // Twice the same values, in other rows.
        "UPDATE asset SET taken = CASE id WHEN 7 THEN timestamptz '2024-01-01 00:08:00+00' ELSE timestamptz '2024-01-01 00:07:00+00' END WHERE id IN (7, 8)",
        &[
            "public.asset: 1000 rows on both sides, but not the same: different: (id)=(7), different: (id)=(8)",
        ],
    ),
    (
        "UPDATE asset SET note = NULL WHERE id = 3",
        &["public.asset: 1000 rows on both sides, but not the same: different: (id)=(3)"],
    ),
    (
        "DELETE FROM asset WHERE id = 11; INSERT INTO asset (id, name) VALUES (1001, 'new')",
        &[
            "public.asset: 1000 rows on both sides, but not the same: only on the source: (id)=(11), only on the target: (id)=(1001)",
            "public.asset: recomputed differently: 1000 rows on both sides, but not the same: only on the source: (id)=(11), only on the target: (id)=(1001)",
        ],
    ),
    (
        "INSERT INTO log VALUES (7, 'message 7')",
        &[
            "public.log: 100 rows on the source, 101 on the target: 2 times on the source, 3 on the target: row at (0,57)",
        ],
    ),
    (
        "DELETE FROM log WHERE ctid = '(0,100)'; INSERT INTO log VALUES (1, 'message 1')",
        &[
            "public.log: 100 rows on both sides, but not the same: 2 times on the source, 3 on the target: row at (0,1), \
           2 times on the source, 1 on the target: row at (0,100)",
        ],
    ),
    (
        "DELETE FROM \"Tag\" WHERE \"tagName\" = 'tag \"5\"'",
        &[
            "public.\"Tag\": 100 rows on the source, 99 on the target: only on the source: (owner, tagName)=(o'5, tag \"5\")",
        ],
    ),
    (
        "INSERT INTO nothing DEFAULT VALUES",
        &[
            "public.nothing: 3 rows on the source, 4 on the target: 3 times on the source, 4 on the target: row at (0,1)",
        ],
    ),
    (
        "SELECT nextval('counter')",
        &[
            "sequence public.counter: last value 42 (given out) on the source, last value 43 (given out) on the target",
        ],
    ),
    (
        "SELECT setval('counter', 42, false)",
        &[
            "sequence public.counter: last value 42 (given out) on the source, last value 42 (not given out yet) on the target",
        ],
    ),
    (
        "SELECT nextval('untouched')",
        &[
            "sequence public.untouched: last value 1 (not given out yet) on the source, last value 1 (given out) on the target",
        ],
    ),
    (
        "DROP SEQUENCE untouched",
        &[
            "sequence public.untouched: the sequence is only on the source",
            "SEQUENCE public.untouched: missing on the target",
        ],
    ),
    (
        "DROP INDEX asset_name",
        &[
            "index public.asset_name: missing on the target (on public.asset)",
            "INDEX public.asset_name: missing on the target",
        ],
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'asset_name'::regclass",
        &[
            "index public.asset_name: not valid on the target: queries do not use it",
            "INDEX public.asset_name: missing on the target",
        ],
    ),
    (
        "UPDATE pg_index SET indisready = false WHERE indexrelid = 'asset_name'::regclass",
        &[
            "index public.asset_name: not ready on the target: writes do not maintain it",
            "INDEX public.asset_name: missing on the target",
        ],
    ),
    (
        "ALTER TABLE asset DROP CONSTRAINT size_is_positive",
        &[
            "constraint size_is_positive on public.asset: missing on the target",
            "TABLE public.asset: expected `... ALWAYS AS (upper(name)) STORED, CONSTRAINT size_is_positive CHECK ((size > 0)) )`, found `... ALWAYS AS",
        ],
    ),
    (
        "ALTER TABLE child DROP CONSTRAINT child_asset; ALTER TABLE child ADD CONSTRAINT child_asset FOREIGN KEY (asset) REFERENCES asset NOT VALID",
        &[
            "constraint child_asset on public.child: all rows are checked on the source, not checked on the target",
            "FK CONSTRAINT public.child child_asset: expected",
        ],
    ),
    (
        "DROP TABLE \"Tag\"",
        &[
            "public.\"Tag\": the table is only on the source",
            "index public.\"Tag_pkey\": missing on the target (on public.\"Tag\")",
            "constraint \"Tag_pkey\" on public.\"Tag\": missing on the target",
            "CONSTRAINT public.Tag Tag_pkey: missing on the target",
            "RULE public.Tag ignore: missing on the target",
            "TABLE public.Tag: missing on the target",
        ],
    ),
    (
        "CREATE TABLE more (id integer)",
        &[
            "public.more: the table is only on the target",
            "schema: not compared: could not dump the schema of the target: pg_dump failed",
        ],
    ),
    (
        "ALTER TABLE log ADD COLUMN more integer",
        &["public.log: column more is only on the target", "TABLE public.log: expected"],
    ),
    (
        "ALTER TABLE log RENAME COLUMN at TO \"when\"",
        &[
            "public.log: column at is only on the source; column when is only on the target",
            "RULE public.Tag ignore: expected",
            "TABLE public.log: expected",
        ],
    ),
    (
        "SET lc_messages = 'C'; UPDATE asset SET name = 'Asset 9' WHERE id = 9",
        &["public.asset: 1000 rows on both sides, but not the same: different: (id)=(9)"],
    ),
    ("REFRESH MATERIALIZED VIEW empty", &["public.empty: it holds rows on the target only; refresh it"]),
    (
        "ALTER TABLE asset DISABLE TRIGGER USER; UPDATE asset SET size = 5000 WHERE id = 1; REFRESH MATERIALIZED VIEW summary",
        &[
            "public.asset: 1000 rows on both sides, but not the same: different: (id)=(1)",
            "public.summary: recomputed differently: 1 rows on both sides, but not the same: only on the source: row at (0,1), only on the target: row at (0,1)",
        ],
    ),
    (
        "SELECT lo_put(70002, 2999999, 'x')",
        &["large objects: 2 on the source, 2 on the target; 1 differ: 70002: other contents"],
    ),
    (
        "SELECT lo_unlink(70001)",
        &["large objects: 2 on the source, 1 on the target; 1 differ: 70001: only on the source"],
    ),
    (
        "COMMENT ON LARGE OBJECT 70001 IS 'another'",
        &["large objects: 2 on the source, 2 on the target; 1 differ: 70001: another comment"],
    ),
    (
        "GRANT SELECT ON LARGE OBJECT 70001 TO PUBLIC",
        &[
            "large objects: 2 on the source, 2 on the target; 1 differ: 70001: r of everyone is only on the target",
        ],
    ),
    (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem TO %L', current_database(), '5MB'); END $$",
        &["setting work_mem: only on the target"],
    ),
    (
        "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE %I IS %L', current_database(), 'new'); END $$",
        &["comment on the database: the comments differ"],
    ),
    (
        "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",
        &["rights on the database: c of everyone is missing on the target"],
    ),
    (
        "SELECT lo_create(70003)",
        &[
            "large objects: not compared: could not be read on the target: permission denied for large object 70003 (SQLSTATE 42501)",
        ],
    ),
    (
        "ALTER TABLE log OWNER TO postgres",
        &[
            "public.log: not compared: could not be read on the target: permission denied for table log (SQLSTATE 42501)",
            "schema: not compared: could not dump the schema of the target: pg_dump failed",
        ],
    ),
    (
        "CREATE OR REPLACE VIEW large AS SELECT asset.id, asset.name FROM asset WHERE asset.size > 501",
        &["VIEW public.large: expected `... WHERE (asset.size > 500)`, found `... WHERE (asset.size > 501)`"],
    ),
    (
        "CREATE OR REPLACE FUNCTION twice(integer) RETURNS integer LANGUAGE sql AS 'SELECT $1 * 3'",
        &["FUNCTION public.twice(integer): expected"],
    ),
    ("ALTER TABLE asset ALTER COLUMN note SET DEFAULT 'x'", &["TABLE public.asset: expected"]),
    ("ALTER TABLE asset ALTER COLUMN note TYPE varchar(90)", &["TABLE public.asset: expected"]),
    ("COMMENT ON TABLE log IS 'new'", &["COMMENT public.TABLE log: only on the target"]),
    ("GRANT SELECT ON log TO PUBLIC", &["ACL public.TABLE log: only on the target"]),
    ("DROP POLICY own ON child", &["POLICY public.child own: missing on the target"]),
    ("CREATE TYPE mood AS ENUM ('sad')", &["TYPE public.mood: only on the target"]),
    ("CREATE EXTENSION hstore", &["extension hstore: as planned: only on the target, which may offer more"]),
];

#[tokio::test]
async fn every_change_of_one_side_is_found_and_named() {
    let server = Server::shared(15);
    let source = server.database();
    source.psql(include_str!("../fixtures/verify/small.sql"));
    let mut wrong = Vec::new();
    for (change, expected) in CHANGES {
        let target = server.database();
        target.psql(include_str!("../fixtures/verify/small.sql"));
        target.admin_psql(change);
        let comparison = compared(&source, &target, Method::Digests).await;
        let found = findings(&comparison);
        let is_expected = |(found, expected): (&String, &&str)| found.starts_with(expected);
        if found.len() != expected.len() || !found.iter().zip(*expected).all(is_expected) {
            wrong.push(format!("{change}\n  found    {found:#?}\n  expected {expected:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Both ways of hashing give the same bits, for every type, on the oldest server and on the newest, and where
/// texts travel in another encoding than UTF-8.
#[tokio::test]
async fn the_server_hashes_rows_as_pgmove_does() {
    for (major, options, copy_encoding) in [
        (12, "", None),
        (15, "", None),
        (18, "", None),
        (15, "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'", Some("LATIN1".to_owned())),
    ] {
        let database = Server::shared(major).database_with(options);
        database.psql(include_str!("../fixtures/verify/every_type.sql"));
        if database.psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'hstore'") == "1" {
            database.admin_psql("CREATE EXTENSION hstore; ALTER TABLE every_type ADD h hstore DEFAULT 'a=>1', ADD hs hstore[] DEFAULT '{a=>1}'");
        }
        let endpoint = Endpoint { copy_encoding, ..endpoint(Side::Target, &database.uri()) };
        let session = Session::open(&endpoint, Access::Read, "pg_catalog").await.expect("a session");
        let catalog = Catalog::read(&session.client, Side::Target).await.expect("a catalog");
        let tables = make::tables(&catalog, &catalog, 1, None);
        assert!(tables.iter().any(|table| !table.masked().is_empty()), "arrays of user types are masked");
        assert!(tables.iter().any(|table| table.text_reason().is_some()), "some types are hashed as text");
        for table in &tables {
            let rows = session.copy_out(&table.copy_hashed(Chunk::WHOLE)).await.expect("rows");
            let here = relay::read(
                rows,
                table.columns.len(),
                &table.masked(),
                Duration::from_secs(9).into(),
                |_, _| (),
            )
            .await
            .expect("proper rows");
            session.copy_ended().await.expect("the session goes on");
            let there = hash::digest(&session, table, Chunk::WHOLE).await.expect("a digest");
            assert_eq!(here, there, "{} on {major}", table.name);
            assert!(here.rows > 0);
        }
    }
}

/// Vectors in clusters, so that recall means something, under every kind of index.
#[tokio::test]
async fn vector_indexes_are_asked() {
    let server = Server::shared(16);
    let [source, target] = [server.database(), server.database()].map(|database| {
        database.admin_psql("CREATE EXTENSION vector; CREATE EXTENSION vchord");
        database.psql(include_str!("../fixtures/verify/vectors.sql"));
        database
    });
    let comparison = compared(&source, &target, Method::Digests).await;
    assert_eq!(findings(&comparison), Vec::<String>::new());
    let results = &comparison.vector_search;
    assert_eq!(results.len(), 6, "{results:#?}");
    for result in results {
        assert!(result.is_used, "{result:#?}");
        match result.index.as_str() {
            "public.on_nothing" => assert_eq!((result.recall_at_10, result.sample), (None, 0)),
            _ => assert!(result.recall_at_10.is_some_and(|recall| recall >= 0.9), "{result:#?}"),
        }
    }
    target.admin_psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'graph'::regclass");
    let comparison = compared(&source, &target, Method::Digests).await;
    assert_eq!(
        findings(&comparison),
        [
            "index public.graph: not valid on the target: queries do not use it",
            "index public.graph: a nearest-neighbour query does not use the index",
            "INDEX public.graph: missing on the target"
        ]
    );
}

/// From 16 on, definitions are written without the names of tables where there is one; they are equal all the same.
#[tokio::test]
async fn definitions_that_majors_write_differently_are_compared_by_the_target() {
    let [source, target] = [15, 18].map(|major| {
        let database = Server::shared(major).database();
        database.psql(include_str!("../fixtures/verify/small.sql"));
        database
    });
    let view = "SELECT pg_get_viewdef('large'::regclass)";
    assert_ne!(source.psql(view), target.psql(view), "else this test shows nothing");
    let comparison = compared(&source, &target, Method::Digests).await;
    assert_eq!(findings(&comparison), Vec::<String>::new());
    assert_eq!(comparison.verdict(), Verdict::Equal);

    target.psql(
        "CREATE OR REPLACE VIEW large AS SELECT id, name FROM asset WHERE size > 501;
        ALTER POLICY own ON child USING (asset IN (SELECT id FROM asset WHERE size > 6));
        CREATE OR REPLACE RULE ignore AS ON UPDATE TO \"Tag\" DO ALSO DELETE FROM log WHERE at = 98;
        DROP MATERIALIZED VIEW empty; CREATE MATERIALIZED VIEW empty AS SELECT id + 0 AS id FROM asset WITH NO DATA;",
    );
    let comparison = compared(&source, &target, Method::Digests).await;
    let found: Vec<String> =
        findings(&comparison).iter().map(|line| line.split(": ").next().unwrap_or(line).to_owned()).collect();
    assert_eq!(
        found,
        [
            "MATERIALIZED VIEW public.empty",
            "POLICY public.child own",
            "RULE public.Tag ignore",
            "VIEW public.large"
        ]
    );
    // Nothing of the trials is left, and what may not be written to cannot be asked.
    assert!(target.psql("SELECT pg_get_viewdef('large'::regclass)").contains("501"));
}

/// What stands before or after the columns of an index, or beside a query, counts as well.
#[tokio::test]
async fn all_of_an_index_and_of_a_materialised_view_is_compared_between_majors() {
    let [source, target] = [15, 17].map(|major| {
        let database = Server::shared(major).database();
        database.psql(
            "CREATE TABLE item (id integer, name text);
            CREATE UNIQUE INDEX one ON item (id);
            CREATE UNIQUE INDEX \"a USING b\" ON item (name) NULLS NOT DISTINCT;
            CREATE INDEX few ON item (name) INCLUDE (id) WITH (fillfactor = 70) WHERE id > 0;
            CREATE MATERIALIZED VIEW names WITH (fillfactor = 70, toast.autovacuum_enabled = false) AS SELECT name FROM item;",
        );
        database
    });
    let comparison = compared(&source, &target, Method::Digests).await;
    assert_eq!(findings(&comparison), Vec::<String>::new());
    let view = "CREATE MATERIALIZED VIEW names WITH (fillfactor = 70";
    for (change, object) in [
        ("DROP INDEX one; CREATE INDEX one ON item (id)", "INDEX public.one"),
        (
            "DROP INDEX \"a USING b\"; CREATE UNIQUE INDEX \"a USING b\" ON item (name)",
            "INDEX public.a USING b",
        ),
        (
            "DROP INDEX few; CREATE INDEX few ON item (name) INCLUDE (id) WITH (fillfactor = 70) WHERE id > 1",
            "INDEX public.few",
        ),
        ("ALTER INDEX few SET (fillfactor = 80)", "INDEX public.few"),
        ("ALTER MATERIALIZED VIEW names RESET (fillfactor)", "MATERIALIZED VIEW public.names"),
        (
            &format!("DROP MATERIALIZED VIEW names; {view}) AS SELECT name FROM item"),
            "MATERIALIZED VIEW public.names",
        ),
    ] {
        target.psql(change);
        let found = findings(&compared(&source, &target, Method::Digests).await);
        assert!(
            found.iter().any(|line| line.starts_with(&format!("{object}: expected"))),
            "{change}: {found:#?}"
        );
    }
}

/// Queries use an index by the distance of its operator class.
#[tokio::test]
async fn a_vector_index_of_another_distance_or_kind_is_found() {
    let server = Server::shared(16);
    let pair = || {
        [server.database(), server.database()].map(|database| {
            database.admin_psql("CREATE EXTENSION vector");
            database.psql(
                "CREATE TABLE photo (id integer PRIMARY KEY, embedding vector(3));
                INSERT INTO photo SELECT n, ARRAY[n, n % 7, 1]::real[]::vector FROM generate_series(1, 100) AS n;
                CREATE INDEX near ON photo USING hnsw (embedding vector_cosine_ops) WITH (m = 8);",
            );
            database
        })
    };
    let [source, target] = pair();
    let (all, but_auto) = ([VectorIndexChoice::Keep, VectorIndexChoice::Auto], [VectorIndexChoice::Keep]);
    for (index, different) in [
        ("hnsw (embedding vector_cosine_ops) WITH (m = 8)", &[][..]),
        ("hnsw (embedding vector_l2_ops) WITH (m = 8)", &all[..]),
        ("hnsw (embedding vector_cosine_ops) WITH (m = 9)", &but_auto),
        ("ivfflat (embedding vector_cosine_ops) WITH (lists = 1)", &but_auto),
        ("ivfflat (embedding) WITH (lists = 1)", &all),
    ] {
        target.psql(&format!("DROP INDEX near; CREATE INDEX near ON photo USING {index}"));
        for choice in all {
            let mut options = options(Method::Digests, &target);
            options.choices.vector_index = choice;
            let found = findings(&compared_with(&source, &target, options).await);
            let is_found = found.iter().any(|line| line.starts_with("INDEX public.near: expected"));
            assert_eq!(is_found, different.contains(&choice), "{index} with {choice:?}: {found:#?}");
        }
    }
}

/// Wide rows are hashed by their servers, and a table of several chunks is read in parts on both sides.
#[tokio::test]
async fn large_tables_are_read_in_parts() {
    let server = Server::shared(17);
    let [source, target] = [server.database(), server.database()].map(|database| {
        database.psql(
            "CREATE TABLE wide (id integer PRIMARY KEY, page text);
            ALTER TABLE wide ALTER page SET STORAGE EXTERNAL;
            INSERT INTO wide SELECT n, repeat(md5(n::text), 700) FROM generate_series(1, 2500) AS n;
            CREATE TABLE narrow (id integer PRIMARY KEY, word text);
            INSERT INTO narrow SELECT n, md5(n::text) FROM generate_series(1, 600000) AS n;
            ANALYZE;",
        );
        database
    });
    // Other pages on the target.
    target.psql("DELETE FROM narrow WHERE id <= 200000; INSERT INTO narrow SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n");
    let client = source.connect().await;
    let catalog = Catalog::read(&client, Side::Source).await.expect("a catalog");
    let tables = make::tables(&catalog, &catalog, 2, None);
    assert!(tables.iter().all(|table| table.chunks.len() > 1), "{tables:#?}");
    assert_eq!(tables.iter().map(hash::is_hashed_by_server).collect::<Vec<_>>(), [false, true]);
    let comparison = compared(&source, &target, Method::Digests).await;
    assert_eq!(findings(&comparison), Vec::<String>::new());
    target.psql(
        "UPDATE narrow SET word = 'x' WHERE id IN (77, 599999); UPDATE wide SET page = page || 'x' WHERE id = 2000;
        DELETE FROM wide WHERE id = 5",
    );
    let comparison = compared(&source, &target, Method::Digests).await;
    assert_eq!(
        findings(&comparison)[..2],
        [
            "public.narrow: 600000 rows on both sides, but not the same: different: (id)=(77), different: (id)=(599999)",
            "public.wide: 2500 rows on the source, 2499 on the target: only on the source: (id)=(5), different: (id)=(2000)"
        ]
    );
}

/// The sample library, filled on both sides, from a major to a newer one: no false alarm.
#[tokio::test]
async fn equal_libraries_on_two_majors_are_equal() {
    const FILES: [&str; 5] = [
        include_str!("../fixtures/library/schema.sql"),
        include_str!("../fixtures/library/vectors-pgvector.sql"),
        include_str!("../fixtures/library/oddities.sql"),
        include_str!("../fixtures/library/fill.sql"),
        include_str!("../fixtures/library/vectors-pgvector-indexes.sql"),
    ];
    let [source, target] = [15, 17].map(|major| {
        let database = Server::shared(major).database();
        database.admin_psql(include_str!("../fixtures/library/extensions.sql"));
        let sql = format!(
            "SET library.photos = '200'; SET library.dimensions = '32'; SET client_min_messages = 'warning';\n{}",
            FILES.join("\n")
        );
        database.psql(&sql);
        database
    });
    let comparison = compared(&source, &target, Method::Digests).await;
    assert_eq!(
        findings(&comparison),
        ["extension earthdistance: as planned: version 1.1 on the source, 1.2 on the target"]
    );
}
