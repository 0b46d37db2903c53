//! What pgmove changes in PostgreSQL's DDL, each a named rewrite of an entry's statements.
//!
//! Pure: a rewrite takes an entry, changes its statements by their tokens (never inside strings or comments),
//! and returns each change, before and after, for the plan to list. An entry that is left without statements
//! is not applied. What a rewrite does not recognise it leaves alone; the target then refuses it by name.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::lexer::{Token, mask_strings, significant_tokens};

mod objects;
mod roles;
mod vector;

pub use objects::{ExistingSchema, existing_schema, extension, legacy_schema};
pub use roles::{NewOwner, Owners, Roles, default_privileges_of, new_owner, owners, rights};
pub use vector::{TypeRename, VectorIndex, types, vector_index};

/// The name of a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rewrite {
    /// An object gets another owner.
    Owner,
    /// A grant, policy or user mapping names a role that has no match on the target.
    Role,
    /// A grant is made by the owner instead of the role that made it on the source.
    Grantor,
    /// `CREATE EXTENSION` and its comment: pgmove creates extensions itself.
    Extension,
    /// The schema that a legacy extension left outside itself.
    LegacySchema,
    /// A schema is on the target already: `public`, or one that extensions stand in.
    ExistingSchema,
    /// A type of a legacy extension becomes another extension's.
    Type,
    /// A vector index gets another access method.
    VectorIndex,
    /// A role is lent CREATE on a schema, so that objects in it can be given to it.
    CreatePrivilege,
    /// A unique constraint is made upon an index that is built before it.
    UniqueIndex,
}

/// One changed statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// By which rewrite.
    pub rewrite: Rewrite,
    /// The entry's dump id.
    pub entry: u32,
    /// The entry, for a person: `TABLE app.person`.
    pub object: String,
    /// The statement as `pg_dump` wrote it. Strings are masked where they may be passwords.
    pub before: String,
    /// The statement that is sent; `None` when none is.
    pub after: Option<String>,
    /// Why.
    pub reason: String,
}

/// What a rewrite does with one statement.
enum Edit {
    Keep,
    Replace(String, String),
    Drop(String),
}

/// Applies an edit to each statement of an entry.
fn edit(
    entry: &mut Entry,
    rewrite: Rewrite,
    mut decide: impl FnMut(&str, &[Token<'_>]) -> Edit,
) -> Vec<Change> {
    let mut changes = Vec::new();
    let object = entry.object();
    let may_hold_secrets = entry.class.may_hold_secrets();
    let id = entry.id;
    entry.statements = std::mem::take(&mut entry.statements)
        .into_iter()
        .filter_map(|statement| {
            // A statement of an entry was cut by the same lexer, so it has tokens.
            let edit = significant_tokens(&statement).map_or(Edit::Keep, |found| decide(&statement, &found));
            let (after, reason) = match edit {
                Edit::Keep => return Some(statement),
                Edit::Replace(after, reason) => (Some(after), reason),
                Edit::Drop(reason) => (None, reason),
            };
            let shown = |text: &str| if may_hold_secrets { mask_strings(text) } else { text.to_owned() };
            changes.push(Change {
                rewrite,
                entry: id,
                object: object.clone(),
                before: shown(&statement),
                after: after.as_deref().map(shown),
                reason,
            });
            after
        })
        .collect();
    changes
}

/// The text with other words in the place of some of its tokens.
fn replace(text: &str, replacements: &[(Token<'_>, String)]) -> String {
    let mut changed = String::with_capacity(text.len());
    let mut end = 0;
    for (token, word) in replacements {
        changed.push_str(&text[end..token.offset]);
        changed.push_str(word);
        end = token.end();
    }
    changed.push_str(&text[end..]);
    changed
}

#[cfg(test)]
mod tests;
