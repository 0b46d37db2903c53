//! Discovery on the real API server: what stands behind an object, and errors that lead on.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use pgmove::error::Fault;
use pgmove::kubernetes::{
    Access, Account, ApiError, ApiServer, Cause, Change, ClusterError, ClusterLook, CredentialError,
    Credentials, DataVolume, Instance, Kubeconfig, LoginError, Orphan, Owner, Pinned, ReclaimPolicy, Request,
    ResolveError, Route, SharedMemory, authority, conninfo,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::cnpg::{self, report, secret};
use super::namespace::stateful_set;
use super::{Cluster, Namespace};

/// What no error and no value may print.
pub(super) const PASSWORD: &str = "kM4:9$x/pa ss";

pub(super) async fn connect(kubeconfig: &Path, namespace: &str) -> ApiServer {
    let access = Access {
        kubeconfig: Kubeconfig::File(kubeconfig.to_owned()),
        context: None,
        namespace: Some(namespace.to_owned()),
    };
    ApiServer::connect(&access).await.expect("the kubeconfig of the tests")
}

/// The way to an object, by the administrator.
async fn route(namespace: &Namespace, object: &str) -> Route {
    let server = connect(&namespace.cluster.kubeconfig, &namespace.name).await;
    Route::new(server, object.parse().expect("an object"), None)
}

/// A claim that is bound to a volume of its own, which outlives it.
pub(super) fn claim(namespace: &Namespace, name: &str) {
    let volume = format!("{}-{name}", namespace.name);
    let of_size = json!({ "storage": "1Gi" });
    let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": volume }, "spec": {
            "capacity": of_size, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "", "hostPath": { "path": "/nowhere" },
        } },
        { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name }, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
            "resources": { "requests": of_size },
        } },
    ] });
    namespace.apply(&objects.to_string());
    namespace.kubectl(&[
        "wait",
        "--for=jsonpath={.status.phase}=Bound",
        "--timeout=60s",
        &format!("pvc/{name}"),
    ]);
}

/// Removes the volumes that [`claim`] made; they are in no namespace.
pub(super) fn remove_volume(namespace: &Namespace, name: &str) {
    let volume = format!("{}-{name}", namespace.name);
    namespace.kubectl(&["delete", "persistentvolume", &volume, "--wait=false"]);
}

/// A legacy server as Flux applies it: a login from a Secret and a ConfigMap, a claim, an exporter beside it.
pub(super) fn legacy(namespace: &Namespace) {
    claim(namespace, "immich-postgres-data");
    secret(namespace, "immich-secrets", &json!({ "DB_USERNAME": "immich", "DB_PASSWORD": PASSWORD }));
    let mut set = stateful_set("immich-postgres");
    set["metadata"]["labels"] = json!({
        "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    let spec = &mut set["spec"]["template"]["spec"];
    let from_secret = |key: &str| json!({ "secretKeyRef": { "name": "immich-secrets", "key": key } });
    spec["containers"][0]["image"] = "docker.io/tensorchord/pgvecto-rs:pg14-v0.2.0".into();
    spec["containers"][0]["env"] = json!([
        { "name": "POSTGRES_USER", "valueFrom": from_secret("DB_USERNAME") },
        { "name": "POSTGRES_PASSWORD", "valueFrom": from_secret("DB_PASSWORD") },
        { "name": "POSTGRES_DB", "valueFrom": { "configMapKeyRef": { "name": "immich-settings", "key": "database" } } },
    ]);
    spec["containers"][0]["resources"] = json!({ "limits": { "memory": "2Gi" } });
    spec["containers"][0]["volumeMounts"] = json!([
        { "name": "data", "mountPath": "/var/lib/postgresql/data" }, { "name": "shm", "mountPath": "/dev/shm" },
    ]);
    let exporter = json!({ "name": "exporter", "image": "exporter", "ports": [{ "containerPort": 9187 }] });
    spec["containers"].as_array_mut().expect("a list").insert(0, exporter);
    spec["volumes"] = json!([
        { "name": "data", "persistentVolumeClaim": { "claimName": "immich-postgres-data" } },
        { "name": "shm", "emptyDir": { "medium": "Memory", "sizeLimit": "128Mi" } },
    ]);
    let settings = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "immich-settings" },
        "data": { "database": "photos" },
    });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "database" }, "spec": {
        "selector": { "app": "immich-postgres" }, "ports": [{ "port": 5432, "targetPort": "postgres" }],
    } });
    for object in [&settings, &service, &set] {
        namespace.apply(&object.to_string());
    }
    namespace.ready_pod("immich-postgres-0");
}

#[tokio::test]
async fn the_server_behind_each_kind_of_object_is_found() {
    let namespace = Cluster::get().namespace();
    legacy(&namespace);
    let uid = namespace.ready_pod("immich-postgres-0");
    for object in
        ["sts/immich-postgres", "statefulset.apps/immich-postgres", "pod/immich-postgres-0", "svc/database"]
    {
        let route = route(&namespace, object).await;
        let (instance, found) =
            Instance::look(&route).await.unwrap_or_else(|error| panic!("{object}: {error}"));
        let at = &instance.at;
        assert_eq!((&*at.pod, &*at.container, at.port), ("immich-postgres-0", "postgres", 5432), "{object}");
        assert_eq!((&at.uid, &at.namespace), (&uid, &namespace.name), "{object}");
        assert_eq!(instance.image, "docker.io/tensorchord/pgvecto-rs:pg14-v0.2.0");
        assert_eq!(instance.workload, Some("sts/immich-postgres".parse().expect("an object")), "{object}");
        let (namespace_of_flux, name) = ("flux-system".to_owned(), "apps".to_owned());
        assert_eq!(
            instance.owners,
            [Owner::Kustomization { namespace: namespace_of_flux, name }],
            "{object}"
        );
        assert_eq!(instance.limits.memory, Some(2 << 30));
        assert_eq!(instance.limits.shared_memory, SharedMemory::Limited(128 << 20));
        let DataVolume::Claim(storage) = &instance.data else { panic!("{object}: {:?}", instance.data) };
        assert_eq!((&*storage.claim, storage.capacity), ("immich-postgres-data", Some(1 << 30)));
        assert_eq!(storage.reclaim_policy, ReclaimPolicy::Retain);

        let login = Credentials::find(&route.server, &found, None).await.expect("a login");
        assert_eq!((&*login.user.value, &*login.database.value), ("immich", "photos"));
        assert_eq!(login.password.as_ref().expect("a password").value.expose_secret(), PASSWORD);
        assert!(!format!("{login:?} {instance:?} {found:?} {route:?}").contains(PASSWORD));
    }
    remove_volume(&namespace, "immich-postgres-data");
}

#[tokio::test]
async fn the_server_of_a_deployment_is_found() {
    let namespace = Cluster::get().namespace();
    let mut deployment = stateful_set("db");
    deployment["kind"] = "Deployment".into();
    deployment["spec"].as_object_mut().expect("an object").remove("serviceName");
    namespace.apply(&deployment.to_string());
    namespace.kubectl(&["wait", "--for=condition=Available", "--timeout=60s", "deployment/db"]);
    let (instance, _) = Instance::look(&route(&namespace, "deploy/db").await).await.expect("a server");
    assert!(instance.at.pod.starts_with("db-"), "{:?}", instance.at);
    assert_eq!(instance.data, DataVolume::InContainer);
    assert_eq!(instance.owners, []);
    let (same, _) =
        Instance::look(&route(&namespace, &format!("pod/{}", instance.at.pod)).await).await.expect("it");
    assert_eq!(same.workload, Some("deploy/db".parse().expect("an object")));

    // Another pod with its labels is none of its own.
    let beside = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "beside", "labels": { "app": "db" } },
        "spec": { "containers": [{ "name": "postgres", "image": "postgres:15" }] } });
    namespace.apply(&beside.to_string());
    namespace.ready_pod("beside");
    assert_eq!(route(&namespace, "deploy/db").await.resolve().await.expect("its own").pod, instance.at.pod);

    namespace.kubectl(&["scale", "deployment/db", "--replicas=0"]);
    namespace.kubectl(&["wait", "--for=delete", "--timeout=60s", &format!("pod/{}", instance.at.pod)]);
    let error = route(&namespace, "deploy/db").await.resolve().await.expect_err("it is scaled to 0");
    assert!(matches!(error, ResolveError::NoPod { replicas: 0, .. }), "{error}");
    assert!(!error.is_retryable() && error.hint().is_some_and(|hint| hint.contains("--replicas=1")));
}

/// The request that was refused, if that is what an error is about.
fn refused(error: &ApiError) -> Option<Request> {
    matches!(error.cause, Cause::Forbidden { .. }).then(|| (*error.request).clone())
}

/// What discovery of a legacy server reads; what it lacks the right for, if so.
async fn discover(route: &Route) -> Result<Instance, Request> {
    let (instance, found) = Instance::look(route).await.map_err(|error| match &error {
        ResolveError::Api(error) => refused(error).unwrap_or_else(|| panic!("{error}: {}", error.cause)),
        error => panic!("{error}"),
    })?;
    match Credentials::find(&route.server, &found, None).await {
        Ok(_) => Ok(instance),
        Err(CredentialError::Object { cause, .. }) => {
            Err(refused(&cause).unwrap_or_else(|| panic!("{cause}: {}", cause.cause)))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn each_missing_right_is_named_and_its_rule_grants_it() {
    let namespace = Cluster::get().namespace();
    legacy(&namespace);
    let mut rules = Vec::new();
    let instance = loop {
        let account = namespace.account("reader", &json!(rules));
        let server = connect(&account, &namespace.name).await;
        let route = Route::new(server, "sts/immich-postgres".parse().expect("an object"), None);
        if let Some(last) = rules.last() {
            // Rules take a moment to reach the authorizer.
            let request = wanted(last, &namespace.name);
            while !route.server.may(&request).await.expect("every account may ask") {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        match discover(&route).await {
            Ok(instance) => break instance,
            Err(request) => {
                assert!(!route.server.may(&request).await.expect("every account may ask"), "{request}");
                let rule = json!({
                    "apiGroups": [request.group], "resources": [request.resource], "verbs": [request.verb],
                });
                assert!(!rules.contains(&rule), "the rule for \"{request}\" did not grant it");
                rules.push(rule);
            }
        }
    };
    let words: Vec<String> =
        rules.iter().map(|rule| format!("{} {}", rule["verbs"][0], rule["resources"][0])).collect();
    assert_eq!(
        words.iter().map(|words| words.replace('"', "")).collect::<Vec<_>>(),
        ["get statefulsets", "list pods", "get persistentvolumeclaims", "get secrets", "get configmaps"]
    );
    // Volumes are in no namespace, so a Role cannot grant them; the move goes without.
    let DataVolume::Claim(storage) = instance.data else { panic!("{:?}", instance.data) };
    let ReclaimPolicy::Unknown(rule) = storage.reclaim_policy else { panic!("{:?}", storage.reclaim_policy) };
    assert!(rule.starts_with("a ClusterRole with this rule") && rule.contains("persistentvolumes"), "{rule}");
    remove_volume(&namespace, "immich-postgres-data");
}

/// The request that a rule grants.
fn wanted(rule: &Value, namespace: &str) -> Request {
    let text = |field: &str| rule[field][0].as_str().expect("one").to_owned();
    let verb =
        ["get", "list"].into_iter().find(|verb| rule["verbs"][0] == *verb).expect("a verb that is read with");
    let (group, resource) = (text("apiGroups"), text("resources"));
    Request { verb, group, resource, kind: String::new(), namespace: Some(namespace.to_owned()), name: None }
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let (here, elsewhere) = (Cluster::get().namespace(), Cluster::get().namespace());
    here.stateful_set("database");
    elsewhere.stateful_set("immich-postgres");
    let error =
        route(&here, "sts/immich-postgres").await.resolve().await.expect_err("it is in another namespace");
    assert_eq!(
        error.to_string(),
        format!("could not get StatefulSet immich-postgres in namespace {}", here.name)
    );
    let hint = error.hint().expect("a hint");
    assert!(hint.contains(&format!("namespace {} has database", here.name)), "{hint}");
    assert!(hint.contains(&elsewhere.name), "{hint}");

    let server = connect(&here.cluster.kubeconfig, &here.name).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("postgresql.example.org", "v1", "Cluster"));
    let error = server.get::<DynamicObject>(&kind, &here.name, "x").await.expect_err("no such kind");
    assert_eq!(error.cause.to_string(), "the cluster has no resource clusters.postgresql.example.org");
}

#[tokio::test]
async fn expired_credentials_and_credential_plugins_are_told_apart() {
    let namespace = Cluster::get().namespace();
    namespace.stateful_set("db");
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }]);
    let account = fs::read(namespace.account("reader", &rules)).expect("a kubeconfig");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("kubeconfig");
    let get = async |user: Value| {
        let mut config: Value = serde_json::from_slice(&account).expect("it is written as JSON");
        config["users"][0]["user"] = user;
        fs::write(&file, config.to_string()).expect("a file of a temporary directory");
        connect(&file, &namespace.name).await.get::<Pod>(&(), &namespace.name, "db-0").await
    };
    let error = get(json!({ "token": "expired" })).await.expect_err("no such token");
    assert!(matches!(error.cause, Cause::Unauthorized), "{}", error.cause);
    assert!(error.hint().is_some_and(|hint| hint.contains("log in")));

    let token = serde_json::from_slice::<Value>(&account).expect("JSON")["users"][0]["user"]["token"].clone();
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "token": token },
    });
    let answer = directory.path().join("answer");
    fs::write(&answer, credential.to_string()).expect("a file of a temporary directory");
    let plugin = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [answer], "interactiveMode": "Never",
    } });
    get(plugin).await.expect("the plugin's token is good");
}

#[tokio::test]
async fn a_workload_that_is_gone_is_brought_up_again_on_its_claim() {
    let namespace = Cluster::get().namespace();
    claim(&namespace, "data-immich-postgres-0");
    let gone = route(&namespace, "sts/immich-postgres").await;
    let ResolveError::Api(error) = gone.resolve().await.expect_err("it is gone") else {
        panic!("another error")
    };
    assert!(error.is_not_found());
    let orphans = Orphan::look(&gone).await.expect("claims can be listed");
    let [orphan] = &orphans[..] else { panic!("{orphans:?}") };
    assert_eq!(orphan.storage.claim, "data-immich-postgres-0");

    namespace.apply(&orphan.manifest().replace("IMAGE", "postgres:15"));
    namespace.ready_pod(&orphan.pod());
    let (instance, _) =
        Instance::look(&route(&namespace, &format!("pod/{}", orphan.pod())).await).await.expect("a server");
    assert!(matches!(instance.data, DataVolume::Claim(storage) if storage == orphan.storage));
    assert_eq!(Orphan::look(&gone).await.expect("claims can be listed"), [], "a pod uses it now");
    remove_volume(&namespace, "data-immich-postgres-0");
}

#[tokio::test]
async fn a_replaced_pod_is_noticed() {
    let namespace = Cluster::get().namespace();
    namespace.stateful_set("db");
    let route = route(&namespace, "sts/db").await;
    let pinned = Pinned::look(&route).await.expect("a server");
    assert_eq!(pinned.changes(&Pinned::look(&route).await.expect("a server")), []);
    namespace.replace_pod("db-0");
    let changes = pinned.changes(&Pinned::look(&route).await.expect("a server"));
    assert_eq!(changes, [Change::Replaced { pod: "db-0".to_owned() }]);
}

/// The Cluster of a fixture, and a Secret of the legacy application beside it.
pub(super) fn cluster(namespace: &Namespace) {
    cnpg::cluster(namespace, &cnpg::Login { user: "immich", password: PASSWORD, database: "immich" });
    secret(namespace, "immich-secrets", &json!({ "DB_PASSWORD": PASSWORD }));
}

#[tokio::test]
async fn a_cluster_is_looked_at_without_a_right_on_any_secret() {
    let namespace = Cluster::get().namespace();
    cluster(&namespace);
    cnpg::enable_superuser(&namespace, PASSWORD);
    let rules = json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
        { "apiGroups": ["postgresql.cnpg.io"], "resources": ["clusters"], "verbs": ["get"] },
    ]);
    let server = connect(&namespace.account("looker", &rules), &namespace.name).await;
    let route = Route::new(server, "cluster/immich-postgres".parse().expect("an object"), None);
    let look = ClusterLook::look(&route).await.expect("a Cluster");
    assert_eq!(look.unready, [""; 0]);
    assert_eq!(look.primary.at.pod, "immich-postgres-1");
    assert_eq!((look.major, look.instances, look.ready_instances), (Some(16), 2, 2));
    assert_eq!((look.storage_size, look.memory_limit), (Some(10 << 30), Some(2 << 30)));
    assert_eq!((look.shared_memory_limit, &*look.database), (Some(256 << 20), "immich"));
}

#[tokio::test]
async fn the_logins_of_a_cluster_are_those_of_its_secrets() {
    let namespace = Cluster::get().namespace();
    cluster(&namespace);
    let route = route(&namespace, "cluster/immich-postgres").await;
    let login = async |secret: Option<&str>, account| {
        let secret = secret.map(|text| text.parse().expect("a Secret"));
        conninfo(route.clone(), secret.as_ref(), account).await
    };
    let found = login(None, Account::Application).await.expect("its own");
    assert_eq!((found.user(), found.database()), ("immich", "immich"));
    assert_eq!(authority(&route).await.expect("a certificate").value, "certificate");
    assert!(!format!("{found:?}").contains(PASSWORD));

    let error =
        login(Some("immich-secrets"), Account::Application).await.expect_err("a legacy application's");
    assert!(matches!(error, LoginError::Cluster(ClusterError::NotTheApplications { .. })), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.ends_with("immich-postgres-app")));
    // Keys that are named are heeded, and not passed over.
    secret(&namespace, "own", &json!({ "role": "immich", "pw": PASSWORD, "db": "photos" }));
    let found = login(Some("own:user=role,password=pw,database=db"), Account::Application).await;
    assert_eq!(found.expect("its keys").database(), "photos");
    let error = login(Some("own:user=role"), Account::Application).await.expect_err("no such key");
    assert!(error.to_string().ends_with("it has no key password"), "{error}");

    let error = login(None, Account::Superuser).await.expect_err("the operator's default");
    assert!(matches!(error, LoginError::Cluster(ClusterError::NoSuperuser { .. })), "{error}");
    cnpg::enable_superuser(&namespace, PASSWORD);
    assert_eq!(login(None, Account::Superuser).await.expect("it is enabled").user(), "postgres");
}

#[tokio::test]
async fn a_switchover_is_waited_for_and_noticed() {
    let namespace = Cluster::get().namespace();
    cluster(&namespace);
    let route = route(&namespace, "cluster/immich-postgres").await;
    let pinned = Pinned::look(&route).await.expect("a server");
    assert_eq!(pinned.system_identifier.as_deref(), Some("7585905211943043090"));

    report(&namespace, &json!({ "targetPrimary": "immich-postgres-2", "phase": "Switchover in progress" }));
    let error = route.resolve().await.expect_err("the primary changes");
    assert!(matches!(error, ResolveError::Switchover { .. }) && error.is_retryable(), "{error}");

    report(&namespace, &json!({ "currentPrimary": "immich-postgres-2", "timelineID": 2 }));
    assert_eq!(route.resolve().await.expect("a primary").pod, "immich-postgres-2");
    let changes = pinned.changes(&Pinned::look(&route).await.expect("a server"));
    assert!(changes.iter().all(Change::is_retryable), "{changes:?}");
    let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "pod immich-postgres-2 has taken over from pod immich-postgres-1",
            "the server was promoted, from timeline 1 to 2",
        ]
    );

    report(&namespace, &json!({ "systemID": "7585905211943043091" }));
    let changes = pinned.changes(&Pinned::look(&route).await.expect("a server"));
    assert!(changes.iter().any(|change| !change.is_retryable()), "{changes:?}");
}

#[tokio::test]
async fn a_pod_of_a_cluster_that_its_operator_makes_again_is_waited_for() {
    let namespace = Cluster::get().namespace();
    cluster(&namespace);
    let route = route(&namespace, "cluster/immich-postgres").await;
    let pinned = Pinned::look(&route).await.expect("a server");
    namespace.kubectl(&["delete", "pod", "immich-postgres-1"]);
    let error = route.resolve().await.expect_err("there is none");
    assert!(matches!(error, ResolveError::NoPod { .. }) && error.is_retryable(), "{error}");
    cnpg::instance(&namespace, "immich-postgres-1", 5432);
    let changes = pinned.changes(&Pinned::look(&route).await.expect("a server"));
    assert_eq!(changes, [Change::Replaced { pod: "immich-postgres-1".to_owned() }]);
}
