//! `pgmove init`.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::cluster;
use super::commands::{Ended, unless_stopped};
use super::endpoints::{Cluster, ObjectOptions, SourceObject, TargetObject};
use crate::error::{Class, Error, Exit, Fault};
use crate::kubernetes::{Account, ApiServer, ClusterLook, Instance, Kind, ObjectRef, Orphan, Route, Survey};
use crate::pg::ConnInfo;
use crate::preflight::kubernetes::{Objects, findings};

mod text;

use text::Side;

pub(super) const EXAMPLES: &str = "\
Examples:
  Write pgmove.toml from what is in a namespace; nothing is changed in the cluster:
    pgmove init -n media
  The same, with the objects named, onto the screen:
    pgmove init -n media --source sts/immich-postgres --target cluster/immich-postgres --file -
  Then:
    pgmove check
    pgmove run --dry-run
    pgmove run

The file names both servers, and asks `check` and `run` for a freeze and a fence; each line says why. No password is in it:
logins are read from the cluster whenever they are needed. A file that exists is not overwritten.";

/// What `pgmove init` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The server to move from: sts/NAME, deploy/NAME, pod/NAME, svc/NAME [default: the only one in its namespace]
    #[arg(long, value_name = "KIND/NAME", hide_env_values = true)]
    source: Option<String>,
    /// The Cluster to move into: cluster/NAME [default: the only one in its namespace]
    #[arg(long, value_name = "KIND/NAME", hide_env_values = true)]
    target: Option<String>,
    /// The file to write; - for the screen
    #[arg(long, value_name = "FILE", default_value = "pgmove.toml")]
    file: PathBuf,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    source_object: SourceObject,
    #[command(flatten)]
    target_object: TargetObject,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    #[error("could not write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("namespace {namespace} has no {what}")]
    None { what: &'static str, option: &'static str, namespace: String },
    #[error(
        "namespace {namespace} has no PostgreSQL server beside those of CloudNative-PG, and claims that no pod uses: {}",
        orphans.iter().map(|orphan| &*orphan.storage.claim).collect::<Vec<_>>().join(", ")
    )]
    Gone { namespace: String, orphans: Vec<Orphan> },
    #[error("namespace {namespace} has several: {found}")]
    Several { found: String, option: &'static str, namespace: String },
    #[error("the target is to be a Cluster of CloudNative-PG, and {0} is none")]
    NoCluster(ObjectRef),
}

impl Fault for InitError {
    fn class(&self) -> Class {
        match self {
            InitError::Write { .. } => Class::Environment,
            _ => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            InitError::Exists(_) => "name another one with --file, or move it away".into(),
            InitError::Write { .. } => return None,
            InitError::None { option, .. } => {
                format!("name the namespace with --{option}-namespace, or the object with --{option} KIND/NAME")
            }
            InitError::Gone { orphans, .. } => format!(
                "if one of them holds the data of the server that is gone, bring it up again; for claim {}, {}",
                orphans[0].storage.claim,
                orphans[0].finding().remedy
            ),
            InitError::Several { option, .. } => format!("say which with --{option} KIND/NAME"),
            InitError::NoCluster(_) => {
                "name it as cluster/NAME; into another server, `pgmove run --target …` moves without this file".into()
            }
        })
    }
}

pub(super) async fn init(options: &Arguments, stop: &CancellationToken) -> Result<Ended, Error> {
    let usage = |error| Error::new(Exit::Usage, error);
    let is_printed = options.file.as_os_str() == "-";
    if !is_printed && options.file.exists() {
        return Err(usage(InitError::Exists(options.file.clone())));
    }
    let looking = Box::pin(look(options));
    let (source, target) = unless_stopped(stop, looking).await??;
    let text = text::of(&options.cluster, &source, &target);
    let found = findings(&Objects {
        source: Some(&source.instance),
        target: target.cluster.as_ref(),
        ..Objects::default()
    });
    if is_printed {
        return Ok(Ended { content: Some(text), ..Ended::default() });
    }
    write(&options.file, &text).map_err(usage)?;
    let lines = vec![format!("{} is written; read it, then: pgmove check", options.file.display())];
    Ok(Ended { findings: found, lines, ..Ended::default() })
}

fn write(path: &Path, text: &str) -> Result<(), InitError> {
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => InitError::Exists(path.to_owned()),
        _ => InitError::Write { path: path.to_owned(), source },
    })
}

/// Looks at both sides, as a run would find them.
async fn look(options: &Arguments) -> Result<(Side<'_>, Side<'_>), Error> {
    let (of_source, of_target) = (options.source_object.options(), options.target_object.options());
    let server = options.cluster.connect(&of_source).await?;
    let object = chosen(options.source.as_deref(), "source", &server).await?;
    let source = Box::pin(side(&server, object, of_source)).await?;
    let server = if options.cluster.access(&of_target) == options.cluster.access(&of_source) {
        server
    } else {
        options.cluster.connect(&of_target).await?
    };
    let object = chosen(options.target.as_deref(), "target", &server).await?;
    if object.kind != Kind::Cluster {
        return Err(Error::new(Exit::Usage, InitError::NoCluster(object)));
    }
    Ok((source, Box::pin(side(&server, object, of_target)).await?))
}

/// The object that is named, or else the only one that there is.
async fn chosen(named: Option<&str>, option: &'static str, server: &ApiServer) -> Result<ObjectRef, Error> {
    if let Some(named) = named {
        return named.parse().map_err(|error| Error::new(Exit::Usage, error));
    }
    let namespace = server.namespace().to_owned();
    let survey = Survey::look(server, &namespace).await.map_err(refused)?;
    let (mut found, what) = match option {
        "source" => (survey.servers, "PostgreSQL server beside those of CloudNative-PG"),
        _ => (survey.clusters, "Cluster of CloudNative-PG"),
    };
    match found.len() {
        0 => {
            // That claims cannot be listed is no second error.
            let orphans = match option {
                "source" => Orphan::look_around(server, &namespace).await.unwrap_or_default(),
                _ => vec![],
            };
            Err(refused(if orphans.is_empty() {
                InitError::None { what, option, namespace }
            } else {
                InitError::Gone { namespace, orphans }
            }))
        }
        1 => Ok(found.remove(0)),
        _ => {
            let several: Vec<String> = found.iter().map(ToString::to_string).collect();
            Err(refused(InitError::Several { found: several.join(", "), option, namespace }))
        }
    }
}

async fn side<'a>(
    server: &ApiServer,
    object: ObjectRef,
    options: ObjectOptions<'a>,
) -> Result<Side<'a>, Error> {
    // First, since it says what is left of a workload that is gone.
    let login: ConnInfo = cluster::conninfo(server, &object, &options, Account::Application).await?;
    let route = Route::new(server.clone(), object.clone(), options.container.map(str::to_owned));
    let (instance, cluster) = if object.kind == Kind::Cluster {
        let look = ClusterLook::look(&route).await.map_err(refused)?;
        (look.primary.clone(), Some(look))
    } else {
        (Instance::look(&route).await.map_err(refused)?.0, None)
    };
    Ok(Side { object, options, context: server.context().map(str::to_owned), login, instance, cluster })
}

fn refused(error: impl Fault) -> Error {
    Error::new(Exit::Refused, error)
}
