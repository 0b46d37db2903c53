//! What a freeze will change: decided from what was seen, before anything is changed.
//!
//! In this order: what pushes new versions, what applies them, what the source needs to live through a push that no
//! longer has it, and at last what writes. So nothing starts again what is stopped.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::workload::{WorkloadKind, WorkloadName};
use super::writers::{Sighting, Source, Writer, Writers, addresses, controllers, has_own_address};
use crate::cutover::object::{self, Object, ObjectKey};
use crate::cutover::record::{Change, FieldChange, Mark, MarkError};
use crate::kubernetes::{ObjectRef, Owner};

/// The annotation that makes Flux leave one object alone: it is neither applied nor pruned.
pub const RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

/// Flux's kinds that are suspended: group and kind.
pub(in crate::cutover) const FLUX: [(&str, &str); 3] = [IMAGE_UPDATE_AUTOMATION, KUSTOMIZATION, HELM_RELEASE];
pub(super) const IMAGE_UPDATE_AUTOMATION: (&str, &str) = ("image.toolkit.fluxcd.io", "ImageUpdateAutomation");
pub(super) const KUSTOMIZATION: (&str, &str) = ("kustomize.toolkit.fluxcd.io", "Kustomization");
const HELM_RELEASE: (&str, &str) = ("helm.toolkit.fluxcd.io", "HelmRelease");

/// Everything that a freeze will do, decided before anything is changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FreezePlan {
    /// The workload of the source, which keeps running.
    pub source: Option<ObjectKey>,
    /// In the order in which they are made.
    pub changes: Vec<Change>,
    /// Why the freeze cannot be done; nothing is changed if there is one.
    pub obstacles: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl Change {
    /// Whether it ends pods.
    pub(super) fn stops(&self) -> bool {
        let is_switch = |field: &FieldChange| field.field == "/spec/replicas";
        matches!(&*self.object.kind, "CronJob" | "Job") || self.fields.iter().any(is_switch)
    }
}

/// Whether a change ends a pod.
pub(super) fn is_stopped_by(seen: &Sighting, pod: &Object, change: &Change) -> bool {
    let above = controllers(seen, pod);
    let owners = above.iter().copied().chain([pod]).filter_map(Object::controller);
    change.stops() && owners.into_iter().any(|owner| owner.uid == change.object.uid)
}

/// An object of Flux that is to be read before the plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    /// The API group.
    pub(super) group: &'static str,
    /// The kind.
    pub(super) kind: &'static str,
    /// Where it is.
    pub(super) namespace: String,
    /// Its name; `None` for all that are there.
    pub(super) name: Option<String>,
}

/// What manages the source and its writers, as far as labels say it.
pub(super) fn wanted(seen: &Sighting, source: &ObjectRef, named: &[WorkloadName]) -> Vec<Wanted> {
    let found = Writers::find(seen, source, named);
    let managed = found.source.objects().chain(found.workloads.iter().map(|writer| writer.object));
    managed.flat_map(owners).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The objects of Flux that have made an object, by its labels.
pub(super) fn owners(object: &Object) -> Vec<Wanted> {
    let wanted = |owner| match owner {
        Owner::Kustomization { namespace, name } => Some((KUSTOMIZATION, namespace, name)),
        Owner::HelmRelease { namespace, name } => Some((HELM_RELEASE, namespace, name)),
        Owner::Application { .. } | Owner::HelmInstall { .. } | Owner::Controller { .. } => None,
    };
    let found = object.owners().into_iter().filter_map(wanted);
    found
        .map(|((group, kind), namespace, name)| Wanted { group, kind, namespace, name: Some(name) })
        .collect()
}

/// Decides what is changed. `run` tells this run's records from those of others.
pub(super) fn plan(
    seen: &Sighting,
    source: &ObjectRef,
    named: &[WorkloadName],
    run: &str,
) -> Result<FreezePlan, MarkError> {
    let found = Writers::find(seen, source, named);
    let mut draft = Draft { run, plan: FreezePlan::default() };
    draft.plan.source = found.source.workload.map(|workload| workload.key.clone());
    draft.plan.obstacles.clone_from(&found.obstacles);
    draft.plan.notes.clone_from(&found.notes);
    let writers: Vec<&Object> = found.workloads.iter().map(|writer| writer.object).collect();
    draft.suspend_flux(seen, &writers, &found.source)?;
    draft.keep_source(&found.source)?;
    for kind in
        [WorkloadKind::CronJob, WorkloadKind::Job, WorkloadKind::Deployment, WorkloadKind::StatefulSet]
    {
        for writer in
            found.workloads.iter().filter(|writer| WorkloadKind::of(&writer.object.key) == Some(kind))
        {
            draft.hold_autoscalers(seen, writer.object)?;
            draft.stop(kind, writer)?;
        }
    }
    // Once it is stopped, a workload has no sessions to be found by. A Deployment's record is copied to its ReplicaSets.
    for object in seen.objects.iter().filter(|object| object.key.kind != "ReplicaSet") {
        if Mark::of(object)?.is_some_and(|mark| mark.run == run) {
            draft.change(object, "frozen before".to_owned(), &[])?;
        }
    }
    for change in &mut draft.plan.changes {
        let of_it = |pod: &&Object| pod.key.kind == "Pod" && is_stopped_by(seen, pod, change);
        let own = seen.objects.iter().filter(of_it).filter(|pod| has_own_address(pod));
        change.addresses = own.flat_map(addresses).collect();
    }
    Ok(draft.plan)
}

/// A plan in the making.
struct Draft<'a> {
    run: &'a str,
    plan: FreezePlan,
}

impl Draft<'_> {
    /// Adds a change, unless the object has one. What a record of this run says the former value was, it is.
    fn change(&mut self, object: &Object, reason: String, fields: &[(&str, Value)]) -> Result<(), MarkError> {
        if self.plan.changes.iter().any(|change| change.object == object.key) {
            return Ok(());
        }
        let fields = match Mark::of(object)? {
            Some(mark) if mark.run == self.run => mark.fields,
            Some(mark) => {
                self.plan.obstacles.push(format!(
                    "{} is frozen by run {}: work in its run directory (--run-dir), or undo it (pgmove rollback -n {})",
                    object.key, mark.run, mark.source_namespace
                ));
                return Ok(());
            }
            None => fields
                .iter()
                .map(|(field, frozen)| FieldChange {
                    field: (*field).to_owned(),
                    former: object.field(field).clone(),
                    frozen: frozen.clone(),
                })
                .collect(),
        };
        let addresses = BTreeSet::new();
        self.plan.changes.push(Change { object: object.key.clone(), reason, fields, addresses });
        Ok(())
    }

    /// Suspends what would apply the writers again. The source is only marked: its Kustomization may go on with the rest,
    /// but a release would be upgraded or uninstalled as a whole.
    fn suspend_flux(
        &mut self,
        seen: &Sighting,
        writers: &[&Object],
        source: &Source<'_>,
    ) -> Result<(), MarkError> {
        let reconcile = object::annotation(RECONCILE);
        let made_by = |objects: &[&Object], kind: &str| -> Vec<(&Object, ObjectKey)> {
            let mut makers: Vec<(&Object, ObjectKey)> = vec![];
            for object in objects {
                for wanted in owners(object).iter().filter(|wanted| wanted.kind == kind) {
                    let is_new = |maker: &&Object| !makers.iter().any(|(known, _)| known.key == maker.key);
                    let maker = seen.objects.iter().find(|maker| wanted.is(maker)).filter(is_new);
                    makers.extend(maker.map(|maker| (maker, object.key.clone())));
                }
            }
            makers
        };
        let kustomizations = made_by(writers, KUSTOMIZATION.1);
        let of_source: Vec<&Object> = source.objects().collect();
        let releases = made_by(&[writers, &of_source].concat(), HELM_RELEASE.1);
        let of_releases: Vec<&Object> = releases.iter().map(|(release, _)| *release).collect();
        let appliers = made_by(&of_releases, KUSTOMIZATION.1);
        for (kustomization, _) in kustomizations.iter().chain(&appliers) {
            for automation in
                seen.objects.iter().filter(|object| object.key.kind == IMAGE_UPDATE_AUTOMATION.1)
            {
                if shares_source(automation, kustomization) {
                    let reason = format!("it pushes to the repository of {}", kustomization.key);
                    self.change(automation, reason, &[("/spec/suspend", json!(true))])?;
                }
            }
        }
        for (owner, owned) in kustomizations.iter().chain(&releases) {
            let mut fields = vec![("/spec/suspend", json!(true))];
            // Its own parent would set what Git says, or prune it.
            if owners(owner).iter().any(|parent| parent.kind == KUSTOMIZATION.1) {
                fields.insert(0, (&reconcile, json!("disabled")));
            }
            self.change(owner, format!("it applies {owned}"), &fields)?;
            let held = owner.elements("/status/inventory/entries").count();
            if held > 1 {
                self.plan.notes.push(format!(
                    "{} holds {held} objects; none of them is updated while it is suspended",
                    owner.key
                ));
            }
        }
        for object in writers.iter().chain(&of_source) {
            for wanted in owners(object) {
                if !seen.objects.iter().any(|owner| wanted.is(owner)) {
                    self.plan.notes.push(format!(
                        "{} is labelled as made by {} {}/{}, which is not there",
                        object.key,
                        wanted.kind,
                        wanted.namespace,
                        wanted.name.as_deref().unwrap_or_default()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lets the source outlive a push that no longer has it.
    fn keep_source(&mut self, source: &Source<'_>) -> Result<(), MarkError> {
        for object in source.objects() {
            if owners(object).iter().any(|owner| owner.kind == KUSTOMIZATION.1) {
                let reason = "Flux must not prune what the source needs".to_owned();
                self.change(object, reason, &[(&object::annotation(RECONCILE), json!("disabled"))])?;
            }
        }
        Ok(())
    }

    /// A HorizontalPodAutoscaler rests while its target has no replicas, unless it may scale to zero itself.
    fn hold_autoscalers(&mut self, seen: &Sighting, workload: &Object) -> Result<(), MarkError> {
        let targets = |autoscaler: &&Object| {
            autoscaler.key.kind == "HorizontalPodAutoscaler"
                && autoscaler.key.namespace == workload.key.namespace
                && autoscaler.text("/spec/scaleTargetRef/kind") == Some(&workload.key.kind)
                && autoscaler.text("/spec/scaleTargetRef/name") == Some(&workload.key.name)
        };
        for autoscaler in seen.objects.iter().filter(targets) {
            let is_held = Mark::of(autoscaler)?.is_some();
            if is_held || autoscaler.field("/spec/minReplicas") == 0 {
                let reason = format!("it may start {} from zero replicas", workload.key);
                self.change(autoscaler, reason, &[("/spec/minReplicas", json!(1))])?;
            } else {
                self.plan
                    .notes
                    .push(format!("{} rests while {} has no replicas", autoscaler.key, workload.key));
            }
            if let Some(controller) = autoscaler.controller() {
                self.plan.notes.push(format!(
                    "{} belongs to {} {}, which may scale {} by itself; the freeze stops if it does",
                    autoscaler.key, controller.kind, controller.name, workload.key
                ));
            }
        }
        Ok(())
    }

    fn stop(&mut self, kind: WorkloadKind, writer: &Writer<'_>) -> Result<(), MarkError> {
        let workload = writer.object;
        let reconcile = object::annotation(RECONCILE);
        let (field, value) = kind.switch();
        let mut fields = vec![(field, value)];
        if owners(workload).iter().any(|owner| owner.kind == KUSTOMIZATION.1) {
            fields.insert(0, (&reconcile, json!("disabled")));
        }
        self.change(workload, writer.reason.clone(), &fields)?;
        if kind == WorkloadKind::Job {
            self.plan.notes.push(format!("{} begins anew when it is resumed", workload.key));
        }
        for owner in workload.owners() {
            match owner {
                Owner::Controller { kind, .. } if kind == "CronJob" => {}
                Owner::Controller { .. } => self.plan.notes.push(format!(
                    "{} belongs to {owner}, which may start it again; the freeze stops if it does",
                    workload.key
                )),
                Owner::Application { .. } => self.plan.notes.push(format!(
                    "{} is managed by {owner}: turn off its automatic sync, which pgmove does not",
                    workload.key
                )),
                Owner::Kustomization { .. } | Owner::HelmRelease { .. } | Owner::HelmInstall { .. } => {}
            }
        }
        Ok(())
    }
}

/// `Kustomization flux-system/apps`, `ImageUpdateAutomations in namespace flux-system`.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} {}/{name}", self.kind, self.namespace),
            None => write!(f, "{}s in namespace {}", self.kind, self.namespace),
        }
    }
}

impl Wanted {
    /// Whether this is the object.
    pub(super) fn is(&self, object: &Object) -> bool {
        let key = &object.key;
        key.group == self.group
            && key.kind == self.kind
            && key.namespace == self.namespace
            && self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

/// Whether an ImageUpdateAutomation writes to the repository that a Kustomization reads.
fn shares_source(automation: &Object, kustomization: &Object) -> bool {
    let source = |object: &Object| {
        let text = |name: &str| object.text(&format!("/spec/sourceRef/{name}")).map(str::to_owned);
        let namespace = text("namespace").unwrap_or_else(|| object.key.namespace.clone());
        // The automation's kind is a GitRepository where none is said.
        (text("kind").unwrap_or_else(|| "GitRepository".into()), namespace, text("name"))
    };
    source(automation) == source(kustomization)
}

#[cfg(test)]
mod tests;
