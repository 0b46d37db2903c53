//! What a freeze leaves is kept, found and told, whatever others have done to it meanwhile.

use std::process::Command;

use pgmove::{
    cutover::{
        freeze::{Freeze, recorded},
        lease::{Holder, Lease, LeaseError},
        object::ObjectKey,
        rollback::{Restoration, Rollback, RollbackError},
    },
    event::Events,
    kubernetes::{
        ApiServer,
        rights::{Place, Server as Behind, Way, rights},
    },
};
use serde_json::{Value, json};

use super::{
    Artifact, Cluster, Namespace,
    cluster::eventually,
    endpoints::ended,
    freeze::{Run, fleet, freeze, roll_back, server, workload, world},
    rbac::{rules, singles},
};
use crate::support::{pgmove, pgmove_process};

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

/// Who holds each of the Leases.
fn leases(namespace: &Namespace) -> Vec<Value> {
    let Some(leases) = namespace.get("leases") else { return vec![] };
    let leases = leases["items"].as_array().expect("a list");
    leases.iter().map(|lease| lease["spec"]["holderIdentity"].clone()).collect()
}

/// The names of the objects that the source's Lease lists.
fn listed(namespace: &Namespace) -> Vec<String> {
    let lease = namespace.get("lease/pgmove-statefulset-db").expect("it is there");
    let text = lease["metadata"]["annotations"]["pgmove/objects"].as_str().expect("a list");
    let objects: Vec<ObjectKey> = serde_json::from_str(text).expect("a list of objects");
    objects.into_iter().map(|object| object.name).collect()
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
    assert_eq!(listed(&namespace), ["one", "other"]);

    assert!(undo(&mut second).await.is_complete());
    assert_eq!((replicas(&namespace, "one"), replicas(&namespace, "other")), (json!(0), json!(1)));
    assert_eq!(listed(&namespace), ["one"], "the first run's freeze stands");
    assert!(roll_back(&namespace, "rollback").await.is_complete());
    assert_eq!(replicas(&namespace, "one"), 1);
    assert_eq!(leases(&namespace), [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_back_is_not_missed_when_it_is_removed_later() {
    let (namespace, server) = two_applications().await;
    let named = ["deploy/one", "deploy/other"].map(|name| name.parse().expect("a workload")).into();
    let mut run = Run::new(Freeze { named, ..freeze(&server, &namespace.name, "run-1") });
    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    let other = namespace.get("deployment/other").expect("it is there");
    let record = &other["metadata"]["annotations"]["pgmove/frozen"];
    let annotate = |record: &str| {
        let annotation = format!("pgmove/frozen={record}");
        namespace.kubectl(&["annotate", "--overwrite", "deployment/other", &annotation]);
    };
    annotate("damaged");
    let first = roll_back(&namespace, "rollback-1").await;
    assert_eq!((first.restored.len(), first.failed.len()), (1, 1), "{first:?}");
    assert_eq!(listed(&namespace), ["other"]);

    namespace.kubectl(&["delete", "deployment/one"]);
    let second = roll_back(&namespace, "rollback-2").await;
    assert_eq!((second.gone.len(), second.failed.len()), (0, 1), "{second:?}");
    annotate(record.as_str().expect("a record"));
    let third = roll_back(&namespace, "rollback-3").await;
    assert!(third.is_complete() && third.restored.len() == 1, "{third:?}");
    assert_eq!(leases(&namespace), [Value::Null; 0]);
}

/// The commands themselves; the second one knows neither the run nor its journal, and need not wait.
#[test]
fn a_rollback_that_cannot_be_recorded_keeps_no_other_away() {
    let namespace = Cluster::get().namespace();
    namespace.stateful_set("db");
    namespace.apply(&workload("Deployment", "one", 1, &json!({})).to_string());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = ["-n", &namespace.name, "--kubeconfig"];
    let run = |arguments: &[&str]| {
        let mut command = pgmove();
        command.current_dir(&directory).args(arguments).args(place);
        ended(command.arg(&namespace.cluster.kubeconfig))
    };
    let named = ["--source=sts/db", "--named-only", "--workload=deploy/one", "--run-dir=run"];
    run(&[&["freeze"], &named[..]].concat()).assert(0, &["frozen; put it back with"]);

    // No file grows any more, as on a full disk.
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]).arg(pgmove_process().get_program());
    full.current_dir(&directory).args(["rollback", "--run-dir=run"]).args(place);
    full.arg(&namespace.cluster.kubeconfig);
    ended(&mut assert_cmd::Command::from_std(full)).assert(5, &["could not record the rollback"]);
    assert_eq!((replicas(&namespace, "one"), leases(&namespace)), (json!(1), vec![Value::Null]));
    run(&["rollback"]).assert(0, &[]);
    assert_eq!(leases(&namespace), [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_cannot_be_removed_are_given_up() {
    let (namespace, administrator) = two_applications().await;
    let mut run = of(&administrator, &namespace, "deploy/one", "run-1");
    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    let holder = Holder { run: "run-2".to_owned(), place: "test@here, process 1".to_owned() };
    let events = Events::none();
    let second = Lease::acquire(&administrator, &namespace.name, "pgmove-other", holder, &events);
    second.await.expect("it is free").release().await.expect("it is held");

    let behind = Behind { object: &"sts/db".parse().expect("an object"), secret: None };
    let mut rights = singles(&namespace.name, &rights(Way::Rollback, &behind, Place::Application));
    rights.retain(|right| (right.resource, right.verb) != ("leases", "delete"));
    let account = namespace.account("rollback", &rules(&rights));
    let rollback = Rollback {
        server: server(&account, &namespace.name).await,
        namespaces: vec![namespace.name.clone()],
        known: vec![],
        kept: vec![],
        run: None,
        holder: Holder { run: "rollback".to_owned(), place: "test@there, process 2".to_owned() },
    };
    let error = rollback.run(None, &events).await.expect_err("a right is missing");
    let RollbackError::Lease(LeaseError::Api(error)) = error else { panic!("{error}") };
    assert!(error.is_forbidden(), "{error}");
    assert_eq!((replicas(&namespace, "one"), leases(&namespace)), (json!(1), vec![Value::Null; 2]));
    assert!(listed(&namespace).is_empty());
    assert!(roll_back(&namespace, "another").await.is_complete());
    assert_eq!(leases(&namespace), [Value::Null; 0]);
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
