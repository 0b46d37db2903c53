//! Which server a run works with: noted at its begin, compared before each stage.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::workload::{Found, PodPort, ResolveError, Route};

/// A server as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The pod, its container and its port.
    pub at: PodPort,
    /// The identifier that initdb gave the database cluster; for a Cluster, as its operator reports it.
    pub system_identifier: Option<String>,
    /// The timeline; only a Cluster tells it.
    pub timeline: Option<i64>,
}

/// What is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Another pod takes writes: a switchover or a failover.
    Moved {
        /// The pod that did.
        from: String,
        /// The pod that does.
        to: String,
    },
    /// A pod of the same name, but another one: it was deleted, evicted or rescheduled.
    Replaced {
        /// Its name.
        pod: String,
    },
    /// The container or its port: the pod's description was changed.
    Listener {
        /// The container and port as they were.
        from: String,
        /// As they are.
        to: String,
    },
    /// The server was promoted since.
    Promoted {
        /// The timeline as it was.
        from: i64,
        /// As it is.
        to: i64,
    },
    /// The timeline went back: it was restored from a backup that is older.
    Rewound {
        /// The timeline as it was.
        from: i64,
        /// As it is.
        to: i64,
    },
    /// Another database cluster, which was initialised anew or restored from elsewhere.
    OtherSystem {
        /// The identifier as it was.
        from: String,
        /// As it is.
        to: String,
    },
}

impl Change {
    /// Whether the same data are still there, so that the work that was cut can be tried again.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Change::Rewound { .. } | Change::OtherSystem { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Moved { from, to } => write!(f, "pod {to} has taken over from pod {from}"),
            Change::Replaced { pod } => write!(f, "pod {pod} was replaced by a new one of the same name"),
            Change::Listener { from, to } => {
                write!(f, "the server was in container {from} and is in container {to}")
            }
            Change::Promoted { from, to } => {
                write!(f, "the server was promoted, from timeline {from} to {to}")
            }
            Change::Rewound { from, to } => {
                write!(f, "the server went back from timeline {from} to {to}: an older state was restored")
            }
            Change::OtherSystem { from, to } => {
                write!(f, "the server is another one: its system identifier was {from} and is {to}")
            }
        }
    }
}

impl Pinned {
    /// Looks at the server behind an object.
    pub async fn look(route: &Route) -> Result<Pinned, ResolveError> {
        Ok(Pinned::of(&route.find().await?))
    }

    /// The server that was found. Of one that is no Cluster's, the system identifier is known only to itself.
    pub fn of(found: &Found) -> Pinned {
        let status = found.cluster.as_ref().and_then(|cluster| cluster.status.as_ref());
        Pinned {
            at: found.port.clone(),
            system_identifier: status.and_then(|status| status.system_identifier.clone()),
            timeline: status.and_then(|status| status.timeline),
        }
    }

    /// What has changed until `now`; nothing if it is the same server in the same pod.
    pub fn changes(&self, now: &Pinned) -> Vec<Change> {
        let mut changes = Vec::new();
        let (from, to) = (&self.at, &now.at);
        if (&from.namespace, &from.pod) != (&to.namespace, &to.pod) {
            changes.push(Change::Moved { from: from.pod.clone(), to: to.pod.clone() });
        } else if from.uid != to.uid {
            changes.push(Change::Replaced { pod: to.pod.clone() });
        }
        if (&from.container, from.port) != (&to.container, to.port) {
            let listener = |at: &PodPort| format!("{}, port {}", at.container, at.port);
            changes.push(Change::Listener { from: listener(from), to: listener(to) });
        }
        // A look that does not tell (an operator that restarts) proves no change.
        match (self.timeline, now.timeline) {
            (Some(from), Some(to)) if to > from => changes.push(Change::Promoted { from, to }),
            (Some(from), Some(to)) if to < from => changes.push(Change::Rewound { from, to }),
            _ => {}
        }
        match (&self.system_identifier, &now.system_identifier) {
            (Some(from), Some(to)) if from != to => {
                changes.push(Change::OtherSystem { from: from.clone(), to: to.clone() });
            }
            _ => {}
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned() -> Pinned {
        Pinned {
            at: PodPort {
                namespace: "media".into(),
                pod: "immich-postgres-1".into(),
                uid: "4a4bd2b8-3a5c-4a61-a2d3-6d2fb7ed0dbe".into(),
                container: "postgres".into(),
                port: 5432,
            },
            system_identifier: Some("7578563437294108694".into()),
            timeline: Some(1),
        }
    }

    fn changes(change: impl Fn(&mut Pinned)) -> Vec<Change> {
        let mut now = pinned();
        change(&mut now);
        pinned().changes(&now)
    }

    #[test]
    fn the_same_server_has_not_changed_also_when_read_from_the_journal() {
        assert_eq!(changes(|_| ()), []);
        let written = serde_json::to_string(&pinned()).expect("plain data");
        assert_eq!(serde_json::from_str::<Pinned>(&written).expect("what was written"), pinned());
        assert_eq!(changes(|now| (now.timeline, now.system_identifier) = (None, None)), []);
    }

    #[test]
    fn a_switchover_is_retried_and_said() {
        let changes = changes(|now| {
            now.at.pod = "immich-postgres-2".into();
            now.at.uid = "other".into();
            now.timeline = Some(2);
        });
        assert!(changes.iter().all(Change::is_retryable), "{changes:?}");
        let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "pod immich-postgres-2 has taken over from pod immich-postgres-1",
                "the server was promoted, from timeline 1 to 2",
            ]
        );
    }

    #[test]
    fn a_replaced_pod_is_retried_and_said() {
        let changes = changes(|now| now.at.uid = "other".into());
        assert_eq!(changes, [Change::Replaced { pod: "immich-postgres-1".into() }]);
        assert!(changes[0].is_retryable());
    }

    #[test]
    fn another_server_is_never_retried() {
        let other = changes(|now| now.system_identifier = Some("1".into()));
        let rewound = pinned().changes(&Pinned { timeline: Some(0), ..pinned() });
        for change in [&other[..], &rewound[..]].concat() {
            assert!(!change.is_retryable(), "{change}");
        }
        assert_eq!((other.len(), rewound.len()), (1, 1));
    }
}
