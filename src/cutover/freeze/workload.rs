//! What a freeze stops: the kinds of workload, and how a user names them.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::cutover::object::Object;
use crate::error::{Class, Fault};
use crate::kubernetes::object::is_object_name;

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
    pub fn of(object: &Object) -> Option<WorkloadKind> {
        WorkloadKind::ALL.into_iter().find(|kind| kind.name() == object.key.kind)
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

/// A workload in a namespace that is said elsewhere, as kubectl writes it: `deploy/immich-server`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadName {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.words()[0], self.name)
    }
}

impl FromStr for WorkloadName {
    type Err = WorkloadNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(word, name)| {
            let word = word.to_ascii_lowercase();
            let kind = WorkloadKind::ALL.into_iter().find(|kind| kind.words().contains(&&*word))?;
            is_object_name(name).then(|| WorkloadName { kind, name: name.to_owned() })
        });
        parsed.ok_or_else(|| WorkloadNameError(text.to_owned()))
    }
}

/// What was written names no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" names no workload that can be frozen")]
pub struct WorkloadNameError(String);

impl Fault for WorkloadNameError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("write deploy/NAME, sts/NAME, cronjob/NAME or job/NAME".into())
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
        ] {
            assert_eq!(
                text.parse::<WorkloadName>().map(|name| name.to_string()),
                Ok(printed.to_owned()),
                "{text}"
            );
        }
        for text in ["immich-server", "pod/a-0", "ds/a", "deploy/", "deploy/A"] {
            assert!(text.parse::<WorkloadName>().is_err(), "{text}");
        }
    }
}
