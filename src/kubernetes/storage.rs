//! Where a pod's server keeps its data, and what it may use: claim, volume, memory, `/dev/shm`.

use k8s_openapi::api::core::v1::{Container, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use serde::Serialize;

use super::client::ApiServer;
use super::request::ApiError;
use super::workload::Found;

/// Directories of data where `PGDATA` is not set: the official image's, and Bitnami's.
const DATA_DIRECTORIES: [&str; 2] = ["/var/lib/postgresql/data", "/bitnami/postgresql/data"];

/// The claim behind a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// The PersistentVolumeClaim.
    pub claim: String,
    /// Its storage class.
    pub storage_class: Option<String>,
    /// What it has, in bytes; what it asks for while that is not known.
    pub capacity: Option<u64>,
    /// Its volume; none while the claim is pending.
    pub volume: Option<String>,
    /// What becomes of the volume when the claim is deleted.
    pub reclaim_policy: ReclaimPolicy,
}

/// What becomes of a volume when its claim is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReclaimPolicy {
    /// It stays, with its data.
    Retain,
    /// It is deleted, with its data.
    Delete,
    /// Another policy.
    Other(String),
    /// Not known: the claim has no volume yet, or the account may not read volumes, which are in no namespace. The
    /// reason, and the rule that grants it.
    Unknown(String),
}

/// Where a server's data are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataVolume {
    /// On a claim.
    Claim(Storage),
    /// On something that is no claim: its kind. An `emptyDir` ends with its pod.
    NoClaim(String),
    /// In the container itself: gone when the container restarts.
    InContainer,
}

impl DataVolume {
    /// Looks for the volume that holds the data directory of the server in a pod.
    pub async fn find(server: &ApiServer, found: &Found) -> Result<DataVolume, ApiError> {
        let Some(volume) = data_volume(&found.pod, found.container()) else {
            return Ok(DataVolume::InContainer);
        };
        let Some(source) = &volume.persistent_volume_claim else {
            return Ok(DataVolume::NoClaim(kind_of(volume)));
        };
        let claim: PersistentVolumeClaim = server.get(&(), &found.port.namespace, &source.claim_name).await?;
        storage_of(server, claim).await.map(DataVolume::Claim)
    }
}

/// A claim with the policy of its volume.
pub(super) async fn storage_of(
    server: &ApiServer,
    claim: PersistentVolumeClaim,
) -> Result<Storage, ApiError> {
    let name = claim.name_any();
    let spec = claim.spec.unwrap_or_default();
    let requested = spec.resources.and_then(|resources| resources.requests);
    let capacity = claim.status.and_then(|status| status.capacity).or(requested);
    let reclaim_policy = match &spec.volume_name {
        None => ReclaimPolicy::Unknown("the claim has no volume yet".to_owned()),
        Some(volume) => match server.get_of_cluster::<PersistentVolume>(volume).await {
            Ok(volume) => policy_of(&volume),
            Err(error) if error.is_forbidden() => ReclaimPolicy::Unknown(error.request.rule()),
            Err(error) => return Err(error),
        },
    };
    Ok(Storage {
        claim: name,
        storage_class: spec.storage_class_name,
        capacity: capacity.and_then(|capacity| bytes(capacity.get("storage")?)),
        volume: spec.volume_name,
        reclaim_policy,
    })
}

fn policy_of(volume: &PersistentVolume) -> ReclaimPolicy {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    match policy {
        Some("Retain") => ReclaimPolicy::Retain,
        Some("Delete") => ReclaimPolicy::Delete,
        Some(other) => ReclaimPolicy::Other(other.to_owned()),
        None => ReclaimPolicy::Unknown("the volume has no policy".to_owned()),
    }
}

/// The volume whose mount is the nearest above the data directory.
fn data_volume<'a>(pod: &'a Pod, container: &Container) -> Option<&'a Volume> {
    let set = container.env.iter().flatten().find(|variable| variable.name == "PGDATA");
    let directories = match set.and_then(|variable| variable.value.as_deref()) {
        Some(directory) => vec![directory],
        None => DATA_DIRECTORIES.to_vec(),
    };
    let mounts = container.volume_mounts.iter().flatten();
    let above = mounts.filter(|mount| {
        let at = mount.mount_path.trim_end_matches('/');
        let is_above = |directory: &&str| {
            directory.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        directories.iter().any(is_above)
    });
    let mount = above.max_by_key(|mount| mount.mount_path.trim_end_matches('/').len())?;
    volumes(pod).find(|volume| volume.name == mount.name)
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// The field of the volume that says what it is: `emptyDir`, `hostPath`, `nfs`…
fn kind_of(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).expect("a volume is plain data");
    let kind =
        fields.as_object().into_iter().flatten().map(|(field, _)| field).find(|field| *field != "name");
    kind.cloned().unwrap_or_else(|| "a volume of no kind".to_owned())
}

/// What a container may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Memory, in bytes; none without a limit.
    pub memory: Option<u64>,
    /// Shared memory (`/dev/shm`).
    pub shared_memory: SharedMemory,
}

/// How large `/dev/shm` can become, which parallel workers of an index build share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedMemory {
    /// What the container runtime gives: 64 MiB.
    #[default]
    RuntimeDefault,
    /// At most this many bytes.
    Limited(u64),
    /// An in-memory volume without a limit of its own, which counts against the memory of the pod.
    Memory,
}

/// The limits of a pod's server.
pub fn limits(pod: &Pod, container: &Container) -> Limits {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let mut mounts = container.volume_mounts.iter().flatten();
    let volume = mounts
        .find(|mount| mount.mount_path.trim_end_matches('/') == "/dev/shm")
        .and_then(|mount| volumes(pod).find(|volume| volume.name == mount.name));
    let shared_memory = match volume.and_then(|volume| volume.empty_dir.as_ref()) {
        None => SharedMemory::RuntimeDefault,
        Some(directory) => {
            directory.size_limit.as_ref().and_then(bytes).map_or(SharedMemory::Memory, SharedMemory::Limited)
        }
    };
    Limits { memory: limits.and_then(|limits| bytes(limits.get("memory")?)), shared_memory }
}

/// A quantity of bytes as Kubernetes writes it: `10Gi`, `512M`, `1e9`, `1.5Gi`. Fractions of a byte are rounded up.
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let bytes = (number.parse::<f64>().ok()? * factor).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "digits have no sign; `as` saturates"
    )]
    bytes.is_finite().then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1073741824", Some(1 << 30)),
            ("10Gi", Some(10 << 30)),
            ("512Mi", Some(512 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("500M", Some(500_000_000)),
            ("1e9", Some(1_000_000_000)),
            ("1E3", Some(1000)),
            ("2E", Some(2_000_000_000_000_000_000)),
            ("1500m", Some(2)),
            ("", None),
            ("Gi", None),
            ("10GiB", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(&Quantity(text.into())), expected, "{text}");
        }
    }

    const IMMICH: &str = include_str!("../../tests/fixtures/kubernetes/immich-postgres-0.json");
    const BITNAMI: &str = include_str!("../../tests/fixtures/kubernetes/bitnami-0.json");

    /// The claim, or the kind of volume, of a container's data directory, and the container's limits.
    fn look(text: &str, container: usize, change: impl Fn(&mut serde_json::Value)) -> (String, Limits) {
        let mut pod = serde_json::from_str(text).expect("a fixture is JSON");
        change(&mut pod);
        let pod: Pod = serde_json::from_value(pod).expect("a fixture is a pod");
        let container = &pod.spec.as_ref().expect("a spec").containers[container];
        let volume = data_volume(&pod, container).map(|volume| match &volume.persistent_volume_claim {
            Some(claim) => claim.claim_name.clone(),
            None => kind_of(volume),
        });
        (volume.unwrap_or_default(), limits(&pod, container))
    }

    #[test]
    fn the_volume_of_the_data_and_the_limits_are_found() {
        let (claim, limits) = look(IMMICH, 1, |_| ());
        assert_eq!(claim, "immich-postgres-data");
        assert_eq!(limits, Limits { memory: Some(2 << 30), shared_memory: SharedMemory::Limited(128 << 20) });
        let (claim, limits) = look(BITNAMI, 0, |_| ());
        assert_eq!(claim, "data-photos-postgresql-0");
        assert_eq!(limits, Limits { memory: None, shared_memory: SharedMemory::Memory });
        assert_eq!(look(IMMICH, 0, |_| ()), (String::new(), Limits::default()), "an exporter has no data");
    }

    #[test]
    fn data_that_are_on_no_claim_are_said() {
        let (kind, _) = look(IMMICH, 1, |pod| {
            pod["spec"]["volumes"][0] =
                serde_json::json!({ "name": "data", "hostPath": { "path": "/srv/postgres" } });
        });
        assert_eq!(kind, "hostPath");
        // Where PGDATA leads away from the mount, the data are in the container.
        let (none, _) =
            look(IMMICH, 1, |pod| pod["spec"]["containers"][1]["env"][4]["value"] = "/srv/data".into());
        assert_eq!(none, "");
        // Without PGDATA, the official image's directory counts, also below a mount of its parent.
        let (claim, _) = look(IMMICH, 1, |pod| {
            pod["spec"]["containers"][1]["env"] = serde_json::json!([]);
            pod["spec"]["containers"][1]["volumeMounts"][0]["mountPath"] = "/var/lib/postgresql".into();
        });
        assert_eq!(claim, "immich-postgres-data");
    }
}
