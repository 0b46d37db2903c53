//! Puts back what a freeze has changed.
//!
//! What is put back stands in an annotation on each object ([`super::record`]), so neither the run directory nor the
//! machine of the freeze is needed. Where to look is told by the journal, or by the namespaces: the Lease there lists the
//! run's objects, also those of other namespaces, and the kinds that pgmove changes are searched. Objects are put back in
//! reverse: what writes first, then what manages it. An object that cannot be put back does not keep the others from it;
//! a second rollback tries again.
//!
//! Without journal and Lease, the labels of what is in the namespaces lead to the objects of Flux elsewhere, and the
//! rollback counts as incomplete: nothing tells that these are all. A journal whose objects are all unknown here is that of a
//! freeze in another cluster, and refused.

use std::collections::BTreeSet;

use serde::Serialize;

use super::freeze::{CLUSTER, FLUX, changeable, flux_of};
use super::lease::{self, Holder, Lease, LeaseError};
use super::object::{Object, ObjectKey};
use super::record::{self, FieldChange, Left, Mark};
use super::requests::{self, Mode};
use crate::error::{Class, Fault};
use crate::event::Events;
use crate::journal::{JournalError, Record, RunDirectory};
use crate::kubernetes::{ApiError, ApiServer};

/// How often an object is tried again that others write to at the same time.
const ATTEMPTS: usize = 10;

/// What is put back.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// The cluster.
    pub server: ApiServer,
    /// The namespaces that are searched.
    pub namespaces: Vec<String>,
    /// Objects that are known from a journal.
    pub known: Vec<ObjectKey>,
    /// Objects that stay frozen.
    pub kept: Vec<ObjectKey>,
    /// Only what this run has frozen; without it, what any run has.
    pub run: Option<String>,
    /// Who rolls back.
    pub holder: Holder,
}

/// What a rollback came to.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Restoration {
    /// Put back, in this order.
    pub restored: Vec<Restored>,
    /// Removed, or replaced by others of their names, since they were frozen.
    pub gone: Vec<ObjectKey>,
    /// Neither changed back nor known to be gone.
    pub failed: Vec<Failed>,
    /// Where could not be searched, and why.
    pub unsearched: Vec<String>,
}

/// An object whose record is gone.
#[derive(Debug, PartialEq, Serialize)]
pub struct Restored {
    /// Which.
    pub object: ObjectKey,
    /// The fields that have their former value again.
    pub fields: Vec<FieldChange>,
    /// The fields that somebody else has set meanwhile, which keep their value.
    pub left: Vec<Left>,
}

/// An object that could not be put back.
#[derive(Debug, PartialEq, Serialize)]
pub struct Failed {
    /// Which.
    pub object: ObjectKey,
    /// Why.
    pub reason: String,
}

impl Restoration {
    /// Whether everything is as it was.
    pub fn is_complete(&self) -> bool {
        let is_left = |restored: &Restored| !restored.left.is_empty();
        self.gone.is_empty()
            && self.failed.is_empty()
            && self.unsearched.is_empty()
            && !self.restored.iter().any(is_left)
    }
}

/// Why nothing was put back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// A run is at work, or the Leases cannot be read.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The API server refused, or cannot be reached.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It could not be written down.
    #[error("could not record the rollback")]
    Journal(#[from] JournalError),
    /// None of the journal's objects is here.
    #[error(
        "none of the {count} frozen objects is in the cluster at {url}: {first} {}",
        if *has_namesake { "is another one there" } else { "is not there" }
    )]
    Elsewhere {
        /// How many the journal names.
        count: usize,
        /// The API server.
        url: String,
        /// One of them.
        first: Box<ObjectKey>,
        /// Whether another object has its name.
        has_namesake: bool,
    },
}

impl Fault for RollbackError {
    fn class(&self) -> Class {
        match self {
            RollbackError::Lease(error) => error.class(),
            RollbackError::Api(error) => error.class(),
            RollbackError::Journal(error) => error.class(),
            RollbackError::Elsewhere { .. } => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RollbackError::Lease(error) => error.hint(),
            RollbackError::Api(error) => error.hint(),
            RollbackError::Journal(error) => error.hint(),
            RollbackError::Elsewhere { .. } => Some(
                "name the cluster of the freeze (--context, --kubeconfig); if it is this one, they were removed or made anew since, \
                 and nothing is left to put back; nothing was changed, and the journal goes on knowing what is frozen"
                    .to_owned(),
            ),
        }
    }
}

/// What became of one object.
enum Outcome {
    Restored(Restored),
    /// It has no record of the run: it was never changed, or is put back already.
    Untouched,
    Gone,
    Failed(String),
}

impl Rollback {
    /// Puts back everything that can be; the journal, if there is one, is told.
    pub async fn run(
        &self,
        mut journal: Option<&mut RunDirectory>,
        events: &Events,
    ) -> Result<Restoration, RollbackError> {
        let mut found = Restoration::default();
        self.refuse_elsewhere().await?;
        let (leases, listed) = self.take_leases(events).await?;
        let known: BTreeSet<ObjectKey> = self.known.iter().cloned().chain(listed).collect();
        let is_told = journal.is_some() || !self.known.is_empty() || !leases.is_empty();
        let mut objects = self.search(&known, is_told, &mut found).await?;
        objects.retain(|(object, _)| !self.kept.contains(object));
        objects.sort_by_key(|(object, order)| std::cmp::Reverse((rank(&object.kind), *order)));
        for (object, _) in objects {
            let is_settled = match self.restore(&object, events).await {
                Outcome::Restored(restored) => {
                    events.note(format!("put back: {object}"));
                    found.restored.push(restored);
                    true
                }
                Outcome::Untouched => true,
                Outcome::Gone => {
                    found.gone.push(object.clone());
                    // The journal goes on knowing what was not put back.
                    false
                }
                Outcome::Failed(reason) => {
                    found.failed.push(Failed { object: object.clone(), reason });
                    false
                }
            };
            if let Some(journal) = journal.as_mut().filter(|_| is_settled && self.known.contains(&object)) {
                journal.append(Record::Thawed { object })?;
            }
        }
        // While something is left to do, it tells the next rollback where.
        let is_done = found.failed.is_empty() && found.unsearched.is_empty() && self.kept.is_empty();
        for lease in leases {
            if is_done { lease.remove().await? } else { lease.release().await? }
        }
        Ok(found)
    }

    /// Refuses to look for the journal's objects where there is none of them: UIDs tell one cluster from another.
    async fn refuse_elsewhere(&self) -> Result<(), RollbackError> {
        let mut namesakes = vec![];
        for key in &self.known {
            match requests::read(&self.server, key).await {
                Ok(Some(now)) if now.key.uid == key.uid => return Ok(()),
                Ok(now) => namesakes.push(now.is_some()),
                // Whether it is there is not known.
                Err(_) => return Ok(()),
            }
        }
        let Some(first) = self.known.first() else { return Ok(()) };
        // All of them may have been made anew; the run's Lease is in the cluster of the freeze only.
        for namespace in self.known.iter().map(|object| &object.namespace).collect::<BTreeSet<_>>() {
            let listed = lease::list(&self.server, namespace).await.unwrap_or_default();
            if listed.iter().any(|lease| lease.objects.iter().any(|object| self.known.contains(object))) {
                return Ok(());
            }
        }
        Err(RollbackError::Elsewhere {
            count: self.known.len(),
            url: self.server.url().to_owned(),
            first: Box::new(first.clone()),
            has_namesake: namesakes[0],
        })
    }

    /// Takes the Leases of the runs that are undone, so that none of them is at work; gives the objects that they list.
    async fn take_leases(&self, events: &Events) -> Result<(Vec<Lease>, Vec<ObjectKey>), RollbackError> {
        let (mut leases, mut objects) = (vec![], vec![]);
        let known = self.known.iter().map(|object| &object.namespace);
        for namespace in self.namespaces.iter().chain(known).collect::<BTreeSet<_>>() {
            let listed = match lease::list(&self.server, namespace).await {
                Ok(listed) => listed,
                // The Lease is in one namespace only, and its objects are in others too.
                Err(LeaseError::Api(error))
                    if error.is_forbidden() && !self.namespaces.contains(namespace) =>
                {
                    events.warn(format!(
                        "cannot see whether a run works in namespace {namespace}: {}",
                        error.cause
                    ));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for stored in listed {
                let is_of_run = stored.objects.iter().any(|object| self.known.contains(object));
                if self.run.is_none() || is_of_run {
                    let holder = self.holder.clone();
                    leases.push(Lease::acquire(&self.server, namespace, &stored.name, holder, events).await?);
                    objects.extend(stored.objects);
                }
            }
        }
        Ok((leases, objects))
    }

    /// The objects that have a record, or should have one, each with its place in the freeze. `is_told`: whether a journal or
    /// a Lease names them all.
    async fn search(
        &self,
        known: &BTreeSet<ObjectKey>,
        is_told: bool,
        found: &mut Restoration,
    ) -> Result<Vec<(ObjectKey, usize)>, ApiError> {
        let mut kinds: Vec<_> = changeable().collect();
        for (group, kind) in FLUX.into_iter().chain([CLUSTER]) {
            kinds.extend(requests::discover(&self.server, group, kind).await?);
        }
        let mut objects: Vec<Object> = vec![];
        for namespace in &self.namespaces {
            for kind in &kinds {
                match requests::list(&self.server, kind, namespace).await {
                    Ok(listed) => objects.extend(listed),
                    Err(error) if error.is_forbidden() => {
                        found
                            .unsearched
                            .push(format!("{} in namespace {namespace}: {}", kind.plural, error.cause));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if !is_told {
            for read in flux_of(&self.server, &objects).await {
                match read {
                    Ok(of_flux) => objects.extend(of_flux),
                    Err((what, error)) => found.unsearched.push(format!("{what}: {}", error.cause)),
                }
            }
            found.unsearched.push(format!(
                "no lease in namespace {} lists what was frozen; beyond it, only what the labels of its objects lead to was \
                 looked at",
                self.namespaces.join(", ")
            ));
        }
        let has_record = |object: &Object| object.text(&super::object::annotation(record::MARK)).is_some();
        let order = |object: &Object| Mark::of(object).ok().flatten().map_or(0, |mark| mark.order);
        let mut marked: Vec<_> = objects
            .iter()
            .filter(|object| has_record(object))
            .map(|object| (object.key.clone(), order(object)))
            .collect();
        for key in known {
            if !marked.iter().any(|(object, _)| object == key) {
                // One that cannot be read is tried again when it is its turn, and told then.
                let now = requests::read(&self.server, key).await.ok().flatten();
                marked.push((key.clone(), now.as_ref().map_or(0, order)));
            }
        }
        Ok(marked)
    }

    async fn restore(&self, object: &ObjectKey, events: &Events) -> Outcome {
        self.try_restore(object, events).await.unwrap_or_else(|error| Outcome::Failed(told(&error)))
    }

    async fn try_restore(&self, object: &ObjectKey, events: &Events) -> Result<Outcome, ApiError> {
        for _ in 0..ATTEMPTS {
            let now = requests::read(&self.server, object).await?;
            let Some(now) = now.filter(|now| now.key.uid == object.uid) else {
                return Ok(Outcome::Gone);
            };
            let mark = match Mark::of(&now) {
                Ok(Some(mark)) if self.run.as_ref().is_none_or(|run| *run == mark.run) => mark,
                Ok(_) => return Ok(Outcome::Untouched),
                Err(error) => return Ok(Outcome::Failed(told(&error))),
            };
            let undoing = record::undo(&mark, &now);
            if let Some(after) = requests::patch(&self.server, object, &undoing.patch, Mode::Real).await? {
                if let Err(error) = requests::disown(&self.server, after).await {
                    events.note(format!(
                        "{object} still names pgmove as the owner of fields: {}",
                        told(&error)
                    ));
                }
                let (fields, left) = (undoing.restored, undoing.left);
                return Ok(Outcome::Restored(Restored { object: object.clone(), fields, left }));
            }
        }
        Ok(Outcome::Failed("it is written to by others all the time".to_owned()))
    }
}

/// An error with its cause, on one line.
fn told(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// What manages others comes first in a freeze, and last in a rollback, whatever order two freezes of a run gave it.
fn rank(kind: &str) -> usize {
    FLUX.iter().position(|(_, managing)| *managing == kind).unwrap_or(FLUX.len())
}
