//! What a freeze leaves is kept, found and told, whatever others have done to it meanwhile.

use pgmove::{
    cutover::{
        freeze::{Freeze, recorded},
        lease::Holder,
        rollback::{Restoration, Rollback},
    },
    event::Events,
    kubernetes::ApiServer,
};
use serde_json::{Value, json};

use super::{
    Artifact, Cluster, Namespace,
    cluster::eventually,
    freeze::{Run, fleet, freeze, roll_back, server, workload, world},
};

/// Two applications of one source, which nobody manages.
async fn two_applications() -> (Namespace, ApiServer) {
    let namespace = Cluster::get().namespace();
    namespace.stateful_set("db");
    for name in ["one", "other"] {
        namespace.apply(&workload("Deployment", name, 1, &json!({})).to_string());
    }
    let server = server(&namespace.cluster.kubeconfig, &namespace.name).await;
    (namespace, server)
}

fn of(server: &ApiServer, namespace: &Namespace, workload: &str, run: &str) -> Run {
    let named = vec![workload.parse().expect("a workload")];
    Run::new(Freeze { named, ..freeze(server, &namespace.name, run) })
}

fn replicas(namespace: &Namespace, name: &str) -> Value {
    namespace.get(&format!("deployment/{name}")).expect("it is there")["spec"]["replicas"].take()
}

/// By the journal of the run itself.
async fn undo(run: &mut Run) -> Restoration {
    let rollback = Rollback {
        server: run.freeze.server.clone(),
        namespaces: vec![],
        known: recorded(run.journal.records()),
        kept: vec![],
        run: Some(run.freeze.run.clone()),
        holder: Holder { run: run.freeze.run.clone(), place: "test@here, process 1".to_owned() },
    };
    rollback.run(Some(&mut run.journal), &Events::none()).await.expect("a rollback")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_on_a_source_does_not_forget_what_the_first_has_frozen() {
    let (namespace, server) = two_applications().await;
    let mut first = of(&server, &namespace, "deploy/one", "run-1");
    first.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    let mut second = of(&server, &namespace, "deploy/other", "run-2");
    second.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    let listed = || {
        let lease = namespace.get("lease/pgmove-statefulset-db")?;
        Some(lease["metadata"]["annotations"]["pgmove/objects"].to_string())
    };
    let both = listed().expect("it is there");
    assert!(both.contains("\\\"one\\\"") && both.contains("\\\"other\\\""), "{both}");

    assert!(undo(&mut second).await.is_complete());
    assert_eq!((replicas(&namespace, "one"), replicas(&namespace, "other")), (json!(0), json!(1)));
    assert!(listed().is_some_and(|all| all.contains("\\\"one\\\"")), "the first run's freeze stands");
    assert!(roll_back(&namespace, "rollback").await.is_complete());
    assert_eq!(replicas(&namespace, "one"), 1);
    assert_eq!(listed(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_record_was_removed_is_told_with_its_former_value() {
    let (namespace, server) = two_applications().await;
    let mut run = of(&server, &namespace, "deploy/one", "run-1");
    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    namespace.kubectl(&["annotate", "deployment/one", "pgmove/frozen-"]);
    let restoration = undo(&mut run).await;
    let reasons: Vec<&str> = restoration.failed.iter().map(|failed| failed.reason.as_str()).collect();
    assert!(
        matches!(reasons[..], [reason] if reason.contains("spec.replicas is 0, and was 1")),
        "{reasons:?}"
    );
    assert!(!recorded(run.journal.records()).is_empty(), "it is not forgotten");

    namespace.kubectl(&["scale", "deployment/one", "--replicas=1"]);
    assert!(undo(&mut run).await.is_complete());
    assert!(recorded(run.journal.records()).is_empty());

    // What it was at an earlier freeze is of no matter.
    namespace.kubectl(&["scale", "deployment/one", "--replicas=3"]);
    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    namespace.kubectl(&["annotate", "deployment/one", "pgmove/frozen-"]);
    let restoration = undo(&mut run).await;
    assert!(restoration.failed[0].reason.contains("spec.replicas is 0, and was 3"), "{restoration:?}");
}

/// A push that no longer has the legacy server, which is how a migration by Git goes.
#[tokio::test(flavor = "multi_thread")]
async fn flux_does_not_prune_what_the_source_needs() {
    let (namespace, name) = world();
    let artifact = Artifact::of(&namespace, "fleet");
    let mut objects = fleet();
    let witness = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "witness" } });
    objects["items"].as_array_mut().expect("a list").push(witness);
    artifact.publish(&objects, 2);
    namespace.kubectl(&[
        "patch",
        "kustomization/fleet",
        "--type=merge",
        "--patch={\"spec\":{\"prune\":true}}",
    ]);
    artifact.reconcile("with a witness");
    assert!(namespace.get("configmap/witness").is_some());

    let server = server(&namespace.cluster.kubeconfig, &name).await;
    let mut run = Run::new(freeze(&server, &name, "run-1"));
    let _frozen = run.hold().await.expect("frozen");
    let is_of_source = |object: &Value| object["metadata"]["name"] == "db";
    objects["items"]
        .as_array_mut()
        .expect("a list")
        .retain(|object| !is_of_source(object) && object["kind"] != "ConfigMap");
    artifact.publish(&objects, 3);
    namespace.kubectl(&[
        "patch",
        "kustomization/fleet",
        "--type=merge",
        "--patch={\"spec\":{\"suspend\":false}}",
    ]);
    artifact.reconcile("pushed");
    eventually("what nobody needs is pruned", || namespace.get("configmap/witness").is_none().then_some(()));
    for object in ["statefulset/db", "service/db", "persistentvolumeclaim/db"] {
        let object = namespace.get(object).unwrap_or_else(|| panic!("{object} is there"));
        assert_eq!(object["metadata"]["deletionTimestamp"], Value::Null, "{object}");
    }
}
