//! `pgmove rbac`.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::commands::Ended;
use super::freeze;
use crate::cutover::freeze::WorkloadName;
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::kubernetes::rights::{Place, Right, Server, Way, rights};
use crate::kubernetes::role::{Role, Subject, combined};
use crate::kubernetes::{Kind, ObjectRef, ObjectRefError, SecretChoice};

pub(super) const EXAMPLES: &str = "\
Examples:
  Read what an account needs for a move:
    pgmove rbac -n media --source sts/immich-postgres --target cluster/immich-postgres \\
        --service-account pgmove
  Give it to the account:
    pgmove rbac … | kubectl apply -f -
  The same for a person who also freezes, where Flux's objects are in flux-system:
    pgmove rbac … --for run,freeze,rollback --flux-namespace flux-system --user jane@example.org
  The same where the application is in another namespace than the source:
    pgmove rbac -n databases … --for run,freeze,rollback --workload media/deploy/immich-server

Nothing is asked of a cluster. Where the source's login is in a Secret, name it (--source-secret): else every Secret of its
namespace can be read. Where source and target are in two clusters, print and apply each side by itself (--side).
docs/kubernetes.md tells what each right is for.";

/// What an account is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// Find both servers by their namespaces alone (`pgmove init` that names none), beside what `run` allows.
    Init,
    /// Find both servers, look at them and connect to them.
    Run,
    /// Freeze the source, which `pgmove freeze` connects to.
    Freeze,
    /// Put back what a freeze has changed.
    Rollback,
    /// Run programs in the target's pod.
    Exec,
    /// Run pg_dump and pg_restore in the target's pod (--client pod), or in the source's where no target is named.
    Client,
    /// Log in as the superuser of the target's Cluster, from its Secret.
    Superuser,
    /// Leave extensions to the operator of the target's Cluster, by a Database resource.
    Operator,
    /// Know the servers of Clusters by their certificates (--source-sslmode, --target-sslmode): their authority's Secret
    /// holds its private key too.
    VerifyFull,
    /// Tell the reclaim policy of the volumes, which are in no namespace.
    Volumes,
    /// Find applications in other namespaces than the source's by their sessions: list the pods of all namespaces.
    Pods,
}

/// What `pgmove rbac` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What the account is to do; several with commas between
    #[arg(long = "for", value_name = "PURPOSE", value_enum, value_delimiter = ',', default_value = "run")]
    purposes: Vec<Purpose>,
    /// The source, if it is in Kubernetes: sts/NAME, deploy/NAME, pod/NAME, svc/NAME or cluster/NAME
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    source: Option<String>,
    /// The target, if it is in Kubernetes
    #[arg(long, value_name = "ENDPOINT", hide_env_values = true)]
    target: Option<String>,
    /// Print what is needed in the cluster of this side alone
    #[arg(long, value_enum)]
    side: Option<OneSide>,
    /// The namespace of source and target
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// The source's namespace, if it is another
    #[arg(long, value_name = "NAME")]
    source_namespace: Option<String>,
    /// The target's namespace, if it is another
    #[arg(long, value_name = "NAME")]
    target_namespace: Option<String>,
    /// A workload that a freeze stops in another namespace than the source's; can be given several times
    #[arg(long = "workload", value_name = "NAMESPACE/KIND/NAME")]
    named: Vec<String>,
    /// Where Flux's objects are that manage the source's namespace and those of --workload; can be given several times
    /// [default: there]
    #[arg(long = "flux-namespace", value_name = "NAME")]
    flux_namespaces: Vec<String>,
    /// The Secret with the source's login
    #[arg(long, value_name = "NAME[:KEY…]")]
    source_secret: Option<SecretChoice>,
    /// The Secret with the target's login
    #[arg(long, value_name = "NAME[:KEY…]")]
    target_secret: Option<SecretChoice>,
    /// The name of every Role and RoleBinding
    #[arg(long, value_name = "NAME", default_value = "pgmove")]
    name: String,
    /// A service account that gets the rights [namespace: the first Role's]
    #[arg(long = "service-account", value_name = "[NAMESPACE:]NAME")]
    service_accounts: Vec<String>,
    /// A user who gets the rights
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,
    /// A group that gets the rights
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
}

/// A side, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OneSide {
    Source,
    Target,
}

/// Why there is no Role.
#[derive(Debug, thiserror::Error)]
enum RbacError {
    #[error("--{0} names no object of Kubernetes")]
    Object(Side, #[source] ObjectRefError),
    #[error("no server is named that is in Kubernetes")]
    NoServer,
    #[error("the namespace of the {0} is not said")]
    NoNamespace(Side),
    #[error("nobody is named who gets the rights")]
    NoSubject,
    #[error("--for {0} is about the source, and no source in Kubernetes is named")]
    NoSource(&'static str),
    #[error("--for {0} is about the target, and no target in Kubernetes is named")]
    NoTarget(&'static str),
    #[error("{0} is no Cluster of CloudNative-PG, and --for {1} is about one")]
    NoCluster(ObjectRef, &'static str),
}

impl Fault for RbacError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            RbacError::Object(_, error) => return error.hint(),
            RbacError::NoServer => {
                "name it as kubectl does: --source sts/NAME, --target cluster/NAME; others need no rights there"
            }
            RbacError::NoNamespace(Side::Source) => "name it with -n, or with --source-namespace",
            RbacError::NoNamespace(Side::Target) => "name it with -n, or with --target-namespace",
            RbacError::NoSubject => "name one with --service-account, --user or --group",
            RbacError::NoSource(_) => "name it with --source KIND/NAME",
            RbacError::NoTarget(_) => "name it with --target KIND/NAME",
            RbacError::NoCluster(..) => "name one with --target cluster/NAME",
        };
        Some(hint.to_owned())
    }
}

pub(super) fn rbac(options: &Arguments) -> Result<Ended, Error> {
    let named = freeze::workloads(&options.named)?;
    let roles = options.roles(&named).map_err(|error| Error::new(Exit::Usage, error))?;
    let mut text = String::new();
    let is_of_secrets = |right: &Right| right.resources.contains(&"secrets") && right.names.is_empty();
    if roles.iter().any(|role| role.rights.iter().any(is_of_secrets)) {
        text.push_str(
            "# Any Secret of the namespace, since none is named: --source-secret, --target-secret.\n",
        );
    }
    for (index, role) in roles.iter().enumerate() {
        let _ = write!(text, "{}{role}", if index == 0 { "" } else { "---\n" });
    }
    Ok(Ended { content: Some(text), ..Ended::default() })
}

/// A server in Kubernetes.
struct InKubernetes<'a> {
    object: ObjectRef,
    namespace: &'a str,
    secret: Option<&'a str>,
}

impl InKubernetes<'_> {
    fn rights(&self, way: Way, place: Place) -> Vec<Right> {
        rights(way, &Server { object: &self.object, secret: self.secret }, place)
    }
}

impl Arguments {
    fn roles(&self, named: &[WorkloadName]) -> Result<Vec<Role>, RbacError> {
        let source = self.server(Side::Source)?;
        let target = self.server(Side::Target)?;
        if source.is_none() && target.is_none() {
            return Err(RbacError::NoServer);
        }
        let mut needed = Needed::default();
        for purpose in &self.purposes {
            self.add(*purpose, source.as_ref(), target.as_ref(), named, &mut needed)?;
        }
        let first = needed.0.iter().find_map(|(namespace, _)| namespace.as_deref());
        let home = source.as_ref().or(target.as_ref()).map(|server| server.namespace);
        let subjects = self.subjects(first.or(home).unwrap_or_default());
        if subjects.is_empty() {
            return Err(RbacError::NoSubject);
        }
        let role = |(namespace, rights): (Option<String>, Vec<Right>)| Role {
            name: self.name.clone(),
            namespace,
            rights: combined(&rights),
            subjects: subjects.clone(),
        };
        Ok(needed.0.into_iter().map(role).collect())
    }

    fn add(
        &self,
        purpose: Purpose,
        source: Option<&InKubernetes<'_>>,
        target: Option<&InKubernetes<'_>>,
        named: &[WorkloadName],
        needed: &mut Needed,
    ) -> Result<(), RbacError> {
        let both = [source, target].into_iter().flatten();
        // A side that is left out goes without.
        let of_source = |word| match source {
            None if self.side != Some(OneSide::Target) => Err(RbacError::NoSource(word)),
            source => Ok(source.into_iter()),
        };
        let of_target = |word| match target {
            None if self.side != Some(OneSide::Source) => Err(RbacError::NoTarget(word)),
            target => Ok(target.into_iter()),
        };
        match purpose {
            Purpose::Init => both.for_each(|server| {
                needed.add(server, Way::Connect);
                needed.add(server, Way::Discover);
            }),
            Purpose::Run => both.for_each(|server| needed.add(server, Way::Connect)),
            Purpose::Freeze => {
                for source in of_source("freeze")? {
                    needed.add(source, Way::Connect);
                    needed.add(source, Way::Freeze);
                    self.add_elsewhere(source, Way::Freeze, named, needed);
                }
            }
            Purpose::Rollback => {
                for source in of_source("rollback")? {
                    needed.add(source, Way::Rollback);
                    self.add_elsewhere(source, Way::Rollback, named, needed);
                }
            }
            Purpose::Exec => of_target("exec")?.for_each(|target| needed.add(target, Way::Exec)),
            Purpose::Client => {
                if let Some(server) = target.or(source) {
                    needed.add(server, Way::Exec);
                }
            }
            Purpose::Superuser | Purpose::Operator => {
                let (word, way) = match purpose {
                    Purpose::Superuser => ("superuser", Way::Superuser),
                    _ => ("operator", Way::Operator),
                };
                for target in of_target(word)? {
                    if target.object.kind != Kind::Cluster {
                        return Err(RbacError::NoCluster(target.object.clone(), word));
                    }
                    needed.add(target, way);
                }
            }
            Purpose::VerifyFull => both.for_each(|server| needed.add(server, Way::VerifyFull)),
            Purpose::Volumes => {
                for server in both {
                    needed.put(None, server.rights(Way::Connect, Place::Cluster));
                }
            }
            Purpose::Pods => {
                for source in of_source("pods")? {
                    needed.put(None, source.rights(Way::Freeze, Place::Cluster));
                }
            }
        }
        Ok(())
    }

    /// What is needed where other applications are, and where Flux's objects are.
    fn add_elsewhere(
        &self,
        source: &InKubernetes<'_>,
        way: Way,
        named: &[WorkloadName],
        needed: &mut Needed,
    ) {
        let mut there = vec![source.namespace];
        for namespace in named.iter().map(|name| name.namespace(source.namespace)) {
            if !there.contains(&namespace) {
                there.push(namespace);
                needed.put(Some(namespace), source.rights(way, Place::Workloads));
            }
        }
        if !self.flux_namespaces.is_empty() {
            there = self.flux_namespaces.iter().map(String::as_str).collect();
        }
        for namespace in there {
            needed.put(Some(namespace), source.rights(way, Place::Flux));
        }
    }

    /// The server of a side; none where it is reached without Kubernetes, or is not asked for.
    fn server(&self, side: Side) -> Result<Option<InKubernetes<'_>>, RbacError> {
        let (text, namespace, secret, is_left_out) = match side {
            Side::Source => {
                let is_left_out = self.side == Some(OneSide::Target);
                (&self.source, &self.source_namespace, &self.source_secret, is_left_out)
            }
            Side::Target => {
                let is_left_out = self.side == Some(OneSide::Source);
                (&self.target, &self.target_namespace, &self.target_secret, is_left_out)
            }
        };
        let is_of_kubernetes = |text: &&String| !text.contains("://") && !text.contains('=');
        let Some(text) = text.as_ref().filter(is_of_kubernetes).filter(|_| !is_left_out) else {
            return Ok(None);
        };
        let object = text.parse().map_err(|error| RbacError::Object(side, error))?;
        let namespace = namespace.as_ref().or(self.namespace.as_ref()).ok_or(RbacError::NoNamespace(side))?;
        Ok(Some(InKubernetes { object, namespace, secret: secret.as_ref().map(|secret| &*secret.name) }))
    }

    fn subjects(&self, namespace: &str) -> Vec<Subject> {
        let account = |text: &String| {
            let (namespace, name) = text.split_once(':').unwrap_or((namespace, text));
            Subject::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
        };
        let accounts = self.service_accounts.iter().map(account);
        let users = self.users.iter().cloned().map(Subject::User);
        let groups = self.groups.iter().cloned().map(Subject::Group);
        accounts.chain(users).chain(groups).collect()
    }
}

/// Rights by namespace; those that are in none come under `None`.
#[derive(Default)]
struct Needed(Vec<(Option<String>, Vec<Right>)>);

impl Needed {
    fn add(&mut self, server: &InKubernetes<'_>, way: Way) {
        self.put(Some(server.namespace), server.rights(way, Place::Application));
    }

    fn put(&mut self, namespace: Option<&str>, rights: Vec<Right>) {
        match self.0.iter_mut().find(|(known, _)| known.as_deref() == namespace) {
            Some((_, known)) => known.extend(rights),
            None => self.0.push((namespace.map(str::to_owned), rights)),
        }
    }
}

#[cfg(test)]
mod tests;
