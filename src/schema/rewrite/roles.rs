//! Rewrites for roles: owners, grants, default privileges, policies, user mappings.

use std::collections::BTreeSet;

use super::super::entry::{Entry, EntryClass};
use super::super::lexer::{Token, TokenKind, significant_tokens};
use super::super::privilege::OWNED_BY_SUPERUSERS;
use super::super::statement::top_level;
use super::{Change, Edit, Rewrite, edit, replace};
use crate::pg::{display_identifier, quote_identifier};

/// Whom the objects belong to on the target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// The role of the same name; where the target has none, the role that creates the object.
    Keep,
    /// This role, all of them.
    All(String),
}

/// What is known of the target's roles.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Roles {
    /// Whom the objects belong to.
    pub owners: Owners,
    /// The target's roles.
    pub existing: BTreeSet<String>,
    /// Those of them that the applying session may give objects to: the roles that it is a member of.
    pub assignable: BTreeSet<String>,
    /// The role that creates the objects; it keeps those whose owner cannot be given them. `None` drops such a
    /// statement instead.
    pub creator: Option<String>,
    /// Whether the applying session may act as another role (`SET SESSION AUTHORIZATION`): superusers only.
    pub may_impersonate: bool,
}

/// What becomes of a role's name.
enum Fate {
    Same,
    Other(String),
    Gone(String),
}

impl Roles {
    /// The role that objects of this source role belong to; `None` for the role that creates them.
    pub fn owner(&self, source: &str) -> Option<&str> {
        match &self.owners {
            Owners::All(role) => Some(role),
            Owners::Keep => self.assignable.get(source).or(self.creator.as_ref()).map(String::as_str),
        }
    }

    fn owner_fate(&self, source: &str) -> Fate {
        match self.owner(source) {
            Some(role) if role == source => Fate::Same,
            Some(role) => Fate::Other(role.to_owned()),
            None => Fate::Gone(missing(source)),
        }
    }

    /// A grantee: the object's own former owner goes with the ownership.
    fn grantee_fate(&self, grantee: &str, owner: Option<&str>) -> Fate {
        match &self.owners {
            Owners::All(role) if Some(grantee) == owner && role != grantee => Fate::Other(role.clone()),
            _ if self.existing.contains(grantee) => Fate::Same,
            _ => Fate::Gone(missing(grantee)),
        }
    }
}

fn missing(role: &str) -> String {
    format!("role {} does not exist on the target", display_identifier(role))
}

/// `ALTER ... OWNER TO`, and the `AUTHORIZATION` of a schema. What only superusers can own is not given to the one
/// role of all others.
pub fn owners(entry: &mut Entry, roles: &Roles) -> Vec<Change> {
    let needs_superuser = OWNED_BY_SUPERUSERS.contains(&entry.class.name());
    edit(entry, Rewrite::Owner, |statement, tokens| {
        let Some(at) = owner_position(tokens) else { return Edit::Keep };
        let Some(owner) = tokens[at].identifier() else { return Edit::Keep };
        let is_alter = tokens[0].is_word("ALTER");
        match roles.owner_fate(&owner) {
            Fate::Same => Edit::Keep,
            Fate::Other(_) if needs_superuser => Edit::Drop("only a superuser can own it".to_owned()),
            Fate::Other(role) => Edit::Replace(
                replace(statement, &[(tokens[at], quote_identifier(&role))]),
                format!("all objects are given to {}", display_identifier(&role)),
            ),
            Fate::Gone(reason) if is_alter => Edit::Drop(reason),
            // CREATE SCHEMA without its AUTHORIZATION.
            Fate::Gone(reason) => Edit::Replace(statement[..tokens[at - 2].end()].to_owned(), reason),
        }
    })
}

/// The index of the owner in `ALTER ... OWNER TO owner` or `CREATE SCHEMA name AUTHORIZATION owner`.
fn owner_position(tokens: &[Token<'_>]) -> Option<usize> {
    let last = tokens.len().checked_sub(1)?;
    let before =
        |steps: usize, word: &str| last.checked_sub(steps).is_some_and(|at| tokens[at].is_word(word));
    let is_alter = tokens[0].is_word("ALTER") && before(2, "OWNER") && before(1, "TO");
    let is_schema = last == 4
        && tokens[0].is_word("CREATE")
        && tokens[1].is_word("SCHEMA")
        && tokens[3].is_word("AUTHORIZATION");
    (is_alter || is_schema).then_some(last)
}

/// `ALTER ... OWNER TO owner`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOwner {
    /// The schema of the object; `None` for one that stands in none.
    pub schema: Option<String>,
    /// The role that it is given to.
    pub role: String,
    /// The statement.
    pub statement: String,
}

/// Whom an entry's object is given to, by its statements as they are now.
pub fn new_owner(entry: &Entry) -> Option<NewOwner> {
    entry.statements.iter().find_map(|statement| {
        let tokens = significant_tokens(statement).ok()?;
        let at = owner_position(&tokens).filter(|_| tokens[0].is_word("ALTER"))?;
        let dot = tokens.iter().position(|token| token.is_symbol("."));
        let schema = dot.and_then(|dot| tokens.get(dot.checked_sub(1)?)?.identifier());
        Some(NewOwner {
            schema: schema.map(std::borrow::Cow::into_owned),
            role: tokens[at].identifier()?.into_owned(),
            statement: statement.clone(),
        })
    })
}

/// Whose default privileges an entry sets, by its statements as they are now.
pub fn default_privileges_of(entry: &Entry) -> Option<String> {
    let statement = entry.statements.first().filter(|_| entry.class == EntryClass::DEFAULT_ACL)?;
    let tokens = significant_tokens(statement).ok()?;
    tokens.get(creator_position(&tokens)?).and_then(role_name)
}

/// The index of the creator in `ALTER DEFAULT PRIVILEGES FOR ROLE creator`.
fn creator_position(tokens: &[Token<'_>]) -> Option<usize> {
    tokens.iter().position(|token| token.is_word("ROLE")).map(|at| at + 1)
}

/// Roles in grants, default privileges, policies and user mappings.
pub fn rights(entry: &mut Entry, roles: &Roles) -> Vec<Change> {
    let owner = entry.owner.clone();
    let owner = owner.as_deref();
    match entry.class {
        EntryClass::ACL => {
            let mut changes = grantors(entry, roles);
            changes.extend(edit(entry, Rewrite::Role, |statement, tokens| {
                named_roles(statement, &grantee_position(tokens), tokens, |role| {
                    roles.grantee_fate(role, owner)
                })
            }));
            changes
        }
        EntryClass::DEFAULT_ACL => {
            edit(entry, Rewrite::Role, |statement, tokens| default_privileges(statement, tokens, roles))
        }
        EntryClass::POLICY => {
            edit(entry, Rewrite::Role, |statement, tokens| policy(statement, tokens, roles))
        }
        EntryClass::USER_MAPPING => edit(entry, Rewrite::Role, |statement, tokens| {
            let at = tokens.iter().position(|token| token.is_word("FOR")).map(|at| at + 1);
            named_roles(statement, &Vec::from_iter(at), tokens, |role| roles.grantee_fate(role, None))
        }),
        _ => Vec::new(),
    }
}

/// `SET SESSION AUTHORIZATION grantor` and its `RESET`: kept where the session may do it.
fn grantors(entry: &mut Entry, roles: &Roles) -> Vec<Change> {
    let mut is_dropped = false;
    edit(entry, Rewrite::Grantor, |_, tokens| match tokens {
        [set, session, word, role]
            if set.is_word("SET") && session.is_word("SESSION") && word.is_word("AUTHORIZATION") =>
        {
            let role = role.identifier().unwrap_or_default();
            let is_known = roles.existing.contains(role.as_ref());
            is_dropped = !(is_known && roles.may_impersonate && roles.owners == Owners::Keep);
            match is_dropped {
                true if is_known => Edit::Drop("the grant is made by the object's owner".to_owned()),
                true => Edit::Drop(missing(&role)),
                false => Edit::Keep,
            }
        }
        [reset, session, word]
            if is_dropped
                && reset.is_word("RESET")
                && session.is_word("SESSION")
                && word.is_word("AUTHORIZATION") =>
        {
            Edit::Drop("the grant is made by the object's owner".to_owned())
        }
        _ => Edit::Keep,
    })
}

/// The index of the grantee: `pg_dump` writes one role after the last `TO` or `FROM` of a statement.
fn grantee_position(tokens: &[Token<'_>]) -> Vec<usize> {
    let is_grant = tokens
        .first()
        .is_some_and(|first| first.is_word("GRANT") || first.is_word("REVOKE") || first.is_word("ALTER"));
    top_level(tokens)
        .into_iter()
        .rfind(|at| is_grant && (tokens[*at].is_word("TO") || tokens[*at].is_word("FROM")))
        .map(|at| at + 1)
        .filter(|at| *at < tokens.len())
        .into_iter()
        .collect()
}

/// Replaces the roles at these places, in order; one that is gone takes the statement with it.
fn named_roles(statement: &str, places: &[usize], tokens: &[Token<'_>], fate: impl Fn(&str) -> Fate) -> Edit {
    let mut replacements = Vec::new();
    let mut reasons = Vec::new();
    for token in places.iter().filter_map(|at| tokens.get(*at)) {
        let Some(role) = role_name(token) else { continue };
        match fate(&role) {
            Fate::Same => {}
            Fate::Other(other) => {
                reasons.push(format!("{} becomes {}", display_identifier(&role), display_identifier(&other)));
                replacements.push((*token, quote_identifier(&other)));
            }
            Fate::Gone(reason) => return Edit::Drop(reason),
        }
    }
    if replacements.is_empty() {
        Edit::Keep
    } else {
        Edit::Replace(replace(statement, &replacements), reasons.join(", "))
    }
}

/// The role's name; none for `PUBLIC`, which is a word of the language unless it is quoted.
fn role_name(token: &Token<'_>) -> Option<String> {
    if token.is_word("PUBLIC") {
        return None;
    }
    token.identifier().map(std::borrow::Cow::into_owned)
}

/// `ALTER DEFAULT PRIVILEGES FOR ROLE creator ... TO grantee`: both roles. They are about what the creator makes
/// in future, so they stay its own also where its objects are given to another role.
fn default_privileges(statement: &str, tokens: &[Token<'_>], roles: &Roles) -> Edit {
    let creator = creator_position(tokens);
    let name = creator.and_then(|at| tokens.get(at)).and_then(role_name);
    let places: Vec<usize> = creator.into_iter().chain(grantee_position(tokens)).collect();
    named_roles(statement, &places, tokens, |role| match &roles.owners {
        Owners::All(owner) if Some(role) == name.as_deref() && role != owner => Fate::Other(owner.clone()),
        _ => roles.grantee_fate(role, None),
    })
}

/// `CREATE POLICY ... TO role, role`: a missing role leaves the list; with the last one the policy goes, since
/// it applies to nobody (without the list it would apply to everybody).
fn policy(statement: &str, tokens: &[Token<'_>], roles: &Roles) -> Edit {
    let to = top_level(tokens).into_iter().find(|at| tokens[*at].is_word("TO"));
    let Some(to) = to.filter(|_| tokens[0].is_word("CREATE")) else { return Edit::Keep };
    let end = tokens[to..]
        .iter()
        .position(|token| token.is_word("USING") || token.is_word("WITH"))
        .map_or(tokens.len(), |length| to + length);
    let named: Vec<&Token<'_>> =
        tokens[to + 1..end].iter().filter(|token| token.kind != TokenKind::Symbol).collect();
    let (kept, gone): (Vec<&Token<'_>>, Vec<&Token<'_>>) =
        named.iter().partition(|token| role_name(token).is_none_or(|role| roles.existing.contains(&role)));
    let Some(reason) = gone.first().and_then(|token| role_name(token)).map(|role| missing(&role)) else {
        return Edit::Keep;
    };
    if kept.is_empty() {
        return Edit::Drop(reason);
    }
    let list: Vec<&str> = kept.iter().map(|token| token.text).collect();
    let (before, after) = (tokens[to].end(), tokens[end - 1].end());
    Edit::Replace(format!("{} {}{}", &statement[..before], list.join(", "), &statement[after..]), reason)
}
