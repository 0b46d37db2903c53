//! The installed servers, as `cargo xtask servers` lists them.

use std::{env, fs, path::PathBuf, sync::LazyLock};

use serde::Deserialize;

/// One installed server; `xtask/src/install.rs` says more of each field.
#[derive(Debug, Deserialize)]
pub(crate) struct Install {
    /// 12 to 18.
    pub(crate) major: u32,
    /// `initdb` and `postgres`.
    pub(crate) bin_dir: PathBuf,
    /// `psql`, `pg_dump` and `pg_restore` of the newest server.
    pub(crate) client_bin_dir: PathBuf,
    /// What CREATE EXTENSION knows.
    pub(crate) extensions: Vec<String>,
}

static INSTALLS: LazyLock<Vec<Install>> = LazyLock::new(|| {
    let list = env::var_os("PGMOVE_TEST_SERVERS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/servers/servers.json"),
        PathBuf::from,
    );
    let json = fs::read(&list)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask servers` first", list.display()));
    serde_json::from_slice(&json).expect("the list that cargo xtask servers wrote")
});

impl Install {
    /// All of them, the oldest first.
    pub(crate) fn all() -> &'static [Self] {
        &INSTALLS
    }

    /// The one of this major version.
    pub(crate) fn of(major: u32) -> &'static Self {
        let found = INSTALLS.iter().find(|install| install.major == major);
        found.unwrap_or_else(|| panic!("cargo xtask servers brings no PostgreSQL {major}"))
    }

    /// Whether CREATE EXTENSION knows this name.
    pub(crate) fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }
}
