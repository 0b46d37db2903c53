//! Rewrites for objects that are on the target already or that it must not get.

use super::super::entry::{Entry, EntryClass};
use super::super::lexer::Token;
use super::{Change, Edit, Rewrite, edit};
use crate::pg::display_identifier;

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

/// A schema that the target has before anything is made there: `public`, or one that extensions stand in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExistingSchema {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// Whether the applying session has the owner's rights: then comment and rights are carried.
    pub is_owned: bool,
}

/// `CREATE SCHEMA` and its owner are dropped for a schema that the target has: it stays whose it is. Its comment
/// and rights are carried if the session may give them.
pub fn existing_schema(entry: &mut Entry, schemas: &[ExistingSchema]) -> Vec<Change> {
    edit(entry, Rewrite::ExistingSchema, |_, tokens| {
        let Some(name) = schema_of(tokens) else { return Edit::Keep };
        let Some(schema) = schemas.iter().find(|schema| schema.name == name) else { return Edit::Keep };
        let (name, owner) = (display_identifier(&name), display_identifier(&schema.owner));
        let is_definition = tokens[0].is_word("CREATE") || tokens[0].is_word("ALTER");
        if is_definition {
            Edit::Drop(format!("schema {name} is on the target and keeps its owner {owner}"))
        } else if schema.is_owned {
            Edit::Keep
        } else {
            Edit::Drop(format!("schema {name} on the target belongs to {owner}, who gives rights on it"))
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
