//! What single statements of a dump say: names, and the parts of `CREATE INDEX`.
//!
//! Only the forms that `pg_dump` and `pg_get_indexdef` write are read; anything else is `None`, never a guess.

use serde::{Deserialize, Serialize};

use super::lexer::{Token, significant_tokens};
use crate::pg::QualifiedName;

/// A `CREATE INDEX` statement, taken apart. Texts are SQL as it stood in the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStatement {
    /// Whether it is `UNIQUE`.
    pub is_unique: bool,
    /// The index's name, unquoted; it lies in the table's schema.
    pub name: String,
    /// The table or materialised view.
    pub table: QualifiedName,
    /// Whether it is `ON ONLY`: the parent of indexes that are attached later.
    pub is_only: bool,
    /// The access method, unquoted: `btree`, `hnsw`.
    pub access_method: String,
    /// The key columns.
    pub columns: Vec<IndexColumn>,
    /// What follows the columns, each without its key word's surroundings: `INCLUDE (...)`,
    /// `NULLS NOT DISTINCT`, up to `WITH`.
    pub before_options: String,
    /// The text in the parentheses of `WITH (...)`.
    pub options: Option<String>,
    /// The predicate after `WHERE`.
    pub predicate: Option<String>,
}

/// A key column of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexColumn {
    /// The column or the expression (with its parentheses).
    pub expression: String,
    /// What follows: collation, operator class, its parameters, order.
    pub rest: String,
}

impl IndexColumn {
    /// The name of the operator class without its schema, if one is named: it is the first word of `rest`
    /// that belongs to neither `COLLATE` nor the order.
    pub fn operator_class(&self) -> Option<String> {
        let tokens = significant_tokens(&self.rest).ok()?;
        let mut at = 0;
        if tokens.first().is_some_and(|token| token.is_word("COLLATE")) {
            at = qualified_end(&tokens, 1)?;
        }
        let first = tokens.get(at)?;
        if ["ASC", "DESC", "NULLS"].iter().any(|word| first.is_word(word)) {
            return None;
        }
        let end = qualified_end(&tokens, at)?;
        tokens[end - 1].identifier().map(std::borrow::Cow::into_owned)
    }
}

/// Takes a `CREATE INDEX` apart; `None` for any other statement.
pub fn index_statement(statement: &str) -> Option<IndexStatement> {
    let tokens = significant_tokens(statement).ok()?;
    let mut cursor = Cursor { tokens: &tokens, at: 0 };
    cursor.word("CREATE")?;
    let is_unique = cursor.word("UNIQUE").is_some();
    cursor.word("INDEX")?;
    let name = cursor.identifier()?;
    cursor.word("ON")?;
    let is_only = cursor.word("ONLY").is_some();
    let table = cursor.qualified_name()?;
    cursor.word("USING")?;
    let access_method = cursor.identifier()?;
    let columns = cursor
        .parenthesised()?
        .split(|depth, token| depth == 0 && token.is_symbol(","))
        .into_iter()
        .map(|part| index_column(statement, part))
        .collect::<Option<Vec<_>>>()?;
    let rest = cursor.tokens.get(cursor.at..)?;
    let top = top_level(rest);
    let with = top.iter().copied().find(|index| {
        rest[*index].is_word("WITH") && rest.get(index + 1).is_some_and(|next| next.is_symbol("("))
    });
    let filter = top.iter().copied().find(|index| rest[*index].is_word("WHERE"));
    let tablespace = top.iter().copied().find(|index| rest[*index].is_word("TABLESPACE"));
    if tablespace.is_some() {
        return None;
    }
    let before = &rest[..with.or(filter).unwrap_or(rest.len())];
    let options = match with {
        Some(index) => Some(Cursor { tokens: rest, at: index + 1 }.parenthesised()?.text(statement)),
        None => None,
    };
    Some(IndexStatement {
        is_unique,
        name,
        table,
        is_only,
        access_method,
        columns,
        before_options: span(statement, before),
        options,
        predicate: filter.map(|index| span(statement, &rest[index + 1..])),
    })
}

impl IndexStatement {
    /// The statement again, with one key column, another access method, operator class and options. `None` for
    /// an index of several columns.
    pub fn with_method(
        &self,
        access_method: &str,
        operator_class: &str,
        options: Option<&str>,
    ) -> Option<String> {
        let [column] = self.columns.as_slice() else { return None };
        let unique = if self.is_unique { "UNIQUE " } else { "" };
        let only = if self.is_only { "ONLY " } else { "" };
        let mut text = format!(
            "CREATE {unique}INDEX {} ON {only}{} USING {access_method} ({} {operator_class})",
            crate::pg::quote_identifier(&self.name),
            self.table.sql(),
            column.expression,
        );
        for part in [
            (!self.before_options.is_empty()).then(|| self.before_options.clone()),
            options.map(|options| format!("WITH ({options})")),
            self.predicate.as_ref().map(|predicate| format!("WHERE {predicate}")),
        ]
        .into_iter()
        .flatten()
        {
            text.push(' ');
            text.push_str(&part);
        }
        Some(text)
    }
}

fn index_column(statement: &str, tokens: &[Token<'_>]) -> Option<IndexColumn> {
    // A column, a parenthesised expression, or a function call (which pg_get_indexdef leaves bare).
    let first = tokens.first()?;
    let mut end = if first.is_symbol("(") { 0 } else { qualified_end(tokens, 0)? };
    if tokens.get(end).is_some_and(|token| token.is_symbol("(")) {
        let mut cursor = Cursor { tokens, at: end };
        cursor.parenthesised()?;
        end = cursor.at;
    }
    Some(IndexColumn { expression: span(statement, &tokens[..end]), rest: span(statement, &tokens[end..]) })
}

/// A plain unique constraint: no `INCLUDE`, no options, not deferrable. Texts are SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueConstraint {
    table: QualifiedName,
    name: String,
    /// `PRIMARY KEY` or `UNIQUE`.
    kind: &'static str,
    columns: String,
}

/// Takes an `ALTER TABLE ... ADD CONSTRAINT` of a plain unique constraint apart; `None` for any other statement.
pub fn unique_constraint(statement: &str) -> Option<UniqueConstraint> {
    let tokens = significant_tokens(statement).ok()?;
    let mut cursor = Cursor { tokens: &tokens, at: 0 };
    cursor.word("ALTER")?;
    cursor.word("TABLE")?;
    let _ = cursor.word("ONLY");
    let table = cursor.qualified_name()?;
    cursor.word("ADD")?;
    cursor.word("CONSTRAINT")?;
    let name = cursor.identifier()?;
    let kind = if cursor.word("PRIMARY").is_some() {
        cursor.word("KEY")?;
        "PRIMARY KEY"
    } else {
        cursor.word("UNIQUE")?;
        "UNIQUE"
    };
    let columns = cursor.parenthesised()?;
    let is_plain = columns.0.iter().all(|token| token.identifier().is_some() || token.is_symbol(","));
    // PostgreSQL 18's WITHOUT OVERLAPS stands among the columns, and makes no B-tree.
    let is_list = columns.split(|_, token| token.is_symbol(",")).iter().all(|column| column.len() == 1);
    (is_plain && is_list && cursor.next().is_none()).then(|| UniqueConstraint {
        table,
        name,
        kind,
        columns: columns.text(statement),
    })
}

impl UniqueConstraint {
    /// The name of its index.
    pub fn index_name(&self) -> QualifiedName {
        QualifiedName::new(&self.table.schema, &self.name)
    }

    /// The statement that makes its index alone.
    pub fn index(&self) -> String {
        let name = crate::pg::quote_identifier(&self.name);
        format!("CREATE UNIQUE INDEX {name} ON {} USING btree ({})", self.table.sql(), self.columns)
    }

    /// The statement that makes the constraint upon that index.
    pub fn upon_index(&self) -> String {
        let name = crate::pg::quote_identifier(&self.name);
        format!(
            "ALTER TABLE ONLY {} ADD CONSTRAINT {name} {} USING INDEX {name}",
            self.table.sql(),
            self.kind
        )
    }
}

/// The relation that a statement makes or belongs to; see `Entry::relation`.
pub(super) fn relation(statement: &str) -> Option<QualifiedName> {
    let tokens = significant_tokens(statement).ok()?;
    let mut cursor = Cursor { tokens: &tokens, at: 0 };
    if cursor.word("ALTER").is_some() {
        let is_relation = ["TABLE", "VIEW", "SEQUENCE"].iter().any(|kind| cursor.word(kind).is_some());
        let is_two_words = !is_relation
            && (cursor.word("FOREIGN").and_then(|()| cursor.word("TABLE")).is_some()
                || cursor.word("MATERIALIZED").and_then(|()| cursor.word("VIEW")).is_some());
        if !is_relation && !is_two_words {
            return None;
        }
        let _ = cursor.word("ONLY");
        return cursor.qualified_name();
    }
    cursor.word("CREATE")?;
    let mut kind = cursor.next()?;
    while ["OR", "REPLACE", "UNLOGGED", "UNIQUE", "FOREIGN", "MATERIALIZED", "RECURSIVE", "CONSTRAINT"]
        .iter()
        .any(|word| kind.is_word(word))
    {
        kind = cursor.next()?;
    }
    if ["TABLE", "VIEW", "SEQUENCE"].iter().any(|word| kind.is_word(word)) {
        return cursor.qualified_name();
    }
    // The table follows the first ON (index, policy) or, of a trigger or rule, the first ON or TO that a
    // qualified name follows; names and events before it are never qualified.
    if ["INDEX", "POLICY", "TRIGGER", "RULE"].iter().any(|word| kind.is_word(word)) {
        cursor.next()?;
        while let Some(token) = cursor.next() {
            if token.is_word("ON") || token.is_word("TO") {
                let _ = cursor.word("ONLY");
                let start = cursor.at;
                if let Some(name) = cursor.qualified_name() {
                    return Some(name);
                }
                cursor.at = start;
            }
        }
    }
    None
}

/// The text from the first to the last of the tokens, as it stands in `text`.
pub(super) fn span(text: &str, tokens: &[Token<'_>]) -> String {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => text[first.offset..last.end()].to_owned(),
        _ => String::new(),
    }
}

/// The index after a name of identifiers and dots that begins at `at`.
fn qualified_end(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let mut end = at;
    loop {
        tokens.get(end)?.identifier()?;
        end += 1;
        if !tokens.get(end).is_some_and(|token| token.is_symbol(".")) {
            return Some(end);
        }
        end += 1;
    }
}

/// The indexes of tokens outside parentheses.
pub(super) fn top_level(tokens: &[Token<'_>]) -> Vec<usize> {
    let mut depth = 0_usize;
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if token.is_symbol(")") {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            found.push(index);
        }
        if token.is_symbol("(") {
            depth += 1;
        }
    }
    found
}

/// Reads significant tokens from the front.
pub(super) struct Cursor<'a, 't> {
    pub(super) tokens: &'t [Token<'a>],
    pub(super) at: usize,
}

/// The tokens between a pair of parentheses.
pub(super) struct Inner<'a, 't>(pub(super) &'t [Token<'a>]);

impl<'a, 't> Cursor<'a, 't> {
    pub(super) fn next(&mut self) -> Option<&'t Token<'a>> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    /// Steps over the key word if it is next.
    pub(super) fn word(&mut self, keyword: &str) -> Option<()> {
        self.tokens.get(self.at).filter(|token| token.is_word(keyword))?;
        self.at += 1;
        Some(())
    }

    pub(super) fn identifier(&mut self) -> Option<String> {
        let name = self.tokens.get(self.at)?.identifier()?.into_owned();
        self.at += 1;
        Some(name)
    }

    /// `schema.name`; a name without a schema is none.
    pub(super) fn qualified_name(&mut self) -> Option<QualifiedName> {
        let schema = self.identifier()?;
        self.tokens.get(self.at).filter(|token| token.is_symbol("."))?;
        self.at += 1;
        Some(QualifiedName::new(schema, self.identifier()?))
    }

    /// What stands in the parentheses that begin here.
    pub(super) fn parenthesised(&mut self) -> Option<Inner<'a, 't>> {
        self.tokens.get(self.at).filter(|token| token.is_symbol("("))?;
        let start = self.at + 1;
        let mut depth = 0_usize;
        while let Some(token) = self.next() {
            if token.is_symbol("(") {
                depth += 1;
            } else if token.is_symbol(")") {
                depth -= 1;
                if depth == 0 {
                    return Some(Inner(&self.tokens[start..self.at - 1]));
                }
            }
        }
        None
    }
}

impl<'a, 't> Inner<'a, 't> {
    pub(super) fn text(&self, statement: &str) -> String {
        span(statement, self.0)
    }

    /// The parts between the tokens for which `is_border(depth, token)` holds.
    pub(super) fn split(&self, is_border: impl Fn(usize, &Token<'a>) -> bool) -> Vec<&'t [Token<'a>]> {
        let mut depth = 0_usize;
        self.0
            .split(|token| {
                if token.is_symbol("(") {
                    depth += 1;
                } else if token.is_symbol(")") {
                    depth = depth.saturating_sub(1);
                }
                is_border(depth, token)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
