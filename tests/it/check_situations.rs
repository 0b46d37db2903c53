//! Findings of the check's catalog on real servers: something about a source or its target, and what must be found.

use std::time::{Duration, Instant};

use crate::check::{Check, assert_said, found};
use crate::support::{Server, Variant, hold};

/// What is so of a source and its target, and the finding that tells it.
struct Situation {
    id: &'static str,
    /// Options of the databases.
    options: [&'static str; 2],
    /// What their superusers run.
    setup: [&'static str; 2],
}

/// One whose collation has a version on every server from 17 on.
const BUILTIN: &str = "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'";
const OTHER_VERSION: &str = "UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database()";
const SUBSCRIPTION: &str = "CREATE SUBSCRIPTION upstream CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)";

const SITUATIONS: &[Situation] = &[
    Situation {
        id: "!extension-older-type",
        options: ["", ""],
        setup: [
            "CREATE EXTENSION intarray; CREATE TABLE photo (wanted query_int)",
            "CREATE EXTENSION intarray; UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'intarray'",
        ],
    },
    Situation {
        id: "extension-older",
        options: ["", ""],
        setup: [
            "CREATE EXTENSION intarray",
            "CREATE EXTENSION intarray; UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'intarray'",
        ],
    },
    Situation {
        id: "!extension-schema",
        options: ["", ""],
        setup: ["CREATE EXTENSION hstore", "CREATE SCHEMA extensions; CREATE EXTENSION hstore SCHEMA extensions"],
    },
    Situation { id: "preload-differs", options: ["", ""], setup: ["CREATE EXTENSION pg_stat_statements; GRANT pg_read_all_settings TO CURRENT_USER", ""] },
    Situation { id: "!encoding", options: ["", "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"], setup: ["", ""] },
    Situation { id: "locale-differs", options: ["", "TEMPLATE template0 LOCALE 'C'"], setup: ["", ""] },
    Situation {
        id: "trigrams-ascii-only",
        options: ["", "TEMPLATE template0 LOCALE 'C'"],
        setup: ["CREATE EXTENSION pg_trgm", ""],
    },
    // The ctype counts, not who compares strings.
    Situation { id: "trigrams-ascii-only", options: ["", BUILTIN], setup: ["CREATE EXTENSION pg_trgm", ""] },
    Situation {
        id: "!collation-missing",
        options: ["", ""],
        setup: [
            "CREATE TABLE photo (name text COLLATE \"ucs_basic\")",
            "DELETE FROM pg_collation WHERE collname = 'ucs_basic'",
        ],
    },
    Situation { id: "collation-version", options: [BUILTIN, BUILTIN], setup: [OTHER_VERSION, ""] },
    Situation { id: "target-collation-version", options: [BUILTIN, BUILTIN], setup: ["", OTHER_VERSION] },
    Situation {
        id: "invalid-indexes",
        options: ["", ""],
        setup: [
            "CREATE TABLE photo (id integer); CREATE INDEX broken ON photo (id);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
            "",
        ],
    },
    Situation {
        id: "constraints-not-valid",
        options: ["", ""],
        setup: ["CREATE TABLE photo (id integer); ALTER TABLE photo ADD CHECK (id > 0) NOT VALID", ""],
    },
    Situation { id: "subscriptions", options: ["", ""], setup: [SUBSCRIPTION, ""] },
    Situation {
        id: "target-wraparound",
        options: ["", ""],
        // As if the database had never been vacuumed for so long.
        setup: [
            "",
            "UPDATE pg_database SET datfrozenxid = ((txid_current() - 1700000000 + 4294967296) % 4294967296)::text::xid
             WHERE datname = current_database()",
        ],
    },
];

/// On servers of its own: some of it is the whole server's.
#[test]
fn each_situation_is_found_on_real_servers() {
    let loads = "shared_preload_libraries = 'pg_stat_statements'\nautovacuum = off";
    let from = Server::start(17, &Variant { settings: loads.into(), ..Variant::default() });
    let to = Server::start(17, &Variant { settings: "autovacuum = off".into(), ..Variant::default() });
    // What time alone makes: a minute is long for a transaction.
    let (slow, begun) = (from.database(), Instant::now());
    let open = hold(&slow.uri(), "SELECT 1");
    let mut wrong = Vec::new();
    for Situation { id, options, setup } in SITUATIONS {
        let (source, target) = (from.database_with(options[0]), to.database_with(options[1]));
        for (database, sql) in [(&source, setup[0]), (&target, setup[1])] {
            if !sql.is_empty() {
                // Nobody's tables but the owner's.
                let owner = format!("ALTER ROLE {0} SUPERUSER; SET ROLE {0}; {sql}", database.name);
                database.admin_psql(&owner);
                database.admin_psql(&format!("ALTER ROLE {} NOSUPERUSER", database.name));
            }
        }
        let (_, result) = Check::new(&source, &target).result(&["--fence"]);
        let (name, severity) = id.strip_prefix('!').map_or((*id, "warning"), |name| (name, "blocking"));
        if !found(&result).contains(&(name, severity)) {
            wrong.push(format!("no {id} in {:?}", found(&result)));
        }
        if *id == "subscriptions" {
            source.admin_psql("DROP SUBSCRIPTION upstream");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    std::thread::sleep(Duration::from_secs(61).saturating_sub(begun.elapsed()));
    let (_, result) = Check::new(&slow, &to.database()).result(&["--fence"]);
    assert_said(&result, "long-transactions", &["warning", "psql of", " min ", "pg_terminate_backend("]);
    drop(open);
    // Without any of it there is nothing of the kind; what is hidden is not taken for that.
    let (code, result) = Check::new(&from.database(), &to.database()).result(&["--fence"]);
    assert!(
        result["summary"]["skipped"].to_string().contains("the libraries that the source's server loads"),
        "{result:#}"
    );
    let names: Vec<&str> = SITUATIONS.iter().map(|situation| situation.id.trim_start_matches('!')).collect();
    let others =
        found(&result).into_iter().filter(|(id, _)| names.contains(id) && *id != "target-wraparound");
    assert_eq!((code, others.collect::<Vec<_>>()), (0, vec![]), "{result:#}");
}

#[test]
fn a_library_that_must_be_loaded_with_the_server_is_missed() {
    let server = Server::start(
        17,
        &Variant { settings: "shared_preload_libraries = ''".into(), ..Variant::default() },
    );
    let (source, target) = (Server::shared(16).database(), server.database());
    source.admin_psql("CREATE EXTENSION vchord CASCADE");
    let (code, result) = Check::new(&source, &target).result(&[]);
    assert_eq!(code, 3, "{result:#}");
    assert_said(&result, "preload-missing", &["blocking", "vchord", "shared_preload_libraries"]);
}
