//! What `pgmove check` sees of the objects in Kubernetes behind both sides.

use super::Context;
use crate::cutover::freeze::FreezePlan;
use crate::error::{Error, Fault, chain};
use crate::kubernetes::{ClusterLook, Instance, Kind, Route};
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
        if let Some(route) = self.route() {
            match Instance::look(route).await {
                Ok((instance, _)) => seen.source = Some(instance),
                Err(error) => seen.skipped.push(unseen(route, &error)),
            }
        }
        let target = self.target.conninfo.route().filter(|route| route.object.kind == Kind::Cluster);
        if let Some(route) = target {
            match ClusterLook::look(route, None).await {
                Ok(look) => seen.target = Some(look),
                Err(error) => seen.skipped.push(unseen(route, &error)),
            }
        }
        Ok(seen)
    }
}

fn unseen(route: &Route, error: &impl Fault) -> Skipped {
    Skipped { what: format!("the objects of {route}"), why: chain(error).join(": ") }
}
