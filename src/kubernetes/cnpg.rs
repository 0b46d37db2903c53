//! A Cluster of CloudNative-PG (`postgresql.cnpg.io/v1`, fields of 1.25 and later), as far as a move needs it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, GroupVersionKind};
use kube::core::Object;
use serde::{Deserialize, Serialize};

/// The container of PostgreSQL in each of the Cluster's pods, whose server listens on 5432.
pub const CONTAINER: &str = "postgres";

/// The phase of a Cluster that is well (`PhaseHealthy` in `api/v1/cluster_types.go`).
const HEALTHY: &str = "Cluster in healthy state";

/// A Cluster, as far as it is read.
pub type Cluster = Object<ClusterSpec, ClusterStatus>;

/// The API resource of a [`Cluster`].
pub fn cluster_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster"),
        "clusters",
    )
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterSpec {
    /// How many instances there shall be.
    pub instances: i64,
    /// The image, unless it comes from a catalog.
    pub image_name: Option<String>,
    /// Whether `postgres` has a password, in a Secret.
    pub enable_superuser_access: Option<bool>,
    /// The Secret of `postgres`, if it is not the operator's own.
    pub superuser_secret: Option<LocalName>,
    /// How the Cluster was made.
    pub bootstrap: Option<Bootstrap>,
    /// The volume of the data.
    pub storage: StorageSpec,
    /// The volume of the WAL, if it has one of its own.
    pub wal_storage: Option<StorageSpec>,
    /// Requests and limits of the server's container.
    pub resources: Option<ResourceRequirements>,
    /// Limits of volumes in memory.
    pub ephemeral_volumes_size_limit: Option<EphemeralLimits>,
    /// The server's settings.
    pub postgresql: PostgresqlSpec,
    /// In-tree backups; a plugin's stand in `plugins`.
    pub backup: Option<serde_json::Value>,
    /// Plugins: barman-cloud makes backups.
    pub plugins: Option<Vec<serde_json::Value>>,
}

/// An object of the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalName {
    /// Its name.
    pub name: String,
}

/// How a Cluster was made: by exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bootstrap {
    /// Anew.
    pub initdb: Option<Initialisation>,
    /// From a backup.
    pub recovery: Option<Initialisation>,
    /// From another server.
    #[serde(rename = "pg_basebackup")]
    pub base_backup: Option<Initialisation>,
}

/// What the three ways of making a Cluster have in common, and what `initdb` alone has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Initialisation {
    /// The application's database.
    pub database: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
    /// The Secret with the owner's login, if it is not the operator's own.
    pub secret: Option<LocalName>,
    /// SQL that ran in database `postgres`.
    #[serde(rename = "postInitSQL")]
    pub post_init_sql: Vec<String>,
    /// SQL that ran in the application's database.
    #[serde(rename = "postInitApplicationSQL")]
    pub post_init_application_sql: Vec<String>,
    /// Collation; the operator's default is C.
    pub locale_collate: Option<String>,
    /// Character classes; the operator's default is C.
    #[serde(rename = "localeCType")]
    pub locale_ctype: Option<String>,
    /// Encoding; the operator's default is UTF8.
    pub encoding: Option<String>,
}

/// A volume that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// How large.
    pub size: Option<String>,
    /// Of which class.
    pub storage_class: Option<String>,
}

/// Limits of volumes in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EphemeralLimits {
    /// `/dev/shm`; without a limit it counts against the pod's memory only.
    pub shm: Option<Quantity>,
}

/// The server's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PostgresqlSpec {
    /// `postgresql.conf`.
    pub parameters: BTreeMap<String, String>,
    /// Libraries that are loaded when the server starts.
    pub shared_preload_libraries: Vec<String>,
}

/// What the operator reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterStatus {
    /// In words; `Cluster in healthy state` when all is well.
    pub phase: Option<String>,
    /// More words.
    pub phase_reason: Option<String>,
    /// The pod of the primary.
    pub current_primary: Option<String>,
    /// The pod that shall be the primary; another one during a switchover, `pending` during a failover.
    pub target_primary: Option<String>,
    /// How many instances there are.
    pub instances: i64,
    /// How many of them are ready.
    pub ready_instances: i64,
    /// The primary's timeline.
    #[serde(rename = "timelineID")]
    pub timeline: Option<i64>,
    /// The database cluster's identifier.
    #[serde(rename = "systemID")]
    pub system_identifier: Option<String>,
    /// The image that runs.
    pub image: Option<String>,
    /// The image that the data belong to (1.26 and later).
    pub pg_data_image_info: Option<DataImage>,
    /// Names of the Secrets with certificates.
    pub certificates: Certificates,
    /// `Ready`, `ContinuousArchiving`…
    pub conditions: Vec<Condition>,
}

/// The image that a Cluster's data belong to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataImage {
    /// The image.
    pub image: Option<String>,
    /// PostgreSQL's major version.
    pub major_version: Option<u32>,
}

/// Names of the Secrets with certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Certificates {
    /// The authority that signed the server's certificate.
    #[serde(rename = "serverCASecret")]
    pub server_ca_secret: Option<String>,
}

impl ClusterSpec {
    /// How the application's database was made.
    pub fn initialisation(&self) -> Option<&Initialisation> {
        let bootstrap = self.bootstrap.as_ref()?;
        bootstrap.initdb.as_ref().or(bootstrap.recovery.as_ref()).or(bootstrap.base_backup.as_ref())
    }
}

impl ClusterStatus {
    /// PostgreSQL's major version, as the operator noted it, else by the image's tag, which must begin with it.
    pub fn major(&self) -> Option<u32> {
        let of_tag = |image: &str| {
            // A registry's port stands before the last slash.
            let (_, tag) = image.split('@').next()?.rsplit('/').next()?.split_once(':')?;
            let digits = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
            tag[..digits].parse().ok()
        };
        let noted = self.pg_data_image_info.as_ref().and_then(|info| info.major_version);
        noted.or_else(|| of_tag(self.image.as_deref()?))
    }
}

/// What keeps a Cluster from being moved into; nothing if it is ready.
pub fn unready(spec: &ClusterSpec, status: &ClusterStatus) -> Vec<String> {
    let mut reasons = Vec::new();
    match status.phase.as_deref() {
        Some(HEALTHY) => {}
        Some(phase) => reasons.push(match &status.phase_reason {
            Some(reason) => format!("its phase is \"{phase}\" ({reason})"),
            None => format!("its phase is \"{phase}\""),
        }),
        None => reasons.push("the operator reports no phase".to_owned()),
    }
    match (&status.current_primary, &status.target_primary) {
        (None, _) => reasons.push("it has no primary".to_owned()),
        (Some(current), Some(target)) if current != target => {
            reasons.push(format!("its primary changes from {current} to {target}"));
        }
        _ => {}
    }
    if status.ready_instances != spec.instances {
        reasons.push(format!("{} of {} instances are ready", status.ready_instances, spec.instances));
    }
    match status.conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => {}
        Some(condition) => {
            reasons.push(format!("its condition Ready is {} ({})", condition.status, condition.reason));
        }
        None => reasons.push("it has no condition Ready".to_owned()),
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> (ClusterSpec, ClusterStatus) {
        let cluster = include_str!("../../tests/fixtures/kubernetes/cluster.json");
        let cluster: Cluster = serde_json::from_str(cluster).expect("a fixture is a Cluster");
        (cluster.spec, cluster.status.expect("a status"))
    }

    fn reasons(change: impl Fn(&mut ClusterStatus)) -> Vec<String> {
        let (spec, mut status) = cluster();
        change(&mut status);
        unready(&spec, &status)
    }

    #[test]
    fn a_healthy_cluster_is_ready_and_read() {
        assert_eq!(reasons(|_| ()), [""; 0]);
        let (spec, status) = cluster();
        assert_eq!((status.major(), status.timeline), (Some(16), Some(1)));
        assert_eq!(status.system_identifier.as_deref(), Some("7585905211943043090"));
        let made = spec.initialisation().expect("initdb");
        assert_eq!(made.post_init_sql.len(), 1);
        assert_eq!((made.locale_collate.as_deref(), made.locale_ctype.as_deref()), (Some("C"), Some("C")));
    }

    #[test]
    fn each_sign_of_an_unready_cluster_is_named() {
        assert_eq!(
            reasons(|status| status.phase = Some("Upgrading cluster".into())),
            ["its phase is \"Upgrading cluster\""]
        );
        assert_eq!(
            reasons(|status| status.target_primary = Some("pending".into())),
            ["its primary changes from immich-postgres-1 to pending"]
        );
        assert_eq!(reasons(|status| status.ready_instances = 1), ["1 of 2 instances are ready"]);
        assert_eq!(
            reasons(|status| status.conditions[0].status = "False".into()),
            ["its condition Ready is False (ClusterIsReady)"]
        );
        assert_eq!(
            reasons(|status| *status = ClusterStatus::default()),
            [
                "the operator reports no phase",
                "it has no primary",
                "0 of 2 instances are ready",
                "it has no condition Ready",
            ]
        );
    }

    #[test]
    fn the_major_version_is_also_known_by_the_tag() {
        for (image, major) in [
            ("ghcr.io/cloudnative-pg/postgresql:17.5-bookworm", Some(17)),
            ("registry:5000/postgres:16@sha256:00", Some(16)),
            ("registry:5000/postgres", None),
            ("postgres:latest", None),
        ] {
            let status = ClusterStatus { image: Some(image.into()), ..ClusterStatus::default() };
            assert_eq!(status.major(), major, "{image}");
        }
    }
}
