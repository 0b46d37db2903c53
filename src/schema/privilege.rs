//! Which entries an ordinary owner of a database cannot apply.
//!
//! Pure, from an entry's class and words, by PostgreSQL's documentation of each command. What depends on the
//! roles of a server (whose default privileges, whose objects, membership) is not judged here.

use super::entry::{Entry, EntryClass};
use super::lexer::{Token, significant_tokens};

/// Classes that only a superuser creates, and whose comments and rights are only its own to give.
const CLASSES: [&str; 11] = [
    "ACCESS METHOD",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PUBLICATION TABLES IN SCHEMA",
    "SHELL TYPE",
    "SUBSCRIPTION",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
];

/// Classes whose owner must be a superuser too.
pub(super) const OWNED_BY_SUPERUSERS: [&str; 2] = ["EVENT TRIGGER", "FOREIGN DATA WRAPPER"];

/// Why only a superuser can apply an entry; `None` where an owner of the database can. A subscription can from
/// 16 on be made by a member of `pg_create_subscription`, too.
pub fn superuser_reason(entry: &Entry) -> Option<String> {
    let class = entry.class.name();
    if CLASSES.contains(&class) {
        return Some(format!("only a superuser creates objects of class {class}"));
    }
    if entry.class == EntryClass::ACL || entry.class.section().is_none() {
        let described = CLASSES.iter().find(|name| entry.tag.starts_with(&format!("{name} ")))?;
        return Some(format!("it describes a superuser's object of class {described}"));
    }
    let tokens = significant_tokens(entry.statements.first()?).ok()?;
    let has = |words: &[&str]| {
        tokens
            .windows(words.len())
            .any(|window| window.iter().zip(words).all(|(token, word)| token.is_word(word)))
    };
    let reason = match class {
        "PUBLICATION" if has(&["FOR", "ALL"]) => "it publishes all tables",
        "FUNCTION" | "PROCEDURE" if has(&["LANGUAGE", "C"]) || has(&["LANGUAGE", "INTERNAL"]) => {
            "its language is not trusted"
        }
        "FUNCTION" if has(&["LEAKPROOF"]) => "it is leakproof",
        "SERVER" => "it needs a right on its foreign data wrapper, which is a superuser's",
        "CAST" if has(&["WITHOUT", "FUNCTION"]) => "it is a cast without a function",
        "TYPE" if is_base_type(&tokens) => "it is a base type",
        _ => return None,
    };
    Some(reason.to_owned())
}

/// `CREATE TYPE name` alone, or with its parentheses at once: an enum, a range or a composite has `AS`.
fn is_base_type(tokens: &[Token<'_>]) -> bool {
    let is_create = tokens.len() > 1 && tokens[0].is_word("CREATE") && tokens[1].is_word("TYPE");
    let definition = tokens.iter().find(|token| token.is_symbol("(") || token.is_word("AS"));
    is_create && definition.is_none_or(|token| token.is_symbol("("))
}

#[cfg(test)]
mod tests {
    use super::super::entry::Section;
    use super::*;

    #[test]
    fn only_what_an_owner_cannot_do_needs_a_superuser() {
        for (class, tag, statement, expected) in [
            ("EVENT TRIGGER", "e", "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()", true),
            ("COMMENT", "EVENT TRIGGER e", "COMMENT ON EVENT TRIGGER e IS 'x'", true),
            ("COMMENT", "TABLE e", "COMMENT ON TABLE a.e IS 'x'", false),
            ("PUBLICATION", "p", "CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert')", true),
            ("PUBLICATION", "p", "CREATE PUBLICATION p WITH (publish = 'insert')", false),
            ("FUNCTION", "f()", "CREATE FUNCTION a.f() RETURNS int LANGUAGE c AS '$libdir/x', 'f'", true),
            ("FUNCTION", "f()", "CREATE FUNCTION a.f() RETURNS int LANGUAGE sql AS 'LANGUAGE c'", false),
            ("TYPE", "t", "CREATE TYPE a.t (INPUT = a.in, OUTPUT = a.out)", true),
            ("TYPE", "t", "CREATE TYPE a.t", true),
            ("TYPE", "t", "CREATE TYPE a.t AS ENUM ('(')", false),
            ("CAST", "CAST (a AS b)", "CREATE CAST (a.a AS a.b) WITHOUT FUNCTION", true),
            ("CAST", "CAST (a AS b)", "CREATE CAST (a.a AS a.b) WITH FUNCTION a.f(a.a)", false),
            ("TABLE", "t", "CREATE TABLE a.t (leakproof int)", false),
        ] {
            let entry = Entry {
                id: 1,
                catalog_oid: (0, 0),
                class: EntryClass::from_name(class).expect("a class"),
                schema: None,
                tag: tag.to_owned(),
                owner: None,
                section: Section::PreData,
                dependencies: Vec::new(),
                table_access_method: None,
                statements: vec![statement.to_owned()],
            };
            assert_eq!(superuser_reason(&entry).is_some(), expected, "{statement}");
        }
    }
}
