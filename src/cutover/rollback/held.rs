//! The Leases of a rollback: taken before the first object is put back, and given up however it ends.

use std::collections::BTreeSet;

use super::Rollback;
use crate::cutover::lease::{self, Lease, LeaseError};
use crate::cutover::object::{Object, ObjectKey};
use crate::cutover::record::Mark;
use crate::event::Events;

/// What a rollback holds, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) leases: Vec<Lease>,
    /// What these list.
    pub(super) listed: Vec<ObjectKey>,
    /// What is put back, or was before.
    pub(super) settled: BTreeSet<ObjectKey>,
    /// Whether nothing is left for which a Lease is needed.
    pub(super) is_done: bool,
}

impl Held {
    /// Takes the Leases of the runs that are undone, so that none of them is at work.
    pub(super) async fn take(
        &mut self,
        rollback: &Rollback,
        searched: &[Object],
        events: &Events,
    ) -> Result<(), LeaseError> {
        let mut unseen = vec![];
        let mut known: BTreeSet<&ObjectKey> = rollback.known.iter().collect();
        let mut namespaces: BTreeSet<String> = rollback.namespaces.iter().cloned().collect();
        namespaces.extend(rollback.known.iter().map(|object| object.namespace.clone()));
        for object in searched {
            if let Ok(Some(mark)) = Mark::of(object)
                && rollback.is_undone(&mark)
            {
                known.insert(&object.key);
                namespaces.insert(mark.source_namespace);
            }
        }
        for namespace in &namespaces {
            let listed = match lease::list(&rollback.server, namespace).await {
                Ok(listed) => listed,
                Err(LeaseError::Api(error))
                    if error.is_forbidden() && !rollback.namespaces.contains(namespace) =>
                {
                    unseen.push(format!(
                        "cannot see whether a run works in namespace {namespace}: {}",
                        error.cause
                    ));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for stored in listed {
                let is_of_run = stored.objects.iter().any(|object| known.contains(object));
                if is_of_run || (rollback.run.is_none() && rollback.namespaces.contains(namespace)) {
                    let holder = rollback.holder.clone();
                    let taken = Lease::acquire(&rollback.server, namespace, &stored.name, holder, events);
                    self.leases.push(taken.await?);
                    self.listed.extend(stored.objects);
                }
            }
        }
        // A run's Lease is in one namespace only, and its objects are in others too.
        if self.leases.is_empty() {
            for warning in unseen {
                events.warn(warning);
            }
        }
        Ok(())
    }

    /// Gives up every Lease, whatever becomes of the others, so that the next rollback need not wait until they run out.
    /// While something is left to do, they stay and tell it where.
    pub(super) async fn give_up(self) -> Result<(), LeaseError> {
        let mut outcome = Ok(());
        for lease in self.leases {
            let given_up = if self.is_done {
                lease.remove(&self.settled).await
            } else {
                lease.release_without(&self.settled).await
            };
            outcome = outcome.and(given_up);
        }
        outcome
    }
}
