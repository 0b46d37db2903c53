//! What the account of a move may not do with the objects of both sides, by the API servers' own word.
//!
//! All ways of working that the options ask for are looked at together. What a freeze needs of Flux is known when it is
//! planned ([`crate::run`]).

use super::cluster;
use super::connections::Endpoint;
use super::endpoints::{Client, Endpoints, ObjectOptions, Privileges, TunnelSslMode};
use crate::error::{Error, Exit};
use crate::kubernetes::rights::{self, Place, Right, Server, Way};
use crate::kubernetes::{Access, ApiError, ApiServer, Kind, ObjectRef, Route, SecretNames};
use crate::preflight::kubernetes::Missing;

/// The rights that are missing.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    pub(super) missing: Vec<Missing>,
    /// Whether nothing else can be looked at without them.
    pub(super) is_in_the_way: bool,
}

impl Lacking {
    fn add(&mut self, other: Lacking) {
        self.is_in_the_way |= other.is_in_the_way;
        for missing in other.missing {
            // Told once, and as needed if one of the ways needs it.
            let is_same = |known: &&mut Missing| {
                Missing { is_optional: missing.is_optional, ..Missing::clone(known) } == missing
            };
            match self.missing.iter_mut().find(is_same) {
                Some(known) => known.is_optional &= missing.is_optional,
                None => self.missing.push(missing),
            }
        }
    }
}

/// A way of working with the object of a side.
struct Asked<'a> {
    way: Way,
    object: &'a ObjectRef,
    options: ObjectOptions<'a>,
    /// Whether it is for client programs, for which one pod is enough.
    is_for_client: bool,
}

impl<'a> Asked<'a> {
    fn new(way: Way, object: &'a ObjectRef, options: ObjectOptions<'a>) -> Asked<'a> {
        Asked { way, object, options, is_for_client: false }
    }
}

/// Asks for all of them at once. `freezes`: whether the move is to freeze its source.
pub(super) async fn lacking(endpoints: &Endpoints, freezes: bool) -> Result<Lacking, Error> {
    let parse = |text: &str| Endpoint::parse(text).map_err(|error| Error::new(Exit::Usage, error));
    let source = parse(&endpoints.source)?;
    let target = parse(&endpoints.target.database)?;
    let admin = endpoints.target.admin.as_deref().map(parse).transpose()?;
    let (of_source, of_target) = (endpoints.source_object.options(), endpoints.target_object.options());
    let mut asked = vec![];
    if let Endpoint::Object(object) = &source {
        let ways = ways_of(object, &of_source);
        asked.extend(ways.into_iter().map(|way| Asked::new(way, object, of_source)));
        if freezes {
            asked.extend([Way::Freeze, Way::Rollback].map(|way| Asked::new(way, object, of_source)));
        }
    }
    if let Endpoint::Object(object) = &target {
        let mut ways = ways_of(object, &of_target);
        // Where any way will do, each is tried, and why it is none is told.
        ways.extend(match endpoints.target.privileges {
            Some(Privileges::Database) => Some(Way::Operator),
            Some(Privileges::Secret) => Some(Way::Superuser),
            Some(Privileges::Exec) => Some(Way::Exec),
            Some(Privileges::Auto | Privileges::None) | None => None,
        });
        asked.extend(ways.into_iter().map(|way| Asked::new(way, object, of_target)));
    }
    if let Some(Endpoint::Object(object)) = &admin {
        asked.push(Asked::new(Way::Superuser, object, of_target));
    }
    if endpoints.target.client.client_place == Some(Client::Pod) {
        for (endpoint, options) in [(&target, of_target), (&source, of_source)] {
            if let Endpoint::Object(object) = endpoint {
                asked.push(Asked { is_for_client: true, ..Asked::new(Way::Exec, object, options) });
            }
        }
    }
    let mut found = Lacking::default();
    let mut pods: Vec<Lacking> = vec![];
    let mut servers: Vec<(Access, ApiServer)> = vec![];
    for asked in asked {
        // A credential plugin is run once for a cluster.
        let access = endpoints.cluster.access(&asked.options);
        let server = match servers.iter().find(|(known, _)| *known == access) {
            Some((_, server)) => server.clone(),
            None => cluster::connect(&access).await?,
        };
        let lacking = Box::pin(ask(&server, &asked)).await;
        let lacking = lacking.map_err(|error| Error::new(Exit::Refused, error))?;
        servers.push((access, server));
        if asked.is_for_client { pods.push(lacking) } else { found.add(lacking) }
    }
    // The first of them is asked first in a move too.
    if pods.iter().all(|lacking| lacking.is_in_the_way) {
        pods.into_iter().take(1).for_each(|lacking| found.add(lacking));
    }
    Ok(found)
}

/// What a connection to a side needs.
fn ways_of(object: &ObjectRef, options: &ObjectOptions<'_>) -> Vec<Way> {
    let is_verified = object.kind == Kind::Cluster && options.sslmode == Some(TunnelSslMode::VerifyFull);
    [Some(Way::Connect), is_verified.then_some(Way::VerifyFull)].into_iter().flatten().collect()
}

async fn ask(server: &ApiServer, asked: &Asked<'_>) -> Result<Lacking, ApiError> {
    let Asked { way, object, options, .. } = asked;
    let secret = options.secret.map(|secret| &*secret.name);
    let rights = rights::rights(*way, &Server { object, secret }, Place::Application);
    let rights = certain(*way, object, secret, rights, server).await?;
    let lacking = rights::lacking(server, server.namespace(), &rights).await?;
    let mut found = Lacking::default();
    if lacking.is_empty() {
        return Ok(found);
    }
    let account = server.account().await?;
    for right in lacking {
        let is_optional = is_optional(*way, &right);
        found.is_in_the_way |= !is_optional && *way != Way::Freeze;
        let missing = Missing {
            account: account.clone(),
            context: server.context().map(str::to_owned),
            namespace: server.namespace().to_owned(),
            right,
            is_optional,
        };
        found.missing.push(missing);
    }
    Ok(found)
}

/// Without the rights on Secrets whose names only the pod's environment knows, and with the names that a Cluster has given
/// its own.
async fn certain(
    way: Way,
    object: &ObjectRef,
    secret: Option<&str>,
    rights: Vec<Right>,
    server: &ApiServer,
) -> Result<Vec<Right>, ApiError> {
    let (of_secrets, mut rights): (Vec<Right>, Vec<Right>) =
        rights.into_iter().partition(|right| right.resources == ["secrets"]);
    let names = if object.kind == Kind::Cluster && !of_secrets.is_empty() {
        match SecretNames::look(&Route::new(server.clone(), object.clone(), None)).await {
            Ok(names) => Some(names),
            // That is told by itself: as a right that is missing, or when the object is looked for.
            Err(error) if error.is_forbidden() || error.is_not_found() || error.is_unknown_resource() => None,
            Err(error) => return Err(error),
        }
    } else {
        None
    };
    for right in of_secrets {
        let name = match (way, &names) {
            (Way::Connect, _) if secret.is_some() => secret.map(str::to_owned),
            (Way::Connect, Some(names)) => Some(names.application.clone()),
            (Way::Superuser, Some(names)) => names.superuser.clone(),
            (Way::VerifyFull, Some(names)) => Some(names.authority.clone()),
            _ => None,
        };
        rights.extend(name.map(|name| Right { names: vec![name], ..right }));
    }
    Ok(rights)
}

/// What a move goes on without, with a warning: a rollback may be somebody else's.
fn is_optional(way: Way, right: &Right) -> bool {
    match way {
        Way::Rollback => true,
        Way::Connect => ["persistentvolumeclaims", "configmaps"].contains(&right.resources[0]),
        Way::Freeze => right.verbs == ["watch"],
        _ => false,
    }
}
