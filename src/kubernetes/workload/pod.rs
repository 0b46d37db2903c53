//! Which of a workload's pods, which of its containers, which port.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::ResolveError;

/// PostgreSQL's port, where the pod does not say another one.
const PORT: u16 = 5432;

/// Labels with which operators and charts mark the pod that takes writes, and the values that say so.
const PRIMARY_LABELS: [&str; 5] = [
    "cnpg.io/instanceRole",
    "role",
    "spilo-role",
    "postgres-operator.crunchydata.com/role",
    "app.kubernetes.io/component",
];
const PRIMARY_VALUES: [&str; 2] = ["primary", "master"];

/// Why none of some pods can be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unready {
    NoPod,
    NotReady(Vec<String>),
    Several(Vec<String>),
}

/// The ready pod, and of several ones the marked primary.
pub(super) fn one_ready(pods: Vec<Pod>) -> Result<Pod, Unready> {
    if pods.is_empty() {
        return Err(Unready::NoPod);
    }
    let (mut ready, unready): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(is_ready);
    if ready.len() > 1 && ready.iter().filter(|pod| is_primary(pod)).count() == 1 {
        ready.retain(is_primary);
    }
    match ready.len() {
        0 => Err(Unready::NotReady(unready.iter().map(state).collect())),
        1 => Ok(ready.remove(0)),
        _ => Err(Unready::Several(ready.iter().map(ResourceExt::name_any).collect())),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_ready && pod.metadata.deletion_timestamp.is_none()
}

fn is_primary(pod: &Pod) -> bool {
    let mut values = PRIMARY_LABELS.iter().filter_map(|label| pod.labels().get(*label));
    values.any(|value| PRIMARY_VALUES.contains(&&**value))
}

/// Why a pod is not ready: `immich-postgres-0: CrashLoopBackOff (back-off 5m0s …)`.
fn state(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let with = |reason: String, message: Option<String>| match message {
        Some(message) => format!("{reason} ({message})"),
        None => reason,
    };
    let waiting = |container: &ContainerStatus| {
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|state| Some(with(state.reason?, state.message)));
        waiting.or_else(|| Some(with(state.terminated?.reason?, None)))
    };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let failing = status.conditions.iter().flatten().find(|condition| condition.status == "False");
    let reason = if pod.metadata.deletion_timestamp.is_some() {
        "it is being deleted".to_owned()
    } else if let Some(reason) = containers.into_iter().find_map(waiting) {
        reason
    } else if let Some(condition) = failing {
        with(condition.reason.clone().unwrap_or_else(|| condition.type_.clone()), condition.message.clone())
    } else {
        status.phase.unwrap_or_else(|| "its state is unknown".to_owned())
    };
    format!("{}: {reason}", pod.name_any())
}

/// What the port of a Service that leads to PostgreSQL targets.
pub(super) fn service_port(ports: &[ServicePort]) -> Option<IntOrString> {
    let is_postgres = |port: &&ServicePort| {
        port.port == i32::from(PORT) || port.name.as_ref().is_some_and(|name| name.contains("postgres"))
    };
    let port = match ports {
        [only] => only,
        several => several.iter().find(is_postgres)?,
    };
    Some(port.target_port.clone().unwrap_or(IntOrString::Int(port.port)))
}

/// The container that runs PostgreSQL, and the port that it listens on.
pub(super) fn listener(
    pod: &Pod,
    wanted: Option<&str>,
    target: Option<&IntOrString>,
) -> Result<(String, u16), ResolveError> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).collect::<Vec<_>>();
    let by_target =
        || containers.iter().find(|container| target.is_some_and(|at| declared(container, at).is_some()));
    let by_marks =
        || match &containers.iter().filter(|container| is_postgres(container)).collect::<Vec<_>>()[..] {
            [one] => Some(*one),
            _ => None,
        };
    let found = match (wanted, &containers[..]) {
        (Some(wanted), all) => all.iter().find(|container| container.name == wanted),
        (None, [only]) => Some(only),
        (None, _) => by_target().or_else(by_marks),
    };
    let container = found.ok_or_else(|| ResolveError::NoContainer {
        pod: pod.name_any(),
        wanted: wanted.map(str::to_owned),
        containers: containers.iter().map(|container| container.name.clone()).collect(),
    })?;
    let declared = target.and_then(|target| declared(container, target));
    let targeted = target.and_then(|target| match target {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(_) => None,
    });
    let port = declared.or(targeted).unwrap_or_else(|| container_port(container));
    Ok((container.name.clone(), port))
}

/// The container's port that a Service's `targetPort` means, by name or number.
fn declared(container: &Container, target: &IntOrString) -> Option<u16> {
    let port = container.ports.iter().flatten().find(|port| match target {
        IntOrString::Int(number) => port.container_port == *number,
        IntOrString::String(name) => port.name.as_ref() == Some(name),
    })?;
    u16::try_from(port.container_port).ok()
}

/// Whether a server runs in one of a pod's containers.
pub(in crate::kubernetes) fn is_server(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| &spec.containers).any(is_postgres)
}

/// Whether a container's ports, environment or image say that PostgreSQL runs in it. Exporters and backup jobs beside it
/// have `postgres` in the name of their image too, but neither its port nor its settings.
fn is_postgres(container: &Container) -> bool {
    let mut ports = container.ports.iter().flatten();
    let mut names = container.env.iter().flatten().map(|variable| &*variable.name);
    ports.any(|port| port.container_port == i32::from(PORT))
        || names.any(|name| {
            matches!(name, "PGDATA" | "POSTGRES_PASSWORD" | "POSTGRESQL_PASSWORD" | "POSTGRES_DB")
        })
}

/// The port by the server's own settings, else by what the container declares, else PostgreSQL's.
fn container_port(container: &Container) -> u16 {
    let set = container.env.iter().flatten().find_map(|variable| match &*variable.name {
        "PGPORT" | "POSTGRESQL_PORT_NUMBER" => variable.value.as_ref()?.parse().ok(),
        _ => None,
    });
    let declared = container.ports.iter().flatten().find_map(|port| {
        let is_postgres = port.name.as_ref().is_some_and(|name| name.contains("postgres"));
        (is_postgres || port.container_port == i32::from(PORT))
            .then(|| u16::try_from(port.container_port).ok())?
    });
    set.or(declared).unwrap_or(PORT)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const IMMICH: &str = include_str!("../../../tests/fixtures/kubernetes/immich-postgres-0.json");
    const BITNAMI: &str = include_str!("../../../tests/fixtures/kubernetes/bitnami-0.json");

    fn pod(text: &str, change: impl Fn(&mut Value)) -> Pod {
        let mut pod: Value = serde_json::from_str(text).expect("a fixture is JSON");
        change(&mut pod);
        serde_json::from_value(pod).expect("a fixture is a pod")
    }

    fn named(name: &'static str, labels: Value) -> Pod {
        pod(IMMICH, move |pod| {
            pod["metadata"]["name"] = name.into();
            pod["metadata"]["labels"] = labels.clone();
        })
    }

    fn at(pod: &Pod, wanted: Option<&str>, target: Option<&IntOrString>) -> (String, u16) {
        listener(pod, wanted, target).expect("a container")
    }

    #[test]
    fn the_ready_pod_is_taken() {
        let terminating =
            pod(IMMICH, |pod| pod["metadata"]["deletionTimestamp"] = "2025-11-20T08:00:00Z".into());
        let unready = pod(IMMICH, |pod| pod["status"]["conditions"][3]["status"] = "False".into());
        let found = one_ready(vec![terminating, unready, named("immich-postgres-1", json!({}))]);
        assert_eq!(found.expect("a pod").name_any(), "immich-postgres-1");
        assert_eq!(one_ready(Vec::new()).map(|pod| pod.name_any()), Err(Unready::NoPod));
    }

    #[test]
    fn of_several_ready_pods_the_marked_primary_is_taken() {
        for (label, value) in
            [("cnpg.io/instanceRole", "primary"), ("spilo-role", "master"), ("role", "master")]
        {
            let found = one_ready(vec![
                named("a-0", json!({ label: "replica" })),
                named("a-1", json!({ label: value })),
            ]);
            assert_eq!(found.expect("a pod").name_any(), "a-1", "{label}");
        }
        for role in ["replica", "primary"] {
            let both = vec![named("a-0", json!({ "role": role })), named("a-1", json!({ "role": role }))];
            assert_eq!(
                one_ready(both).map(|pod| pod.name_any()),
                Err(Unready::Several(vec!["a-0".into(), "a-1".into()]))
            );
        }
    }

    #[test]
    fn a_pod_that_is_not_ready_says_why() {
        let words = |change: &dyn Fn(&mut Value)| {
            let pod = pod(IMMICH, |pod| {
                pod["status"]["conditions"][3]["status"] = "False".into();
                change(pod);
            });
            match one_ready(vec![pod]) {
                Err(Unready::NotReady(pods)) => pods.join("; "),
                other => panic!("{other:?}"),
            }
        };
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 5m0s" } });
        assert_eq!(
            words(&|pod| pod["status"]["containerStatuses"][0]["state"] = waiting.clone()),
            "immich-postgres-0: CrashLoopBackOff (back-off 5m0s)"
        );
        assert_eq!(
            words(&|pod| pod["status"] = json!({ "phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available"
            }] })),
            "immich-postgres-0: Unschedulable (0/3 nodes are available)"
        );
        assert_eq!(
            words(&|pod| pod["metadata"]["deletionTimestamp"] = "2025-11-20T08:00:00Z".into()),
            "immich-postgres-0: it is being deleted"
        );
        assert_eq!(words(&|pod| pod["status"] = json!({ "phase": "Running" })), "immich-postgres-0: Running");
    }

    #[test]
    fn the_container_is_the_servers_and_not_the_exporters() {
        assert_eq!(at(&pod(IMMICH, |_| ()), None, None), ("postgres".into(), 5432));
        assert_eq!(at(&pod(BITNAMI, |_| ()), None, None), ("postgresql".into(), 5432));
        let unmarked = pod(IMMICH, |pod| {
            let container = &mut pod["spec"]["containers"][1];
            (container["env"], container["ports"]) = (json!([]), json!([]));
        });
        let error = listener(&unmarked, None, None).expect_err("nothing tells");
        assert_eq!(
            error.to_string(),
            "pod immich-postgres-0 does not tell in which container PostgreSQL runs"
        );
        assert_eq!(at(&unmarked, Some("postgres"), None), ("postgres".into(), 5432));
        let error = listener(&unmarked, Some("db"), None).expect_err("no such container");
        assert_eq!(error.to_string(), "pod immich-postgres-0 has no container db");
    }

    #[test]
    fn the_port_is_the_servers_own() {
        let with = |env: Value, ports: Value| {
            let pod = pod(IMMICH, |pod| {
                let container = &mut pod["spec"]["containers"][1];
                (container["env"], container["ports"]) = (env.clone(), ports.clone());
            });
            at(&pod, Some("postgres"), None).1
        };
        assert_eq!(with(json!([{ "name": "PGPORT", "value": "5433" }]), json!([])), 5433);
        assert_eq!(with(json!([]), json!([{ "containerPort": 6000, "name": "postgresql" }])), 6000);
        assert_eq!(with(json!([]), json!([{ "containerPort": 9187 }, { "containerPort": 5432 }])), 5432);
        assert_eq!(with(json!([]), json!([{ "containerPort": 9187 }])), 5432);
    }

    #[test]
    fn a_service_leads_to_the_port_that_it_targets() {
        let ports = |value: Value| serde_json::from_value::<Vec<ServicePort>>(value).expect("ports");
        let several =
            ports(json!([{ "port": 9187, "name": "metrics" }, { "port": 5432, "targetPort": "postgres" }]));
        assert_eq!(service_port(&several), Some(IntOrString::String("postgres".into())));
        assert_eq!(service_port(&ports(json!([{ "port": 6000 }]))), Some(IntOrString::Int(6000)));
        assert_eq!(service_port(&ports(json!([{ "port": 1 }, { "port": 2 }]))), None);

        let pod = pod(IMMICH, |pod| pod["spec"]["containers"][1]["ports"][0]["containerPort"] = 6432.into());
        assert_eq!(at(&pod, None, Some(&IntOrString::String("postgres".into()))), ("postgres".into(), 6432));
        assert_eq!(at(&pod, None, Some(&IntOrString::Int(9187))), ("exporter".into(), 9187));
        assert_eq!(at(&pod, None, Some(&IntOrString::Int(6433))), ("postgres".into(), 6433));
    }
}
