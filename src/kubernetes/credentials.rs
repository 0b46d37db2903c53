//! User, password and database of the server in a pod: from its environment, or from a Secret that is named.
//!
//! The images agree on the idea and differ in the names of the variables: the official one, Immich's and those of
//! pgvecto.rs and VectorChord have the same entry point, Bitnami's has its own names. What the environment says is what the
//! server was made with; it may have been changed since, so each value says where it comes from.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use secrecy::{ExposeSecret, SecretString};

use super::client::ApiServer;
use super::environment::{Data, Environment, EnvironmentError, Fetched, Need, Reference, Stop, text_of};
use super::object::is_object_name;
use super::request::ApiError;
use super::workload::Found;
use crate::error::{Class, Fault};

pub use super::environment::Known;

/// A login, as far as it is known.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The role.
    pub user: Known<String>,
    /// Its password; none where the environment has none, for a server that trusts its clients.
    pub password: Option<Known<SecretString>>,
    /// The database.
    pub database: Known<String>,
}

/// The variables of one way to configure the server.
struct Names {
    user: &'static [&'static str],
    password: &'static str,
    database: &'static [&'static str],
}

/// In the order in which they are looked for; the first with a password is taken. The last one is no image's: it is what
/// Immich calls them, whose Secret some manifests give to the database's container as a whole.
const FAMILIES: [Names; 3] = [
    Names {
        user: &["POSTGRES_USER", "POSTGRES_USERNAME"],
        password: "POSTGRES_PASSWORD",
        database: &["POSTGRES_DB", "POSTGRES_DATABASE"],
    },
    Names {
        user: &["POSTGRESQL_USERNAME", "POSTGRESQL_USER"],
        password: "POSTGRESQL_PASSWORD",
        database: &["POSTGRESQL_DATABASE", "POSTGRESQL_DB"],
    },
    Names {
        user: &["DB_USERNAME", "DB_USER"],
        password: "DB_PASSWORD",
        database: &["DB_DATABASE_NAME", "DB_NAME"],
    },
];

/// The role and the database that every image makes.
const DEFAULT: &str = "postgres";

/// Keys under which a Secret holds a login.
const USER_KEYS: [&str; 7] =
    ["username", "user", "POSTGRES_USER", "POSTGRESQL_USERNAME", "DB_USERNAME", "DB_USER", "postgres-user"];
const PASSWORD_KEYS: [&str; 5] =
    ["password", "POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD", "DB_PASSWORD", "postgres-password"];
const DATABASE_KEYS: [&str; 7] = [
    "dbname",
    "database",
    "POSTGRES_DB",
    "POSTGRES_DATABASE",
    "POSTGRESQL_DATABASE",
    "DB_DATABASE_NAME",
    "DB_NAME",
];

/// A Secret that is named to take the login from: `NAME`, `NAME:PASSWORD-KEY` or
/// `NAME:user=KEY,password=KEY,database=KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretChoice {
    /// The Secret, in the namespace of the object.
    pub name: String,
    /// The key of the role; without it, the usual ones are looked for.
    pub user: Option<String>,
    /// The key of the password.
    pub password: Option<String>,
    /// The key of the database.
    pub database: Option<String>,
}

impl SecretChoice {
    /// A Secret with the usual keys.
    pub(super) fn named(name: String) -> SecretChoice {
        SecretChoice { name, user: None, password: None, database: None }
    }
}

impl FromStr for SecretChoice {
    type Err = SecretChoiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SecretChoiceError(text.to_owned());
        let is_key = |key: &str| {
            let is_letter = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
            !key.is_empty() && key.bytes().all(is_letter)
        };
        let (name, keys) = text.split_once(':').map_or((text, None), |(name, keys)| (name, Some(keys)));
        let mut choice = SecretChoice::named(name.to_owned());
        if !is_object_name(name) {
            return Err(error());
        }
        match keys {
            None => {}
            Some(key) if is_key(key) => choice.password = Some(key.to_owned()),
            Some(keys) => {
                for pair in keys.split(',') {
                    let (part, key) =
                        pair.split_once('=').filter(|(_, key)| is_key(key)).ok_or_else(error)?;
                    let part = match part {
                        "user" => &mut choice.user,
                        "password" => &mut choice.password,
                        "database" => &mut choice.database,
                        _ => return Err(error()),
                    };
                    *part = Some(key.to_owned());
                }
            }
        }
        Ok(choice)
    }
}

impl fmt::Display for SecretChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let keys = [("user", &self.user), ("password", &self.password), ("database", &self.database)];
        let keys = keys.iter().filter_map(|(part, key)| key.as_ref().map(|key| format!("{part}={key}")));
        match keys.collect::<Vec<_>>().join(",") {
            keys if keys.is_empty() => Ok(()),
            keys => write!(f, ":{keys}"),
        }
    }
}

/// A Secret that is not written as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" does not name a Secret and its keys")]
pub struct SecretChoiceError(String);

impl Fault for SecretChoiceError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("write NAME, NAME:PASSWORD-KEY or NAME:user=KEY,password=KEY,database=KEY".to_owned())
    }
}

impl Credentials {
    /// The login of the server in a pod. What `secret` holds goes before the environment.
    pub async fn find(
        server: &ApiServer,
        found: &Found,
        secret: Option<&SecretChoice>,
    ) -> Result<Credentials, CredentialError> {
        let namespace = &found.port.namespace;
        let mut fetched = Fetched::new();
        loop {
            let need = match credentials(&found.pod, found.container(), secret, &fetched) {
                Ok(credentials) => return Ok(credentials),
                Err(Stop::Failed(error)) => return Err(error.into()),
                Err(Stop::Need(need)) => need,
            };
            let data = match fetch(server, namespace, &need.reference).await {
                Ok(data) => Some(data),
                Err(error) if error.is_not_found() && need.is_optional => None,
                Err(error) => return Err(CredentialError::Object { user: need.user, cause: error }),
            };
            fetched.insert(need.reference, data);
        }
    }
}

/// The values of a Secret or ConfigMap.
pub(super) async fn fetch(
    server: &ApiServer,
    namespace: &str,
    reference: &Reference,
) -> Result<Data, ApiError> {
    Ok(match reference {
        Reference::Secret(name) => {
            let secret: Secret = server.get(&(), namespace, name).await?;
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok().map(SecretString::from);
            secret.data.into_iter().flatten().map(|(key, value)| (key, text(value.0))).collect()
        }
        Reference::ConfigMap(name) => {
            let map: ConfigMap = server.get(&(), namespace, name).await?;
            map.data.into_iter().flatten().map(|(key, value)| (key, Some(value.into()))).collect()
        }
    })
}

/// The login, from what was read so far.
fn credentials(
    pod: &Pod,
    container: &Container,
    secret: Option<&SecretChoice>,
    fetched: &Fetched,
) -> Result<Credentials, Stop> {
    let environment = Environment { pod, container, fetched };
    let Some(choice) = secret else { return of_environment(&environment) };
    let reference = Reference::Secret(choice.name.clone());
    let Some(Some(data)) = fetched.get(&reference) else {
        return Err(Stop::Need(Need { reference, is_optional: false, user: "the login".to_owned() }));
    };
    let key_of = |chosen: &Option<String>, usual: &[&str]| match chosen {
        Some(key) => Some(key.clone()),
        None => usual.iter().find(|key| data.contains_key(**key)).map(|key| (*key).to_owned()),
    };
    let value = |key: Option<String>, part: &str| {
        let key = key?;
        Some(text_of(data.get(&key), &reference, &key, data, &format!("the {part}")))
    };
    let password = key_of(&choice.password, &PASSWORD_KEYS).or_else(|| Some(PASSWORD_KEYS[0].to_owned()));
    let password = value(password, "password").transpose()?;
    let user = value(key_of(&choice.user, &USER_KEYS), "user").transpose()?.map(text);
    let database = value(key_of(&choice.database, &DATABASE_KEYS), "database").transpose()?.map(text);
    Ok(match (user, database) {
        (Some(user), Some(database)) => Credentials { user, password, database },
        (user, database) => {
            let rest = of_environment(&environment)?;
            Credentials {
                user: user.unwrap_or(rest.user),
                password,
                database: database.unwrap_or(rest.database),
            }
        }
    })
}

fn of_environment(environment: &Environment<'_>) -> Result<Credentials, Stop> {
    let first = |names: &[&str]| {
        let found =
            names.iter().map(|name| environment.setting(name)).find(|found| !matches!(found, Ok(None)));
        found.unwrap_or(Ok(None)).map(|found| found.map(text))
    };
    let mut names = &FAMILIES[0];
    let mut password = None;
    for family in &FAMILIES {
        password = environment.setting(family.password)?;
        if password.is_some() {
            names = family;
            break;
        }
    }
    let default = |value: &str, origin: &str| Known { value: value.to_owned(), origin: origin.to_owned() };
    let user = first(names.user)?.unwrap_or_else(|| default(DEFAULT, "the image's default"));
    let is_bitnami = environment.container.image.as_ref().is_some_and(|image| image.contains("bitnami"));
    let database = first(names.database)?.unwrap_or_else(|| {
        if is_bitnami || names.password == "POSTGRESQL_PASSWORD" {
            default(DEFAULT, "the image's default")
        } else {
            default(&user.value, "the image's default, which is the user's name")
        }
    });
    Ok(Credentials { user, password, database })
}

fn text(known: Known<SecretString>) -> Known<String> {
    Known { value: known.value.expose_secret().to_owned(), origin: known.origin }
}

/// Why a login is not known.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A Secret or ConfigMap that could not be read.
    #[error("{user} stands in an object that could not be read")]
    Object {
        /// What takes its value from there.
        user: String,
        /// Why.
        #[source]
        cause: ApiError,
    },
    /// A value that is not there, or cannot be read.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
}

impl Fault for CredentialError {
    fn class(&self) -> Class {
        Class::Cluster
    }

    fn is_retryable(&self) -> bool {
        matches!(self, CredentialError::Object { cause, .. } if cause.is_retryable())
    }

    fn hint(&self) -> Option<String> {
        match self {
            CredentialError::Object { cause, .. } => cause.hint(),
            CredentialError::Environment(EnvironmentError::NoKey { keys, .. }) => Some(match &keys[..] {
                [] => "it is empty".to_owned(),
                keys => format!("it has {}", keys.join(", ")),
            }),
            CredentialError::Environment(
                EnvironmentError::NotText { .. } | EnvironmentError::OnlyInPod { .. },
            ) => Some("name a Secret that has the login, or give the password".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
