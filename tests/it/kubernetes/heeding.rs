//! What stands in Kubernetes is heeded before the window: by `pgmove check`, and by a run that nobody has checked.

use std::path::Path;

use serde_json::{Value, json};

use super::cluster::eventually;
use super::cnpg::{self, report, secret};
use super::endpoints::{World, small};
use super::rbac::apply;
use super::window::{application, standing};
use super::{Cluster, Namespace};
use crate::support::{Database, Ended, PASSWORD, leftovers, pgmove};

const SIDES: [&str; 2] = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];
const FREEZE: [&str; 2] = ["--freeze", "--workload=deploy/immich-server"];

/// What an account is to have for a whole window.
pub(super) fn account(world: &World, purposes: &str) -> std::path::PathBuf {
    let sides = ["--source", "sts/immich-postgres", "--target", "cluster/immich-postgres"];
    apply(&world.namespace, &[&sides[..], &["--source-secret", "immich-secrets", "--for", purposes]].concat())
}

/// A command on the objects of a world, by this account, and what it has printed on both streams.
pub(super) fn run(world: &World, kubeconfig: &Path, arguments: &[&str]) -> Ended {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = pgmove();
    command.current_dir(&directory).args(arguments).args(["--namespace", &world.namespace.name]);
    let output = command.arg("--kubeconfig").arg(kubeconfig).output().expect("pgmove runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    Ended { code: output.status.code(), output: text }
}

/// The findings of a check.
pub(super) fn findings(world: &World, kubeconfig: &Path, more: &[&str]) -> Vec<Value> {
    let arguments = [&["--output=json", "check"], &SIDES[..], more].concat();
    let ended = run(world, kubeconfig, &arguments);
    let result =
        ended.output.lines().find(|line| line.starts_with("{\"result\"")).expect("a result").to_owned();
    let result: Value = serde_json::from_str(&result).expect("a line of JSON");
    result["result"]["findings"].as_array().cloned().unwrap_or_default()
}

pub(super) fn named<'a>(found: &'a [Value], id: &str) -> Vec<&'a Value> {
    found.iter().filter(|finding| finding["id"] == id).collect()
}

/// Waits until rules of a Role have reached the authorizer.
pub(super) fn may(namespace: &Namespace, account: &str, verb: &str, resource: &str, more: &[&str]) {
    let (of, name) = (format!("--as=system:serviceaccount:{account}"), &namespace.name);
    let asked = [&["-n", name, "auth", "can-i", verb, resource, &of], more].concat();
    eventually(&format!("{account} may {verb} {resource}"), || {
        namespace.cluster.try_kubectl(&asked, "").ok().map(drop)
    });
}

#[test]
fn rights_that_a_freeze_lacks_where_flux_is_are_found_and_the_role_that_is_printed_adds_them() {
    let source = small();
    let world = World::of(&source);
    application(&world.namespace);
    let flux = Cluster::get().namespace();
    flux.apply(
        &json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "metadata": { "name": "fleet" },
            "spec": { "interval": "1h", "prune": true, "sourceRef": { "kind": "GitRepository", "name": "fleet" } },
        })
        .to_string(),
    );
    let [name, place] = ["name=fleet".to_owned(), format!("namespace={}", flux.name)]
        .map(|label| format!("kustomize.toolkit.fluxcd.io/{label}"));
    world.namespace.kubectl(&["label", "deployment/immich-server", &name, &place]);
    let mover = account(&world, "run,freeze,rollback,operator");
    let freezing = [&["run"], &SIDES[..], &FREEZE, &["--fence"]].concat();

    // Not even the plan can be made: an error of the freeze is no check that nothing has found anything in.
    let found = findings(&world, &mover, &FREEZE);
    let refused = named(&found, "freeze-refused");
    assert_eq!((refused.len(), &refused[0]["severity"]), (1, &json!("blocking")), "{found:#?}");
    assert!(refused[0]["evidence"].as_str().is_some_and(|seen| seen.contains("may not get kustomizations")));
    run(&world, &mover, &freezing).assert(3, &["[freeze-refused]", "may not get kustomizations"]);

    // It can be made, and not be carried out.
    let rules = json!([{ "apiGroups": ["*"], "resources": ["kustomizations", "imageupdateautomations"], "verbs": ["get", "list"] }]);
    let subject = json!({ "kind": "ServiceAccount", "name": "mover", "namespace": world.namespace.name });
    let group = "rbac.authorization.k8s.io";
    let metadata = json!({ "name": "reader" });
    flux.apply(
        &json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata, "rules": rules },
            { "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata, "subjects": [subject],
              "roleRef": { "apiGroup": group, "kind": "Role", "name": "reader" } },
        ] })
        .to_string(),
    );
    let mover_name = format!("{}:mover", world.namespace.name);
    may(&flux, &mover_name, "get", "kustomizations.kustomize.toolkit.fluxcd.io", &[]);
    let found = findings(&world, &mover, &FREEZE);
    let lacking = named(&found, "kubernetes-rights");
    let [optional, needed] = [false, true]
        .map(|is_blocking| lacking.iter().find(|found| (found["severity"] == "blocking") == is_blocking))
        .map(|found| found.unwrap_or_else(|| panic!("{lacking:#?}")));
    let text = |finding: &Value, field: &str| finding[field].as_str().expect("a text").to_owned();
    let seen = text(needed, "evidence");
    assert!(seen.contains(&format!("service account {}/mover may not", world.namespace.name)), "{seen}");
    assert!(seen.ends_with("patch kustomizations.kustomize.toolkit.fluxcd.io"), "{seen}");
    assert!(text(optional, "evidence").ends_with("watch kustomizations.kustomize.toolkit.fluxcd.io"));
    run(&world, &mover, &freezing).assert(3, &["[kubernetes-rights]", "patch kustomizations"]);
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)), "nothing is changed");

    // What is printed is what was missing.
    for finding in [needed, optional] {
        let role = text(finding, "remedy").split_once('\n').expect("a Role").1.to_owned();
        world.namespace.cluster.kubectl(&["apply", "--filename=-"], &role);
    }
    may(&flux, &mover_name, "patch", "kustomizations.kustomize.toolkit.fluxcd.io", &[]);
    may(&flux, &mover_name, "watch", "kustomizations.kustomize.toolkit.fluxcd.io", &[]);
    let found = findings(&world, &mover, &FREEZE);
    let in_the_way: Vec<_> = found.iter().filter(|found| found["severity"] == "blocking").collect();
    assert!(in_the_way.is_empty() && named(&found, "kubernetes-rights").is_empty(), "{found:#?}");
}

#[test]
fn the_roles_that_a_check_prints_are_enough_for_it() {
    let source = small();
    let world = World::of(&source);
    application(&world.namespace);
    cnpg::enable_superuser(&world.namespace, PASSWORD);
    let nobody = world.namespace.account("nobody", &json!([]));
    let more = [&FREEZE[..], &["--source-secret=immich-secrets", "--target-privileges=secret"]].concat();
    let mut rounds = vec![];
    let found = loop {
        let found = findings(&world, &nobody, &more);
        let lacking = named(&found, "kubernetes-rights");
        if lacking.is_empty() {
            break found;
        }
        for finding in lacking {
            let (words, role) =
                finding["remedy"].as_str().and_then(|text| text.split_once('\n')).expect("a Role");
            assert!(words.contains("kubectl"), "{words}");
            world.namespace.cluster.kubectl(&["apply", "--filename=-"], role);
            rounds.push(finding["evidence"].as_str().expect("a text").to_owned());
        }
        // Rules take a moment to reach the authorizer.
        assert!(rounds.len() < 40, "{rounds:#?}");
    };
    assert!(found.iter().all(|finding| finding["severity"] != "blocking"), "{found:#?}");
    // All that can be known is told at once: what connects, what freezes, what rolls back.
    for right in ["statefulsets.apps", "get pods/portforward", "leases.coordination.k8s.io"] {
        assert!(rounds[0].contains(right), "{right}: {rounds:#?}");
    }
    assert!(rounds[1].contains("watch") && rounds[1].contains("configmaps"), "{rounds:#?}");
    // What the freeze needs is no more told as what the rollback would like to have.
    assert!(rounds[0].contains("patch") && !rounds[1].contains("patch deployments"), "{rounds:#?}");
    // The names of a Cluster's Secrets stand in the Cluster.
    let secrets = "get secrets (immich-postgres-app, immich-postgres-superuser)";
    assert!(rounds.iter().any(|round| round.contains(secrets)), "{rounds:#?}");
}

#[test]
fn a_freeze_that_the_api_server_would_not_admit_is_found_before_the_window() {
    let source = small();
    let world = World::of(&source);
    let Namespace { cluster, name, .. } = &world.namespace;
    application(&world.namespace);
    let api = "admissionregistration.k8s.io/v1";
    let policies = json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name }, "spec": {
            "matchConstraints": { "resourceRules": [
                { "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"] },
            ] },
            "validations": [{ "expression": "object.spec.replicas > 0", "message": "the photos are always there" }],
        } },
        { "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name }, "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } },
        } },
    ] });
    cluster.kubectl(&["apply", "--filename=-"], &policies.to_string());
    eventually("the policy holds", || {
        let patch = "--patch={\"spec\":{\"replicas\":0}}";
        let scale = ["-n", name, "patch", "deployment/immich-server", "--dry-run=server", patch];
        cluster.try_kubectl(&scale, "").is_err().then_some(())
    });
    let found = findings(&world, &cluster.kubeconfig, &FREEZE);
    let refused = named(&found, "freeze-refused");
    assert!(refused[0]["evidence"].as_str().is_some_and(|seen| seen.contains("the photos are always there")));
    let freezing = [&["run"], &SIDES[..], &FREEZE].concat();
    run(&world, &cluster.kubeconfig, &freezing)
        .assert(3, &["[freeze-refused]", "the photos are always there"]);
    assert_eq!(standing(&world.namespace), (json!(2), json!(false)));
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        cluster.kubectl(&["delete", kind, name], "");
    }
}

#[test]
fn a_run_begins_in_no_cluster_that_is_not_ready_nor_builds_what_its_memory_does_not_hold() {
    let source = small();
    let world = World::of(&source);
    let administrator = world.namespace.cluster.kubeconfig.clone();
    let moving = [&["run"], &SIDES[..]].concat();
    let change = |spec: Value| {
        let object = "clusters.postgresql.cnpg.io/immich-postgres";
        let patch = format!("--patch={}", json!({ "spec": spec }));
        world.namespace.kubectl(&["patch", object, "--type=merge", &patch]);
    };
    report(&world.namespace, &json!({ "readyInstances": 1 }));
    change(json!({ "storage": { "size": "1Mi" } }));
    let found = findings(&world, &administrator, &[]);
    change(json!({ "storage": { "size": "10Gi" } }));
    // The image of the source's pod is postgres:15, its data are in the container, and the Cluster has no backup.
    for (id, severity) in [
        ("cluster-unready", "blocking"),
        ("floating-image", "warning"),
        ("source-data-not-kept", "warning"),
        ("extensions-in-postgres", "warning"),
        ("no-backup", "warning"),
        ("target-volume-small", "warning"),
    ] {
        let of_id = named(&found, id);
        assert!(of_id.len() == 1 && of_id[0]["severity"] == severity, "{id}: {found:#?}");
    }
    let refused = run(&world, &administrator, &moving);
    refused.assert(3, &["[cluster-unready]", "1 of 2 instances are ready"]);
    assert_eq!(leftovers(&world.target), "");
    report(&world.namespace, &json!({ "readyInstances": 2 }));

    let limited = |memory: &str| change(json!({ "resources": { "limits": { "memory": memory } } }));
    limited("16Mi");
    let refused = run(&world, &administrator, &moving);
    refused.assert(3, &["[index-memory]", "limit 16.0 MiB"]);
    run(&world, &administrator, &[&moving[..], &["--dry-run"]].concat()).assert(3, &["[index-memory]"]);
    assert_eq!(leftovers(&world.target), "");
    limited("2Gi");
    let moved = run(&world, &administrator, &moving);
    moved.assert(0, &["equal: ", "the image of the source floats", "cluster/immich-postgres has no backup"]);
}

#[test]
fn a_whole_window_needs_exactly_the_rights_that_are_printed_for_it() {
    let source = small();
    let world = World::of(&source);
    application(&world.namespace);
    // A Secret that the account may not read.
    cnpg::enable_superuser(&world.namespace, PASSWORD);
    let mover = account(&world, "init,run,freeze,rollback,operator").display().to_string();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = |arguments: &[&str]| {
        let output = pgmove().current_dir(&directory).args(arguments).output().expect("pgmove runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        Ended { code: output.status.code(), output: text }
    };
    let found = here(&["init", "--kubeconfig", &mover]);
    found.assert(0, &["pgmove.toml is written", "[no-backup]"]);
    let checked = here(&["check", "--workload=deploy/immich-server"]);
    checked.assert(0, &["[no-backup]", "[source-data-not-kept]"]);
    for absent in ["[kubernetes-rights]", "the objects of", "[freeze-refused]"] {
        assert!(!checked.output.contains(absent), "{}", checked.output);
    }
    here(&["run", "--workload=deploy/immich-server"]).assert(0, &["equal: ", "frozen still"]);
    assert_eq!(standing(&world.namespace).0, json!(0));
    here(&["rollback"]).assert(0, &["immich-server"]);
    assert_eq!(standing(&world.namespace).0, json!(2));
    here(&["unfence"]).assert(0, &["accepts writes as before"]);
}

#[test]
fn the_secret_that_is_named_is_the_one_that_is_read_with_its_keys() {
    let source = small();
    let world = World::of(&source);
    world.namespace.kubectl(&["delete", "secret", "immich-postgres-app"]);
    secret(
        &world.namespace,
        "own",
        &json!({ "role": world.target.name, "pw": Database::PASSWORD, "db": world.target.name }),
    );
    let administrator = world.namespace.cluster.kubeconfig.clone();
    let own = "--target-secret=own:user=role,password=pw,database=db";
    let found = findings(&world, &administrator, &[own]);
    assert_eq!(named(&found, "no-backup").len(), 1, "the Cluster was looked at: {found:#?}");
    let unknown = [&["check"], &SIDES[..], &["--target-secret=own:user=role"]].concat();
    run(&world, &administrator, &unknown).assert(3, &["Secret own", "it has no key password"]);
}

#[test]
fn a_namespace_whose_server_is_gone_tells_what_it_has_left() {
    let source = small();
    let world = World::of(&source);
    world.namespace.kubectl(&["delete", "statefulset", "immich-postgres"]);
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data-immich-postgres-0" }, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    world.namespace.apply(&claim.to_string());
    eventually("its pod is gone", || world.namespace.get("pod/immich-postgres-0").is_none().then_some(()));
    let administrator = world.namespace.cluster.kubeconfig.clone();
    let gone = run(&world, &administrator, &["init"]);
    gone.assert(
        3,
        &[
            "claims that no pod uses: data-immich-postgres-0",
            "data-immich-postgres-0-revived",
            "/bitnami/postgresql",
        ],
    );
    assert!(gone.output.contains("claimName: data-immich-postgres-0"), "{}", gone.output);
}
