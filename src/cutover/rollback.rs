//! Puts back what a freeze has changed.
//!
//! What is put back stands in an annotation on each object ([`super::record`]), so neither the run directory nor the
//! machine of the freeze is needed. Where to look is told by the journal, or by the namespaces: the kinds that pgmove changes
//! are searched there, and the Lease in the source's namespace, which each record names, lists the run's objects in all
//! others. Objects are put back in reverse: what writes first, then what manages it. An object that cannot be put back
//! does not keep the others from it; a second rollback tries again.
//!
//! Without journal and Lease, the labels of what is in the namespaces lead to the objects of Flux elsewhere, and the
//! rollback counts as incomplete: nothing tells that these are all. A journal whose objects are all unknown here is that of a
//! freeze in another cluster, and refused.

mod error;
mod held;

use std::collections::BTreeSet;

use serde::Serialize;

use super::freeze::{CLUSTER, FLUX, changeable, flux_of, recorded_changes};
use super::lease::{self, Holder};
use super::object::{Object, ObjectKey, spelled};
use super::record::{self, Change, FieldChange, Left, Mark, shown};
use super::requests::{self, Mode};
use crate::event::Events;
use crate::journal::{Record, RunDirectory};
use crate::kubernetes::{ApiError, ApiServer};

pub use error::RollbackError;
use held::Held;

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

/// What became of one object.
enum Outcome {
    Restored(Restored),
    /// It has no record: it was never changed, or is put back already.
    Untouched,
    /// It has that of another run, which is not undone.
    OfAnother,
    Gone,
    Failed(String),
}

impl Rollback {
    /// Puts back everything that can be; the journal, if there is one, is told.
    pub async fn run(
        &self,
        journal: Option<&mut RunDirectory>,
        events: &Events,
    ) -> Result<Restoration, RollbackError> {
        self.run_after(journal, events, async |_| Ok(())).await
    }

    /// The same, and before it something that must be done while no other run works on the source, and before the
    /// application comes back. If that fails, nothing is put back.
    pub async fn run_after<E: From<RollbackError>>(
        &self,
        journal: Option<&mut RunDirectory>,
        events: &Events,
        first: impl AsyncFnOnce(Option<&mut RunDirectory>) -> Result<(), E>,
    ) -> Result<Restoration, E> {
        let mut held = Held::default();
        let restored = self.run_under(&mut held, journal, events, first).await;
        let given_up = held.give_up().await;
        let found = restored?;
        given_up.map_err(RollbackError::from)?;
        Ok(found)
    }

    /// What is done under the Leases, which it takes.
    async fn run_under<E: From<RollbackError>>(
        &self,
        held: &mut Held,
        mut journal: Option<&mut RunDirectory>,
        events: &Events,
        first: impl AsyncFnOnce(Option<&mut RunDirectory>) -> Result<(), E>,
    ) -> Result<Restoration, E> {
        let mut found = Restoration::default();
        self.refuse_elsewhere().await?;
        let searched = self.search(&mut found).await.map_err(RollbackError::from)?;
        held.take(self, &searched, events).await.map_err(RollbackError::from)?;
        let known: BTreeSet<ObjectKey> = self.known.iter().chain(&held.listed).cloned().collect();
        // A Lease of another source tells nothing of this one's.
        let is_listed = |object: &Object| match Mark::of(object) {
            Ok(Some(mark)) => !self.is_undone(&mark) || known.contains(&object.key),
            Ok(None) | Err(_) => true,
        };
        let is_told = journal.is_some()
            || !self.known.is_empty()
            || !held.leases.is_empty() && searched.iter().all(is_listed);
        first(journal.as_deref_mut()).await?;
        let mut objects = self.recorded(searched, &known, is_told, &mut found).await;
        objects.retain(|(object, _)| !self.kept.contains(object));
        objects.sort_by_key(|(object, order)| std::cmp::Reverse((rank(&object.kind), *order)));
        // Others' objects are found by the same Lease.
        let mut is_needed = !self.kept.is_empty();
        for (object, _) in objects {
            let change =
                journal.as_ref().and_then(|journal| recorded_changes(journal.records(), &object).next());
            let outcome = self.restore(&object, change, events).await;
            if matches!(outcome, Outcome::Restored(_) | Outcome::Untouched) {
                held.settled.insert(object.clone());
            }
            let is_settled = match outcome {
                Outcome::Restored(restored) => {
                    events.note(format!("put back: {object}"));
                    found.restored.push(restored);
                    true
                }
                Outcome::Untouched => true,
                Outcome::OfAnother => {
                    is_needed = true;
                    true
                }
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
                journal.append(Record::Thawed { object }).map_err(RollbackError::from)?;
            }
        }
        held.is_done = found.failed.is_empty() && found.unsearched.is_empty() && !is_needed;
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
        let of_known = self.known.iter().map(|object| &object.namespace);
        for namespace in of_known.chain(&self.namespaces).collect::<BTreeSet<_>>() {
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

    /// Whether a record is of a freeze that is to be undone.
    fn is_undone(&self, mark: &Mark) -> bool {
        self.run.as_ref().is_none_or(|run| *run == mark.run)
    }

    /// What is in the namespaces, of the kinds that pgmove changes, and what the journal names.
    async fn search(&self, found: &mut Restoration) -> Result<Vec<Object>, ApiError> {
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
        for key in &self.known {
            if !objects.iter().any(|object| object.key == *key) {
                // One that cannot be read is tried again when it is its turn, and told then.
                let now = requests::read(&self.server, key).await.ok().flatten();
                objects.extend(now.filter(|now| now.key == *key));
            }
        }
        Ok(objects)
    }

    /// The objects that have a record, or should have one, each with its place in the freeze. `is_told`: whether a journal or
    /// a Lease names them all.
    async fn recorded(
        &self,
        mut objects: Vec<Object>,
        known: &BTreeSet<ObjectKey>,
        is_told: bool,
        found: &mut Restoration,
    ) -> Vec<(ObjectKey, usize)> {
        if !is_told {
            for read in flux_of(&self.server, &objects).await {
                match read {
                    Ok(of_flux) => objects.extend(of_flux),
                    Err((what, error)) => found.unsearched.push(format!("{what}: {}", error.cause)),
                }
            }
            found.unsearched.push(format!(
                "no lease in namespace {} lists what was frozen; beyond it, only what the labels of its objects lead to was \
                 looked at, and workloads of other namespaces are put back with -n of each",
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
        for key in
            known.iter().filter(|key| !marked.iter().any(|(object, _)| object == *key)).collect::<Vec<_>>()
        {
            // What was seen has no record, so no place.
            let now = if objects.iter().any(|object| object.key == *key) {
                None
            } else {
                // The same as in the search.
                requests::read(&self.server, key).await.ok().flatten()
            };
            marked.push((key.clone(), now.as_ref().map_or(0, order)));
        }
        marked
    }

    async fn restore(&self, object: &ObjectKey, change: Option<&Change>, events: &Events) -> Outcome {
        self.try_restore(object, change, events).await.unwrap_or_else(|error| Outcome::Failed(told(&error)))
    }

    async fn try_restore(
        &self,
        object: &ObjectKey,
        change: Option<&Change>,
        events: &Events,
    ) -> Result<Outcome, ApiError> {
        for _ in 0..ATTEMPTS {
            let now = requests::read(&self.server, object).await?;
            let Some(now) = now.filter(|now| now.key.uid == object.uid) else {
                return Ok(Outcome::Gone);
            };
            let mark = match Mark::of(&now) {
                Ok(Some(mark)) if self.is_undone(&mark) => mark,
                Ok(Some(_)) => return Ok(Outcome::OfAnother),
                Ok(None) => {
                    return Ok(change
                        .and_then(|change| unmarked(change, &now))
                        .unwrap_or(Outcome::Untouched));
                }
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

/// What the journal says was frozen, still is, and has lost the record that would put it back: somebody removed that.
fn unmarked(change: &Change, now: &Object) -> Option<Outcome> {
    let is_frozen =
        |field: &&FieldChange| *now.field(&field.field) == field.frozen && field.former != field.frozen;
    let fields: Vec<String> = change
        .fields
        .iter()
        .filter(is_frozen)
        .map(|field| {
            format!("{} is {}, and was {}", spelled(&field.field), shown(&field.frozen), shown(&field.former))
        })
        .collect();
    (!fields.is_empty()).then(|| {
        let fields = fields.join(", ");
        Outcome::Failed(format!(
            "{fields}, and its annotation pgmove/frozen is gone: set it yourself to what it shall be"
        ))
    })
}

/// An error with its cause, on one line.
fn told(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// What manages others comes first in a freeze, and last in a rollback, whatever order two freezes of a run gave it.
fn rank(kind: &str) -> usize {
    FLUX.iter().position(|(_, managing)| *managing == kind).unwrap_or(FLUX.len())
}
