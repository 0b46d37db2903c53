//! Objects as kubectl writes them: `sts/NAME`, `statefulset.apps/NAME`, `clusters.postgresql.cnpg.io/NAME`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Class, Fault};

/// The kinds of object behind which a PostgreSQL server can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `apps` StatefulSet.
    StatefulSet,
    /// `apps` Deployment.
    Deployment,
    /// A single pod.
    Pod,
    /// A Service with a selector.
    Service,
    /// A Cluster of CloudNative-PG.
    Cluster,
}

impl Kind {
    /// In the order in which they are listed for a person.
    const ALL: [Kind; 5] = [Kind::StatefulSet, Kind::Deployment, Kind::Pod, Kind::Service, Kind::Cluster];

    /// The name in `kind:` of a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Kind::StatefulSet => "StatefulSet",
            Kind::Deployment => "Deployment",
            Kind::Pod => "Pod",
            Kind::Service => "Service",
            Kind::Cluster => "Cluster",
        }
    }

    /// The form that is printed: kubectl's short name, or its singular where there is none.
    pub fn short(self) -> &'static str {
        match self {
            Kind::StatefulSet => "sts",
            Kind::Deployment => "deploy",
            Kind::Pod => "pod",
            Kind::Service => "svc",
            Kind::Cluster => "cluster",
        }
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::StatefulSet | Kind::Deployment => "apps",
            Kind::Pod | Kind::Service => "",
            Kind::Cluster => "postgresql.cnpg.io",
        }
    }

    /// The resource: `statefulsets`.
    pub fn plural(self) -> &'static str {
        self.words()[1]
    }

    /// What kubectl takes for it: singular, plural, short names.
    fn words(self) -> &'static [&'static str] {
        match self {
            Kind::StatefulSet => &["statefulset", "statefulsets", "sts"],
            Kind::Deployment => &["deployment", "deployments", "deploy"],
            Kind::Pod => &["pod", "pods", "po"],
            Kind::Service => &["service", "services", "svc"],
            Kind::Cluster => &["cluster", "clusters"],
        }
    }

    /// The kind behind `word`, `word.group` or `word.version.group`.
    fn of(text: &str) -> Option<Kind> {
        let text = text.to_ascii_lowercase();
        let (word, rest) = text.split_once('.').map_or((&*text, None), |(word, rest)| (word, Some(rest)));
        Kind::ALL.into_iter().find(|kind| {
            let is_of_group = rest.is_none_or(|rest| {
                let without_version =
                    rest.strip_prefix("v1").map(|rest| rest.strip_prefix('.').unwrap_or(rest));
                rest == kind.group() || without_version == Some(kind.group())
            });
            kind.words().contains(&word) && is_of_group
        })
    }
}

/// One object in a namespace that is said elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectRef {
    /// What it is.
    pub kind: Kind,
    /// Its name, a DNS-1123 subdomain.
    pub name: String,
}

impl FromStr for ObjectRef {
    type Err = ObjectRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once('/').ok_or_else(|| ObjectRefError::NoSlash(text.to_owned()))?;
        let kind = Kind::of(kind).ok_or_else(|| ObjectRefError::UnknownKind(kind.to_owned()))?;
        if !is_object_name(name) {
            return Err(ObjectRefError::Name { kind, name: name.to_owned() });
        }
        Ok(ObjectRef { kind, name: name.to_owned() })
    }
}

/// Whether Kubernetes takes this as an object's name (RFC 1123 subdomain).
pub fn is_object_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether Kubernetes takes this as a namespace's name (RFC 1123 label).
pub fn is_namespace_name(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && is_object_name(name)
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.short(), self.name)
    }
}

impl TryFrom<String> for ObjectRef {
    type Error = ObjectRefError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ObjectRef> for String {
    fn from(object: ObjectRef) -> String {
        object.to_string()
    }
}

/// What is wrong with an object as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectRefError {
    /// No `KIND/NAME`.
    #[error("\"{0}\" is not written as KIND/NAME")]
    NoSlash(String),
    /// A kind that no PostgreSQL server is looked for behind.
    #[error("\"{0}\" is no kind of object that a database is looked for behind")]
    UnknownKind(String),
    /// A name that no object can have.
    #[error("\"{name}\" cannot be the name of a {}", kind.name())]
    Name {
        /// What it would name.
        kind: Kind,
        /// What was written.
        name: String,
    },
}

impl Fault for ObjectRefError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ObjectRefError::NoSlash(_) | ObjectRefError::UnknownKind(_) => {
                "write sts/NAME, deploy/NAME, pod/NAME or svc/NAME for any PostgreSQL, cluster/NAME for a Cluster of \
                 CloudNative-PG"
                    .to_owned()
            }
            ObjectRefError::Name { kind, .. } => format!(
                "names have lower case letters, digits, - and . only; kubectl get {} shows those there are",
                kind.short()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_as_kubectl_writes_them() {
        for (text, kind, printed) in [
            ("sts/immich-postgres", Kind::StatefulSet, "sts/immich-postgres"),
            ("statefulset/a", Kind::StatefulSet, "sts/a"),
            ("statefulsets/a", Kind::StatefulSet, "sts/a"),
            ("StatefulSet/a", Kind::StatefulSet, "sts/a"),
            ("statefulset.apps/a", Kind::StatefulSet, "sts/a"),
            ("statefulsets.v1.apps/a", Kind::StatefulSet, "sts/a"),
            ("deploy/a", Kind::Deployment, "deploy/a"),
            ("deployment.apps/a", Kind::Deployment, "deploy/a"),
            ("pod/a-0", Kind::Pod, "pod/a-0"),
            ("po/a-0", Kind::Pod, "pod/a-0"),
            ("pods.v1./a-0", Kind::Pod, "pod/a-0"),
            ("svc/a", Kind::Service, "svc/a"),
            ("services/a", Kind::Service, "svc/a"),
            ("cluster/a", Kind::Cluster, "cluster/a"),
            ("clusters.postgresql.cnpg.io/a", Kind::Cluster, "cluster/a"),
            ("cluster.v1.postgresql.cnpg.io/a.b", Kind::Cluster, "cluster/a.b"),
        ] {
            let object: ObjectRef = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(object.kind, kind, "{text}");
            assert_eq!(object.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(object), "{printed}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_with_what_to_write() {
        for text in
            ["immich", "", "secret/a", "cronjob/a", "/a", "cluster.x-k8s.io/a", "sts.batch/a", "pod.apps/a"]
        {
            let error = text.parse::<ObjectRef>().expect_err(text);
            assert!(
                matches!(error, ObjectRefError::NoSlash(_) | ObjectRefError::UnknownKind(_)),
                "{text}: {error}"
            );
            assert!(error.hint().is_some_and(|hint| hint.contains("sts/NAME")), "{text}");
        }
        for text in
            ["sts/", "sts/A", "sts/a/b", "sts/-a", "sts/a.", "sts/a_b", &format!("sts/{}", "a".repeat(254))]
        {
            let error = text.parse::<ObjectRef>().expect_err(text);
            assert!(matches!(error, ObjectRefError::Name { .. }), "{text}: {error}");
        }
    }
}
