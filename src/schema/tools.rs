//! `pg_dump` and `pg_restore`, wherever they are: an archive is a file of this machine either way.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::child::{ChildEndpoint, ChildError, ChildLimits, run};
use super::pod::ClientPod;
use crate::error::Fault as _;

/// A version of the client tools.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone)]
pub struct ClientTools {
    /// Where they are.
    pub place: ClientPlace,
    /// Their version.
    pub version: ClientVersion,
}

/// Where client tools are.
#[derive(Debug, Clone)]
pub enum ClientPlace {
    /// In a directory of this machine, an absolute path.
    Machine(PathBuf),
    /// In the pod of a server.
    Pod(ClientPod),
}

/// `/usr/lib/postgresql/17/bin`, or `the pod of cluster/immich-postgres in media`.
impl fmt::Display for ClientPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientPlace::Machine(directory) => write!(f, "{}", directory.display()),
            ClientPlace::Pod(pod) => write!(f, "{pod}"),
        }
    }
}

/// `17.6 in /usr/lib/postgresql/17/bin`.
impl fmt::Display for ClientTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.version, self.place)
    }
}

/// Why the tools of one place cannot be used.
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
    /// Two versions in one place.
    #[error("pg_dump is version {dump}, pg_restore is version {restore}")]
    Mixed {
        /// Version of `pg_dump`.
        dump: String,
        /// Version of `pg_restore`.
        restore: String,
    },
}

impl ProbeError {
    /// The next step, where there is one.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            ProbeError::Child(error) => error.hint(),
            ProbeError::Version { .. } | ProbeError::Mixed { .. } => None,
        }
    }
}

impl ClientTools {
    /// Asks both tools of a place for their version.
    pub(super) async fn probe(place: ClientPlace) -> Result<ClientTools, ProbeError> {
        let version = version_of(&place, "pg_dump").await?;
        let restore = version_of(&place, "pg_restore").await?;
        if version != restore {
            return Err(ProbeError::Mixed { dump: version.text, restore: restore.text });
        }
        Ok(ClientTools { place, version })
    }

    /// Has `pg_dump` write an archive, and gives its messages.
    pub(super) async fn dump(
        &self,
        arguments: &[String],
        endpoint: &ChildEndpoint,
        archive: &Path,
        limits: &ChildLimits,
    ) -> Result<String, ChildError> {
        match &self.place {
            ClientPlace::Machine(directory) => {
                let mut file = OsString::from("--file=");
                file.push(archive);
                let arguments: Vec<OsString> = arguments.iter().map(OsString::from).chain([file]).collect();
                let scratch = archive.parent().unwrap_or(archive);
                let connection = Some((endpoint, scratch));
                Ok(run(&directory.join("pg_dump"), &arguments, connection, limits).await?.stderr)
            }
            ClientPlace::Pod(pod) => {
                let output = pod.run("pg_dump", arguments, Some(endpoint), &[], limits).await?;
                std::fs::write(archive, &output.stdout).map_err(|cause| ChildError::Archive {
                    action: "write",
                    path: archive.to_owned(),
                    cause,
                })?;
                Ok(output.stderr)
            }
        }
    }

    /// What `pg_restore` makes of an archive.
    pub(super) async fn restore(
        &self,
        arguments: &[&str],
        archive: &Path,
        limits: &ChildLimits,
    ) -> Result<Vec<u8>, ChildError> {
        let output = match &self.place {
            ClientPlace::Machine(directory) => {
                let mut arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
                // A path never looks like an option.
                arguments.extend(["--".into(), archive.into()]);
                run(&directory.join("pg_restore"), &arguments, None, limits).await?
            }
            ClientPlace::Pod(pod) => {
                let content = std::fs::read(archive).map_err(|cause| ChildError::Archive {
                    action: "read",
                    path: archive.to_owned(),
                    cause,
                })?;
                let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
                pod.run("pg_restore", &arguments, None, &content, limits).await?
            }
        };
        Ok(output.stdout)
    }
}

async fn version_of(place: &ClientPlace, tool: &'static str) -> Result<ClientVersion, ProbeError> {
    const ARGUMENT: &str = "--version";
    let limits =
        |seconds| ChildLimits { stall: Duration::from_secs(seconds), cancel: CancellationToken::new() };
    let output = match place {
        ClientPlace::Machine(directory) => {
            run(&directory.join(tool), &[ARGUMENT.into()], None, &limits(10)).await?
        }
        ClientPlace::Pod(pod) => pod.run(tool, &[ARGUMENT.to_owned()], None, &[], &limits(60)).await?,
    };
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
}
