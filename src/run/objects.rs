//! What a run and `pgmove check` see of the objects in Kubernetes behind both sides.

use super::{Checked, Context};
use crate::cutover::freeze::FreezePlan;
use crate::error::{Error, Exit, Fault, chain};
use crate::kubernetes::rights::{Place, Right, Server, Way, lacking, rights};
use crate::kubernetes::{ApiError, ClusterLook, Instance, Kind, Route};
use crate::preflight::kubernetes::{self, Missing};
use crate::preflight::{self, Finding, Severity};
use crate::survey::Skipped;

/// The objects behind both sides, as far as there are any.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) source: Option<Instance>,
    pub(super) target: Option<ClusterLook>,
    pub(super) freeze: Option<FreezePlan>,
    /// Why the freeze would fail.
    pub(super) findings: Vec<Finding>,
    pub(super) skipped: Vec<Skipped>,
}

impl Objects {
    /// The memory limit of the target's server, in bytes.
    pub(super) fn memory_limit(&self) -> Option<u64> {
        self.target.as_ref().and_then(|look| look.memory_limit)
    }
}

impl Context<'_> {
    pub(super) async fn objects(&self) -> Objects {
        let mut seen = Objects::default();
        self.look_elsewhere(&mut seen).await;
        // Where it may not look, nothing can be planned.
        if !preflight::is_refused(&seen.findings) {
            match self.freeze_plan().await {
                Ok(plan) => seen.freeze = plan,
                Err(error) => seen.findings.push(refused(&error)),
            }
        }
        if let Some(plan) = &seen.freeze {
            match self.missing_for(plan).await {
                Ok(missing) => seen.findings.extend(kubernetes::rights(&missing)),
                Err(error) => seen.skipped.push(unasked("the rights on what Flux keeps", &error)),
            }
            // A right that is missing is one reason, and told already.
            if !preflight::is_refused(&seen.findings)
                && let Err(error) = self.rehearse_freeze(plan).await
            {
                seen.findings.push(refused(&error));
            }
        }
        if let Some(route) = self.route() {
            match Instance::look(route).await {
                Ok((instance, _)) => seen.source = Some(instance),
                Err(error) => seen.skipped.push(unseen(route, &error)),
            }
        }
        let target = self.target.conninfo.route().filter(|route| route.object.kind == Kind::Cluster);
        if let Some(route) = target {
            match ClusterLook::look(route).await {
                Ok(look) => seen.target = Some(look),
                Err(error) => seen.skipped.push(unseen(route, &error)),
            }
        }
        seen
    }

    /// What a run that begins heeds of them: they are findings of its check like the others. One that goes on is only warned:
    /// a replica that is down does not keep a window open.
    pub(super) async fn heed_objects(&self, checked: &mut Checked, has_begun: bool) {
        let objects = Box::pin(self.objects()).await;
        for Skipped { what, why } in &objects.skipped {
            self.events.warn(format!("could not look at {what}: {why}"));
        }
        checked.memory_limit = objects.memory_limit();
        let mut found = kubernetes::findings(&kubernetes::Objects {
            source: objects.source.as_ref(),
            target: objects.target.as_ref(),
            freeze: objects.freeze.as_ref(),
            needs: None,
            index_memory: self.settings.index_memory,
            // Only a check tells it.
            client_tools: None,
            creates_extensions: Some(self.creates_extensions(checked)),
        });
        // Told note by note when it freezes.
        found.retain(|finding| finding.id != "freeze-note");
        found.extend(objects.findings);
        for finding in found.iter_mut().filter(|_| has_begun) {
            finding.severity = finding.severity.min(Severity::Warning);
        }
        checked.findings.extend(found);
        preflight::sort(&mut checked.findings);
    }

    /// Whether somebody creates the extensions that only a superuser may.
    pub(super) fn creates_extensions(&self, checked: &Checked) -> bool {
        checked.has_superuser() || self.settings.connections.operator.is_some()
    }

    /// Asks for the rights in the other namespaces that have applications of the source; those in its own were asked for before.
    async fn look_elsewhere(&self, seen: &mut Objects) {
        let Some((freeze, route)) =
            self.settings.freeze.as_ref().map(|asked| self.freezing(asked)).zip(self.route())
        else {
            return;
        };
        let mut namespaces = freeze.named_namespaces();
        match freeze.connected_namespaces().await {
            Ok(connected) => namespaces.extend(connected),
            Err(error) => seen.findings.push(refused(&Error::new(Exit::Refused, error))),
        }
        let wanted = rights(Way::Freeze, &server_of(route), Place::Workloads);
        let mut missing = vec![];
        for namespace in namespaces {
            match missing_in(route, &namespace, &wanted).await {
                Ok(found) => missing.extend(found),
                Err(error) => {
                    seen.skipped.push(unasked(&format!("the rights in namespace {namespace}"), &error));
                }
            }
        }
        seen.findings.extend(kubernetes::rights(&missing));
    }

    /// The rights on the objects of Flux that the plan changes; those on the others were asked for before.
    async fn missing_for(&self, plan: &FreezePlan) -> Result<Vec<Missing>, ApiError> {
        let Some(route) = self.route() else { return Ok(vec![]) };
        let of_flux = rights(Way::Freeze, &server_of(route), Place::Flux);
        let mut missing = vec![];
        for change in &plan.changes {
            let of_kind = |right: &&Right| {
                right.group == change.object.group && right.resources.contains(&&*change.object.plural)
            };
            let wanted: Vec<Right> = of_flux.iter().filter(of_kind).cloned().collect();
            missing.extend(missing_in(route, &change.object.namespace, &wanted).await?);
        }
        Ok(missing)
    }
}

/// Those of some rights for a freeze that the account has not in a namespace.
async fn missing_in(route: &Route, namespace: &str, wanted: &[Right]) -> Result<Vec<Missing>, ApiError> {
    let mut missing = vec![];
    for right in lacking(&route.server, namespace, wanted).await? {
        let is_optional = right.verbs == ["watch"];
        let (context, namespace) = (route.server.context().map(str::to_owned), namespace.to_owned());
        let account = route.server.account().await?;
        missing.push(Missing { account, context, namespace, right, is_optional });
    }
    Ok(missing)
}

fn server_of(route: &Route) -> Server<'_> {
    Server { object: &route.object, secret: None }
}

fn unasked(what: &str, error: &ApiError) -> Skipped {
    Skipped { what: what.to_owned(), why: chain(error).join(": ") }
}

fn refused(error: &Error) -> Finding {
    kubernetes::freeze_refused(error.chain().join(": "), error.fault.hint())
}

fn unseen(route: &Route, error: &impl Fault) -> Skipped {
    Skipped { what: format!("the objects of {route}"), why: chain(error).join(": ") }
}
