//! The rights that `pgmove rbac` gives are enough, and each of them is needed: without it, the work that it is for fails,
//! and names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use pgmove::{
    error,
    kubernetes::{
        Account, ClusterLook, DataVolume, Exec, Instance, Kind, ObjectRef, Operator, Orphan, PodPort,
        ReclaimPolicy, Request, Route, WantedExtension, authority, conninfo, exec,
        rights::{Place, Right, Server as Behind, Way, lacking, rights},
    },
    pg::{self, server_error::describe_chain},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::cnpg::secret;
use super::discovery::{PASSWORD, claim, cluster, connect, legacy, remove_volume};
use super::moving::Reach;
use super::privileges::StandInOperator;
use super::{Cluster, Namespace};
use crate::support::{Server, pgmove};

/// One verb on one resource in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Single {
    pub(super) namespace: String,
    pub(super) verb: &'static str,
    pub(super) resource: &'static str,
    group: &'static str,
    name: Option<String>,
}

impl Single {
    fn rule(&self) -> Value {
        let mut rule =
            json!({ "apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb] });
        if let Some(name) = &self.name {
            rule["resourceNames"] = json!([name]);
        }
        rule
    }

    fn request(&self) -> Request {
        Request {
            verb: self.verb,
            group: self.group.to_owned(),
            resource: self.resource.to_owned(),
            kind: String::new(),
            namespace: Some(self.namespace.clone()),
            name: self.name.clone(),
        }
    }

    /// What an error says whose cause is that it is missing.
    pub(super) fn lack(&self) -> String {
        format!(" may not {} {}", self.verb, self.resource)
    }
}

/// Every verb on every resource, and on every object that is named.
pub(super) fn singles(namespace: &str, rights: &[Right]) -> Vec<Single> {
    let mut singles = vec![];
    for Right { group, resources, verbs, names } in rights {
        for resource in resources {
            for verb in verbs {
                let each = names.iter().cloned().map(Some);
                let each: Vec<_> = if names.is_empty() { vec![None] } else { each.collect() };
                singles.extend(each.into_iter().map(|name| Single {
                    namespace: namespace.to_owned(),
                    verb,
                    resource,
                    group,
                    name,
                }));
            }
        }
    }
    singles
}

/// Rules of a Role.
pub(super) fn rules(all: &[Single]) -> Value {
    all.iter().map(Single::rule).collect()
}

/// For each right a kubeconfig that has all the others.
pub(super) async fn without_one_each(home: &Namespace, all: &[Single]) -> Vec<(Single, PathBuf)> {
    let mut objects = vec![];
    for index in 0..all.len() {
        let name = format!("without-{index}");
        let account = json!({ "kind": "ServiceAccount", "name": name, "namespace": home.name });
        let mut rules: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (_, single) in all.iter().enumerate().filter(|(number, _)| *number != index) {
            rules.entry(&single.namespace).or_default().push(single.rule());
        }
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": name, "namespace": home.name },
        }));
        for (namespace, rules) in rules {
            let metadata = json!({ "name": name, "namespace": namespace });
            let group = "rbac.authorization.k8s.io";
            let version = format!("{group}/v1");
            let role = json!({ "apiGroup": group, "kind": "Role", "name": name });
            objects
                .push(json!({ "apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules }));
            objects.push(json!({
                "apiVersion": version,
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": role,
                "subjects": [account],
            }));
        }
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    home.cluster.kubectl(&["apply", "--server-side", "--filename=-"], &list.to_string());
    let mut accounts = vec![];
    for (index, single) in all.iter().enumerate() {
        let kubeconfig = home.acting_for(&format!("without-{index}"));
        let server = connect(&kubeconfig, &home.name).await;
        // Rules take a moment to reach the authorizer, those of a Role all at once.
        for namespace in all.iter().map(|other| &*other.namespace).collect::<BTreeSet<_>>() {
            let is_kept = |other: &&Single| {
                other.namespace == namespace
                    && (other.verb, other.resource, &other.name)
                        != (single.verb, single.resource, &single.name)
            };
            if let Some(kept) = all.iter().find(is_kept) {
                while !server.may(&kept.request()).await.expect("every account may ask") {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        assert!(!server.may(&single.request()).await.expect("every account may ask"), "{single:?}");
        accounts.push((single.clone(), kubeconfig));
    }
    accounts
}

/// Applies what `pgmove rbac` prints, and gives the kubeconfig of the account that it is for.
pub(super) fn apply(namespace: &Namespace, arguments: &[&str]) -> PathBuf {
    let output = pgmove()
        .args(["rbac", "-n", &namespace.name, "--service-account", "mover"])
        .args(arguments)
        .output()
        .expect("pgmove runs");
    let text = |bytes| String::from_utf8(bytes).expect("it is UTF-8");
    assert!(output.status.success(), "{}", text(output.stderr));
    namespace.cluster.kubectl(&["apply", "--filename=-"], &text(output.stdout));
    namespace.kubectl(&["create", "serviceaccount", "mover"]);
    namespace.login("mover")
}

/// A server in Kubernetes, and the database that is behind its pod here.
struct Side {
    namespace: Namespace,
    object: ObjectRef,
    uri: String,
}

impl Side {
    fn rights(&self, way: Way) -> Vec<Single> {
        let behind = Behind { object: &self.object, secret: Some("immich-secrets") };
        let behind =
            if self.object.kind == Kind::Cluster { Behind { secret: None, ..behind } } else { behind };
        singles(&self.namespace.name, &rights(way, &behind, Place::Application))
    }

    /// Everything that a move does with a server in Kubernetes.
    async fn reach(&self, kubeconfig: PathBuf) -> Result<Instance, String> {
        let reach = Reach { kubeconfig, namespace: self.namespace.name.clone() };
        let route = Route::new(reach.server().await, self.object.clone(), None);
        let instance = if self.object.kind == Kind::Cluster {
            ClusterLook::look(&route).await.map_err(|error| describe_chain(&error))?.primary
        } else {
            Orphan::look(&route).await.map_err(|error| describe_chain(&error))?;
            Instance::look(&route).await.map_err(|error| describe_chain(&error))?.0
        };
        conninfo(route, None, Account::Application).await.map_err(|error| describe_chain(&error))?;
        // The login of the pod's environment is nobody's here.
        let uri = format!("{}&connect_timeout=10", self.uri);
        let behind = reach.conninfo(&self.object.to_string(), &uri).await;
        let connected = pg::connect(&behind, "pgmove test", error::Side::Source).await;
        connected.map(drop).map_err(|error| describe_chain(&error))?;
        Ok(instance)
    }
}

/// A websocket is a `create` for Kubernetes 1.35 and later; before, its API server says what it thinks of it when asked,
/// and no more.
fn is_of_later_versions(single: &Single) -> bool {
    single.verb == "create" && single.resource.contains('/')
}

/// A pod of a Cluster as the operator makes it, whose data are on a claim.
fn on_claim(namespace: &Namespace, pod: &str) {
    claim(namespace, pod);
    namespace.kubectl(&["delete", "pod", pod]);
    let pod_of_cluster = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": pod }, "spec": {
            "containers": [{
                "name": "postgres",
                "image": "postgres:16",
                "env": [{ "name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata" }],
                "ports": [{ "containerPort": 5432, "name": "postgresql" }],
                "volumeMounts": [{ "name": "pgdata", "mountPath": "/var/lib/postgresql/data" }],
            }],
            "volumes": [{ "name": "pgdata", "persistentVolumeClaim": { "claimName": pod } }],
        },
    });
    namespace.apply(&pod_of_cluster.to_string());
    namespace.ready_pod(pod);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_needs_each_right_that_it_is_given_and_no_other() {
    let [of_source, of_target] = [(); 2].map(|()| Cluster::get().namespace());
    legacy(&of_source);
    cluster(&of_target);
    on_claim(&of_target, "immich-postgres-1");
    let server = Server::shared(18);
    let database = server.database();
    of_source.lead("immich-postgres-0", &server);
    of_target.lead("immich-postgres-1", &server);
    let side = |namespace: Namespace, object: &str| Side {
        namespace,
        object: object.parse().expect("an object"),
        uri: database.uri(),
    };
    let sides = [side(of_source, "sts/immich-postgres"), side(of_target, "cluster/immich-postgres")];
    let [source, target] = &sides;
    let option = |side: &Side| [side.namespace.name.clone(), side.object.to_string()];
    let ([_, source_object], [target_namespace, target_object]) = (option(source), option(target));
    let role = format!("pgmove-{}", source.namespace.name);
    let complete = apply(
        &source.namespace,
        &[
            ["--source", &source_object, "--source-secret", "immich-secrets", "--target", &target_object],
            ["--target-namespace", &target_namespace, "--for", "run,volumes", "--name", &role],
        ]
        .concat(),
    );
    for side in &sides {
        let instance = Box::pin(side.reach(complete.clone())).await.expect("these rights are enough");
        let DataVolume::Claim(storage) = instance.data else { panic!("{instance:?}") };
        assert_eq!(storage.reclaim_policy, ReclaimPolicy::Retain);
        for (single, kubeconfig) in without_one_each(&side.namespace, &side.rights(Way::Connect)).await {
            match Box::pin(side.reach(kubeconfig)).await {
                Ok(instance) => {
                    assert!(is_of_later_versions(&single), "{single:?} is not needed");
                    let DataVolume::Claim(storage) = instance.data else { panic!("{instance:?}") };
                    let ReclaimPolicy::Unknown(reason) = storage.reclaim_policy else {
                        panic!("{storage:?}")
                    };
                    assert!(reason.contains("persistentvolumes"), "{reason}");
                }
                Err(error) => assert!(error.contains(&single.lack()), "{single:?}: {error}"),
            }
        }
    }
    for kind in ["clusterrole", "clusterrolebinding"] {
        source.namespace.kubectl(&["delete", kind, &role]);
    }
    remove_volume(&source.namespace, "immich-postgres-data");
    remove_volume(&target.namespace, "immich-postgres-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_and_the_secrets_of_the_operator_need_rights_of_their_own() {
    let namespace = Cluster::get().namespace();
    cluster(&namespace);
    namespace.lead("immich-postgres-1", &Server::shared(18));
    let enabled = json!({ "spec": { "enableSuperuserAccess": true } }).to_string();
    let object = "clusters.postgresql.cnpg.io/immich-postgres";
    namespace.kubectl(&["patch", object, "--type=merge", "--patch", &enabled]);
    let login = json!({ "username": "postgres", "password": PASSWORD });
    secret(&namespace, "immich-postgres-superuser", &login);
    let side =
        Side { namespace, object: "cluster/immich-postgres".parse().expect("an object"), uri: String::new() };
    let at = PodPort {
        namespace: side.namespace.name.clone(),
        pod: "immich-postgres-1".into(),
        uid: String::new(),
        container: "postgres".into(),
        port: 5432,
    };
    let work = async |kubeconfig: PathBuf| {
        let server = connect(&kubeconfig, &side.namespace.name).await;
        let run = Exec { at: &at, command: &["true"], input: b"", stall: Duration::from_secs(20) };
        exec(&server, &run).await.map_err(|error| describe_chain(&error))?;
        let route = Route::new(server, side.object.clone(), None);
        authority(&route).await.map_err(|error| describe_chain(&error))?;
        let found =
            conninfo(route, None, Account::Superuser).await.map_err(|error| describe_chain(&error))?;
        assert_eq!(found.user(), "postgres");
        Ok::<_, String>(())
    };
    let words = ["--target", "cluster/immich-postgres", "--for"];
    let complete = apply(&side.namespace, &[&words[..], &["run,exec,superuser,verify-full"]].concat());
    work(complete).await.expect("these rights are enough");

    let all = [Way::Exec, Way::Superuser, Way::VerifyFull, Way::Connect].map(|way| side.rights(way)).concat();
    let is_operators = |name: &str| name.ends_with("-superuser") || name.ends_with("-ca");
    for (single, kubeconfig) in without_one_each(&side.namespace, &all).await {
        // Those for the connection have a test of their own.
        let is_meant = single.resource == "pods/exec" || single.name.as_deref().is_some_and(is_operators);
        if is_meant && !is_of_later_versions(&single) {
            let error = work(kubeconfig).await.expect_err("a right is missing");
            assert!(error.contains(&single.lack()), "{single:?}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_needs_rights_of_its_own() {
    let (namespace, database) = (Cluster::get().namespace(), Server::shared(18).database());
    cluster(&namespace);
    let stand_in = StandInOperator::start(&namespace, &database.server);
    let object: ObjectRef = "cluster/immich-postgres".parse().expect("an object");
    let side = Side { namespace, object, uri: String::new() };
    let work = async |kubeconfig: PathBuf, run: &str| {
        let server = connect(&kubeconfig, &side.namespace.name).await;
        let route = Arc::new(Route::new(server, side.object.clone(), None));
        let operator = Operator { route, database: database.name.clone() };
        let wanted = [WantedExtension { name: "plpgsql".to_owned(), schema: None }];
        let stop = CancellationToken::new();
        operator.probe(&database.name).await.map_err(|error| describe_chain(&error))?;
        let made = operator.create(run, &database.name, &wanted, &stop).await;
        made.map_err(|error| describe_chain(&error))
    };
    let words = ["--target", "cluster/immich-postgres", "--for", "operator"];
    work(apply(&side.namespace, &words), "run").await.expect("these rights are enough");

    let all = side.rights(Way::Operator);
    for (number, (single, kubeconfig)) in
        without_one_each(&side.namespace, &all).await.into_iter().enumerate()
    {
        let error = work(kubeconfig, &format!("run-{number}")).await.expect_err("a right is missing");
        assert!(error.contains(&single.lack()), "{single:?}: {error}");
        // What an account could not remove would be in the next one's way.
        side.namespace.kubectl(&["delete", "databases.postgresql.cnpg.io", "--all"]);
    }
    assert_eq!(all.len(), 5);
    stand_in.end();
}

/// By the API server's own word, without trying.
#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_missing_is_told_by_name() {
    let object: ObjectRef = "cluster/immich-postgres".parse().expect("an object");
    let behind = Behind { object: &object, secret: None };
    let of_move = [Way::Connect, Way::Exec, Way::Superuser, Way::Operator, Way::VerifyFull];
    for ways in [&of_move[..], &[Way::Freeze], &[Way::Rollback], &[Way::Discover]] {
        let namespace = Cluster::get().namespace();
        let every: Vec<Right> =
            ways.iter().flat_map(|way| rights(*way, &behind, Place::Application)).collect();
        for (single, kubeconfig) in without_one_each(&namespace, &singles(&namespace.name, &every)).await {
            let server = connect(&kubeconfig, &namespace.name).await;
            let of_resource = every.iter().filter(|right| right.resources.contains(&single.resource));
            let of_resource: Vec<Right> = of_resource.cloned().collect();
            let found = lacking(&server, &namespace.name, &of_resource).await.expect("every account may ask");
            let told: Vec<_> = found
                .iter()
                .map(|right| (right.verbs[0], right.resources[0], right.names.first().cloned()))
                .collect();
            let missing = (single.verb, single.resource, single.name.clone());
            let expected = if is_of_later_versions(&single) { vec![] } else { vec![missing] };
            assert_eq!(told, expected, "{single:?}");
        }
    }
}

/// What docs/kubernetes.md shows is what is printed.
/// The rules that are printed for a way of working.
fn printed_rules(way: &str) -> Vec<String> {
    let sides = [
        "--source=sts/immich-postgres",
        "--source-secret=immich-postgres",
        "--target=cluster/immich-postgres",
    ];
    let mut command = pgmove();
    command.args(["rbac", "-n", "media", "--service-account=pgmove", "--for", way]).args(sides);
    let output = String::from_utf8(command.output().expect("pgmove runs").stdout).expect("UTF-8");
    let rules =
        output.split_once("rules:\n- ").and_then(|(_, rest)| rest.split_once("---\n")).expect("a Role").0;
    rules.trim_end().split("\n- ").map(str::to_owned).collect()
}

#[test]
fn the_rules_of_each_way_in_the_document_are_those_that_are_printed() {
    let document = include_str!("../../../docs/kubernetes.md");
    let block =
        document.split("```\n").find(|block| block.starts_with("# --for ")).expect("a block of rules");
    let mut ways = vec![];
    for of_way in block.split("# --for ").skip(1) {
        let (way, rules) = of_way.split_once("\n- ").expect("rules");
        let way = way.split(',').next().expect("a way");
        let mut printed = printed_rules(way);
        if way == "init" {
            let of_run = printed_rules("run");
            printed.retain(|rule| !of_run.contains(rule));
        }
        assert_eq!(rules.trim_end().split("\n- ").collect::<Vec<_>>(), printed, "{way}");
        ways.push(way);
    }
    assert_eq!(ways, ["superuser", "operator", "exec", "verify-full", "volumes", "pods", "init"]);
    assert_eq!(printed_rules("client"), printed_rules("exec"));
}

#[test]
fn the_roles_of_the_document_are_those_that_are_printed() {
    let document = include_str!("../../../docs/kubernetes.md");
    let mut shown = 0;
    for block in document.split("```").skip(1).step_by(2) {
        let Some((command, role)) =
            block.trim_start().strip_prefix("$ pgmove rbac ").and_then(|rest| rest.split_once('\n'))
        else {
            continue;
        };
        let output = pgmove().arg("rbac").args(command.split_whitespace()).output().expect("pgmove runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), role, "{command}");
        shown += 1;
    }
    assert!(shown > 1, "{shown}");
}
