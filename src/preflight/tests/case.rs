//! A clean pair of databases, for one thing at a time to go wrong in.

use crate::catalog::{
    AvailableExtension, Catalog, ClientSession, Column, Database, DatabaseIdentity, Extension, Index,
    IndexKey, LargeObjects, LocaleProvider, Persistence, ReplicaIdentity, Role, RowSecurity, Schema, Server,
    ServerSettings, SessionRights, SpecialObjects, Table, TableKind, Type, TypeFunction, TypeKind,
    UserObjects,
};
use crate::pg::{Oid, QualifiedName};
use crate::plan::VectorIndexChoice;
use crate::preflight::{self, Finding, Input, Ledger, NamedObject, ObjectKind, Rights};
use crate::schema::{ClientError, ClientPlace, ClientTools, ClientVersion};

/// All that an [`Input`] borrows.
#[expect(clippy::struct_excessive_bools, reason = "as the input of the check")]
pub(crate) struct Case {
    pub(crate) source: Catalog,
    pub(crate) target: Catalog,
    pub(crate) source_rights: Rights,
    pub(crate) target_rights: Rights,
    pub(crate) admin: Option<SessionRights>,
    pub(crate) admin_database: Option<DatabaseIdentity>,
    pub(crate) has_operator: bool,
    pub(crate) tools: Result<ClientTools, ClientError>,
    pub(crate) has_same_address: bool,
    pub(crate) ledger: Ledger<'static>,
    pub(crate) replaces_target: bool,
    pub(crate) is_fenced: bool,
    pub(crate) owner: Option<&'static str>,
    pub(crate) vector_index: VectorIndexChoice,
    pub(crate) jobs: u16,
}

impl Case {
    /// A source of 15 with one table, an empty target of 17, both owned by `app`; nothing is wrong.
    pub(crate) fn clean() -> Case {
        let mut source = catalog(150_010, "15.10", "7300000000000000001");
        source.tables = vec![table("asset", vec![column("id", 2950)])];
        source.user_objects = UserObjects { count: 1, first: vec![] };
        Case {
            source,
            target: catalog(170_006, "17.6", "7500000000000000002"),
            source_rights: Rights::default(),
            target_rights: Rights::default(),
            admin: None,
            admin_database: None,
            has_operator: false,
            tools: Ok(tools(17)),
            has_same_address: false,
            ledger: Ledger::None,
            replaces_target: false,
            is_fenced: true,
            owner: None,
            vector_index: VectorIndexChoice::Auto,
            jobs: 4,
        }
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        preflight::findings(&Input {
            source: &self.source,
            target: &self.target,
            source_rights: &self.source_rights,
            target_rights: &self.target_rights,
            admin: self.admin.as_ref(),
            admin_database: self.admin_database.as_ref(),
            has_operator: self.has_operator,
            client_tools: self.tools.as_ref(),
            has_same_address: self.has_same_address,
            ledger: self.ledger,
            replaces_target: self.replaces_target,
            is_fenced: self.is_fenced,
            owner: self.owner,
            vector_index: self.vector_index,
            jobs: self.jobs,
        })
    }

    /// The target offers `name` at `version`, to superusers only.
    pub(crate) fn offer(&mut self, name: &str, version: &str) -> &mut AvailableExtension {
        self.target.available_extensions.push(AvailableExtension {
            name: name.to_owned(),
            default_version: version.to_owned(),
            versions: vec![version.to_owned()],
            installed_version: None,
            needs_superuser: true,
            is_trusted: false,
            is_relocatable: true,
            schema: None,
            requires: vec![],
        });
        self.target.available_extensions.last_mut().expect("it was pushed")
    }

    /// Both sides have `name` at `version`.
    pub(crate) fn install_both(&mut self, name: &str, version: &str) {
        self.offer(name, version);
        self.source.extensions.push(extension(name, version));
        self.target.extensions.push(extension(name, version));
    }

    /// A column `public.asset.embedding` of an extension's type, indexed by `access_method`.
    pub(crate) fn embed(
        &mut self,
        extension: &str,
        name: &str,
        dimensions: i32,
        index: Option<(&str, &str)>,
    ) {
        let schema = if extension == "vectors" { "vectors" } else { "public" };
        let oid = Oid(20_000);
        self.source.types.insert(oid, base_type(oid, QualifiedName::new(schema, name), extension));
        self.source.tables[0].columns.push(Column {
            type_modifier: dimensions,
            formatted_type: format!("{schema}.{name}"),
            ..column("embedding", 20_000)
        });
        if let Some((access_method, class)) = index {
            self.source.indexes.push(index_of(
                "clip",
                access_method,
                &format!(
                    "CREATE INDEX clip ON public.asset USING {access_method} (embedding {schema}.{class})"
                ),
            ));
        }
    }

    pub(crate) fn name_on_source(&mut self, kind: ObjectKind, name: &str, detail: &str) {
        self.source_rights.named.push(NamedObject { kind, name: name.to_owned(), detail: detail.to_owned() });
    }
}

pub(crate) fn session(role: &str, is_superuser: bool) -> SessionRights {
    SessionRights {
        role: role.to_owned(),
        is_superuser,
        can_create_database: is_superuser,
        bypasses_row_security: is_superuser,
        owns_database: true,
        can_create_in_database: true,
        can_create_in_public: Some(true),
    }
}

pub(crate) fn role(name: &str, is_member: bool) -> Role {
    Role {
        name: name.to_owned(),
        is_superuser: name == "postgres",
        can_login: true,
        is_member,
        can_create: false,
    }
}

pub(crate) fn client(application_name: &str, role: &str) -> ClientSession {
    ClientSession {
        pid: 4711,
        role: role.to_owned(),
        is_superuser: role == "postgres",
        application_name: application_name.to_owned(),
        client: None,
        state: None,
    }
}

pub(crate) fn extension(name: &str, version: &str) -> Extension {
    Extension {
        name: name.to_owned(),
        version: version.to_owned(),
        schema: "public".to_owned(),
        owner: "postgres".to_owned(),
        requires: vec![],
        configuration: vec![],
    }
}

pub(crate) fn tools(major: u32) -> ClientTools {
    ClientTools {
        place: ClientPlace::Machine("/usr/lib/postgresql/bin".into()),
        version: ClientVersion { major, text: format!("{major}.1") },
    }
}

pub(crate) fn column(name: &str, type_oid: u32) -> Column {
    Column {
        number: 1,
        name: name.to_owned(),
        type_oid: Oid(type_oid),
        formatted_type: "uuid".to_owned(),
        type_modifier: -1,
        is_not_null: true,
        has_default: false,
        generated: None,
        identity: None,
        collation: None,
    }
}

pub(crate) fn table(name: &str, columns: Vec<Column>) -> Table {
    Table {
        oid: Oid(16_400),
        name: QualifiedName::new("public", name),
        kind: TableKind::Ordinary,
        owner: "app".to_owned(),
        persistence: Persistence::Permanent,
        is_partition: false,
        parents: vec![],
        access_method: Some("heap".to_owned()),
        tablespace: None,
        pages: 1,
        heap_bytes: 8192,
        total_bytes: 8192,
        index_bytes: 0,
        estimated_rows: None,
        writes: 0,
        columns,
        primary_key: vec![],
        row_security: RowSecurity::Off,
        replica_identity: ReplicaIdentity::Default,
        configuration: None,
    }
}

pub(crate) fn index_of(name: &str, access_method: &str, definition: &str) -> Index {
    Index {
        oid: Oid(16_500),
        name: QualifiedName::new("public", name),
        table: QualifiedName::new("public", "asset"),
        table_oid: Oid(16_400),
        access_method: access_method.to_owned(),
        is_unique: false,
        is_primary: false,
        is_valid: true,
        is_ready: true,
        is_partitioned: false,
        parent: None,
        bytes: 0,
        definition: definition.to_owned(),
        constraint: None,
        keys: vec![IndexKey { column: None, operator_class: QualifiedName::new("public", "any_ops") }],
        options: vec![],
    }
}

fn base_type(oid: Oid, name: QualifiedName, extension: &str) -> Type {
    let function = |name: &str| Some(TypeFunction { oid: Oid(1), name: QualifiedName::new("public", name) });
    Type {
        oid,
        name,
        kind: TypeKind::Base,
        category: 'U',
        send: function("any_send"),
        receive: function("any_receive"),
        extension: Some(extension.to_owned()),
    }
}

fn catalog(version_num: i32, version: &str, system_identifier: &str) -> Catalog {
    Catalog {
        server: Server {
            version_num,
            version: version.to_owned(),
            system_identifier: Some(system_identifier.to_owned()),
            is_in_recovery: false,
            block_size: 8192,
            shared_preload_libraries: None,
            settings: ServerSettings {
                max_connections: 100,
                reserved_connections: 3,
                max_worker_processes: 8,
                max_parallel_workers: 8,
                max_parallel_maintenance_workers: 2,
                maintenance_work_mem: 64 << 20,
                shared_buffers: 128 << 20,
                max_wal_size: 1 << 30,
                max_locks_per_transaction: 64,
                max_prepared_transactions: 0,
                wal_level: "replica".to_owned(),
                data_checksums: true,
            },
        },
        database: Database {
            oid: Oid(16_384),
            name: "app".to_owned(),
            owner: "app".to_owned(),
            encoding: "UTF8".to_owned(),
            collate: "en_US.utf8".to_owned(),
            ctype: "en_US.utf8".to_owned(),
            locale_provider: LocaleProvider::Libc,
            locale: None,
            collation_version: Some("2.36".to_owned()),
            actual_collation_version: Some("2.36".to_owned()),
            comment: None,
            size_bytes: 8 << 20,
            settings: vec![],
            acl: None,
        },
        session: session("app", false),
        roles: vec![role("app", true), role("postgres", false)],
        clients: vec![],
        extensions: vec![Extension { schema: "pg_catalog".to_owned(), ..extension("plpgsql", "1.0") }],
        available_extensions: vec![],
        schemas: vec![Schema {
            name: "public".to_owned(),
            owner: "pg_database_owner".to_owned(),
            extension: None,
            holds_extensions: vec![],
            is_owned: true,
            can_use: true,
            creators: vec!["app".to_owned(), "postgres".to_owned()],
        }],
        types: [].into(),
        tables: vec![],
        materialized_views: vec![],
        sequences: vec![],
        indexes: vec![],
        constraints: vec![],
        large_objects: LargeObjects { count: 0, bytes: 0 },
        special: SpecialObjects {
            publications: 0,
            subscriptions: 0,
            event_triggers: 0,
            foreign_servers: 0,
            user_mappings: 0,
            prepared_transactions: 0,
            tablespaces: vec![],
        },
        user_objects: UserObjects { count: 0, first: vec![] },
        snapshot: "100:100:".to_owned(),
    }
}
