//! What a freeze stops: the kinds of workload, and how a user names them.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::cutover::object::ObjectKey;
use crate::error::{Class, Fault};
use crate::kubernetes::object::{is_namespace_name, is_object_name};

/// The kinds that can be stopped, and started again as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// `apps` Deployment.
    Deployment,
    /// `apps` StatefulSet.
    StatefulSet,
    /// `batch` CronJob.
    CronJob,
    /// `batch` Job.
    Job,
}

impl WorkloadKind {
    const ALL: [WorkloadKind; 4] =
        [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::CronJob, WorkloadKind::Job];

    /// The name in `kind:` of a manifest.
    pub fn name(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "Deployment",
            WorkloadKind::StatefulSet => "StatefulSet",
            WorkloadKind::CronJob => "CronJob",
            WorkloadKind::Job => "Job",
        }
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            WorkloadKind::Deployment => {
                &["deploy", "deployment", "deployments", "deployment.apps", "deployments.apps"]
            }
            WorkloadKind::StatefulSet => {
                &["sts", "statefulset", "statefulsets", "statefulset.apps", "statefulsets.apps"]
            }
            WorkloadKind::CronJob => &["cronjob", "cj", "cronjobs", "cronjob.batch", "cronjobs.batch"],
            WorkloadKind::Job => &["job", "jobs", "job.batch", "jobs.batch"],
        }
    }

    /// The kind of an object, if it can be stopped.
    pub fn of(object: &ObjectKey) -> Option<WorkloadKind> {
        WorkloadKind::ALL.into_iter().find(|kind| kind.name() == object.kind)
    }

    /// The field that stops it, as a JSON pointer, and the value that does.
    pub fn switch(self) -> (&'static str, Value) {
        match self {
            WorkloadKind::Deployment | WorkloadKind::StatefulSet => ("/spec/replicas", json!(0)),
            // A suspended Job ends its pods, and begins with new ones when it is resumed.
            WorkloadKind::CronJob | WorkloadKind::Job => ("/spec/suspend", json!(true)),
        }
    }
}

/// A workload as kubectl writes it, with its namespace in front where that is not the source's: `deploy/immich-server`,
/// `media/deploy/immich-server`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadName {
    /// Where it is; none for the source's namespace.
    pub namespace: Option<String>,
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

impl WorkloadName {
    /// Where it is, if the source is in `home`.
    pub fn namespace<'a>(&'a self, home: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(home)
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}/{}", self.kind.words()[0], self.name)
    }
}

impl FromStr for WorkloadName {
    type Err = WorkloadNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || WorkloadNameError::Unknown(text.to_owned());
        let (namespace, word, name) = match text.split('/').collect::<Vec<_>>()[..] {
            [word, name] => (None, word.to_ascii_lowercase(), name),
            [namespace, word, name] => (Some(namespace.to_owned()), word.to_ascii_lowercase(), name),
            _ => return Err(unknown()),
        };
        let kind = WorkloadKind::ALL.into_iter().find(|kind| kind.words().contains(&&*word));
        let kind = kind.filter(|_| is_object_name(name)).ok_or_else(unknown)?;
        match namespace {
            Some(namespace) if !is_namespace_name(&namespace) => Err(WorkloadNameError::Namespace(namespace)),
            namespace => Ok(WorkloadName { namespace, kind, name: name.to_owned() }),
        }
    }
}

/// What was written names no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadNameError {
    /// No kind that can be stopped, or no name.
    #[error("\"{0}\" names no workload that can be frozen")]
    Unknown(String),
    /// What stands in front of kind and name.
    #[error("\"{0}\" cannot be the name of a workload's namespace")]
    Namespace(String),
}

impl Fault for WorkloadNameError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some(
            "write deploy/NAME, sts/NAME, cronjob/NAME or job/NAME, and NAMESPACE/ in front of it if it is not in the source's \
             namespace"
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_read_as_kubectl_writes_them() {
        for (text, printed) in [
            ("deploy/immich-server", "deploy/immich-server"),
            ("Deployment.apps/a", "deploy/a"),
            ("statefulsets/a", "sts/a"),
            ("cj/backup", "cronjob/backup"),
            ("jobs.batch/import", "job/import"),
            ("media/Deployment/immich-server", "media/deploy/immich-server"),
            // A namespace may be called like a kind.
            ("job/sts/a", "job/sts/a"),
        ] {
            assert_eq!(
                text.parse::<WorkloadName>().map(|name| name.to_string()),
                Ok(printed.to_owned()),
                "{text}"
            );
        }
        for text in [
            "immich-server",
            "pod/a-0",
            "ds/a",
            "deploy/",
            "deploy/A",
            "deploy/media/a",
            "a/media/deploy/b",
            "",
        ] {
            let error = text.parse::<WorkloadName>().expect_err(text);
            assert_eq!(error.to_string(), format!("\"{text}\" names no workload that can be frozen"));
            assert!(error.hint().is_some_and(|hint| hint.contains("NAMESPACE/")));
        }
        for namespace in ["", "Media", "my.media", "-"] {
            let error = format!("{namespace}/deploy/a").parse::<WorkloadName>().expect_err(namespace);
            assert_eq!(error, WorkloadNameError::Namespace(namespace.to_owned()));
        }
    }

    #[test]
    fn a_workload_is_in_its_own_namespace_or_in_the_sources() {
        let named = |text: &str| text.parse::<WorkloadName>().expect("a workload");
        assert_eq!(named("deploy/a").namespace("databases"), "databases");
        assert_eq!(named("media/deploy/a").namespace("databases"), "media");
    }
}
