//! A freeze, its alarm and its rollback, against the controllers that would undo it.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use pgmove::{
    cutover::{
        alarm::Disturbance,
        freeze::{Freeze, FreezeError, FreezePlan, Frozen},
        lease::{Holder, Lease, LeaseError},
        rollback::{Restoration, Rollback, RollbackError},
    },
    error::{Fault, Side},
    event::Events,
    journal::{Record, RunDirectory},
    kubernetes::{
        Access, ApiServer, Kubeconfig,
        rights::{Place, Server as Behind, Way, rights},
    },
    pg::{ConnInfo, Defaults, Endpoint},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{
    ApiServer as Killable, Artifact, Cluster, Namespace,
    cluster::eventually,
    namespace::stateful_set,
    rbac::{Single, rules, singles},
    tap::{Cut, Tap},
};
use crate::support::{Database, Server};

/// How long nothing may change while pods end.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The objects that a freeze of [`world`] changes.
const CHANGED: [&str; 10] = [
    "imageupdateautomation/fleet",
    "kustomization/fleet",
    "helmrelease/learning",
    "statefulset/db",
    "service/db",
    "persistentvolumeclaim/db",
    "cronjob/backup",
    "job/import",
    "deployment/server",
    "deployment/learning",
];

pub(super) fn workload(kind: &str, name: &str, replicas: u32, labels: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "terminationGracePeriodSeconds": 1, "containers": [{ "name": "main", "image": "app:1" }] },
            },
        },
    })
}

/// What scales a Deployment, from zero too.
pub(super) fn autoscaler(name: &str, least: u32) -> Value {
    let metric = json!({ "metric": { "name": "queue" }, "target": { "type": "Value", "value": "1" } });
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": name },
        "spec": {
            "minReplicas": least,
            "maxReplicas": 3,
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "metrics": [{ "type": "External", "external": metric }],
        },
    })
}

pub(super) fn pod_template() -> Value {
    json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "app:1" }] } })
}

/// What Flux's kustomize-controller applies: the source with its Service and claim, an application, a CronJob.
pub(super) fn fleet() -> Value {
    let mut source = stateful_set("db");
    source["spec"]["template"]["spec"]["volumes"] =
        json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "db" } }]);
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        source,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "db" },
            "spec": { "selector": { "app": "db" }, "ports": [{ "port": 5432 }] },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "name": "db" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        },
        workload("Deployment", "server", 2, &json!({})),
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": { "name": "backup" },
            "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": pod_template() } } },
        },
    ] })
}

/// A namespace as Flux keeps it, with a HelmRelease and an image automation beside, and what nobody manages.
pub(super) fn world() -> (Namespace, String) {
    let namespace = Cluster::get().namespace();
    let name = namespace.name.clone();
    // The claim of the source is bound by nobody here, and its pod is not waited for.
    Artifact::apply(&namespace, "fleet", &fleet());
    let helm = json!({
        "helm.toolkit.fluxcd.io/name": "learning",
        "helm.toolkit.fluxcd.io/namespace": name,
    });
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "helm.toolkit.fluxcd.io/v2",
            "kind": "HelmRelease",
            "metadata": { "name": "learning" },
            "spec": {
                "interval": "1h",
                "chartRef": { "kind": "OCIRepository", "name": "learning" },
            },
        },
        workload("Deployment", "learning", 1, &helm),
        autoscaler("server", 2),
        {
            "apiVersion": "image.toolkit.fluxcd.io/v1",
            "kind": "ImageUpdateAutomation",
            "metadata": { "name": "fleet" },
            "spec": {
                "interval": "1h",
                "sourceRef": { "kind": "GitRepository", "name": "fleet" },
                "git": { "commit": { "author": { "email": "flux@example.org" } } },
            },
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": "import" },
            "spec": { "template": pod_template() },
        },
    ] });
    namespace.apply(&objects.to_string());
    for object in ["deployment/server", "deployment/learning"] {
        eventually(&format!("{object} is ready"), || {
            let object = namespace.get(object)?;
            (object["status"]["readyReplicas"] == object["spec"]["replicas"]).then_some(())
        });
    }
    (namespace, name)
}

pub(super) async fn server(kubeconfig: &Path, namespace: &str) -> ApiServer {
    let access = Access {
        kubeconfig: Kubeconfig::File(kubeconfig.to_owned()),
        context: None,
        namespace: Some(namespace.to_owned()),
    };
    ApiServer::connect(&access).await.expect("a kubeconfig that can be used")
}

pub(super) fn freeze(server: &ApiServer, namespace: &str, run: &str) -> Freeze {
    let names = ["deploy/server", "deploy/learning", "cronjob/backup", "job/import"];
    Freeze {
        server: server.clone(),
        namespace: namespace.to_owned(),
        source: "sts/db".parse().expect("an object"),
        endpoint: None,
        named: names.map(|name| name.parse().expect("a workload")).into(),
        run: run.to_owned(),
    }
}

/// How a source's sessions are asked for.
pub(super) fn endpoint(database: &Database) -> Endpoint {
    let conninfo = ConnInfo::parse(&database.uri(), &Defaults::default()).expect("a URI");
    Endpoint {
        side: Side::Source,
        conninfo: Arc::new(conninfo),
        application_name: "pgmove run-1".to_owned(),
        copy_encoding: None,
    }
}

pub(super) struct Run {
    pub(super) freeze: Freeze,
    pub(super) journal: RunDirectory,
    pub(super) stop: CancellationToken,
    pub(super) patience: Duration,
    _directory: TempDir,
}

impl Run {
    pub(super) fn new(freeze: Freeze) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let journal = RunDirectory::create(&directory.path().join("run")).expect("a run directory");
        Self { freeze, journal, stop: CancellationToken::new(), patience: PATIENCE, _directory: directory }
    }

    pub(super) async fn plan(&self) -> FreezePlan {
        self.freeze.plan(self.journal.records()).await.expect("a plan")
    }

    pub(super) async fn hold(&mut self) -> Result<Frozen, FreezeError> {
        let plan = self.freeze.plan(self.journal.records()).await?;
        let Self { freeze, journal, stop, patience, .. } = self;
        freeze.hold(&plan, journal, "test@here, process 1", *patience, &Events::none(), stop).await
    }
}

/// A rollback from another machine, which knows the namespace only. It has the run's name, so that it need not wait until
/// the Lease of a run that was killed has run out.
pub(super) async fn roll_back(namespace: &Namespace, run: &str) -> Restoration {
    let rollback = Rollback {
        server: server(&namespace.cluster.kubeconfig, &namespace.name).await,
        namespaces: vec![namespace.name.clone()],
        known: vec![],
        kept: vec![],
        run: None,
        holder: Holder { run: run.to_owned(), place: "test@there, process 2".to_owned() },
    };
    rollback.run(None, &Events::none()).await.expect("a rollback")
}

/// All that an object says, but for what the API server and its controllers write themselves.
pub(super) fn written(namespace: &Namespace, object: &str) -> Value {
    let mut object = namespace.get(object).unwrap_or_else(|| panic!("{object} is there"));
    object["status"].take();
    for field in ["resourceVersion", "generation", "managedFields"] {
        object["metadata"][field].take();
    }
    // Says how often the controller has written; it is the controller's own.
    let annotations = object["metadata"]["annotations"].as_object_mut();
    annotations.map(|all| all.remove("deployment.kubernetes.io/revision"));
    // A Job's pods get their labels, and lose them, when it is suspended and resumed.
    object
}

fn all_written(namespace: &Namespace) -> Vec<Value> {
    CHANGED.iter().map(|object| written(namespace, object)).collect()
}

pub(super) fn names_pgmove(namespace: &Namespace, object: &str) -> bool {
    let text = namespace.kubectl(&["get", object, "--show-managed-fields", "--output=json"]);
    let object: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    let managers = object["metadata"]["managedFields"].as_array().expect("somebody has written it");
    managers.iter().any(|entry| entry["manager"] == "pgmove")
}

pub(super) fn replicas(namespace: &Namespace, deployment: &str) -> Value {
    namespace.get(&format!("deployment/{deployment}")).expect("it is there")["spec"]["replicas"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_stops_what_writes_and_is_put_back_without_a_trace() {
    let (namespace, name) = world();
    let before = all_written(&namespace);
    let server = server(&namespace.cluster.kubeconfig, &name).await;
    let mut run = Run::new(freeze(&server, &name, "run-1"));

    let plan = run.plan().await;
    let planned: BTreeSet<_> = plan
        .changes
        .iter()
        .map(|change| change.object.kind.to_lowercase() + "/" + &change.object.name)
        .collect();
    assert_eq!(planned, CHANGED.iter().map(|&object| object.to_owned()).collect());
    assert_eq!(all_written(&namespace), before, "a plan changes nothing");

    let frozen = run.hold().await.expect("frozen");
    for deployment in ["server", "learning"] {
        assert_eq!(replicas(&namespace, deployment), 0);
    }
    for object in [
        "imageupdateautomation/fleet",
        "kustomization/fleet",
        "helmrelease/learning",
        "cronjob/backup",
        "job/import",
    ] {
        assert_eq!(namespace.get(object).expect("it is there")["spec"]["suspend"], true, "{object}");
    }
    for object in CHANGED {
        assert!(names_pgmove(&namespace, object), "{object}");
    }
    let pods =
        namespace.kubectl(&["get", "pods", "--field-selector=status.phase!=Succeeded", "--output=name"]);
    assert_eq!(pods, "pod/db-0", "the source stays up, and nothing else");
    frozen.leave().await.expect("nobody has touched it");

    let restoration = roll_back(&namespace, "rollback").await;
    assert!(restoration.is_complete(), "{restoration:?}");
    assert_eq!(restoration.restored.len(), CHANGED.len());
    assert_eq!(all_written(&namespace), before);
    for object in CHANGED {
        assert!(!names_pgmove(&namespace, object), "{object}");
    }
    assert!(namespace.kubectl(&["get", "leases", "--output=name"]).is_empty());
    eventually("the application is back", || {
        (namespace.get("deployment/server")?["status"]["readyReplicas"] == 2).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn flux_that_is_resumed_does_not_undo_a_freeze() {
    let (namespace, name) = world();
    let server = server(&namespace.cluster.kubeconfig, &name).await;
    let mut run = Run::new(freeze(&server, &name, "run-1"));
    let frozen = run.hold().await.expect("frozen");

    namespace.kubectl(&[
        "patch",
        "kustomization/fleet",
        "--type=merge",
        "--patch={\"spec\":{\"suspend\":false}}",
    ]);
    Artifact::of(&namespace, "fleet").reconcile("resumed");
    assert_eq!(replicas(&namespace, "server"), 0);

    let disturbance = frozen.leave().await.expect_err("somebody has resumed it");
    let FreezeError::Disturbed(disturbance) = disturbance else { panic!("{disturbance}") };
    assert!(disturbance.to_string().contains("Kustomization"), "{disturbance}");
    assert!(run.stop.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_request_a_freeze_is_put_back_exactly() {
    let (namespace, name) = world();
    let before = all_written(&namespace);
    let plain = server(&namespace.cluster.kubeconfig, &name).await;
    // The Lease is made and gets its list, and each object is changed by one request.
    for number in 0..2 + CHANGED.len() {
        for cut in [Cut::Before(number), Cut::After(number)] {
            let tap = Tap::with_cut(cut);
            let server = plain.clone().through(tap.client(&namespace.cluster.kubeconfig).await);
            let mut run = Run::new(freeze(&server, &name, "run-1"));
            tokio::select! {
                () = tap.is_cut.cancelled() => {}
                _ = run.hold() => panic!("{cut:?} was not reached"),
            }
            drop(run);
            let restoration = roll_back(&namespace, "run-1").await;
            // Before it has made its Lease, a freeze has changed nothing, and nothing tells of it.
            let is_told = !matches!(cut, Cut::Before(0));
            assert_eq!(restoration.is_complete(), is_told, "{cut:?}: {restoration:?}");
            assert!(is_told || restoration.restored.is_empty(), "{cut:?}: {restoration:?}");
            assert_eq!(all_written(&namespace), before, "{cut:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_was_killed_goes_on_with_the_values_it_found_first() {
    let (namespace, name) = world();
    let before = all_written(&namespace);
    let plain = server(&namespace.cluster.kubeconfig, &name).await;
    // Somewhere among the workloads.
    let tap = Tap::with_cut(Cut::After(10));
    let mut run = Run::new(freeze(
        &plain.clone().through(tap.client(&namespace.cluster.kubeconfig).await),
        &name,
        "run-1",
    ));
    tokio::select! {
        () = tap.is_cut.cancelled() => {}
        _ = run.hold() => panic!("it was to be cut"),
    }
    run.freeze.server = plain;
    // What it has stopped is not found any more by its name, and is frozen all the same.
    run.freeze.named.clear();
    let planned: BTreeSet<_> =
        run.plan().await.changes.into_iter().map(|change| change.object.name).collect();
    assert!(planned.contains("backup") && planned.contains("import"), "{planned:?}");
    run.freeze.named = freeze(&run.freeze.server, &name, "run-1").named;
    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    assert!(roll_back(&namespace, "rollback").await.is_complete());
    assert_eq!(all_written(&namespace), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alarm_names_what_was_changed_and_by_whom() {
    for (command, expected) in [
        (
            &["scale", "deployment/server", "--replicas=2"][..],
            "spec.replicas is 2, and was frozen at 0, set by kubectl",
        ),
        (
            &["patch", "helmrelease/learning", "--type=merge", "--patch={\"spec\":{\"suspend\":null}}"],
            "spec.suspend is (not set), and was frozen at true",
        ),
        (&["delete", "cronjob/backup"], "was removed or replaced"),
    ] {
        let (namespace, name) = world();
        let server = server(&namespace.cluster.kubeconfig, &name).await;
        let mut run = Run::new(freeze(&server, &name, "run-1"));
        let frozen = run.hold().await.expect("frozen");
        namespace.kubectl(command);
        tokio::time::timeout(PATIENCE, run.stop.cancelled()).await.expect("the alarm goes off");
        let Err(FreezeError::Disturbed(disturbance)) = frozen.leave().await else { panic!("no disturbance") };
        assert!(disturbance.to_string().contains(expected), "{disturbance}");
        assert!(!disturbance.to_string().contains("by pgmove"), "{disturbance}");
        assert!(disturbance.hint().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alarm_sees_what_happens_while_the_api_server_is_away() {
    let (namespace, name) = world();
    let killable = Killable::start(namespace.cluster);
    let server = server(&killable.kubeconfig, &name).await;
    let mut run = Run::new(freeze(&server, &name, "run-1"));
    let frozen = run.hold().await.expect("frozen");
    killable.crash();
    // Over the other API server.
    namespace.kubectl(&["scale", "deployment/server", "--replicas=2"]);
    assert!(!run.stop.is_cancelled());
    killable.restart();
    tokio::time::timeout(2 * PATIENCE, run.stop.cancelled()).await.expect("the alarm goes off");
    let Err(FreezeError::Disturbed(disturbance)) = frozen.leave().await else { panic!("no disturbance") };
    let Disturbance::Changed { object, .. } = *disturbance else { panic!("{disturbance}") };
    assert_eq!(object.name, "server");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_put_back_is_told_and_the_rest_is_put_back() {
    let (namespace, name) = world();
    let server = server(&namespace.cluster.kubeconfig, &name).await;
    let mut run = Run::new(freeze(&server, &name, "run-1"));
    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    namespace.kubectl(&["scale", "deployment/server", "--replicas=3"]);
    namespace.kubectl(&["delete", "deployment/learning"]);

    let restoration = roll_back(&namespace, "rollback").await;
    assert!(!restoration.is_complete());
    let left: Vec<_> = restoration.restored.iter().filter(|restored| !restored.left.is_empty()).collect();
    assert_eq!((left.len(), left[0].object.name.as_str(), &left[0].left[0].now), (1, "server", &json!(3)));
    assert!(left[0].left[0].by.as_ref().is_some_and(|by| by.name.starts_with("kubectl")));
    let gone: Vec<_> = restoration.gone.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(gone, ["learning"], "only the Lease knows of it");
    assert_eq!(written(&namespace, "cronjob/backup")["spec"]["suspend"], false);

    // The Lease went with the rollback: nothing tells of a freeze any more, and that is said.
    let again = roll_back(&namespace, "rollback").await;
    assert_eq!(again, Restoration { unsearched: again.unsearched.clone(), ..Restoration::default() });
    assert!(again.unsearched[0].contains(&format!("no lease in namespace {name}")), "{again:?}");
}

/// Without its Lease, and with the journal alone, or with neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_finds_the_objects_by_journal_or_by_search() {
    for with_journal in [true, false] {
        let (namespace, name) = world();
        let before = all_written(&namespace);
        let server = server(&namespace.cluster.kubeconfig, &name).await;
        let mut run = Run::new(freeze(&server, &name, "run-1"));
        run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
        namespace.kubectl(&["delete", "leases", "--all"]);
        let rollback = Rollback {
            server,
            namespaces: if with_journal { vec![] } else { vec![name] },
            known: if with_journal {
                pgmove::cutover::freeze::recorded(run.journal.records())
            } else {
                vec![]
            },
            kept: vec![],
            run: with_journal.then(|| "run-1".to_owned()),
            holder: Holder { run: "run-1".to_owned(), place: "test@here, process 1".to_owned() },
        };
        let journal = with_journal.then_some(&mut run.journal);
        let restoration = rollback.run(journal, &Events::none()).await.expect("a rollback");
        assert_eq!(restoration.restored.len(), CHANGED.len(), "{restoration:?}");
        // A search cannot know that it has found all.
        assert_eq!(restoration.is_complete(), with_journal, "{restoration:?}");
        assert_eq!(all_written(&namespace), before);
        if with_journal {
            let thawed =
                run.journal.records().iter().filter(|record| matches!(record, Record::Thawed { .. }));
            assert_eq!(thawed.count(), CHANGED.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_by_the_journal_of_another_cluster_is_refused_and_forgets_nothing() {
    let (namespace, name) = world();
    let server = server(&namespace.cluster.kubeconfig, &name).await;
    let mut run = Run::new(freeze(&server, &name, "run-1"));
    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    let records = run.journal.records().to_vec();
    let known = pgmove::cutover::freeze::recorded(&records);
    let during = all_written(&namespace);
    let rollback = |known| Rollback {
        server: server.clone(),
        namespaces: vec![],
        known,
        kept: vec![],
        run: Some("run-1".to_owned()),
        holder: Holder { run: "run-1".to_owned(), place: "test@here, process 1".to_owned() },
    };
    // There, objects of these names have UIDs of their own.
    let mut elsewhere = known.clone();
    for object in &mut elsewhere {
        object.uid = format!("other-{}", object.uid);
    }
    let refused = rollback(elsewhere).run(Some(&mut run.journal), &Events::none()).await;
    let refused = refused.expect_err("none of them is here");
    assert!(matches!(refused, RollbackError::Elsewhere { has_namesake: true, .. }), "{refused}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("--context")));
    assert_eq!(all_written(&namespace), during);
    assert_eq!(run.journal.records(), records);

    // One that was removed since makes no other cluster.
    namespace.kubectl(&["delete", "job/import"]);
    let restoration = rollback(known).run(Some(&mut run.journal), &Events::none()).await.expect("a rollback");
    assert_eq!((restoration.restored.len(), restoration.gone.len()), (CHANGED.len() - 1, 1));
}

/// What a freeze of [`world`] needs; Flux's objects are beside the others.
fn needed(namespace: &str) -> Vec<Single> {
    let behind = Behind { object: &"sts/db".parse().expect("an object"), secret: None };
    let places = [Place::Application, Place::Flux];
    places.iter().flat_map(|place| singles(namespace, &rights(Way::Freeze, &behind, *place))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_found_before_anything_is_changed() {
    let (namespace, name) = world();
    let before = all_written(&namespace);
    let mut rights = needed(&name);
    rights.retain(|right| (right.resource, right.verb) != ("deployments", "patch"));
    let account = namespace.account("freezer", &rules(&rights));
    let mut run = Run::new(freeze(&server(&account, &name).await, &name, "run-1"));
    let error = run.hold().await.expect_err("a right is missing");
    assert!(matches!(&error, FreezeError::Api(error) if error.is_forbidden()), "{error}");
    assert!(
        error.hint().is_some_and(|hint| hint.contains("resources: [\"deployments\"]")),
        "{:?}",
        error.hint()
    );
    assert_eq!(all_written(&namespace), before);
    assert_eq!(run.journal.records(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_that_fails_halfway_says_what_it_has_changed() {
    let (namespace, name) = world();
    let before = all_written(&namespace);
    let account = namespace.account("freezer", &rules(&needed(&name)));
    let plain = server(&account, &name).await;
    let planned = Run::new(freeze(&plain, &name, "run-1")).plan().await;
    // There in the rehearsal, and gone when it is its turn.
    let last = planned.changes.last().expect("changes").object.clone();
    let arguments = ["-n", &name, "delete", &last.plural, &last.name].map(str::to_owned);
    let remove = move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Cluster::get().kubectl(&arguments, "");
    };
    let tap = Tap::with_hook(planned.changes.len() - 1, remove);
    let mut run = Run::new(freeze(&plain.through(tap.client(&account).await), &name, "run-1"));
    let Run { freeze, journal, .. } = &mut run;
    let made = freeze.apply(&planned, journal, &Events::none()).await;
    let error = made.expect_err("the last object is gone");
    let FreezeError::Partly { made, .. } = &error else { panic!("{error}") };
    assert_eq!(made.len(), planned.changes.len() - 1);
    let restoration = roll_back(&namespace, "run-1").await;
    assert_eq!(restoration.restored.len(), made.len(), "{restoration:?}");
    let last = format!("{}/{}", last.kind.to_lowercase(), last.name);
    let others = CHANGED.iter().zip(before).filter(|(object, _)| **object != last);
    for (object, before) in others {
        assert_eq!(written(&namespace, object), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_on_one_source_are_kept_apart() {
    let (namespace, name) = world();
    let server = server(&namespace.cluster.kubeconfig, &name).await;
    let mut first = Run::new(freeze(&server, &name, "run-1"));
    let frozen = first.hold().await.expect("frozen");

    let holder = |run: &str| Holder { run: run.to_owned(), place: "test@there, process 2".to_owned() };
    let lease = "pgmove-statefulset-db";
    let events = Events::none();
    let refused =
        Lease::acquire(&server, &name, lease, holder("run-2"), &events).await.expect_err("it is held");
    let LeaseError::Held { by, since, .. } = &refused else { panic!("{refused}") };
    assert_eq!(by, "run run-1 of test@here, process 1");
    assert!(since.is_some());

    // A run that was killed leaves its Lease, which runs out.
    drop(frozen);
    let patch = "--patch={\"spec\":{\"leaseDurationSeconds\":1}}";
    namespace.kubectl(&["patch", "lease", lease, "--type=merge", patch]);
    let taken = loop {
        match Lease::acquire(&server, &name, lease, holder("run-2"), &events).await {
            Ok(taken) => break taken,
            Err(LeaseError::Held { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => panic!("{error}"),
        }
    };
    taken.release().await.expect("it is run-2's");

    // What run-1 has frozen is still its own.
    let mut second = Run::new(freeze(&server, &name, "run-2"));
    let refused = second.hold().await.expect_err("frozen by run-1");
    let FreezeError::Obstacles(obstacles) = &refused else { panic!("{refused}") };
    assert!(obstacles.iter().all(|obstacle| obstacle.contains("is frozen by run run-1")), "{obstacles:?}");
    assert!(roll_back(&namespace, "rollback").await.is_complete());
    second.hold().await.expect("free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_connected_is_stopped_and_waited_for() {
    let namespace = Cluster::get().namespace();
    namespace.stateful_set("db");
    namespace.apply(&workload("Deployment", "server", 1, &json!({})).to_string());
    namespace.apply(&workload("Deployment", "idle", 1, &json!({})).to_string());
    let address = namespace.give_address(&namespace.pod_of("server"));

    let database = Server::shared(15).database();
    let session = database.connect_from(address).await;
    let plain = server(&namespace.cluster.kubeconfig, &namespace.name).await;
    let mut run = Run::new(Freeze {
        endpoint: Some(endpoint(&database)),
        named: vec![],
        ..freeze(&plain, &namespace.name, "run-1")
    });
    let planned = run.plan().await;
    let changes: Vec<_> = planned.changes.iter().map(|change| change.object.name.as_str()).collect();
    assert_eq!(changes, ["server"], "{planned:?}");

    // The pod goes, and its session stays, as one does whose end nobody has told the server.
    run.patience = Duration::from_secs(3);
    // The second time there is no pod any more whose session it could be.
    for _ in 0..2 {
        let error = run.hold().await.expect_err("a session is still there");
        let FreezeError::Staying { staying, .. } = &error else { panic!("{error}") };
        assert_eq!(staying.pods, [""; 0]);
        assert!(staying.sessions[0].contains(&format!("of role {}", database.name)), "{error}");
    }
    drop(session);

    run.hold().await.expect("frozen").leave().await.expect("nobody has touched it");
    assert_eq!(replicas(&namespace, "idle"), 1);
    assert!(roll_back(&namespace, "rollback").await.is_complete());
    assert_eq!(replicas(&namespace, "server"), 1);
}
