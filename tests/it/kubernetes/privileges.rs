//! What needs a superuser on a Cluster: by which way it goes is tried before the run, and told.

use std::{sync::Arc, time::Duration};

use pgmove::{
    error::Fault as _,
    kubernetes::{Psql, PsqlError, Route},
};
use serde_json::json;

use super::cnpg;
use super::endpoints::World;
use super::moving::SOURCE;
use super::stand_in::{Loss, StandIn};
use crate::support::{Database, Ended, Move, PASSWORD, Server, leftovers, state};

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
    // No Secret, and a pod that has no programs: the check says both.
    dry_run(&[]).assert(
        3,
        &["[extension-needs-superuser]", "offers no login of postgres", "psql in its pod cannot be run: "],
    );
    let by_secret = dry_run(&["--target-privileges=secret"]);
    by_secret.assert(3, &["offers no login of postgres", "enableSuperuserAccess: true"]);
    dry_run(&["--target-privileges=exec"]).assert(3, &["pod immich-postgres-1"]);

    world.namespace.lead("immich-postgres-1", &world.target.server);
    let psql =
        format!("admin psql as postgres in the pod of cluster/immich-postgres in {}", world.namespace.name);
    dry_run(&[]).assert(0, &[&psql, "as admin: EXTENSION vchord"]);
    dry_run(&["--target-privileges=none"]).assert(3, &["[extension-needs-superuser]"]);
    cnpg::enable_superuser(&world.namespace, PASSWORD);
    let login = format!("admin postgres@cluster/immich-postgres in {}/", world.namespace.name);
    dry_run(&[]).assert(0, &[&login, "as admin: EXTENSION vchord"]);

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
    let run = without_admin(&world, source);
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
    refused.assert(3, &["[extension-needs-superuser]", "offers no login of postgres", &may_not, "pods/exec"]);
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
    for input in (2000..).step_by(61) {
        stand_in.lose(Loss { input, ..Loss::NONE });
        match psql.run(statements).await {
            Ok(()) => break,
            Err(error) => {
                assert!(error.is_retryable() || matches!(error, PsqlError::Refused { .. }), "{error}")
            }
        }
        assert_eq!(tables(), "0", "cut after {input} bytes");
        cuts += 1;
    }
    assert!(cuts > 3, "{cuts} cuts");
    assert_eq!((tables().as_str(), database.admin_psql("SELECT name FROM two").as_str()), ("2", ":x\\y"));

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
