//! What is done before a window, on objects in Kubernetes: the scratch database is reached through the Cluster's own ways.

use serde_json::Value;

use super::cnpg;
use super::endpoints::World;
use super::moving::SOURCE;
use crate::support::{Ended, PASSWORD, leftovers, psql};

/// A command between both objects, with a superuser of the Cluster.
fn between(command: &[&str]) -> (World, tempfile::TempDir, Ended) {
    let world = World::of(&SOURCE.0);
    cnpg::enable_superuser(&world.namespace, PASSWORD);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sides = [
        "--source=sts/immich-postgres",
        "--target=cluster/immich-postgres",
        "--target-admin=cluster/immich-postgres",
    ];
    let ended = world.pgmove(directory.path(), &[command, &sides].concat());
    (world, directory, ended)
}

/// Scratch databases of the run on the target's server, which other tests use too.
fn scratch_databases(world: &World, run: &str) -> String {
    let name = format!("pgmove_{}", run.replace('-', "_"));
    let statement = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    psql(&world.target.server.uri("postgres"), &statement).expect("a running server")
}

#[test]
fn a_move_between_objects_is_rehearsed_in_the_cluster_and_leaves_nothing() {
    let (world, directory, ended) = between(&["rehearse", "--run-dir=rehearsal"]);
    ended.assert(0, &["equal: ", "vector searches", "at one moment", "the window will take about"]);
    let report = std::fs::read(directory.path().join("rehearsal/report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let run = report["run"].as_str().expect("its id");
    assert!(report["target"].to_string().contains(&format!("pgmove_{}", run.replace('-', "_"))), "{report}");
    assert_eq!(scratch_databases(&world, run), "0");
    assert_eq!(leftovers(&world.target), "");
}

#[test]
fn a_deep_check_of_objects_tries_the_definitions_in_the_cluster() {
    let (world, _directory, ended) = between(&["check", "--deep"]);
    ended.assert(0, &["nothing stands in the way"]);
    assert!(!ended.output.contains("needs --target-admin"), "{}", ended.output);
    assert_eq!(leftovers(&world.target), "");
}
