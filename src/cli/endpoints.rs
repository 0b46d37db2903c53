//! The options that say where databases are: by connection strings, or as objects in Kubernetes, as kubectl writes them.
//!
//! What goes with an object alone has an option for each side ([`ObjectOptions`]); where its cluster is may be said for
//! all objects of a command ([`Cluster`]).

use std::path::{Path, PathBuf};

use clap::{Arg, Args, ValueEnum};

use crate::kubernetes::SecretChoice;
use crate::pg::conninfo::SslMode;
use crate::schema::ClientChoice;

/// The heading of what is said of objects, by which `layers` knows these options.
pub(super) const KUBERNETES: &str = "Kubernetes";

/// The two databases of a move.
#[derive(Debug, Args)]
#[command(next_help_heading = "Databases")]
pub(crate) struct Endpoints {
    /// The database to move from: postgres://user@host:port/database?sslmode=…, "host=… dbname=…", or in Kubernetes
    /// sts/NAME, deploy/NAME, pod/NAME, svc/NAME, cluster/NAME
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) source: String,
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) source_object: SourceObject,
    #[command(flatten)]
    pub(crate) target_object: TargetObject,
}

/// The database that is written to, and the programs that both sides are asked with.
#[derive(Debug, Args)]
#[command(next_help_heading = "Databases")]
pub(crate) struct Target {
    /// The database to move into, in one of these forms; its role is an ordinary owner of the database
    #[arg(long = "target", value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) database: String,
    /// The same database as a superuser, for what its owner may not do (the plan names each statement); of cluster/NAME, by
    /// the Secret of its superuser
    #[arg(long = "target-admin", value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) admin: Option<String>,
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// By which way statements that need a superuser reach a target cluster/NAME without --target-admin [default: auto]
    #[arg(
        long = "target-privileges",
        value_enum,
        value_name = "WAY",
        conflicts_with = "admin",
        help_heading = KUBERNETES
    )]
    pub(crate) privileges: Option<Privileges>,
}

/// Where pg_dump and pg_restore are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Databases")]
pub(crate) struct ClientOptions {
    /// Where pg_dump and pg_restore are run [default: auto]
    #[arg(long = "client", value_enum, value_name = "PLACE", conflicts_with = "client_directory")]
    pub(crate) client_place: Option<Client>,
    /// Where pg_dump and pg_restore are on this machine, if not on PATH (at least as new as the servers)
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) client_directory: Option<PathBuf>,
}

/// A place of client programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    /// On this machine if it has suitable ones, else in a pod
    Auto,
    /// On this machine
    Local,
    /// In the pod of the target's server, or in the source's (needs the right to exec, and every server as an object of one
    /// cluster)
    Pod,
}

impl From<Client> for ClientChoice {
    fn from(client: Client) -> ClientChoice {
        match client {
            Client::Auto => ClientChoice::Auto,
            Client::Local => ClientChoice::Local,
            Client::Pod => ClientChoice::Pod,
        }
    }
}

/// A way to a superuser of a Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Privileges {
    /// Extensions by a Database resource, where the operator takes one; all else by the Secret of its superuser, where it
    /// offers one, else by psql in the pod of its primary
    Auto,
    /// Extensions by a Database resource (CloudNative-PG 1.26 or later), and nothing else
    Database,
    /// By the Secret of its superuser (enableSuperuserAccess: true)
    Secret,
    /// By psql as postgres in the pod of its primary (needs the right to exec)
    Exec,
    /// By none: what needs a superuser is refused
    None,
}

/// The two databases of a comparison.
#[derive(Debug, Args)]
#[command(next_help_heading = "Databases")]
pub(crate) struct Sides {
    /// The database that was moved from: postgres://user@host:port/database?sslmode=…, "host=… dbname=…", or in
    /// Kubernetes sts/NAME, deploy/NAME, pod/NAME, svc/NAME, cluster/NAME
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) source: String,
    /// The database that was moved into, in one of these forms; its owner may read everything
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) source_object: SourceObject,
    #[command(flatten)]
    pub(crate) target_object: TargetObject,
}

/// The options of the endpoints about whose objects an option says something; none for any other option.
pub(super) fn endpoints_of(option: &Arg) -> &'static [&'static str] {
    let name = option.get_long().unwrap_or_default();
    match option.get_help_heading() {
        Some(KUBERNETES) if name.starts_with("source-") => &["source"],
        Some(KUBERNETES) if name.starts_with("target-") => &["target", "target-admin"],
        Some(KUBERNETES) => &["source", "target", "target-admin"],
        _ => &[],
    }
}

/// The cluster, as kubectl's options name it.
#[derive(Debug, Args)]
#[command(next_help_heading = KUBERNETES)]
pub(crate) struct Cluster {
    /// The namespace of the objects [default: the context's]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, else ~/.kube/config, else the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl Cluster {
    /// The first of these options that is given.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("namespace", self.namespace.is_some()),
            ("context", self.context.is_some()),
            ("kubeconfig", self.kubeconfig.is_some()),
        ];
        given.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }
}

/// How a connection is protected inside its tunnel, which is encrypted up to the API server and from there to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TunnelSslMode {
    /// Not again
    Disable,
    /// By TLS to the server, whoever it is
    Require,
    /// By TLS to the server, which shows the certificate that the operator of cluster/NAME has made for it
    VerifyFull,
}

impl From<TunnelSslMode> for SslMode {
    fn from(mode: TunnelSslMode) -> SslMode {
        match mode {
            TunnelSslMode::Disable => SslMode::Disable,
            TunnelSslMode::Require => SslMode::Require,
            TunnelSslMode::VerifyFull => SslMode::VerifyFull,
        }
    }
}

/// What may be said of an object beside its name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ObjectOptions<'a> {
    pub(crate) namespace: Option<&'a str>,
    pub(crate) context: Option<&'a str>,
    pub(crate) kubeconfig: Option<&'a Path>,
    pub(crate) secret: Option<&'a SecretChoice>,
    pub(crate) container: Option<&'a str>,
    pub(crate) database: Option<&'a str>,
    pub(crate) sslmode: Option<TunnelSslMode>,
}

impl ObjectOptions<'_> {
    /// The first of these options that is given, without its side.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let given = [
            ("namespace", self.namespace.is_some()),
            ("context", self.context.is_some()),
            ("kubeconfig", self.kubeconfig.is_some()),
            ("secret", self.secret.is_some()),
            ("container", self.container.is_some()),
            ("database", self.database.is_some()),
            ("sslmode", self.sslmode.is_some()),
        ];
        given.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }
}

/// The options of one side's object: the names differ, and nothing else.
macro_rules! object_options {
    ($name:ident, $side:literal) => {
        /// What may be said of one side's object beside its name.
        #[derive(Debug, Args)]
        #[command(next_help_heading = KUBERNETES)]
        pub(crate) struct $name {
            #[arg(
                id = concat!($side, "_namespace"),
                long = concat!($side, "-namespace"),
                value_name = "NAME",
                help = concat!("The namespace of the ", $side, " [default: that of --namespace]")
            )]
            namespace: Option<String>,
            #[arg(
                id = concat!($side, "_context"),
                long = concat!($side, "-context"),
                value_name = "NAME",
                help = concat!("The context of the kubeconfig for the ", $side, " [default: that of --context]")
            )]
            context: Option<String>,
            #[arg(
                id = concat!($side, "_kubeconfig"),
                long = concat!($side, "-kubeconfig"),
                value_name = "FILE",
                help = concat!("The kubeconfig for the ", $side, " [default: that of --kubeconfig]")
            )]
            kubeconfig: Option<PathBuf>,
            #[arg(
                id = concat!($side, "_secret"),
                long = concat!($side, "-secret"),
                value_name = "NAME[:KEY…]",
                help = concat!(
                    "The Secret with the login of the ", $side, ": NAME, NAME:PASSWORD-KEY or \
                     NAME:user=KEY,password=KEY,database=KEY [default: what its pod's environment tells; of cluster/NAME, its \
                     application's]"
                )
            )]
            secret: Option<SecretChoice>,
            #[arg(
                id = concat!($side, "_container"),
                long = concat!($side, "-container"),
                value_name = "NAME",
                help = concat!("The container of the ", $side, "'s server, where its pod does not tell which it is")
            )]
            container: Option<String>,
            #[arg(
                id = concat!($side, "_database"),
                long = concat!($side, "-database"),
                value_name = "NAME",
                help = concat!("The database of the ", $side, "'s server [default: the one that is found with the login]")
            )]
            database: Option<String>,
            #[arg(
                id = concat!($side, "_sslmode"),
                long = concat!($side, "-sslmode"),
                value_enum,
                value_name = "MODE",
                help = concat!("Whether the tunnel to the ", $side, " carries TLS too [default: disable]")
            )]
            sslmode: Option<TunnelSslMode>,
        }

        impl $name {
            pub(super) fn options(&self) -> ObjectOptions<'_> {
                ObjectOptions {
                    namespace: self.namespace.as_deref(),
                    context: self.context.as_deref(),
                    kubeconfig: self.kubeconfig.as_deref(),
                    secret: self.secret.as_ref(),
                    container: self.container.as_deref(),
                    database: self.database.as_deref(),
                    sslmode: self.sslmode,
                }
            }
        }
    };
}

object_options!(SourceObject, "source");
object_options!(TargetObject, "target");
