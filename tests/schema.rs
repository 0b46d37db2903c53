//! A hard schema goes through pg_dump, the entries and a session, and comes out equal.
//!
//! Needs two servers of one or two majors and is run by hand:
//! `PGMOVE_TEST_BIN=<client tools> PGMOVE_TEST_SOURCE=<keywords> PGMOVE_TEST_TARGET=<keywords> cargo test --test schema -- --ignored`
//! The keywords name superusers and a maintenance database; databases `pgmove_schema_*` are made and dropped.

use std::path::Path;
use std::time::Duration;

use pgmove::schema::{
    ChildEndpoint, ChildLimits, ClientSearch, ClientTools, DumpRequest, Entry, EntryClass, SESSION_SETTINGS,
    SchemaDump, Tolerance, compare, dump_schema, read_archive,
};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

const NASTY: &str = include_str!("fixtures/schema/nasty.sql");

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set"))
}

async fn connect(keywords: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(keywords, NoTls).await.expect("the server answers");
    tokio::spawn(connection);
    client
}

/// A new database; its keywords.
async fn database(server: &str, name: &str) -> String {
    let client = connect(server).await;
    drop_subscriptions(server, name).await;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await.expect("dropped");
    let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
    client.batch_execute(&create).await.expect("created");
    format!("{server} dbname={name}")
}

/// A database with a subscription cannot be dropped.
async fn drop_subscriptions(server: &str, name: &str) {
    let keywords = format!("{server} dbname={name}");
    let Ok((client, connection)) = tokio_postgres::connect(&keywords, NoTls).await else { return };
    tokio::spawn(connection);
    let _ = client.batch_execute("DROP SUBSCRIPTION IF EXISTS sub").await;
}

async fn dump(tools: &ClientTools, keywords: &str, snapshot: Option<&str>, archive: &Path) -> SchemaDump {
    let limits = ChildLimits { stall: Duration::from_secs(60), cancel: CancellationToken::new() };
    let endpoint = ChildEndpoint { dbname_keywords: keywords.to_owned(), passfile_line: None };
    let request = DumpRequest { tools, endpoint: &endpoint, snapshot, archive, limits: &limits };
    dump_schema(&request)
        .await
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

async fn apply(client: &Client, entries: &[Entry]) {
    for (name, value) in SESSION_SETTINGS {
        client.execute("SELECT set_config($1, $2, false)", &[&name, &value]).await.expect("a setting");
    }
    for entry in entries {
        for statement in entry.commands() {
            if let Err(error) = client.batch_execute(&statement).await {
                panic!("{}: {:?}\n{statement}", entry.object(), error.as_db_error());
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs servers, see the head of this file"]
async fn a_hard_schema_comes_out_equal() {
    let (source_server, target_server) = (setting("PGMOVE_TEST_SOURCE"), setting("PGMOVE_TEST_TARGET"));
    let search = ClientSearch { directory: Some(setting("PGMOVE_TEST_BIN").into()), ..Default::default() };
    let tools = ClientTools::find(&search, 14).await.expect("client tools");
    let scratch = tempfile::tempdir().expect("a directory");

    let source_keywords = database(&source_server, "pgmove_schema_source").await;
    let source = connect(&source_keywords).await;
    source.batch_execute(NASTY).await.expect("the fixture loads");
    source.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.expect("begun");
    let row = source.query_one("SELECT pg_export_snapshot()", &[]).await.expect("a snapshot");
    let snapshot: String = row.get(0);
    let archive = scratch.path().join("source.dump");
    let dumped = dump(&tools, &source_keywords, Some(&snapshot), &archive).await;
    source.batch_execute("ROLLBACK").await.expect("ended");
    println!("{} entries, warnings {:?}", dumped.entries.len(), dumped.warnings);

    let limits = ChildLimits { stall: Duration::from_secs(60), cancel: CancellationToken::new() };
    let again = read_archive(&tools, &archive, &limits).await.expect("the archive is read again");
    assert_eq!(again.entries, dumped.entries);
    assert!(!dumped.entries.iter().any(|entry| entry.class.name().starts_with("BLOB")));

    let target_keywords = database(&target_server, "pgmove_schema_target").await;
    let target = connect(&target_keywords).await;
    for role in ["nasty_owner", "\"Nasty-Reader; --\""] {
        let _ = target.batch_execute(&format!("CREATE ROLE {role}")).await;
    }
    // Tables with the names of the fixture's exist exactly as they do on the source.
    apply(&target, &dumped.entries).await;
    let relations = "SELECT nspname, relname, relkind::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                     WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' ORDER BY 1, 2";
    let names = async |client: &Client| -> Vec<(String, String, String)> {
        let rows = client.query(relations, &[]).await.expect("the catalog");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    };
    let (ours, theirs) = (names(&source).await, names(&target).await);
    assert_eq!(ours, theirs);

    // Every table, index and view names its relation exactly.
    for entry in dumped.entries.iter().filter(|entry| {
        [
            EntryClass::TABLE,
            EntryClass::INDEX,
            EntryClass::VIEW,
            EntryClass::TRIGGER,
            EntryClass::POLICY,
            EntryClass::FK_CONSTRAINT,
            EntryClass::MATERIALIZED_VIEW,
            EntryClass::SEQUENCE,
        ]
        .contains(&entry.class)
    }) {
        let name = entry.relation().unwrap_or_else(|| panic!("{}", entry.object()));
        assert!(
            ours.iter().any(|(schema, relation, _)| *schema == name.schema && *relation == name.name),
            "{name}"
        );
    }

    let moved = dump(&tools, &target_keywords, None, &scratch.path().join("target.dump")).await;
    let tolerances = [Tolerance::InheritedColumnOrder, Tolerance::NotNullName];
    let result = compare(&dumped.entries, &moved.entries, &tolerances);
    println!("{} equal, tolerated {:#?}", result.equal, result.tolerated);
    assert!(result.is_equal(), "{result:#?}");
    drop((source, target));
    drop_subscriptions(&source_server, "pgmove_schema_source").await;
    drop_subscriptions(&target_server, "pgmove_schema_target").await;
}
