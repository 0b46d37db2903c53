//! One case a finding: a clean pair of databases, one thing wrong, and the findings that must come of it.

pub(crate) mod case;

use std::fmt::Write as _;

use case::{Case, client, column, extension, index_of, role, session, table, tools};

use super::*;
use crate::catalog::{
    ConfigurationRelation, Constraint, ConstraintKind, DatabaseIdentity, DatabaseSetting, Persistence,
    RowSecurity, Schema, Table, TableKind, UserObject, UserObjects,
};
use crate::pg::{Oid, QualifiedName};

/// What goes wrong.
type Change = fn(&mut Case);

/// The expected findings (blocking ones with a `!`), and what goes wrong.
const CASES: &[(&[&str], Change)] = &[
    (&["!same-database"], |case| {
        case.target.server.system_identifier.clone_from(&case.source.server.system_identifier);
    }),
    (&["!same-database"], |case| {
        case.target.server.system_identifier = None;
        case.has_same_address = true;
    }),
    (&["!same-database", "target-replaced"], |case| {
        case.source.server.system_identifier = None;
        case.target.user_objects = case.source.user_objects.clone();
        case.replaces_target = true;
    }),
    (&["!source-too-old"], |case| version(&mut case.source, 110_022, "11.22")),
    (&["!target-too-old"], |case| {
        version(&mut case.source, 130_010, "13.10");
        version(&mut case.target, 130_018, "13.18");
    }),
    (&["!server-unknown"], |case| {
        version(&mut case.target, 190_000, "19beta1");
        case.tools = Ok(tools(19));
    }),
    (&["!target-older"], |case| version(&mut case.target, 140_010, "14.10")),
    (&["!target-standby"], |case| case.target.server.is_in_recovery = true),
    (&["!fence-on-standby", "!unlogged-on-standby", "source-standby"], |case| {
        case.source.server.is_in_recovery = true;
        case.source.tables[0].persistence = Persistence::Unlogged;
    }),
    (&["!client-tools"], |case| {
        case.tools = Err(ClientError::TooOld { found: vec!["15.18 in /usr/bin".into()], needed: 17 });
    }),
    (&["!client-tools"], |case| case.tools = Ok(tools(16))),
    (&["!target-not-empty"], |case| case.target.user_objects = objects(12)),
    (&["!target-not-empty", "!other-ledger"], |case| {
        case.target.user_objects = objects(2);
        case.ledger = Ledger::Other("20260801-1200");
    }),
    (&["other-ledger"], |case| {
        case.ledger = Ledger::Other("20260801-1200");
        case.replaces_target = true;
    }),
    (&["target-replaced"], |case| {
        case.target.user_objects = objects(1);
        case.replaces_target = true;
    }),
    (&["!target-read-only"], |case| case.target.database.settings = vec![read_only(None)]),
    (&["!target-read-only"], |case| case.target.database.settings = vec![read_only(Some("app"))]),
    (&["other-ledger"], |case| {
        case.ledger = Ledger::Other("20260801-1200");
        case.target.database.settings = vec![read_only(None)];
        case.replaces_target = true;
    }),
    (&["!target-read-only"], |case| {
        case.target.database.settings = vec![read_only(None)];
        case.replaces_target = true;
    }),
    (&["!target-in-use"], |case| {
        case.target.clients = vec![client("immich", "app")];
        case.replaces_target = true;
    }),
    (&["!target-in-use"], |case| {
        case.target.clients = vec![client("pgmove 20260801-1200", "app")];
        case.target.clients[0].state = Some("idle in transaction".into());
        case.replaces_target = true;
    }),
    (&["target-in-use"], |case| case.target.clients = vec![client("immich", "app")]),
    (&["!source-unreadable"], |case| {
        case.source_rights.unreadable = vec![
            unreadable("table", "public.secret", "select"),
            unreadable("sequence", "hidden.counter", "schema"),
        ];
    }),
    (&["!source-unreadable"], |case| {
        version(&mut case.source, 130_010, "13.10");
        case.source_rights.unreadable = vec![unreadable("sequence", "public.counter", "select")];
    }),
    (&["!source-row-security"], |case| {
        case.source_rights.unreadable = vec![unreadable("table", "public.guarded", "row security")];
    }),
    (&["!source-large-objects", "owners-not-kept"], |case| {
        case.source_rights.large_object_owners =
            vec![LargeObjectOwner { owner: "scanner".into(), count: 7, unreadable: 5 }];
    }),
    (&["!admin-elsewhere"], |case| {
        let postgres = DatabaseIdentity { name: "postgres".into(), oid: Oid(5), ..case.target.identity() };
        case.admin_database = Some(postgres);
    }),
    (&[], |case| case.admin_database = Some(case.target.identity())),
    (&["!target-not-owned"], |case| {
        case.target.session.owns_database = false;
        case.target.database.owner = "postgres".into();
    }),
    (&["!target-public"], |case| case.target.session.can_create_in_public = Some(false)),
    (&["!target-without-public"], |case| case.target.session.can_create_in_public = None),
    (&["!target-schema-usage"], |case| {
        case.install_both("pg_trgm", "1.6");
        for catalog in [&mut case.source, &mut case.target] {
            catalog.extensions.last_mut().expect("it was installed").schema = "extensions".into();
        }
        let holds_extensions = vec!["pg_trgm".into()];
        let public = case.target.schemas[0].clone();
        let schema = Schema { name: "extensions".into(), holds_extensions, can_use: false, ..public };
        case.target.schemas.push(schema);
    }),
    (&["!owner-missing"], |case| case.owner = Some("immich")),
    (&["!owner-not-member"], |case| case.owner = Some("postgres")),
    (&["!owner-not-member"], |case| {
        case.owner = Some("immich");
        case.target.roles.push(role("immich", false));
    }),
    (&["owners-not-kept"], |case| {
        case.source.tables[0].owner = "immich".into();
        case.source.tables.push(Table { owner: "postgres".into(), ..table("plan", vec![]) });
    }),
    (&["!default-privileges", "default-privileges-dropped"], |case| {
        case.source_rights.default_privileges = vec![privileges("postgres"), privileges("immich")];
    }),
    (&["!default-privileges", "owners-not-kept"], |case| {
        case.target.roles.push(role("immich", false));
        case.source.tables[0].owner = "immich".into();
        case.source_rights.default_privileges = vec![privileges("immich")];
    }),
    (&["!target-row-security"], |case| case.source.tables[0].row_security = RowSecurity::Forced),
    (&["!extension-not-offered"], |case| case.source.extensions.push(extension("postgis", "3.5.0"))),
    (&["!extension-not-offered", "!extension-needs-superuser", "preload-unknown"], |case| {
        case.source.extensions.push(extension("vectors", "0.2.0"));
        case.vector_index = VectorIndexChoice::Vchordrq;
        case.embed("vectors", "vector", 512, Some(("vectors", "vector_cos_ops")));
        case.offer("vector", "0.8.5");
    }),
    (&["!extension-needs-superuser"], |case| {
        case.source.extensions =
            vec![extension("earthdistance", "1.2"), extension("pg_trgm", "1.6"), extension("cube", "1.5")];
        case.source.extensions[0].requires = vec!["cube".into()];
        case.offer("cube", "1.5").is_trusted = true;
        case.offer("earthdistance", "1.2").requires = vec!["cube".into()];
        case.offer("pg_trgm", "1.6").is_trusted = true;
    }),
    (&["!extension-configuration"], |case| {
        case.install_both("postgis", "3.5.0");
        case.source.extensions[1].configuration = vec![configuration("spatial_ref_sys")];
    }),
    (&["!extension-schema"], |case| {
        case.install_both("cube", "1.5");
        case.target.extensions[1].schema = "extensions".into();
    }),
    (&["!extension-schema"], |case| {
        case.install_both("cube", "1.5");
        case.target.extensions[1].schema = "pg_catalog".into();
    }),
    (&["extension-older"], |case| {
        case.install_both("pg_trgm", "1.6");
        case.target.extensions[1].version = "1.5".into();
    }),
    (&["!extension-older-type"], |case| {
        case.install_both("vector", "0.6.2");
        case.source.extensions[1].version = "0.8.5".into();
        case.embed("vector", "halfvec", 512, None);
    }),
    (&["!preload-missing"], |case| {
        case.install_both("vchord", "1.1.1");
        case.target.server.shared_preload_libraries = Some("pg_stat_statements".into());
    }),
    (&["preload-unknown"], |case| case.install_both("vchord", "1.1.1")),
    (&["preload-differs"], |case| {
        case.install_both("pg_cron", "1.6");
        case.source.server.shared_preload_libraries = Some("pg_cron.so".into());
        case.target.server.shared_preload_libraries = Some(String::new());
    }),
    (&["!earthdistance"], |case| earth(case, 170_002, "17.2")),
    (&["earthdistance"], |case| earth(case, 160_006, "16.6")),
    (&["!legacy-vector-type"], |case| {
        legacy(case, "0.8.5");
        case.embed("vectors", "svector", 512, None);
    }),
    (&["!vector-too-long"], |case| {
        legacy(case, "0.8.5");
        case.embed("vectors", "vector", 20_000, None);
    }),
    (&["!legacy-vector-index"], |case| {
        legacy(case, "0.8.5");
        case.embed("vectors", "vector", 512, Some(("vectors", "vector_jaccard_ops")));
    }),
    (&["!vector-without-dimensions"], |case| {
        legacy(case, "0.8.5");
        case.embed("vectors", "vector", -1, Some(("vectors", "vector_cos_ops")));
    }),
    (&["!vector-index-dimensions"], |case| {
        legacy(case, "0.8.5");
        case.embed("vectors", "vector", 3072, Some(("vectors", "vector_cos_ops")));
    }),
    (&["!vector-index-unlogged", "unlogged-tables"], |case| {
        legacy(case, "0.8.5");
        case.install_both("vchord", "1.1.1");
        case.target.server.shared_preload_libraries = Some("vchord.so".into());
        case.embed("vectors", "vector", 512, Some(("vectors", "vector_cos_ops")));
        case.source.tables[0].persistence = Persistence::Unlogged;
    }),
    (&["pgvector-parallel-build"], |case| {
        legacy(case, "0.8.1");
        case.embed("vectors", "vector", 512, Some(("vectors", "vector_cos_ops")));
    }),
    (&["!encoding"], |case| case.target.database.encoding = "LATIN1".into()),
    (&["encoding-unchecked"], |case| case.source.database.encoding = "SQL_ASCII".into()),
    (&["target-encoding-unknown"], |case| case.target.database.encoding = "SQL_ASCII".into()),
    (&["locale-differs", "trigrams-ascii-only"], |case| {
        case.install_both("pg_trgm", "1.6");
        case.target.database.collate = "C".into();
        case.target.database.ctype = "C".into();
    }),
    (&["locale-differs"], |case| {
        case.source.database.locale_provider = crate::catalog::LocaleProvider::Icu;
        case.source.database.locale = Some("de-DE".into());
    }),
    (&["!collation-missing"], |case| {
        case.target_rights.collations = ["C".to_owned()].into();
        for (name, collation) in [("name", "C"), ("city", "de_DE.utf8")] {
            let collation = Some(QualifiedName::new("pg_catalog", collation));
            case.source.tables[0].columns.push(crate::catalog::Column { collation, ..column(name, 25) });
        }
    }),
    (&["collation-version"], |case| case.source.database.actual_collation_version = Some("2.41".into())),
    (&["target-collation-version"], |case| {
        case.target.database.actual_collation_version = Some("2.41".into());
    }),
    (&["target-prepared-transactions"], |case| case.target.special.prepared_transactions = 1),
    (&["!prepared-transactions"], |case| case.source.special.prepared_transactions = 2),
    (&["!target-connections"], |case| case.target.server.settings.max_connections = 10),
    (&["!source-connections"], |case| case.source.server.settings.max_connections = 6),
    (&["!lock-table"], |case| case.source.tables = tables(6401)),
    (&["lock-table-tight"], |case| case.source.tables = tables(3201)),
    (&["!needs-superuser"], |case| {
        case.name_on_source(ObjectKind::EventTrigger, "audit", "");
        case.name_on_source(ObjectKind::Publication, "everything", "all tables");
        case.name_on_source(ObjectKind::Publication, "library", "tables in schema");
        case.name_on_source(ObjectKind::Publication, "one", "");
    }),
    (&["!foreign-server"], |case| case.name_on_source(ObjectKind::ForeignServer, "archive", "postgres_fdw")),
    (&["foreign-tables"], |case| case.source.tables[0].kind = TableKind::Foreign),
    (&["user-mappings"], |case| case.name_on_source(ObjectKind::UserMapping, "public", "archive")),
    (&["subscriptions"], |case| case.name_on_source(ObjectKind::Subscription, "feed", "")),
    (&["tablespaces"], |case| case.source.special.tablespaces = vec!["fast".into()]),
    (&["unlogged-tables"], |case| case.source.tables[0].persistence = Persistence::Unlogged),
    (&["invalid-indexes"], |case| {
        let index =
            index_of("half_built", "btree", "CREATE INDEX half_built ON public.asset USING btree (id)");
        case.source.indexes = vec![crate::catalog::Index { is_valid: false, ..index }];
    }),
    (&["constraints-not-valid"], |case| {
        case.source.constraints = vec![Constraint {
            table: QualifiedName::new("public", "asset"),
            name: "asset_check".into(),
            kind: ConstraintKind::Check,
            is_validated: false,
            references: None,
            definition: "CHECK (true) NOT VALID".into(),
        }];
    }),
    (&["!fence-not-permitted"], |case| {
        case.source.session.owns_database = false;
        case.source.database.owner = "postgres".into();
    }),
    (&["fence-ends-sessions"], |case| {
        case.source.clients = vec![client("immich", "app"), client("immich", "app")];
    }),
    (&["fence-cannot-end"], |case| {
        case.source.clients = vec![client("immich", "app"), client("", "postgres")];
    }),
    (&["source-in-use", "no-fence"], |case| {
        case.is_fenced = false;
        case.source.clients = vec![client("immich", "app"), client("pgmove check", "app")];
    }),
];

/// Changes after which there is still nothing to find.
const CLEAN: &[Change] = &[
    |_| (),
    |case| {
        case.ledger = Ledger::Own;
        case.target.user_objects = objects(40);
        case.target.database.settings = vec![read_only(None)];
    },
    |case| {
        case.is_fenced = false;
        case.source.database.settings = vec![read_only(None)];
    },
    |case| {
        case.admin = Some(session("postgres", true));
        case.source.extensions.push(extension("earthdistance", "1.1"));
        case.offer("earthdistance", "1.2");
        case.name_on_source(ObjectKind::EventTrigger, "audit", "");
        case.source_rights.default_privileges = vec![privileges("postgres")];
    },
    |case| {
        case.owner = Some("immich");
        case.target.roles.push(role("immich", true));
        case.source.tables[0].owner = "postgres".into();
        case.source_rights.default_privileges = vec![privileges("postgres")];
    },
    |case| {
        legacy(case, "0.8.5");
        case.embed("vectors", "vector", 512, Some(("vectors", "vector_cos_ops")));
    },
    |case| {
        case.name_on_source(ObjectKind::ForeignServer, "archive", "postgres_fdw");
        let (kind, name, detail) = (ObjectKind::ForeignDataWrapper, "postgres_fdw".into(), "usable".into());
        case.target_rights.named = vec![NamedObject { kind, name, detail }];
    },
    |case| {
        case.source.extensions.push(extension("jobs", "1.0"));
        case.source.extensions[1].configuration = vec![configuration("job")];
        case.offer("jobs", "1.0").needs_superuser = false;
    },
    |case| {
        case.install_both("postgis", "3.5.0");
        case.source.extensions[1].configuration = vec![configuration("spatial_ref_sys")];
        case.target.session = session("postgres", true);
    },
    |case| case.target.database.ctype = "en_US.UTF-8".into(),
    |case| case.source.database.encoding = "LATIN1".into(),
    // Equal identifiers are a cluster with two databases.
    |case| {
        case.target.server.system_identifier.clone_from(&case.source.server.system_identifier);
        case.target.database.oid = Oid(16_999);
        case.has_same_address = true;
    },
];

fn version(catalog: &mut Catalog, number: i32, text: &str) {
    catalog.server.version_num = number;
    text.clone_into(&mut catalog.server.version);
}

fn objects(count: u64) -> UserObjects {
    let first = UserObject { kind: "table".into(), name: "public.asset".into() };
    UserObjects { count, first: vec![first] }
}

fn read_only(role: Option<&str>) -> DatabaseSetting {
    DatabaseSetting {
        role: role.map(str::to_owned),
        name: "default_transaction_read_only".into(),
        value: "on".into(),
    }
}

fn unreadable(kind: &str, name: &str, reason: &str) -> UnreadableRelation {
    UnreadableRelation {
        kind: kind.into(),
        name: name.into(),
        owner: "postgres".into(),
        reason: reason.into(),
    }
}

fn configuration(name: &str) -> ConfigurationRelation {
    ConfigurationRelation {
        oid: Oid(16_600),
        name: QualifiedName::new("public", name),
        condition: "WHERE NOT is_built_in".into(),
    }
}

fn privileges(role: &str) -> DefaultPrivileges {
    DefaultPrivileges { role: role.into(), schema: Some("public".into()), objects: "TABLES".into() }
}

fn tables(count: usize) -> Vec<Table> {
    vec![table("asset", vec![column("id", 2950)]); count]
}

/// A source with pgvecto.rs, and pgvector of this version on the target.
fn legacy(case: &mut Case, pgvector: &str) {
    case.source.extensions.push(extension("vectors", "0.2.0"));
    case.offer("vector", pgvector);
    case.target.extensions.push(extension("vector", pgvector));
}

fn earth(case: &mut Case, number: i32, text: &str) {
    version(&mut case.target, number, text);
    case.install_both("earthdistance", "1.1");
    let definition =
        "CREATE INDEX place ON public.asset USING gist (public.ll_to_earth(latitude, longitude))";
    case.source.indexes = vec![index_of("place", "gist", definition)];
}

fn labelled(finding: &Finding) -> String {
    let mark = if finding.severity == Severity::Blocking { "!" } else { "" };
    format!("{mark}{}", finding.id)
}

fn changed(change: Change) -> Vec<Finding> {
    let mut case = Case::clean();
    change(&mut case);
    case.findings()
}

#[test]
fn each_case_is_found_and_nothing_else() {
    for (expected, change) in CASES {
        let found = changed(*change);
        let mut labels: Vec<String> = found.iter().map(labelled).collect();
        let mut expected: Vec<&str> = expected.to_vec();
        labels.sort_unstable();
        expected.sort_unstable();
        assert_eq!(labels, expected, "{found:#?}");
    }
}

#[test]
fn a_sound_pair_has_no_findings() {
    for change in CLEAN {
        assert_eq!(changed(*change), vec![]);
    }
}

#[test]
fn blocking_findings_come_first_and_refuse() {
    for (expected, change) in CASES {
        let found = changed(*change);
        assert!(found.is_sorted_by_key(|finding| Reverse(finding.severity)));
        assert_eq!(is_refused(&found), expected.iter().any(|label| label.starts_with('!')));
    }
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(few(1..=3).to_string(), "1, 2, 3");
    let long = warning("invalid-indexes", "a list", few(1..=10), "none");
    assert_eq!((long.evidence.as_str(), long.objects.len()), ("1, 2, 3, 4, 5, 6, 7, 8 and 2 more", 10));
    let within =
        warning("invalid-indexes", "a list", few(1..=10).within(|list| format!("seen: {list}")), "none");
    assert_eq!((within.evidence.starts_with("seen: 1, "), within.objects), (true, long.objects));
}

/// Every finding once as an operator reads it.
#[test]
fn wording() {
    let mut text = String::new();
    for (_, change) in CASES {
        for finding in changed(*change) {
            let Finding { title, evidence, remedy, .. } = &finding;
            let block = format!("{}: {title}\n  seen: {evidence}\n  do:   {remedy}\n\n", labelled(&finding));
            if !text.contains(&block) {
                text.write_str(&block).expect("a string takes all");
            }
        }
    }
    insta::assert_snapshot!(text);
}
