//! What `pgmove check` sees of the objects in Kubernetes behind both sides.

use super::{Context, Source};
use crate::cutover::freeze::FreezePlan;
use crate::error::{Error, Fault, chain};
use crate::kubernetes::{ClusterLook, Instance, Kind, Route};
use crate::pg::Endpoint;
use crate::survey::Skipped;

/// The objects behind both sides, as far as there are any.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) source: Option<Instance>,
    pub(super) target: Option<ClusterLook>,
    pub(super) freeze: Option<FreezePlan>,
    pub(super) skipped: Vec<Skipped>,
}

impl Context<'_> {
    pub(super) async fn objects(&self) -> Result<Objects, Error> {
        let mut seen = Objects::default();
        match self.freeze_plan().await {
            Ok(plan) => seen.freeze = plan,
            Err(error) => seen
                .skipped
                .push(Skipped { what: "what a freeze would stop".into(), why: error.chain().join(": ") }),
        }
        if let Source::Server(endpoint) = &self.source
            && let Some(route) = route(endpoint)
        {
            match Instance::look(route).await {
                Ok((instance, _)) => seen.source = Some(instance),
                Err(error) => seen.skipped.push(unseen(route, &error)),
            }
        }
        if let Some(route) = route(&self.target).filter(|route| route.object.kind == Kind::Cluster) {
            match ClusterLook::look(route, None).await {
                Ok(look) => seen.target = Some(look),
                Err(error) => seen.skipped.push(unseen(route, &error)),
            }
        }
        Ok(seen)
    }
}

fn route(endpoint: &Endpoint) -> Option<&Route> {
    endpoint.conninfo.route().map(AsRef::as_ref)
}

fn unseen(route: &Route, error: &impl Fault) -> Skipped {
    Skipped { what: format!("the objects of {route}"), why: chain(error).join(": ") }
}
