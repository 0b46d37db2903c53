//! Objects of a cluster as JSON: what they are called, and their fields by JSON pointer.
//!
//! Decisions of this module's neighbours are made on JSON, not on types: a freeze touches a few fields of many kinds,
//! and of Flux's kinds whichever version the cluster has.

use std::fmt::{self, Write as _};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kubernetes::{self, Owner};

/// Which object, and how the API server is asked for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The API group; empty for the core group.
    pub group: String,
    /// The group's version.
    pub version: String,
    /// `Deployment`
    pub kind: String,
    /// `deployments`
    pub plural: String,
    /// Where it is.
    pub namespace: String,
    /// What it is called there.
    pub name: String,
    /// Tells it from another of the same name, before or after it.
    pub uid: String,
}

/// `Deployment media/immich-server`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl ObjectKey {
    /// The kind, for requests.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: if self.group.is_empty() {
                self.version.clone()
            } else {
                format!("{}/{}", self.group, self.version)
            },
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }
}

/// An object as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Which.
    pub key: ObjectKey,
    /// All of it.
    pub body: Value,
}

impl Object {
    /// An object of this kind from the API server's answer.
    pub fn new(resource: &ApiResource, object: &DynamicObject) -> Object {
        let metadata = &object.metadata;
        Object {
            key: ObjectKey {
                group: resource.group.clone(),
                version: resource.version.clone(),
                kind: resource.kind.clone(),
                plural: resource.plural.clone(),
                namespace: metadata.namespace.clone().unwrap_or_default(),
                name: metadata.name.clone().unwrap_or_default(),
                uid: metadata.uid.clone().unwrap_or_default(),
            },
            body: serde_json::to_value(object).expect("an object was JSON"),
        }
    }

    /// The field at a JSON pointer; `null` if it is not there.
    pub fn field(&self, pointer: &str) -> &Value {
        field(&self.body, pointer)
    }

    /// The text at a JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.field(pointer).as_str()
    }

    /// A label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.body.get("metadata")?.get("labels")?.get(name)?.as_str()
    }

    /// The kind, name and UID of the controller that made it and looks after it.
    pub fn controller(&self) -> Option<Controller<'_>> {
        let owners = self.field("/metadata/ownerReferences").as_array()?;
        let owner = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
        let text = |name| owner.get(name).and_then(Value::as_str);
        Some(Controller { kind: text("kind")?, name: text("name")?, uid: text("uid")? })
    }

    /// What manages it, as far as it says so.
    pub fn owners(&self) -> Vec<Owner> {
        let metadata = ObjectMeta::deserialize(self.field("/metadata"));
        kubernetes::owners(&metadata.expect("the API server's answer was read as one"))
    }

    /// The elements of the array at a JSON pointer.
    pub fn elements(&self, pointer: &str) -> impl Iterator<Item = &Value> {
        self.field(pointer).as_array().into_iter().flatten()
    }
}

/// Who looks after an object (`metadata.ownerReferences`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Controller<'a> {
    /// `ReplicaSet`
    pub kind: &'a str,
    /// Its name, in the object's namespace.
    pub name: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

/// The field at a JSON pointer; `null` if it is not there.
pub fn field<'a>(body: &'a Value, pointer: &str) -> &'a Value {
    body.pointer(pointer).unwrap_or(&Value::Null)
}

/// The pointer to an annotation.
pub fn annotation(name: &str) -> String {
    format!("/metadata/annotations/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The names along a JSON pointer.
pub fn steps(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// A field as a person writes it: `spec.replicas`, `metadata.annotations["a/b"]`.
pub fn spelled(pointer: &str) -> String {
    let mut text = String::new();
    for step in steps(pointer) {
        if step.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            text.push_str(if text.is_empty() { "" } else { "." });
            text.push_str(&step);
        } else {
            let _ = write!(text, "[{step:?}]");
        }
    }
    text
}

/// Sets the field at a JSON pointer in a merge patch, where `null` removes it (RFC 7386).
pub(super) fn merge(patch: &mut Value, pointer: &str, value: Value) {
    let mut place = patch;
    for step in steps(pointer) {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = place.as_object_mut().expect("made above").entry(step).or_insert(Value::Null);
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_patched_and_spelled_by_pointer() {
        let mark = annotation("kustomize.toolkit.fluxcd.io/reconcile");
        assert_eq!(mark, "/metadata/annotations/kustomize.toolkit.fluxcd.io~1reconcile");
        assert_eq!(spelled(&mark), "metadata.annotations[\"kustomize.toolkit.fluxcd.io/reconcile\"]");
        assert_eq!(spelled("/spec/replicas"), "spec.replicas");
        let mut patch = Value::Null;
        merge(&mut patch, &mark, json!("disabled"));
        merge(&mut patch, "/spec/replicas", json!(0));
        merge(&mut patch, "/spec/suspend", Value::Null);
        assert_eq!(
            patch,
            json!({
                "metadata": { "annotations": { "kustomize.toolkit.fluxcd.io/reconcile": "disabled" } },
                "spec": { "replicas": 0, "suspend": null },
            })
        );
        assert_eq!(field(&patch, &mark), "disabled");
        assert!(field(&patch, "/spec/absent").is_null());
    }
}
