//! Kubernetes: where the databases of a move run, how they are reached, and who looks after them.
//!
//! An endpoint is written as kubectl writes an object ([`ObjectRef`]: `sts/NAME`, `cluster/NAME`). [`ApiServer`] is the
//! connection to the cluster's API, and [`Route`] finds the pod behind the object, anew for each connection. Everything
//! here only reads, with a deadline on each request; an error names the object, the cause, and the right that is missing.

pub mod client;
pub mod cluster;
pub mod cnpg;
pub mod credentials;
mod environment;
pub mod exec;
pub mod instance;
pub mod login;
pub mod object;
pub mod operator;
pub mod orphan;
pub mod owner;
pub mod pinned;
pub mod psql;
pub mod request;
pub mod rights;
pub mod role;
mod socket;
pub mod storage;
pub mod survey;
pub mod tunnel;
pub mod workload;

pub use client::{Access, AccessError, ApiServer, Kubeconfig};
pub use cluster::{Account, ClusterError, ClusterLook, SecretNames, authority};
pub use credentials::{CredentialError, Credentials, Known, SecretChoice, SecretChoiceError};
pub use environment::{EnvironmentError, Reference};
pub use exec::{Exec, ExecError, ExecOutput, exec};
pub use instance::Instance;
pub use login::{LoginError, Renewal, conninfo};
pub use object::{Kind, ObjectRef, ObjectRefError};
pub use operator::{Operator, OperatorError, WantedExtension};
pub use orphan::Orphan;
pub use owner::{Owner, owners};
pub use pinned::{Change, Pinned};
pub use psql::{Psql, PsqlError};
pub use request::{ApiError, Cause, Request};
pub(crate) use socket::Bridge;
pub use storage::{DataVolume, Limits, ReclaimPolicy, SharedMemory, Storage};
pub use survey::Survey;
pub use tunnel::{BrokenTunnel, Tunnel, TunnelCause, TunnelError};
pub use workload::{Found, Place, PodPort, ResolveError, Route};
