use std::collections::BTreeSet;

use super::super::entry::{EntryClass, Section};
use super::*;
use crate::pg::QualifiedName;

fn entry(class: EntryClass, tag: &str, statements: &[&str]) -> Entry {
    Entry {
        id: 7,
        catalog_oid: (0, 0),
        class,
        schema: Some("app".to_owned()),
        tag: tag.to_owned(),
        owner: Some("old owner".to_owned()),
        section: Section::PreData,
        dependencies: Vec::new(),
        table_access_method: None,
        statements: statements.iter().map(ToString::to_string).collect(),
    }
}

fn roles(owners: Owners, existing: &[&str]) -> Roles {
    let existing: BTreeSet<String> = existing.iter().map(ToString::to_string).collect();
    Roles { owners, assignable: existing.clone(), existing, creator: None, may_impersonate: false }
}

#[test]
fn owners_are_kept_given_away_or_left_out() {
    let statements = [
        "CREATE TABLE app.t (a text DEFAULT 'ALTER x OWNER TO y')",
        "ALTER TABLE app.t OWNER TO \"old owner\"",
    ];
    let mut kept = entry(EntryClass::TABLE, "t", &statements);
    assert_eq!(owners(&mut kept, &roles(Owners::Keep, &["old owner"])), []);
    assert_eq!(kept.statements, statements);

    let mut given = entry(EntryClass::TABLE, "t", &statements);
    let changes = owners(&mut given, &roles(Owners::All("new; \"owner\"".to_owned()), &[]));
    assert_eq!(given.statements[1], "ALTER TABLE app.t OWNER TO \"new; \"\"owner\"\"\"");
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].before, statements[1]);
    assert_eq!(changes[0].after.as_deref(), Some(given.statements[1].as_str()));
    assert_eq!((changes[0].object.as_str(), changes[0].entry), ("TABLE app.t", 7));

    let mut left = entry(EntryClass::TABLE, "t", &statements);
    let changes = owners(&mut left, &roles(Owners::Keep, &["other"]));
    assert_eq!(left.statements, &statements[..1]);
    assert_eq!(changes[0].reason, "role \"old owner\" does not exist on the target");

    let mut schema = entry(EntryClass::SCHEMA, "s", &["CREATE SCHEMA s AUTHORIZATION gone"]);
    owners(&mut schema, &roles(Owners::Keep, &[]));
    assert_eq!(schema.statements, ["CREATE SCHEMA s"]);
}

#[test]
fn grants_of_missing_roles_go_and_others_stay() {
    let statements = [
        "REVOKE ALL ON TABLE app.t FROM \"old owner\"",
        "GRANT SELECT,INSERT ON TABLE app.t TO reader WITH GRANT OPTION",
        "SET SESSION AUTHORIZATION reader",
        "GRANT SELECT ON TABLE app.t TO gone",
        "GRANT UPDATE(\"to\") ON TABLE app.t TO PUBLIC",
        "RESET SESSION AUTHORIZATION",
        "GRANT ALL ON FUNCTION app.f(\"from\" text) TO \"PUBLIC\"",
    ];
    let mut acl = entry(EntryClass::ACL, "TABLE t", &statements);
    let changes = rights(&mut acl, &roles(Owners::All("new".to_owned()), &["new", "reader"]));
    assert_eq!(
        acl.statements,
        ["REVOKE ALL ON TABLE app.t FROM \"new\"", statements[1], statements[4]],
        "the former owner's rights become the new one's; a role may be called PUBLIC"
    );
    let kinds: Vec<Rewrite> = changes.iter().map(|change| change.rewrite).collect();
    assert_eq!(kinds, [Rewrite::Grantor, Rewrite::Grantor, Rewrite::Role, Rewrite::Role, Rewrite::Role]);

    let mut acl = entry(EntryClass::ACL, "TABLE t", &statements);
    let superuser =
        Roles { may_impersonate: true, ..roles(Owners::Keep, &["old owner", "reader", "gone", "PUBLIC"]) };
    assert_eq!(rights(&mut acl, &superuser), []);
    assert_eq!(acl.statements, statements);
}

#[test]
fn default_privileges_follow_the_creator() {
    let statement =
        "ALTER DEFAULT PRIVILEGES FOR ROLE \"old owner\" IN SCHEMA app GRANT SELECT ON TABLES  TO reader";
    let mut acl = entry(EntryClass::DEFAULT_ACL, "DEFAULT PRIVILEGES FOR TABLES", &[statement]);
    rights(&mut acl, &roles(Owners::All("new".to_owned()), &["new", "reader"]));
    assert_eq!(acl.statements, [statement.replace("old owner", "new")]);

    let mut acl = entry(EntryClass::DEFAULT_ACL, "DEFAULT PRIVILEGES FOR TABLES", &[statement]);
    let others = Roles { assignable: [].into(), ..roles(Owners::Keep, &["old owner", "reader"]) };
    assert_eq!(rights(&mut acl, &others), [], "they are no matter of who gets the objects");
    assert_eq!(default_privileges_of(&acl).as_deref(), Some("old owner"));
    let creator = Roles { creator: Some("new".to_owned()), ..roles(Owners::Keep, &["new", "reader"]) };
    assert_eq!(rights(&mut acl, &creator)[0].after, None);
    assert_eq!(acl.statements, [""; 0]);
}

#[test]
fn a_new_owner_is_read_with_the_objects_schema() {
    for (class, statement, schema) in [
        (EntryClass::TABLE, "ALTER TABLE \"a.b\".t OWNER TO \"new; owner\"", Some("a.b")),
        (EntryClass::FUNCTION, "ALTER FUNCTION app.f(x other.y) OWNER TO \"new; owner\"", Some("app")),
        (EntryClass::SCHEMA, "ALTER SCHEMA app OWNER TO \"new; owner\"", None),
    ] {
        let given = new_owner(&entry(class, "t", &["CREATE ...", statement])).expect("an owner");
        assert_eq!((given.schema.as_deref(), given.role.as_str()), (schema, "new; owner"));
        assert_eq!(given.statement, statement);
    }
    let schema = entry(EntryClass::SCHEMA, "s", &["CREATE SCHEMA s AUTHORIZATION somebody"]);
    assert_eq!(new_owner(&schema), None);
}

#[test]
fn a_policy_for_nobody_goes_and_never_becomes_one_for_all() {
    let statement = "CREATE POLICY p ON app.t FOR SELECT TO gone, reader USING ((name <> 'to;'::text))";
    let mut one = entry(EntryClass::POLICY, "t p", &[statement]);
    assert_eq!(rights(&mut one, &roles(Owners::Keep, &["reader"])).len(), 1);
    assert_eq!(one.statements, [statement.replace("gone, reader", "reader")]);
    assert_eq!(rights(&mut one, &roles(Owners::Keep, &[])).len(), 1);
    assert_eq!(one.statements, [""; 0]);
    let mut all = entry(EntryClass::POLICY, "t p", &["CREATE POLICY p ON app.t USING (true)"]);
    assert_eq!(rights(&mut all, &roles(Owners::Keep, &[])), []);
}

#[test]
fn secrets_are_not_in_changes() {
    let statement = "CREATE USER MAPPING FOR gone SERVER s OPTIONS (\n    password 'p;w'\n)";
    let mut mapping = entry(EntryClass::USER_MAPPING, "USER MAPPING gone SERVER s", &[statement]);
    let changes = rights(&mut mapping, &roles(Owners::Keep, &[]));
    assert_eq!(changes[0].before, statement.replace("p;w", "***"));
    let mut public = entry(EntryClass::USER_MAPPING, "", &["CREATE USER MAPPING FOR PUBLIC SERVER s"]);
    assert_eq!(rights(&mut public, &roles(Owners::Keep, &[])), []);
}

#[test]
fn extensions_and_the_legacy_schema_are_dropped() {
    let mut create = entry(
        EntryClass::EXTENSION,
        "vectors",
        &["CREATE EXTENSION IF NOT EXISTS vectors WITH SCHEMA vectors"],
    );
    assert_eq!(extension(&mut create).len(), 1);
    assert!(create.statements.is_empty());
    let mut comment =
        entry(EntryClass::COMMENT, "EXTENSION vectors", &["COMMENT ON EXTENSION vectors IS 'x'"]);
    assert_eq!(extension(&mut comment).len(), 1);

    for statement in [
        "CREATE SCHEMA vectors",
        "ALTER SCHEMA vectors OWNER TO postgres",
        "COMMENT ON SCHEMA vectors IS 'x'",
        "GRANT USAGE ON SCHEMA \"vectors\" TO PUBLIC",
    ] {
        let mut one = entry(EntryClass::SCHEMA, "vectors", &[statement]);
        assert_eq!(legacy_schema(&mut one, "vectors").len(), 1, "{statement}");
        let mut other = entry(EntryClass::SCHEMA, "x", &[&statement.replace("vectors", "\"Vectors\"")]);
        let renamed = statement.replace("\"vectors\"", "vectors") != statement;
        assert!(renamed || legacy_schema(&mut other, "vectors").is_empty(), "{statement}");
    }
}

#[test]
fn a_schema_that_the_target_has_stays_and_its_rights_are_carried_where_allowed() {
    let has = |name: &str, is_owned| {
        [ExistingSchema { name: name.to_owned(), owner: "admin".to_owned(), is_owned }]
    };
    for name in ["public", "extensions"] {
        let statements = [format!("CREATE SCHEMA {name}"), format!("ALTER SCHEMA {name} OWNER TO postgres")];
        let statements = statements.each_ref().map(String::as_str);
        let mut definition = entry(EntryClass::SCHEMA, name, &statements);
        let changes = existing_schema(&mut definition, &has(name, true));
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0].reason, format!("schema {name} is on the target and keeps its owner admin"));
        let grant = format!("REVOKE USAGE ON SCHEMA {name} FROM PUBLIC");
        let mut acl = entry(EntryClass::ACL, &format!("SCHEMA {name}"), &[&grant]);
        assert_eq!(existing_schema(&mut acl, &has(name, true)), []);
        assert_eq!(existing_schema(&mut acl, &has(name, false)).len(), 1);
        let mut other = entry(EntryClass::SCHEMA, "app", &["CREATE SCHEMA app"]);
        assert_eq!(existing_schema(&mut other, &has(name, false)), []);
    }
}

fn renames() -> [TypeRename; 2] {
    [("vector", "vector"), ("vecf16", "halfvec")].map(|(from, to)| TypeRename {
        from: QualifiedName::new("vectors", from),
        to: QualifiedName::new("public", to),
        storage: "EXTERNAL".to_owned(),
    })
}

#[test]
fn types_are_renamed_outside_strings_only() {
    let table = "CREATE TABLE app.t (\n    a vectors.vector(512) NOT NULL,\n    \"vectors.vector\" text DEFAULT 'vectors.vector',\n    b \"vectors\".\"vecf16\"[] DEFAULT NULL::vectors.vecf16[]\n)";
    let storage = "ALTER TABLE ONLY app.t ALTER COLUMN a SET STORAGE PLAIN";
    let own = "ALTER TABLE ONLY app.t ALTER COLUMN b SET STORAGE EXTERNAL";
    let other = "ALTER TABLE ONLY app.t ALTER COLUMN \"vectors.vector\" SET STORAGE EXTERNAL";
    let mut one = entry(EntryClass::TABLE, "t", &[table, storage, own, other]);
    let changes = types(&mut one, &renames());
    assert_eq!(changes.len(), 2);
    assert_eq!(
        one.statements[0],
        "CREATE TABLE app.t (\n    a \"public\".\"vector\"(512) NOT NULL,\n    \"vectors.vector\" text DEFAULT 'vectors.vector',\n    b \"public\".\"halfvec\"[] DEFAULT NULL::\"public\".\"halfvec\"[]\n)"
    );
    assert_eq!(one.statements[1..], [storage, other], "what is the type's own is left out");
    assert!(!one.mentions_schema("vectors"));
}

#[test]
fn tags_of_routines_follow_their_types() {
    for (class, tag, expected) in [
        (EntryClass::FUNCTION, "f(vectors.vector, text)", "f(public.vector, text)"),
        (EntryClass::COMMENT, "FUNCTION f(x vectors.vector)", "FUNCTION f(x public.vector)"),
        (EntryClass::COMMENT, "TABLE f(vectors.vector)", "TABLE f(vectors.vector)"),
        (EntryClass::TABLE, "f(vectors.vector)", "f(vectors.vector)"),
    ] {
        let mut one = entry(class, tag, &[]);
        types(&mut one, &renames());
        assert_eq!(one.tag, expected);
    }
}

#[test]
fn in_a_view_a_column_of_a_table_called_vectors_is_no_type() {
    let view = "CREATE VIEW app.v AS\n SELECT vectors.vector,\n    (vectors.vector OPERATOR(vectors.<->) '[1,2]'::vectors.vector) AS d\n   FROM app.vectors";
    let mut one = entry(EntryClass::VIEW, "v", &[view]);
    types(&mut one, &renames());
    assert_eq!(
        one.statements,
        [
            "CREATE VIEW app.v AS\n SELECT vectors.vector,\n    (vectors.vector OPERATOR(\"public\".<->) '[1,2]'::\"public\".\"vector\") AS d\n   FROM app.vectors"
        ]
    );
    assert!(one.mentions_schema("vectors"));
    let function = "CREATE FUNCTION app.f(a vectors.vector) RETURNS vectors.vector\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT vectors.vector FROM app.vectors;\nEND";
    let mut one = entry(EntryClass::FUNCTION, "f", &[function]);
    types(&mut one, &renames());
    let head = "CREATE FUNCTION app.f(a \"public\".\"vector\") RETURNS \"public\".\"vector\"\n";
    assert!(one.statements[0].starts_with(head), "{}", one.statements[0]);
    assert!(one.statements[0].contains("SELECT vectors.vector FROM"));
}

#[test]
fn a_vector_index_keeps_name_table_and_predicate() {
    let statement = "CREATE INDEX \"clip; index\" ON public.smart_search USING vectors (embedding vectors.vector_cos_ops) WITH (options='[indexing.hnsw]\nm = 16') WHERE (kind = 'WITH (x)'::text)";
    let mut one = entry(
        EntryClass::INDEX,
        "clip; index",
        &[statement, "ALTER TABLE public.smart_search CLUSTER ON \"clip; index\""],
    );
    let index = VectorIndex {
        access_method: "vchordrq".to_owned(),
        operator_class: "public.vector_cosine_ops".to_owned(),
        options: Some("options = $$\nresidual_quantization = false\n$$".to_owned()),
    };
    let changes = vector_index(&mut one, &index);
    assert_eq!(changes.len(), 1);
    assert_eq!(
        one.statements[0],
        "CREATE INDEX \"clip; index\" ON \"public\".\"smart_search\" USING vchordrq (embedding public.vector_cosine_ops) WITH (options = $$\nresidual_quantization = false\n$$) WHERE (kind = 'WITH (x)'::text)"
    );
    assert_eq!(one.statements.len(), 2);
    let mut two = entry(EntryClass::INDEX, "i", &["CREATE INDEX i ON a.b USING hnsw (c, d)"]);
    assert_eq!(vector_index(&mut two, &index), []);
}
