//! Privileges of both sides, role by role. Pure.
//!
//! Who granted them is not compared: a move makes
//! grants as the owner where it may not act for another role.

use std::collections::BTreeSet;

use crate::pg::acl::AclItem;

/// Privileges: (role, letter with its star).
type Rights = BTreeSet<(String, String)>;

/// One object's owner and privileges on one side.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The owner.
    pub owner: &'a str,
    /// The privileges; `None` is the default.
    pub acl: Option<&'a [String]>,
}

/// How the rights of both sides differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RightsDifference {
    /// What the target lacks or has besides, for a person.
    pub unexpected: Vec<String>,
    /// What differs because a role is not on the target, or because one role was to get everything.
    pub planned: Vec<String>,
}

/// Compares owner and privileges. `default` are the letters that (the owner, everyone) have by default;
/// `owner` is the role that was to get everything; `roles` are the target's.
pub fn compare(
    source: Holder<'_>,
    target: Holder<'_>,
    default: (&str, &str),
    owner: Option<&str>,
    roles: &BTreeSet<String>,
) -> RightsDifference {
    let mut found = RightsDifference::default();
    let is_owner_free = owner.is_some() || !roles.contains(source.owner);
    if source.owner != target.owner {
        let detail = format!("owned by {} on the source, by {} on the target", source.owner, target.owner);
        let is_planned = owner.map_or(is_owner_free, |owner| owner == target.owner);
        if is_planned { &mut found.planned } else { &mut found.unexpected }.push(detail);
    }
    // What the owner has goes with the ownership.
    let renamed = |(role, right): (String, String)| {
        if role == source.owner { (target.owner.to_owned(), right) } else { (role, right) }
    };
    let (ours, theirs): (Rights, Rights) =
        (rights(source, default).into_iter().map(renamed).collect(), rights(target, default));
    for (role, right) in ours.difference(&theirs) {
        let detail = format!("{right} of {} is missing on the target", shown(role));
        let is_planned = !role.is_empty() && !roles.contains(role);
        if is_planned { &mut found.planned } else { &mut found.unexpected }.push(detail);
    }
    let further = theirs.difference(&ours);
    found
        .unexpected
        .extend(further.map(|(role, right)| format!("{right} of {} is only on the target", shown(role))));
    found
}

fn shown(role: &str) -> &str {
    if role.is_empty() { "everyone" } else { role }
}

fn rights(holder: Holder<'_>, (of_owner, of_everyone): (&str, &str)) -> Rights {
    let Some(acl) = holder.acl else {
        let letters = |role: &str, letters: &str| -> Vec<(String, String)> {
            letters.chars().map(|letter| (role.to_owned(), letter.to_string())).collect()
        };
        return [letters(holder.owner, of_owner), letters("", of_everyone)].concat().into_iter().collect();
    };
    acl.iter()
        .filter_map(|item| AclItem::parse(item))
        .flat_map(|AclItem { grantee, privileges }| {
            let role = grantee.unwrap_or_default();
            privileges.into_iter().map(move |(letter, may_grant)| {
                (role.clone(), if may_grant { format!("{letter}*") } else { letter.to_string() })
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(source: (&str, &[&str]), target: (&str, &[&str]), owner: Option<&str>) -> RightsDifference {
        let texts = |items: &[&str]| -> Vec<String> { items.iter().map(ToString::to_string).collect() };
        let (ours, theirs) = (texts(source.1), texts(target.1));
        compare(
            Holder { owner: source.0, acl: (!ours.is_empty()).then_some(&ours[..]) },
            Holder { owner: target.0, acl: (!theirs.is_empty()).then_some(&theirs[..]) },
            ("CTc", "Tc"),
            owner,
            &["app", "reader"].map(str::to_owned).into(),
        )
    }

    #[test]
    fn the_default_is_what_it_stands_for() {
        let explicit: &[&str] = &["=Tc/app", "app=CTc/app"];
        assert_eq!(compared(("app", &[]), ("app", explicit), None), RightsDifference::default());
        assert_eq!(compared(("app", &[]), ("app", &["app=CTc/app"]), None).unexpected.len(), 2);
    }

    #[test]
    fn missing_roles_and_a_wanted_owner_are_as_planned() {
        let ours: &[&str] = &["=Tc/old", "old=CTc/old", "gone=c/old", "reader=c/old"];
        let theirs: &[&str] = &["=Tc/app", "app=CTc/app", "reader=c/app"];
        let found = compared(("old", ours), ("app", theirs), Some("app"));
        assert_eq!((found.unexpected.len(), found.planned.len()), (0, 2), "{found:?}");
        let found = compared(("app", &["reader=c/app"]), ("app", &["app=c/app"]), None);
        assert_eq!(
            found.unexpected,
            ["c of reader is missing on the target", "c of app is only on the target"]
        );
    }
}
