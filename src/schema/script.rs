//! The script of `pg_restore --verbose`, cut into entries, and held against `pg_restore --list`.
//!
//! The comment before an entry (`_printTocEntry` in `pg_backup_archiver.c`) is not made to be read back: a name
//! may hold `; Type: TABLE; Schema: x`. So it is read together with the entry's line of the list, which has the
//! same fields in another order, and only the reading that gives exactly that line counts. Comments are only
//! looked at between statements, where names and bodies cannot put them.
//!
//! Promises: the same entries as the list's, in the order of `pg_restore`'s passes; each statement belongs to one
//! entry, or to the preamble and is dropped by a rule here; whatever is not understood is an error that names it.

use std::collections::{BTreeSet, HashMap};

use super::entry::{Entry, EntryClass, Section};
use super::lexer::{LexError, Token, TokenKind, significant_tokens};
use super::split::{Piece, pieces};
use super::statement::span;
use crate::error::{Class, Fault};

/// A script that is not what `pg_restore` is known to write.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It cannot be cut into statements.
    #[error("could not cut the schema's script into statements")]
    Lex(#[from] LexError),
    /// A comment between statements that no rule knows.
    #[error("unknown comment in the schema's script: {0}")]
    Comment(String),
    /// A command of psql that no rule knows.
    #[error("unknown command of psql in the schema's script: {0}")]
    Meta(String),
    /// A statement outside any entry that no rule knows.
    #[error("unknown statement between the entries of the schema's script: {0}")]
    Preamble(String),
    /// The source does not follow the standard's rule for backslashes in strings.
    #[error("the source has standard_conforming_strings off")]
    NonStandardStrings,
    /// The comment before an entry and its line in the list do not give one reading.
    #[error("could not read the entry `{header}`, listed as `{listed}`")]
    Header {
        /// The comment.
        header: String,
        /// The rest of its line in the list; empty if there is none.
        listed: String,
    },
    /// The entries are not those of the list, or not in its order.
    #[error("entry {position} of the schema's script is {found}, but the list has {listed}")]
    Order {
        /// Counted from 1.
        position: usize,
        /// Id in the script, or `the end`.
        found: String,
        /// Id in the list, or `the end`.
        listed: String,
    },
}

impl Fault for ScriptError {
    fn class(&self) -> Class {
        match self {
            ScriptError::NonStandardStrings => Class::Source,
            _ => Class::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ScriptError::NonStandardStrings => {
                "add options='-c standard_conforming_strings=on' to the source's URI".to_owned()
            }
            _ => "this version of pg_dump writes something pgmove does not know; use client tools of the \
                  target's major version, or report the line"
                .to_owned(),
        })
    }
}

/// Comments between statements that say nothing, by their beginnings.
const IDLE_COMMENTS: [&str; 6] = [
    "-- PostgreSQL database dump",
    "-- Dumped from database version ",
    "-- Dumped by pg_dump version ",
    "-- Started on ",
    "-- Completed on ",
    // dumpNamespace() writes it in the place of CREATE SCHEMA public.
    "-- *not* creating schema, since initdb creates it",
];

/// The settings of the preamble (`_doSetFixedOutputState`); what of them matters is in `SESSION_SETTINGS`.
const PREAMBLE: [&str; 9] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_encoding",
    "check_function_bodies",
    "xmloption",
    "client_min_messages",
    "row_security",
];

/// An entry while its pieces come in.
struct Draft {
    id: u32,
    catalog_oid: (u32, u32),
    dependencies: Vec<u32>,
    header: Option<String>,
    table_access_method: Option<String>,
    statements: Vec<String>,
}

/// Cuts the script into entries. `list` is the output of `pg_restore --list` for the same archive.
pub fn parse(script: &str, list: &str) -> Result<Vec<Entry>, ScriptError> {
    let listed = parse_list(list)?;
    let drafts = drafts(script)?;
    let lines: HashMap<u32, &str> = listed.iter().copied().collect();
    let mut entries = drafts
        .into_iter()
        .map(|draft| {
            let line = lines.get(&draft.id).copied().unwrap_or_default();
            finish(draft, line)
        })
        .collect::<Result<Vec<Entry>, ScriptError>>()?;
    check_order(&entries, &listed)?;
    place_described(&mut entries);
    Ok(entries)
}

/// The dump ids of the list with the rest of their lines.
fn parse_list(list: &str) -> Result<Vec<(u32, &str)>, ScriptError> {
    list.lines()
        .filter(|line| !line.is_empty() && !line.starts_with(';'))
        .map(|line| {
            let (id, rest) = line.split_once("; ")?;
            Some((id.parse().ok()?, rest))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| ScriptError::Header { header: String::new(), listed: list.to_owned() })
}

fn drafts(script: &str) -> Result<Vec<Draft>, ScriptError> {
    let mut found: Vec<Draft> = Vec::new();
    let mut table_access_method = None;
    for piece in pieces(script)? {
        match piece {
            Piece::Meta(text) if text.starts_with("\\restrict ") || text.starts_with("\\unrestrict ") => {}
            Piece::Meta(text) => return Err(ScriptError::Meta(text.to_owned())),
            Piece::Comment(text) => {
                if let Some(rest) = text.strip_prefix("-- TOC entry ") {
                    let (id, catalog_oid) =
                        parse_ids(rest).ok_or_else(|| ScriptError::Comment(text.to_owned()))?;
                    found.push(Draft {
                        id,
                        catalog_oid,
                        dependencies: Vec::new(),
                        header: None,
                        table_access_method: table_access_method.clone(),
                        statements: Vec::new(),
                    });
                } else if !take_comment(text, found.last_mut()) {
                    return Err(ScriptError::Comment(text.to_owned()));
                }
            }
            Piece::Statement(text) => match session_setting(text)? {
                Some(Setting::TableAccessMethod(method)) => table_access_method = Some(method),
                Some(Setting::Idle) => {}
                Some(Setting::Preamble) if found.is_empty() => {}
                _ => match found.last_mut() {
                    Some(draft) if draft.header.is_some() => {
                        draft.statements.extend(without_attribute_version(text)?);
                    }
                    _ => return Err(ScriptError::Preamble(text.to_owned())),
                },
            },
        }
    }
    Ok(found)
}

/// `12 (class 1259 OID 16384)`
fn parse_ids(text: &str) -> Option<(u32, (u32, u32))> {
    let (id, rest) = text.split_once(" (class ")?;
    let (class, oid) = rest.strip_suffix(')')?.split_once(" OID ")?;
    Some((id.parse().ok()?, (class.parse().ok()?, oid.parse().ok()?)))
}

/// Takes a comment that belongs to the entry's head or says nothing; tells whether it is known.
fn take_comment(text: &str, draft: Option<&mut Draft>) -> bool {
    if text == "--" || IDLE_COMMENTS.iter().any(|known| text.starts_with(known)) {
        return true;
    }
    let Some(draft) = draft else { return false };
    if !draft.statements.is_empty() {
        return false;
    }
    if let Some(ids) = text.strip_prefix("-- Dependencies: ") {
        let parsed: Option<BTreeSet<u32>> = ids.split(' ').map(|id| id.parse().ok()).collect();
        let is_known = parsed.is_some();
        draft.dependencies = parsed.unwrap_or_default().into_iter().collect();
        return is_known;
    }
    if draft.header.is_none() && text.starts_with("-- Name: ") {
        draft.header = Some(text["-- Name: ".len()..].to_owned());
        return true;
    }
    draft.header.is_some() && text.starts_with("-- Data Pos: ")
}

/// What a statement says about the session.
enum Setting {
    TableAccessMethod(String),
    /// It may stand anywhere and says nothing, as `SET default_tablespace = ''`.
    Idle,
    /// It may stand in the preamble.
    Preamble,
}

/// Reads `SET name = value` and `SELECT pg_catalog.set_config('search_path', '', false)`; `None` for others.
fn session_setting(statement: &str) -> Result<Option<Setting>, ScriptError> {
    if statement == "SELECT pg_catalog.set_config('search_path', '', false)" {
        return Ok(Some(Setting::Preamble));
    }
    let tokens = significant_tokens(statement)?;
    let [set, name, equals, value] = tokens.as_slice() else { return Ok(None) };
    if !set.is_word("SET") || !equals.is_symbol("=") || name.kind != TokenKind::Word {
        return Ok(None);
    }
    Ok(match (name.text, value.text) {
        ("default_table_access_method", _) => setting_name(value).map(Setting::TableAccessMethod),
        ("default_tablespace", "''") | ("default_with_oids", "false") => Some(Setting::Idle),
        ("standard_conforming_strings", "on") => Some(Setting::Preamble),
        ("standard_conforming_strings", _) => return Err(ScriptError::NonStandardStrings),
        (name, _) => PREAMBLE.contains(&name).then_some(Setting::Preamble),
    })
}

fn setting_name(value: &Token<'_>) -> Option<String> {
    value.identifier().map(std::borrow::Cow::into_owned)
}

/// Removes the option `pg_attver` from `ALTER TABLE ... ALTER COLUMN ... SET (...)`, and the statement if nothing
/// else is set. Servers of the minor releases of November 2026 keep the version of a column's type among its
/// options (`ATTRIBUTE_VERSION_ATTOPTION` in `catalog/pg_attribute.h`); their own `pg_dump` leaves it out, older
/// ones write it, and it means nothing on another server, which may refuse it.
fn without_attribute_version(statement: &str) -> Result<Option<String>, LexError> {
    const OPTION: &str = "pg_attver";
    if !statement.contains(OPTION) {
        return Ok(Some(statement.to_owned()));
    }
    let tokens = significant_tokens(statement)?;
    let is_set = |pair: &[Token<'_>]| pair[0].is_word("SET") && pair[1].is_symbol("(");
    let open = tokens.windows(2).position(is_set).map(|at| at + 1);
    let Some(open) = open.filter(|_| tokens[0].is_word("ALTER")) else {
        return Ok(Some(statement.to_owned()));
    };
    let options = &tokens[open + 1..tokens.len() - 1];
    let kept: Vec<String> = options
        .split(|token| token.is_symbol(","))
        .filter(|option| option.first().is_some_and(|name| name.text != OPTION))
        .map(|option| span(statement, option))
        .collect();
    let before = &statement[..tokens[open].end()];
    Ok((!kept.is_empty()).then(|| format!("{before}{})", kept.join(", "))))
}

/// The entry of a draft whose line in the list is `listed`: `class-oid oid class schema tag owner`.
fn finish(draft: Draft, listed: &str) -> Result<Entry, ScriptError> {
    let header = draft.header.unwrap_or_default();
    let fields = read_header(&header, listed, draft.catalog_oid);
    let Some(Fields { class, schema, tag, owner }) = fields else {
        return Err(ScriptError::Header { header, listed: listed.to_owned() });
    };
    let is_kept = class == EntryClass::TABLE || class == EntryClass::MATERIALIZED_VIEW;
    Ok(Entry {
        id: draft.id,
        catalog_oid: draft.catalog_oid,
        class,
        schema,
        tag,
        owner,
        section: class.section().unwrap_or(Section::PreData),
        dependencies: draft.dependencies,
        table_access_method: draft.table_access_method.filter(|_| is_kept),
        statements: draft.statements,
    })
}

#[derive(PartialEq)]
struct Fields {
    class: EntryClass,
    schema: Option<String>,
    tag: String,
    owner: Option<String>,
}

/// The one reading of `name; Type: t; Schema: s; Owner: o` that gives the list's line.
fn read_header(header: &str, listed: &str, (catalog, oid): (u32, u32)) -> Option<Fields> {
    let fields = listed.strip_prefix(&format!("{catalog} {oid} "))?;
    let mut readings: Vec<Fields> = Vec::new();
    for (type_at, _) in header.match_indices("; Type: ") {
        let (tag, rest) = (&header[..type_at], &header[type_at + "; Type: ".len()..]);
        let Some((class, rest)) = rest.split_once("; Schema: ") else { continue };
        let Some(class) = EntryClass::from_name(class) else { continue };
        for (owner_at, _) in rest.match_indices("; Owner: ") {
            let (schema, owner) = (&rest[..owner_at], &rest[owner_at + "; Owner: ".len()..]);
            // The list leaves a missing owner empty, where the comment writes a dash.
            let is_same = fields == format!("{class} {schema} {tag} {owner}")
                || (owner == "-" && fields == format!("{class} {schema} {tag} "));
            let named = |text: &str| (text != "-").then(|| text.to_owned());
            let reading = Fields { class, schema: named(schema), tag: tag.to_owned(), owner: named(owner) };
            if is_same && !readings.contains(&reading) {
                readings.push(reading);
            }
        }
    }
    if readings.len() == 1 { readings.pop() } else { None }
}

/// `pg_restore`'s passes (`_tocEntryRestorePass`): rights after all else, event triggers after rights.
fn pass(class: EntryClass, tag: &str) -> u8 {
    match class.name() {
        "ACL" | "DEFAULT ACL" => 1,
        "EVENT TRIGGER" | "MATERIALIZED VIEW DATA" => 2,
        "COMMENT" if tag.starts_with("EVENT TRIGGER ") => 2,
        _ => 0,
    }
}

/// The list is in the archive's order, the script in that of the passes.
fn check_order(entries: &[Entry], listed: &[(u32, &str)]) -> Result<(), ScriptError> {
    let passes: HashMap<u32, u8> =
        entries.iter().map(|entry| (entry.id, pass(entry.class, &entry.tag))).collect();
    let mut expected: Vec<u32> = listed.iter().map(|(id, _)| *id).collect();
    expected.sort_by_key(|id| passes.get(id).copied().unwrap_or_default());
    let mut found = entries.iter().map(|entry| entry.id);
    let mut expected = expected.into_iter();
    let mut position = 1;
    loop {
        match (found.next(), expected.next()) {
            (None, None) => return Ok(()),
            (Some(a), Some(b)) if a == b => position += 1,
            (a, b) => {
                let name = |id: Option<u32>| id.map_or("the end".to_owned(), |id| id.to_string());
                return Err(ScriptError::Order { position, found: name(a), listed: name(b) });
            }
        }
    }
}

/// Comments and labels go to the section of what they describe; to pre-data if that is not in the dump.
fn place_described(entries: &mut [Entry]) {
    let sections: HashMap<u32, Section> = entries.iter().map(|entry| (entry.id, entry.section)).collect();
    for entry in entries.iter_mut().filter(|entry| entry.class.section().is_none()) {
        let described = entry.dependencies.iter().filter_map(|id| sections.get(id)).max();
        entry.section = described.copied().unwrap_or(Section::PreData);
    }
}

#[cfg(test)]
mod tests;
