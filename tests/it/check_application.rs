//! `pgmove check` of a database whose application it knows: the sample library is Immich's.

use crate::check::{Check, assert_said, found, said};
use crate::support::{Database, SMALL, Server, Vectors};

fn has(result: &serde_json::Value, id: &str) -> bool {
    found(result).iter().any(|(found, _)| *found == id)
}

fn library() -> Database {
    let server = Server::shared(15);
    SMALL.fill(&server, Vectors::of(&server))
}

#[test]
fn the_application_is_recognised_and_what_it_wants_is_told() {
    let (source, target) = (library(), Server::shared(17).database());
    let check = Check::new(&source, &target);
    let (code, result) = check.result(&[]);
    assert_eq!(code, 0, "{result:#}");
    assert_said(&result, "application", &["note", "Immich", "version 2.5.6, in schema public"]);
    assert_said(
        &result,
        "application-paths",
        &["note", "asset.originalPath: /data (", "person.thumbnailPath"],
    );
    assert_said(&result, "application-first-start", &["migrations of its own"]);
    for id in ["extension-range", "extension-update", "locale", "rebuild", "upgrade-path"] {
        assert!(!has(&result, &format!("application-{id}")), "{id}: {result:#}");
    }
    source.psql(
        "UPDATE version_history SET version = '2.4.1' WHERE version = '2.5.6';
         DELETE FROM migrations WHERE name = 'AddMissingIndex1744910873956';
         UPDATE asset SET \"originalPath\" = replace(\"originalPath\", '/data/', '/usr/src/app/upload/')
         WHERE id IN (SELECT id FROM asset LIMIT 7)",
    );
    let target = Server::shared(17).database_with("TEMPLATE template0 LOCALE 'C'");
    target.admin_psql(
        "CREATE EXTENSION vector; UPDATE pg_extension SET extversion = '0.7.0' WHERE extname = 'vector'",
    );
    let (code, result) = Check::new(&source, &target).result(&["--vector-index", "hnsw"]);
    assert_eq!(code, 0, "{result:#}");
    let range =
        ["2.4.1 takes 0.3 and newer, but older than 0.6", "offers vchord 1.1.1", "Immich 2.5 or newer"];
    assert_said(&result, "application-extension-range", &range);
    assert_said(
        &result,
        "application-extension-update",
        &["installed 0.7.0", "ALTER EXTENSION \"vector\" UPDATE;"],
    );
    assert_said(&result, "application-locale", &["ctype is C", "file names", "localeCType"]);
    assert_said(&result, "application-rebuild", &["public.clip_index as hnsw", "--vector-index vchordrq"]);
    assert_said(&result, "application-upgrade-path", &["1.136.0", "CreateUserTable1645130759468"]);
    assert_said(&result, "application-paths", &["warning", "/data (", "/usr/src/app/upload (7)"]);
}

#[test]
fn what_the_application_does_not_let_be_read_is_told() {
    let (source, target) = (library(), Server::shared(17).database());
    source.psql("ALTER TABLE version_history RENAME COLUMN version TO release");
    let (code, result) = Check::new(&source, &target).result(&[]);
    assert_eq!(code, 0, "{result:#}");
    assert!(said(&result, "application").contains("version unknown"), "{result:#}");
    let skipped = result["summary"]["skipped"].as_array().expect("a list");
    let told = skipped.iter().any(|skipped| skipped["what"] == "the version of Immich");
    assert!(told, "{skipped:#?}");
    // Another application's database says nothing of the kind.
    let other = Server::shared(15).database();
    other.psql("CREATE TABLE asset (id integer)");
    let (code, result) = Check::new(&other, &target).result(&[]);
    assert_eq!((code, has(&result, "application")), (0, false), "{result:#}");
}
