use clap::Parser as _;

use super::*;
use crate::cli::arguments;

fn rbac_of(typed: &str) -> Result<String, String> {
    let arguments =
        arguments::Arguments::try_parse_from(["pgmove", "rbac"].into_iter().chain(typed.split(' ')));
    let arguments::Command::Rbac(options) = arguments.expect("it is well formed").command else {
        panic!("another command")
    };
    match rbac(&options) {
        Ok(ended) => Ok(ended.content.expect("it is printed")),
        Err(error) => {
            Err(format!("{}; {}", error.chain().join(": "), error.fault.hint().unwrap_or_default()))
        }
    }
}

/// Kinds and namespaces of what is printed.
fn printed(typed: &str) -> Vec<String> {
    let text = rbac_of(typed).expect("roles");
    let word = |document: &str, key: &str| {
        let line = document.lines().find_map(|line| line.trim_start().strip_prefix(key));
        line.unwrap_or_default().trim().to_owned()
    };
    let documents = text.split("---\n");
    documents
        .map(|document| [word(document, "kind:"), word(document, "namespace:")].join(" ").trim().to_owned())
        .collect()
}

const MOVE: &str = "-n media --source sts/old --target cluster/new --user jane";

#[test]
fn there_is_one_role_for_each_namespace() {
    assert_eq!(printed(MOVE), ["Role media", "RoleBinding media"]);
    assert_eq!(
        printed(&format!(
            "{MOVE} --target-namespace photos --for run,freeze,volumes --flux-namespace flux-system"
        )),
        [
            "Role media",
            "RoleBinding media",
            "Role photos",
            "RoleBinding photos",
            "Role flux-system",
            "RoleBinding flux-system",
            "ClusterRole",
            "ClusterRoleBinding",
        ]
    );
    // An application in another namespace than the source, with Flux's objects beside it if nothing else is said.
    let elsewhere = format!("{MOVE} --for run,freeze,rollback,pods --workload photos/deploy/server");
    let expected = [
        "Role media",
        "RoleBinding media",
        "Role photos",
        "RoleBinding photos",
        "ClusterRole",
        "ClusterRoleBinding",
    ];
    assert_eq!(printed(&elsewhere), expected);
    let of_photos = |typed: &str| {
        let text = rbac_of(typed).expect("roles");
        let of_photos = |role: &&str| role.contains("namespace: photos\nrules");
        text.split("---\n").find(of_photos).expect("a Role there").to_owned()
    };
    let role = of_photos(&elsewhere);
    assert!(role.contains("helmreleases") && role.contains("cronjobs"), "{role}");
    for absent in ["\"secrets", "\"services", "\"leases", "\"pods/"] {
        assert!(!role.contains(absent), "{role}");
    }
    assert!(!of_photos(&format!("{elsewhere} --flux-namespace flux-system")).contains("helmreleases"));
    let beside = format!("{MOVE} --for freeze --workload deploy/server --workload media/sts/queue");
    assert_eq!(printed(&beside), ["Role media", "RoleBinding media"]);
    // Flux's objects beside the source; a source that is no object needs nothing.
    assert_eq!(printed(&format!("{MOVE} --for freeze,rollback")), ["Role media", "RoleBinding media"]);
    let elsewhere = MOVE.replace("sts/old", "postgres://app@old/app");
    assert_eq!(printed(&elsewhere), ["Role media", "RoleBinding media"]);
    assert!(!rbac_of(&elsewhere).expect("a role").contains("statefulsets"));
    let target = rbac_of(&format!("{MOVE} --side target --for run,freeze")).expect("a role");
    assert!(!target.contains("statefulsets") && target.contains("clusters"), "{target}");
}

#[test]
fn secrets_are_named_where_they_are_known() {
    let every = "# Any Secret of the namespace";
    let text = rbac_of(MOVE).expect("a role");
    assert!(text.starts_with(every) && !text.contains("new-app"), "{text}");
    let text = rbac_of(&format!("{MOVE} --source-secret login:password --for run,superuser,verify-full"))
        .expect("a role");
    assert!(!text.contains(every), "{text}");
    assert!(
        text.contains("resourceNames: [\"login\", \"new-app\", \"new-superuser\", \"new-ca\"]"),
        "{text}"
    );
    let text = rbac_of("-n media --target cluster/new --target-secret own --user jane").expect("a role");
    assert!(text.contains("resourceNames: [\"own\"]"), "{text}");
}

#[test]
fn client_programs_are_run_in_one_pod() {
    let exec = "\"pods/exec\"";
    for (typed, namespace) in [
        (format!("{MOVE} --target-namespace photos --for run,client"), "photos"),
        ("-n media --source sts/old --user jane --for client".to_owned(), "media"),
    ] {
        let text = rbac_of(&typed).expect("a role");
        let roles: Vec<&str> = text.split("---\n").filter(|role| role.contains(exec)).collect();
        assert!(matches!(&roles[..], [role] if role.contains(&format!("namespace: {namespace}"))), "{text}");
    }
    assert!(!rbac_of(MOVE).expect("a role").contains(exec));
}

#[test]
fn an_account_is_where_it_is_said_to_be() {
    let accounts = "--service-account pgmove --service-account jobs:mover --group movers";
    let text = rbac_of(&format!("{MOVE} {accounts}")).expect("a role");
    for expected in [
        "- kind: ServiceAccount\n  name: pgmove\n  namespace: media\n",
        "- kind: ServiceAccount\n  name: mover\n  namespace: jobs\n",
        "- apiGroup: rbac.authorization.k8s.io\n  kind: User\n  name: jane\n",
        "- apiGroup: rbac.authorization.k8s.io\n  kind: Group\n  name: movers\n",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let text = rbac_of(&format!("{MOVE} --service-account pgmove --for volumes,pods")).expect("a role");
    assert!(text.contains("  name: pgmove\n  namespace: media\n"), "{text}");
}

#[test]
fn what_is_missing_is_named() {
    for (typed, expected) in [
        (
            "--user jane",
            "no server is named that is in Kubernetes; name it as kubectl does: --source sts/NAME",
        ),
        ("--source sts/old --user jane", "the namespace of the source is not said; name it with -n"),
        ("-n media --source sts/old", "nobody is named who gets the rights; name one with --service-account"),
        (
            "-n media --source ingress/old --user jane",
            "--source names no object of Kubernetes: \"ingress\" is no kind of object",
        ),
        ("-n media --target cluster/new --user jane --for freeze", "--for freeze is about the source"),
        ("-n media --source sts/old --user jane --for exec", "--for exec is about the target"),
        ("-n media --target cluster/new --user jane --for pods", "--for pods is about the source"),
        (
            "-n media --source sts/old --user jane --for freeze --workload media/server",
            "\"media/server\" names no workload that can be frozen; write deploy/NAME",
        ),
        (
            "-n media --target sts/new --user jane --for superuser",
            "sts/new is no Cluster of CloudNative-PG, and --for superuser is about one",
        ),
    ] {
        let error = rbac_of(typed).expect_err("something is missing");
        assert!(error.contains(expected), "{error}");
    }
}
