//! Flux's kustomize-controller does here what it does in a cluster: it puts back what it applied.

use serde_json::Value;

use super::{Artifact, Cluster, Namespace, cluster::eventually, namespace::stateful_set};

fn replicas(namespace: &Namespace) -> Value {
    namespace.get("statefulset/db").expect("it is there")["spec"]["replicas"].take()
}

#[test]
fn flux_scales_back_what_is_not_marked() {
    let namespace = Cluster::get().namespace();
    let artifact = Artifact::apply(&namespace, "fleet", &stateful_set("db"));
    namespace.ready_pod("db-0");

    namespace.kubectl(&["scale", "statefulset/db", "--replicas=0"]);
    eventually("Flux has scaled it back", || (replicas(&namespace) == 1).then_some(()));
    namespace.ready_pod("db-0");

    namespace.kubectl(&["annotate", "statefulset/db", "kustomize.toolkit.fluxcd.io/reconcile=disabled"]);
    // A reconciliation that had begun before the mark may not have seen it.
    artifact.reconcile("marked");
    namespace.kubectl(&["scale", "statefulset/db", "--replicas=0"]);
    artifact.reconcile("scaled");
    assert_eq!(replicas(&namespace), 0);
    assert!(eventually("its pod is gone", || namespace.get("pod/db-0").is_none().then_some(true)));
}
