//! One look at a Cluster of CloudNative-PG: its state and its limits; and the logins that it offers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use secrecy::ExposeSecret;

use super::client::ApiServer;
use super::cnpg::{self, ClusterSpec, ClusterStatus};
use super::credentials::{Credentials, Known, SecretChoice, fetch};
use super::environment::{Data, Reference};
use super::instance::Instance;
use super::object::{Kind, ObjectRef};
use super::pinned::Pinned;
use super::request::ApiError;
use super::storage::bytes;
use super::workload::{ResolveError, Route};
use crate::error::{Class, Fault};

/// A Cluster, and the server in its primary's pod.
#[derive(Debug, Clone)]
pub struct ClusterLook {
    /// Its name.
    pub name: String,
    /// Its primary.
    pub primary: Instance,
    /// Its operator's words for its state.
    pub phase: String,
    /// What keeps it from being moved into; nothing if it is ready.
    pub unready: Vec<String>,
    /// The image that runs.
    pub image: Option<String>,
    /// PostgreSQL's major version.
    pub major: Option<u32>,
    /// How many instances there shall be.
    pub instances: i64,
    /// How many of them are ready.
    pub ready_instances: i64,
    /// The size of each instance's volume of data, in bytes.
    pub storage_size: Option<u64>,
    /// The memory limit of each instance, in bytes.
    pub memory_limit: Option<u64>,
    /// The limit of `/dev/shm`, in bytes; without one it counts against memory only.
    pub shared_memory_limit: Option<u64>,
    /// The server that it was seen as.
    pub pinned: Pinned,
    /// The application's database, as the Cluster was made with it.
    pub database: String,
    /// All that is asked for.
    pub spec: ClusterSpec,
}

impl ClusterLook {
    /// Looks at a Cluster. No Secret is read: the rights to look do not depend on the login.
    ///
    /// # Panics
    /// If the route's object is no Cluster: a defect of the caller.
    pub async fn look(route: &Route) -> Result<ClusterLook, ClusterError> {
        let (primary, mut found) = Instance::look(route).await?;
        let pinned = Pinned::of(&found);
        let cluster = found.cluster.take().expect("the route leads to a Cluster");
        Ok(ClusterLook::of(&route.object.name, *cluster, primary, pinned))
    }

    /// What a Cluster says.
    pub(crate) fn of(name: &str, cluster: cnpg::Cluster, primary: Instance, pinned: Pinned) -> ClusterLook {
        let (spec, status) = (cluster.spec, cluster.status.unwrap_or_default());
        ClusterLook {
            name: name.to_owned(),
            phase: status.phase.clone().unwrap_or_default(),
            unready: cnpg::unready(&spec, &status),
            image: status.image.clone(),
            major: status.major(),
            instances: spec.instances,
            ready_instances: status.ready_instances,
            storage_size: spec.storage.size.clone().and_then(|size| bytes(&Quantity(size))),
            memory_limit: memory_limit(&spec),
            shared_memory_limit: spec
                .ephemeral_volumes_size_limit
                .as_ref()
                .and_then(|limit| bytes(limit.shm.as_ref()?)),
            pinned,
            database: database(&spec),
            primary,
            spec,
        }
    }

    /// The size of the volume that WAL has for itself, in bytes, if it has one.
    pub fn wal_size(&self) -> Option<u64> {
        bytes(&Quantity(self.spec.wal_storage.as_ref()?.size.clone()?))
    }
}

fn memory_limit(spec: &ClusterSpec) -> Option<u64> {
    bytes(spec.resources.as_ref()?.limits.as_ref()?.get("memory")?)
}

/// The application's database, as the Cluster was made with it.
fn database(spec: &ClusterSpec) -> String {
    let database = spec.initialisation().and_then(|made| made.database.clone());
    // The operator's default (defaultInitDB in api/v1/cluster_defaults.go).
    database.unwrap_or_else(|| "app".to_owned())
}

/// The Secret with the application's login: the operator's own, unless the Cluster was made with another one.
fn application_secret(name: &str, spec: &ClusterSpec) -> String {
    let given = spec.initialisation().and_then(|made| made.secret.as_ref());
    given.map_or_else(|| format!("{name}-app"), |secret| secret.name.clone())
}

/// The Secret with the login of `postgres`. The operator deletes its own where access is not enabled, which is the default.
fn superuser_secret(name: &str, spec: &ClusterSpec) -> Option<String> {
    let given = spec.superuser_secret.as_ref().map(|secret| secret.name.clone());
    (spec.enable_superuser_access == Some(true)).then(|| given.unwrap_or_else(|| format!("{name}-superuser")))
}

/// The names of the Secrets that go with a Cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNames {
    /// With the application's login.
    pub application: String,
    /// With the login of `postgres`, where the Cluster offers one.
    pub superuser: Option<String>,
    /// With the certificate of the server's authority.
    pub authority: String,
}

impl SecretNames {
    /// Those of the Cluster behind a route.
    pub async fn look(route: &Route) -> Result<SecretNames, ApiError> {
        let name = &*route.object.name;
        let kind = cnpg::cluster_resource();
        let found = route.server.get::<cnpg::Cluster>(&kind, &route.namespace, name).await?;
        Ok(SecretNames {
            application: application_secret(name, &found.spec),
            superuser: superuser_secret(name, &found.spec),
            authority: authority_secret(name, &found.status.unwrap_or_default()),
        })
    }
}

/// Whose login to a Cluster is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The owner of the application's database.
    Application,
    /// `postgres`.
    Superuser,
}

/// The login to a Cluster's application database. `secret` names the Secret of the application's login instead of the
/// Cluster's own.
pub async fn login(
    route: &Route,
    secret: Option<&SecretChoice>,
    account: Account,
) -> Result<Credentials, ClusterError> {
    let (server, namespace, name) = (&route.server, &*route.namespace, &*route.object.name);
    let kind = cnpg::cluster_resource();
    let spec = server.get::<cnpg::Cluster>(&kind, namespace, name).await.map_err(ResolveError::from)?.spec;
    let own = SecretChoice::named(application_secret(name, &spec));
    let chosen = secret.unwrap_or(&own);
    let application = application(name, &spec, chosen, &read(server, namespace, &chosen.name).await?)?;
    if account == Account::Application {
        return Ok(application);
    }
    match superuser_login(server, namespace, name, &spec, &application).await? {
        Some(login) => Ok(login),
        None => Err(ClusterError::NoSuperuser { cluster: name.to_owned() }),
    }
}

/// The login of `postgres`, where the Cluster offers one.
async fn superuser_login(
    server: &ApiServer,
    namespace: &str,
    name: &str,
    spec: &ClusterSpec,
    application: &Credentials,
) -> Result<Option<Credentials>, ClusterError> {
    let Some(secret) = superuser_secret(name, spec) else { return Ok(None) };
    let found = superuser(&secret, &read(server, namespace, &secret).await?, application);
    found.map(Some).ok_or_else(|| ClusterError::NotTheSuperusers { secret, cluster: name.to_owned() })
}

async fn read(server: &ApiServer, namespace: &str, secret: &str) -> Result<Data, ClusterError> {
    let reference = Reference::Secret(secret.to_owned());
    fetch(server, namespace, &reference).await.map_err(|error| ResolveError::from(error).into())
}

/// The application's login, if that is what the Secret holds: another one, such as a legacy application's, has other keys,
/// another role, or another host.
fn application(
    name: &str,
    spec: &ClusterSpec,
    secret: &SecretChoice,
    data: &Data,
) -> Result<Credentials, ClusterError> {
    let SecretChoice { name: secret, user, password, database } = secret;
    let wrong = |reason: String| ClusterError::NotTheApplications {
        secret: secret.clone(),
        cluster: name.to_owned(),
        own: application_secret(name, spec),
        reason,
    };
    let lacks = |key: &str| wrong(format!("it has no key {key}"));
    let text = |key: &str| {
        let value = data.get(key)?.as_ref()?;
        Some(Known { value: value.expose_secret().to_owned(), origin: format!("Secret {secret}, key {key}") })
    };
    let user = user.as_deref().unwrap_or("username");
    let user = text(user).ok_or_else(|| lacks(user))?;
    let key = password.as_deref().unwrap_or("password");
    let password = data.get(key).and_then(Option::as_ref).ok_or_else(|| lacks(key))?;
    let password = Known { value: password.clone(), origin: format!("Secret {secret}, key {key}") };
    let owner = spec.initialisation().and_then(|made| made.owner.as_ref());
    if let Some(owner) = owner.filter(|owner| **owner != user.value) {
        return Err(wrong(format!("it is for role {}, and the application's is {owner}", user.value)));
    }
    // `<cluster>-rw`, or a longer form of that name.
    let is_own_host = |host: &str| host.split('.').next() == Some(&format!("{name}-rw"));
    if let Some(host) = text("host").filter(|host| !is_own_host(&host.value)) {
        return Err(wrong(format!("it is for host {}", host.value)));
    }
    let database = match database {
        Some(key) => text(key).ok_or_else(|| lacks(key))?,
        None => text("dbname").unwrap_or_else(|| Known {
            value: self::database(spec),
            origin: format!("spec.bootstrap of Cluster {name}"),
        }),
    };
    Ok(Credentials { user, password: Some(password), database })
}

/// The login of `postgres` to the application's database.
fn superuser(secret: &str, data: &Data, application: &Credentials) -> Option<Credentials> {
    let value = |key: &str| data.get(key)?.as_ref();
    let origin = |key: &str| format!("Secret {secret}, key {key}");
    Some(Credentials {
        user: Known { value: value("username")?.expose_secret().to_owned(), origin: origin("username") },
        password: Some(Known { value: value("password")?.clone(), origin: origin("password") }),
        database: application.database.clone(),
    })
}

/// The certificate of the authority that signed the server's, for TLS within a tunnel.
pub async fn authority(route: &Route) -> Result<Known<String>, ClusterError> {
    let (server, namespace, object) = (&route.server, &*route.namespace, &route.object);
    if object.kind != Kind::Cluster {
        return Err(ClusterError::NoAuthority { object: object.clone() });
    }
    let kind = cnpg::cluster_resource();
    let found =
        server.get::<cnpg::Cluster>(&kind, namespace, &object.name).await.map_err(ResolveError::from)?;
    let secret = authority_secret(&object.name, &found.status.unwrap_or_default());
    let certificate = certificate_in(&secret, &read(server, namespace, &secret).await?);
    certificate.ok_or_else(|| ClusterError::NoCertificate { secret, cluster: object.name.clone() })
}

/// The Secret with the certificate of the server's authority.
fn authority_secret(name: &str, status: &ClusterStatus) -> String {
    status.certificates.server_ca_secret.clone().unwrap_or_else(|| format!("{name}-ca"))
}

/// The authority's certificate; its private key, which the same Secret holds, is dropped.
fn certificate_in(secret: &str, data: &Data) -> Option<Known<String>> {
    let certificate = data.get("ca.crt")?.as_ref()?;
    Some(Known {
        value: certificate.expose_secret().to_owned(),
        origin: format!("Secret {secret}, key ca.crt"),
    })
}

/// Why a Cluster cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The API server, or no primary that is ready.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A Secret that is not the application's.
    #[error("Secret {secret} does not hold the login of the application of cluster/{cluster}: {reason}")]
    NotTheApplications {
        /// The Secret.
        secret: String,
        /// The Cluster.
        cluster: String,
        /// The Secret that holds it.
        own: String,
        /// What is wrong.
        reason: String,
    },
    /// No login of `postgres` is offered.
    #[error("cluster/{cluster} offers no login of postgres")]
    NoSuperuser {
        /// The Cluster.
        cluster: String,
    },
    /// A server whose certificate nobody in the cluster vouches for.
    #[error("{object} is no Cluster of CloudNative-PG, so it is not known who signs its certificate")]
    NoAuthority {
        /// What was named.
        object: ObjectRef,
    },
    /// The authority's Secret has no certificate.
    #[error("Secret {secret} does not hold the certificate of the authority of cluster/{cluster}")]
    NoCertificate {
        /// The Secret.
        secret: String,
        /// The Cluster.
        cluster: String,
    },
    /// The Secret of `postgres` has no login.
    #[error("Secret {secret} does not hold the login of postgres in cluster/{cluster}")]
    NotTheSuperusers {
        /// The Secret.
        secret: String,
        /// The Cluster.
        cluster: String,
    },
}

impl Fault for ClusterError {
    fn class(&self) -> Class {
        match self {
            ClusterError::Resolve(error) => error.class(),
            ClusterError::NotTheApplications { .. }
            | ClusterError::NoSuperuser { .. }
            | ClusterError::NoAuthority { .. } => Class::User,
            ClusterError::NotTheSuperusers { .. } | ClusterError::NoCertificate { .. } => Class::Cluster,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, ClusterError::Resolve(error) if error.is_retryable())
    }

    fn hint(&self) -> Option<String> {
        match self {
            ClusterError::Resolve(error) => error.hint(),
            ClusterError::NotTheApplications { secret, own, .. } if secret != own => {
                Some(format!("the Cluster's own is Secret {own}"))
            }
            ClusterError::NotTheApplications { .. } => {
                Some("such a Secret has username and password, and its username owns the database".to_owned())
            }
            ClusterError::NoSuperuser { .. } => Some(
                "it does with spec.enableSuperuserAccess: true, which its operator follows at once"
                    .to_owned(),
            ),
            ClusterError::NoAuthority { .. } => {
                Some("ask for TLS without that proof (require), or go without (disable)".to_owned())
            }
            ClusterError::NoCertificate { .. } => {
                Some("it needs the key ca.crt; the operator makes one by itself".to_owned())
            }
            ClusterError::NotTheSuperusers { .. } => {
                Some("it needs the keys username and password; the operator makes one by itself".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests;
