//! Extensions by way of CloudNative-PG's operator, which makes them as a superuser: a Database resource names them
//! (`spec.extensions`, since 1.26).
//!
//! [`Operator::create`] makes a Database of its own, which is there until the operator has followed it; the database itself
//! is retained when it goes. The operator lets one Database manage a database, so where there is one this is no way.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, ValidationDirective,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::request::{ApiError, Request};
use super::workload::Route;
use crate::error::{Class, Fault};

/// How long the operator may take: it follows a change at once, and tries again after 30 s where it could not.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often its answer is looked for.
const PAUSE: Duration = Duration::from_millis(300);

/// The operator of a Cluster.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The way to the Cluster.
    pub route: Arc<Route>,
    /// The database that extensions are made in.
    pub database: String,
}

/// An extension that the operator is to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedExtension {
    /// Its name.
    pub name: String,
    /// The schema; none where the extension has one of its own.
    pub schema: Option<String>,
}

impl Operator {
    /// Whether this is a way: the cluster knows Databases with extensions, the account may make, see and remove one, and none
    /// of somebody else's is there.
    pub async fn probe(&self, owner: &str) -> Result<(), OperatorError> {
        let there = self.of_database().await?;
        if let Some(object) = there.iter().find(|object| !is_ours(object)) {
            let object = object.metadata.name.clone().unwrap_or_default();
            return Err(OperatorError::Managed { object, database: self.database.clone() });
        }
        let any = WantedExtension { name: "plpgsql".to_owned(), schema: None };
        self.apply(PROBE, owner, &[any], true).await?;
        let (server, api) = (&self.route.server, self.api());
        server.ask(self.request("get", PROBE), api.get_opt(PROBE)).await?;
        let parameters = DeleteParams { dry_run: true, ..DeleteParams::default() };
        match server.ask(self.request("delete", PROBE), api.delete(PROBE, &parameters)).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The Databases of this database.
    async fn of_database(&self) -> Result<Vec<DynamicObject>, ApiError> {
        let mut found: Vec<DynamicObject> =
            self.route.server.list(&resource(), &self.route.namespace, "").await?;
        found.retain(|object| {
            let spec = &object.data["spec"];
            spec["cluster"]["name"] == *self.route.object.name && spec["name"] == *self.database
        });
        Ok(found)
    }

    /// Has the operator make extensions, in their order, for a run. `owner` owns the database, and stays its owner.
    pub async fn create(
        &self,
        run: &str,
        owner: &str,
        extensions: &[WantedExtension],
        stop: &CancellationToken,
    ) -> Result<(), OperatorError> {
        let name = self.name(run);
        // The same run takes over what it has left; of another one the operator would follow neither.
        let is_other = |object: &&DynamicObject| object.metadata.name.as_ref() != Some(&name);
        if let Some(object) = self.of_database().await?.iter().find(is_other) {
            let (object, database) =
                (object.metadata.name.clone().unwrap_or_default(), self.database.clone());
            return Err(OperatorError::Managed { object, database });
        }
        let outcome = match self.apply(&name, owner, extensions, false).await {
            Ok(made) => self.followed(&name, made.metadata.generation, stop).await,
            // Its answer may be lost, and the resource there.
            Err(error) if error.is_retryable() => Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        self.remove(&name).await?;
        outcome
    }

    async fn remove(&self, name: &str) -> Result<(), OperatorError> {
        let (api, parameters) = (self.api(), DeleteParams::default());
        let begun = Instant::now();
        loop {
            let deleted =
                self.route.server.ask(self.request("delete", name), api.delete(name, &parameters)).await;
            match deleted {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if error.is_retryable() && begun.elapsed() < PATIENCE => sleep(PAUSE).await,
                Err(source) => return Err(OperatorError::Left { object: name.to_owned(), source }),
            }
        }
    }

    /// The Database that is made for a run.
    pub fn name(&self, run: &str) -> String {
        format!("{OWN}{run}")
    }

    async fn apply(
        &self,
        name: &str,
        owner: &str,
        extensions: &[WantedExtension],
        dry_run: bool,
    ) -> Result<DynamicObject, ApiError> {
        let extension = |wanted: &WantedExtension| match &wanted.schema {
            Some(schema) => json!({ "name": wanted.name, "schema": schema }),
            None => json!({ "name": wanted.name }),
        };
        let body = json!({
            "apiVersion": "postgresql.cnpg.io/v1",
            "kind": "Database",
            "metadata": { "name": name, "labels": { MANAGED.0: MANAGED.1 } },
            "spec": {
                "cluster": { "name": self.route.object.name },
                "name": self.database,
                "owner": owner,
                "databaseReclaimPolicy": "retain",
                "extensions": extensions.iter().map(extension).collect::<Vec<_>>(),
            },
        });
        // An operator before 1.26 has no extensions: it would drop the field without a word.
        let parameters = PatchParams {
            dry_run,
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply("pgmove")
        };
        let (api, body) = (self.api(), Patch::Apply(&body));
        self.route.server.ask(self.request("patch", name), api.patch(name, &parameters, &body)).await
    }

    /// Waits until the operator has followed the resource.
    async fn followed(
        &self,
        name: &str,
        generation: Option<i64>,
        stop: &CancellationToken,
    ) -> Result<(), OperatorError> {
        let begun = Instant::now();
        let mut said = None;
        while begun.elapsed() < PATIENCE {
            if stop.is_cancelled() {
                return Err(OperatorError::Interrupted);
            }
            let found: DynamicObject =
                self.route.server.get(&resource(), &self.route.namespace, name).await?;
            let status = &found.data["status"];
            match status["applied"].as_bool() {
                Some(true) if status["observedGeneration"].as_i64() == generation => return Ok(()),
                // It tries again, and may succeed: after a switchover for instance.
                Some(false) => said = Some(why(status)),
                _ => {}
            }
            sleep(PAUSE).await;
        }
        let cluster = self.route.object.name.clone();
        Err(match said {
            Some(said) => OperatorError::Refused { cluster, said },
            None => OperatorError::Silent { cluster },
        })
    }

    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.route.server.client().clone(), &self.route.namespace, &resource())
    }

    fn request(&self, verb: &'static str, name: &str) -> Request {
        Request::of::<DynamicObject>(&resource(), verb, Some(&self.route.namespace), Some(name))
    }
}

/// What the names of pgmove's resources begin with.
const OWN: &str = "pgmove-";

/// The one that is made for no run.
const PROBE: &str = "pgmove-check";

/// What a killed run has left is taken over by the same run.
fn is_ours(object: &DynamicObject) -> bool {
    let labels = object.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED.0)).is_some_and(|by| by == MANAGED.1)
}

/// What tells pgmove's resources from others.
const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "pgmove");

fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Database");
    ApiResource::from_gvk_with_plural(&kind, "databases")
}

/// What the operator says of what it could not do, the extensions' messages before its own.
fn why(status: &Value) -> String {
    let extensions = status["extensions"].as_array().into_iter().flatten();
    let failed = extensions.filter(|extension| extension["applied"] == false).filter_map(|extension| {
        Some(format!("{}: {}", extension["name"].as_str()?, extension["message"].as_str()?))
    });
    let said: Vec<String> = failed.collect();
    if said.is_empty() {
        status["message"].as_str().unwrap_or("no reason").to_owned()
    } else {
        said.join("; ")
    }
}

/// Why the operator has not made an extension.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Another resource manages the database.
    #[error("Database {object} manages database {database} already, and the operator takes no second one")]
    Managed {
        /// The resource.
        object: String,
        /// The database.
        database: String,
    },
    /// The operator could not do it.
    #[error("the operator of cluster/{cluster} could not create the extensions: {said}")]
    Refused {
        /// The Cluster.
        cluster: String,
        /// Its words.
        said: String,
    },
    /// The operator did nothing.
    #[error("the operator of cluster/{cluster} has not followed a Database resource for {} s", PATIENCE.as_secs())]
    Silent {
        /// The Cluster.
        cluster: String,
    },
    /// The resource stays.
    #[error("Database {object} could not be removed again")]
    Left {
        /// The resource.
        object: String,
        /// Why.
        source: ApiError,
    },
    /// The run is to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Fault for OperatorError {
    fn class(&self) -> Class {
        match self {
            OperatorError::Api(error) | OperatorError::Left { source: error, .. } => error.class(),
            OperatorError::Managed { .. } | OperatorError::Interrupted => Class::User,
            OperatorError::Refused { .. } | OperatorError::Silent { .. } => Class::Cluster,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, OperatorError::Api(error) if error.is_retryable())
    }

    fn hint(&self) -> Option<String> {
        match self {
            OperatorError::Api(error) => error.hint(),
            OperatorError::Managed { object, .. } if object.starts_with(OWN) => Some(format!(
                "a run of pgmove has made it: if that was killed and is not gone on with, kubectl delete database {object}; the \
                 database and its extensions stay (its policy is retain)"
            )),
            OperatorError::Managed { object, .. } => {
                Some(format!("name the extensions in its spec.extensions (kubectl edit database {object})"))
            }
            OperatorError::Refused { .. } | OperatorError::Silent { .. } => Some(
                "see the operator's log and that of the primary; --target-privileges takes another way"
                    .to_owned(),
            ),
            OperatorError::Left { object, .. } => Some(format!(
                "kubectl delete database {object}; the database and its extensions stay (its policy is retain)"
            )),
            OperatorError::Interrupted => None,
        }
    }
}
