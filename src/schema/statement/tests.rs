use super::*;

#[test]
fn an_index_is_taken_apart() {
    let found = index_statement(
        "CREATE UNIQUE INDEX \"ix; -- person\" ON ONLY app.person USING btree (lower(name) COLLATE \"C\" text_pattern_ops DESC NULLS LAST, ((amount)::integer + 1), b app.reversed) INCLUDE (big) NULLS NOT DISTINCT WITH (fillfactor='70') WHERE (name <> ';'::text)",
    )
    .expect("an index");
    assert!(found.is_unique && found.is_only);
    assert_eq!(found.name, "ix; -- person");
    assert_eq!(found.table, QualifiedName::new("app", "person"));
    let columns: Vec<(&str, &str)> =
        found.columns.iter().map(|column| (column.expression.as_str(), column.rest.as_str())).collect();
    assert_eq!(
        columns,
        [
            ("lower(name)", "COLLATE \"C\" text_pattern_ops DESC NULLS LAST"),
            ("((amount)::integer + 1)", ""),
            ("b", "app.reversed"),
        ]
    );
    let classes: Vec<Option<String>> = found.columns.iter().map(IndexColumn::operator_class).collect();
    assert_eq!(classes, [Some("text_pattern_ops".to_owned()), None, Some("reversed".to_owned())]);
    assert_eq!(found.before_options, "INCLUDE (big) NULLS NOT DISTINCT");
    assert_eq!(found.options.as_deref(), Some("fillfactor='70'"));
    assert_eq!(found.predicate.as_deref(), Some("(name <> ';'::text)"));
    assert_eq!(index_statement("CREATE TABLE app.t (a int)"), None);
    assert_eq!(index_statement("CREATE INDEX i ON app.t USING btree (a"), None);
}

#[test]
fn a_plain_unique_constraint_is_taken_apart() {
    let primary = unique_constraint(
        "ALTER TABLE ONLY app.\"Wide\"\n    ADD CONSTRAINT \"pk; a\" PRIMARY KEY (id, \"no, pe\")",
    )
    .expect("a constraint");
    assert_eq!(
        primary.index(),
        "CREATE UNIQUE INDEX \"pk; a\" ON \"app\".\"Wide\" USING btree (id, \"no, pe\")"
    );
    assert_eq!(
        primary.upon_index(),
        "ALTER TABLE ONLY \"app\".\"Wide\" ADD CONSTRAINT \"pk; a\" PRIMARY KEY USING INDEX \"pk; a\""
    );
    let add = "ALTER TABLE ONLY app.t ADD CONSTRAINT c";
    assert!(unique_constraint(&format!("{add} UNIQUE (a)")).is_some());
    for other in [
        "UNIQUE NULLS NOT DISTINCT (a)",
        "UNIQUE (a) INCLUDE (b)",
        "UNIQUE (a) WITH (fillfactor='70')",
        "PRIMARY KEY (a) DEFERRABLE INITIALLY DEFERRED",
        "PRIMARY KEY (a, during WITHOUT OVERLAPS)",
        "CHECK ((a > 0))",
        "EXCLUDE USING gist (a WITH =)",
        "FOREIGN KEY (a) REFERENCES app.u(a)",
    ] {
        assert_eq!(unique_constraint(&format!("{add} {other}")), None, "{other}");
    }
}

#[test]
fn a_statement_tells_its_relation() {
    for (statement, expected) in [
        ("CREATE UNLOGGED TABLE app.\"a.b\" (x int)", Some(("app", "a.b"))),
        ("CREATE FOREIGN TABLE app.far (x int) SERVER s", Some(("app", "far"))),
        ("ALTER TABLE ONLY app.t ADD CONSTRAINT c PRIMARY KEY (a)", Some(("app", "t"))),
        ("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.t NOT DEFERRABLE", Some(("app", "t"))),
        ("CREATE TRIGGER x BEFORE UPDATE OF \"on\" ON app.t FOR EACH ROW", Some(("app", "t"))),
        ("CREATE RULE r AS\n    ON INSERT TO app.v DO INSTEAD NOTHING", Some(("app", "v"))),
        ("CREATE POLICY p ON app.t TO reader", Some(("app", "t"))),
        ("CREATE UNIQUE INDEX i ON ONLY app.t USING btree (a)", Some(("app", "t"))),
        ("CREATE MATERIALIZED VIEW app.m AS SELECT 1", Some(("app", "m"))),
        ("CREATE OR REPLACE VIEW app.v AS SELECT 1", Some(("app", "v"))),
        ("CREATE FUNCTION app.f() RETURNS int", None),
        ("GRANT SELECT ON TABLE app.t TO x", None),
        ("", None),
    ] {
        let expected = expected.map(|(schema, name)| QualifiedName::new(schema, name));
        assert_eq!(relation(statement), expected, "{statement}");
    }
}
