//! The whole program where the application is in another namespace than its database, by accounts with the printed rights.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{
    Cluster,
    elsewhere::deployment,
    endpoints::{World, ended, small},
    freeze::replicas,
    heeding::{findings, may, named, run},
    rbac::apply,
    window::{OLD_SERVERS_ONLY, application, source, standing},
};
use crate::support::pgmove;

/// What an account is to have for a window, under a name of its own: a ClusterRole is in no namespace.
fn account(world: &World, more: &[&str]) -> PathBuf {
    let role = format!("pgmove-{}", world.namespace.name);
    let sides = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];
    let others = ["--source-secret=immich-secrets", "--name", &role];
    apply(&world.namespace, &[&sides[..], &others, more].concat())
}

#[test]
fn rights_that_a_freeze_lacks_where_applications_are_are_found_and_the_role_that_is_printed_adds_them() {
    let source = small();
    let world = World::of(&source);
    let [media, office] = [(); 2].map(|()| Cluster::get().namespace());
    for namespace in [&media, &office] {
        deployment(namespace, "server");
    }
    let address = media.give_address(&media.pod_of("server"));
    let runtime = Runtime::new().expect("a runtime");
    let _session = runtime.block_on(source.connect_from(address));
    let mover = account(&world, &["--for=run,freeze,rollback,operator,pods"]);
    // One is found, and one is named.
    let workload = format!("--workload={}/deploy/server", office.name);
    let freeze = ["--freeze", &workload];

    let found = findings(&world, &mover, &freeze);
    let lacking = named(&found, "kubernetes-rights");
    let text = |finding: &Value, field: &str| finding[field].as_str().expect("a text").to_owned();
    let needed = lacking.iter().find(|found| found["severity"] == "blocking");
    let seen = text(needed.unwrap_or_else(|| panic!("{found:#?}")), "evidence");
    for namespace in [&media, &office] {
        assert!(seen.contains(&format!("in namespace {}: list replicasets.apps", namespace.name)), "{seen}");
    }
    assert!(named(&found, "freeze-refused").is_empty(), "one reason is enough: {found:#?}");
    let sides = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];
    let refused = run(&world, &mover, &[&["run"], &sides[..], &freeze].concat());
    refused.assert(3, &["[kubernetes-rights]", "replicasets.apps"]);
    let refused = run(&world, &mover, &["freeze", sides[0], "--source-secret=immich-secrets"]);
    let place = format!("could not look at namespace {}, where Pod {}/server-", media.name, media.name);
    let next = format!("`pgmove rbac --for freeze --workload {}/KIND/NAME`", media.name);
    refused.assert(3, &[&place, "is connected", "may not list replicasets", &next]);
    assert_eq!([&media, &office].map(|namespace| replicas(namespace, "server")), [json!(1), json!(1)]);

    for finding in lacking {
        let role = text(finding, "remedy").split_once('\n').expect("a Role").1.to_owned();
        world.namespace.cluster.kubectl(&["apply", "--filename=-"], &role);
    }
    for (namespace, verb) in
        [&media, &office].into_iter().flat_map(|namespace| [(namespace, "patch"), (namespace, "watch")])
    {
        may(namespace, &format!("{}:mover", world.namespace.name), verb, "deployments.apps", &[]);
    }
    let found = findings(&world, &mover, &freeze);
    let in_the_way: Vec<_> = found.iter().filter(|found| found["severity"] == "blocking").collect();
    assert!(in_the_way.is_empty() && named(&found, "kubernetes-rights").is_empty(), "{found:#?}");
    let role = format!("pgmove-{}", world.namespace.name);
    for kind in ["clusterrole", "clusterrolebinding"] {
        media.kubectl(&["delete", kind, &role]);
    }
}

#[test]
fn a_whole_window_of_an_application_in_another_namespace_needs_exactly_the_rights_that_are_printed_for_it() {
    let source = small();
    let world = World::of(&source);
    let media = Cluster::get().namespace();
    application(&media);
    let [server, backup] =
        ["deploy/immich-server", "cronjob/backup"].map(|name| format!("{}/{name}", media.name));
    let mover = account(&world, &["--for=init,run,freeze,rollback,operator", "--workload", &server]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = |arguments: &[&str]| ended(pgmove().current_dir(&directory).args(arguments));
    let mover = mover.display().to_string();
    here(&["init", "--kubeconfig", &mover]).assert(0, &["pgmove.toml is written"]);
    let file = directory.path().join("pgmove.toml");
    let settings = fs::read_to_string(&file).expect("it is written");
    fs::write(&file, format!("{settings}workload = [\"{server}\", \"{backup}\"]\n"))
        .expect("it can be changed");

    let checked = here(&["check"]);
    checked.assert(0, &["[no-backup]"]);
    for absent in ["[kubernetes-rights]", "[freeze-refused]", "[freeze-obstacle]"] {
        assert!(!checked.output.contains(absent), "{}", checked.output);
    }
    here(&["run"]).assert(0, &["equal: ", "frozen still"]);
    assert_eq!(standing(&media), (json!(0), json!(true)));
    here(&["rollback"]).assert(0, &["immich-server"]);
    assert_eq!(standing(&media), (json!(2), json!(false)));
    assert!(world.namespace.kubectl(&["get", "leases", "--output=name"]).is_empty());
    here(&["unfence"]).assert(0, &["accepts writes as before"]);
}

#[test]
fn a_run_that_fails_puts_back_what_it_has_frozen_in_another_namespace() {
    let source = source(OLD_SERVERS_ONLY);
    let world = World::of(&source);
    let media = Cluster::get().namespace();
    application(&media);
    let server = format!("{}/deploy/immich-server", media.name);
    let mover = account(&world, &["--for=run,freeze,rollback,operator", "--workload", &server]);
    let sides = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];
    let freezing = ["--freeze", "--workload", &server, "--on-failure=rollback"];
    let gone_back = run(&world, &mover, &[&["run"], &sides[..], &freezing].concat());
    gone_back.assert(6, &["what was frozen is put back"]);
    // The Lease that lists it was found where the source is, though nothing was changed there.
    assert!(!gone_back.output.contains("cannot see whether a run works"), "{}", gone_back.output);
    assert_eq!(standing(&media), (json!(2), json!(false)));
    assert!(world.namespace.kubectl(&["get", "leases", "--output=name"]).is_empty());
}
