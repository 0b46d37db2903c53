//! A change of an object in the cluster, and its record on the object itself.
//!
//! The value that a field had before stands in an annotation ([`MARK`]) that is set by the same request as the new
//! value: neither is ever found alone. So the annotation is the truth, whatever became of the process and of its run
//! directory. The journal, written before the request, says where to look.
//!
//! Everything here is a decision on JSON; the requests are made in [`super::freeze`] and [`super::rollback`].

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::field_manager::{self, FieldManager};
use super::object::{self, Object, ObjectKey};
use crate::error::{Class, Fault};

/// The annotation that holds the former values.
pub const MARK: &str = "pgmove/frozen";

/// What pgmove calls itself to the API server. Never `kubectl…`: Flux takes fields of such managers for its own.
pub const FIELD_MANAGER: &str = "pgmove";

/// A field that gets another value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// JSON pointer.
    pub field: String,
    /// The value before; `null` if there was none.
    pub former: Value,
    /// The value while frozen.
    pub frozen: Value,
}

/// An object that is changed, by one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub object: ObjectKey,
    /// Why, for a person.
    pub reason: String,
    /// Its fields.
    pub fields: Vec<FieldChange>,
    /// The addresses of its pods, by which their sessions are known after they are gone.
    pub addresses: BTreeSet<IpAddr>,
}

/// What [`MARK`] says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The run that froze the object.
    pub run: String,
    /// The namespace of its source, where the Lease is that lists all of its objects.
    pub source_namespace: String,
    /// Which of the run's changes it was, from 0; they are undone in reverse.
    pub order: usize,
    /// The fields.
    pub fields: Vec<FieldChange>,
}

/// The annotation is there and says nothing that can be understood.
#[derive(Debug, thiserror::Error)]
#[error("annotation {MARK} of {object} cannot be read")]
pub struct MarkError {
    /// The object that it stands on.
    pub object: Box<ObjectKey>,
    /// Why not.
    pub source: serde_json::Error,
}

impl Fault for MarkError {
    fn class(&self) -> Class {
        Class::Integrity
    }

    fn hint(&self) -> Option<String> {
        Some(
            "put back by hand what it says, or what the journal's records \"frozen\" say, then remove it"
                .into(),
        )
    }
}

impl Mark {
    /// The record on an object, if it has one.
    pub fn of(object: &Object) -> Result<Option<Mark>, MarkError> {
        let Some(text) = object.text(&object::annotation(MARK)) else {
            return Ok(None);
        };
        let failed = |source| MarkError { object: Box::new(object.key.clone()), source };
        serde_json::from_str(text).map(Some).map_err(failed)
    }
}

/// What is to be done to an object that a freeze is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// This merge patch.
    Patch(Value),
    /// Nothing: it is frozen, by this run.
    Standing,
}

/// Why an object is not changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Another object of the same name has taken its place.
    Recreated,
    /// Another run has frozen it.
    FrozenBy(String),
    /// It is not as it was when the plan was made.
    Changed {
        /// JSON pointer.
        field: String,
        /// What it was.
        planned: Value,
        /// What it is.
        now: Value,
        /// Who has set it.
        by: Option<FieldManager>,
    },
}

/// What is to be done to an object, as it is now, to freeze it for a run whose source is in `source_namespace`. `order` is
/// the change's place in the plan.
pub fn freeze(
    change: &Change,
    run: &str,
    source_namespace: &str,
    order: usize,
    now: &Object,
) -> Result<Result<Step, Refusal>, MarkError> {
    if now.key.uid != change.object.uid {
        return Ok(Err(Refusal::Recreated));
    }
    let mark = match Mark::of(now)? {
        Some(mark) if mark.run != run => return Ok(Err(Refusal::FrozenBy(mark.run))),
        Some(mark) if mark.fields.iter().all(|field| *now.field(&field.field) == field.frozen) => {
            return Ok(Ok(Step::Standing));
        }
        // Somebody has thawed it since; what was before the freeze is still what the record says.
        Some(mark) => mark,
        None => {
            let changed = change.fields.iter().find(|field| *now.field(&field.field) != field.former);
            if let Some(FieldChange { field, former, .. }) = changed {
                return Ok(Err(Refusal::Changed {
                    field: field.clone(),
                    planned: former.clone(),
                    now: now.field(field).clone(),
                    by: field_manager::of(&now.body, field),
                }));
            }
            let (run, source_namespace) = (run.to_owned(), source_namespace.to_owned());
            Mark { run, source_namespace, order, fields: change.fields.clone() }
        }
    };
    let mut patch = precondition(now);
    let text = serde_json::to_string(&mark).expect("a mark is plain data");
    object::merge(&mut patch, &object::annotation(MARK), text.into());
    for field in mark.fields {
        object::merge(&mut patch, &field.field, field.frozen);
    }
    Ok(Ok(Step::Patch(patch)))
}

/// How an object is put back.
#[derive(Debug, Clone, PartialEq)]
pub struct Undoing {
    /// The merge patch; it removes the record too.
    pub patch: Value,
    /// The fields that get their former value.
    pub restored: Vec<FieldChange>,
    /// The fields that somebody else has set meanwhile, which keep their value.
    pub left: Vec<Left>,
}

/// A field that is neither as it was frozen nor as it was before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Left {
    /// JSON pointer.
    pub field: String,
    /// The value before the freeze.
    pub former: Value,
    /// What it is.
    pub now: Value,
    /// Who has set it.
    pub by: Option<FieldManager>,
}

/// How an object, as it is now, is put back.
pub fn undo(mark: &Mark, now: &Object) -> Undoing {
    let mut undoing = Undoing { patch: precondition(now), restored: vec![], left: vec![] };
    object::merge(&mut undoing.patch, &object::annotation(MARK), Value::Null);
    for change in &mark.fields {
        let value = now.field(&change.field);
        if *value == change.former {
            continue;
        }
        if *value == change.frozen {
            object::merge(&mut undoing.patch, &change.field, change.former.clone());
            undoing.restored.push(change.clone());
        } else {
            undoing.left.push(Left {
                field: change.field.clone(),
                former: change.former.clone(),
                now: value.clone(),
                by: field_manager::of(&now.body, &change.field),
            });
        }
    }
    undoing
}

/// A merge patch that the API server refuses (409) if the object is not as it was read.
pub(super) fn precondition(now: &Object) -> Value {
    json!({ "metadata": {
        "uid": now.key.uid,
        "resourceVersion": now.field("/metadata/resourceVersion"),
    } })
}

/// A value as a person writes it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECONCILE: &str = "/metadata/annotations/kustomize.toolkit.fluxcd.io~1reconcile";

    fn deployment(replicas: u32, annotations: &Value) -> Object {
        let key = ObjectKey {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
            namespace: "media".into(),
            name: "immich-server".into(),
            uid: "u-1".into(),
        };
        let body = json!({
            "metadata": { "uid": "u-1", "resourceVersion": "7", "annotations": annotations },
            "spec": { "replicas": replicas },
        });
        Object { key, body }
    }

    fn change() -> Change {
        Change {
            object: deployment(2, &json!({})).key,
            reason: "its pods are connected".into(),
            fields: vec![
                FieldChange { field: RECONCILE.into(), former: Value::Null, frozen: json!("disabled") },
                FieldChange { field: "/spec/replicas".into(), former: json!(2), frozen: json!(0) },
            ],
            addresses: BTreeSet::new(),
        }
    }

    /// What the API server makes of a merge patch.
    fn patched(object: &Object, patch: &Value) -> Object {
        fn apply(body: &mut Value, patch: &Value) {
            let Some(fields) = patch.as_object() else {
                *body = patch.clone();
                return;
            };
            if !body.is_object() {
                *body = json!({});
            }
            let body = body.as_object_mut().expect("made above");
            for (name, value) in fields {
                if value.is_null() {
                    body.remove(name);
                } else {
                    apply(body.entry(name.clone()).or_insert(Value::Null), value);
                }
            }
        }
        let mut body = object.body.clone();
        apply(&mut body, patch);
        Object { key: object.key.clone(), body }
    }

    fn frozen(now: &Object) -> Object {
        match freeze(&change(), "run-1", "databases", 4, now).expect("readable") {
            Ok(Step::Patch(patch)) => patched(now, &patch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_is_frozen_with_its_record_and_put_back_without_a_trace() {
        let before = deployment(2, &json!({ "team": "media" }));
        let during = frozen(&before);
        assert_eq!(during.field("/spec/replicas"), 0);
        assert_eq!(during.field(RECONCILE), "disabled");
        let mark = Mark::of(&during).expect("readable").expect("there");
        let (run, source_namespace) = ("run-1".to_owned(), "databases".to_owned());
        assert_eq!(mark, Mark { run, source_namespace, order: 4, fields: change().fields });
        let undoing = undo(&mark, &during);
        assert_eq!((undoing.restored.len(), undoing.left.len()), (2, 0));
        assert_eq!(patched(&during, &undoing.patch), before);
    }

    #[test]
    fn a_frozen_object_is_left_alone_and_one_that_was_thawed_is_frozen_again() {
        let during = frozen(&deployment(2, &json!({})));
        assert_eq!(
            freeze(&change(), "run-1", "databases", 4, &during).expect("readable"),
            Ok(Step::Standing)
        );
        let thawed = patched(&during, &json!({ "spec": { "replicas": 5 } }));
        let again = frozen(&thawed);
        assert_eq!(again.field("/spec/replicas"), 0);
        let mark = Mark::of(&again).expect("readable").expect("there");
        assert_eq!(mark.fields[1].former, 2, "what was before the freeze, not what came after");
    }

    #[test]
    fn an_object_that_is_not_as_planned_is_refused() {
        let other_run = frozen(&deployment(2, &json!({})));
        let refused = freeze(&change(), "run-2", "databases", 0, &other_run).expect("readable");
        assert_eq!(refused, Err(Refusal::FrozenBy("run-1".into())));
        let scaled =
            freeze(&change(), "run-1", "databases", 0, &deployment(3, &json!({}))).expect("readable");
        assert!(matches!(scaled, Err(Refusal::Changed { ref field, .. }) if field == "/spec/replicas"));
        let mut recreated = deployment(2, &json!({}));
        recreated.key.uid = "u-2".into();
        assert_eq!(
            freeze(&change(), "run-1", "databases", 0, &recreated).expect("readable"),
            Err(Refusal::Recreated)
        );
    }

    #[test]
    fn what_somebody_else_has_set_meanwhile_is_left_and_told() {
        let during = frozen(&deployment(2, &json!({})));
        let scaled = patched(&during, &json!({ "spec": { "replicas": 5 } }));
        let mark = Mark::of(&scaled).expect("readable").expect("there");
        let undoing = undo(&mark, &scaled);
        let left = &undoing.left[0];
        assert_eq!((left.field.as_str(), &left.former, &left.now), ("/spec/replicas", &json!(2), &json!(5)));
        let after = patched(&scaled, &undoing.patch);
        assert_eq!(after.field("/spec/replicas"), 5);
        assert!(after.field(RECONCILE).is_null() && Mark::of(&after).expect("readable").is_none());
    }

    #[test]
    fn what_has_its_former_value_again_is_restored() {
        let during = frozen(&deployment(2, &json!({})));
        let thawed = patched(&during, &json!({ "spec": { "replicas": 2 } }));
        let undoing = undo(&Mark::of(&thawed).expect("readable").expect("there"), &thawed);
        assert_eq!(undoing.left, []);
        assert_eq!(patched(&thawed, &undoing.patch), deployment(2, &json!({})));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_error_and_no_absence() {
        let damaged = deployment(0, &json!({ MARK: "{" }));
        assert!(Mark::of(&damaged).is_err());
        assert!(freeze(&change(), "run-1", "databases", 0, &damaged).is_err());
    }
}
