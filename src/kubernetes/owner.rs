//! Who looks after an object, and would undo what is changed in it: Flux, Argo CD, Helm, a controller.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// One that made an object, and makes it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Owner {
    /// A Kustomization of Flux.
    Kustomization {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A HelmRelease of Flux.
    HelmRelease {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An Application of Argo CD.
    Application {
        /// Its namespace, where the object tells it.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// A release that somebody installed with Helm.
    HelmInstall {
        /// The release's namespace.
        namespace: String,
        /// The release's name.
        name: String,
    },
    /// The object that controls it, in the same namespace.
    Controller {
        /// Its API group; empty for the core group.
        group: String,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Kustomization { namespace, name } => write!(f, "Flux Kustomization {namespace}/{name}"),
            Owner::HelmRelease { namespace, name } => write!(f, "Flux HelmRelease {namespace}/{name}"),
            Owner::Application { namespace: Some(namespace), name } => {
                write!(f, "Argo CD Application {namespace}/{name}")
            }
            Owner::Application { namespace: None, name } => write!(f, "Argo CD Application {name}"),
            Owner::HelmInstall { namespace, name } => write!(f, "Helm release {namespace}/{name}"),
            Owner::Controller { kind, name, .. } => write!(f, "{kind} {name}"),
        }
    }
}

/// All that look after an object, the nearest first; none if somebody applied it by hand.
pub fn owners(meta: &ObjectMeta) -> Vec<Owner> {
    let label = |key: &str| meta.labels.as_ref()?.get(key).filter(|value| !value.is_empty()).cloned();
    let annotation =
        |key: &str| meta.annotations.as_ref()?.get(key).filter(|value| !value.is_empty()).cloned();
    let by_flux = |toolkit: &str| {
        let part = |part: &str| label(&format!("{toolkit}.toolkit.fluxcd.io/{part}"));
        Some((part("namespace")?, part("name")?))
    };
    let controllers = meta.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
    let mut owners: Vec<Owner> = controllers
        .map(|owner| Owner::Controller {
            group: owner.api_version.split_once('/').map_or_else(String::new, |(group, _)| group.to_owned()),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
        })
        .collect();
    if let Some((namespace, name)) = by_flux("helm") {
        owners.push(Owner::HelmRelease { namespace, name });
    } else if label("app.kubernetes.io/managed-by").as_deref() == Some("Helm")
        && let Some(name) = annotation("meta.helm.sh/release-name")
    {
        // helm-controller writes these too, beside its own labels.
        let namespace = annotation("meta.helm.sh/release-namespace").or_else(|| meta.namespace.clone());
        owners.push(Owner::HelmInstall { namespace: namespace.unwrap_or_default(), name });
    }
    if let Some((namespace, name)) = by_flux("kustomize") {
        owners.push(Owner::Kustomization { namespace, name });
    }
    // `<application>:<group>/<kind>:<namespace>/<name>`; the label is what older installations track by.
    let tracked = annotation("argocd.argoproj.io/tracking-id")
        .and_then(|id| id.split_once(':').map(|(application, _)| application.to_owned()))
        .or_else(|| label("argocd.argoproj.io/instance"));
    if let Some(application) = tracked {
        // An Application outside of Argo CD's own namespace is written with its namespace before it.
        owners.push(match application.split_once('_') {
            Some((namespace, name)) => {
                Owner::Application { namespace: Some(namespace.to_owned()), name: name.to_owned() }
            }
            None => Owner::Application { namespace: None, name: application },
        });
    }
    owners
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn words(meta: Value) -> Vec<String> {
        let meta = serde_json::from_value(meta).expect("metadata");
        owners(&meta).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_that_look_after_an_object_are_named() {
        let flux = json!({ "labels": {
            "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"
        } });
        assert_eq!(words(flux), ["Flux Kustomization flux-system/apps"]);
        // As helm-controller leaves an object.
        let release = json!({ "namespace": "media", "labels": {
            "app.kubernetes.io/managed-by": "Helm",
            "helm.toolkit.fluxcd.io/name": "immich", "helm.toolkit.fluxcd.io/namespace": "media"
        }, "annotations": { "meta.helm.sh/release-name": "immich", "meta.helm.sh/release-namespace": "media" } });
        assert_eq!(words(release), ["Flux HelmRelease media/immich"]);
        let helm = json!({ "labels": { "app.kubernetes.io/managed-by": "Helm" }, "annotations": {
            "meta.helm.sh/release-name": "photos", "meta.helm.sh/release-namespace": "media"
        } });
        assert_eq!(words(helm), ["Helm release media/photos"]);
        let argo = json!({ "annotations": {
            "argocd.argoproj.io/tracking-id": "immich:apps/StatefulSet:media/immich-postgres"
        } });
        assert_eq!(words(argo), ["Argo CD Application immich"]);
        let elsewhere = json!({ "labels": { "argocd.argoproj.io/instance": "teams_immich" } });
        assert_eq!(words(elsewhere), ["Argo CD Application teams/immich"]);
        let controlled = json!({ "ownerReferences": [
            { "apiVersion": "acid.zalan.do/v1", "kind": "postgresql", "name": "photos", "uid": "1", "controller": true },
            { "apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "2" },
        ] });
        assert_eq!(words(controlled), ["postgresql photos"]);
    }

    #[test]
    fn what_somebody_applied_by_hand_has_no_owner() {
        let labels = json!({ "labels": { "app": "immich", "app.kubernetes.io/managed-by": "kustomize-v5" } });
        for meta in [json!({}), labels, json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "half" } })] {
            assert_eq!(words(meta), [""; 0]);
        }
    }
}
