//! The same for freeze and rollback, where each object stands under its own right.

use std::{path::Path, time::Duration};

use pgmove::{
    cutover::{
        alarm::Alarm,
        freeze::{Freeze, FreezePlan},
        lease::{Holder, Lease},
        rollback::Rollback,
    },
    event::{Event, Events},
    journal::RunDirectory,
    kubernetes::{
        ApiServer,
        rights::{Place, Server as Behind, Way, rights},
    },
    pg::server_error::describe_chain,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::cnpg::secret;
use super::discovery::connect;
use super::freeze::{autoscaler, pod_template, workload};
use super::namespace::stateful_set;
use super::rbac::{Single, apply, singles, without_one_each};
use super::{Cluster, Namespace};
use crate::support::{PASSWORD, Server, pgmove};

const PATIENCE: Duration = Duration::from_secs(60);

/// A Cluster with everything beside it that a freeze changes. What Flux keeps of it stands in another namespace, and in a third one
/// there are applications too.
struct World {
    home: Namespace,
    flux: Namespace,
    other: Namespace,
}

/// What writes, beside a source or elsewhere, of each kind one, and an autoscaler.
fn applications(of_helm: &Value, of_kustomize: &Value) -> Vec<Value> {
    let mut queue = stateful_set("queue");
    queue["spec"]["replicas"] = json!(0);
    vec![
        workload("Deployment", "learning", 0, of_helm),
        queue,
        autoscaler("learning", 0),
        json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": { "name": "backup", "labels": of_kustomize },
            "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": pod_template() } } },
        }),
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": "import" },
            "spec": { "template": pod_template() },
        }),
    ]
}

impl World {
    fn new() -> World {
        let [home, flux, other] = [(); 3].map(|()| Cluster::get().namespace());
        let of_flux = |name: &str, kind: &str| {
            json!({
                format!("{kind}.toolkit.fluxcd.io/name"): name,
                format!("{kind}.toolkit.fluxcd.io/namespace"): flux.name,
            })
        };
        let applied = of_flux("fleet", "kustomize");
        let repository = json!({ "kind": "GitRepository", "name": "fleet" });
        flux.apply(&list(&json!([
            {
                "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
                "kind": "Kustomization",
                "metadata": { "name": "fleet" },
                "spec": { "interval": "1h", "prune": true, "sourceRef": repository },
            },
            {
                "apiVersion": "image.toolkit.fluxcd.io/v1",
                "kind": "ImageUpdateAutomation",
                "metadata": { "name": "fleet" },
                "spec": {
                    "interval": "1h",
                    "sourceRef": repository,
                    "git": { "commit": { "author": { "email": "flux@example.org" } } },
                },
            },
            {
                "apiVersion": "helm.toolkit.fluxcd.io/v2",
                "kind": "HelmRelease",
                "metadata": { "name": "learning" },
                "spec": { "interval": "1h", "chartRef": { "kind": "OCIRepository", "name": "learning" } },
            },
        ])));
        let source = [
            json!({
                "apiVersion": "postgresql.cnpg.io/v1",
                "kind": "Cluster",
                "metadata": { "name": "db", "labels": applied },
                "spec": { "instances": 1, "storage": { "size": "1Gi" } },
            }),
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": { "name": "db-1", "labels": applied },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            }),
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": "db-1", "labels": { "cnpg.io/cluster": "db" } },
                "spec": {
                    "containers": [{ "name": "postgres", "image": "postgres:16" }],
                    "volumes": [{ "name": "pgdata", "persistentVolumeClaim": { "claimName": "db-1" } }],
                },
            }),
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": "db-rw", "labels": applied },
                "spec": { "selector": { "cnpg.io/cluster": "db" }, "ports": [{ "port": 5432 }] },
            }),
        ];
        let beside = applications(&of_flux("learning", "helm"), &applied);
        home.apply(&list(&json!([&source[..], &beside].concat())));
        other.apply(&list(&json!(applications(&json!({}), &json!({})))));
        World { home, flux, other }
    }

    fn freeze(&self, server: ApiServer) -> Freeze {
        let names = ["deploy/learning", "sts/queue", "cronjob/backup", "job/import"];
        let elsewhere = names.map(|name| format!("{}/{name}", self.other.name));
        let names = names.into_iter().chain(elsewhere.iter().map(String::as_str));
        Freeze {
            server,
            namespace: self.home.name.clone(),
            source: "cluster/db".parse().expect("an object"),
            endpoint: None,
            named: names.map(|name| name.parse().expect("a workload")).collect(),
            run: "run-1".to_owned(),
        }
    }

    fn rights(&self, way: Way) -> Vec<Single> {
        let behind = Behind { object: &"cluster/db".parse().expect("an object"), secret: None };
        let places =
            [(&self.home, Place::Application), (&self.other, Place::Workloads), (&self.flux, Place::Flux)];
        let rights = places.map(|(namespace, place)| singles(&namespace.name, &rights(way, &behind, place)));
        rights.concat()
    }

    async fn server(&self, kubeconfig: &Path) -> ApiServer {
        connect(kubeconfig, &self.home.name).await
    }

    fn roll_back(&self, server: ApiServer, plan: &FreezePlan) -> Rollback {
        Rollback {
            server,
            namespaces: vec![self.home.name.clone()],
            known: plan.changes.iter().map(|change| change.object.clone()).collect(),
            kept: vec![],
            run: None,
            holder: holder(),
        }
    }
}

fn list(items: &Value) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn holder() -> Holder {
    Holder { run: "run-1".to_owned(), place: "test@here, process 1".to_owned() }
}

fn journal() -> (RunDirectory, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    (RunDirectory::create(&directory.path().join("run")).expect("a run directory"), directory)
}

/// Freezes; nothing can be frozen with a right missing that is used before the first change.
async fn hold(freeze: &Freeze) -> Result<(), String> {
    let (mut journal, _directory) = journal();
    let plan = freeze.plan(&[]).await.map_err(|error| describe_chain(&error))?;
    let stop = CancellationToken::new();
    let held = freeze.hold(&plan, &mut journal, &holder().place, PATIENCE, &Events::none(), &stop).await;
    held.map(drop).map_err(|error| describe_chain(&error))
}

/// The first warning of the alarm about objects of this kind.
async fn warning(server: &ApiServer, plan: &FreezePlan, resource: &str) -> String {
    let changes: Vec<_> =
        plan.changes.iter().filter(|change| change.object.plural == resource).cloned().collect();
    assert!(!changes.is_empty(), "no {resource} in {plan:?}");
    let (events, heard) = Events::channel();
    let alarm = Alarm::start(server, &changes, &events, &CancellationToken::new());
    drop(events);
    let listener = tokio::task::spawn_blocking(move || {
        heard.iter().find_map(|event| match event {
            Event::Warning { message } if message.starts_with("cannot watch") => Some(message),
            _ => None,
        })
    });
    let heard = tokio::time::timeout(PATIENCE, listener).await.expect("it warns soon");
    drop(alarm);
    heard.expect("it does not panic").expect("it warns")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_needs_each_right_that_it_is_given() {
    let world = World::new();
    let all = world.rights(Way::Freeze);
    let plan =
        world.freeze(world.server(&world.home.cluster.kubeconfig).await).plan(&[]).await.expect("a plan");
    assert_eq!(plan.obstacles, [""; 0]);
    let elsewhere = format!("--workload={}/deploy/learning", world.other.name);
    let purposes =
        ["--for=freeze,rollback", "--source=cluster/db", "--flux-namespace", &world.flux.name, &elsewhere];
    let complete = world.server(&apply(&world.home, &purposes)).await;
    hold(&world.freeze(complete.clone())).await.expect("these rights are enough");
    let found = world.roll_back(complete, &FreezePlan::default()).run(None, &Events::none()).await;
    let found = found.expect("these rights are enough");
    assert!(found.is_complete() && found.restored.len() == plan.changes.len(), "{found:?}");
    for (single, kubeconfig) in without_one_each(&world.home, &all).await {
        let server = world.server(&kubeconfig).await;
        // These are looked for by their name.
        let by_name = ["clusters", "kustomizations", "helmreleases"].contains(&single.resource);
        let error = if single.verb == "watch" || (single.verb == "list" && by_name) {
            warning(&server, &plan, single.resource).await
        } else {
            if single.resource == "leases" {
                world.home.kubectl(&["delete", "leases", "--all"]);
            }
            hold(&world.freeze(server)).await.expect_err(&format!("{single:?} is missing"))
        };
        assert!(error.contains(&single.lack()), "{single:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_needs_each_right_that_it_is_given() {
    let world = World::new();
    let administrator = world.server(&world.home.cluster.kubeconfig).await;
    let freeze = world.freeze(administrator.clone());
    let plan = freeze.plan(&[]).await.expect("a plan");
    for (single, kubeconfig) in without_one_each(&world.home, &world.rights(Way::Rollback)).await {
        // Only what the right is for is frozen.
        let mut frozen = plan.clone();
        frozen.changes.retain(|change| {
            change.object.plural == single.resource
                && change.object.namespace == single.namespace
                && single.verb != "list"
        });
        let (mut journal, _directory) = journal();
        freeze.apply(&frozen, &mut journal, &Events::none()).await.expect("frozen");
        let events = Events::none();
        let lease = Lease::acquire(&administrator, &world.home.name, "pgmove-test", holder(), &events).await;
        lease.expect("it is free").release().await.expect("it is held");
        let rollback = world.roll_back(world.server(&kubeconfig).await, &frozen);
        let error = match rollback.run(None, &Events::none()).await {
            // Any other object that cannot be put back does not keep the rest from it.
            Err(error) if single.resource == "leases" => describe_chain(&error),
            Err(error) => panic!("{single:?}: {error}"),
            Ok(found) => {
                let failed = found.failed.into_iter().map(|failed| failed.reason);
                failed.chain(found.unsearched).collect::<Vec<_>>().join("; ")
            }
        };
        assert!(error.contains(&single.lack()), "{single:?}: {error}");
        let rollback = world.roll_back(administrator.clone(), &frozen);
        let found = rollback.run(None, &Events::none()).await.expect("a rollback");
        assert!(found.is_complete(), "{single:?}: {found:?}");
    }
}

/// Where the Lease is lost that lists them, the labels of what is in the namespace lead to Flux's objects elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_lease_a_rollback_finds_flux_by_the_labels_and_does_not_claim_to_have_found_all() {
    let world = World::new();
    let administrator = world.server(&world.home.cluster.kubeconfig).await;
    hold(&world.freeze(administrator.clone())).await.expect("frozen");
    let suspended = || {
        ["kustomization/fleet", "imageupdateautomation/fleet", "helmrelease/learning"]
            .map(|object| world.flux.get(object).expect("it is there")["spec"]["suspend"] == true)
    };
    assert_eq!(suspended(), [true; 3]);
    world.home.kubectl(&["delete", "leases", "--all"]);
    let rollback = world.roll_back(administrator, &FreezePlan::default());
    let found = rollback.run(None, &Events::none()).await.expect("a rollback");
    assert_eq!(suspended(), [false; 3], "{found:?}");
    assert!(found.failed.is_empty() && !found.is_complete(), "{found:?}");
    let [unsearched] = &found.unsearched[..] else { panic!("{found:?}") };
    assert!(unsearched.starts_with(&format!("no lease in namespace {}", world.home.name)), "{unsearched}");
}

/// The commands themselves, by an account that has what `pgmove rbac` prints.
#[test]
fn an_account_with_the_printed_rights_freezes_and_rolls_back() {
    let namespace = Cluster::get().namespace();
    let database = Server::shared(15).database();
    let login = json!({ "username": "postgres", "password": PASSWORD, "database": database.name });
    secret(&namespace, "login", &login);
    namespace.stateful_set("db");
    namespace.lead("db-0", &database.server);
    namespace.apply(&workload("Deployment", "server", 1, &json!({})).to_string());
    let purposes = "--for=freeze,rollback";
    let kubeconfig = apply(&namespace, &["--source", "sts/db", "--source-secret", "login", purposes]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |command: &str, arguments: &[&str]| {
        let output = pgmove()
            .current_dir(&directory)
            .args([command, "-n", &namespace.name, "--kubeconfig"])
            .arg(&kubeconfig)
            .args(arguments)
            .output()
            .expect("pgmove runs");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {text}");
    };
    let replicas = || namespace.get("deployment/server").expect("it is there")["spec"]["replicas"].take();
    run("freeze", &["--source", "sts/db", "--source-secret", "login", "--workload", "deploy/server"]);
    assert_eq!(replicas(), 0);
    run("rollback", &[]);
    assert_eq!(replicas(), 1);
}
