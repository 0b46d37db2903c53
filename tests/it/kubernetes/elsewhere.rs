//! Applications in other namespaces than their source: found, frozen, watched and put back there too.

use std::{collections::BTreeSet, path::Path, time::Duration};

use pgmove::{
    cutover::{
        freeze::{Freeze, FreezeError, recorded},
        lease::{Holder, LeaseError},
        rollback::{Rollback, RollbackError},
    },
    event::Events,
    journal::Record,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{
    Cluster, Namespace,
    cluster::eventually,
    cnpg::secret,
    endpoints::ended,
    freeze::{
        PATIENCE, Run, autoscaler, endpoint, names_pgmove, pod_template, replicas, roll_back, server,
        workload, written,
    },
    heeding::may,
    rbac::apply,
};
use crate::support::{Database, PASSWORD, Server, pgmove};

/// A Deployment of one pod.
pub(super) fn deployment(namespace: &Namespace, name: &str) {
    namespace.apply(&workload("Deployment", name, 1, &json!({})).to_string());
}

/// A source in one namespace, an application that is connected in another, and a CronJob in a third. In all of them there is a
/// Deployment `server`, with an autoscaler.
struct Spread {
    databases: Namespace,
    media: Namespace,
    office: Namespace,
    source: Database,
}

impl Spread {
    fn new() -> Spread {
        let [databases, media, office] = [(); 3].map(|()| Cluster::get().namespace());
        for namespace in [&databases, &media, &office] {
            deployment(namespace, "server");
            namespace.apply(&autoscaler("server", 0).to_string());
        }
        databases.stateful_set("db");
        let backup = json!({
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": { "name": "backup" },
            "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": pod_template() } } },
        });
        office.apply(&backup.to_string());
        Spread { databases, media, office, source: Server::shared(15).database() }
    }

    /// Asks for sessions, and knows of the CronJob by its name.
    async fn freeze(&self, kubeconfig: &Path) -> Freeze {
        let backup = format!("{}/cronjob/backup", self.office.name);
        Freeze {
            server: server(kubeconfig, &self.databases.name).await,
            namespace: self.databases.name.clone(),
            source: "sts/db".parse().expect("an object"),
            endpoint: Some(endpoint(&self.source)),
            named: vec![backup.parse().expect("a workload")],
            run: "run-1".to_owned(),
        }
    }

    async fn run(&self) -> Run {
        Run::new(self.freeze(&self.databases.cluster.kubeconfig).await)
    }

    /// What a freeze of it changes.
    fn changed(&self) -> [(&Namespace, &'static str); 3] {
        [
            (&self.media, "deployment/server"),
            (&self.media, "horizontalpodautoscaler/server"),
            (&self.office, "cronjob/backup"),
        ]
    }

    fn written(&self) -> Vec<Value> {
        self.changed().map(|(namespace, object)| written(namespace, object)).into()
    }

    /// A rollback from another machine that names this namespace only.
    async fn roll_back(&self, namespace: &Namespace) -> Rollback {
        Rollback {
            server: server(&self.databases.cluster.kubeconfig, &namespace.name).await,
            namespaces: vec![namespace.name.clone()],
            known: vec![],
            kept: vec![],
            run: None,
            holder: Holder { run: "rollback".to_owned(), place: "test@there, process 2".to_owned() },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_in_other_namespaces_are_stopped_waited_for_watched_and_put_back_without_a_trace() {
    let spread = Spread::new();
    let Spread { databases, media, office, source } = &spread;
    let address = media.give_address(&media.pod_of("server"));
    // A pod that has ended keeps its address, which another one may have by now.
    let ended =
        json!({ "status": { "phase": "Succeeded", "podIP": address, "podIPs": [{ "ip": address }] } });
    let job = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "ended" }, "spec": pod_template()["spec"] });
    databases.apply(&job.to_string());
    databases.ready_pod("ended");
    let patch = format!("--patch={ended}");
    databases.kubectl(&["patch", "pod", "ended", "--subresource=status", "--type=merge", &patch]);
    let before = spread.written();
    let session = source.connect_from(address).await;

    let mut run = spread.run().await;
    let plan = run.plan().await;
    let planned: BTreeSet<String> = plan.changes.iter().map(|change| change.object.to_string()).collect();
    let expected = [
        format!("Deployment {}/server", media.name),
        format!("HorizontalPodAutoscaler {}/server", media.name),
        format!("CronJob {}/backup", office.name),
    ];
    assert_eq!(planned, expected.into(), "{plan:?}");
    assert_eq!((&plan.obstacles, spread.written()), (&vec![], before.clone()), "a plan changes nothing");

    // Its pod goes, and its session stays. On the node of the other one nobody ends pods.
    let mut slow = workload("Deployment", "slow", 1, &json!({}));
    slow["spec"]["template"]["spec"]["nodeName"] = json!("nowhere");
    office.apply(&slow.to_string());
    let pod = eventually("it has a pod", || {
        let pod = office.kubectl(&["get", "pods", "--selector=app=slow", "--output=name"]);
        pod.strip_prefix("pod/").map(str::to_owned)
    });
    run.freeze.named.push(format!("{}/deploy/slow", office.name).parse().expect("a workload"));
    run.patience = Duration::from_secs(3);
    let error = run.hold().await.expect_err("its pod is still there");
    let FreezeError::Staying { staying, .. } = &error else { panic!("{error}") };
    assert_eq!(staying.pods, [format!("Pod {}/{pod}", office.name)]);
    assert_eq!(staying.sessions.len(), 1, "{error}");
    assert_eq!([databases, media, office].map(|of| replicas(of, "server")), [1, 0, 1].map(|n| json!(n)));
    office.kubectl(&["delete", "pod", &pod, "--force", "--grace-period=0"]);
    // Without its pod nothing but the journal tells where it was.
    run.freeze.named.clear();
    let error = run.hold().await.expect_err("its session is still there");
    let FreezeError::Staying { staying, .. } = &error else { panic!("{error}") };
    assert_eq!((staying.pods.len(), staying.sessions.len()), (0, 1), "{error}");
    drop(session);

    run.patience = PATIENCE;
    let frozen = run.hold().await.expect("frozen");
    media.kubectl(&["scale", "deployment/server", "--replicas=2"]);
    tokio::time::timeout(PATIENCE, run.stop.cancelled()).await.expect("the alarm goes off");
    let error = frozen.leave().await.expect_err("it was started again");
    assert!(
        error.to_string().starts_with(&format!("Deployment {}/server was changed", media.name)),
        "{error}"
    );
    // Its new pods are looked for where the journal says, with neither a name nor a session.
    eventually("it has pods again", || {
        (media.get("deployment/server")?["status"]["readyReplicas"] == 2).then_some(())
    });
    let plan = run.plan().await;
    let server = plan
        .changes
        .iter()
        .find(|change| change.object.kind == "Deployment" && change.object.name == "server");
    let server = server.expect("it is to be stopped again");
    assert_eq!(server.addresses.len(), 4, "two of the pod that has gone: {server:?}");
    run.stop = CancellationToken::new();
    run.hold().await.expect("frozen again").leave().await.expect("nobody has touched it");

    let restoration = roll_back(databases, "rollback").await;
    assert!(restoration.is_complete(), "{restoration:?}");
    assert_eq!((restoration.restored.len(), replicas(office, "slow")), (4, json!(1)), "{restoration:?}");
    assert_eq!(spread.written(), before);
    for (namespace, object) in spread.changed() {
        assert!(!names_pgmove(namespace, object), "{object}");
    }
    for namespace in [databases, media, office] {
        assert!(namespace.kubectl(&["get", "leases", "--output=name"]).is_empty());
    }
    eventually("the application is back", || {
        (media.get("deployment/server")?["status"]["readyReplicas"] == 1).then_some(())
    });
}

/// The Lease is in the source's namespace alone; each record says which that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_finds_what_is_in_other_namespaces_by_lease_or_journal_and_else_says_where_it_has_not_looked()
 {
    let spread = Spread::new();
    let Spread { databases, media, source, .. } = &spread;
    let before = spread.written();
    let events = Events::none();
    let complete = async |rollback: Rollback, run: Option<&mut Run>| {
        let found = rollback.run(run.map(|run| &mut run.journal), &Events::none()).await.expect("a rollback");
        assert!(found.is_complete() && found.restored.len() == 3, "{found:?}");
        assert_eq!(spread.written(), before);
        assert!(databases.kubectl(&["get", "leases", "--output=name"]).is_empty());
    };
    let frozen = async || {
        let address = media.give_address(&media.pod_of("server"));
        let session = source.connect_from(address).await;
        let mut run = spread.run().await;
        // Its sessions end with it.
        let plan = run.plan().await;
        drop(session);
        let Run { freeze, journal, stop, patience, .. } = &mut run;
        let held =
            freeze.hold(&plan, journal, "test@here, process 1", *patience, &Events::none(), stop).await;
        (held.expect("frozen"), run)
    };

    // Named is where the application is, and the run works.
    let (held, _run) = frozen().await;
    let refused = spread.roll_back(media).await.run(None, &events).await.expect_err("the run works");
    assert!(matches!(refused, RollbackError::Lease(LeaseError::Held { .. })), "{refused}");
    held.leave().await.expect("nobody has touched it");
    complete(spread.roll_back(media).await, None).await;

    // By the journal alone, whose objects are not in the source's namespace.
    let (held, mut run) = frozen().await;
    held.leave().await.expect("nobody has touched it");
    let known = recorded(run.journal.records());
    let of_journal = Rollback {
        namespaces: vec![],
        known,
        run: Some("run-1".to_owned()),
        ..spread.roll_back(media).await
    };
    complete(of_journal, Some(&mut run)).await;
    let thawed = run.journal.records().iter().filter(|record| matches!(record, Record::Thawed { .. }));
    assert_eq!(thawed.count(), 3);

    // With neither.
    let (held, _run) = frozen().await;
    held.leave().await.expect("nobody has touched it");
    databases.kubectl(&["delete", "leases", "--all"]);
    for (namespace, restored) in [(databases, 0), (media, 2), (&spread.office, 1)] {
        let found = spread.roll_back(namespace).await.run(None, &events).await.expect("a rollback");
        assert_eq!((found.restored.len(), found.failed.len()), (restored, 0), "{found:?}");
        let [unsearched] = &found.unsearched[..] else { panic!("{found:?}") };
        assert!(unsearched.starts_with(&format!("no lease in namespace {}", namespace.name)), "{unsearched}");
        assert!(
            unsearched.ends_with("workloads of other namespaces are put back with -n of each"),
            "{unsearched}"
        );
    }
    assert_eq!(spread.written(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_from_a_nodes_network_stop_nothing_elsewhere() {
    let spread = Spread::new();
    let Spread { media, source, .. } = &spread;
    let mut deployment = workload("Deployment", "node", 1, &json!({}));
    deployment["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    media.apply(&deployment.to_string());
    let address = media.give_address(&media.pod_of("node"));
    let _session = source.connect_from(address).await;
    let mut run = spread.run().await;
    run.freeze.named.clear();
    let plan = run.plan().await;
    assert!(plan.changes.is_empty() && plan.obstacles.is_empty(), "{plan:?}");
    let [note] = &plan.notes[..] else { panic!("{plan:?}") };
    assert!(
        note.contains(&format!("comes from {address}, which no pod of the cluster has to itself")),
        "{note}"
    );
    // It is the only one there that can be meant.
    run.freeze.named = vec![format!("{}/deploy/node", media.name).parse().expect("a workload")];
    let plan = run.plan().await;
    assert_eq!((plan.changes.len(), plan.notes.len()), (1, 0), "{plan:?}");
}

/// The commands themselves, by an account that has what `pgmove rbac` prints.
#[test]
fn an_account_with_the_printed_rights_freezes_in_other_namespaces_what_it_is_told_or_may_find() {
    let [databases, media] = [(); 2].map(|()| Cluster::get().namespace());
    let source = Server::shared(15).database();
    let login = json!({ "username": "postgres", "password": PASSWORD, "database": source.name });
    secret(&databases, "login", &login);
    databases.stateful_set("db");
    databases.lead("db-0", &source.server);
    deployment(&media, "server");
    let address = media.give_address(&media.pod_of("server"));
    let runtime = Runtime::new().expect("a runtime");
    let session = runtime.block_on(source.connect_from(address));

    let name = format!("{}/deploy/server", media.name);
    let of_source = ["--source", "sts/db", "--source-secret", "login"];
    let role = |purposes: &str| {
        let role = format!("pgmove-{}", databases.name);
        let arguments = ["--for", purposes, "--workload", &name, "--name", &role];
        apply(&databases, &[&of_source[..], &arguments].concat())
    };
    let kubeconfig = role("freeze,rollback");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |arguments: &[&str]| {
        let mut command = pgmove();
        command.current_dir(&directory).args(arguments).args(["-n", &databases.name, "--kubeconfig"]);
        ended(command.arg(&kubeconfig))
    };
    let freeze = |more: &[&str]| run(&[&["freeze"], &of_source[..], more].concat());
    let looked = freeze(&["--dry-run"]);
    let next = format!(
        "comes from {address}, which is no pod in namespace {}, and the account may not list the pods of others: if its workload is there, \
         name it (--workload NAMESPACE/deploy/NAME)",
        databases.name
    );
    let words: Vec<&str> = looked.output.split_whitespace().collect();
    assert!(words.join(" ").contains(&next), "{}", looked.output);
    assert!(!looked.output.contains(&media.name), "{}", looked.output);
    assert_eq!(replicas(&media, "server"), 1);
    // Who is told of it finds nothing by itself, and may stop it all the same.
    drop(session);
    freeze(&["--workload", &name]).assert(0, &["frozen; put it back with"]);
    assert_eq!(replicas(&media, "server"), 0);
    let back = format!("Deployment {}/server", media.name);
    run(&["rollback"]).assert(0, &[&back]);
    assert_eq!(replicas(&media, "server"), 1);

    let role = format!("pgmove-{}", databases.name);
    let of_cluster = pgmove()
        .args(["rbac", "-n", &databases.name, "--source=sts/db", "--for=pods", "--service-account=mover"])
        .args(["--name", &role])
        .output()
        .expect("pgmove runs");
    databases.cluster.kubectl(&["apply", "--filename=-"], &String::from_utf8_lossy(&of_cluster.stdout));
    may(&databases, &format!("{}:mover", databases.name), "list", "pods", &["--all-namespaces"]);
    let address = media.give_address(&media.pod_of("server"));
    let session = runtime.block_on(source.connect_from(address));
    freeze(&["--dry-run"]).assert(0, &[&back, "spec.replicas: 1 -> 0"]);
    drop(session);
    for kind in ["clusterrole", "clusterrolebinding"] {
        databases.kubectl(&["delete", kind, &role]);
    }
}
