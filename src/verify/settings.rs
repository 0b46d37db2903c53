//! What is kept with the database itself: settings, comment, privileges, encoding and locale. Pure.
//!
//! A dump of the schema has none of it. Expected to stay behind: what [`fate`] leaves, and settings and rights of
//! roles that the target does not have.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Catalog, Database, DatabaseSetting};
use crate::plan::database::{Fate, fate, may_be_secret};
use crate::verify::rights::{self, Holder};
use crate::verify::{Aspect, Comparison, Outcome};

/// What may differ.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// The target's database before the move: what it had of its own may stay.
    pub before: Option<&'a Database>,
    /// Settings that pgmove itself holds at the moment (fence and mark): `default_transaction_read_only`.
    pub held: &'a [&'a str],
}

/// Compares the databases' own properties.
pub fn compare(source: &Catalog, target: &Catalog, expected: Expected<'_>, comparison: &mut Comparison) {
    let roles: BTreeSet<String> = target.roles.iter().map(|role| role.name.clone()).collect();
    let (ours, theirs) = (&source.database, &target.database);
    settings(ours, theirs, &roles, expected, comparison);
    let comment = if ours.comment == theirs.comment {
        Outcome::Equal
    } else if ours.comment.is_none() && expected.before.is_some_and(|before| before.comment == theirs.comment)
    {
        Outcome::as_planned("the target keeps its own comment")
    } else {
        Outcome::different("the comments differ")
    };
    comparison.push("comment on the database", Aspect::Setting, comment);
    comparison.push("rights on the database", Aspect::Setting, privileges(ours, theirs, &roles, expected));
    for (what, ours, theirs) in [
        ("encoding", &ours.encoding, &theirs.encoding),
        ("LC_COLLATE", &ours.collate, &theirs.collate),
        ("LC_CTYPE", &ours.ctype, &theirs.ctype),
    ] {
        // They are chosen when a database is made; a move compares them before it begins and says what changes.
        let outcome = if ours == theirs {
            Outcome::Equal
        } else {
            Outcome::as_planned(format!(
                "{ours} on the source, {theirs} on the target: chosen when the database was made"
            ))
        };
        comparison.push(format!("{what} of the database"), Aspect::Setting, outcome);
    }
}

/// A setting's role (`None` for every role) and name.
type Key = (Option<String>, String);

fn settings(
    source: &Database,
    target: &Database,
    roles: &BTreeSet<String>,
    expected: Expected<'_>,
    comparison: &mut Comparison,
) {
    let by_key = |database: &Database| -> BTreeMap<Key, DatabaseSetting> {
        let settings = database.settings.iter();
        settings.map(|setting| ((setting.role.clone(), setting.name.clone()), setting.clone())).collect()
    };
    let (ours, theirs) = (by_key(source), by_key(target));
    let before = expected.before.map(by_key).unwrap_or_default();
    let keys: BTreeSet<&Key> = ours.keys().chain(theirs.keys()).collect();
    for key in keys {
        let (role, name) = key;
        let fate = ours.get(key).map(fate);
        let found = theirs.get(key).map(|setting| setting.value.as_str());
        let outcome = match (fate, found) {
            _ if expected.held.contains(&name.as_str()) => {
                Outcome::as_planned("held by pgmove while it works")
            }
            _ if role.as_ref().is_some_and(|role| !roles.contains(role)) => {
                Outcome::as_planned("the role is not on the target")
            }
            (Some(Fate::Left(reason)), None) => Outcome::as_planned(format!("left behind: {reason}")),
            (Some(Fate::Left(_)), Some(_)) => Outcome::as_planned("each side has its own"),
            (Some(Fate::Carried(value)), Some(found)) if value == found => {
                let is_whole = ours.get(key).is_some_and(|setting| setting.value == value);
                if is_whole {
                    Outcome::Equal
                } else {
                    Outcome::as_planned("without the schema of pgvecto.rs")
                }
            }
            (Some(Fate::Carried(_)), Some(_)) if may_be_secret(name) => {
                Outcome::different("the values differ, and are not shown")
            }
            (Some(Fate::Carried(value)), Some(found)) => {
                Outcome::different(format!("{value:?} on the source, {found:?} on the target"))
            }
            (Some(Fate::Carried(_)), None) => Outcome::different("missing on the target"),
            (None, found) if before.get(key).map(|setting| setting.value.as_str()) == found => {
                Outcome::as_planned("the target had it before")
            }
            (None, _) => Outcome::different("only on the target"),
        };
        let of = role.as_ref().map(|role| format!(" of role {role}")).unwrap_or_default();
        comparison.push(format!("setting {name}{of}"), Aspect::Setting, outcome);
    }
}

/// By default the owner may create, connect and make temporary tables, and everyone the latter two.
const DEFAULT_RIGHTS: (&str, &str) = ("CTc", "Tc");

fn holder(database: &Database) -> Holder<'_> {
    Holder { owner: &database.owner, acl: database.acl.as_deref() }
}

fn privileges(
    source: &Database,
    target: &Database,
    roles: &BTreeSet<String>,
    expected: Expected<'_>,
) -> Outcome {
    // The database is made before the move, with the owner that it is to have.
    let mut found =
        rights::compare(holder(source), holder(target), DEFAULT_RIGHTS, Some(&target.owner), roles);
    if let Some(before) = expected.before {
        let own = rights::compare(holder(source), holder(before), DEFAULT_RIGHTS, Some(&before.owner), roles);
        found.unexpected.retain(|detail| {
            let is_own = detail.ends_with("only on the target") && own.unexpected.contains(detail);
            if is_own {
                found.planned.push(format!("{detail}, as it was before"));
            }
            !is_own
        });
    }
    if !found.unexpected.is_empty() {
        Outcome::different(found.unexpected.join("; "))
    } else if !found.planned.is_empty() {
        Outcome::as_planned(found.planned.join("; "))
    } else {
        Outcome::Equal
    }
}
