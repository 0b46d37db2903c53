//! One case a finding: a sound source and the Cluster of a fixture, with one thing wrong.

use super::*;
use crate::kubernetes::{Limits, Pinned, PodPort, Storage};
use crate::preflight::Severity;

/// What a check sees, all of it sound.
struct World {
    source: Instance,
    target: ClusterLook,
    freeze: FreezePlan,
    index_memory: u64,
    creates_extensions: Option<bool>,
}

fn instance(pod: &str, image: &str) -> Instance {
    Instance {
        at: PodPort {
            namespace: "media".into(),
            pod: pod.into(),
            uid: "u-1".into(),
            container: "postgres".into(),
            port: 5432,
        },
        image: image.into(),
        image_id: None,
        data: DataVolume::Claim(Storage {
            claim: "data".into(),
            storage_class: None,
            capacity: None,
            volume: Some("pvc-1".into()),
            reclaim_policy: ReclaimPolicy::Retain,
        }),
        limits: Limits { memory: Some(2 << 30), shared_memory: SharedMemory::Limited(256 << 20) },
        workload: None,
        owners: vec![],
    }
}

impl World {
    fn sound() -> World {
        let text = include_str!("../../../tests/fixtures/kubernetes/cluster.json");
        let mut cluster: crate::kubernetes::cnpg::Cluster =
            serde_json::from_str(text).expect("a fixture is a Cluster");
        cluster.spec.backup = Some(serde_json::json!({ "retentionPolicy": "30d" }));
        if let Some(made) = cluster.spec.bootstrap.as_mut().and_then(|made| made.initdb.as_mut()) {
            made.post_init_sql.clear();
        }
        let primary = instance("immich-postgres-1", "cloudnative-vectorchord:16.11-1.0.0");
        let pinned = Pinned { at: primary.at.clone(), system_identifier: None, timeline: None };
        World {
            source: instance("legacy-0", "postgres:14.19"),
            target: ClusterLook::of("immich-postgres", cluster, primary, pinned),
            freeze: FreezePlan::default(),
            index_memory: 128 << 20,
            creates_extensions: Some(true),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        findings(&Objects {
            source: Some(&self.source),
            target: Some(&self.target),
            freeze: Some(&self.freeze),
            needs: None,
            index_memory: Some(self.index_memory),
            client_tools: None,
            creates_extensions: self.creates_extensions,
        })
    }
}

type Change = fn(&mut World);

fn storage(world: &mut World) -> &mut Storage {
    match &mut world.source.data {
        DataVolume::Claim(storage) => storage,
        other => panic!("{other:?}"),
    }
}

fn create(world: &mut World) {
    let made = world.target.spec.bootstrap.as_mut().and_then(|made| made.initdb.as_mut());
    made.expect("initdb").post_init_sql = vec!["CREATE EXTENSION vchord CASCADE;".into()];
}

/// The expected finding (blocking ones with a `!`), what its evidence or its remedy says, and what is so.
const CASES: &[(&str, &str, Change)] = &[
    ("!cluster-unready", "1 of 2 instances are ready", |it| {
        it.target.unready = vec!["1 of 2 instances are ready".into()];
    }),
    ("!freeze-obstacle", "DaemonSet", |it| {
        it.freeze.obstacles = vec!["Pod media/a is connected, and pgmove cannot stop DaemonSet a".into()];
    }),
    ("freeze-note", "only the fence can end it", |it| {
        it.freeze.notes = vec!["session 7 of role app comes from 10.0.0.9; only the fence can end it".into()];
    }),
    ("floating-image", "legacy-0 asks for postgres:14", |it| it.source.image = "postgres:14".into()),
    ("floating-image", "immich-postgres-1 asks for", |it| {
        it.target.primary.image = "cloudnative-vectorchord:16.11".into();
    }),
    ("source-data-not-kept", "kubectl patch pv pvc-1", |it| {
        storage(it).reclaim_policy = ReclaimPolicy::Delete;
    }),
    ("source-data-not-kept", "is not known: no right", |it| {
        storage(it).reclaim_policy = ReclaimPolicy::Unknown("no right".into());
    }),
    ("source-data-not-kept", "emptyDir", |it| it.source.data = DataVolume::NoClaim("emptyDir".into())),
    ("source-data-not-kept", "do not restart", |it| it.source.data = DataVolume::InContainer),
    ("extensions-in-postgres", "creates the extensions in immich itself", create),
    (
        "extensions-in-postgres",
        "as a superuser, connected to database immich: CREATE EXTENSION vchord",
        |it| {
            create(it);
            it.creates_extensions = Some(false);
        },
    ),
    ("extensions-in-postgres", "`pgmove check` tells who", |it| {
        create(it);
        it.creates_extensions = None;
    }),
    ("no-backup", "neither spec.backup nor a plugin", |it| it.target.spec.backup = None),
    ("shared-memory-small", "--index-memory 64 or less", |it| {
        it.target.primary.limits.shared_memory = SharedMemory::RuntimeDefault;
    }),
    ("shared-memory-small", "--index-memory 256 or less", |it| it.index_memory = 1 << 30),
];

/// After these there is still nothing to find.
const SOUND: &[Change] = &[
    |_| (),
    |it| it.target.primary.limits.shared_memory = SharedMemory::Memory,
    |it| {
        it.target.spec.backup = None;
        it.target.spec.plugins = Some(vec![serde_json::json!({ "name": "barman-cloud.cloudnative-pg.io" })]);
    },
    |it| storage(it).reclaim_policy = ReclaimPolicy::Other("Recycle".into()),
];

#[test]
fn each_thing_that_is_wrong_is_found_and_nothing_else() {
    for (expected, words, change) in CASES {
        let mut world = World::sound();
        change(&mut world);
        let found = world.findings();
        let mark = |finding: &Finding| match finding.severity {
            Severity::Blocking => format!("!{}", finding.id),
            Severity::Warning | Severity::Note => finding.id.to_owned(),
        };
        assert_eq!(found.iter().map(mark).collect::<Vec<_>>(), [*expected], "{found:#?}");
        let text = format!("{} {}", found[0].evidence, found[0].remedy);
        assert!(text.contains(words), "{expected}: {text}");
    }
    for change in SOUND {
        let mut world = World::sound();
        change(&mut world);
        assert_eq!(world.findings(), vec![]);
    }
}

#[test]
fn missing_rights_come_with_the_role_that_adds_them() {
    let missing = |namespace: &str, resource: &'static str, verb: &'static str, is_optional| Missing {
        account: Subject::of_user("system:serviceaccount:media:mover".into()),
        context: Some("home".into()),
        namespace: namespace.into(),
        right: Right { group: "", resources: vec![resource], verbs: vec![verb], names: vec![] },
        is_optional,
    };
    assert_eq!(rights(&[]), vec![]);
    let found = rights(&[
        missing("media", "configmaps", "get", true),
        missing("media", "pods", "get", false),
        missing("media", "pods", "list", false),
        missing("flux-system", "services", "patch", false),
    ]);
    let [needed, optional] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((needed.id, needed.severity), ("kubernetes-rights", Severity::Blocking));
    assert_eq!(
        needed.evidence,
        "service account media/mover may not, in namespace flux-system: patch services, in namespace media: get, list pods"
    );
    for expected in [
        "kubectl --context home apply -f -",
        "  namespace: flux-system\nrules:\n- apiGroups: [\"\"]\n  resources: [\"services\"]\n  verbs: [\"patch\"]\n",
        "  resources: [\"pods\"]\n  verbs: [\"get\", \"list\"]\n",
        "- kind: ServiceAccount\n  name: mover\n  namespace: media\n",
    ] {
        assert!(needed.remedy.contains(expected), "{}", needed.remedy);
    }
    assert_eq!((optional.severity, optional.id), (Severity::Warning, "kubernetes-rights"));
    // Applied after the other, it must not take its rules away.
    let name = |finding: &Finding| {
        finding.remedy.lines().find_map(|line| line.strip_prefix("  name: pgmove-")).map(str::to_owned)
    };
    assert!(name(needed).is_some() && name(needed) != name(optional), "{found:#?}");
}

#[test]
fn a_tag_that_names_no_exact_version_floats() {
    for (image, expected) in [
        ("postgres", true),
        ("docker.io/library/postgres:latest", true),
        ("registry:5000/postgres:16", true),
        ("postgres:16.4", false),
        ("postgres:16-alpine", true),
        ("postgres:16-bookworm", true),
        ("postgres:16.4-alpine", false),
        ("bitnami/postgresql:16.4.0-debian-12-r1", false),
        ("bitnami/postgresql:16-debian-12", true),
        ("pgvector/pgvector:pg16", true),
        ("pgvector/pgvector:0.8.0-pg16", false),
        ("ghcr.io/cloudnative-pg/postgresql:17.5-bookworm", false),
        ("tensorchord/pgvecto-rs:pg14-v0.2.0", false),
        ("tensorchord/pgvecto-rs:pg16-latest", true),
        ("tensorchord/cloudnative-vectorchord:16.11", true),
        ("tensorchord/cloudnative-vectorchord:16.11-1.0.0", false),
        ("ghcr.io/immich-app/postgres:14-vectorchord0.4.3-pgvectors0.2.0", false),
        ("ghcr.io/immich-app/postgres:14", true),
        ("postgres@sha256:0123", false),
        ("postgres:latest@sha256:0123", false),
    ] {
        assert_eq!(floats(image), expected, "{image}");
    }
}

#[test]
fn needs_are_held_against_what_is_free_on_each_volume() {
    let needs = |volume: Option<u64>, occupied: u64, wal_volume: Option<u64>| Needs {
        rows: 6 << 30,
        indexes: 0,
        sorting: 0,
        wal: 2 << 30,
        total: 8 << 30,
        occupied: occupied << 30,
        volume: volume.map(|size| size << 30),
        wal_volume: wal_volume.map(|size| size << 30),
        on_volume: (if wal_volume.is_some() { 6 } else { 8 }) << 30,
    };
    let seen = |needs: Needs| volume("new", Some(&needs)).pop().map(|found| found.evidence);
    assert_eq!(seen(needs(None, 4, None)), None);
    assert_eq!(seen(needs(Some(8), 0, None)), None);
    let data = "each volume of cluster/new has 8.00 GiB, of which its databases hold 1.00 GiB; the move needs up to ";
    assert_eq!(seen(needs(Some(8), 1, None)), Some(format!("{data}8.00 GiB")));
    assert_eq!(seen(needs(Some(8), 1, Some(2))), None);
    let wal = "its WAL has a volume of its own of 1.00 GiB, and max_wal_size is 2.00 GiB";
    assert_eq!(seen(needs(Some(8), 1, Some(1))).as_deref(), Some(wal));
}
