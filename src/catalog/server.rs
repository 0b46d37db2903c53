//! The server, the database, and what the session may do there.
//!
//! Everything here is readable by an ordinary role. What a server hides from one is an `Option`, and `None`
//! says "not told", never "off".

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::CatalogError;
use super::query::{Reader, Record, sql_file};
use crate::error::Side;
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
    pub block_size: u64,
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent right that the server answers for"
)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it is a superuser.
    pub is_superuser: bool,
    /// Whether it may log in.
    pub can_login: bool,
    /// Whether the session's role may `SET ROLE` to it, and so give it objects, and has its rights, and so may go on
    /// working with them.
    pub is_member: bool,
    /// Whether it may create in the database.
    pub can_create: bool,
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

impl Server {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Self, CatalogError> {
        let record = reader.row(sql_file!("server")).await?;
        let system_identifier = if record.get("may_read_control")? {
            Some(reader.row(sql_file!("system_identifier")).await?.get("system_identifier")?)
        } else {
            None
        };
        Ok(Server {
            version_num: record.get("version_num")?,
            version: record.get("version")?,
            system_identifier,
            is_in_recovery: record.get("is_in_recovery")?,
            block_size: record.count("block_size")?,
            shared_preload_libraries: record.get("shared_preload_libraries")?,
            settings: ServerSettings {
                max_connections: record.get("max_connections")?,
                reserved_connections: record.get("reserved_connections")?,
                max_worker_processes: record.get("max_worker_processes")?,
                max_parallel_workers: record.get("max_parallel_workers")?,
                max_parallel_maintenance_workers: record.get("max_parallel_maintenance_workers")?,
                maintenance_work_mem: record.count("maintenance_work_mem")?,
                shared_buffers: record.count("shared_buffers")?,
                max_wal_size: record.count("max_wal_size")?,
                max_locks_per_transaction: record.get("max_locks_per_transaction")?,
                max_prepared_transactions: record.get("max_prepared_transactions")?,
                wal_level: record.get("wal_level")?,
                data_checksums: record.get("data_checksums")?,
            },
        })
    }
}

impl Database {
    /// Whether letters are ASCII's for what goes by the database's ctype, as `pg_trgm` does, whoever compares strings.
    pub(crate) fn has_ctype_c(&self) -> bool {
        ["C", "POSIX"].contains(&self.ctype.as_str())
    }

    pub(super) async fn read(reader: Reader<'_>, server: &Server) -> Result<Self, CatalogError> {
        let record = reader.row(sql_file!("database")).await?;
        let actual_collation_version = if server.major() >= 15 {
            reader.row(sql_file!("collation_version")).await?.get("actual_collation_version")?
        } else {
            None
        };
        let settings = reader.rows(sql_file!("database_settings"), &[]).await?;
        Ok(Database {
            oid: record.oid("oid")?,
            name: record.get("name")?,
            owner: record.get("owner")?,
            encoding: record.get("encoding")?,
            collate: record.get("collate")?,
            ctype: record.get("ctype")?,
            locale_provider: record.choose(
                "locale_provider",
                &[('c', LocaleProvider::Libc), ('i', LocaleProvider::Icu), ('b', LocaleProvider::Builtin)],
            )?,
            locale: record.get("locale")?,
            collation_version: record.get("collation_version")?,
            actual_collation_version,
            comment: record.get("comment")?,
            size_bytes: record.count("size_bytes")?,
            settings: settings
                .iter()
                .map(|setting| {
                    Ok(DatabaseSetting {
                        role: setting.get("role")?,
                        name: setting.get("name")?,
                        value: setting.get("value")?,
                    })
                })
                .collect::<Result<_, CatalogError>>()?,
            acl: record.get("acl")?,
        })
    }
}

impl SessionRights {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Self, CatalogError> {
        let record = reader.row(sql_file!("session")).await?;
        Ok(SessionRights {
            role: record.get("role")?,
            is_superuser: record.get("is_superuser")?,
            can_create_database: record.get("can_create_database")?,
            bypasses_row_security: record.get("bypasses_row_security")?,
            owns_database: record.get("owns_database")?,
            can_create_in_database: record.get("can_create_in_database")?,
            can_create_in_public: record.get("can_create_in_public")?,
        })
    }
}

impl Role {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("roles"), &[]).await?;
        let role = |record: &Record| {
            Ok(Role {
                name: record.get("name")?,
                is_superuser: record.get("is_superuser")?,
                can_login: record.get("can_login")?,
                is_member: record.get("is_member")?,
                can_create: record.get("can_create")?,
            })
        };
        records.iter().map(role).collect()
    }
}

/// Reads again who is connected to the same database.
pub async fn client_sessions(client: &Client, side: Side) -> Result<Vec<ClientSession>, CatalogError> {
    ClientSession::read(Reader { client, side }).await
}

impl ClientSession {
    pub(super) async fn read(reader: Reader<'_>) -> Result<Vec<Self>, CatalogError> {
        let records = reader.rows(sql_file!("clients"), &[]).await?;
        let session = |record: &Record| {
            Ok(ClientSession {
                pid: record.get("pid")?,
                role: record.get("role")?,
                is_superuser: record.get("is_superuser")?,
                application_name: record.get("application_name")?,
                client: record.get("client")?,
                state: record.get("state")?,
            })
        };
        records.iter().map(session).collect()
    }
}
