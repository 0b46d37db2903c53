//! From an object to the PostgreSQL server behind it: the ready pod, its container, its port.
//!
//! [`Route::resolve`] asks the API server each time, so that a connection that was cut finds the pod that took over. What
//! it decides is pure. Nothing is guessed: of several ready pods one must be marked as the primary, and of several
//! containers one must be PostgreSQL's.

mod error;
mod pod;

use std::fmt;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;
use kube::core::Selector;
use serde::{Deserialize, Serialize};

use super::client::ApiServer;
use super::cnpg;
use super::instance::controller;
use super::object::{Kind, ObjectRef};

pub use error::{Place, ResolveError};
pub(super) use pod::is_server;

/// Where a PostgreSQL server listens inside a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPort {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID: a pod that was replaced under the same name has another one.
    pub uid: String,
    /// The container that runs PostgreSQL.
    pub container: String,
    /// The port in the pod's network namespace.
    pub port: u16,
}

impl fmt::Display for PodPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.pod, self.port)
    }
}

/// The way to the server behind an object.
#[derive(Debug, Clone)]
pub struct Route {
    /// The cluster.
    pub server: ApiServer,
    /// The object's namespace.
    pub namespace: String,
    /// The object.
    pub object: ObjectRef,
    /// The container, for a pod that does not tell which one is PostgreSQL's.
    pub container: Option<String>,
}

/// The same object of the same cluster, by the same account as far as the context tells.
impl PartialEq for Route {
    fn eq(&self, other: &Route) -> bool {
        (self.server.url(), self.server.context()) == (other.server.url(), other.server.context())
            && (&self.namespace, &self.object, &self.container)
                == (&other.namespace, &other.object, &other.container)
    }
}

impl Eq for Route {}

/// `cluster/immich-postgres in media`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.object, self.namespace)
    }
}

impl Route {
    /// The way to an object in the namespace of the server's access.
    pub fn new(server: ApiServer, object: ObjectRef, container: Option<String>) -> Route {
        Route { namespace: server.namespace().to_owned(), server, object, container }
    }

    /// Looks for the pod, as it is now.
    pub async fn resolve(&self) -> Result<PodPort, ResolveError> {
        // Large, and held by whatever connects.
        let found = Box::pin(self.find()).await?;
        Ok(found.port)
    }

    /// The pod with its whole description.
    pub async fn find(&self) -> Result<Found, ResolveError> {
        let (server, namespace, name) = (&self.server, &*self.namespace, &*self.object.name);
        let mut target_port = None;
        let mut cluster = None;
        let (meta, pod) = match self.object.kind {
            Kind::Pod => {
                let pod: Pod = server.get(&(), namespace, name).await?;
                (pod.metadata.clone(), self.one_ready(vec![pod], None)?)
            }
            Kind::StatefulSet => {
                let set: StatefulSet = server.get(&(), namespace, name).await?;
                let spec = set.spec.unwrap_or_default();
                let mut pods = self.pods(&spec.selector).await?;
                // Another workload's pods may carry the same labels.
                let uid = set.metadata.uid.as_ref();
                pods.retain(|pod| pod.owner_references().iter().any(|owner| Some(&owner.uid) == uid));
                (set.metadata, self.one_ready(pods, spec.replicas)?)
            }
            Kind::Deployment => {
                let deployment: Deployment = server.get(&(), namespace, name).await?;
                let spec = deployment.spec.unwrap_or_default();
                let mut pods = self.pods(&spec.selector).await?;
                pods.retain(|pod| controller(&pod.metadata).as_ref() == Some(&self.object));
                (deployment.metadata, self.one_ready(pods, spec.replicas)?)
            }
            Kind::Service => {
                let service: Service = server.get(&(), namespace, name).await?;
                let spec = service.spec.unwrap_or_default();
                let labels = spec.selector.filter(|labels| !labels.is_empty());
                let labels = labels.ok_or_else(|| ResolveError::NoSelector { at: self.place() })?;
                target_port = pod::service_port(&spec.ports.unwrap_or_default());
                let selector = LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
                (service.metadata, self.one_ready(self.pods(&selector).await?, None)?)
            }
            Kind::Cluster => {
                let resource = cnpg::cluster_resource();
                let found: cnpg::Cluster = server.get(&resource, namespace, name).await?;
                let primary =
                    self.primary(found.status.as_ref().unwrap_or(&cnpg::ClusterStatus::default()))?;
                let pods = match server.get::<Pod>(&(), namespace, &primary).await {
                    Ok(pod) => vec![pod],
                    // Its operator makes it again.
                    Err(error) if error.is_not_found() => vec![],
                    Err(error) => return Err(error.into()),
                };
                let meta = found.metadata.clone();
                cluster = Some(Box::new(found));
                (meta, self.one_ready(pods, None)?)
            }
        };
        let wanted = match self.object.kind {
            Kind::Cluster => Some(cnpg::CONTAINER),
            _ => self.container.as_deref(),
        };
        let (container, port) = pod::listener(&pod, wanted, target_port.as_ref())?;
        let port = PodPort {
            namespace: namespace.to_owned(),
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            container,
            port,
        };
        Ok(Found { port, meta, pod, cluster })
    }

    /// The client of the cluster.
    pub fn client(&self) -> &kube::Client {
        self.server.client()
    }

    fn place(&self) -> Place {
        Place { object: self.object.clone(), namespace: self.namespace.clone() }
    }

    async fn pods(&self, selector: &LabelSelector) -> Result<Vec<Pod>, ResolveError> {
        let selector = Selector::try_from(selector.clone())
            .map_err(|error| ResolveError::Selector { at: self.place(), reason: error.to_string() })?;
        Ok(self.server.list(&(), &self.namespace, &selector.to_string()).await?)
    }

    fn one_ready(&self, pods: Vec<Pod>, replicas: Option<i32>) -> Result<Pod, ResolveError> {
        pod::one_ready(pods).map_err(|unready| match unready {
            pod::Unready::NoPod => ResolveError::NoPod { at: self.place(), replicas: replicas.unwrap_or(1) },
            pod::Unready::NotReady(pods) => ResolveError::NotReady { at: self.place(), pods },
            pod::Unready::Several(pods) => ResolveError::SeveralReady { at: self.place(), pods },
        })
    }

    /// The pod that takes writes, unless another one is about to.
    fn primary(&self, status: &cnpg::ClusterStatus) -> Result<String, ResolveError> {
        match (&status.current_primary, &status.target_primary) {
            (Some(current), Some(target)) if current != target => Err(ResolveError::Switchover {
                at: self.place(),
                current: current.clone(),
                target: target.clone(),
            }),
            (Some(current), _) => Ok(current.clone()),
            (None, _) => Err(ResolveError::NoPrimary {
                at: self.place(),
                phase: status.phase.clone().unwrap_or_else(|| "no phase is reported".to_owned()),
            }),
        }
    }
}

/// A server's pod.
#[derive(Clone)]
pub struct Found {
    /// Where it listens.
    pub port: PodPort,
    /// Labels, annotations and owners of the object that was asked for.
    pub meta: ObjectMeta,
    /// The pod.
    pub pod: Pod,
    /// The Cluster, if that is what was asked for.
    pub cluster: Option<Box<cnpg::Cluster>>,
}

impl Found {
    /// The container that runs PostgreSQL.
    pub fn container(&self) -> &Container {
        let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
        containers
            .into_iter()
            .find(|container| container.name == self.port.container)
            .expect("found in this pod")
    }
}

/// Not the pod: its environment may hold a password.
impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("port", &self.port).finish_non_exhaustive()
    }
}
