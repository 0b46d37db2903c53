//! A hard schema goes through `pg_dump`, the entries and a session, and comes out equal.

use std::path::Path;
use std::time::Duration;

use pgmove::error::{Fault as _, Side};
use pgmove::pg::QualifiedName;
use pgmove::schema::rewrite::{
    ExistingSchema, Owners, Roles, TypeRename, VectorIndex, existing_schema, extension, legacy_schema,
    owners, rights, types, vector_index,
};
use pgmove::schema::{
    Change, ChildEndpoint, ChildLimits, ClientPlace, ClientSearch, ClientTools, Difference, DumpError,
    DumpRequest, Entry, EntryClass, SESSION_SETTINGS, SchemaDump, Section, Tolerance, compare, dump_schema,
    superuser_reason,
};
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use crate::support::{Install, PASSWORD, Server, hold};

const LEGACY: &str = include_str!("../fixtures/schema/legacy.sql");
const NASTY: &str = include_str!("../fixtures/schema/nasty.sql");
const NASTY_15: &str = include_str!("../fixtures/schema/nasty_15.sql");
const NASTY_18: &str = include_str!("../fixtures/schema/nasty_18.sql");

/// Sources and newer targets, which offer the extension `vector`.
const PAIRS: [(u32, u32); 3] = [(14, 16), (15, 18), (18, 18)];

/// A server as its superuser, in libpq's keywords; roles of a test get the same password.
fn keywords(server: &Server) -> String {
    format!("host=127.0.0.1 port={} user=postgres password={PASSWORD} sslmode=disable", server.port)
}

async fn newest_tools() -> ClientTools {
    let newest = Install::all().last().expect("cargo xtask servers brings servers");
    let search = ClientSearch { directory: Some(newest.client_bin_dir.clone()), ..Default::default() };
    ClientTools::find(&search, 14).await.expect("client tools")
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
    let endpoint = ChildEndpoint { dbname_keywords: keywords.to_owned(), ..ChildEndpoint::default() };
    let request =
        DumpRequest { side: Side::Source, tools, endpoint: &endpoint, snapshot, archive, limits: &limits };
    dump_schema(&request)
        .await
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_pg_dump_may_not_lock_is_a_lock_that_was_waited_for() {
    let database = Server::shared(16).database();
    database.psql("CREATE TABLE busy (id integer)");
    let held = hold(&database.uri(), "LOCK TABLE busy IN ACCESS EXCLUSIVE MODE");
    let scratch = tempfile::tempdir().expect("a directory");
    let request = DumpRequest {
        side: Side::Source,
        tools: &newest_tools().await,
        endpoint: &ChildEndpoint { dbname_keywords: database.uri(), ..ChildEndpoint::default() },
        snapshot: None,
        archive: &scratch.path().join("schema.dump"),
        limits: &ChildLimits { stall: Duration::from_secs(4), cancel: CancellationToken::new() },
    };
    let error = dump_schema(&request).await.expect_err("the lock is not granted");
    assert_eq!(error.lock_timeout(), Some(Side::Source), "{error:?}");
    drop(held);
}

async fn major(client: &Client) -> i32 {
    let query = "SELECT current_setting('server_version_num')::int / 10000";
    client.query_one(query, &[]).await.expect("a version").get(0)
}

/// The sections are `pg_restore`'s own, but for rights and for what describes other entries.
fn check_sections(tools: &ClientTools, dumped: &SchemaDump) {
    for (name, section) in [("pre-data", Section::PreData), ("post-data", Section::PostData)] {
        let ClientPlace::Machine(directory) = &tools.place else { panic!("{tools}") };
        let output = std::process::Command::new(directory.join("pg_restore"))
            .args(["--list", "--section", name])
            .arg(&dumped.archive)
            .output()
            .expect("pg_restore runs");
        let list = String::from_utf8(output.stdout).expect("UTF-8");
        let ids: Vec<u32> = list.lines().filter_map(|line| line.split_once("; ")?.0.parse().ok()).collect();
        for entry in dumped.entries.iter().filter(|entry| ids.contains(&entry.id)) {
            assert!(entry.section == section || entry.class == EntryClass::ACL, "{}", entry.object());
        }
    }
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
async fn a_hard_schema_comes_out_equal() {
    for (source, target) in PAIRS {
        moved_hard_schema(source, target).await;
    }
}

async fn moved_hard_schema(source: u32, target: u32) {
    let (source, target) = (Server::shared(source), Server::shared(target));
    let (source_server, target_server) = (keywords(&source), keywords(&target));
    let tools = newest_tools().await;
    let scratch = tempfile::tempdir().expect("a directory");

    let source_keywords = database(&source_server, "pgmove_schema_source").await;
    let source = connect(&source_keywords).await;
    source.batch_execute(NASTY).await.expect("the fixture loads");
    for (oldest, more) in [(15, NASTY_15), (18, NASTY_18)] {
        if major(&source).await >= oldest {
            source.batch_execute(more).await.expect("the newer fixture loads");
        }
    }
    source.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.expect("begun");
    let row = source.query_one("SELECT pg_export_snapshot()", &[]).await.expect("a snapshot");
    let snapshot: String = row.get(0);
    let archive = scratch.path().join("source.dump");
    let dumped = dump(&tools, &source_keywords, Some(&snapshot), &archive).await;
    source.batch_execute("ROLLBACK").await.expect("ended");
    println!("{} entries, warnings {:?}", dumped.entries.len(), dumped.warnings);

    check_sections(&tools, &dumped);
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
    let majors = (major(&source).await, major(&target).await);
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
    let tolerances = [Tolerance::InheritedColumnOrder, Tolerance::NotNullName, Tolerance::MaintainRight];
    let result = compare(&dumped.entries, &moved.entries, &tolerances);
    println!("{} equal, tolerated {:#?}", result.equal, result.tolerated);
    let is_excused = |difference: &Difference| difference.is_query && majors.0 < 16 && majors.1 >= 16;
    assert!(result.different.iter().all(is_excused), "{result:#?}");
    assert!(result.only_in_source.is_empty() && result.only_in_target.is_empty(), "{result:#?}");
    drop((source, target));
    drop_subscriptions(&source_server, "pgmove_schema_source").await;
    drop_subscriptions(&target_server, "pgmove_schema_target").await;
}

/// An ordinary owner applies whatever is not said to need a superuser, and nothing else.
#[tokio::test]
async fn what_needs_a_superuser_is_known_before() {
    for (source, target) in PAIRS {
        applied_by_an_owner(source, target).await;
    }
}

/// A fixture's dump, and a database of the ordinary role `new_owner` to apply it to.
struct Setting {
    tools: ClientTools,
    scratch: tempfile::TempDir,
    /// The servers, to be put away from.
    servers: [String; 2],
    dumped: SchemaDump,
    target_keywords: String,
    admin: Client,
    owner: Client,
}

impl Setting {
    /// Databases `source` and `target` of servers of these majors. The superuser prepares the target; what is there
    /// from another test stays.
    async fn new(majors: (u32, u32), fixture: &str, [source, target]: [&str; 2], prepare: &[&str]) -> Self {
        let servers = [majors.0, majors.1].map(|major| keywords(&Server::shared(major)));
        let tools = newest_tools().await;
        let scratch = tempfile::tempdir().expect("a directory");
        let source_keywords = database(&servers[0], source).await;
        connect(&source_keywords).await.batch_execute(fixture).await.expect("the fixture loads");
        let dumped = dump(&tools, &source_keywords, None, &scratch.path().join("source.dump")).await;
        let target_keywords = database(&servers[1], target).await;
        let admin = connect(&target_keywords).await;
        let create = format!("CREATE ROLE new_owner LOGIN PASSWORD '{PASSWORD}'");
        let give = format!("ALTER DATABASE {target} OWNER TO new_owner");
        for statement in [create.as_str(), &give].iter().chain(prepare) {
            let _ = admin.batch_execute(statement).await;
        }
        let owner = connect(&target_keywords.replace("user=postgres", "user=new_owner")).await;
        Setting { tools, scratch, servers, dumped, target_keywords, admin, owner }
    }
}

/// Everything is given to `new_owner`, who is a member of these roles.
fn given(existing: &[&str], assignable: &[&str]) -> Roles {
    let names = |names: &[&str]| names.iter().chain(&["new_owner"]).map(ToString::to_string).collect();
    Roles {
        owners: Owners::All("new_owner".to_owned()),
        existing: names(existing),
        assignable: names(assignable),
        creator: None,
        may_impersonate: false,
    }
}

async fn applied_by_an_owner(source: u32, target: u32) {
    const NAMES: [&str; 2] = ["pgmove_schema_rights", "pgmove_schema_owned"];
    let prepare = ["CREATE ROLE \"Nasty-Reader; --\"", "CREATE ROLE nasty_owner"];
    let Setting { servers, mut dumped, admin, owner, .. } =
        Setting::new((source, target), NASTY, NAMES, &prepare).await;
    let roles = ["nasty_owner", "Nasty-Reader; --"];
    rewrite(&mut dumped.entries, &given(&roles, &roles));
    for entry in dumped.entries.iter().filter(|entry| !entry.statements.is_empty()) {
        let one = std::slice::from_ref(entry);
        match superuser_reason(entry) {
            None => apply(&owner, one).await,
            Some(reason) => {
                owner.batch_execute("BEGIN").await.expect("begun");
                let mut is_refused = false;
                for statement in entry.commands() {
                    is_refused |= owner.batch_execute(&statement).await.is_err();
                }
                owner.batch_execute("ROLLBACK").await.expect("ended");
                assert!(is_refused, "{}: {reason}", entry.object());
                apply(&admin, one).await;
            }
        }
    }
    for (server, name) in servers.iter().zip(NAMES) {
        drop_subscriptions(server, name).await;
    }
}

/// Schema `public` as it is on a server since 15.
fn public() -> ExistingSchema {
    ExistingSchema { name: "public".to_owned(), owner: "pg_database_owner".to_owned(), is_owned: true }
}

/// All rewrites, as a plan would apply them.
fn rewrite(entries: &mut [Entry], roles: &Roles) -> Vec<Change> {
    let renames = [TypeRename {
        from: QualifiedName::new("vectors", "vector"),
        to: QualifiedName::new("public", "vector"),
        storage: "EXTERNAL".to_owned(),
    }];
    let index = VectorIndex {
        access_method: "hnsw".to_owned(),
        operator_class: "public.vector_cosine_ops".to_owned(),
        options: Some("ef_construction = 300, m = 16".to_owned()),
    };
    let mut changes = Vec::new();
    for entry in entries {
        changes.extend(legacy_schema(entry, "vectors"));
        changes.extend(extension(entry));
        changes.extend(existing_schema(entry, &[public()]));
        changes.extend(owners(entry, roles));
        changes.extend(rights(entry, roles));
        changes.extend(types(entry, &renames));
        if entry.class == EntryClass::INDEX && entry.tag == "clip_index" {
            changes.extend(vector_index(entry, &index));
        }
    }
    changes
}

/// The target must offer the extension `vector`.
#[tokio::test]
async fn a_legacy_schema_is_rewritten_for_an_ordinary_owner() {
    for (source, target) in PAIRS {
        rewritten_legacy_schema(source, target).await;
    }
}

async fn rewritten_legacy_schema(source: u32, target: u32) {
    let prepare = ["CREATE ROLE legacy_reader", "CREATE EXTENSION vector WITH SCHEMA public"];
    let names = ["pgmove_schema_legacy", "pgmove_schema_new"];
    let Setting { tools, scratch, mut dumped, target_keywords, owner, .. } =
        Setting::new((source, target), LEGACY, names, &prepare).await;
    // The stand-in's type is no extension's member, so it is in the dump.
    dumped.entries.retain(|entry| !(entry.class == EntryClass::TYPE && entry.tag == "vector"));
    let changes = rewrite(&mut dumped.entries, &given(&["legacy_reader"], &[]));
    assert!(changes.len() > 20, "{changes:#?}");
    // pgvector's type has a dimension for an index; the stand-in's has none.
    for entry in &mut dumped.entries {
        for statement in &mut entry.statements {
            *statement =
                statement.replace("\"public\".\"vector\" NOT NULL", "\"public\".\"vector\"(3) NOT NULL");
        }
    }
    apply(&owner, &dumped.entries).await;

    let mut moved = dump(&tools, &target_keywords, None, &scratch.path().join("target.dump")).await;
    // The target's dump has extensions and schema public too; everything else must come out as it was planned.
    for entry in &mut moved.entries {
        extension(entry);
        existing_schema(entry, &[public()]);
    }
    let tolerances = [Tolerance::InheritedColumnOrder, Tolerance::NotNullName, Tolerance::MaintainRight];
    let result = compare(&dumped.entries, &moved.entries, &tolerances);
    println!("{result:#?}");
    assert!(result.is_equal());
}

#[tokio::test]
async fn what_pg_dump_says_is_in_the_error() {
    let server = keywords(&Server::shared(15));
    let tools = newest_tools().await;
    let scratch = tempfile::tempdir().expect("a directory");
    let limits = ChildLimits { stall: Duration::from_secs(60), cancel: CancellationToken::new() };
    for (keywords, snapshot, expected) in [
        (format!("{server} dbname=postgres"), Some("00000003-0000001B-1"), "snapshot"),
        (format!("{server} dbname=no_such_database"), None, "database \"no_such_database\" does not exist"),
    ] {
        let endpoint = ChildEndpoint {
            dbname_keywords: keywords,
            passfile_line: Some("h:1:d:u:secret".to_owned().into()),
            ..ChildEndpoint::default()
        };
        let archive = scratch.path().join(expected.len().to_string());
        let request = DumpRequest {
            side: Side::Source,
            tools: &tools,
            endpoint: &endpoint,
            snapshot,
            archive: &archive,
            limits: &limits,
        };
        let error = dump_schema(&request).await.expect_err("it is refused");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        println!("{error}: {cause} ({:?})", error.hint());
        assert!(cause.contains(expected), "{cause}");
        let again = dump_schema(&request).await.expect_err("the file exists");
        assert!(matches!(again, DumpError::Archive { .. }), "{again}");
    }
    // A table that another session holds is named before the silence ends the dump.
    let holder_keywords = database(&server, "pgmove_schema_locked").await;
    let holder = connect(&holder_keywords).await;
    holder.batch_execute("CREATE TABLE held ()").await.expect("created");
    holder.batch_execute("BEGIN; LOCK TABLE held").await.expect("locked");
    let impatient = ChildLimits { stall: Duration::from_secs(2), cancel: CancellationToken::new() };
    let endpoint = ChildEndpoint { dbname_keywords: holder_keywords, ..ChildEndpoint::default() };
    let archive = scratch.path().join("locked");
    let request = DumpRequest {
        side: Side::Source,
        tools: &tools,
        endpoint: &endpoint,
        snapshot: None,
        archive: &archive,
        limits: &impatient,
    };
    let error = dump_schema(&request).await.expect_err("it is locked");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("LOCK TABLE public.held"), "{cause}");
    let cancelled = ChildLimits { stall: Duration::from_secs(60), cancel: CancellationToken::new() };
    cancelled.cancel.cancel();
    let endpoint =
        ChildEndpoint { dbname_keywords: format!("{server} dbname=postgres"), ..ChildEndpoint::default() };
    let archive = scratch.path().join("cancelled");
    let request = DumpRequest {
        side: Side::Source,
        tools: &tools,
        endpoint: &endpoint,
        snapshot: None,
        archive: &archive,
        limits: &cancelled,
    };
    let error = dump_schema(&request).await.expect_err("it is cancelled");
    assert!(
        matches!(error, DumpError::Dump { cause: pgmove::schema::ChildError::Cancelled { .. }, .. }),
        "{error}"
    );
    assert!(
        !std::fs::read_dir(scratch.path())
            .expect("listed")
            .any(|file| { file.expect("a file").file_name().to_string_lossy().starts_with("passfile") })
    );
}
