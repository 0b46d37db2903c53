//! Finding `pg_dump` and `pg_restore`.
//!
//! Takes directories (the library reads no environment: the caller hands in `PATH`) and pods; gives tools with
//! their version. The rule: the client's major version is at least that of both servers, since `pg_dump` refuses
//! newer servers; of several that will do the oldest is taken, since a newer one may write what an older
//! target does not know. Those of a pod are looked for where this machine has none that will do, the target's first: as
//! new as its server. When none will do, the error names what was found where, and what to install.
//!
//! Debian's `/usr/bin/pg_dump` is not looked at unless it is named: it is a script (`pg_wrapper`) that starts one of
//! the installed versions, which are candidates themselves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pod::{ClientPod, NoPod};
use super::tools::{ClientPlace, ClientTools, ProbeError};
use crate::error::{Class, Fault};
use crate::kubernetes::Route;
use crate::pg::server_error::describe_chain;

/// On which machine to look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientChoice {
    /// On this one; in a pod, if there is none that will do, and no directory is named.
    #[default]
    Auto,
    /// On this one.
    Local,
    /// In a pod.
    Pod,
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct ClientSearch {
    /// The directory that the user named; nothing else is looked at then.
    pub directory: Option<PathBuf>,
    /// Directories where packages put the tools, as `/usr/lib/postgresql/17/bin`.
    pub candidates: Vec<PathBuf>,
    /// The value of `PATH`, searched after the candidates.
    pub path: Option<OsString>,
    /// On which machine.
    pub choice: ClientChoice,
    /// The pods that are asked one after the other, or why there are none.
    pub pods: Result<Vec<Arc<Route>>, NoPod>,
}

/// Nowhere, and in no pod.
impl Default for ClientSearch {
    fn default() -> Self {
        ClientSearch {
            directory: None,
            candidates: vec![],
            path: None,
            choice: ClientChoice::default(),
            pods: Err(NoPod::NoObject),
        }
    }
}

/// Why no client tools can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was found.
    #[error("no pg_dump and pg_restore in {}", display_list(searched))]
    Missing {
        /// The directories.
        searched: Vec<String>,
        /// The major version that is needed.
        needed: u32,
    },
    /// All that was found is older than a server.
    #[error("pg_dump must be version {needed} or newer, found {}", display_list(found))]
    TooOld {
        /// `15.18 in /usr/lib/postgresql/15/bin`
        found: Vec<String>,
        /// The major version that is needed.
        needed: u32,
    },
    /// The tools of the directory that the user named cannot be used.
    #[error("the client tools in {directory} cannot be used")]
    Unusable {
        /// The directory.
        directory: String,
        /// Why.
        #[source]
        cause: ProbeError,
    },
    /// No pod may be looked into.
    #[error("pg_dump and pg_restore cannot be run in a pod")]
    NoPod(#[from] NoPod),
    /// Nothing that will do was found in a pod.
    #[error("no pod has pg_dump and pg_restore of version {needed} or newer: {}", seen.join("; "))]
    InPods {
        /// What there is in each.
        seen: Vec<String>,
        /// The major version that is needed.
        needed: u32,
        /// The next step, if one of them has one.
        hint: Option<String>,
    },
    /// Neither on this machine nor in a pod.
    #[error("{here}; nor is there a pod for it: {elsewhere}")]
    Nowhere {
        /// What was found on this machine.
        here: Box<ClientError>,
        /// What was found in pods.
        elsewhere: String,
        /// The next step there, if there is one.
        hint: Option<String>,
    },
    /// Not on this machine, and pods were not asked for.
    #[error(transparent)]
    NotHere(Box<ClientError>),
}

impl Fault for ClientError {
    fn class(&self) -> Class {
        match self {
            ClientError::NoPod(error) => error.class(),
            _ => Class::Environment,
        }
    }

    fn hint(&self) -> Option<String> {
        let either = |here: &ClientError, other: &str| {
            here.hint().map_or_else(|| other.to_owned(), |hint| format!("{hint}, or {other}"))
        };
        match self {
            ClientError::Missing { needed, .. } | ClientError::TooOld { needed, .. } => Some(format!(
                "install PostgreSQL's client programs of version {needed} (package postgresql-client-{needed} \
                 on Debian and Ubuntu, postgresql{needed} on Red Hat), or name their directory with --client-directory"
            )),
            ClientError::Unusable { .. } => Some(
                "name the directory that holds pg_dump and pg_restore of one version with --client-directory"
                    .to_owned(),
            ),
            ClientError::NoPod(error) => Some(match error.hint() {
                Some(hint) => format!("{hint}, or leave --client pod away"),
                None => "leave --client pod away".to_owned(),
            }),
            ClientError::InPods { needed, hint, .. } => hint.clone().or_else(|| {
                Some(format!("install PostgreSQL's client programs of version {needed} on this machine"))
            }),
            ClientError::Nowhere { here, hint, .. } => match hint {
                Some(hint) => Some(either(here, hint)),
                None => here.hint(),
            },
            ClientError::NotHere(here) => Some(either(here, "run those of a pod: --client pod")),
        }
    }
}

fn display_list(items: &[String]) -> String {
    if items.is_empty() { "no directory at all".to_owned() } else { items.join(", ") }
}

impl ClientTools {
    /// The oldest tools that are not older than `needed`, the newer major version of the two servers.
    pub async fn find(search: &ClientSearch, needed: u32) -> Result<ClientTools, ClientError> {
        if search.choice == ClientChoice::Pod {
            let routes = search.pods.as_ref().map_err(NoPod::clone)?;
            let none = |Unsuitable { seen, hint }| ClientError::InPods { seen, needed, hint };
            return in_pods(routes, needed).await.map_err(none);
        }
        let here = match on_this_machine(search, needed).await {
            Ok(tools) => return Ok(tools),
            Err(error) => error,
        };
        let may_leave = search.choice == ClientChoice::Auto && search.directory.is_none();
        let (elsewhere, hint) = match &search.pods {
            Ok(_) if !may_leave => return Err(ClientError::NotHere(Box::new(here))),
            Ok(routes) => match in_pods(routes, needed).await {
                Ok(tools) => return Ok(tools),
                Err(Unsuitable { seen, hint }) => (seen.join("; "), hint),
            },
            // Of pods nobody has thought.
            Err(NoPod::NoObject) => return Err(here),
            Err(_) if !may_leave => return Err(here),
            Err(reason) => (reason.to_string(), reason.hint()),
        };
        Err(ClientError::Nowhere { here: Box::new(here), elsewhere, hint })
    }
}

async fn on_this_machine(search: &ClientSearch, needed: u32) -> Result<ClientTools, ClientError> {
    let directories = search.directories();
    let mut found: Vec<ClientTools> = Vec::new();
    for directory in &directories {
        match in_directory(directory).await {
            Ok(Some(tools)) => found.push(tools),
            Err(cause) if search.directory.is_some() => {
                return Err(ClientError::Unusable { directory: directory.display().to_string(), cause });
            }
            // A broken installation beside a good one is no reason to stop.
            Ok(None) | Err(_) => {}
        }
    }
    choose(found, needed, &directories)
}

/// The tools of one directory; `None` if it does not hold both.
async fn in_directory(directory: &Path) -> Result<Option<ClientTools>, ProbeError> {
    // A child's program is never looked up: an absolute path is.
    let Ok(directory) = std::path::absolute(directory) else { return Ok(None) };
    if !["pg_dump", "pg_restore"].iter().all(|tool| directory.join(tool).is_file()) {
        return Ok(None);
    }
    ClientTools::probe(ClientPlace::Machine(directory)).await.map(Some)
}

/// What there is in pods that will not do, and the next step there.
struct Unsuitable {
    seen: Vec<String>,
    hint: Option<String>,
}

async fn in_pods(routes: &[Arc<Route>], needed: u32) -> Result<ClientTools, Unsuitable> {
    let (mut seen, mut hint) = (Vec::new(), None);
    for route in routes {
        let place = ClientPlace::Pod(ClientPod::new(Arc::clone(route)));
        let name = place.to_string();
        match ClientTools::probe(place).await {
            Ok(tools) if tools.version.major >= needed => return Ok(tools),
            Ok(tools) => seen.push(tools.to_string()),
            Err(error) => {
                seen.push(format!("none in {name} ({})", describe_chain(&error)));
                hint = hint.or(error.hint());
            }
        }
    }
    Err(Unsuitable { seen, hint })
}

impl ClientSearch {
    fn directories(&self) -> Vec<PathBuf> {
        if let Some(directory) = &self.directory {
            return vec![directory.clone()];
        }
        let path =
            self.path.iter().flat_map(std::env::split_paths).filter(|directory| !has_wrapper(directory));
        let mut directories: Vec<PathBuf> = Vec::new();
        for directory in self.candidates.iter().cloned().chain(path) {
            if !directory.as_os_str().is_empty() && !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        directories
    }
}

fn has_wrapper(directory: &Path) -> bool {
    std::fs::canonicalize(directory.join("pg_dump")).is_ok_and(|program| program.ends_with("pg_wrapper"))
}

fn choose(found: Vec<ClientTools>, needed: u32, directories: &[PathBuf]) -> Result<ClientTools, ClientError> {
    if found.is_empty() {
        let searched = directories.iter().map(|directory| directory.display().to_string()).collect();
        return Err(ClientError::Missing { searched, needed });
    }
    let described = found.iter().map(ToString::to_string).collect();
    // min_by_key keeps the first of equals: candidates before PATH.
    found
        .into_iter()
        .filter(|tools| tools.version.major >= needed)
        .min_by_key(|tools| tools.version.major)
        .ok_or(ClientError::TooOld { found: described, needed })
}

#[cfg(test)]
mod tests {
    use super::super::tools::ClientVersion;
    use super::*;

    fn tools(major: u32, directory: &str) -> ClientTools {
        let version = ClientVersion { major, text: format!("{major}.1") };
        ClientTools { place: ClientPlace::Machine(directory.into()), version }
    }

    #[test]
    fn the_oldest_sufficient_version_is_taken() {
        let found = vec![tools(18, "/c"), tools(15, "/a"), tools(17, "/b"), tools(17, "/d")];
        let chosen = choose(found.clone(), 16, &[]).expect("17 will do");
        assert_eq!(chosen.to_string(), "17.1 in /b");
        let error = choose(found, 19, &[]).expect_err("none will do");
        let message = error.to_string();
        assert!(message.contains("19 or newer") && message.contains("17.1 in /b"), "{message}");
        assert!(error.hint().is_some_and(|hint| hint.contains("postgresql-client-19")));
    }

    #[test]
    fn debians_wrapper_is_looked_at_only_if_it_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("pg_wrapper"), "").expect("written");
        std::os::unix::fs::symlink("pg_wrapper", directory.path().join("pg_dump")).expect("linked");
        let directory = directory.path().to_owned();
        let path = ClientSearch { path: Some(directory.clone().into()), ..Default::default() };
        assert!(path.directories().is_empty());
        let named = ClientSearch { directory: Some(directory.clone()), ..path };
        assert_eq!(named.directories(), [directory]);
    }

    #[test]
    fn a_named_directory_is_the_only_one() {
        let search = ClientSearch {
            directory: Some("/only".into()),
            candidates: vec!["/a".into()],
            path: Some("/b:/c".into()),
            ..ClientSearch::default()
        };
        assert_eq!(search.directories(), [PathBuf::from("/only")]);
        let search = ClientSearch { directory: None, ..search };
        assert_eq!(search.directories(), [PathBuf::from("/a"), "/b".into(), "/c".into()]);
    }

    #[tokio::test]
    async fn an_empty_directory_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let search = ClientSearch { directory: Some(directory.path().to_owned()), ..Default::default() };
        let error = ClientTools::find(&search, 17).await.expect_err("nothing there");
        assert!(error.to_string().contains(&directory.path().display().to_string()), "{error}");
    }
}
