//! PostgreSQL's client programs in the pod of a server, for a machine that has none that will do.
//!
//! There is no tunnel there: `pg_dump` reaches the server of its own pod over 127.0.0.1, and another one at the address of
//! its pod. So all servers must be objects of one cluster ([`pods`]). Of the container's environment a program sees next to
//! nothing, and its password is the first line of its input (`pod.sh`): in no argument, which an audit log would keep, and
//! in no file. What it writes is whole, or an error ([`exec`]); one whose streams were cut is run again, in the pod that is
//! there then.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use secrecy::zeroize::Zeroizing;
use tokio::time::sleep;

use super::child::{ChildEndpoint, ChildError, ChildLimits, ChildOutput, own_errors};
use crate::error::{Class, Fault, Side};
use crate::kubernetes::{Exec, ExecError, PodPort, Route, exec};
use crate::pg::ConnInfo;
use crate::pg::conninfo::SslMode;

/// After how many milliseconds a program is run again whose streams were cut, or whose pod went: one that is replaced may
/// be back by then.
const PAUSES: [u64; 4] = [250, 1_000, 4_000, 10_000];

/// Why the client programs cannot be run in a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPod {
    /// There is none.
    #[error("no server is an object in Kubernetes")]
    NoObject,
    /// Nobody knows where its name leads to from a pod.
    #[error("the {0} is given as a connection string, which need not lead there from a pod")]
    ConnectionString(Side),
    /// Pods of two clusters do not know each other's addresses.
    #[error("source and target are in two clusters")]
    TwoClusters,
    /// It is known on this machine whom to trust.
    #[error(
        "the certificate of the {side} is to be verified (sslmode={mode}), by an authority that no pod has a file of"
    )]
    Verified {
        /// The server.
        side: Side,
        /// How.
        mode: &'static str,
    },
}

impl Fault for NoPod {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        match self {
            NoPod::NoObject | NoPod::ConnectionString(_) => {
                Some("name every server as an object in Kubernetes".to_owned())
            }
            NoPod::Verified { side, .. } => Some(format!("give --{side}-sslmode require")),
            NoPod::TwoClusters => None,
        }
    }
}

/// The pods in which `pg_dump` reaches all of these servers, in this order.
pub fn pods(servers: &[(Side, &Arc<ConnInfo>)]) -> Result<Vec<Arc<Route>>, NoPod> {
    if servers.iter().all(|(_, conninfo)| conninfo.route().is_none()) {
        return Err(NoPod::NoObject);
    }
    let mut routes: Vec<Arc<Route>> = Vec::new();
    for (side, conninfo) in servers {
        let route = conninfo.route().ok_or(NoPod::ConnectionString(*side))?;
        if routes.first().is_some_and(|first| first.server.url() != route.server.url()) {
            return Err(NoPod::TwoClusters);
        }
        let mode = conninfo.ssl_mode();
        // libpq verifies with `require` too, where it has roots.
        if conninfo.root_certificates().is_some() || matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) {
            return Err(NoPod::Verified { side: *side, mode: mode.keyword() });
        }
        if !routes.contains(route) {
            routes.push(Arc::clone(route));
        }
    }
    Ok(routes)
}

/// The container of a server, in which its client programs are run.
#[derive(Debug, Clone)]
pub struct ClientPod(Arc<Route>);

/// `the pod of cluster/immich-postgres in media`.
impl fmt::Display for ClientPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pod of {}", self.0)
    }
}

impl ClientPod {
    /// In the pod that this leads to.
    pub fn new(route: Arc<Route>) -> ClientPod {
        ClientPod(route)
    }

    /// Runs a program of the container's `PATH` to its end.
    pub(super) async fn run(
        &self,
        program: &str,
        arguments: &[String],
        endpoint: Option<&ChildEndpoint>,
        input: &[u8],
        limits: &ChildLimits,
    ) -> Result<ChildOutput, ChildError> {
        let work = async {
            let mut pauses = PAUSES.into_iter();
            loop {
                let attempt = Box::pin(self.attempt(program, arguments, endpoint, input, limits.stall)).await;
                match (attempt, pauses.next()) {
                    (Err(error), Some(pause)) if is_passing(&error) => {
                        sleep(Duration::from_millis(pause)).await;
                    }
                    (outcome, _) => return outcome,
                }
            }
        };
        tokio::select! {
            outcome = work => outcome,
            () = limits.cancel.cancelled() => Err(ChildError::Cancelled { program: program.to_owned() }),
        }
    }

    async fn attempt(
        &self,
        program: &str,
        arguments: &[String],
        endpoint: Option<&ChildEndpoint>,
        input: &[u8],
        stall: Duration,
    ) -> Result<ChildOutput, ChildError> {
        let at = self.0.resolve().await?;
        let login = match endpoint {
            Some(endpoint) => Some(self.login(endpoint, &at).await?),
            None => None,
        };
        let password = login.as_ref().and_then(ConnInfo::password);
        let password = password.as_ref().map_or("", |password| password.expose_secret());
        let database = login.as_ref().map(|login| format!("--dbname={}", login.keyword_string(None)));
        let mut command = vec!["sh", "-c", include_str!("pod.sh"), "sh", program];
        command.extend(arguments.iter().chain(&database).map(String::as_str));
        let input = Zeroizing::new([password.as_bytes(), b"\n", input].concat());
        let run = Exec { at: &at, command: &command, input: &input, stall };
        let output = exec(&self.0.server, &run).await.map_err(|error| ended(error, program))?;
        match output.code {
            0 => Ok(ChildOutput { stdout: output.stdout, stderr: output.stderr }),
            code => Err(ChildError::Failed {
                program: format!("{program} in pod {}", at.pod),
                // As wait(2) tells it.
                status: ExitStatus::from_raw(code << 8),
                message: own_errors(&output.stderr),
            }),
        }
    }

    /// How a server is reached from the pod.
    async fn login(&self, endpoint: &ChildEndpoint, at: &PodPort) -> Result<ConnInfo, ChildError> {
        let no_address = |server: &dyn fmt::Display| ChildError::NoAddress { server: server.to_string() };
        let conninfo = endpoint.pod.as_ref().ok_or_else(|| no_address(&"a server outside of Kubernetes"))?;
        let route = conninfo.route().expect("it is in a pod");
        if *route == self.0 {
            return Ok(conninfo.at_address(Ipv4Addr::LOCALHOST.into(), at.port));
        }
        let found = route.find().await?;
        let address = found.pod.status.and_then(|status| status.pod_ip);
        let address: Option<IpAddr> = address.and_then(|address| address.parse().ok());
        let login = conninfo.at_address(address.ok_or_else(|| no_address(route))?, found.port.port);
        Ok(match login.ssl_mode() {
            // In a tunnel it is encrypted up to the node; between pods it is where the server has TLS.
            SslMode::Disable => login.with_tls(SslMode::Prefer, None),
            _ => login,
        })
    }
}

/// Whether a program is to be run again: nothing is changed by any of them.
fn is_passing(error: &ChildError) -> bool {
    match error {
        ChildError::NoServer(error) => error.is_retryable(),
        ChildError::Exec(error) => match &**error {
            // The pod may have gone since it was looked for.
            ExecError::Api(error) => error.is_retryable() || error.is_not_found(),
            error => matches!(error, ExecError::Cut { .. }),
        },
        _ => false,
    }
}

/// With the program in the place of the shell that starts it.
fn ended(error: ExecError, program: &str) -> ChildError {
    let program = program.to_owned();
    ChildError::Exec(Box::new(match error {
        ExecError::Cut { pod, reason, .. } => ExecError::Cut { program, pod, reason },
        ExecError::Stalled { pod, stall, .. } => ExecError::Stalled { program, pod, stall },
        error => error,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::kubernetes::{Access, ApiServer, Kubeconfig};
    use crate::pg::Defaults;
    use crate::pg::conninfo::RootCertificates;

    /// A login to a server behind an object of a cluster, which nobody asks.
    async fn login(cluster: &str, object: &str, mode: SslMode) -> Arc<ConnInfo> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config");
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "one",
            "clusters": [{ "name": "one", "cluster": { "server": format!("https://{cluster}:6443") } }],
            "users": [{ "name": "jane", "user": {} }],
            "contexts": [{ "name": "one", "context": { "cluster": "one", "user": "jane" } }],
        });
        std::fs::write(&file, config.to_string()).expect("a file");
        let access =
            Access { kubeconfig: Kubeconfig::File(file), context: None, namespace: Some("media".into()) };
        let server = ApiServer::connect(&access).await.expect("a kubeconfig");
        let route = Arc::new(Route::new(server, object.parse().expect("an object"), None));
        let conninfo = ConnInfo::parse("postgres://app@h/app", &Defaults::default()).expect("a URI");
        let roots = (mode == SslMode::VerifyFull).then_some(RootCertificates::System);
        Arc::new(conninfo.in_pod(route).with_tls(mode, roots))
    }

    #[tokio::test]
    async fn a_pod_is_taken_where_all_servers_are_reached_from_it() {
        let target = login("one", "cluster/new", SslMode::Disable).await;
        let source = login("one", "sts/old", SslMode::Require).await;
        let elsewhere = login("two", "sts/old", SslMode::Disable).await;
        let verified = login("one", "sts/old", SslMode::VerifyFull).await;
        let uri = Arc::new(ConnInfo::parse("postgres://app@h/app", &Defaults::default()).expect("a URI"));
        let found = |source: &Arc<ConnInfo>| {
            let routes = pods(&[(Side::Target, &target), (Side::Source, source)])?;
            Ok(routes.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            found(&source),
            Ok(vec!["cluster/new in media".to_owned(), "sts/old in media".to_owned()])
        );
        assert_eq!(found(&target), Ok(vec!["cluster/new in media".to_owned()]));
        for (source, expected) in [
            (&uri, NoPod::ConnectionString(Side::Source)),
            (&elsewhere, NoPod::TwoClusters),
            (&verified, NoPod::Verified { side: Side::Source, mode: "verify-full" }),
        ] {
            assert_eq!(found(source), Err(expected));
        }
        assert_eq!(pods(&[(Side::Target, &uri), (Side::Source, &uri)]), Err(NoPod::NoObject));
    }

    #[test]
    fn a_program_in_a_pod_gets_its_password_by_its_input_and_nothing_of_the_environment() {
        let password = " p'\\\"$HOME`\\n: ";
        let mut child = Command::new("/bin/sh")
            .args([
                "-c",
                include_str!("pod.sh"),
                "sh",
                "/bin/sh",
                "-c",
                "/usr/bin/env; echo; printf '<%s>' \"$@\"; cat",
            ])
            .args(["sh", "--dbname=dbname='a b'", "$HOME"])
            .env_clear()
            .envs([
                ("PATH", "/usr/bin:/bin"),
                ("LD_LIBRARY_PATH", "/a b"),
                ("HOME", "/root"),
                ("LANG", "de_DE"),
            ])
            .envs([
                ("PGHOST", "elsewhere"),
                ("PGSSLMODE", "disable"),
                ("PGSERVICE", "other"),
                ("PGPASSWORD", "no"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(format!("{password}\nthe \\archive\n").as_bytes()).expect("it reads");
        drop(input);
        let output = child.wait_with_output().expect("it ends").stdout;
        let text = String::from_utf8(output).expect("UTF-8");
        let (environment, rest) = text.split_once("\n\n").expect("both");
        // The shell's own.
        let own = ["PWD=", "_=", "SHLVL=", "OLDPWD="];
        let mut environment: Vec<&str> =
            environment.lines().filter(|line| !own.iter().any(|name| line.starts_with(name))).collect();
        environment.sort_unstable();
        assert_eq!(
            environment,
            [
                "LC_ALL=C",
                "LD_LIBRARY_PATH=/a b",
                "PATH=/usr/bin:/bin",
                "PGOPTIONS=-c standard_conforming_strings=on",
                "PGPASSFILE=/dev/null/none",
                &format!("PGPASSWORD={password}"),
            ]
        );
        assert_eq!(rest, "<--dbname=dbname='a b'><$HOME>the \\archive\n");
    }
}
