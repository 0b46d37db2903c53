//! The server, the database, and what the session may do there.
//!
//! Everything here is readable by an ordinary role. What a server hides from one is an `Option`, and `None`
//! says "not told", never "off".

use serde::{Deserialize, Serialize};

use crate::pg::Oid;

/// The server that a session is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `server_version_num`, 160014 for 16.14.
    pub version_num: i32,
    /// `server_version`, as packagers spell it.
    pub version: String,
    /// The cluster's identity from `pg_control_system()`; `None` where the function is not granted.
    pub system_identifier: Option<String>,
    /// Whether this is a standby.
    pub is_in_recovery: bool,
    /// Size of a page in bytes, 8192 unless compiled otherwise.
    pub block_size: u32,
    /// `shared_preload_libraries`; `None` for roles without `pg_read_all_settings`.
    pub shared_preload_libraries: Option<String>,
    /// The settings that a plan depends on, as this session sees them.
    pub settings: ServerSettings,
}

impl Server {
    /// The major version, 16 for 16.14.
    pub fn major(&self) -> i32 {
        self.version_num / 10_000
    }
}

/// Settings of a server that budgets are made from. Memory is in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSettings {
    /// Connections in all, the reserved ones among them.
    pub max_connections: i32,
    /// Connections kept for superusers (and, from 16, for `pg_use_reserved_connections`).
    pub reserved_connections: i32,
    /// Background workers of all kinds.
    pub max_worker_processes: i32,
    /// Of those, for parallel operations.
    pub max_parallel_workers: i32,
    /// Of those, for one `CREATE INDEX`.
    pub max_parallel_maintenance_workers: i32,
    /// Memory of one index build, in bytes.
    pub maintenance_work_mem: u64,
    /// The buffer pool, in bytes.
    pub shared_buffers: u64,
    /// WAL between two checkpoints, in bytes (soft).
    pub max_wal_size: u64,
    /// Locks that fit the lock table, for each connection.
    pub max_locks_per_transaction: i32,
    /// Prepared transactions, which share the lock table.
    pub max_prepared_transactions: i32,
    /// `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
}

/// The database that a session is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its OID.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// The encoding's name, `UTF8`.
    pub encoding: String,
    /// `datcollate`.
    pub collate: String,
    /// `datctype`.
    pub ctype: String,
    /// Who compares strings.
    pub locale_provider: LocaleProvider,
    /// The locale of ICU or of the builtin provider.
    pub locale: Option<String>,
    /// The collation's version when the database was made (from 15).
    pub collation_version: Option<String>,
    /// The collation's version now (from 15); another one than above means indexes may be damaged.
    pub actual_collation_version: Option<String>,
    /// The comment on the database.
    pub comment: Option<String>,
    /// Its size on disk, in bytes.
    pub size_bytes: u64,
    /// `ALTER DATABASE ... SET` and `ALTER ROLE ... IN DATABASE ... SET`.
    pub settings: Vec<DatabaseSetting>,
    /// Privileges on the database as `aclitem` texts; `None` is the default.
    pub acl: Option<Vec<String>>,
}

/// Who compares strings in a database (`datlocprovider`; always libc before 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocaleProvider {
    /// The C library.
    Libc,
    /// ICU, from 15.
    Icu,
    /// PostgreSQL itself, from 17.
    Builtin,
}

/// A setting kept with the database (`pg_db_role_setting`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSetting {
    /// For this role only; `None` for every role.
    pub role: Option<String>,
    /// The setting.
    pub name: String,
    /// Its value, as `ALTER DATABASE` took it.
    pub value: String,
}

/// What the session's current role may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent right that the server answers for"
)]
pub struct SessionRights {
    /// `current_user`.
    pub role: String,
    /// Whether it is a superuser.
    pub is_superuser: bool,
    /// Whether it may create databases.
    pub can_create_database: bool,
    /// Whether row security never applies to it.
    pub bypasses_row_security: bool,
    /// Whether it owns the database, itself or as a member of the owner.
    pub owns_database: bool,
    /// Whether it may create schemas and trusted extensions.
    pub can_create_in_database: bool,
    /// Whether it may create objects in `public`; `None` where there is no such schema.
    pub can_create_in_public: Option<bool>,
}

/// A role of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it is a superuser.
    pub is_superuser: bool,
    /// Whether it may log in.
    pub can_login: bool,
    /// Whether the session's role may `SET ROLE` to it, and so give it objects.
    pub is_member: bool,
}

/// Another session that is connected to the same database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientSession {
    /// Its process.
    pub pid: i32,
    /// Its role.
    pub role: String,
    /// Whether that role is a superuser: an ordinary role cannot end its session.
    pub is_superuser: bool,
    /// What it calls itself.
    pub application_name: String,
    /// Its address; `None` for a Unix socket, or where it is hidden from this role.
    pub client: Option<String>,
    /// `active`, `idle` and so on; `None` where it is hidden from this role.
    pub state: Option<String>,
}
