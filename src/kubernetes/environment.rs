//! The environment of a container as the kubelet makes it, from `env`, `envFrom`, Secrets and ConfigMaps.
//!
//! Pure: a value that stands in an object which was not read yet ends the look-up with a [`Need`]; the caller reads that
//! object and asks again. So only objects are read whose values are used.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, EnvVar, KeyToPath, Pod, Volume};
use secrecy::{ExposeSecret, SecretString};

/// An object that holds values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A Secret.
    Secret(String),
    /// A ConfigMap.
    ConfigMap(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Secret(name) => write!(f, "Secret {name}"),
            Reference::ConfigMap(name) => write!(f, "ConfigMap {name}"),
        }
    }
}

/// What an object holds; values that are no text are `None`.
pub(super) type Data = BTreeMap<String, Option<SecretString>>;

/// The objects that were read; one that is not there is `None`.
pub(super) type Fetched = BTreeMap<Reference, Option<Data>>;

/// A value with the place where it was found, in words.
#[derive(Debug, Clone)]
pub struct Known<T> {
    /// The value.
    pub value: T,
    /// `POSTGRES_PASSWORD, from Secret immich-secrets, key DB_PASSWORD`.
    pub origin: String,
}

/// Why a value is not known.
#[derive(Debug)]
pub(super) enum Stop {
    /// An object has to be read first.
    Need(Need),
    /// It cannot be known.
    Failed(EnvironmentError),
}

/// An object that has to be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) reference: Reference,
    /// Whether the pod runs without it.
    pub(super) is_optional: bool,
    /// What takes its value from there: `variable POSTGRES_PASSWORD`.
    pub(super) user: String,
}

impl From<EnvironmentError> for Stop {
    fn from(error: EnvironmentError) -> Stop {
        Stop::Failed(error)
    }
}

/// Why a value of the environment cannot be known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// The object has no such key.
    #[error("{user} takes its value from {reference}, which has no key {key}")]
    NoKey {
        /// What takes its value from there.
        user: String,
        /// The object.
        reference: Reference,
        /// The key.
        key: String,
        /// Those there are.
        keys: Vec<String>,
    },
    /// The value is no text.
    #[error("{user} takes its value from {reference}, whose key {key} holds no text")]
    NotText {
        /// What takes its value from there.
        user: String,
        /// The object.
        reference: Reference,
        /// The key.
        key: String,
    },
    /// A value that only the kubelet knows.
    #[error("variable {variable} takes its value from {what}, which cannot be read through the API server")]
    OnlyInPod {
        /// The variable.
        variable: String,
        /// `fieldRef`, `volume data (persistentVolumeClaim)`…
        what: String,
    },
}

/// The environment of one container.
pub(super) struct Environment<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) fetched: &'a Fetched,
}

impl Environment<'_> {
    /// The value of a variable, or of the file that `<name>_FILE` names, as the images read it; none if it is empty.
    pub(super) fn setting(&self, name: &str) -> Result<Option<Known<SecretString>>, Stop> {
        let is_set = |known: &Known<SecretString>| !known.value.expose_secret().is_empty();
        if let Some(known) = self.variable(name)?.filter(is_set) {
            return Ok(Some(known));
        }
        let variable = format!("{name}_FILE");
        match self.variable(&variable)?.filter(is_set) {
            Some(path) => self.file(&variable, path.value.expose_secret()).map(Some),
            None => Ok(None),
        }
    }

    fn variable(&self, name: &str) -> Result<Option<Known<SecretString>>, Stop> {
        let variables = self.container.env.as_deref().unwrap_or_default();
        // `env` goes before `envFrom`, and a later entry before an earlier one.
        match variables.iter().rposition(|variable| variable.name == name) {
            Some(at) => self.entry(&variables[at], &variables[..at]),
            None => self.of_objects(name),
        }
    }

    /// One entry of `env`; it may refer to those before it.
    fn entry(&self, variable: &EnvVar, before: &[EnvVar]) -> Result<Option<Known<SecretString>>, Stop> {
        let name = &variable.name;
        let user = format!("variable {name}");
        let Some(from) = &variable.value_from else {
            let value = self.expanded(variable.value.as_deref().unwrap_or_default(), before)?;
            return Ok(Some(Known { value: value.into(), origin: name.clone() }));
        };
        let (reference, key, is_optional) = if let Some(from) = &from.secret_key_ref {
            (Reference::Secret(from.name.clone()), &from.key, from.optional)
        } else if let Some(from) = &from.config_map_key_ref {
            (Reference::ConfigMap(from.name.clone()), &from.key, from.optional)
        } else {
            let what = if from.field_ref.is_some() { "fieldRef" } else { "resourceFieldRef" };
            return Err(EnvironmentError::OnlyInPod { variable: name.clone(), what: what.to_owned() }.into());
        };
        let found = self.value(&reference, key, is_optional == Some(true), &user)?;
        Ok(found.map(|known| Known { origin: format!("{name}, from {}", known.origin), ..known }))
    }

    /// `$(NAME)` replaced where it names a variable that is defined before; `$$(NAME)` stands for itself.
    fn expanded(&self, text: &str, before: &[EnvVar]) -> Result<String, Stop> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (plain, from) = rest.split_at(at);
            expanded.push_str(plain);
            let named = from.strip_prefix("$(").and_then(|inside| inside.split_once(')'));
            if let Some(after) = from.strip_prefix("$$") {
                expanded.push('$');
                rest = after;
            } else if let Some((name, after)) = named {
                let value = match before.iter().rposition(|variable| variable.name == name) {
                    Some(at) => self.entry(&before[at], &before[..at])?,
                    None => self.of_objects(name)?,
                };
                match value {
                    Some(known) => expanded.push_str(known.value.expose_secret()),
                    None => expanded.push_str(&from[..name.len() + 3]),
                }
                rest = after;
            } else {
                expanded.push('$');
                rest = &from[1..];
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    /// A variable that comes from a whole object (`envFrom`).
    fn of_objects(&self, name: &str) -> Result<Option<Known<SecretString>>, Stop> {
        for source in self.container.env_from.iter().flatten().rev() {
            let (reference, is_optional) = if let Some(from) = &source.secret_ref {
                (Reference::Secret(from.name.clone()), from.optional)
            } else if let Some(from) = &source.config_map_ref {
                (Reference::ConfigMap(from.name.clone()), from.optional)
            } else {
                continue;
            };
            let Some(key) = name.strip_prefix(source.prefix.as_deref().unwrap_or_default()) else { continue };
            let user = format!("container {}", self.container.name);
            // Such an object need not have the key.
            let data = self.data(&reference, is_optional == Some(true), &user)?;
            if data.is_some_and(|data| data.contains_key(key)) {
                let found = self.value(&reference, key, true, &format!("variable {name}"))?;
                return Ok(
                    found.map(|known| Known { origin: format!("{name}, from {}", known.origin), ..known })
                );
            }
        }
        Ok(None)
    }

    fn data(&self, reference: &Reference, is_optional: bool, user: &str) -> Result<Option<&Data>, Stop> {
        match self.fetched.get(reference) {
            Some(data) => Ok(data.as_ref()),
            None => {
                Err(Stop::Need(Need { reference: reference.clone(), is_optional, user: user.to_owned() }))
            }
        }
    }

    fn value(
        &self,
        reference: &Reference,
        key: &str,
        is_optional: bool,
        user: &str,
    ) -> Result<Option<Known<SecretString>>, Stop> {
        let Some(data) = self.data(reference, is_optional, user)? else { return Ok(None) };
        match data.get(key) {
            None if is_optional => Ok(None),
            found => text_of(found, reference, key, data, user).map(Some).map_err(Stop::Failed),
        }
    }

    /// The content of a file that is mounted from a Secret or ConfigMap, without the line breaks at its end: the images
    /// read it with `$(<file)`.
    fn file(&self, variable: &str, path: &str) -> Result<Known<SecretString>, Stop> {
        let only_in_pod =
            |what: String| Stop::Failed(EnvironmentError::OnlyInPod { variable: variable.to_owned(), what });
        let mounts = self.container.volume_mounts.iter().flatten();
        let mounted = mounts.filter_map(|mount| {
            let rest = path.strip_prefix(mount.mount_path.trim_end_matches('/'))?;
            let rest = if rest.is_empty() { "" } else { rest.strip_prefix('/')? };
            let inside = [mount.sub_path.as_deref().unwrap_or_default(), rest];
            let inside = inside.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
            Some((mount, inside))
        });
        let (mount, inside) = mounted
            .max_by_key(|(mount, _)| mount.mount_path.trim_end_matches('/').len())
            .ok_or_else(|| only_in_pod(format!("file {path} of the image")))?;
        let volumes = self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volume = volumes.into_iter().find(|volume| volume.name == mount.name);
        let (reference, key, is_optional) = volume
            .and_then(|volume| object_of(volume, &inside))
            .ok_or_else(|| only_in_pod(format!("file {path} in volume {}", mount.name)))?;
        let user = format!("{variable} (file {path})");
        let found = self.value(&reference, &key, is_optional, &user)?;
        let found = found.ok_or_else(|| only_in_pod(format!("{reference}, which the pod runs without")))?;
        let value = found.value.expose_secret().trim_end_matches('\n');
        Ok(Known { value: value.into(), origin: format!("{variable}, from {}", found.origin) })
    }
}

/// The object and key behind a file of a volume; none if the volume comes from anything else.
fn object_of(volume: &Volume, file: &str) -> Option<(Reference, String, bool)> {
    let key = |items: Option<&Vec<KeyToPath>>| match items {
        None => Some(file.to_owned()),
        Some(items) => items.iter().find(|item| item.path == file).map(|item| item.key.clone()),
    };
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.clone()?;
        return Some((Reference::Secret(name), key(secret.items.as_ref())?, secret.optional == Some(true)));
    }
    if let Some(map) = &volume.config_map {
        let key = key(map.items.as_ref())?;
        return Some((Reference::ConfigMap(map.name.clone()), key, map.optional == Some(true)));
    }
    let sources = volume.projected.as_ref()?.sources.iter().flatten();
    sources.into_iter().find_map(|source| {
        let (reference, items, is_optional) = if let Some(secret) = &source.secret {
            (Reference::Secret(secret.name.clone()), &secret.items, secret.optional)
        } else {
            let map = source.config_map.as_ref()?;
            (Reference::ConfigMap(map.name.clone()), &map.items, map.optional)
        };
        // Without a list of items, any of the sources may hold the file; the first one is taken only if it is alone.
        let is_certain = items.is_some() || volume.projected.as_ref()?.sources.as_ref()?.len() == 1;
        let key = key(items.as_ref()).filter(|_| is_certain)?;
        Some((reference, key, is_optional == Some(true)))
    })
}

/// The text under a key.
pub(super) fn text_of(
    found: Option<&Option<SecretString>>,
    reference: &Reference,
    key: &str,
    data: &Data,
    user: &str,
) -> Result<Known<SecretString>, EnvironmentError> {
    let (user, reference, key) = (user.to_owned(), reference.clone(), key.to_owned());
    match found {
        Some(Some(value)) => Ok(Known { value: value.clone(), origin: format!("{reference}, key {key}") }),
        Some(None) => Err(EnvironmentError::NotText { user, reference, key }),
        None => Err(EnvironmentError::NoKey { user, reference, key, keys: data.keys().cloned().collect() }),
    }
}
