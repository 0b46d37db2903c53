//! The settings file that `pgmove init` writes.

use std::fmt::Write as _;

use clap::ValueEnum as _;

use crate::cli::endpoints::{Cluster, ObjectOptions};
use crate::kubernetes::{ClusterLook, DataVolume, Instance, ObjectRef, ReclaimPolicy};
use crate::pg::ConnInfo;
use crate::report::bytes;

/// A server as it was found.
pub(super) struct Side<'a> {
    pub(super) object: ObjectRef,
    pub(super) options: ObjectOptions<'a>,
    /// The context of the kubeconfig that leads to it.
    pub(super) context: Option<String>,
    pub(super) login: ConnInfo,
    pub(super) instance: Instance,
    pub(super) cluster: Option<ClusterLook>,
}

/// A key and its value.
fn key(out: &mut String, key: &str, value: &str) {
    // A text of JSON is one of TOML too.
    let quoted = serde_json::Value::from(value);
    let _ = writeln!(out, "{key} = {quoted}");
}

fn comment(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "# {line}");
    }
}

pub(super) fn of(cluster: &Cluster, source: &Side<'_>, target: &Side<'_>) -> String {
    let mut out = String::new();
    comment(
        &mut out,
        "Written by `pgmove init` from what it found. Every option of every command may stand here, and what is typed is\n\
         stronger; `pgmove config show` tells what holds. No password is here: logins are read from the cluster when they\n\
         are needed.",
    );
    out.push('\n');
    if let Some(file) = &cluster.kubeconfig {
        key(&mut out, "kubeconfig", &file.display().to_string());
    }
    let is_one_cluster =
        source.context == target.context && source.options.kubeconfig == target.options.kubeconfig;
    if let Some(context) = source.context.as_deref().filter(|_| is_one_cluster) {
        key(&mut out, "context", context);
    }
    let namespaces = [source, target].map(|side| &*side.instance.at.namespace);
    key(&mut out, "namespace", namespaces[0]);
    let is_apart = namespaces[0] != namespaces[1];
    described(&mut out, "source", source, !is_one_cluster, false);
    described(&mut out, "target", target, !is_one_cluster, is_apart);
    comment(
        &mut out,
        "What needs a superuser there, extensions above all, is done by the Cluster's operator, by its superuser's Secret or by psql\n\
         in its primary's pod, the first that there is; `pgmove check` tells which. Another superuser: target-admin = \"postgres://…\"",
    );
    out.push_str(RUN);
    out
}

/// A side, with its own context and its own namespace where these are not the other's.
fn described(out: &mut String, name: &str, side: &Side<'_>, has_context: bool, is_apart: bool) {
    let Side { object, options, context, login, instance, cluster } = side;
    out.push('\n');
    let words = match cluster {
        Some(look) => format!(
            "The new server: {} of {} instances, {}, primary {}.",
            look.ready_instances,
            look.instances,
            look.image.as_deref().unwrap_or(&instance.image),
            instance.at.pod
        ),
        None => format!("The legacy server: pod {}, {}.", instance.at.pod, instance.image),
    };
    comment(out, &words);
    if let Some(look) = cluster {
        comment(out, &server(look));
    }
    comment(out, &format!("Database {}, as role {}.", login.database(), login.user()));
    comment(out, &data(&instance.data));
    let owners: Vec<String> = instance.owners.iter().map(ToString::to_string).collect();
    let owners =
        if owners.is_empty() { "none of Flux, Argo CD and Helm".to_owned() } else { owners.join(", ") };
    comment(out, &format!("Looked after by {owners}."));
    key(out, name, &object.to_string());
    let own = [
        ("namespace", is_apart.then(|| instance.at.namespace.clone())),
        ("context", context.clone().filter(|_| has_context)),
        ("kubeconfig", options.kubeconfig.map(|file| file.display().to_string())),
        ("secret", options.secret.map(ToString::to_string)),
        ("container", options.container.map(str::to_owned)),
        ("database", options.database.map(str::to_owned)),
        ("sslmode", options.sslmode.and_then(|mode| Some(mode.to_possible_value()?.get_name().to_owned()))),
    ];
    for (option, value) in own {
        if let Some(value) = value {
            key(out, &format!("{name}-{option}"), &value);
        }
    }
}

/// What a Cluster says of its servers.
fn server(look: &ClusterLook) -> String {
    let limit = |limit: Option<u64>| limit.map_or("no limit".to_owned(), bytes);
    let known = [
        look.major.map(|major| format!("PostgreSQL {major}")),
        look.pinned.timeline.map(|timeline| format!("timeline {timeline}")),
        look.pinned.system_identifier.as_ref().map(|system| format!("system identifier {system}")),
        Some(format!("memory: {}", limit(look.memory_limit))),
        Some(format!("/dev/shm: {}", limit(look.shared_memory_limit))),
    ];
    known.into_iter().flatten().collect::<Vec<_>>().join(", ") + "."
}

fn data(volume: &DataVolume) -> String {
    match volume {
        DataVolume::Claim(storage) => {
            let size = storage.capacity.map_or("of unknown size".to_owned(), bytes);
            let policy = match &storage.reclaim_policy {
                ReclaimPolicy::Retain => "its volume outlives it",
                ReclaimPolicy::Delete => "its volume is deleted with it",
                ReclaimPolicy::Other(_) | ReclaimPolicy::Unknown(_) => {
                    "whether its volume outlives it is not known"
                }
            };
            format!("Its data: claim {}, {size}; {policy}.", storage.claim)
        }
        DataVolume::NoClaim(kind) => format!("Its data: a volume of kind {kind}, which no claim keeps."),
        DataVolume::InContainer => "Its data are in the container, and gone when that restarts.".to_owned(),
    }
}

const RUN: &str = "
# Stop what writes to the source, and what would start it again (`pgmove freeze --help`). It stays stopped for the cutover;
# `pgmove rollback` puts it back.
freeze = true
# Further workloads to stop, which are not connected now; with its namespace in front where that is not the source's:
# workload = [\"cronjob/backup\", \"media/deploy/immich-server\"]

# Make the source refuse writes too, whoever comes (`pgmove unfence` lifts it).
fence = true

# If the run does not end with 0: \"keep\" leaves both for `pgmove run --resume`, \"rollback\" lets the application run on the
# source again at once.
on-failure = \"keep\"

# A compressed dump of what is moved, beside the move (`pgmove restore` loads it anywhere). It must not exist yet.
# archive = \"/backup/before-the-window\"
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kubernetes::PodPort;
    use crate::kubernetes::storage::{Limits, SharedMemory};
    use crate::pg::Defaults;

    fn side<'a>(object: &str, context: &str, options: ObjectOptions<'a>) -> Side<'a> {
        let at = PodPort {
            namespace: "media".into(),
            pod: "db-0".into(),
            uid: "u-1".into(),
            container: "postgres".into(),
            port: 5432,
        };
        Side {
            object: object.parse().expect("an object"),
            options,
            context: Some(context.to_owned()),
            login: ConnInfo::parse("postgres://app@db/app", &Defaults::default()).expect("a URI"),
            instance: Instance {
                at,
                image: "postgres:16.4".into(),
                image_id: None,
                data: DataVolume::InContainer,
                limits: Limits { memory: None, shared_memory: SharedMemory::Memory },
                workload: None,
                owners: vec![],
            },
            cluster: None,
        }
    }

    #[test]
    fn who_looks_after_a_server_is_told() {
        use crate::kubernetes::owner::Owner;

        let none = Cluster { namespace: None, context: None, kubeconfig: None };
        let side = |object, owners| {
            let mut side = side(object, "home", ObjectOptions::default());
            side.instance.owners = owners;
            side
        };
        let owner = Owner::Kustomization { namespace: "flux-system".into(), name: "apps".into() };
        let text = of(&none, &side("sts/old", vec![owner.clone()]), &side("cluster/new", vec![]));
        let told: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# Looked after by ")).collect();
        assert_eq!(told, [format!("{owner}."), "none of Flux, Argo CD and Helm.".to_owned()]);
    }

    #[test]
    fn each_side_keeps_its_own_context() {
        let none = Cluster { namespace: None, context: None, kubeconfig: None };
        let own = |file| ObjectOptions { kubeconfig: Some(Path::new(file)), ..ObjectOptions::default() };
        let same = ObjectOptions::default();
        for (source, target, expected) in [
            (("home", same), ("home", same), &["context = \"home\""][..]),
            (("old", same), ("new", same), &["source-context = \"old\"", "target-context = \"new\""]),
            // A context of this name is that of each file.
            (
                ("home", own("/a")),
                ("home", own("/b")),
                &[
                    "source-context = \"home\"",
                    "source-kubeconfig = \"/a\"",
                    "target-context = \"home\"",
                    "target-kubeconfig = \"/b\"",
                ],
            ),
        ] {
            let text =
                of(&none, &side("sts/old", source.0, source.1), &side("cluster/new", target.0, target.1));
            let is_place = |line: &&str| line.contains("context =") || line.contains("kubeconfig =");
            assert_eq!(text.lines().filter(is_place).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
