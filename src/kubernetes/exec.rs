//! Running a program in a container, and knowing that all of its input and output got through.
//!
//! Streams of `pods/exec` can be cut without an error: containerd closes the input of a program that closed its output,
//! and whatever breaks between reports success with half the bytes. So the program is run by a script (`exec.sh`) that
//! says on stderr how it ended and the SHA-256 of both streams; [`exec`] returns output that is whole, or an error. The
//! check of the input comes when the program has ended: a program that must not act on half of it gets none, but
//! arguments.
//!
//! The container has to have `sh`, and of coreutils (or busybox) `cat`, `head`, `sha256sum` and `tee`. Arguments can be read
//! by everybody who may read the API server's audit log or the pod's process list: a secret travels as input.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _};
use std::pin::pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::{ApiError, ApiServer, PodPort, Request};
use crate::error::{Class, Fault};
use crate::pg::server_error::describe_chain;

/// How much is on its way in each direction; kube's own choice is 1 KiB.
const BUFFER: usize = 64 * 1024;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    /// The container.
    pub at: &'a PodPort,
    /// The program and its arguments.
    pub command: &'a [&'a str],
    /// Its standard input.
    pub input: &'a [u8],
    /// For so long nothing may be heard of it.
    pub stall: Duration,
}

/// What a program wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; the shell's 126 and 127 for one that cannot be run or is not there.
    pub code: i32,
}

/// Why it is not known what a program did.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The API server did not begin it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The container's runtime could not run it.
    #[error("container {container} of pod {pod} could not run sh: {message}")]
    NotRun {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
        /// The runtime's words.
        message: String,
    },
    /// The stream ended before the program was known to have.
    #[error("the connection to {program} in pod {pod} was cut: {reason}")]
    Cut {
        /// The program.
        program: String,
        /// The pod.
        pod: String,
        /// What was missing.
        reason: String,
    },
    /// Nothing was heard of it.
    #[error("{program} in pod {pod} gave no sign of life for {} s", stall.as_secs())]
    Stalled {
        /// The program.
        program: String,
        /// The pod.
        pod: String,
        /// How long.
        stall: Duration,
    },
}

impl Fault for ExecError {
    fn class(&self) -> Class {
        match self {
            ExecError::Api(error) => error.class(),
            _ => Class::Cluster,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            ExecError::Api(error) => error.is_retryable(),
            ExecError::NotRun { .. } => false,
            ExecError::Cut { .. } | ExecError::Stalled { .. } => true,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ExecError::Api(error) => error.hint(),
            ExecError::NotRun { .. } => Some("name a container that has a shell and coreutils".to_owned()),
            ExecError::Cut { .. } | ExecError::Stalled { .. } => None,
        }
    }
}

/// Runs a program to its end.
pub async fn exec(server: &ApiServer, run: &Exec<'_>) -> Result<ExecOutput, ExecError> {
    let mark = format!("pgmove-{:016x}", RandomState::new().build_hasher().finish());
    let length = run.input.len().to_string();
    let script = ["sh", "-c", include_str!("exec.sh"), "sh", &mark, &length];
    let parameters = AttachParams::default()
        .container(&run.at.container)
        .stdin(!run.input.is_empty())
        .stderr(true)
        .max_stdin_buf_size(BUFFER)
        .max_stdout_buf_size(BUFFER)
        .max_stderr_buf_size(BUFFER);
    let pods = Api::<Pod>::namespaced(server.client().clone(), &run.at.namespace);
    let request = Request {
        resource: "pods/exec".to_owned(),
        ..Request::of::<Pod>(&(), "get", Some(&run.at.namespace), Some(&run.at.pod))
    };
    let begun = pods.exec(&run.at.pod, script.iter().chain(run.command).copied(), &parameters);
    let attached = server.ask(request, begun).await?;
    let heard = hear(attached, run).await?;
    run.judge(&heard, &mark)
}

/// What came of a program.
#[derive(Debug)]
struct Heard {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How the script ended; or why that is not known.
    status: Result<Status, String>,
}

async fn hear(mut attached: AttachedProcess, run: &Exec<'_>) -> Result<Heard, ExecError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (attached.stdout(), attached.stderr());
    let (out, err) = (out.expect("it was asked for"), err.expect("it was asked for"));
    let input = attached.stdin();
    let status = attached.take_status().expect("it is taken once");
    let alive = std::cell::Cell::new(Instant::now());
    let work = async {
        let write = async {
            if let Some(mut input) = input {
                for piece in run.input.chunks(BUFFER) {
                    // A stream that broke is found out by what is missing at its end.
                    if input.write_all(piece).await.is_err() {
                        break;
                    }
                    alive.set(Instant::now());
                }
                // The input is not closed: the script knows its length, and version 4 of the protocol would close the
                // output with it.
                std::future::pending::<()>().await;
            }
            std::future::pending::<Option<Status>>().await
        };
        let read = async {
            let (mut status, mut both) = (
                pin!(status),
                pin!(async { tokio::join!(read(out, &mut stdout, &alive), read(err, &mut stderr, &alive)) }),
            );
            // kube ends the streams when it has a status. When the connection breaks it has none, and leaves them open.
            tokio::select! {
                _ = &mut both => status.await,
                status = &mut status => {
                    if status.is_some() {
                        both.await;
                    }
                    status
                }
            }
        };
        tokio::select! { status = read => status, never = write => never }
    };
    let mut work = Box::pin(work);
    let status = loop {
        match timeout_at(alive.get() + run.stall, &mut work).await {
            Ok(status) => break status,
            Err(_) if alive.get().elapsed() < run.stall => {}
            Err(_) => {
                let (program, pod) = run.names();
                return Err(ExecError::Stalled { program, pod, stall: run.stall });
            }
        }
    };
    drop(work);
    let status = match status {
        Some(status) => Ok(status),
        None => Err(match attached.join().await {
            Ok(()) => "it was closed".to_owned(),
            Err(error) => describe_chain(&error),
        }),
    };
    Ok(Heard { stdout, stderr, status })
}

async fn read(mut stream: impl AsyncRead + Unpin, into: &mut Vec<u8>, alive: &std::cell::Cell<Instant>) {
    // An error is an early end; what is missing is found out afterwards.
    while let Ok(1..) = stream.read_buf(into).await {
        alive.set(Instant::now());
    }
}

impl Exec<'_> {
    fn names(&self) -> (String, String) {
        (self.command.first().copied().unwrap_or_default().to_owned(), self.at.pod.clone())
    }

    /// The output, if everything is there.
    fn judge(&self, heard: &Heard, mark: &str) -> Result<ExecOutput, ExecError> {
        let cut = |reason: String| {
            let (program, pod) = self.names();
            ExecError::Cut { program, pod, reason }
        };
        let text = String::from_utf8_lossy(&heard.stderr);
        let told = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(mark)?.trim_start().strip_prefix(word));
            line.and_then(|line| line.split_whitespace().next())
        };
        let (Some(code), Some(input), Some(output)) = (told("exit"), told("input"), told("output")) else {
            return Err(match &heard.status {
                Ok(status) if status.status.as_deref() == Some("Failure") => ExecError::NotRun {
                    pod: self.at.pod.clone(),
                    container: self.at.container.clone(),
                    message: status.message.clone().unwrap_or_default(),
                },
                Ok(_) => cut("the end of its messages is missing".to_owned()),
                Err(reason) => cut(reason.clone()),
            });
        };
        if input != sha256(self.input) {
            return Err(cut(format!("it did not get the {} bytes that were sent", self.input.len())));
        }
        if output != sha256(&heard.stdout) {
            return Err(cut(format!("the {} bytes that came are not what it wrote", heard.stdout.len())));
        }
        let code = code.parse().map_err(|_| cut(format!("its exit code is said to be {code}")))?;
        // Each of the script's lines comes with a line break before it.
        let own = text.lines().filter(|line| !line.starts_with(mark)).collect::<Vec<_>>().join("\n");
        Ok(ExecOutput { stdout: heard.stdout.clone(), stderr: own.trim_end().to_owned(), code })
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}
