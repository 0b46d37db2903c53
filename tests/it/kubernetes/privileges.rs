//! What needs a superuser on a Cluster: by which way it goes is tried before the run, and told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use pgmove::{
    error::Fault as _,
    kubernetes::{Psql, PsqlError, Route},
};
use serde_json::{Value, json};

use super::Namespace;
use super::cnpg;
use super::endpoints::World;
use super::moving::SOURCE;
use super::stand_in::{Loss, StandIn};
use crate::support::{Database, Ended, Move, PASSWORD, Server, leftovers, psql, state};

/// A move into a Cluster for which nobody names a superuser.
fn without_admin(world: &World, source: &Database) -> Move {
    let mut run = world.to_move(source);
    run.admin = None;
    run
}

/// Who owns the extensions that the target got: whoever has made them.
fn owners(target: &Database) -> String {
    target.admin_psql(
        "SELECT string_agg(DISTINCT extowner::regrole::text, ' ') FROM pg_extension WHERE extname ~ '^v'",
    )
}

#[test]
fn a_superuser_is_found_by_the_secret_or_by_psql_in_the_pod_and_told_before_the_run() {
    let (source, before) = (&SOURCE.0, &SOURCE.1);
    let world = World::of(source);
    let run = without_admin(&world, source);
    let dry_run = |more: &[&str]| -> Ended { run.run(&[&["--dry-run"], more].concat()) };
    // No Secret, and a pod that has no programs.
    let by_secret = dry_run(&["--target-privileges=secret"]);
    by_secret.assert(3, &["offers no login of postgres", "enableSuperuserAccess: true"]);
    dry_run(&["--target-privileges=exec"]).assert(3, &["pod immich-postgres-1"]);
    dry_run(&[]).assert(0, &["by the operator, from a Database resource: EXTENSION vchord"]);

    world.namespace.lead("immich-postgres-1", &world.target.server);
    let psql =
        format!("admin psql as postgres in the pod of cluster/immich-postgres in {}", world.namespace.name);
    dry_run(&["--target-privileges=exec"]).assert(0, &[&psql, "as admin: EXTENSION vchord"]);
    dry_run(&["--target-privileges=none"]).assert(3, &["[extension-needs-superuser]"]);
    cnpg::enable_superuser(&world.namespace, PASSWORD);
    let login = format!("admin postgres@cluster/immich-postgres in {}/", world.namespace.name);
    dry_run(&["--target-privileges=secret"]).assert(0, &[&login, "as admin: EXTENSION vchord"]);

    // Where all three are ways, the first is taken, and the next where that is none: the operator takes no second Database.
    let by_operator = dry_run(&[]);
    by_operator.assert(0, &["by the operator, from a Database resource: EXTENSION vchord"]);
    assert!(!by_operator.output.contains("as admin: EXTENSION"), "{}", by_operator.output);
    let own = json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Database", "metadata": { "name": "photos" },
        "spec": { "cluster": { "name": "immich-postgres" }, "name": world.target.name, "owner": world.target.name },
    });
    world.namespace.apply(&own.to_string());
    dry_run(&[]).assert(0, &[&login, "as admin: EXTENSION vchord"]);
    world.namespace.kubectl(&["delete", "databases.postgresql.cnpg.io", "photos"]);

    run.run(&["--target-privileges=exec"]).assert(0, &["equal: "]);
    assert_eq!(leftovers(&world.target), "");
    assert_eq!(owners(&world.target), "postgres");
    state(&world.target).assert_equal(before);
    let report = run.report();
    assert!(
        report.to_string().contains("psql as postgres in the pod of cluster/immich-postgres"),
        "{report}"
    );
}

#[test]
fn a_run_that_was_killed_goes_on_with_psql_in_the_pod() {
    let (source, before) = (&SOURCE.0, &SOURCE.1);
    let world = World::of(source);
    world.namespace.lead("immich-postgres-1", &world.target.server);
    let run = without_admin(&world, source).with("--target-privileges=exec");
    let mut running = run.start(&[]);
    assert!(running.reaches("schema"), "{}", running.output());
    running.kill();
    run.run(&["--resume"]).assert(0, &["equal: "]);
    assert_eq!(leftovers(&world.target), "");
    state(&world.target).assert_equal(before);
}

#[test]
fn an_account_that_may_not_exec_is_told_so() {
    let source = &SOURCE.0;
    let world = World::of(source);
    world.namespace.lead("immich-postgres-1", &world.target.server);
    let rules = json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] },
        { "apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"] },
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] },
        { "apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get"] },
        { "apiGroups": ["postgresql.cnpg.io"], "resources": ["clusters"], "verbs": ["get"] },
    ]);
    let account = world.namespace.account("mover", &rules);
    let run = without_admin(&world, source).with(&format!("--target-kubeconfig={}", account.display()));
    let refused = run.run(&["--dry-run"]);
    let may_not = format!("account system:serviceaccount:{}:mover may not", world.namespace.name);
    let no_operator = format!(
        "extensions cannot be left to the operator: could not list Databases in namespace {}",
        world.namespace.name
    );
    let phrases =
        ["[extension-needs-superuser]", &no_operator, "offers no login of postgres", &may_not, "pods/exec"];
    refused.assert(3, &phrases);
}

/// Stands in for the operator, as `database_controller.go` of CloudNative-PG 1.28 does it: makes the extensions of each Database
/// as a superuser, and reports it.
pub(super) struct StandInOperator {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Value>>>,
}

impl StandInOperator {
    pub(super) fn start(namespace: &Namespace, server: &Server) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (cluster, name, over) = (namespace.cluster, namespace.name.clone(), Arc::clone(&is_over));
        let uri = server.uri("DATABASE");
        let thread = thread::spawn(move || {
            let kubectl =
                |arguments: &[&str]| cluster.try_kubectl(&[&["--namespace", &name], arguments].concat(), "");
            let mut followed: Vec<Value> = Vec::new();
            while !over.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(200));
                let listed = kubectl(&["get", "databases.postgresql.cnpg.io", "--output=json"]);
                let Ok(listed) = listed else { continue };
                let listed: Value = serde_json::from_str(&listed).expect("kubectl prints JSON");
                for object in listed["items"].as_array().expect("a list") {
                    let (metadata, spec) = (&object["metadata"], &object["spec"]);
                    if object["status"]["observedGeneration"] == metadata["generation"] {
                        continue;
                    }
                    let uri = uri.replace("DATABASE", spec["name"].as_str().expect("a name"));
                    let text = |value: &Value| value.as_str().expect("a text").to_owned();
                    let reports = spec["extensions"].as_array().expect("a list").iter().map(|extension| {
                        let schema =
                            extension.get("schema").map(|schema| format!(" SCHEMA {}", text(schema)));
                        let statement = format!(
                            "CREATE EXTENSION IF NOT EXISTS {}{}",
                            text(&extension["name"]),
                            schema.unwrap_or_default()
                        );
                        match psql(&uri, &statement) {
                            Ok(_) => json!({ "name": extension["name"], "applied": true }),
                            Err(error) => {
                                json!({ "name": extension["name"], "applied": false, "message": error })
                            }
                        }
                    });
                    let reports: Vec<Value> = reports.collect();
                    let is_applied = reports.iter().all(|report| report["applied"] == true);
                    let mut status = json!({ "applied": is_applied, "extensions": reports });
                    if is_applied {
                        status["observedGeneration"] = metadata["generation"].clone();
                    }
                    let object_name = format!("databases.postgresql.cnpg.io/{}", text(&metadata["name"]));
                    let patch = json!({ "status": status }).to_string();
                    let reported = kubectl(&[
                        "patch",
                        &object_name,
                        "--subresource=status",
                        "--type=merge",
                        "--patch",
                        &patch,
                    ]);
                    if reported.is_ok() && is_applied {
                        followed.push(spec.clone());
                    }
                }
            }
            followed
        });
        StandInOperator { is_over, thread: Some(thread) }
    }

    pub(super) fn end(mut self) -> Vec<Value> {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.take().expect("it is ended once").join().expect("it does not panic")
    }
}

impl Drop for StandInOperator {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

#[test]
fn extensions_are_left_to_the_operator_and_its_resource_goes_with_that() {
    let (source, before) = (&SOURCE.0, &SOURCE.1);
    let world = World::of(source);
    let (namespace, target) = (&world.namespace, &world.target);
    let run = without_admin(&world, source).with("--target-privileges=database").with("-v");
    let planned = "by the operator, from a Database resource: EXTENSION vchord";
    run.run(&["--dry-run"]).assert(0, &[planned]);
    let databases = || namespace.kubectl(&["get", "databases.postgresql.cnpg.io", "--output=name"]);
    assert_eq!(databases(), "", "a dry run makes none");

    // What a killed run has left that nobody goes on with is named at once: the operator would follow no second one.
    let left = json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Database",
        "metadata": { "name": "pgmove-killed", "labels": { "app.kubernetes.io/managed-by": "pgmove" } },
        "spec": { "cluster": { "name": "immich-postgres" }, "name": target.name, "owner": target.name },
    });
    namespace.apply(&left.to_string());
    let refused = run.run(&[]);
    refused.assert(3, &["Database pgmove-killed manages", "kubectl delete database pgmove-killed"]);
    namespace.kubectl(&["delete", "databases.postgresql.cnpg.io", "pgmove-killed"]);

    let operator = StandInOperator::start(namespace, &target.server);
    run.run(&[]).assert(0, &["equal: ", "has the operator create"]);
    let followed = operator.end();
    let [spec] = &followed[..] else { panic!("{followed:?}") };
    assert_eq!((&spec["name"], &spec["owner"]), (&json!(target.name), &json!(target.name)));
    assert_eq!(spec["databaseReclaimPolicy"], "retain");
    assert_eq!(databases(), "", "it is gone");
    assert_eq!(leftovers(target), "");
    assert_eq!(owners(target), "postgres");
    state(target).assert_equal(before);

    // Another Database manages the database: the operator would take no second one.
    let own = json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Database", "metadata": { "name": "photos" },
        "spec": { "cluster": { "name": "immich-postgres" }, "name": target.name, "owner": target.name },
    });
    namespace.apply(&own.to_string());
    let refused = run.run(&["--dry-run"]);
    refused.assert(3, &["Database photos manages database", "spec.extensions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_for_psql_are_carried_out_as_a_whole_or_not_at_all() {
    let database = Server::shared(18).database();
    // Until the verdict a target refuses writes by default.
    database.psql(&format!("ALTER DATABASE {} SET default_transaction_read_only TO on", database.name));
    let stand_in = StandIn::start(&[("new-1", database.server.port)]);
    stand_in.lead(&database.server);
    let object = "pod/new-1".parse().expect("an object");
    let psql = Psql {
        route: Arc::new(Route::new(stand_in.reach().server().await, object, None)),
        database: database.name.clone(),
        application_name: "it's a \\ test".into(),
        stall: Duration::from_secs(20),
    };
    let tables = || database.admin_psql("SELECT count(*) FROM pg_tables WHERE tablename IN ('one', 'two')");
    let statements =
        "CREATE TABLE public.one (id integer);\nCREATE TABLE public.two AS SELECT ':x\\y' AS name";
    let mut cuts = 0;
    // What comes first only pins settings.
    for input in (include_str!("../../../sql/session/pin.sql").len()..).step_by(9) {
        stand_in.lose(Loss { input, ..Loss::NONE });
        let Err(error) = psql.run(statements).await else { break };
        assert!(error.is_retryable() || matches!(error, PsqlError::Refused { .. }), "{error}");
        match &*tables() {
            "0" => cuts += 1,
            // Nothing but the last line break was missing.
            "2" => break,
            some => panic!("{some} of two tables after {input} bytes"),
        }
    }
    assert!(cuts > 10, "{cuts} cuts");
    assert_eq!(tables(), "2");
    assert_eq!(database.admin_psql("SELECT name FROM two"), ":x\\y");

    stand_in.lose(Loss::NONE);
    let error =
        psql.run("CREATE TABLE public.three (id integer);\nSELECT 1/0").await.expect_err("it is refused");
    assert!(error.to_string().ends_with("22012: division by zero"), "{error}");
    assert_eq!(database.admin_psql("SELECT to_regclass('three') IS NULL"), "t");
    let query =
        "SELECT application_name AS name, $1 AS given FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let rows: Vec<serde_json::Value> = psql.ask(query, &["a 'b' \\ \n c"]).await.expect("an answer");
    assert_eq!(rows, [json!({ "name": "it's a \\ test", "given": "a 'b' \\ \n c" })]);
}
