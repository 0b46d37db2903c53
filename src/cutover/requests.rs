//! Reading and changing objects whose kind is known at run time only.

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::core::discovery::verbs;
use serde_json::{Value, json};

use super::field_manager;
use super::object::{Object, ObjectKey};
use super::record::{self, FIELD_MANAGER};
use crate::kubernetes::{ApiError, ApiServer, Cause, Request};

/// What an object is changed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The API server checks rights and content, and changes nothing.
    Rehearsal,
    /// It is changed.
    Real,
}

impl ObjectKey {
    fn request(&self, verb: &'static str) -> Request {
        Request::of::<DynamicObject>(&self.resource(), verb, Some(&self.namespace), Some(&self.name))
    }

    fn api(&self, server: &ApiServer) -> Api<DynamicObject> {
        Api::namespaced_with(server.client().clone(), &self.namespace, &self.resource())
    }
}

/// The object of that name, whichever UID it has.
pub(super) async fn read(server: &ApiServer, key: &ObjectKey) -> Result<Option<Object>, ApiError> {
    let api = key.api(server);
    let found = server.ask(key.request(verbs::GET), api.get_opt(&key.name)).await?;
    Ok(found.map(|object| Object::new(&key.resource(), &object)))
}

/// All objects of a kind in a namespace.
pub(super) async fn list(
    server: &ApiServer,
    resource: &ApiResource,
    namespace: &str,
) -> Result<Vec<Object>, ApiError> {
    let found: Vec<DynamicObject> = server.list(resource, namespace, "").await?;
    Ok(found.iter().map(|object| Object::new(resource, object)).collect())
}

/// All objects of a kind in the cluster that a field selector picks.
pub(super) async fn list_everywhere(
    server: &ApiServer,
    resource: &ApiResource,
    fields: &str,
) -> Result<Vec<Object>, ApiError> {
    let found: Vec<DynamicObject> = server.list_everywhere(resource, fields).await?;
    Ok(found.iter().map(|object| Object::new(resource, object)).collect())
}

/// Sends a merge patch. `None` if the object is no longer as it was read, so that nothing was changed.
pub(super) async fn patch(
    server: &ApiServer,
    key: &ObjectKey,
    patch: &Value,
    mode: Mode,
) -> Result<Option<Object>, ApiError> {
    let parameters = PatchParams {
        dry_run: mode == Mode::Rehearsal,
        field_manager: Some(FIELD_MANAGER.to_owned()),
        // A field that this version of the kind does not have would be dropped without a word.
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let api = key.api(server);
    let sent =
        server.ask(key.request(verbs::PATCH), api.patch(&key.name, &parameters, &Patch::Merge(patch))).await;
    match sent {
        Ok(object) => Ok(Some(Object::new(&key.resource(), &object))),
        Err(ApiError { cause: Cause::Refused { code: 409, .. }, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How often is tried what others write to at the same time.
const ATTEMPTS: usize = 10;

/// Takes pgmove's name off the fields that it has put back; else it would own them together with their owner, who could
/// not remove them any more. An object that others never stop writing to keeps it.
pub(super) async fn disown(server: &ApiServer, after: Object) -> Result<(), ApiError> {
    let key = after.key.clone();
    let mut now = Some(after);
    for _ in 0..ATTEMPTS {
        let Some(object) = now.filter(|now| now.key.uid == key.uid) else { break };
        let Some(others) = field_manager::without(&object.body, FIELD_MANAGER) else { break };
        let mut without = record::precondition(&object);
        without["metadata"]["managedFields"] = json!(others);
        if patch(server, &key, &without, Mode::Real).await?.is_some() {
            break;
        }
        // Its controller has written to it: that is what putting back is for.
        now = read(server, &key).await?;
    }
    Ok(())
}

/// The kind of a group, in the version that the cluster prefers; `None` if it has none.
pub(super) async fn discover(
    server: &ApiServer,
    group: &str,
    kind: &str,
) -> Result<Option<ApiResource>, ApiError> {
    let request = Request {
        verb: verbs::GET,
        group: group.to_owned(),
        resource: String::new(),
        kind: "APIGroup".to_owned(),
        namespace: None,
        name: Some(group.to_owned()),
    };
    let asked = async {
        match kube::discovery::group(server.client(), group).await {
            Ok(found) => Ok(found.recommended_kind(kind).map(|(resource, _)| resource)),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(error) => Err(error),
        }
    };
    server.ask(request, asked).await
}
