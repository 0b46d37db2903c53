//! What is kept with the database itself: settings, comment, privileges, encoding and locale. Pure.
//!
//! A dump of the schema has none of it. Expected to stay behind: settings of the legacy vector extension, its
//! schema in `search_path`, `vchordrq.prewarm_dim` (its index is another one now), settings and rights of roles
//! that the target does not have.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Catalog, Database};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::plan::make::search_path;
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
    let by_key = |database: &Database| -> BTreeMap<Key, String> {
        let settings = database.settings.iter();
        settings
            .map(|setting| ((setting.role.clone(), setting.name.clone()), setting.value.clone()))
            .collect()
    };
    let (ours, theirs) = (by_key(source), by_key(target));
    let before = expected.before.map(by_key).unwrap_or_default();
    let keys: BTreeSet<&Key> = ours.keys().chain(theirs.keys()).collect();
    for key in keys {
        let (role, name) = key;
        let value = ours.get(key).map(String::as_str);
        let found = theirs.get(key).map(String::as_str);
        let outcome = if value == found {
            Outcome::Equal
        } else if expected.held.contains(&name.as_str()) {
            Outcome::as_planned("held by pgmove while it works")
        } else if let Some(role) = role.as_ref().filter(|role| !roles.contains(*role)) {
            Outcome::as_planned(format!("role {role} is not on the target"))
        } else if found.is_none() && is_left_behind(name) {
            Outcome::as_planned("left behind: it belongs to the former vector index")
        } else if name == "search_path"
            && value.is_some()
            && value.map(without_legacy) == found.map(normal_path)
        {
            Outcome::as_planned(format!(
                "schema {LEGACY_VECTOR_EXTENSION} of the former vector extension is left out"
            ))
        } else if name == "search_path"
            && found.is_none()
            && value.is_some_and(|path| without_legacy(path).is_empty())
        {
            Outcome::as_planned(format!("it named schema {LEGACY_VECTOR_EXTENSION} only"))
        } else if value.is_none() && before.get(key).map(String::as_str) == found {
            Outcome::as_planned("the target had it before")
        } else {
            Outcome::different(match (value, found) {
                (Some(_), None) => "missing on the target".to_owned(),
                (None, Some(_)) => "only on the target".to_owned(),
                (value, found) => {
                    format!(
                        "{:?} on the source, {:?} on the target",
                        value.unwrap_or(""),
                        found.unwrap_or("")
                    )
                }
            })
        };
        let of = role.as_ref().map(|role| format!(" of role {role}")).unwrap_or_default();
        comparison.push(format!("setting {name}{of}"), Aspect::Setting, outcome);
    }
}

fn is_left_behind(name: &str) -> bool {
    name == "vchordrq.prewarm_dim" || name.starts_with(&format!("{LEGACY_VECTOR_EXTENSION}."))
}

fn without_legacy(path: &str) -> String {
    search_path(path)
}

fn normal_path(path: &str) -> String {
    path.split(',').map(str::trim).collect::<Vec<_>>().join(", ")
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
