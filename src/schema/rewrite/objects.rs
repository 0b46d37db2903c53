//! Rewrites for objects that are on the target already or that it must not get.

use super::super::entry::{Entry, EntryClass};
use super::super::lexer::Token;
use super::{Change, Edit, Rewrite, edit};

/// `CREATE EXTENSION` and `COMMENT ON EXTENSION` are dropped: pgmove creates extensions itself, in the order of
/// what they require, and their comments belong to their owner.
pub fn extension(entry: &mut Entry) -> Vec<Change> {
    edit(entry, Rewrite::Extension, |_, tokens| {
        let is_comment = starts_with(tokens, &["COMMENT", "ON", "EXTENSION"]);
        if is_comment || starts_with(tokens, &["CREATE", "EXTENSION"]) {
            Edit::Drop("pgmove creates extensions itself".to_owned())
        } else {
            Edit::Keep
        }
    })
}

/// Drops the schema that a legacy extension made outside itself (`vectors` of pgvecto.rs), with its owner,
/// comment, rights and default privileges.
pub fn legacy_schema(entry: &mut Entry, schema: &str) -> Vec<Change> {
    let is_default = entry.class == EntryClass::DEFAULT_ACL && entry.schema.as_deref() == Some(schema);
    edit(entry, Rewrite::LegacySchema, |_, tokens| {
        if is_default || schema_of(tokens).as_deref() == Some(schema) {
            Edit::Drop(format!("schema {schema} belongs to the legacy extension"))
        } else {
            Edit::Keep
        }
    })
}

/// What the applying session may do with the target's schema `public`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicSchema {
    /// It owns it, as the owner of a database does from 15 on: comment and rights are carried.
    Owned,
    /// It does not own it: the schema stays as it is.
    Foreign,
}

/// `CREATE SCHEMA public` and its owner are dropped: it is on the target, and belongs to the database's owner.
/// Its comment and rights are carried if the session may.
pub fn public_schema(entry: &mut Entry, public: PublicSchema) -> Vec<Change> {
    edit(entry, Rewrite::PublicSchema, |_, tokens| {
        if schema_of(tokens).as_deref() != Some("public") {
            return Edit::Keep;
        }
        let is_definition = tokens[0].is_word("CREATE") || tokens[0].is_word("ALTER");
        if is_definition {
            Edit::Drop("schema public is on the target and keeps its owner".to_owned())
        } else if public == PublicSchema::Foreign {
            Edit::Drop("schema public on the target belongs to another role".to_owned())
        } else {
            Edit::Keep
        }
    })
}

/// The schema that a statement makes, alters, describes or gives rights on.
fn schema_of(tokens: &[Token<'_>]) -> Option<String> {
    let name = if starts_with(tokens, &["CREATE", "SCHEMA"]) || starts_with(tokens, &["ALTER", "SCHEMA"]) {
        tokens.get(2)
    } else if starts_with(tokens, &["COMMENT", "ON", "SCHEMA"]) {
        tokens.get(3)
    } else if ["GRANT", "REVOKE", "SECURITY"].iter().any(|word| starts_with(tokens, &[word])) {
        let on = tokens.windows(2).position(|pair| pair[0].is_word("ON") && pair[1].is_word("SCHEMA"))?;
        tokens.get(on + 2)
    } else {
        None
    };
    name?.identifier().map(std::borrow::Cow::into_owned)
}

fn starts_with(tokens: &[Token<'_>], words: &[&str]) -> bool {
    tokens.len() >= words.len() && words.iter().zip(tokens).all(|(word, token)| token.is_word(word))
}
