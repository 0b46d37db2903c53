//! Finding `pg_dump` and `pg_restore`.
//!
//! Takes directories (the library reads no environment: the caller hands in `PATH`); gives absolute paths and
//! their version. The rule: the client's major version is at least that of both servers, since `pg_dump` refuses
//! newer servers; of several that will do the oldest is taken, since a newer one may write what an older
//! target does not know. When none will do, the error names what was found where, and what to install.
//!
//! Debian's `/usr/bin/pg_dump` is not looked at unless it is named: it is a script (`pg_wrapper`) that starts one of
//! the installed versions, which are candidates themselves.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::child::{ChildError, ChildLimits, run};
use crate::error::{Class, Fault};

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct ClientSearch {
    /// The directory that the user named; nothing else is looked at then.
    pub directory: Option<PathBuf>,
    /// Directories where packages put the tools, as `/usr/lib/postgresql/17/bin`.
    pub candidates: Vec<PathBuf>,
    /// The value of `PATH`, searched after the candidates.
    pub path: Option<OsString>,
}

/// A version of the client tools.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ClientVersion {
    /// The major version.
    pub major: u32,
    /// As the tool tells it: `17.6 (Debian 17.6-1)`.
    pub text: String,
}

impl fmt::Display for ClientVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The pair of tools, of one version.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ClientTools {
    /// Absolute path of `pg_dump`.
    pub pg_dump: PathBuf,
    /// Absolute path of `pg_restore`.
    pub pg_restore: PathBuf,
    /// Their version.
    pub version: ClientVersion,
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
}

/// Why one directory's tools cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A tool could not be run.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A tool's answer to `--version` has another form.
    #[error("`{tool} --version` answered `{answer}`")]
    Version {
        /// The tool.
        tool: &'static str,
        /// Its answer.
        answer: String,
    },
    /// Two versions in one directory.
    #[error("pg_dump is version {dump}, pg_restore is version {restore}")]
    Mixed {
        /// Version of `pg_dump`.
        dump: String,
        /// Version of `pg_restore`.
        restore: String,
    },
}

impl Fault for ClientError {
    fn class(&self) -> Class {
        Class::Environment
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            ClientError::Missing { needed, .. } | ClientError::TooOld { needed, .. } => format!(
                "install PostgreSQL's client programs of version {needed} (package postgresql-client-{needed} \
                 on Debian and Ubuntu, postgresql{needed} on Red Hat), or name their directory"
            ),
            ClientError::Unusable { .. } => {
                "name the directory that holds pg_dump and pg_restore of one version".to_owned()
            }
        })
    }
}

fn display_list(items: &[String]) -> String {
    if items.is_empty() { "no directory at all".to_owned() } else { items.join(", ") }
}

impl ClientTools {
    /// The oldest tools that are not older than `needed`, the newer major version of the two servers.
    pub async fn find(search: &ClientSearch, needed: u32) -> Result<ClientTools, ClientError> {
        let directories = search.directories();
        let mut found: Vec<ClientTools> = Vec::new();
        for directory in &directories {
            match ClientTools::probe(directory).await {
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
    async fn probe(directory: &Path) -> Result<Option<ClientTools>, ProbeError> {
        // A child's program is never looked up: an absolute path is.
        let Ok(directory) = std::path::absolute(directory) else { return Ok(None) };
        let (pg_dump, pg_restore) = (directory.join("pg_dump"), directory.join("pg_restore"));
        if !pg_dump.is_file() || !pg_restore.is_file() {
            return Ok(None);
        }
        let version = version_of(&pg_dump, "pg_dump").await?;
        let restore = version_of(&pg_restore, "pg_restore").await?;
        if version != restore {
            return Err(ProbeError::Mixed { dump: version.text, restore: restore.text });
        }
        Ok(Some(ClientTools { pg_dump, pg_restore, version }))
    }
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
    let described = found
        .iter()
        .map(|tools| {
            let directory = tools.pg_dump.parent().unwrap_or(&tools.pg_dump);
            format!("{} in {}", tools.version, directory.display())
        })
        .collect();
    // min_by_key keeps the first of equals: candidates before PATH.
    found
        .into_iter()
        .filter(|tools| tools.version.major >= needed)
        .min_by_key(|tools| tools.version.major)
        .ok_or(ClientError::TooOld { found: described, needed })
}

async fn version_of(program: &Path, tool: &'static str) -> Result<ClientVersion, ProbeError> {
    let arguments = [OsString::from("--version")];
    let output = run(program, &arguments, None, &ChildLimits::short()).await?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    parse_version(tool, &answer).ok_or(ProbeError::Version { tool, answer })
}

/// `pg_dump (PostgreSQL) 17.6 (Debian 17.6-1)`; development versions are `18beta1`, `19devel`.
fn parse_version(tool: &str, answer: &str) -> Option<ClientVersion> {
    let text = answer.strip_prefix(tool)?.strip_prefix(" (PostgreSQL) ")?;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some(ClientVersion { major: text[..digits].parse().ok()?, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(major: u32, directory: &str) -> ClientTools {
        let version = ClientVersion { major, text: format!("{major}.1") };
        ClientTools {
            pg_dump: Path::new(directory).join("pg_dump"),
            pg_restore: Path::new(directory).join("pg_restore"),
            version,
        }
    }

    #[test]
    fn versions_are_read_from_all_forms() {
        for (answer, major) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", 15),
            ("pg_dump (PostgreSQL) 18.4", 18),
            ("pg_dump (PostgreSQL) 19devel", 19),
        ] {
            assert_eq!(parse_version("pg_dump", answer).map(|version| version.major), Some(major));
        }
        assert_eq!(parse_version("pg_dump", "pg_dump (EnterpriseDB) x"), None);
        assert_eq!(parse_version("pg_dump", "bash: not found"), None);
    }

    #[test]
    fn the_oldest_sufficient_version_is_taken() {
        let found = vec![tools(18, "/c"), tools(15, "/a"), tools(17, "/b"), tools(17, "/d")];
        let chosen = choose(found.clone(), 16, &[]).expect("17 will do");
        assert_eq!(chosen.pg_dump, Path::new("/b/pg_dump"));
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
