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

/// After which times an error that may pass is tried again.
const PAUSES: [Duration; 3] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3)];

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
        Privileges::Auto => Box::pin(any(route, target, options)).await,
    }
}

/// The operator for extensions, and the first other way for the rest.
async fn any(route: &Arc<Route>, target: &ConnInfo, options: &ObjectOptions<'_>) -> Result<Superuser, Error> {
    let (operator, no_operator) = match known(async || by_operator(route, target).await).await? {
        Ok(operator) => (Some(operator), String::new()),
        Err(why) => (None, format!("extensions cannot be left to the operator: {why}; ")),
    };
    let no_secret = match known(async || by_secret(route, options).await).await? {
        Ok(login) => return Ok(Superuser { login: Some(login), operator, ..Superuser::default() }),
        Err(why) => why,
    };
    let substitute = match known(async || by_psql(route, target).await).await? {
        Ok(psql) => Substitute::Psql(psql),
        Err(why) => {
            Substitute::Nobody(format!("{no_operator}{no_secret}; psql in its pod cannot be run: {why}"))
        }
    };
    Ok(Superuser { substitute, operator, ..Superuser::default() })
}

/// A way, or why it is none. An error that may pass says neither: it is tried again, and ends the command if it stays.
async fn known<T>(way: impl AsyncFn() -> Result<T, Error>) -> Result<Result<T, String>, Error> {
    let mut pauses = PAUSES.iter();
    loop {
        match way().await {
            Ok(found) => return Ok(Ok(found)),
            Err(error) if !error.fault.is_retryable() => return Ok(Err(describe_chain(&*error.fault))),
            Err(error) => match pauses.next() {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(error),
            },
        }
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{}", "the API server is away")]
    struct Away {
        is_passing: bool,
    }

    impl Fault for Away {
        fn class(&self) -> Class {
            Class::Cluster
        }

        fn is_retryable(&self) -> bool {
            self.is_passing
        }
    }

    /// What is known of a way that fails so often, and how often it was tried.
    async fn tried(failures: usize, is_passing: bool) -> (Result<Result<(), String>, Error>, usize) {
        let count = Cell::new(0);
        let way = async || {
            count.set(count.get() + 1);
            let is_good = count.get() > failures;
            if is_good { Ok(()) } else { Err(Error::new(Exit::Refused, Away { is_passing })) }
        };
        (known(way).await, count.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_error_is_tried_again_and_never_taken_for_no_way() {
        assert!(matches!(tried(2, true).await, (Ok(Ok(())), 3)));
        let (gone, count) = tried(usize::MAX, true).await;
        assert_eq!(gone.expect_err("nothing is known").fault.to_string(), "the API server is away");
        assert_eq!(count, 1 + PAUSES.len());
        assert!(matches!(tried(1, false).await, (Ok(Err(why)), 1) if why == "the API server is away"));
    }
}
