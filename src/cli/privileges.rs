//! How what needs a superuser reaches a Cluster of CloudNative-PG for which no `--target-admin` is given.
//!
//! The Secret of its superuser goes first, then psql in the pod of its primary. A way is taken when it was tried: the Secret is
//! there, and psql has answered.

use std::sync::Arc;
use std::time::Duration;

use super::cluster;
use super::connections::Endpoint;
use super::endpoints::{ObjectOptions, Privileges};
use crate::catalog::SessionRights;
use crate::error::{Class, Error, Exit, Fault};
use crate::kubernetes::{Account, Kind, Psql, Route};
use crate::pg::ConnInfo;
use crate::pg::server_error::describe_chain;
use crate::settings::Substitute;

/// How long psql may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A superuser's login, or what takes its place.
pub(super) type Superuser = (Option<ConnInfo>, Substitute);

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
    let Some(route) = route else { return Ok((None, Substitute::None)) };
    match asked.unwrap_or(Privileges::Auto) {
        Privileges::None => Ok((None, Substitute::None)),
        Privileges::Secret => Ok((Some(by_secret(route, options).await?), Substitute::None)),
        Privileges::Exec => Ok((None, Substitute::Psql(by_psql(route, target).await?))),
        Privileges::Auto => {
            let no_secret = match by_secret(route, options).await {
                Ok(login) => return Ok((Some(login), Substitute::None)),
                Err(error) => describe_chain(&*error.fault),
            };
            match by_psql(route, target).await {
                Ok(psql) => Ok((None, Substitute::Psql(psql))),
                Err(error) => {
                    let no_psql = describe_chain(&*error.fault);
                    let reason = format!("{no_secret}; and psql in its pod cannot be run: {no_psql}");
                    Ok((None, Substitute::Nobody(reason)))
                }
            }
        }
    }
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
