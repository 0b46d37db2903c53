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
    let installed = |version: &str| {
        target.admin_psql(&format!(
            "UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'vchord'"
        ));
    };
    target.admin_psql("CREATE EXTENSION vchord CASCADE");
    installed("1.0.0");
    let (code, result) = Check::new(&source, &target).result(&["--vector-index", "hnsw"]);
    assert_eq!(code, 0, "{result:#}");
    let range =
        ["2.4.1 takes 0.3 and newer, but older than 0.6", "offers vchord 1.1.1", "Immich 2.5 or newer"];
    assert_said(&result, "application-extension-range", &range);
    assert_said(
        &result,
        "application-extension-update",
        &["extension vchord", "installed 1.0.0", "offers 1.1.1", "ALTER EXTENSION \"vchord\" UPDATE;"],
    );
    assert!(!has(&result, "application-extension-downgraded"), "{result:#}");
    assert_said(&result, "application-locale", &["ctype is C", "file names", "localeCType"]);
    assert_said(&result, "application-rebuild", &["public.clip_index as hnsw", "--vector-index vchordrq"]);
    assert_said(&result, "application-upgrade-path", &["1.136.0", "CreateUserTable1645130759468"]);
    assert_said(&result, "application-paths", &["warning", "/data (", "/usr/src/app/upload (7)"]);
    // An image with an older one: nobody may go back to it.
    installed("1.2.0");
    let (_, result) = Check::new(&source, &target).result(&[]);
    let downgraded = ["warning", "would not start", "installed 1.2.0, the server offers 1.1.1"];
    assert_said(&result, "application-extension-downgraded", &downgraded);
    assert!(!has(&result, "application-extension-update"), "{result:#}");
}

/// It makes those that are missing, and those with another number of lists, before it serves anybody.
#[test]
fn vector_indexes_that_the_application_would_make_again_are_told() {
    let (source, target) = (library(), Server::shared(17).database());
    let check = Check::new(&source, &target);
    source.psql("DROP INDEX face_index");
    let (_, result) = check.result(&[]);
    assert_said(&result, "application-rebuild", &["public.face_index is missing on the source"]);
    source.admin_psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'clip_index'::regclass");
    let (_, result) = check.result(&[]);
    assert_said(&result, "application-rebuild", &["public.clip_index is invalid on the source"]);
}

#[test]
fn a_number_of_lists_that_the_application_does_not_take_is_told_where_indexes_are_kept() {
    let (source, target) = (library(), Server::shared(17).database());
    // After a move to vchordrq by hand, with the lists of a much larger library.
    source.admin_psql("DROP INDEX clip_index, face_index; CREATE EXTENSION IF NOT EXISTS vchord CASCADE");
    for (table, name, lists) in [("smart_search", "clip_index", 8), ("face_search", "face_index", 1)] {
        let dimensions = source.psql(&format!("SELECT cardinality(embedding::real[]) FROM {table} LIMIT 1"));
        source.psql(&format!(
            "ALTER TABLE {table} ALTER embedding TYPE public.vector({dimensions}) USING embedding::real[]::public.vector;
             CREATE INDEX {name} ON {table} USING vchordrq (embedding public.vector_cosine_ops) WITH (options = '
[build.internal]
lists = [{lists}]
')"
        ));
    }
    let check = Check::new(&source, &target);
    let (_, result) = check.result(&["--vector-index", "keep"]);
    assert_said(&result, "application-rebuild", &["public.clip_index with 8 lists in the place of 1;"]);
    assert!(!said(&result, "application-rebuild").contains("face_index"), "{result:#}");
    let (_, result) = check.result(&[]);
    assert!(!has(&result, "application-rebuild"), "{result:#}");
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
