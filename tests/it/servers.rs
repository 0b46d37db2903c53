//! The tests' own ground: every server runs, offers what it lists, and leaves nothing behind.

use std::fs;

use crate::support::{Database, Install, Server, Variant, images, pairs, pgmove, psql, smoke_pair};

#[test]
fn every_server_is_of_its_version_and_creates_every_extension() {
    for install in Install::all() {
        let server = Server::shared(install.major);
        let database = server.database();
        assert_eq!(server.major(), install.major);
        for extension in &install.extensions {
            // Some need each other, some exclude each other (access methods of one name): each is created alone.
            let sql = format!("BEGIN; CREATE EXTENSION IF NOT EXISTS \"{extension}\" CASCADE; ROLLBACK;");
            if let Err(error) = psql(&database.admin_uri(), &sql) {
                panic!("PostgreSQL {}: extension {extension}: {error}", install.major);
            }
        }
    }
}

#[test]
fn pairs_lead_to_newer_servers() {
    for pair in pairs().chain([smoke_pair()]) {
        assert!(pair.source.major() < pair.target.major());
        assert!(pair.target.offers("vector") && pair.target.offers("vchord"));
    }
    if let Some((source, _)) = images() {
        // What there is to convert.
        assert!(Server::shared_image(&source).offers("vectors"));
    }
}

#[tokio::test]
async fn a_database_belongs_to_an_ordinary_role() {
    let database = Server::shared(15).database();
    let client = database.connect().await;
    let row = client
        .query_one(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await
        .expect("a role");
    assert!((0..3).all(|column| !row.get::<_, bool>(column)));
    client.batch_execute("CREATE TABLE photo (id int PRIMARY KEY)").await.expect("the owner may create");
    let refused = client.batch_execute("CREATE DATABASE other").await;
    assert!(refused.is_err());
}

#[test]
fn a_dropped_database_leaves_no_role_behind() {
    let server = Server::shared(12);
    let Database { server: _, name } = &server.database();
    let count = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'");
    assert_eq!(psql(&server.uri("postgres"), &count).as_deref(), Ok("1"));
}

#[test]
fn variants_are_other_servers() {
    let variant = Variant {
        initdb: &["--locale=C", "--encoding=LATIN1"],
        settings: "work_mem = '5MB'\nssl_ca_file = 'ca.crt'".into(),
        host_based_authentication: "host all all 127.0.0.1/32 md5".into(),
        files: vec![("ca.crt", String::new())],
    };
    let server = Server::shared_variant(16, &variant);
    let database = server.database_with("CONNECTION LIMIT 3");
    assert_eq!(database.psql("SHOW work_mem; SHOW server_encoding;"), "5MB\nLATIN1");
    assert_ne!(server.port, Server::shared(16).port);
}

#[test]
fn a_server_comes_back_after_a_crash() {
    let container = images().map(|(_, target)| Server::start_image(&target));
    for server in [Server::start(17, &Variant::default())].into_iter().chain(container) {
        let database = server.database();
        database.admin_psql("CREATE TABLE kept AS SELECT generate_series(1, 10) AS id; CHECKPOINT;");
        server.crash();
        server.restart();
        assert_eq!(database.admin_psql("SELECT count(*) FROM kept"), "10");
        server.stop();
        server.restart();
        assert_eq!(database.admin_psql("SELECT count(*) FROM kept"), "10");
    }
}

#[test]
fn a_server_ends_with_its_last_reference() {
    let server = Server::start(14, &Variant::default());
    let directory = server.directory().expect("a local server").to_owned();
    assert!(fs::exists(&directory).expect("a temporary directory may be looked at"));
    drop(server);
    assert!(!fs::exists(&directory).expect("a temporary directory may be looked at"));
}

#[test]
fn pgmove_can_be_run() {
    pgmove().arg("--version").assert().success();
}
