//! Comparing the schemas of two databases as their dumps give them.
//!
//! Takes the entries of two dumps made by one `pg_dump` (the source's with the plan's rewrites applied); gives
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
    /// The source's statements, joined; constants masked where they may be secrets.
    pub source: String,
    /// The target's statements, joined and masked likewise.
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
                source: entry.shown_text(),
                target: other.shown_text(),
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
    if let Some(statement) = relation_owner(&tokens) {
        return statement;
    }
    if tolerances.contains(&Tolerance::NotNullName) {
        drop_not_null_names(&mut tokens);
    }
    if tolerances.contains(&Tolerance::MaintainRight)
        && let Some(statement) = without_maintain(&tokens)
    {
        return statement;
    }
    if tolerances.contains(&Tolerance::InheritedColumnOrder)
        && let Some(sorted) = with_sorted_columns(&tokens)
    {
        return sorted;
    }
    let is_index = tokens.first().is_some_and(|first| first.is_word("CREATE"))
        && tokens.iter().take(3).any(|token| token.is_word("INDEX"));
    if is_index { with_quoted_options(&tokens) } else { words(&tokens) }
}

/// `ALTER TABLE name OWNER TO role`, whatever kind of relation it names: clients before 16 write `TABLE` for
/// views and sequences too, and an archive's DDL may be of another client than the target's.
fn relation_owner(tokens: &[Token<'_>]) -> Option<Statement> {
    let [.., owner, to, _] = tokens else { return None };
    let is_owner = owner.is_word("OWNER") && to.is_word("TO") && tokens.first()?.is_word("ALTER");
    let kind = ["TABLE", "SEQUENCE", "VIEW"].iter().any(|kind| tokens[1].is_word(kind));
    let rest = match (is_owner, kind, tokens[1].is_word("MATERIALIZED")) {
        (true, true, _) => &tokens[2..],
        (true, _, true) => &tokens[3..],
        _ => return None,
    };
    let mut statement = vec!["ALTER".to_owned(), "TABLE".to_owned()];
    statement.extend(words(rest));
    Some(statement)
}

/// The tokens' texts, names without quotes they do not need: rewrites quote every name, `pg_dump` only some. `true`
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
    if let Some(rest) = text.strip_prefix('$') {
        let tag = rest.find('$').map_or(0, |end| end + 2);
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
mod tests;
