//! Rewrites for vectors: types of a legacy extension, and vector indexes.

use super::super::entry::{Entry, EntryClass};
use super::super::lexer::Token;
use super::super::statement::index_statement;
use super::{Change, Edit, Rewrite, edit, replace};
use crate::pg::{QualifiedName, quote_identifier};

/// A type that becomes another one, its modifier kept: `vectors.vector(512)` to `public.vector(512)`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TypeRename {
    /// The source's type.
    pub from: QualifiedName,
    /// The target's type.
    pub to: QualifiedName,
}

/// Renames types, and the schema of operators written `OPERATOR(schema.<->)` where both types of a rename lie in
/// the schemas concerned. Only identifiers count, never strings: a quoted function body stays as it is.
///
/// In a view `vectors.vector` may also be a column of a table `vectors`, so there, and in SQL-standard bodies, a
/// type is only what a cast names. What is left can be found with [`Entry::mentions_schema`].
pub fn types(entry: &mut Entry, renames: &[TypeRename]) -> Vec<Change> {
    let is_query = [EntryClass::VIEW, EntryClass::MATERIALIZED_VIEW, EntryClass::RULE].contains(&entry.class);
    edit(entry, Rewrite::Type, |statement, tokens| {
        let mut replacements: Vec<(Token<'_>, String)> = Vec::new();
        let mut is_in_query = is_query;
        for (at, triple) in tokens.windows(3).enumerate() {
            is_in_query |= triple[0].is_word("BEGIN") && triple[1].is_word("ATOMIC");
            let [schema, dot, name] = triple else { continue };
            let Some(schema_name) = schema.identifier().filter(|_| dot.is_symbol(".")) else { continue };
            let before = at.checked_sub(1).map(|index| tokens[index]);
            let is_cast = before.is_some_and(|token| token.is_symbol(":"));
            let is_qualified = before.is_some_and(|token| token.is_symbol("."));
            let is_operator = before.is_some_and(|token| token.is_symbol("("))
                && at.checked_sub(2).is_some_and(|index| tokens[index].is_word("OPERATOR"));
            let found = renames.iter().find(|rename| {
                rename.from.schema == schema_name
                    && (is_operator || name.identifier().as_deref() == Some(rename.from.name.as_str()))
            });
            let Some(rename) = found.filter(|_| !is_qualified) else { continue };
            if is_operator {
                replacements.push((*schema, quote_identifier(&rename.to.schema)));
            } else if is_cast || !is_in_query {
                replacements.push((*schema, quote_identifier(&rename.to.schema)));
                replacements.push((*name, quote_identifier(&rename.to.name)));
            }
        }
        if replacements.is_empty() {
            return Edit::Keep;
        }
        let reason = "the target has another extension's type".to_owned();
        Edit::Replace(replace(statement, &replacements), reason)
    })
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
