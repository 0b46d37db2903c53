use super::super::entry::Section;
use super::*;

fn entry(class: EntryClass, tag: &str, statements: &[&str]) -> Entry {
    Entry {
        id: 1,
        catalog_oid: (0, 0),
        class,
        schema: Some("app".to_owned()),
        tag: tag.to_owned(),
        owner: None,
        section: Section::PreData,
        dependencies: Vec::new(),
        table_access_method: None,
        statements: statements.iter().map(ToString::to_string).collect(),
    }
}

fn table(tag: &str, text: &str) -> Entry {
    entry(EntryClass::TABLE, tag, &[text])
}

#[test]
fn blanks_comments_and_the_order_of_entries_say_nothing() {
    let one = table("a", "CREATE TABLE app.a (x int, -- first\n y text DEFAULT 'a  b')");
    let two = table("b", "CREATE TABLE app.b ()");
    let same = table("a", "CREATE TABLE app.a (\n    x int,\n    y text DEFAULT 'a  b'\n)");
    let result = compare(&[one, two.clone()], &[two, same], &[]);
    assert!(result.is_equal(), "{result:?}");
    assert_eq!(result.equal, 2);
}

#[test]
fn differences_are_found_on_each_side() {
    let source =
        [table("a", "CREATE TABLE app.a (x text DEFAULT 'a b')"), table("gone", "CREATE TABLE g ()")];
    let target =
        [table("a", "CREATE TABLE app.a (x text DEFAULT 'a  b')"), table("new", "CREATE TABLE n ()")];
    let result = compare(&source, &target, &[Tolerance::InheritedColumnOrder, Tolerance::NotNullName]);
    assert!(!result.is_equal());
    assert_eq!((result.only_in_source[0].tag.as_str(), result.only_in_source.len()), ("gone", 1));
    assert_eq!((result.only_in_target[0].tag.as_str(), result.only_in_target.len()), ("new", 1));
    assert_eq!(result.different[0].source, "CREATE TABLE app.a (x text DEFAULT 'a b')");
}

#[test]
fn entries_of_one_tag_are_matched_as_a_set() {
    let (one, two) =
        (table("a b", "CREATE TABLE app.\"a b\" ()"), table("a b", "CREATE TABLE app.\"a\nb\" ()"));
    let result = compare(&[one.clone(), two.clone()], &[two.clone(), one.clone()], &[]);
    assert_eq!((result.is_equal(), result.equal), (true, 2));
    let result = compare(&[one.clone(), two], &[one], &[]);
    assert_eq!((result.only_in_source.len(), result.equal), (1, 1));
}

#[test]
fn grants_have_no_order_but_their_grantor_counts() {
    let by_owner = "GRANT SELECT ON TABLE app.t TO a";
    let (set, by_other, reset) =
        ("SET SESSION AUTHORIZATION b", "GRANT SELECT ON TABLE app.t TO c", "RESET SESSION AUTHORIZATION");
    let acl = |statements: &[&str]| [entry(EntryClass::ACL, "TABLE t", statements)];
    let one = acl(&[by_owner, set, by_other, reset]);
    assert!(compare(&one, &acl(&[set, by_other, reset, by_owner]), &[]).is_equal());
    assert!(!compare(&one, &acl(&[set, by_owner, by_other, reset]), &[]).is_equal());
    assert!(!compare(&one, &acl(&[by_owner, by_other]), &[]).is_equal());
}

#[test]
fn names_and_options_are_equal_however_they_are_quoted() {
    for (source, target, is_equal) in [
        ("ALTER TABLE app.t OWNER TO \"me\"", "ALTER TABLE app.t OWNER TO me", true),
        ("ALTER TABLE app.t OWNER TO \"Me\"", "ALTER TABLE app.t OWNER TO me", false),
        ("CREATE VIEW app.v AS SELECT \"true\"", "CREATE VIEW app.v AS SELECT true", false),
        (
            "CREATE INDEX \"i\" ON \"app\".\"t\" USING hnsw (a app.ops) WITH (m = 16, o = $$x = '1'\n$$)",
            "CREATE INDEX i ON app.t USING hnsw (a app.ops) WITH (m='16', o='x = ''1''\n')",
            true,
        ),
        (
            "CREATE INDEX i ON app.t USING hnsw (a) WITH (m='16')",
            "CREATE INDEX i ON app.t USING hnsw (a) WITH (m='17')",
            false,
        ),
    ] {
        let result = compare(&[table("t", source)], &[table("t", target)], &[]);
        assert_eq!(result.is_equal(), is_equal, "{source}");
    }
    let [quoted, escaped] = [r"$a$x\'y$a$", r"E'x\\\\''y'"]
        .map(|text| constant(&significant_tokens(text).expect("a constant")[0]));
    assert_eq!(quoted, r"x\'y");
    assert_eq!(escaped, r"x\\'y");
}

#[test]
fn the_newer_right_on_tables_is_tolerated_by_name() {
    let acl = |statements: &[&str]| [entry(EntryClass::ACL, "TABLE t", statements)];
    let old = acl(&[
        "REVOKE SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE ON TABLE app.t FROM me",
        "GRANT SELECT,INSERT ON TABLE app.t TO me",
    ]);
    let new =
        acl(&["REVOKE ALL ON TABLE app.t FROM me", "GRANT SELECT,INSERT,MAINTAIN ON TABLE app.t TO me"]);
    assert!(!compare(&old, &new, &[]).is_equal());
    let result = compare(&old, &new, &[Tolerance::MaintainRight]);
    assert_eq!(result.tolerated[0].tolerances, [Tolerance::MaintainRight]);
    let less = acl(&["REVOKE ALL ON TABLE app.t FROM me", "GRANT SELECT ON TABLE app.t TO me"]);
    assert!(!compare(&old, &less, &[Tolerance::MaintainRight]).is_equal());
}

#[test]
fn tolerances_are_named_and_only_those_given_count() {
    let source = [table("c", "CREATE TABLE app.c (\n a int,\n x numeric(4,2)\n)\nINHERITS (app.p)")];
    let target = [table("c", "CREATE TABLE app.c (\n x numeric(4,2),\n a int\n)\nINHERITS (app.p)")];
    assert!(!compare(&source, &target, &[Tolerance::NotNullName]).is_equal());
    let both = [Tolerance::NotNullName, Tolerance::InheritedColumnOrder];
    let result = compare(&source, &target, &both);
    assert_eq!(result.tolerated[0].tolerances, [Tolerance::InheritedColumnOrder]);
    assert!(result.is_equal());

    let plain = [table("c", "CREATE TABLE app.c (a int, x int)")];
    let swapped = [table("c", "CREATE TABLE app.c (x int, a int)")];
    assert!(!compare(&plain, &swapped, &both).is_equal(), "without INHERITS the order counts");

    let named = [table("c", "CREATE TABLE app.c (a int CONSTRAINT c_a_not_null NOT NULL)")];
    let unnamed = [table("c", "CREATE TABLE app.c (a int NOT NULL)")];
    let nullable = [table("c", "CREATE TABLE app.c (a int)")];
    assert_eq!(compare(&unnamed, &named, &both).tolerated[0].tolerances, [Tolerance::NotNullName]);
    assert!(!compare(&nullable, &named, &both).is_equal());
}

#[test]
fn an_owner_is_given_to_a_relation_of_whatever_kind() {
    let older = entry(EntryClass::SEQUENCE, "s", &["ALTER TABLE app.s OWNER TO app"]);
    let newer = entry(EntryClass::SEQUENCE, "s", &["ALTER SEQUENCE app.s OWNER TO app"]);
    let other = entry(EntryClass::SEQUENCE, "s", &["ALTER SEQUENCE app.s OWNER TO other"]);
    assert!(compare(std::slice::from_ref(&older), &[newer], &[]).is_equal());
    assert!(!compare(&[older], &[other], &[]).is_equal());
}
