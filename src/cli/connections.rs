//! From options to [`settings::Connections`]: connection strings and objects become logins, with passwords from where they
//! are.

use std::env;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::arguments::{Choices, VectorIndex};
use super::commands::unless_stopped;
use super::endpoints::{
    ClientOptions, Cluster, Endpoints, ObjectOptions, Sides, SourceObject, Target, TargetObject,
};
use super::privileges::{self, Superuser};
use super::{cluster, prompt};
use crate::error::{Error, Exit, Side};
use crate::kubernetes::{Access, Account, ApiServer, ObjectRef};
use crate::pg::ConnInfo;
use crate::plan::VectorIndexChoice;
use crate::schema::{self, ClientChoice, ClientError, ClientSearch};
use crate::settings::{self, Substitute};

mod endpoint;

use endpoint::NoObject;
pub(super) use endpoint::{Endpoint, EndpointError};

/// How long a stream or a child may stand still.
pub(super) const STALL: Duration = Duration::from_secs(600);

/// The variables that give passwords, which are no options: an option would be typed.
pub(super) const PASSWORDS: [&str; 3] =
    ["PGMOVE_SOURCE_PASSWORD", "PGMOVE_TARGET_PASSWORD", "PGMOVE_TARGET_ADMIN_PASSWORD"];

/// A login, and where its password may come from.
struct Login {
    name: &'static str,
    /// The side, and what the options of its object begin with.
    side: &'static str,
    option: &'static str,
    variable: &'static str,
    account: Account,
}

const SOURCE: Login = Login {
    name: "source",
    side: "source",
    option: "--source",
    variable: PASSWORDS[0],
    account: Account::Application,
};
const TARGET: Login = Login {
    name: "target",
    side: "target",
    option: "--target",
    variable: PASSWORDS[1],
    account: Account::Application,
};
const ADMIN: Login = Login {
    name: "target as administrator",
    side: "target",
    option: "--target-admin",
    variable: PASSWORDS[2],
    account: Account::Superuser,
};

pub(super) async fn of(
    endpoints: &Endpoints,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    let Endpoints { source, target, cluster, source_object, target_object } = endpoints;
    let source = Given::read(&SOURCE, source, source_object.options())?;
    into(Some(source), target, cluster, target_object.options(), stop).await
}

/// Connections without a source server.
pub(super) async fn of_target(
    target: &Target,
    cluster: &Cluster,
    object: &TargetObject,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    into(None, target, cluster, object.options(), stop).await
}

/// Connections to a target that is written to: with a superuser, where one is named or there is a way to one.
async fn into(
    source: Option<Given<'_>>,
    target: &Target,
    cluster: &Cluster,
    options: ObjectOptions<'_>,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    let Target { database, admin, client, privileges } = target;
    let target = Given::read(&TARGET, database, options)?;
    let admin = admin.as_ref().map(|admin| Given::read(&ADMIN, admin, options)).transpose()?;
    privileges::refuse_without_cluster(&target.endpoint, *privileges)?;
    let connections = connections([source, Some(target), admin], cluster, client, stop).await?;
    if connections.target_admin.is_some() {
        return Ok(connections);
    }
    let superuser = Box::pin(privileges::superuser(&connections.target, &options, *privileges));
    let Superuser { login, substitute, operator } = unless_stopped(stop, superuser).await??;
    let target_admin = login.map(|login| Arc::new(login.as_admin()));
    Ok(settings::Connections { target_admin, substitute, operator, ..connections })
}

/// Connections that are compared.
pub(super) async fn of_sides(
    sides: &Sides,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    let Sides { source, target, client, cluster, source_object, target_object } = sides;
    let given = [
        Some(Given::read(&SOURCE, source, source_object.options())?),
        Some(Given::read(&TARGET, target, target_object.options())?),
        None,
    ];
    connections(given, cluster, client, stop).await
}

/// Source, target and administrator, as far as a command has them.
async fn connections(
    given: [Option<Given<'_>>; 3],
    cluster: &Cluster,
    client: &ClientOptions,
    stop: &CancellationToken,
) -> Result<settings::Connections, Error> {
    let has = given.each_ref().map(Option::is_some);
    let given = given.into_iter().flatten().collect();
    let mut logins = logins(given, cluster, stop).await?.into_iter();
    let [source, target, target_admin] = has.map(|is_given| if is_given { logins.next() } else { None });
    let target = target.expect("every command that takes connections has a target");
    let servers: Vec<(Side, &Arc<ConnInfo>)> = [(Side::Target, &target)]
        .into_iter()
        .chain(source.iter().map(|source| (Side::Source, source)))
        .collect();
    Ok(settings::Connections {
        client: client_search(client, &servers)?,
        source,
        target,
        target_admin,
        substitute: Substitute::None,
        operator: None,
        stall: STALL,
    })
}

/// The source of a command that has no target.
pub(super) async fn of_source(
    text: &str,
    cluster: &Cluster,
    object: &SourceObject,
    stop: &CancellationToken,
) -> Result<Arc<ConnInfo>, Error> {
    let given = vec![Given::read(&SOURCE, text, object.options())?];
    let login = logins(given, cluster, stop).await?.pop();
    Ok(login.expect("there is one for each that is given"))
}

/// The login to a source whose cluster is known already.
pub(super) async fn of_object(
    server: &ApiServer,
    object: &ObjectRef,
    options: &SourceObject,
    stop: &CancellationToken,
) -> Result<Arc<ConnInfo>, Error> {
    let conninfo = cluster::conninfo(server, object, &options.options(), SOURCE.account).await?;
    with_password(conninfo, &SOURCE, stop).await
}

/// An endpoint as it was given.
struct Given<'a> {
    login: &'static Login,
    endpoint: Endpoint,
    options: ObjectOptions<'a>,
}

impl<'a> Given<'a> {
    fn read(login: &'static Login, text: &str, options: ObjectOptions<'a>) -> Result<Given<'a>, Error> {
        let endpoint = Endpoint::parse(text).map_err(|error| Error::new(Exit::Usage, error))?;
        Ok(Given { login, endpoint, options })
    }
}

/// Nobody is asked for a password before every object is found, and no cluster before every option is in order.
async fn logins(
    given: Vec<Given<'_>>,
    cluster: &Cluster,
    stop: &CancellationToken,
) -> Result<Vec<Arc<ConnInfo>>, Error> {
    refuse_options_without_object(&given, cluster).map_err(|error| Error::new(Exit::Usage, error))?;
    let found = async {
        let mut servers: Vec<(Access, ApiServer)> = Vec::new();
        let mut found = Vec::new();
        for Given { login, endpoint, options } in given {
            let conninfo = match endpoint {
                Endpoint::ConnectionString(conninfo) => *conninfo,
                Endpoint::Object(object) => {
                    // A credential plugin is run once for both sides.
                    let access = cluster.access(&options);
                    let known = servers.iter().find(|(known, _)| *known == access);
                    let server = match known {
                        Some((_, server)) => server.clone(),
                        None => cluster::connect(&access).await?,
                    };
                    let conninfo = cluster::conninfo(&server, &object, &options, login.account).await?;
                    servers.push((access, server));
                    conninfo
                }
            };
            let is_admin = login.account == Account::Superuser;
            found.push((login, if is_admin { conninfo.as_admin() } else { conninfo }));
        }
        Ok(found)
    };
    // The futures of kube's client are large.
    let found = unless_stopped(stop, Box::pin(found)).await??;
    let mut logins = Vec::new();
    for (login, conninfo) in found {
        logins.push(with_password(conninfo, login, stop).await?);
    }
    Ok(logins)
}

/// What is said of an object is not passed over where there is none.
fn refuse_options_without_object(given: &[Given<'_>], cluster: &Cluster) -> Result<(), NoObject> {
    let refuse = |option: String, of: &dyn Fn(&Given<'_>) -> bool| {
        let endpoints = given.iter().filter(|given| of(given)).map(|given| given.login.option);
        Err(NoObject { option, endpoints: endpoints.collect() })
    };
    let is_object = |given: &Given<'_>| matches!(given.endpoint, Endpoint::Object(_));
    for Given { login, options, .. } in given {
        let is_of_side = |other: &Given<'_>| other.login.side == login.side;
        if let Some(option) = options.first_given()
            && !given.iter().any(|other| is_of_side(other) && is_object(other))
        {
            return refuse(format!("--{}-{option}", login.side), &is_of_side);
        }
    }
    match cluster.first_given() {
        Some(option) if !given.iter().any(is_object) => refuse(format!("--{option}"), &|_| true),
        _ => Ok(()),
    }
}

/// Where to look for client tools that read these servers; in a pod, in the order of these.
pub(super) fn client_search(
    options: &ClientOptions,
    servers: &[(Side, &Arc<ConnInfo>)],
) -> Result<ClientSearch, Error> {
    let choice = options.client_place.map(ClientChoice::from).unwrap_or_default();
    let pods = schema::pods(servers);
    if let (ClientChoice::Pod, Err(reason)) = (choice, &pods) {
        return Err(Error::new(Exit::Usage, ClientError::from(reason.clone())));
    }
    let directory = options.client_directory.clone();
    Ok(ClientSearch { directory, candidates: packaged_clients(), path: env::var_os("PATH"), choice, pods })
}

/// Where Debian's and Red Hat's packages put the client tools, newest first.
fn packaged_clients() -> Vec<PathBuf> {
    (14..=30)
        .rev()
        .flat_map(|major| {
            [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")].map(PathBuf::from)
        })
        .filter(|directory| directory.is_dir())
        .collect()
}

/// Where this process works, for another one that finds its lease.
pub(super) fn place() -> String {
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| env::var("HOSTNAME").ok());
    let host = host.as_deref().map_or("(unnamed host)", str::trim);
    let user = env::var("USER").ok().unwrap_or_else(|| "(unnamed user)".into());
    format!("{user}@{host}, process {}", std::process::id())
}

/// With its password: from the string or the cluster, else the variable, else a passfile, else a prompt where there is somebody to
/// ask.
async fn with_password(
    conninfo: ConnInfo,
    login: &Login,
    stop: &CancellationToken,
) -> Result<Arc<ConnInfo>, Error> {
    if conninfo.password().is_some() {
        return Ok(Arc::new(conninfo));
    }
    if let Ok(password) = env::var(login.variable) {
        return Ok(Arc::new(conninfo.with_password(SecretString::from(password))));
    }
    // What the cluster knows is all that there is to know: neither is it in a passfile, nor is anybody asked.
    if conninfo.route().is_some() {
        return Ok(Arc::new(conninfo));
    }
    let answer = conninfo.password_from_passfile();
    if let Some(warning) = answer.warning {
        tracing::warn!("{warning}");
    }
    if let Some(password) = answer.password {
        return Ok(Arc::new(conninfo.with_password(password)));
    }
    // A Unix socket is most often trusted by its peer; a prompt there would stop scripts that need none.
    if conninfo.socket_path().is_none() && std::io::stdin().is_terminal() {
        let question = format!("Password for the {}, {conninfo} (empty for none): ", login.name);
        let password = prompt::password(question, stop).await;
        if let Some(password) = password.map_err(|error| Error::new(Exit::Interrupted, error))? {
            return Ok(Arc::new(conninfo.with_password(password)));
        }
    }
    Ok(Arc::new(conninfo))
}

pub(super) fn choices(choices: &Choices) -> settings::GivenChoices {
    settings::GivenChoices {
        owner: choices.owner.clone(),
        vector_index: choices.vector_index.map(|choice| match choice {
            VectorIndex::Auto => VectorIndexChoice::Auto,
            VectorIndex::Vchordrq => VectorIndexChoice::Vchordrq,
            VectorIndex::Hnsw => VectorIndexChoice::Hnsw,
            VectorIndex::Keep => VectorIndexChoice::Keep,
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::arguments::{Arguments, Command};
    use crate::kubernetes::Kubeconfig;

    /// The endpoints of `pgmove run` as they are typed.
    fn typed(options: &[&str]) -> Endpoints {
        let arguments = [&["pgmove", "run"], options].concat();
        let matches = Arguments::command().try_get_matches_from(arguments).expect("a whole command");
        match Arguments::from_arg_matches(&matches).expect("a whole command").command {
            Command::Run(run) => run.endpoints,
            other => panic!("{other:?}"),
        }
    }

    const URIS: [&str; 2] =
        ["--source=postgres://app:secret@old/app", "--target=postgres://app:secret@new/app"];

    #[tokio::test]
    async fn the_administrators_login_is_known_as_such() {
        let admin = "--target-admin=postgres://postgres:secret@new/app";
        let endpoints = typed(&[&URIS[..], &[admin]].concat());
        let connections = of(&endpoints, &CancellationToken::new()).await.expect("nobody is asked");
        assert!(!connections.target.is_admin());
        assert!(connections.target_admin.expect("it is given").is_admin());
    }

    #[tokio::test]
    async fn client_programs_are_in_a_pod_only_where_there_is_one() {
        let endpoints = typed(&[&URIS[..], &["--client=pod"]].concat());
        let error = of(&endpoints, &CancellationToken::new()).await.expect_err("no pod");
        assert_eq!(
            (error.exit, &*error.chain().join(": ")),
            (
                Exit::Usage,
                "pg_dump and pg_restore cannot be run in a pod: no server is an object in Kubernetes",
            )
        );
        for client in ["--client=auto", "--client=local"] {
            let endpoints = typed(&[&URIS[..], &[client]].concat());
            of(&endpoints, &CancellationToken::new()).await.expect("this machine's");
        }
        // A directory is one of this machine.
        let both = [&["pgmove", "run"], &URIS[..], &["--client=pod", "--client-directory=/opt"]].concat();
        Arguments::command().try_get_matches_from(both).expect_err("they exclude each other");
    }

    #[tokio::test]
    async fn what_is_said_of_objects_is_refused_where_there_is_none() {
        for (options, message) in [
            (
                &["--source-namespace=media"][..],
                "--source-namespace is for an object in Kubernetes, and --source is a connection string",
            ),
            (
                &["--target-database=app"],
                "--target-database is for an object in Kubernetes, and --target is a connection string",
            ),
            (
                &["--target-secret=app", "--target-admin=postgres://postgres:secret@new/app"],
                "--target-secret is for an object in Kubernetes, and --target and --target-admin are connection strings",
            ),
            (
                &["-n", "media"],
                "--namespace is for an object in Kubernetes, and --source and --target are connection strings",
            ),
            (&["--context=home"], "--context is for an object"),
            (&["--kubeconfig=/none"], "--kubeconfig is for an object"),
        ] {
            let endpoints = typed(&[&URIS[..], options].concat());
            let error = of(&endpoints, &CancellationToken::new()).await.expect_err(message);
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.fault.to_string().starts_with(message), "{}", error.fault);
            assert!(
                error.fault.hint().is_some_and(|hint| hint.contains("leave --")),
                "{:?}",
                error.fault.hint()
            );
        }
        // Of both sides one is an object: what is said of all objects is said of it.
        let endpoints = typed(&[URIS[0], "--target=cluster/new", "-n", "media", "--kubeconfig=/none"]);
        let error = of(&endpoints, &CancellationToken::new()).await.expect_err("no such file");
        assert_eq!(error.fault.to_string(), "could not read kubeconfig /none");
    }

    #[test]
    fn an_object_is_looked_for_where_its_own_options_say_and_else_where_all_are() {
        let common =
            ["--source=sts/old", "--target=cluster/new", "-n=apps", "--context=home", "--kubeconfig=/a"];
        let own = ["--source-namespace=media", "--target-context=work", "--target-kubeconfig=/b"];
        let Endpoints { cluster, source_object, target_object, .. } = typed(&[&common[..], &own].concat());
        let at = |options: ObjectOptions<'_>| cluster.access(&options);
        let access = |file: &str, context: &str, namespace: &str| Access {
            kubeconfig: Kubeconfig::File(file.into()),
            context: Some(context.into()),
            namespace: Some(namespace.into()),
        };
        assert_eq!(at(source_object.options()), access("/a", "home", "media"));
        assert_eq!(at(target_object.options()), access("/b", "work", "apps"));
    }
}
