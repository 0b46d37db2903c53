use super::*;

/// A script as `pg_restore` writes it, with names that look like its comments.
const SCRIPT: &str = r#"--
-- PostgreSQL database dump
--

\restrict mPBwMkFQyuSZ

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 18.4

-- Started on 2026-11-23 05:14:39 UTC

SET statement_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET row_security = off;

--
-- TOC entry 7 (class 2615 OID 2200)
-- Name: public; Type: SCHEMA; Schema: -; Owner: pg
-- Data Pos: 0
--

-- *not* creating schema, since initdb creates it


ALTER SCHEMA public OWNER TO pg;

SET default_table_access_method = heap;

--
-- TOC entry 221 (class 1259 OID 16895)
-- Dependencies: 7 5 7
-- Name: a; Type: VIEW; Schema: app; Owner: nobody; Type: TABLE; Schema: Sch; Type: TABLE; Schema: x; Owner: pg
-- Data Pos: 0
--

CREATE TABLE "Sch; Type: TABLE; Schema: x"."a; Type: VIEW; Schema: app; Owner: nobody" (
    "c
--
-- TOC entry 5 (class 1 OID 1)
-- Name: z; Type: VIEW; Schema: public; Owner: pg
\connect x" integer
);


ALTER TABLE "Sch; Type: TABLE; Schema: x"."a; Type: VIEW; Schema: app; Owner: nobody" OWNER TO pg;

--
-- TOC entry 2574 (class 2605 OID 16960)
-- Name: CAST (app.mood AS integer); Type: CAST; Schema: -; Owner: -
--

CREATE CAST (app.mood AS integer) WITH FUNCTION app.mood_number(app.mood) AS ASSIGNMENT;


--
-- TOC entry 2606 (class 1259 OID 17074)
-- Dependencies: 221
-- Name: i; Type: INDEX; Schema: app; Owner: pg
--

CREATE INDEX i ON app.t USING btree (a);


--
-- TOC entry 2801 (class 0 OID 0)
-- Dependencies: 2606
-- Name: INDEX i; Type: COMMENT; Schema: app; Owner: pg
--

COMMENT ON INDEX app.i IS 'semi;colon
--
\restrict x';


--
-- TOC entry 2800 (class 0 OID 0)
-- Dependencies: 7
-- Name: SCHEMA public; Type: ACL; Schema: -; Owner: pg
--

REVOKE USAGE ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO PUBLIC;


-- Completed on 2026-11-23 05:14:39 UTC

--
-- PostgreSQL database dump complete
--

\unrestrict mPBwMkFQyuSZ
"#;

const LIST: &str = "\
;
; Archive created at 2026-11-23 05:14:39 UTC
;
7; 2615 2200 SCHEMA - public pg
2800; 0 0 ACL - SCHEMA public pg
221; 1259 16895 TABLE Sch; Type: TABLE; Schema: x a; Type: VIEW; Schema: app; Owner: nobody pg
2574; 2605 16960 CAST - CAST (app.mood AS integer) 
2606; 1259 17074 INDEX app i pg
2801; 0 0 COMMENT app INDEX i pg
";

fn message(script: &str, list: &str) -> String {
    parse(script, list).expect_err("it is refused").to_string()
}

#[test]
fn a_script_is_cut_into_the_entries_of_the_list() {
    let entries = parse(SCRIPT, LIST).expect("it is understood");
    let ids: Vec<u32> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [7, 221, 2574, 2606, 2801, 2800], "rights come last");
    let table = &entries[1];
    assert_eq!(table.tag, "a; Type: VIEW; Schema: app; Owner: nobody");
    assert_eq!(table.schema.as_deref(), Some("Sch; Type: TABLE; Schema: x"));
    assert_eq!((table.class, table.owner.as_deref()), (EntryClass::TABLE, Some("pg")));
    assert_eq!(table.dependencies, [5, 7]);
    assert_eq!(table.catalog_oid, (1259, 16895));
    assert_eq!(table.table_access_method.as_deref(), Some("heap"));
    assert_eq!(table.statements.len(), 2);
    assert_eq!(table.commands().len(), 3);
    assert_eq!((entries[2].schema.as_deref(), entries[2].owner.as_deref()), (None, None));
    assert_eq!(entries[0].statements, ["ALTER SCHEMA public OWNER TO pg"]);
    assert_eq!(entries[5].statements.len(), 2);
    let sections: Vec<Section> = entries.iter().map(|entry| entry.section).collect();
    let (before, after) = (Section::PreData, Section::PostData);
    assert_eq!(sections, [before, before, before, after, after, after]);
}

#[test]
fn what_is_not_understood_is_named() {
    for (from, to, expected) in [
        ("-- *not* creating schema, since", "-- now and then", "unknown comment"),
        ("\\unrestrict mPBw", "\\connect mPBw", "unknown command of psql"),
        ("SET row_security = off;", "SET new_setting = off;", "SET new_setting = off"),
        (
            "SELECT pg_catalog.set_config('search_path', ''",
            "SELECT pg_catalog.set_config('search_path', 'x'",
            "'x'",
        ),
        (
            "standard_conforming_strings = on",
            "standard_conforming_strings = off",
            "standard_conforming_strings off",
        ),
        ("Type: INDEX;", "Type: INDEXING;", "`i; Type: INDEXING;"),
        ("-- Dependencies: 2606", "-- Dependencies: many", "-- Dependencies: many"),
    ] {
        let script = SCRIPT.replace(from, to);
        assert_ne!(script, SCRIPT);
        let found = message(&script, LIST);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn entries_and_list_must_agree() {
    let lacking = LIST.replace("2606; 1259 17074 INDEX app i pg\n", "");
    assert!(message(SCRIPT, &lacking).contains("`i; Type: INDEX; Schema: app; Owner: pg`"));
    let more = format!("{LIST}9; 1 2 TABLE app other pg\n");
    assert_eq!(message(SCRIPT, &more), "entry 6 of the schema's script is 2800, but the list has 9");
    let other = LIST.replace("INDEX app i pg", "INDEX app i owner");
    assert!(message(SCRIPT, &other).contains("listed as `1259 17074 INDEX app i owner`"));
    let mut lines: Vec<&str> = LIST.lines().collect();
    lines.swap(5, 6);
    assert!(message(SCRIPT, &lines.join("\n")).starts_with("entry 2 of"));
}

#[test]
fn the_version_of_a_columns_type_is_left_behind() {
    for (statement, expected) in [
        ("ALTER TABLE ONLY a.b ALTER COLUMN c SET (pg_attver=1)", None),
        (
            "ALTER TABLE ONLY a.b ALTER COLUMN c SET (pg_attver=1, n_distinct=-0.5)",
            Some("ALTER TABLE ONLY a.b ALTER COLUMN c SET (n_distinct=-0.5)"),
        ),
        (
            "ALTER TABLE ONLY a.b ALTER COLUMN pg_attver SET (n_distinct=1)",
            Some("ALTER TABLE ONLY a.b ALTER COLUMN pg_attver SET (n_distinct=1)"),
        ),
        ("CREATE TABLE a.pg_attver (a int)", Some("CREATE TABLE a.pg_attver (a int)")),
    ] {
        assert_eq!(without_attribute_version(statement).expect("it is whole").as_deref(), expected);
    }
}
