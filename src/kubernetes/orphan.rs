//! A workload that is gone while its claims are left: who pushes the new database and prunes the old one at once ends
//! here. The data are still there, and a pod on the claim serves them.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde::Serialize;

use super::client::ApiServer;
use super::object::{Kind, ObjectRef};
use super::request::ApiError;
use super::storage::{ReclaimPolicy, Storage, storage_of};
use super::survey::CLUSTER_LABEL;
use super::workload::Route;
use crate::preflight::{Finding, Severity};

/// Labels by which claims tell whose they are.
const NAME_LABELS: [&str; 3] = ["app.kubernetes.io/instance", "app.kubernetes.io/name", "app"];

/// A claim that a workload left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// The workload that is gone, where it was named.
    pub workload: Option<ObjectRef>,
    /// The namespace of both.
    pub namespace: String,
    /// The claim.
    pub storage: Storage,
}

impl Orphan {
    /// The claims that the object of a route may have left behind, the likeliest first. Call it when the object is not
    /// found.
    pub async fn look(route: &Route) -> Result<Vec<Orphan>, ApiError> {
        let claims: Vec<PersistentVolumeClaim> = route.server.list(&(), &route.namespace, "").await?;
        let pods: Vec<Pod> = route.server.list(&(), &route.namespace, "").await?;
        let mut orphans = Vec::new();
        for claim in left_behind(claims, &pods, |claim| likelihood(&route.object, claim)) {
            orphans.push(Orphan {
                workload: Some(route.object.clone()),
                namespace: route.namespace.clone(),
                storage: storage_of(&route.server, claim).await?,
            });
        }
        Ok(orphans)
    }

    /// The claims of a namespace that no pod uses, those first whose names are a database's. Call it where there is no server.
    pub async fn look_around(server: &ApiServer, namespace: &str) -> Result<Vec<Orphan>, ApiError> {
        let claims: Vec<PersistentVolumeClaim> = server.list(&(), namespace, "").await?;
        let pods: Vec<Pod> = server.list(&(), namespace, "").await?;
        let mut orphans = Vec::new();
        for claim in left_behind(claims, &pods, likelihood_by_name) {
            orphans.push(Orphan {
                workload: None,
                namespace: namespace.to_owned(),
                storage: storage_of(server, claim).await?,
            });
        }
        Ok(orphans)
    }

    /// The name of the pod in [`Orphan::manifest`].
    pub fn pod(&self) -> String {
        let name = self.workload.as_ref().map_or(&self.storage.claim, |workload| &workload.name);
        format!("{name}-revived")
    }

    /// A pod that serves the claim's data. It carries no label, so that no Service leads an application to it, and no
    /// password, without which the images' entry point never initialises an empty directory.
    pub fn manifest(&self) -> String {
        let Orphan { namespace, storage: Storage { claim, .. }, .. } = self;
        let pod = self.pod();
        format!(
            "\
apiVersion: v1
kind: Pod
metadata:
  name: {pod}
  namespace: {namespace}
spec:
  containers:
    - name: postgres
      # Not known any more: the image that the workload had, or one of the same PostgreSQL major version (file
      # PG_VERSION of the data directory) with the same extensions.
      image: IMAGE
      ports:
        - containerPort: 5432
      # Where the data are below the mount, if the workload set PGDATA or a subPath:
      # env:
      #   - {{ name: PGDATA, value: /var/lib/postgresql/data/pgdata }}
      # Bitnami's image looks for them below /bitnami/postgresql: write that as the mountPath too. It starts on data that are
      # there without a password only with:
      # env:
      #   - {{ name: ALLOW_EMPTY_PASSWORD, value: \"yes\" }}
      readinessProbe:
        exec:
          command: [pg_isready]
      volumeMounts:
        - name: data
          mountPath: /var/lib/postgresql/data
  volumes:
    - name: data
      persistentVolumeClaim:
        claimName: {claim}
"
        )
    }

    /// What the check says of it.
    pub fn finding(&self) -> Finding {
        let Orphan { workload, namespace, storage } = self;
        let Storage { claim, volume, reclaim_policy, .. } = storage;
        let volume = match volume {
            None => "it has no volume yet".to_owned(),
            Some(volume) => {
                let policy = match reclaim_policy {
                    ReclaimPolicy::Retain => "which outlives it",
                    ReclaimPolicy::Delete => "which is deleted with it",
                    ReclaimPolicy::Other(_) | ReclaimPolicy::Unknown(_) => {
                        "whose reclaim policy is not known"
                    }
                };
                format!("its volume is {volume}, {policy}")
            }
        };
        Finding {
            id: "source-workload-gone",
            severity: Severity::Blocking,
            title: match workload {
                Some(workload) => {
                    format!("{workload} in namespace {namespace} is gone, but its claim {claim} is left")
                }
                None => format!(
                    "claim {claim} in namespace {namespace} may hold the data of a server that is gone"
                ),
            },
            evidence: format!("no pod uses claim {claim}; {volume}"),
            objects: vec![],
            remedy: format!(
                "put the image into this manifest, apply it, and name pod/{} as the source, with the Secret of its login \
                 (--source-secret):\n{}",
                self.pod(),
                self.manifest()
            ),
        }
    }
}

/// The claims that no pod uses, of those that `likelihood` ranks.
fn left_behind(
    claims: Vec<PersistentVolumeClaim>,
    pods: &[Pod],
    likelihood: impl Fn(&PersistentVolumeClaim) -> Option<u8>,
) -> Vec<PersistentVolumeClaim> {
    let is_used = |claim: &str| {
        let volumes = pods.iter().filter_map(|pod| pod.spec.as_ref()?.volumes.as_ref()).flatten();
        let mut used = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
        used.any(|source| source.claim_name == claim)
    };
    let mut ranked: Vec<(u8, PersistentVolumeClaim)> = claims
        .into_iter()
        .filter(|claim| !is_used(&claim.name_any()))
        .filter_map(|claim| Some((likelihood(&claim)?, claim)))
        .collect();
    ranked.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name_any().cmp(&other.name_any())));
    ranked.into_iter().map(|(_, claim)| claim).collect()
}

/// How likely a claim holds a database: 0 is the more. Those of CloudNative-PG's Clusters are its operator's.
fn likelihood_by_name(claim: &PersistentVolumeClaim) -> Option<u8> {
    if claim.labels().contains_key(CLUSTER_LABEL) {
        return None;
    }
    let name = claim.name_any();
    let of_database = ["postgres", "pgdata", "pgvecto", "database"].iter().any(|word| name.contains(word));
    Some(u8::from(!of_database))
}

/// How likely a claim belonged to an object: 0 is the most; nothing if there is no sign of it.
fn likelihood(object: &ObjectRef, claim: &PersistentVolumeClaim) -> Option<u8> {
    let name = claim.name_any();
    // `<template>-<set>-<ordinal>` is how the StatefulSet's controller names claims.
    let of_template = name.rsplit_once('-').is_some_and(|(rest, ordinal)| {
        ordinal.parse::<u32>().is_ok()
            && rest.strip_suffix(&object.name).is_some_and(|rest| rest.ends_with('-'))
    });
    if object.kind == Kind::StatefulSet && of_template {
        return Some(0);
    }
    if NAME_LABELS.iter().any(|label| claim.labels().get(*label) == Some(&object.name)) {
        return Some(1);
    }
    name.contains(&object.name).then_some(2)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(name: &str, labels: &Value) -> PersistentVolumeClaim {
        let claim = json!({ "metadata": { "name": name, "labels": labels } });
        serde_json::from_value(claim).expect("a claim")
    }

    fn found(object: &str, claims: Vec<PersistentVolumeClaim>) -> Vec<String> {
        let pod = include_str!("../../tests/fixtures/kubernetes/immich-postgres-0.json");
        let pod = serde_json::from_str(pod).expect("a fixture is a pod");
        let object = object.parse().expect("an object");
        let left = left_behind(claims, &[pod], |claim| likelihood(&object, claim));
        left.iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn the_claims_of_a_workload_that_is_gone_are_found_the_likeliest_first() {
        let claims = vec![
            claim("immich-postgres-old", &json!({})),
            claim("immich-photos", &json!({})),
            claim("labelled", &json!({ "app": "immich-postgres" })),
            claim("data-immich-postgres-0", &json!({})),
            claim("data-immich-postgres-replica", &json!({})),
            // Used by a pod.
            claim("immich-postgres-data", &json!({})),
        ];
        assert_eq!(
            found("sts/immich-postgres", claims.clone()),
            ["data-immich-postgres-0", "labelled", "data-immich-postgres-replica", "immich-postgres-old",]
        );
        assert_eq!(found("sts/other", claims), [""; 0]);
    }

    #[test]
    fn where_no_server_is_named_every_unused_claim_may_be_one() {
        let claims = vec![
            claim("immich-photos", &json!({})),
            claim("new-1", &json!({ CLUSTER_LABEL: "new" })),
            claim("data-legacy-postgresql-0", &json!({})),
        ];
        let left = left_behind(claims, &[], likelihood_by_name);
        let names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["data-legacy-postgresql-0", "immich-photos"]);
    }

    #[test]
    fn the_finding_brings_the_server_up_again() {
        let orphan = Orphan {
            workload: Some("sts/immich-postgres".parse().expect("an object")),
            namespace: "media".into(),
            storage: Storage {
                claim: "immich-postgres-data".into(),
                storage_class: Some("longhorn".into()),
                capacity: Some(10 << 30),
                volume: Some("pvc-8f0f".into()),
                reclaim_policy: ReclaimPolicy::Delete,
            },
        };
        let Finding { severity, title, evidence, remedy, .. } = orphan.finding();
        assert_eq!(severity, Severity::Blocking);
        assert_eq!(
            title,
            "sts/immich-postgres in namespace media is gone, but its claim immich-postgres-data is left"
        );
        assert_eq!(
            evidence,
            "no pod uses claim immich-postgres-data; its volume is pvc-8f0f, which is deleted with it"
        );
        assert!(remedy.contains("name pod/immich-postgres-revived as the source"), "{remedy}");
        assert!(remedy.contains("claimName: immich-postgres-data"), "{remedy}");
        // The image is not guessed, and nothing can initialise an empty directory.
        assert!(remedy.contains("image: IMAGE") && !remedy.contains("POSTGRES_PASSWORD"), "{remedy}");
        assert!(remedy.contains("# Bitnami's image looks for them below /bitnami/postgresql"), "{remedy}");
    }
}
