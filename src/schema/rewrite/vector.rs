//! Rewrites for vectors: types of a legacy extension, and vector indexes.

use super::super::entry::{Entry, EntryClass};
use super::super::lexer::{Token, significant_tokens};
use super::super::statement::index_statement;
use super::{Change, Edit, Rewrite, edit, replace};
use crate::pg::{QualifiedName, display_identifier, quote_identifier};

/// A type that becomes another one, its modifier kept: `vectors.vector(512)` to `public.vector(512)`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TypeRename {
    /// The source's type.
    pub from: QualifiedName,
    /// The target's type.
    pub to: QualifiedName,
    /// The target type's own storage (`typstorage`) in the words of `SET STORAGE`: `EXTERNAL`.
    pub storage: String,
}

/// Renames types, and the schema of operators written `OPERATOR(schema.<->)` where a renamed type lies in it.
/// Only identifiers count, never strings: a quoted function body stays as it is. A column's `SET STORAGE` stays,
/// unless it sets what is the new type's own storage: the target's dump would not have it either. The tags of
/// routines name their arguments' types, so these are renamed too, without a change of their own.
///
/// In a view `vectors.vector` may also be a column of a table `vectors`, so there, and in SQL-standard bodies, a
/// type is only what a cast names. What is left can be found with [`Entry::mentions_schema`].
pub fn types(entry: &mut Entry, renames: &[TypeRename]) -> Vec<Change> {
    let is_query = [EntryClass::VIEW, EntryClass::MATERIALIZED_VIEW, EntryClass::RULE].contains(&entry.class);
    rename_in_tag(entry, renames);
    let mut columns: Vec<(String, String)> = Vec::new();
    edit(entry, Rewrite::Type, |statement, tokens| {
        if let Some((column, storage)) = storage_line(tokens) {
            return if columns.contains(&(column, storage)) {
                Edit::Drop("it is the type's own storage".to_owned())
            } else {
                Edit::Keep
            };
        }
        let found = occurrences(tokens, renames, is_query);
        let mut replacements: Vec<(Token<'_>, String)> = Vec::new();
        for Occurrence { at, rename, is_operator } in found {
            replacements.push((tokens[at], quote_identifier(&rename.to.schema)));
            if is_operator {
                continue;
            }
            replacements.push((tokens[at + 2], quote_identifier(&rename.to.name)));
            let column = at.checked_sub(1).and_then(|before| tokens[before].identifier());
            if let Some(column) = column.filter(|_| makes_table(tokens)) {
                columns.push((column.into_owned(), rename.storage.clone()));
            }
        }
        if replacements.is_empty() {
            return Edit::Keep;
        }
        let reason = "the target has another extension's type".to_owned();
        Edit::Replace(replace(statement, &replacements), reason)
    })
}

fn makes_table(tokens: &[Token<'_>]) -> bool {
    tokens[0].is_word("CREATE") && tokens[1..tokens.len().min(3)].iter().any(|token| token.is_word("TABLE"))
}

/// A place where a type or an operator is named: its schema's index.
struct Occurrence<'r> {
    at: usize,
    rename: &'r TypeRename,
    is_operator: bool,
}

fn occurrences<'r>(tokens: &[Token<'_>], renames: &'r [TypeRename], is_query: bool) -> Vec<Occurrence<'r>> {
    let mut found = Vec::new();
    let mut is_in_query = is_query;
    for (at, triple) in tokens.windows(3).enumerate() {
        is_in_query |= triple[0].is_word("BEGIN") && triple[1].is_word("ATOMIC");
        let [schema, dot, name] = triple else { continue };
        let Some(schema) = schema.identifier().filter(|_| dot.is_symbol(".")) else { continue };
        let is_after = |symbol: &str| at.checked_sub(1).is_some_and(|index| tokens[index].is_symbol(symbol));
        let is_operator =
            is_after("(") && at.checked_sub(2).is_some_and(|index| tokens[index].is_word("OPERATOR"));
        let is_type = !is_after(".") && (is_after(":") || !is_in_query);
        let rename = renames.iter().find(|rename| {
            rename.from.schema == schema
                && (is_operator || is_type && name.identifier().as_deref() == Some(rename.from.name.as_str()))
        });
        found.extend(rename.map(|rename| Occurrence { at, rename, is_operator }));
    }
    found
}

/// The column and the storage of `ALTER TABLE ... ALTER COLUMN column SET STORAGE storage`.
fn storage_line(tokens: &[Token<'_>]) -> Option<(String, String)> {
    let [.., column, set, word, storage] = tokens else { return None };
    let is_line = tokens[0].is_word("ALTER") && set.is_word("SET") && word.is_word("STORAGE");
    let column = column.identifier().filter(|_| is_line)?;
    Some((column.into_owned(), storage.text.to_owned()))
}

/// A routine's tag is its signature; that of its comment and rights has the kind before it.
fn rename_in_tag(entry: &mut Entry, renames: &[TypeRename]) {
    const KINDS: [&str; 4] = ["FUNCTION", "PROCEDURE", "AGGREGATE", "CAST"];
    let describes_other = entry.class == EntryClass::ACL || entry.class.section().is_none();
    let names_kind = KINDS.iter().any(|kind| entry.tag.starts_with(&format!("{kind} ")));
    let has_signature = KINDS.contains(&entry.class.name()) || (describes_other && names_kind);
    if !has_signature {
        return;
    }
    let Ok(tokens) = significant_tokens(&entry.tag) else { return };
    let mut replacements = Vec::new();
    for Occurrence { at, rename, .. } in occurrences(&tokens, renames, false) {
        replacements.push((tokens[at], display_identifier(&rename.to.schema)));
        replacements.push((tokens[at + 2], display_identifier(&rename.to.name)));
    }
    entry.tag = replace(&entry.tag, &replacements);
}

/// How a vector index is built on the target; all three are SQL.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VectorIndex {
    /// `vchordrq`, `hnsw`
    pub access_method: String,
    /// `public.vector_cosine_ops`
    pub operator_class: String,
    /// What stands in the parentheses of `WITH (...)`.
    pub options: Option<String>,
}

/// Replaces the access method, operator class and options of a `CREATE INDEX` on one column; name, table and
/// predicate stay. Other statements of the entry stay.
pub fn vector_index(entry: &mut Entry, index: &VectorIndex) -> Vec<Change> {
    edit(entry, Rewrite::VectorIndex, |statement, _| {
        let replaced = index_statement(statement).and_then(|found| {
            found.with_method(&index.access_method, &index.operator_class, index.options.as_deref())
        });
        match replaced {
            Some(text) if text != statement => {
                Edit::Replace(text, format!("rebuilt with access method {}", index.access_method))
            }
            _ => Edit::Keep,
        }
    })
}
