//! What the objects in Kubernetes tell about a move: of its source's pod, of its target's Cluster.

use std::collections::BTreeMap;

use super::{Finding, blocking, note, warning};
use crate::cutover::freeze::FreezePlan;
use crate::kubernetes::cnpg::ClusterSpec;
use crate::kubernetes::rights::Right;
use crate::kubernetes::role::{Role, Subject, combined};
use crate::kubernetes::{ClusterLook, DataVolume, Instance, ReclaimPolicy, SharedMemory};
use crate::report::bytes;
use crate::schema::{ClientPlace, ClientTools};
use crate::survey::Needs;

/// What was seen in Kubernetes, and what is known of the move.
#[derive(Debug, Clone, Copy, Default)]
pub struct Objects<'a> {
    /// The source's server, if it is in a pod.
    pub source: Option<&'a Instance>,
    /// The target, if it is a Cluster.
    pub target: Option<&'a ClusterLook>,
    /// What would be frozen.
    pub freeze: Option<&'a FreezePlan>,
    /// What the target's volume must hold, where it is known.
    pub needs: Option<&'a Needs>,
    /// What the builds of indexes may take together, in bytes, where it is known.
    pub index_memory: Option<u64>,
    /// What definitions are read with, if there is anything.
    pub client_tools: Option<&'a ClientTools>,
    /// Whether somebody creates extensions that only a superuser may, where that is known.
    pub creates_extensions: Option<bool>,
}

/// All findings.
pub fn findings(objects: &Objects<'_>) -> Vec<Finding> {
    let of_source = objects.source.map(|source| [image(source, "source"), data(source)].concat());
    let of_target = objects.target.map(|target| {
        [
            unready(target),
            image(&target.primary, "target"),
            statements(target, objects.creates_extensions),
            backup(target),
            volume(&target.name, objects.needs),
            shared_memory(target, objects.index_memory),
        ]
        .concat()
    });
    let of_sides = of_source.into_iter().chain(of_target).flatten();
    let beside = objects.client_tools.and_then(client_tools);
    objects.freeze.map(obstacles).into_iter().flatten().chain(of_sides).chain(beside).collect()
}

/// A right that the account of a cluster lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Who lacks it.
    pub account: Subject,
    /// The context that leads to the cluster; none in a pod.
    pub context: Option<String>,
    /// Where.
    pub namespace: String,
    /// A verb on a resource.
    pub right: Right,
    /// Whether the move can do without.
    pub is_optional: bool,
}

/// The rights that are missing, with the Roles that add them: a finding for each account, and one more for what the move can
/// do without.
pub fn rights(missing: &[Missing]) -> Vec<Finding> {
    let key = |missing: &Missing| (missing.is_optional, missing.context.clone(), missing.account.to_string());
    let mut groups: BTreeMap<_, Vec<&Missing>> = BTreeMap::new();
    for missing in missing {
        groups.entry(key(missing)).or_default().push(missing);
    }
    groups.into_values().map(|of_account| lacking(&of_account)).collect()
}

fn lacking(missing: &[&Missing]) -> Finding {
    let Missing { account, context, is_optional, .. } = missing[0];
    let mut places: BTreeMap<&str, Vec<Right>> = BTreeMap::new();
    for missing in missing {
        places.entry(&missing.namespace).or_default().push(missing.right.clone());
    }
    let (mut seen, mut roles) = (vec![], vec![]);
    for (namespace, rights) in places {
        let rights = combined(&rights);
        let words: Vec<String> = rights.iter().map(ToString::to_string).collect();
        seen.push(format!("in namespace {namespace}: {}", words.join("; ")));
        let subjects = vec![account.clone()];
        roles.push(Role::addition(namespace, rights, subjects).to_string());
    }
    let kubectl = context.as_ref().map(|context| format!("kubectl --context {context}"));
    let remedy = format!(
        "have an administrator apply this ({} apply -f -), which adds what is missing, or use an account that has it; \
         `pgmove rbac` prints the whole Role before the window:\n{}",
        kubectl.as_deref().unwrap_or("kubectl"),
        roles.join("---\n")
    );
    let evidence = format!("{account} may not, {}", seen.join(", "));
    if *is_optional {
        let title = "the account lacks rights in the cluster that the move can do without";
        warning("kubernetes-rights", title, evidence, remedy)
    } else {
        let title = "the account may not do in the cluster what the move needs";
        blocking("kubernetes-rights", title, evidence, remedy)
    }
}

/// A freeze that was planned or rehearsed, and that would fail.
pub fn freeze_refused(evidence: String, hint: Option<String>) -> Finding {
    blocking(
        "freeze-refused",
        "the freeze would fail in the window",
        evidence,
        hint.unwrap_or_else(|| "see to that, and check again with --freeze".into()),
    )
}

fn unready(target: &ClusterLook) -> Vec<Finding> {
    if target.unready.is_empty() {
        return vec![];
    }
    vec![blocking(
        "cluster-unready",
        format!("cluster/{} is not ready to be moved into", target.name),
        target.unready.join("; "),
        format!(
            "wait until `kubectl get cluster {}` says that it is in healthy state, or see its events for what keeps it",
            target.name
        ),
    )]
}

/// Images whose tags name two versions: PostgreSQL's, and that of the extension which its vectors are read with. Of
/// `cloudnative-vectorchord` the tag `16.11` has been built again with another VectorChord.
const VECTOR_IMAGES: [&str; 4] = ["vectorchord", "vchord", "pgvecto-rs", "immich-app/postgres"];

/// Whether an image's tag may be moved to another version: it names none down to the minor one, or not that of the extension.
fn floats(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    // A registry's port stands before the last slash.
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':')).map(|(_, tag)| tag);
    let Some(tag) = tag else { return true };
    let is_full = |part: &str| {
        let version = part.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let numbers: Vec<&str> = version.split('.').collect();
        numbers.len() > 1 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
    };
    let mut parts = tag.split('-');
    let server = parts.next().is_some_and(is_full);
    let name = &image[..image.len() - tag.len()];
    if VECTOR_IMAGES.iter().any(|known| name.contains(known)) { !parts.any(is_full) } else { !server }
}

fn image(instance: &Instance, side: &str) -> Vec<Finding> {
    if !floats(&instance.image) {
        return vec![];
    }
    let running = instance.image_id.as_deref().unwrap_or("not known");
    vec![warning(
        "floating-image",
        format!("the image of the {side} floats: a pod that restarts may run another version"),
        format!("{} asks for {}; what runs is {running}", instance.at.pod, instance.image),
        "pin the image to an exact version or a digest before the window",
    )]
}

fn data(source: &Instance) -> Vec<Finding> {
    let (evidence, remedy) = match &source.data {
        DataVolume::Claim(storage) => match &storage.reclaim_policy {
            ReclaimPolicy::Delete => (
                format!(
                    "claim {} is on a volume with reclaim policy Delete: whoever prunes the claim deletes the data",
                    storage.claim
                ),
                format!(
                    "kubectl patch pv {} -p '{{\"spec\":{{\"persistentVolumeReclaimPolicy\":\"Retain\"}}}}'; and \
                     remove the legacy manifests only when the way back is no longer wanted",
                    storage.volume.as_deref().unwrap_or("VOLUME")
                ),
            ),
            ReclaimPolicy::Unknown(reason) => (
                format!("the reclaim policy of the volume of claim {} is not known: {reason}", storage.claim),
                "see it with `kubectl get pv`; it should be Retain until the way back is no longer wanted"
                    .into(),
            ),
            ReclaimPolicy::Retain | ReclaimPolicy::Other(_) => return vec![],
        },
        DataVolume::NoClaim(kind) => (
            format!("the data of {} are on a volume of kind {kind}, which no claim keeps", source.at.pod),
            "do not delete the pod before the way back is no longer wanted".into(),
        ),
        DataVolume::InContainer => (
            format!("the data of {} are in its container, and gone when that restarts", source.at.pod),
            "do not restart the pod before it is moved".into(),
        ),
    };
    vec![warning("source-data-not-kept", "the source's data may go with its objects", evidence, remedy)]
}

/// The operator runs `postInitSQL` in database `postgres`, and `postInitApplicationSQL` in the application's
/// (<https://cloudnative-pg.io/documentation/current/bootstrap/>).
fn statements(target: &ClusterLook, creates_extensions: Option<bool>) -> Vec<Finding> {
    let creates = |sql: &&String| sql.to_lowercase().contains("create extension");
    let made = target.spec.initialisation();
    let elsewhere: Vec<&String> =
        made.iter().flat_map(|made| made.post_init_sql.iter().filter(creates)).collect();
    if elsewhere.is_empty() {
        return vec![];
    }
    let database = &target.database;
    let statements: Vec<&str> = elsewhere.iter().map(|sql| sql.trim()).collect();
    vec![warning(
        "extensions-in-postgres",
        format!("cluster/{} was made with extensions in the wrong database", target.name),
        format!("its postInitSQL ran in database postgres, not in {database}: {}", statements.join(" ")),
        format!(
            "{}. In the manifest, move the statements to postInitApplicationSQL, for the next Cluster that is made of it",
            match creates_extensions {
                Some(true) => format!(
                    "nothing has to be mended for the move, which creates the extensions in {database} itself"
                ),
                Some(false) =>
                    format!("as a superuser, connected to database {database}: {}", statements.join(" ")),
                None => format!("`pgmove check` tells who creates the extensions in {database}"),
            }
        ),
    )]
}

fn backup(target: &ClusterLook) -> Vec<Finding> {
    let ClusterSpec { backup, plugins, .. } = &target.spec;
    if backup.is_some() || plugins.as_ref().is_some_and(|plugins| !plugins.is_empty()) {
        return vec![];
    }
    vec![warning(
        "no-backup",
        format!("cluster/{} has no backup", target.name),
        "neither spec.backup nor a plugin is set",
        "set up backups before the legacy data are removed; `pgmove run --archive DIRECTORY` leaves a dump beside the move",
    )]
}

/// Upper bounds, so that nothing is refused for them.
fn volume(cluster: &str, needs: Option<&Needs>) -> Vec<Finding> {
    let Some(needs) = needs else { return vec![] };
    let is_small = needs.free().is_some_and(|free| needs.on_volume > free);
    let is_wal_small = needs.wal_volume.is_some_and(|size| needs.wal > size);
    let data = needs.volume.filter(|_| is_small).map(|size| {
        format!(
            "each volume of cluster/{cluster} has {}, of which its databases hold {}; the move needs up to {}",
            bytes(size),
            bytes(needs.occupied),
            bytes(needs.on_volume)
        )
    });
    let wal = needs.wal_volume.filter(|_| is_wal_small).map(|size| {
        format!(
            "its WAL has a volume of its own of {}, and max_wal_size is {}",
            bytes(size),
            bytes(needs.wal)
        )
    });
    let seen: Vec<String> = data.into_iter().chain(wal).collect();
    if seen.is_empty() {
        return vec![];
    }
    vec![warning(
        "target-volume-small",
        "the target's volume may become full during the move",
        seen.join("; "),
        "raise spec.storage.size of the Cluster, or spec.walStorage.size (their storage class must allow expansion), or make \
         it anew with more",
    )]
}

/// Parallel workers of a build share their memory in `/dev/shm`.
fn shared_memory(target: &ClusterLook, index_memory: Option<u64>) -> Vec<Finding> {
    let limit = match target.primary.limits.shared_memory {
        SharedMemory::Limited(limit) => limit,
        SharedMemory::RuntimeDefault => 64 << 20,
        SharedMemory::Memory => return vec![],
    };
    let Some(needed) = index_memory.filter(|needed| *needed > limit) else { return vec![] };
    vec![warning(
        "shared-memory-small",
        "parallel builds of indexes may not find enough shared memory on the target",
        format!(
            "/dev/shm of {} has {}, and the builds may share {}",
            target.primary.at.pod,
            bytes(limit),
            bytes(needed)
        ),
        format!(
            "give --index-memory {} or less, or raise spec.ephemeralVolumesSizeLimit.shm of the Cluster",
            (limit >> 20).max(16)
        ),
    )]
}

/// Where they are run that this machine has not.
fn client_tools(tools: &ClientTools) -> Option<Finding> {
    let ClientPlace::Pod(pod) = &tools.place else { return None };
    Some(note(
        "client-in-pod",
        format!("pg_dump and pg_restore are run in {pod}"),
        format!("version {}; another server is reached at the address of its pod", tools.version),
        "nothing, as long as no network policy keeps the pods apart",
    ))
}

fn obstacles(plan: &FreezePlan) -> Vec<Finding> {
    let blocking = plan.obstacles.iter().map(|obstacle| {
        blocking(
            "freeze-obstacle",
            "what writes to the source cannot be stopped",
            obstacle.clone(),
            "remove what is in the way, or stop the application yourself and move without --freeze",
        )
    });
    let notes = plan.notes.iter().map(|note| {
        warning(
            "freeze-note",
            "the freeze does not reach everything",
            note.clone(),
            "see for yourself that it does not write during the window, or give --fence too",
        )
    });
    blocking.chain(notes).collect()
}

#[cfg(test)]
mod tests;
