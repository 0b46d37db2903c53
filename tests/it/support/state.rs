//! What a database holds, described by the server alone, so that tests need not believe pgmove's own comparison.

use std::collections::BTreeSet;

use super::{Database, psql};

/// Values read the same whatever the database's own settings are.
const PINNED: &str = "
SET client_min_messages = error; SET statement_timeout = 0; SET lock_timeout = 0;
SET search_path = pg_catalog; SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET standard_conforming_strings = on; SET client_encoding = 'UTF8';
";

/// Lines that describe a database: a line for the rows of each table, each sequence, object and large object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State(BTreeSet<String>);

/// Describes the database.
pub(crate) fn state(database: &Database) -> State {
    let uri = database.admin_uri();
    let run = |sql: &str| psql(&uri, &format!("{PINNED}{sql}")).unwrap_or_else(|error| panic!("{error}"));
    let statement = run(include_str!("state.sql"));
    State(run(&format!("{statement};")).lines().map(str::to_owned).collect())
}

impl State {
    /// Without the lines that begin so: what is known to differ.
    pub(crate) fn without(mut self, prefixes: &[&str]) -> Self {
        self.0.retain(|line| !prefixes.iter().any(|prefix| line.starts_with(prefix)));
        self
    }

    /// Fails with the lines that only one of both has.
    #[track_caller]
    pub(crate) fn assert_equal(&self, other: &Self) {
        let only =
            |left: &Self, right: &Self| -> Vec<String> { left.0.difference(&right.0).cloned().collect() };
        let (here, there) = (only(self, other), only(other, self));
        assert!(
            here.is_empty() && there.is_empty(),
            "only here:\n{}\nonly there:\n{}",
            here.join("\n"),
            there.join("\n")
        );
    }
}

/// What a move must not change on a server: rows, catalogs down to the versions of their rows, counters of writes, and
/// that no transaction id was given out.
pub(crate) fn untouched(database: &Database) -> String {
    // Sessions report their counters when they end, and the server may take a moment to end them.
    let quiet = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
        AND (application_name LIKE 'pgmove %' OR (application_name = 'psql' AND datname = current_database()))";
    while database.admin_psql(quiet) != "0" {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let mut found = database.admin_psql(&format!("{PINNED}{}", include_str!("untouched.sql")));
    for line in state(database).0 {
        found.push('\n');
        found.push_str(&line);
    }
    found
}

/// What is left of a move in its target; empty when all is well.
pub(crate) fn leftovers(database: &Database) -> String {
    database.admin_psql(
        "SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE '%pgmove%'
         UNION ALL
         SELECT 'setting ' || s FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase, unnest(setconfig) AS s
         WHERE d.datname = current_database() AND s LIKE 'default_transaction_read_only%'
         UNION ALL
         SELECT 'lock ' || pid FROM pg_locks JOIN pg_database AS d ON d.oid = database
         WHERE locktype = 'advisory' AND d.datname = current_database()
         UNION ALL
         SELECT 'session ' || application_name FROM pg_stat_activity
         WHERE datname = current_database() AND application_name LIKE 'pgmove %'",
    )
}
