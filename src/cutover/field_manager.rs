//! Who has set a field last, as the API server keeps it (`metadata.managedFields`).

use std::fmt;

use serde_json::Value;

use super::object;
use super::record::FIELD_MANAGER;

/// Who writes to an object, as it calls itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldManager {
    /// `kubectl-scale`, `kustomize-controller`
    pub name: String,
    /// When it wrote last, as the API server says it.
    pub at: Option<String>,
    /// Whether its entry names the field; if none does (the field was removed), it is who wrote to the object last.
    pub is_certain: bool,
}

impl fmt::Display for FieldManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hedge = if self.is_certain { "" } else { "probably " };
        write!(f, "{hedge}by {}", self.name)?;
        match &self.at {
            Some(at) => write!(f, " at {at}"),
            None => Ok(()),
        }
    }
}

/// Who has set the field at a JSON pointer.
pub fn of(body: &Value, pointer: &str) -> Option<FieldManager> {
    let entries = object::field(body, "/metadata/managedFields").as_array()?;
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    // Status is written all the time, and by others than those who change a field of ours. Scale is not status.
    let writers = || entries.iter().filter(|entry| text(entry, "subresource").as_deref() != Some("status"));
    // Times are RFC 3339 in UTC with whole seconds, so their order is that of their text; of two, the later entry.
    let latest = |certain: bool| {
        writers()
            .filter(|entry| owns(entry, pointer) || !certain)
            .max_by_key(|entry| text(entry, "time"))
            .and_then(|entry| Some((text(entry, "manager")?, text(entry, "time"))))
            .map(|(name, at)| FieldManager { name, at, is_certain: certain })
    };
    // Where pgmove wrote last, whoever removed the field has left no trace.
    latest(true).or_else(|| latest(false).filter(|writer| writer.name != FIELD_MANAGER))
}

/// Whether an entry names the field, or all of something that contains it.
fn owns(entry: &Value, pointer: &str) -> bool {
    let mut fields = object::field(entry, "/fieldsV1");
    for step in object::steps(pointer) {
        match fields.get(format!("f:{step}")) {
            Some(inner) => fields = inner,
            None => return false,
        }
        if fields.as_object().is_some_and(serde_json::Map::is_empty) {
            return true;
        }
    }
    true
}

/// The entries of `managedFields` without those of `manager`; `None` if it has none there.
pub(super) fn without(body: &Value, manager: &str) -> Option<Vec<Value>> {
    let entries = object::field(body, "/metadata/managedFields").as_array()?;
    let is_other = |entry: &&Value| entry.get("manager").and_then(Value::as_str) != Some(manager);
    let others: Vec<Value> = entries.iter().filter(is_other).cloned().collect();
    // An empty list would mean "as before" to the API server, and a list of one empty entry "none".
    (others.len() < entries.len() && !others.is_empty()).then_some(others)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment() -> Value {
        json!({ "metadata": { "managedFields": [
            { "manager": "kustomize-controller", "operation": "Apply", "time": "2026-11-20T08:00:00Z",
              "fieldsV1": { "f:spec": { "f:replicas": {}, "f:template": { "f:spec": {} } } } },
            { "manager": "pgmove", "operation": "Update", "time": "2026-11-23T08:00:00Z",
              "fieldsV1": { "f:metadata": { "f:annotations": { "f:pgmove/frozen": {} } } } },
            { "manager": "kubectl-scale", "operation": "Update", "subresource": "scale", "time": "2026-11-23T08:01:00Z",
              "fieldsV1": { "f:spec": { "f:replicas": {} } } },
            { "manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
              "time": "2026-11-23T08:02:00Z", "fieldsV1": { "f:status": { "f:replicas": {} } } },
        ] } })
    }

    #[test]
    fn the_latest_writer_of_a_field_is_named() {
        let by = of(&deployment(), "/spec/replicas").expect("one");
        assert_eq!((by.name.as_str(), by.is_certain), ("kubectl-scale", true));
        assert_eq!(by.to_string(), "by kubectl-scale at 2026-11-23T08:01:00Z");
        let by = of(&deployment(), "/metadata/annotations/pgmove~1frozen").expect("one");
        assert_eq!(by.name, "pgmove");
        let by = of(&deployment(), "/spec/template/spec/containers").expect("one");
        assert_eq!(by.name, "kustomize-controller");
    }

    #[test]
    fn for_a_field_that_was_removed_the_latest_writer_is_a_guess() {
        let by = of(&deployment(), "/spec/suspend").expect("one");
        assert_eq!((by.name.as_str(), by.is_certain), ("kubectl-scale", false));
        assert_eq!(by.to_string(), "probably by kubectl-scale at 2026-11-23T08:01:00Z");
        assert_eq!(of(&json!({}), "/spec/suspend"), None);
        let mut frozen = deployment();
        frozen["metadata"]["managedFields"][1]["time"] = json!("2026-11-23T08:03:00Z");
        assert_eq!(of(&frozen, "/spec/suspend"), None, "it was not pgmove");
    }

    #[test]
    fn entries_of_one_manager_are_left_out() {
        let others = without(&deployment(), "pgmove").expect("it has one");
        assert_eq!(others.len(), 3);
        assert_eq!(without(&deployment(), "nobody"), None);
        let alone = json!({ "metadata": { "managedFields": [{ "manager": "pgmove" }] } });
        assert_eq!(without(&alone, "pgmove"), None);
    }
}
