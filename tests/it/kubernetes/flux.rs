//! Flux's kustomize-controller does here what it does in a cluster: it puts back what it applied.

use pgmove::cutover::freeze::RECONCILE;
use serde_json::{Value, json};

use super::endpoints::World;
use super::freeze::{names_pgmove, written};
use super::going_on::Scene;
use super::window::{WINDOW, is_ready, standing, workloads};
use super::{
    Artifact, Cluster, Namespace, artifact::kustomization, cluster::eventually, namespace::stateful_set,
};
use crate::support::Move;

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

const KUSTOMIZATION: &str = "kustomization/fleet";
const CHANGED: [&str; 3] = [KUSTOMIZATION, "deployment/immich-server", "cronjob/backup"];

/// The application, as Flux applies it, to a run that freezes it.
fn kept_by_flux(world: &World, run: &mut Move) {
    let namespace = &world.namespace;
    Artifact::apply(namespace, "fleet", &workloads());
    // From here on Flux works when it is asked to, or resumed.
    namespace.kubectl(&["patch", KUSTOMIZATION, "--type=merge", "--patch={\"spec\":{\"interval\":\"1h\"}}"]);
    is_ready(namespace);
    run.options.extend(WINDOW.map(str::to_owned));
}

fn all_written(namespace: &Namespace) -> Vec<Value> {
    CHANGED.iter().map(|object| written(namespace, object)).collect()
}

/// What a rollback leaves to Flux is what it has applied.
fn assert_content(namespace: &Namespace) {
    Artifact::of(namespace, "fleet").reconcile("after");
    let kustomization = namespace.get(KUSTOMIZATION).expect("it is there");
    let conditions = kustomization["status"]["conditions"].as_array().expect("Flux has written them");
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    assert!(conditions.iter().any(is_ready), "{conditions:?}");
    assert_eq!(standing(namespace), (json!(2), json!(false)));
}

#[test]
fn flux_that_is_asked_to_reconcile_does_not_undo_the_freeze_of_a_run() {
    let scene = Scene::begin(kept_by_flux);
    let namespace = &scene.world.namespace;
    assert_eq!(namespace.get(KUSTOMIZATION).expect("it is there")["spec"]["suspend"], true);
    for object in &CHANGED[1..] {
        let object = namespace.get(object).expect("it is there");
        assert_eq!(object["metadata"]["annotations"][RECONCILE], "disabled", "{object}");
    }
    Artifact::of(namespace, "fleet").ask("meanwhile");
    // It works all the time, and does what it is asked to elsewhere.
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "witness" } });
    Artifact::apply(namespace, "witness", &map).reconcile("meanwhile");
    assert_eq!(standing(namespace), (json!(0), json!(true)));

    Scene::open(&scene.gate);
    scene.running.wait().assert(0, &["equal: "]);
    assert_eq!(standing(namespace), (json!(0), json!(true)));
    Scene::assert_moved(&scene.source, &scene.world.target);
    let directory = tempfile::tempdir().expect("a temporary directory");
    scene.world.pgmove(directory.path(), &["rollback"]).assert(0, &["immich-server"]);
    assert_content(namespace);
}

#[test]
fn a_run_whose_application_flux_scales_back_stops_without_a_verdict_and_goes_on() {
    let mut before = vec![];
    let Scene { source, world, run, running, gate } = Scene::begin(|world, run| {
        kept_by_flux(world, run);
        before = all_written(&world.namespace);
    });
    let namespace = &world.namespace;
    // Its machine sleeps meanwhile, so that it sees all of it at once.
    running.signal("STOP");
    namespace.kubectl(&["annotate", CHANGED[1], &format!("{RECONCILE}-")]);
    namespace.kubectl(&["patch", KUSTOMIZATION, "--type=merge", "--patch={\"spec\":{\"suspend\":false}}"]);
    eventually("Flux has scaled it back", || (standing(namespace).0 == 2).then_some(()));
    running.signal("CONT");
    let ended = running.wait();
    let deployment = format!("Deployment {}/immich-server was changed during the freeze", namespace.name);
    let by_flux =
        format!("{deployment}: spec.replicas is 2, and was frozen at 0, set by kustomize-controller");
    ended.assert(5, &[&by_flux, "Kustomization", "spec.suspend is false", "--resume"]);
    assert!(!ended.output.contains("equal: "), "{}", ended.output);
    let by_flux = ended.output.lines().filter(|line| line.starts_with("warning") && line.contains(&by_flux));
    assert_eq!(by_flux.count(), 1, "{}", ended.output);

    Scene::open(&gate);
    run.run(&["--resume"]).assert(0, &["equal: "]);
    assert_eq!(standing(namespace), (json!(0), json!(true)));
    Scene::assert_moved(&source, &world.target);

    let directory = tempfile::tempdir().expect("a temporary directory");
    let run_dir = run.run_dir().display().to_string();
    world.pgmove(directory.path(), &["rollback", "--run-dir", &run_dir]).assert(0, &["immich-server"]);
    assert_eq!(all_written(namespace), before);
    for object in CHANGED {
        assert!(!names_pgmove(namespace, object), "{object}");
    }
    assert_content(namespace);
}

/// Takes out of the Kustomization what its parent changes here: whether it rests, and the annotations, which are what it gives.
fn of_flux(written: &mut [Value]) -> Value {
    written[0]["spec"].as_object_mut().expect("an object").remove("suspend");
    written[0]["metadata"]["annotations"].take()
}

#[test]
fn the_parent_of_a_kustomization_resumes_it_neither_during_a_window_nor_before_the_way_back() {
    let mut before = vec![];
    let Scene { source, world, run, running, gate } = Scene::begin(|world, run| {
        Artifact::nested(&world.namespace, "apps", "fleet", &workloads());
        is_ready(&world.namespace);
        before = all_written(&world.namespace);
        of_flux(&mut before);
        run.options.extend(WINDOW.map(str::to_owned));
    });
    let namespace = &world.namespace;
    let assert_rests = || {
        assert_eq!(namespace.get(KUSTOMIZATION).expect("it is there")["spec"]["suspend"], true);
        assert_eq!(standing(namespace), (json!(0), json!(true)));
    };
    assert_rests();
    let parent = Artifact::of(namespace, "apps");
    assert_ne!(namespace.get("kustomization/apps").expect("it is there")["spec"]["suspend"], true);
    parent.reconcile("meanwhile");
    assert_rests();
    // A push, of what says in Git that the child works.
    let mut pushed = kustomization(namespace, "fleet");
    pushed["spec"]["suspend"] = json!(false);
    parent.publish(&pushed, 2);
    parent.reconcile("pushed");
    assert_rests();

    Scene::open(&gate);
    running.wait().assert(0, &["equal: "]);
    parent.reconcile("afterwards");
    assert_rests();
    Scene::assert_moved(&source, &world.target);

    let directory = tempfile::tempdir().expect("a temporary directory");
    let run_dir = run.run_dir().display().to_string();
    world.pgmove(directory.path(), &["rollback", "--run-dir", &run_dir]).assert(0, &["immich-server"]);
    parent.reconcile("put back");
    assert_content(namespace);
    let mut after = all_written(namespace);
    let annotations = of_flux(&mut after).to_string();
    assert!(!annotations.contains("pgmove") && !annotations.contains(RECONCILE), "{annotations}");
    assert_eq!(after, before);
    for object in CHANGED {
        assert!(!names_pgmove(namespace, object), "{object}");
    }
}
