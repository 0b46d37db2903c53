//! Roles: rights and who has them, as `kubectl apply` takes them.

use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::rights::Right;

/// In the order in which they are written.
pub(super) const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// Who has rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The account of pods.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name there.
        name: String,
    },
    /// A person, as the API server's authentication calls them.
    User(String),
    /// All of a group.
    Group(String),
}

impl Subject {
    /// Whom the API server calls so.
    pub fn of_user(name: String) -> Subject {
        match name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
            Some((namespace, name)) => {
                Subject::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
            }
            None => Subject::User(name),
        }
    }
}

/// `service account media/pgmove`, `user jane`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::ServiceAccount { namespace, name } => write!(f, "service account {namespace}/{name}"),
            Subject::User(name) => write!(f, "user {name}"),
            Subject::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// A Role and its RoleBinding; a ClusterRole and its ClusterRoleBinding for what is in no namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Of both objects.
    pub name: String,
    /// Where; nothing for a ClusterRole.
    pub namespace: Option<String>,
    /// What is allowed.
    pub rights: Vec<Right>,
    /// To whom.
    pub subjects: Vec<Subject>,
}

/// The fewest rules that allow the same.
pub fn combined(rights: &[Right]) -> Vec<Right> {
    let mut single: Vec<Right> = rights.iter().flat_map(Right::singles).collect();
    let of_all: Vec<Right> = single.iter().filter(|right| right.names.is_empty()).cloned().collect();
    let is_covered =
        |right: &Right| !right.names.is_empty() && of_all.contains(&Right { names: vec![], ..right.clone() });
    single.retain(|right| !is_covered(right));
    let on_the_same = |one: &Right, other: &Right| {
        (one.group, &one.resources, &one.names) == (other.group, &other.resources, &other.names)
    };
    let mut rights = merged(single, on_the_same, |right, other| add(&mut right.verbs, other.verbs));
    for right in &mut rights {
        right.verbs.sort_by_key(|verb| VERBS.iter().position(|known| known == verb));
    }
    let of_named = |one: &Right, other: &Right| {
        !one.names.is_empty()
            && !other.names.is_empty()
            && (one.group, &one.resources, &one.verbs) == (other.group, &other.resources, &other.verbs)
    };
    let rights = merged(rights, of_named, |right, other| add(&mut right.names, other.names));
    let alike = |one: &Right, other: &Right| {
        (one.group, &one.verbs, &one.names) == (other.group, &other.verbs, &other.names)
    };
    merged(rights, alike, |right, other| add(&mut right.resources, other.resources))
}

fn add<T: PartialEq>(list: &mut Vec<T>, others: Vec<T>) {
    for other in others {
        if !list.contains(&other) {
            list.push(other);
        }
    }
}

/// Joins each right to the first one that it belongs to.
fn merged(
    rights: Vec<Right>,
    belong: impl Fn(&Right, &Right) -> bool,
    join: impl Fn(&mut Right, Right),
) -> Vec<Right> {
    let mut merged: Vec<Right> = vec![];
    for right in rights {
        match merged.iter_mut().find(|other| belong(other, &right)) {
            Some(other) => join(other, right),
            None => merged.push(right),
        }
    }
    merged
}

impl Role {
    /// A Role beside others: one of the same name would lose its rules when this is applied.
    pub fn addition(namespace: &str, rights: Vec<Right>, subjects: Vec<Subject>) -> Role {
        let text: Vec<String> = rights.iter().map(ToString::to_string).collect();
        let digest = Sha256::digest(text.join("; "));
        let name = format!("pgmove-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
        Role { name, namespace: Some(namespace.to_owned()), rights, subjects }
    }

    fn kinds(&self) -> [&'static str; 2] {
        match self.namespace {
            Some(_) => ["Role", "RoleBinding"],
            None => ["ClusterRole", "ClusterRoleBinding"],
        }
    }

    fn head(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        writeln!(f, "apiVersion: {GROUP}/v1\nkind: {kind}\nmetadata:\n  name: {}", scalar(&self.name))?;
        match &self.namespace {
            Some(namespace) => writeln!(f, "  namespace: {}", scalar(namespace)),
            None => Ok(()),
        }
    }
}

const GROUP: &str = "rbac.authorization.k8s.io";

/// Two documents of YAML.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [role, binding] = self.kinds();
        self.head(f, role)?;
        writeln!(f, "rules:")?;
        for Right { group, resources, verbs, names } in &self.rights {
            writeln!(f, "- apiGroups: {}\n  resources: {}", list(&json!([group])), list(&json!(resources)))?;
            if !names.is_empty() {
                writeln!(f, "  resourceNames: {}", list(&json!(names)))?;
            }
            writeln!(f, "  verbs: {}", list(&json!(verbs)))?;
        }
        writeln!(f, "---")?;
        self.head(f, binding)?;
        writeln!(
            f,
            "roleRef:\n  apiGroup: {GROUP}\n  kind: {role}\n  name: {}\nsubjects:",
            scalar(&self.name)
        )?;
        for subject in &self.subjects {
            match subject {
                Subject::ServiceAccount { namespace, name } => writeln!(
                    f,
                    "- kind: ServiceAccount\n  name: {}\n  namespace: {}",
                    scalar(name),
                    scalar(namespace)
                )?,
                Subject::User(name) => {
                    writeln!(f, "- apiGroup: {GROUP}\n  kind: User\n  name: {}", scalar(name))?;
                }
                Subject::Group(name) => {
                    writeln!(f, "- apiGroup: {GROUP}\n  kind: Group\n  name: {}", scalar(name))?;
                }
            }
        }
        Ok(())
    }
}

/// A list on one line, as people write it. JSON is YAML.
fn list(names: &Value) -> String {
    names.to_string().replace("\",\"", "\", \"")
}

/// Plain where YAML cannot take it for anything but this text, else quoted.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if is_plain { text.to_owned() } else { json!(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(resources: &[&'static str], verbs: &[&'static str], names: &[&str]) -> Right {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Right { group: "", resources: resources.to_vec(), verbs: verbs.to_vec(), names }
    }

    #[test]
    fn rights_are_combined_into_the_fewest_rules() {
        let rights = [
            right(&["pods"], &["list"], &[]),
            right(&["secrets"], &["get"], &["new-app", "new-ca"]),
            right(&["pods", "services"], &["get"], &[]),
            right(&["services"], &["list"], &[]),
            right(&["secrets"], &["get"], &["legacy", "new-ca"]),
            // What all may be done with is not said again for one.
            right(&["pods"], &["patch", "get"], &["old-0"]),
        ];
        assert_eq!(
            combined(&rights),
            [
                right(&["pods", "services"], &["get", "list"], &[]),
                right(&["secrets"], &["get"], &["new-app", "new-ca", "legacy"]),
                right(&["pods"], &["patch"], &["old-0"]),
            ]
        );
        let every = [right(&["secrets"], &["get"], &["new-app"]), right(&["secrets"], &["get"], &[])];
        assert_eq!(combined(&every), [right(&["secrets"], &["get"], &[])]);
    }

    #[test]
    fn a_name_stays_a_name_in_yaml() {
        for (text, expected) in [
            ("media", "media"),
            ("immich-postgres-2", "immich-postgres-2"),
            ("true", "\"true\""),
            ("off", "\"off\""),
            ("123", "\"123\""),
            ("1e3-", "\"1e3-\""),
            ("oidc:jane@example.org", "\"oidc:jane@example.org\""),
            ("a\n- kind: Group", "\"a\\n- kind: Group\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
    }
}
