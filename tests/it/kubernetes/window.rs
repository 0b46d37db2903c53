//! A run that freezes, fences, moves and verifies as one, and the ways back, by the whole program.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use super::Namespace;
use super::cluster::eventually;
use super::cnpg;
use super::endpoints::World;
use super::moving::SOURCE;
use crate::support::{Cut, Database, Ended, Fault, Move, Proxy, Server, leftovers, pgmove, psql, state};

/// An application of two pods, and what would write at night.
pub(super) fn application(namespace: &Namespace) {
    namespace.apply(&workloads().to_string());
    is_ready(namespace);
}

/// What it is made of.
pub(super) fn workloads() -> Value {
    let template = json!({
        "metadata": { "labels": { "app": "immich-server" } },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [{ "name": "main", "image": "immich:1" }] },
    });
    let job = json!({ "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "backup:1" }] } });
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "immich-server" }, "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": "immich-server" } }, "template": template,
        } },
        { "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "backup" }, "spec": {
            "schedule": "0 3 * * *", "jobTemplate": { "spec": { "template": job } },
        } },
    ] })
}

/// Waits for its pods.
pub(super) fn is_ready(namespace: &Namespace) {
    eventually("the application is ready", || {
        (namespace.get("deployment/immich-server")?["status"]["readyReplicas"] == 2).then_some(())
    });
}

/// Replicas of the application, and whether its CronJob is suspended.
pub(super) fn standing(namespace: &Namespace) -> (Value, Value) {
    let spec = |object: &str| namespace.get(object).expect("it is there")["spec"].take();
    (
        spec("deployment/immich-server")["replicas"].take(),
        spec("cronjob/backup").get_mut("suspend").map_or(json!(false), Value::take),
    )
}

pub(super) fn source(more: &str) -> Database {
    let source = Server::shared(15).database();
    source.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY); INSERT INTO photo SELECT generate_series(1, 1000)",
    );
    if !more.is_empty() {
        source.psql(more);
    }
    source
}

pub(super) fn frozen(world: &World, source: &Database) -> Move {
    let mut run = world.to_move(source);
    run.admin = None;
    run.options.extend(WINDOW.map(str::to_owned));
    run
}

/// The options of a run that freezes the application.
pub(super) const WINDOW: [&str; 5] =
    ["--freeze", "--fence", "--workload=deploy/immich-server", "--workload=cronjob/backup", "--patience=60"];

pub(super) fn refuses_writes(source: &Database) -> bool {
    psql(&source.uri(), "INSERT INTO photo VALUES (0); DELETE FROM photo WHERE id = 0")
        .is_err_and(|error| error.contains("read-only transaction"))
}

#[test]
fn a_run_freezes_fences_moves_and_verifies_as_one() {
    let source = source("");
    let world = World::of(&source);
    application(&world.namespace);
    let before = state(&source);

    let mut dry = frozen(&world, &source);
    dry.options.retain(|option| option != "--fence");
    dry.run(&["--dry-run"]).assert(0, &["immich-server", "spec.replicas: 2 -> 0", "photo"]);
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)), "a dry run changes nothing");

    let run = frozen(&world, &source);
    run.run(&[]).assert(0, &["equal: ", "the application is frozen still", "pgmove rollback", "--run-dir"]);
    assert_eq!(standing(&world.namespace), (json!(0), json!(true)));
    assert!(refuses_writes(&source));
    assert_eq!(leftovers(&world.target), "");
    state(&world.target).assert_equal(&before);

    let run_dir = run.run_dir().display().to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    world.pgmove(directory.path(), &["rollback", "--run-dir", &run_dir]).assert(0, &["immich-server"]);
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)));
}

#[test]
fn a_tunnel_that_stands_still_for_a_while_disturbs_no_window() {
    let source = source("");
    let world = World::of(&source);
    application(&world.namespace);
    let delay = Duration::from_secs(4);
    // In the midst of the rows, and before the first.
    for (proxy, (words, bytes)) in world.proxies.iter().zip([("TO STDOUT", 3000), ("FROM STDIN", 0)]) {
        proxy.set(Fault { words, spared: 0, cut: Cut::DelayAnswer(bytes, delay), times: 1 });
    }
    let ended = frozen(&world, &source).run(&[]);
    ended.assert(0, &["equal: "]);
    assert!(!ended.output.contains("retry"), "{}", ended.output);
    assert_eq!(world.proxies.each_ref().map(Proxy::fired), [1, 1]);
}

/// Holds on the source's server, and on no newer one.
pub(super) const OLD_SERVERS_ONLY: &str =
    "ALTER TABLE photo ADD CHECK (current_setting('server_version_num')::integer < 180000)";

#[test]
fn a_run_that_fails_says_the_way_back_or_goes_it() {
    let source = source(OLD_SERVERS_ONLY);
    let world = World::of(&source);
    application(&world.namespace);
    let run = frozen(&world, &source);
    run.run(&[])
        .assert(5, &["the application is frozen still", "the source is fenced still", "pgmove rollback"]);
    assert_eq!(standing(&world.namespace), (json!(0), json!(true)));
    assert!(refuses_writes(&source));
    let status = pgmove().args(["status", "--run-dir"]).arg(run.run_dir()).output().expect("pgmove runs");
    let status = String::from_utf8(status.stdout).expect("UTF-8");
    let status = status.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains("are frozen; to put them back: pgmove rollback"), "{status}");

    // What was frozen and fenced is known, whether or not that is asked for again.
    let mut run = run;
    run.options
        .retain(|option| !["--freeze", "--fence"].contains(&&**option) && !option.starts_with("--workload"));
    run.options.retain(|option| !option.starts_with("--patience"));
    let gone_back = run.run(&["--resume", "--on-failure=rollback"]);
    gone_back.assert(6, &["what was frozen is put back", "the fence was lifted"]);
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)));
    assert!(!refuses_writes(&source));
}

#[test]
fn a_run_that_cannot_find_its_servers_again_says_what_stands() {
    let source = source(OLD_SERVERS_ONLY);
    let world = World::of(&source);
    application(&world.namespace);
    let run = frozen(&world, &source);
    run.run(&[]).assert(5, &["--resume"]);
    world.namespace.kubectl(&["delete", "secret", "immich-secrets"]);
    let way = format!("pgmove rollback -n {} --run-dir", world.namespace.name);
    run.run(&["--resume"]).assert(
        5,
        &[
            "could not get Secret immich-secrets",
            "the application is frozen still",
            &way,
            "the source is fenced still",
            "--resume",
        ],
    );
    // A run of that object which nobody has named.
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("pgmove-runs")).expect("a directory");
    fs::rename(run.run_dir(), directory.path().join("pgmove-runs/photos")).expect("another place");
    let sides = ["run", "--resume", "--source=sts/immich-postgres", "--target=cluster/immich-postgres"];
    world
        .pgmove(directory.path(), &sides)
        .assert(5, &["the application is frozen still", "pgmove-runs/photos"]);
}

#[test]
fn a_run_that_is_refused_leaves_the_application_as_it_was() {
    let source = source("");
    let world = World::of(&source);
    application(&world.namespace);
    let run = frozen(&world, &source);
    // Another run works on the target.
    let lock = include_str!("../../../sql/session/lock.sql");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let other = runtime.block_on(world.target.connect());
    runtime.block_on(other.batch_execute(lock)).expect("nobody holds it");
    run.run(&[]).assert(
        3,
        &["another pgmove works on database", "the fence was lifted again", "what was frozen is put back"],
    );
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)));
    assert!(!refuses_writes(&source));
    run.assert_left_only_a_report();
}

/// The application is not stopped for a run that is refused.
#[test]
fn a_run_by_a_plan_is_refused_before_anything_is_frozen() {
    let source = source("");
    let world = World::of(&source);
    application(&world.namespace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sides = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];
    let freeze = ["--freeze", "--workload=deploy/immich-server"];
    let planned =
        world.pgmove(directory.path(), &[&["plan", "--save=plan.json"], &sides[..], &freeze].concat());
    planned.assert(0, &["immich-server", "spec.replicas: 2 -> 0", "the plan is in plan.json"]);
    source.psql("ALTER TABLE photo ADD name text");
    let mut run = frozen(&world, &source);
    run.options.retain(|option| !option.starts_with("--jobs") && option != "--fence");
    let plan = format!("--plan={}", directory.path().join("plan.json").display());
    let refused = run.run(&[&plan]);
    refused.assert(3, &["plan-changed", "columns of public.photo have changed"]);
    assert!(!refused.output.contains("put back"), "nothing was frozen: {}", refused.output);
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)));
}

/// Long enough for a test to look for the copy.
const SLOW: &str = "CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one FROM pg_sleep(3)";

#[test]
fn a_run_whose_application_is_started_again_stops_without_a_verdict() {
    let source = source(SLOW);
    let world = World::of(&source);
    application(&world.namespace);
    let run = frozen(&world, &source);
    let mut running = run.start(&[]);
    assert!(running.reaches("copy"), "{}", running.output());
    world.namespace.kubectl(&["scale", "deployment/immich-server", "--replicas=1"]);
    let ended = running.wait();
    ended.assert(5, &["was changed during the freeze: spec.replicas is 1", "--resume"]);
    assert!(!ended.output.contains("equal: "), "{}", ended.output);

    // Gone on with, it freezes again, and the value that goes back is the first one.
    run.run(&["--resume"]).assert(0, &["equal: "]);
    assert_eq!(standing(&world.namespace), (json!(0), json!(true)));
}

#[test]
fn a_freeze_that_is_broken_before_the_first_write_is_why_the_run_ends() {
    let world = World::of(&SOURCE.0);
    application(&world.namespace);
    // Nobody plays the operator, who is waited for.
    let mut run = frozen(&world, &SOURCE.0).with("--target-privileges=database");
    run.options.retain(|option| option != "--fence");
    let mut running = run.start(&[]);
    eventually("the operator is asked", || {
        assert!(running.is_running(), "{}", running.output());
        let databases = world.namespace.kubectl(&["get", "databases.postgresql.cnpg.io", "--output=name"]);
        (!databases.is_empty()).then_some(())
    });
    world.namespace.kubectl(&["scale", "deployment/immich-server", "--replicas=1"]);
    let ended = running.wait();
    ended.assert(
        3,
        &["error: ", "was changed during the freeze: spec.replicas is 1", "not everything is as it was"],
    );
    assert_eq!(standing(&world.namespace), (json!(1), json!(false)));
    assert_eq!(leftovers(&world.target), "");
}

#[test]
fn init_check_run_and_rollback_need_nothing_but_a_namespace() {
    let source = source("");
    let world = World::of(&source);
    application(&world.namespace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = |arguments: &[&str]| world.pgmove(directory.path(), arguments);
    here(&["init"]).assert(0, &["pgmove.toml is written", "postInitSQL ran in database postgres"]);
    let written = fs::read_to_string(directory.path().join("pgmove.toml")).expect("a file");
    for line in ["source = \"sts/immich-postgres\"", "target = \"cluster/immich-postgres\"", "freeze = true"]
    {
        assert!(written.lines().any(|found| found == line), "{written}");
    }
    for words in ["PostgreSQL ", "timeline ", "system identifier ", "memory: ", "/dev/shm: "] {
        assert!(written.contains(words), "no {words:?} in {written}");
    }
    assert!(!written.contains(Database::PASSWORD), "{written}");
    here(&["init"]).assert(2, &["pgmove.toml is there already", "--file"]);

    // From here on, not even the namespace is said.
    let plain = |arguments: &[&str]| {
        let output = pgmove().current_dir(directory.path()).args(arguments).output().expect("pgmove runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        Ended { code: output.status.code(), output: text }
    };
    plain(&["check"]).assert(0, &["postInitSQL ran in database postgres"]);
    plain(&["run", "--dry-run", "--workload=deploy/immich-server"]).assert(0, &["spec.replicas: 2 -> 0"]);
    plain(&["run", "--workload=deploy/immich-server"]).assert(0, &["equal: ", "frozen still"]);
    assert_eq!(standing(&world.namespace).0, json!(0));
    plain(&["verify"]).assert(0, &["equal: "]);
    plain(&["rollback"]).assert(0, &["immich-server"]);
    assert_eq!(standing(&world.namespace).0, json!(2));
    plain(&["unfence"]).assert(0, &["accepts writes as before"]);
}

#[test]
fn a_proven_run_is_not_rolled_back_by_a_later_process() {
    let source = source("");
    let world = World::of(&source);
    application(&world.namespace);
    let mut run = frozen(&world, &source);
    run.options.push("--on-failure=rollback".into());
    run.run(&[]).assert(0, &["equal: "]);
    // The application may be on the target by now, whose database cannot be reached at this moment.
    world.namespace.kubectl(&["delete", "secret", "immich-postgres-app"]);
    cnpg::secret(
        &world.namespace,
        "immich-postgres-app",
        &json!({ "username": world.target.name, "password": "wrong", "dbname": world.target.name, "host": "immich-postgres-rw" }),
    );
    let again = run.run(&["--resume"]);
    assert!(again.code.is_some_and(|code| code != 0 && code != 6), "{}", again.output);
    assert_eq!(standing(&world.namespace), (json!(0), json!(true)), "{}", again.output);
    assert!(refuses_writes(&source));
}

const SIDES: [&str; 2] = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];

/// An application that `pgmove freeze` has stopped, and the directory that it was started in.
fn frozen_by_hand(source: &Database) -> (World, tempfile::TempDir) {
    let world = World::of(source);
    application(&world.namespace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    world
        .pgmove(directory.path(), &["freeze", SIDES[0], "--workload=deploy/immich-server"])
        .assert(0, &["frozen; put it back with"]);
    assert_eq!(standing(&world.namespace).0, json!(0));
    (world, directory)
}

#[test]
fn a_run_takes_over_the_freeze_that_was_made_in_its_directory() {
    let source = source("");
    let (world, directory) = frozen_by_hand(&source);
    let here = |arguments: &[&str]| world.pgmove(directory.path(), arguments);
    let [from, to] = SIDES;
    // The same directory as a run's, by the name of the database.
    let run_dir = directory.path().join("pgmove-runs").join(&source.name);
    assert!(run_dir.is_dir());
    for arguments in [&["check", from, to, "--freeze"][..], &["run", from, to, "--freeze", "--dry-run"]] {
        let looked = here(arguments);
        looked.assert(0, &[]);
        assert!(!looked.output.contains("is frozen by"), "{}", looked.output);
    }
    // Another directory is another run's.
    here(&["run", from, to, "--freeze", "--workload=deploy/immich-server", "--run-dir=other"])
        .assert(3, &["[freeze-obstacle]", "is frozen by run", "--run-dir"]);
    assert_eq!(standing(&world.namespace).0, json!(0));

    here(&["run", from, to, "--freeze"]).assert(0, &["equal: ", "the application is frozen still"]);
    assert_eq!(standing(&world.namespace).0, json!(0));
    let run_dir = run_dir.display().to_string();
    here(&["rollback", "--run-dir", &run_dir, "--source-context=nowhere"])
        .assert(2, &["has no context \"nowhere\""]);
    here(&["rollback", "--run-dir", &run_dir]).assert(0, &["spec.replicas: 0 -> 2"]);
    assert_eq!(standing(&world.namespace).0, json!(2));
}

#[test]
fn a_run_that_is_refused_leaves_the_freeze_that_it_has_taken_over() {
    let source = source("");
    let (world, directory) = frozen_by_hand(&source);
    let here = |arguments: &[&str]| world.pgmove(directory.path(), arguments);
    let [from, to] = SIDES;
    let run_dir = directory.path().join("pgmove-runs").join(&source.name);
    let journal = || fs::read_to_string(run_dir.join("journal.jsonl")).expect("a journal");
    let before = journal();
    // Another run works on the target.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let other = runtime.block_on(world.target.connect());
    let lock = include_str!("../../../sql/session/lock.sql");
    runtime.block_on(other.batch_execute(lock)).expect("nobody holds it");
    let run = ["run", from, to, "--freeze", "--fence", "--workload=cronjob/backup"];
    let way = format!("-n {} --run-dir pgmove-runs/{}", world.namespace.name, source.name);
    here(&run).assert(
        3,
        &[
            "another pgmove works on database",
            "what the run itself has frozen is put back",
            "the fence was lifted again",
            "the application is frozen still",
            &way,
        ],
    );
    assert_eq!(standing(&world.namespace), (json!(0), json!(false)), "as `pgmove freeze` has left it");
    assert!(!refuses_writes(&source));
    assert_eq!(journal(), before);

    // Unless it was asked to go back, of which the journal knows too.
    let back = here(&[&run[..], &["--on-failure=rollback"]].concat());
    back.assert(3, &["another pgmove works on database", "what was frozen is put back"]);
    assert!(!back.output.contains("frozen still"), "{}", back.output);
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)));
    let added = journal().strip_prefix(&before).expect("what was there before").to_owned();
    assert!(added.contains(r#""record":"thawed""#) && added.contains("immich-server"), "{added}");
}

#[test]
fn a_freeze_that_was_taken_over_goes_back_with_its_run() {
    let source = source(OLD_SERVERS_ONLY);
    let (world, directory) = frozen_by_hand(&source);
    let here = |arguments: &[&str]| world.pgmove(directory.path(), arguments);
    let [from, to] = SIDES;
    here(&["run", from, to, "--freeze"]).assert(5, &["the application is frozen still"]);
    assert_eq!(standing(&world.namespace).0, json!(0));
    // Whether or not that is asked for again, it is held, and goes back.
    here(&["run", from, to, "--resume", "--on-failure=rollback"]).assert(6, &["what was frozen is put back"]);
    assert_eq!(standing(&world.namespace).0, json!(2));
}
