use super::*;
use crate::catalog::ClientSession;
use crate::cutover::record::{self, MARK, Step};

/// A namespace as an API server lists it; `resourceVersion`, UIDs and times are made up.
fn media() -> Sighting {
    let text = include_str!("../../../../tests/fixtures/kubernetes/media.json");
    let list: Value = serde_json::from_str(text).expect("a list");
    let object = |body: &Value| {
        let text = |pointer: &str| object::field(body, pointer).as_str().unwrap_or_default().to_owned();
        let (group, version) = match text("/apiVersion").split_once('/') {
            Some((group, version)) => (group.to_owned(), version.to_owned()),
            None => (String::new(), text("/apiVersion")),
        };
        let kind = text("/kind");
        let plural = format!("{}s", kind.to_lowercase());
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        let key = ObjectKey { group, version, kind, plural, namespace, name, uid: text("/metadata/uid") };
        Object { key, body: body.clone() }
    };
    let objects = list["items"].as_array().expect("items").iter().map(object).collect();
    Sighting { namespaces: vec!["media".into()], objects, ..Sighting::default() }
}

fn session(pid: i32, client: Option<&str>, application_name: &str) -> ClientSession {
    ClientSession {
        pid,
        role: "immich".into(),
        is_superuser: false,
        application_name: application_name.into(),
        client: client.map(str::to_owned),
        state: Some("idle".into()),
    }
}

fn source() -> ObjectRef {
    "sts/immich-postgres".parse().expect("a reference")
}

fn plan_of(seen: &Sighting, named: &[&str]) -> FreezePlan {
    let named: Vec<WorkloadName> = named.iter().map(|name| name.parse().expect("a workload")).collect();
    plan(seen, &source(), &named, "run-1").expect("readable records")
}

/// `Deployment media/immich-server: spec.replicas 2 -> 0`.
fn lines(plan: &FreezePlan) -> Vec<String> {
    let line = |change: &Change| {
        let fields = change.fields.iter().map(|field| {
            let (former, frozen) = (record::shown(&field.former), record::shown(&field.frozen));
            format!("{} {former} -> {frozen}", object::spelled(&field.field))
        });
        format!("{}: {}", change.object, fields.collect::<Vec<_>>().join(", "))
    };
    plan.changes.iter().map(line).collect()
}

const DISABLED: &str =
    "metadata.annotations[\"kustomize.toolkit.fluxcd.io/reconcile\"] (not set) -> disabled";

/// Flux's automation commits new versions of an application that a release deploys, too.
#[test]
fn what_pushes_to_the_repository_of_a_release_is_suspended() {
    let lines = lines(&plan_of(&media(), &["deploy/immich-server"]));
    let of_kind = |kind: &str| lines.iter().filter(|line| line.starts_with(kind)).count();
    let [automations, releases, kustomizations] =
        ["ImageUpdateAutomation flux-system/images: ", "HelmRelease media/immich: ", "Kustomization "]
            .map(of_kind);
    assert_eq!((automations, releases, kustomizations), (1, 1, 0), "{lines:?}");
}

#[test]
fn whoever_is_connected_is_stopped_and_what_would_start_it_again_before() {
    let mut seen = media();
    seen.sessions = vec![
        session(11, Some("10.244.1.11"), "immich"),
        session(12, Some("fd00:10:244::b"), "immich"),
        session(13, Some("10.244.1.13"), ""),
        session(14, Some("10.244.1.14"), "pg_dump"),
    ];
    let plan = plan_of(&seen, &[]);
    assert_eq!(
        lines(&plan),
        [
            "ImageUpdateAutomation flux-system/images: spec.suspend (not set) -> true".to_owned(),
            format!("Kustomization flux-system/apps: {DISABLED}, spec.suspend (not set) -> true"),
            format!("HelmRelease media/immich: {DISABLED}, spec.suspend (not set) -> true"),
            format!("StatefulSet media/immich-postgres: {DISABLED}"),
            format!("Service media/immich-postgres: {DISABLED}"),
            format!("PersistentVolumeClaim media/immich-postgres-data: {DISABLED}"),
            format!("CronJob media/backup: {DISABLED}, spec.suspend false -> true"),
            "Job media/backup-29391: spec.suspend false -> true".to_owned(),
            "Deployment media/immich-server: spec.replicas 2 -> 0".to_owned(),
            "HorizontalPodAutoscaler media/indexer-from-zero: spec.minReplicas 0 -> 1".to_owned(),
            format!("StatefulSet media/indexer: {DISABLED}, spec.replicas 3 -> 0"),
        ]
    );
    assert_eq!(plan.obstacles, [""; 0]);
    assert_eq!(
        plan.notes,
        [
            "Kustomization flux-system/apps holds 3 objects; none of them is updated while it is suspended",
            "Job media/backup-29391 begins anew when it is resumed",
            "HorizontalPodAutoscaler media/server rests while Deployment media/immich-server has no replicas",
            "HorizontalPodAutoscaler media/server belongs to ScaledObject server, which may scale Deployment \
             media/immich-server by itself; the freeze stops if it does",
        ]
    );
    let stopped = plan.changes.iter().filter(|change| !change.addresses.is_empty());
    let stopped: Vec<_> = stopped.map(|change| (&*change.object.name, change.addresses.len())).collect();
    assert_eq!(stopped, [("backup", 1), ("backup-29391", 1), ("immich-server", 2), ("indexer", 1)]);
}

#[test]
fn without_a_writer_only_the_source_is_kept() {
    let plan = plan_of(&media(), &[]);
    assert_eq!(
        lines(&plan),
        [
            format!("StatefulSet media/immich-postgres: {DISABLED}"),
            format!("Service media/immich-postgres: {DISABLED}"),
            format!("PersistentVolumeClaim media/immich-postgres-data: {DISABLED}"),
        ]
    );
    assert_eq!(plan.source.expect("found").to_string(), "StatefulSet media/immich-postgres");
}

#[test]
fn what_the_user_names_is_stopped_without_sessions() {
    let plan = plan_of(&media(), &["deploy/immich-machine-learning", "cronjob/backup"]);
    let stopped = plan.changes.iter().filter(|change| change.stops());
    let stopped: Vec<_> = stopped.map(|change| change.object.to_string()).collect();
    assert_eq!(
        stopped,
        ["CronJob media/backup", "Job media/backup-29391", "Deployment media/immich-machine-learning"],
        "a Job that runs already goes on when its CronJob is suspended"
    );
}

#[test]
fn the_source_behind_a_service_a_pod_or_a_workload_is_the_same() {
    for source in ["sts/immich-postgres", "svc/immich-postgres", "pod/immich-postgres-0"] {
        let plan =
            plan(&media(), &source.parse().expect("a reference"), &[], "run-1").expect("readable records");
        assert_eq!(plan.source.expect(source).to_string(), "StatefulSet media/immich-postgres");
        assert_eq!(plan.changes.len(), 3, "{source}");
    }
}

#[test]
fn what_cannot_be_frozen_is_in_the_way() {
    let mut seen = media();
    seen.sessions = vec![
        session(15, Some("10.244.1.15"), "psql"),
        session(16, Some("10.244.1.16"), "collector"),
        session(17, Some("10.244.1.16"), "collector"),
    ];
    let plan = plan_of(&seen, &["deploy/absent", "sts/immich-postgres"]);
    assert_eq!(
        plan.obstacles,
        [
            "deploy/absent is not in namespace media",
            "StatefulSet media/immich-postgres is the source, which must stay up to be read",
            "Pod media/psql is connected, and nothing looks after it: delete it yourself",
            "Pod media/collector-q is connected, and pgmove cannot stop DaemonSet collector: stop it yourself",
        ]
    );
    let absent =
        super::plan(&seen, &"sts/absent".parse().expect("a reference"), &[], "run-1").expect("readable");
    assert_eq!(absent.obstacles[0], "sts/absent is not in namespace media");
}

#[test]
fn sessions_that_lead_to_no_workload_are_told() {
    let mut seen = media();
    seen.sessions = vec![
        session(20, None, "immich"),
        session(21, Some("10.9.9.9"), "laptop"),
        session(22, Some("192.168.0.5"), "proxy"),
        session(23, Some("10.244.1.10"), "exporter"),
        session(24, Some("10.244.1.11"), "pgmove run-1"),
    ];
    let plan = plan_of(&seen, &[]);
    assert!(!plan.changes.iter().any(Change::stops));
    assert_eq!(
        plan.notes,
        [
            "session 20 of role immich (immich): its address is hidden, or a socket in the source's own pod",
            "session 21 of role immich (laptop) comes from 10.9.9.9, which is no pod in namespace media, and the account may not \
             list the pods of others: if its workload is there, name it (--workload NAMESPACE/deploy/NAME); else only the \
             fence can end it",
            "session 22 of role immich (proxy) comes from 192.168.0.5, which is a node's and that of 2 pods: name its \
             workload (--workload)",
            "session 23 of role immich (exporter) comes from the source's own pod Pod media/immich-postgres-0",
        ]
    );
}

#[test]
fn what_is_told_of_a_session_says_how_far_its_pod_was_looked_for() {
    let mut seen = media();
    seen.sessions = vec![session(21, Some("10.9.9.9"), "laptop"), session(22, Some("10.9.9.8"), "immich")];
    seen.has_seen_cluster = true;
    // Whose pod this run has stopped is waited for.
    seen.stopped = ["10.9.9.8".parse().expect("an address")].into();
    assert_eq!(seen.strange_addresses(), ["10.9.9.9".parse().expect("an address")].into());
    assert_eq!(
        plan_of(&seen, &[]).notes,
        [
            "session 21 of role immich (laptop) comes from 10.9.9.9, which no pod of the cluster has to itself: if its workload \
          is in a node's network, name it (--workload); else only the fence can end it"
        ]
    );
}

/// The same objects once more in another namespace.
fn with_photos() -> Sighting {
    let mut seen = media();
    for mut object in seen.objects.clone() {
        object.key.namespace = "photos".into();
        object.key.uid = format!("photos-{}", object.key.uid);
        for owner in object.body["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
            owner["uid"] = format!("photos-{}", owner["uid"].as_str().expect("a UID")).into();
        }
        object.body["status"]["podIPs"] = json!([]);
        seen.objects.push(object);
    }
    seen.namespaces.push("photos".into());
    seen
}

#[test]
fn workloads_of_one_name_are_told_apart_by_their_namespaces() {
    let seen = with_photos();
    let of_photos = |named: &[&str]| {
        let mut lines = lines(&plan_of(&seen, named));
        lines.retain(|line| line.contains(" photos/"));
        lines
    };
    assert_eq!(of_photos(&["sts/indexer"]), [""; 0]);
    assert_eq!(
        of_photos(&["photos/sts/indexer"]),
        [
            "HorizontalPodAutoscaler photos/indexer-from-zero: spec.minReplicas 0 -> 1".to_owned(),
            format!("StatefulSet photos/indexer: {DISABLED}, spec.replicas 3 -> 0"),
        ]
    );
    // Of the source and what it needs there is one only.
    let plan = plan_of(&seen, &["photos/sts/indexer"]);
    assert_eq!(
        plan.source.as_ref().map(ToString::to_string).as_deref(),
        Some("StatefulSet media/immich-postgres")
    );
    let of_media = lines(&plan).into_iter().filter(|line| line.contains(" media/"));
    assert_eq!(of_media.collect::<Vec<_>>(), lines(&plan_of(&media(), &[])));
    // The one of that name elsewhere is none.
    let plan = plan_of(&seen, &["photos/sts/immich-postgres", "office/deploy/immich-server"]);
    assert_eq!(plan.obstacles, ["office/deploy/immich-server is not in namespace office"]);
    assert!(lines(&plan).iter().any(|line| line.starts_with("StatefulSet photos/immich-postgres: ")));
}

#[test]
fn a_release_of_the_source_is_suspended_as_a_whole() {
    let mut seen = media();
    for object in &mut seen.objects {
        if object.key.name == "immich-postgres" {
            let labels = &mut object.body["metadata"]["labels"];
            *labels = json!({ "helm.toolkit.fluxcd.io/name": "immich", "helm.toolkit.fluxcd.io/namespace": "media" });
        }
    }
    let plan = plan_of(&seen, &[]);
    assert_eq!(
        lines(&plan)[..2],
        [
            "ImageUpdateAutomation flux-system/images: spec.suspend (not set) -> true".to_owned(),
            format!("HelmRelease media/immich: {DISABLED}, spec.suspend (not set) -> true"),
        ]
    );
}

#[test]
fn a_freeze_that_broke_off_goes_on_with_the_values_it_found_first() {
    let mut seen = media();
    seen.sessions = vec![session(11, Some("10.244.1.11"), "immich")];
    let first = plan_of(&seen, &[]);
    // All of it was done, and its pods and sessions are gone.
    for object in &mut seen.objects {
        let order = first.changes.iter().position(|change| change.object == object.key);
        if let Some(order) = order {
            let step =
                record::freeze(&first.changes[order], "run-1", "media", order, object).expect("readable");
            let Ok(Step::Patch(patch)) = step else { panic!("{step:?}") };
            let text = object::field(&patch, &object::annotation(MARK)).clone();
            object::merge(&mut object.body, &object::annotation(MARK), text);
            for field in &first.changes[order].fields {
                object::merge(&mut object.body, &field.field, field.frozen.clone());
            }
        }
    }
    seen.sessions.clear();
    seen.objects.retain(|object| object.key.kind != "Pod" || object.key.name == "immich-postgres-0");
    let again = plan_of(&seen, &[]);
    let mut expected = lines(&first);
    let mut found = lines(&again);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let other = super::plan(&seen, &source(), &[], "run-2").expect("readable records");
    assert!(other.obstacles[0].starts_with("StatefulSet media/immich-postgres is frozen by run run-1"));
}

#[test]
fn labels_of_an_owner_that_is_not_there_are_told() {
    let mut seen = media();
    seen.objects.retain(|object| object.key.kind != "HelmRelease");
    let plan = plan_of(&seen, &["deploy/immich-server"]);
    assert!(
        plan.notes.iter().any(|note| note
            == "Deployment media/immich-server is labelled as made by HelmRelease media/immich, which is not there"),
        "{:?}",
        plan.notes
    );
}
