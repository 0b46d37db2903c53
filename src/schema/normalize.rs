//! Comparing the schemas of two databases as their dumps give them.
//!
//! Takes the entries of two dumps made by one pg_dump (the source's with the plan's rewrites applied); gives
//! what only one side has and what differs, with both texts. The order of entries does not matter, nor do blanks
//! and comments; the order of statements within an entry does, but for rights. Whatever else may differ
//! between equal schemas is a named [`Tolerance`], and each use of one is returned too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, EntryClass};
use super::lexer::{Token, TokenKind, significant_tokens};
use super::statement::{Cursor, top_level};
use crate::pg::{display_identifier, quote_literal};

/// What an entry is found by on the other side.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryKey {
    /// The class.
    pub class: EntryClass,
    /// The schema, where it has one.
    pub schema: Option<String>,
    /// The name.
    pub tag: String,
}

/// A difference that may be between equal schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tolerance {
    /// An inherited child's columns stand in another order: the parent's come first on the target, although
    /// the child had its own before the parent got more. Needed between any two servers.
    InheritedColumnOrder,
    /// The name of a NOT NULL constraint: servers before 18 have none, 18 gives one that a dump may show.
    NotNullName,
    /// The right `MAINTAIN` on tables: servers before 17 have none, 17 and later give it to owners.
    MaintainRight,
}

/// An entry that both sides have, in different words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Which.
    pub key: EntryKey,
    /// The source's statements, joined.
    pub source: String,
    /// The target's statements, joined.
    pub target: String,
    /// Whether it holds a query ([`Entry::holds_query`]): between two majors the texts prove nothing, until
    /// one server has written both.
    pub is_query: bool,
}

/// A difference that a tolerance explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tolerated {
    /// By which.
    pub tolerances: Vec<Tolerance>,
    /// What.
    pub difference: Difference,
}

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// How many entries were equal.
    pub equal: usize,
    /// Entries that the target lacks.
    pub only_in_source: Vec<EntryKey>,
    /// Entries that the source lacks.
    pub only_in_target: Vec<EntryKey>,
    /// Entries that differ.
    pub different: Vec<Difference>,
    /// Entries that differ as they may.
    pub tolerated: Vec<Tolerated>,
}

impl Comparison {
    /// Whether nothing differs, but for what is tolerated.
    pub fn is_equal(&self) -> bool {
        self.only_in_source.is_empty() && self.only_in_target.is_empty() && self.different.is_empty()
    }
}

/// Compares two schemas. Entries without statements do not count.
pub fn compare(source: &[Entry], target: &[Entry], tolerances: &[Tolerance]) -> Comparison {
    let (mut sources, mut targets) = (by_key(source), by_key(target));
    let mut result = Comparison::default();
    let keys: Vec<EntryKey> = sources.keys().chain(targets.keys()).cloned().collect();
    for key in keys {
        // A key of both sides comes twice; the second time there is nothing left.
        let mut ours = sources.remove(&key).unwrap_or_default();
        let mut theirs = targets.remove(&key).unwrap_or_default();
        // Several entries can have one key: a tag's line breaks became spaces.
        ours.retain(|entry| {
            let Some(at) = theirs.iter().position(|other| normal(other) == normal(entry)) else {
                return true;
            };
            theirs.remove(at);
            result.equal += 1;
            false
        });
        let pairs = ours.len().min(theirs.len());
        for (entry, other) in ours.drain(..pairs).zip(theirs.drain(..pairs)) {
            let difference = Difference {
                key: key.clone(),
                source: shown(entry),
                target: shown(other),
                is_query: entry.holds_query(),
            };
            match explain(entry, other, tolerances) {
                Some(tolerances) => result.tolerated.push(Tolerated { tolerances, difference }),
                None => result.different.push(difference),
            }
        }
        result.only_in_source.extend(ours.iter().map(|_| key.clone()));
        result.only_in_target.extend(theirs.iter().map(|_| key.clone()));
    }
    result
}

fn by_key(entries: &[Entry]) -> BTreeMap<EntryKey, Vec<&Entry>> {
    let mut found: BTreeMap<EntryKey, Vec<&Entry>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !entry.statements.is_empty()) {
        let key = EntryKey { class: entry.class, schema: entry.schema.clone(), tag: entry.tag.clone() };
        found.entry(key).or_default().push(entry);
    }
    found
}

fn shown(entry: &Entry) -> String {
    entry.commands().join(";\n")
}

/// A statement's tokens; what cannot be cut is one token.
type Statement = Vec<String>;

fn normal(entry: &Entry) -> Vec<Statement> {
    normal_with(entry, &[])
}

fn normal_with(entry: &Entry, tolerances: &[Tolerance]) -> Vec<Statement> {
    let mut statements: Vec<Statement> =
        entry.commands().iter().map(|text| normal_statement(text, tolerances)).collect();
    if entry.class == EntryClass::ACL || entry.class == EntryClass::DEFAULT_ACL {
        statements = grants(statements);
    }
    statements
}

fn normal_statement(text: &str, tolerances: &[Tolerance]) -> Statement {
    let Ok(mut tokens) = significant_tokens(text) else { return vec![text.to_owned()] };
    if tolerances.contains(&Tolerance::NotNullName) {
        drop_not_null_names(&mut tokens);
    }
    if tolerances.contains(&Tolerance::MaintainRight) {
        if let Some(statement) = without_maintain(&tokens) {
            return statement;
        }
    }
    if tolerances.contains(&Tolerance::InheritedColumnOrder) {
        if let Some(sorted) = with_sorted_columns(&tokens) {
            return sorted;
        }
    }
    let is_index = tokens.first().is_some_and(|first| first.is_word("CREATE"))
        && tokens.iter().take(3).any(|token| token.is_word("INDEX"));
    if is_index { with_quoted_options(&tokens) } else { words(&tokens) }
}

/// The tokens' texts, names without quotes they do not need: rewrites quote every name, pg_dump only some. `true`
/// and `false` are what a lower-case word in a dump can be besides a name.
fn words(tokens: &[Token<'_>]) -> Statement {
    tokens.iter().map(|token| word(token)).collect()
}

fn word(token: &Token<'_>) -> String {
    match token.identifier() {
        Some(name) if token.kind == TokenKind::QuotedIdentifier && name != "true" && name != "false" => {
            display_identifier(&name)
        }
        _ => token.text.to_owned(),
    }
}

/// An index's options as the server writes them, `m='16'`, where a rewrite has `m = 16` or `$$...$$`.
fn with_quoted_options(tokens: &[Token<'_>]) -> Statement {
    let with = top_level(tokens).into_iter().find(|at| tokens[*at].is_word("WITH"));
    let mut statement = words(tokens);
    let mut cursor = Cursor { tokens, at: with.map_or(tokens.len(), |at| at + 1) };
    let start = cursor.at;
    if cursor.parenthesised().is_some() {
        for at in start + 1..cursor.at {
            if tokens[at - 1].is_symbol("=") {
                statement[at] = quote_literal(&constant(&tokens[at]));
            }
        }
    }
    statement
}

/// The value of a constant. Escapes are only read where a dump or a rewrite writes them: a doubled backslash.
fn constant(token: &Token<'_>) -> String {
    let text = token.text;
    if token.kind != TokenKind::String {
        return text.to_owned();
    }
    if text.starts_with('$') {
        let tag = text[1..].find('$').map_or(0, |end| end + 2);
        return text[tag..text.len() - tag].to_owned();
    }
    let (quoted, has_escapes) = match text.strip_prefix(['E', 'e']) {
        Some(quoted) => (quoted, true),
        None => (text, false),
    };
    let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(quoted);
    let value = inner.replace("''", "'");
    if has_escapes { value.replace("\\\\", "\\") } else { value }
}

/// A grant on tables with its rights sorted, `MAINTAIN` left out, and all others called `ALL`; `None` for other
/// statements and rights on columns.
fn without_maintain(tokens: &[Token<'_>]) -> Option<Statement> {
    const OTHERS: [&str; 7] = ["DELETE", "INSERT", "REFERENCES", "SELECT", "TRIGGER", "TRUNCATE", "UPDATE"];
    let is_grant = |token: &Token<'_>| token.is_word("GRANT") || token.is_word("REVOKE");
    let start = tokens.iter().position(is_grant)? + 1;
    let end = start + tokens[start..].iter().position(|token| token.is_word("ON"))?;
    let kind = tokens.get(end + 1)?;
    if !kind.is_word("TABLE") && !kind.is_word("TABLES") {
        return None;
    }
    let listed = &tokens[start..end];
    if listed.iter().any(|token| token.is_symbol("(") || token.is_word("OPTION")) {
        return None;
    }
    let mut rights: Vec<&str> = listed
        .iter()
        .filter(|token| token.kind == TokenKind::Word && !token.is_word("MAINTAIN"))
        .map(|token| token.text)
        .collect();
    rights.sort_unstable();
    if rights == OTHERS {
        rights = vec!["ALL"];
    }
    let mut statement = words(&tokens[..start]);
    statement.extend(rights.iter().map(ToString::to_string));
    statement.extend(words(&tokens[end..]));
    Some(statement)
}

/// Grants do not depend on their order, which is that of an array in the catalog; but revoking comes first, and
/// what another role granted stays between its `SET` and `RESET SESSION AUTHORIZATION`.
fn grants(statements: Vec<Statement>) -> Vec<Statement> {
    let begins = |statement: &Statement, word: &str| statement.first().is_some_and(|first| first == word);
    let mut units: Vec<Statement> = Vec::new();
    let mut is_open = false;
    for statement in statements {
        let closes = begins(&statement, "RESET");
        let opens = begins(&statement, "SET");
        match units.last_mut() {
            Some(unit) if is_open => unit.extend(statement),
            _ => units.push(statement),
        }
        is_open = (is_open || opens) && !closes;
    }
    units.sort_by_cached_key(|unit| (!begins(unit, "REVOKE"), unit.clone()));
    units
}

/// Removes `CONSTRAINT name` before `NOT NULL`.
fn drop_not_null_names(tokens: &mut Vec<Token<'_>>) {
    let mut at = 0;
    while at + 3 < tokens.len() {
        if tokens[at].is_word("CONSTRAINT") && tokens[at + 2].is_word("NOT") && tokens[at + 3].is_word("NULL")
        {
            tokens.drain(at..at + 2);
        }
        at += 1;
    }
}

/// The tokens of a `CREATE TABLE ... (...) INHERITS (...)` with what is in the first parentheses sorted; `None`
/// for other statements.
fn with_sorted_columns(tokens: &[Token<'_>]) -> Option<Statement> {
    let mut cursor = Cursor { tokens, at: 0 };
    cursor.word("CREATE")?;
    let _ = cursor.word("UNLOGGED");
    cursor.word("TABLE")?;
    cursor.qualified_name()?;
    let open = cursor.at;
    let columns = cursor.parenthesised()?;
    let close = cursor.at;
    cursor.word("INHERITS")?;
    let mut parts: Vec<Statement> =
        columns.split(|depth, token| depth == 0 && token.is_symbol(",")).into_iter().map(words).collect();
    parts.sort();
    let mut sorted = words(&tokens[..=open]);
    sorted.extend(parts.join(&",".to_owned()));
    sorted.extend(words(&tokens[close - 1..]));
    Some(sorted)
}

/// The fewest tolerances, in their given order, under which two entries are equal.
fn explain(source: &Entry, target: &Entry, tolerances: &[Tolerance]) -> Option<Vec<Tolerance>> {
    let is_equal = |used: &[Tolerance]| normal_with(source, used) == normal_with(target, used);
    if let Some(one) = tolerances.iter().find(|one| is_equal(std::slice::from_ref(one))) {
        return Some(vec![*one]);
    }
    is_equal(tolerances).then(|| tolerances.to_vec())
}

#[cfg(test)]
mod tests {
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
        let (set, by_other, reset) = (
            "SET SESSION AUTHORIZATION b",
            "GRANT SELECT ON TABLE app.t TO c",
            "RESET SESSION AUTHORIZATION",
        );
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
}
