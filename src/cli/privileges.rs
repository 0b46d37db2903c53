//! How what needs a superuser reaches a Cluster of CloudNative-PG for which no `--target-admin` is given.
//!
//! Extensions are left to its operator. For the rest, and where that is no way, the Secret of its superuser goes first, then
//! psql in the pod of its primary. A way is taken when it was tried: the API server would take a Database resource, the
//! Secret is there, psql has answered.

use std::sync::Arc;
use std::time::Duration;

use super::cluster;
use super::connections::Endpoint;
use super::endpoints::{ObjectOptions, Privileges};
use crate::catalog::SessionRights;
use crate::error::{Class, Error, Exit, Fault};
use crate::kubernetes::{Account, Kind, Operator, Psql, Route};
use crate::pg::ConnInfo;
use crate::pg::server_error::describe_chain;
use crate::settings::Substitute;

/// How long psql may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A superuser's login, or what takes its place.
#[derive(Debug, Default)]
pub(super) struct Superuser {
    pub(super) login: Option<ConnInfo>,
    pub(super) substitute: Substitute,
    pub(super) operator: Option<Operator>,
}

/// A way to a superuser is asked for only where there are several.
pub(super) fn refuse_without_cluster(target: &Endpoint, asked: Option<Privileges>) -> Result<(), Error> {
    let is_cluster = matches!(target, Endpoint::Object(object) if object.kind == Kind::Cluster);
    if is_cluster || asked.is_none() { Ok(()) } else { Err(Error::new(Exit::Usage, NoCluster)) }
}

/// Chooses a way to a superuser of the target.
pub(super) async fn superuser(
    target: &ConnInfo,
    options: &ObjectOptions<'_>,
    asked: Option<Privileges>,
) -> Result<Superuser, Error> {
    let route = target.route().filter(|route| route.object.kind == Kind::Cluster);
    let Some(route) = route else { return Ok(Superuser::default()) };
    match asked.unwrap_or(Privileges::Auto) {
        Privileges::None => Ok(Superuser::default()),
        Privileges::Database => {
            let operator = Some(by_operator(route, target).await?);
            Ok(Superuser { operator, ..Superuser::default() })
        }
        Privileges::Secret => {
            let login = Some(by_secret(route, options).await?);
            Ok(Superuser { login, ..Superuser::default() })
        }
        Privileges::Exec => {
            let substitute = Substitute::Psql(by_psql(route, target).await?);
            Ok(Superuser { substitute, ..Superuser::default() })
        }
        Privileges::Auto => Ok(any(route, target, options).await),
    }
}

/// The operator for extensions, and the first other way for the rest.
async fn any(route: &Arc<Route>, target: &ConnInfo, options: &ObjectOptions<'_>) -> Superuser {
    let why = |error: Error| describe_chain(&*error.fault);
    let (operator, no_operator) = match by_operator(route, target).await {
        Ok(operator) => (Some(operator), String::new()),
        Err(error) => (None, format!("extensions cannot be left to the operator: {}; ", why(error))),
    };
    let no_secret = match by_secret(route, options).await {
        Ok(login) => return Superuser { login: Some(login), operator, ..Superuser::default() },
        Err(error) => why(error),
    };
    let substitute = match by_psql(route, target).await {
        Ok(psql) => Substitute::Psql(psql),
        Err(error) => Substitute::Nobody(format!(
            "{no_operator}{no_secret}; psql in its pod cannot be run: {}",
            why(error)
        )),
    };
    Superuser { substitute, operator, ..Superuser::default() }
}

async fn by_operator(route: &Arc<Route>, target: &ConnInfo) -> Result<Operator, Error> {
    let operator = Operator { route: Arc::clone(route), database: target.database().to_owned() };
    Box::pin(operator.probe(target.user())).await.map_err(|error| Error::new(Exit::Refused, error))?;
    Ok(operator)
}

async fn by_secret(route: &Route, options: &ObjectOptions<'_>) -> Result<ConnInfo, Error> {
    Box::pin(cluster::conninfo(&route.server, &route.object, options, Account::Superuser)).await
}

async fn by_psql(route: &Arc<Route>, target: &ConnInfo) -> Result<Psql, Error> {
    let psql = Psql {
        route: Arc::clone(route),
        database: target.database().to_owned(),
        application_name: "pgmove".to_owned(),
        stall: ANSWER,
    };
    let rights = psql.ask::<SessionRights>(include_str!("../../sql/catalog/session.sql"), &[]).await;
    match rights.map_err(|error| Error::new(Exit::Refused, error))?.first() {
        Some(rights) if rights.is_superuser => Ok(psql),
        _ => Err(Error::new(Exit::Refused, NoSuperuser { psql: psql.to_string() })),
    }
}

/// A way into a Cluster, and no Cluster.
#[derive(Debug, thiserror::Error)]
#[error("--target-privileges is for a Cluster of CloudNative-PG, and --target is none")]
struct NoCluster;

impl Fault for NoCluster {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("name the superuser's login with --target-admin, where one is needed".into())
    }
}

/// A server on which `postgres` is an ordinary role.
#[derive(Debug, thiserror::Error)]
#[error("{psql} is no superuser")]
struct NoSuperuser {
    psql: String,
}

impl Fault for NoSuperuser {
    fn class(&self) -> Class {
        Class::Target
    }
}
