//! Runs between objects that go on by themselves: what the cluster tells of both servers is looked at before each stage,
//! and a login is read again when it is refused.

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::cnpg::{self, secret};
use super::endpoints::World;
use crate::support::{Database, Move, Running, Server, leftovers, psql, state, wait_until};

/// A table whose rows the target takes up to the lock that a test holds there.
pub(super) const SAMPLE: &str = "
CREATE FUNCTION gate(id integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN IF id = 500 THEN PERFORM pg_catalog.pg_advisory_xact_lock_shared(1); END IF; RETURN true; END';
CREATE TABLE photo (id integer CHECK (public.gate(id)));
INSERT INTO photo SELECT generate_series(1, 1000);
CREATE SEQUENCE counter;
";

/// The session that holds the lock.
pub(super) type Gate = (Runtime, tokio_postgres::Client);

/// A run that stands still while it copies.
pub(super) struct Scene {
    pub(super) source: Database,
    pub(super) world: World,
    pub(super) run: Move,
    pub(super) running: Running,
    pub(super) gate: Gate,
}

impl Scene {
    fn new() -> Self {
        Self::begin(|_, run| run.options.push("--accept-writes".into()))
    }

    /// With what a test makes beside the servers, and with options of its own.
    pub(super) fn begin(prepare: impl FnOnce(&World, &mut Move)) -> Self {
        let source = Server::shared(15).database();
        source.psql(SAMPLE);
        let world = World::of(&source);
        world.namespace.forward("immich-postgres-2", world.target.server.port);
        let gate = Self::close(&world.target);
        let mut run = world.to_move(&source);
        run.admin = None;
        prepare(&world, &mut run);
        let mut running = run.start(&[]);
        let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()
                     AND wait_event = 'advisory' AND application_name LIKE 'pgmove %'";
        assert!(wait_until(&mut running, &world.target, waits), "{}", running.output());
        Self { source, world, run, running, gate }
    }

    /// Has a run stand still while it copies to this database.
    pub(super) fn close(target: &Database) -> Gate {
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(target.connect());
        runtime.block_on(client.batch_execute("SELECT pg_advisory_lock(1)")).expect("nobody holds it");
        (runtime, client)
    }

    /// Lets the run go on.
    pub(super) fn open(gate: &Gate) {
        gate.0.block_on(gate.1.batch_execute("SELECT pg_advisory_unlock_all()")).expect("it is held");
    }

    #[track_caller]
    pub(super) fn assert_moved(source: &Database, target: &Database) {
        assert_eq!(leftovers(target), "");
        state(target).assert_equal(&state(source));
    }
}

#[test]
fn a_switchover_is_noticed_before_the_next_stage_and_gone_on_from() {
    let scene = Scene::new();
    let new = "immich-postgres-2";
    cnpg::report(
        &scene.world.namespace,
        &json!({ "currentPrimary": new, "targetPrimary": new, "timelineID": 2 }),
    );
    Scene::open(&scene.gate);
    scene.running.wait().assert(
        0,
        &[
            "pod immich-postgres-2 has taken over from pod immich-postgres-1",
            "the server was promoted, from timeline 1 to 2",
            "going on from the journal",
            "equal: ",
        ],
    );
    Scene::assert_moved(&scene.source, &scene.world.target);
    let journal = scene.run.journal();
    let pods = journal.iter().filter(|record| record["record"] == "pinned" && record["side"] == "target");
    let pods: Vec<&Value> = pods.map(|record| &record["server"]["at"]["pod"]).collect();
    assert_eq!(pods, ["immich-postgres-1", new]);
}

#[test]
fn another_database_cluster_behind_the_object_is_not_gone_on_with() {
    let scene = Scene::new();
    cnpg::report(&scene.world.namespace, &json!({ "systemID": "1" }));
    Scene::open(&scene.gate);
    let changed = "its system identifier was 7585905211943043090 and is 1";
    let ended = scene.running.wait();
    ended.assert(7, &["cluster/immich-postgres", changed, "start over with another --run-dir"]);
    assert!(!ended.output.contains("going on from the journal"), "{}", ended.output);
    scene.run.run(&["--resume"]).assert(7, &[changed]);
    cnpg::report(&scene.world.namespace, &json!({ "systemID": "7585905211943043090" }));
    scene.run.run(&["--resume"]).assert(0, &["equal: "]);
}

/// Gives both logins another password, on the servers and in the Secrets.
fn rotate(source: &Database, world: &World, password: &str) {
    let World { namespace, target, .. } = world;
    for database in [source, target] {
        // Where no mark forbids it.
        let statement = format!("ALTER ROLE {} PASSWORD '{password}'", database.name);
        psql(&database.server.uri("postgres"), &statement).expect("a superuser may");
    }
    secret(namespace, "immich-secrets", &json!({ "DB_USERNAME": source.name, "DB_PASSWORD": password }));
    let login = json!({ "username": target.name, "password": password, "dbname": target.name });
    secret(namespace, "immich-postgres-app", &login);
}

#[test]
fn passwords_that_are_rotated_during_a_run_are_read_again() {
    let Scene { source, world, run: _run, running, gate } = Scene::new();
    rotate(&source, &world, "rotated");
    Scene::open(&gate);
    let ended = running.wait();
    ended.assert(0, &["equal: "]);
    assert!(!ended.output.contains("rotated"), "{}", ended.output);
    rotate(&source, &world, Database::PASSWORD);
    Scene::assert_moved(&source, &world.target);
}

#[test]
fn passwords_that_are_rotated_between_a_kill_and_the_resume_are_those_of_the_secrets() {
    let Scene { source, world, run, running, gate } = Scene::new();
    running.kill();
    Scene::open(&gate);
    rotate(&source, &world, "rotated");
    run.run(&["--resume"]).assert(0, &["equal: "]);
    rotate(&source, &world, Database::PASSWORD);
    Scene::assert_moved(&source, &world.target);
}
