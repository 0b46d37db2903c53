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
    if let Some(context) = cluster.context.as_deref().or(source.context.as_deref()) {
        key(&mut out, "context", context);
    }
    let namespaces = [source, target].map(|side| &*side.instance.at.namespace);
    key(&mut out, "namespace", namespaces[0]);
    let is_apart = namespaces[0] != namespaces[1];
    described(&mut out, "source", source, false);
    described(&mut out, "target", target, is_apart);
    comment(
        &mut out,
        "What needs a superuser there, extensions above all, is done by the Cluster's operator, by its superuser's Secret or by psql\n\
         in its primary's pod, the first that there is; `pgmove check` tells which. Another superuser: target-admin = \"postgres://…\"",
    );
    out.push_str(RUN);
    out
}

fn described(out: &mut String, name: &str, side: &Side<'_>, is_apart: bool) {
    let Side { object, options, login, instance, cluster, .. } = side;
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
    comment(out, &format!("Database {}, as role {}.", login.database(), login.user()));
    comment(out, &data(&instance.data));
    if !instance.owners.is_empty() {
        let owners: Vec<String> = instance.owners.iter().map(ToString::to_string).collect();
        comment(out, &format!("Looked after by {}.", owners.join(", ")));
    }
    key(out, name, &object.to_string());
    let own = [
        ("namespace", is_apart.then(|| instance.at.namespace.clone())),
        ("context", options.context.map(str::to_owned)),
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
# Further workloads to stop, which are not connected now:
# workload = \"cronjob/backup\"

# Make the source refuse writes too, whoever comes (`pgmove unfence` lifts it).
fence = true

# If the run does not end with 0: \"keep\" leaves both for `pgmove run --resume`, \"rollback\" lets the application run on the
# source again at once.
on-failure = \"keep\"

# A compressed dump of what is moved, beside the move (`pgmove restore` loads it anywhere). It must not exist yet.
# archive = \"/backup/before-the-window\"
";
