//! Tests on a real Kubernetes control plane (docs/cluster.md), whose pods lead to real servers and programs here.
//!
//! A test takes [`Cluster::get`], makes a [`Namespace`] of its own in it, and applies what it needs there as YAML. Every
//! pod runs and is ready a moment later; [`Namespace::lead`] makes its port-forwards reach a server, and its execs run
//! programs of this machine. Nothing has to be put away. Faults at exact bytes, which a real API server cannot be told to
//! have, come from a [`stand_in`].

mod api_server;
mod artifact;
mod bridge;
mod client;
mod cluster;
mod cnpg;
mod control_plane;
mod credentials;
mod discovery;
mod elsewhere;
mod elsewhere_window;
mod endpoints;
mod exec;
mod faults;
mod flux;
mod freeze;
mod going_on;
mod heeding;
mod moving;
mod namespace;
mod privileges;
mod rbac;
mod rbac_freeze;
mod rehearsing;
mod stand_in;
mod tap;
mod tunnel;
mod way_back;
mod window;
mod window_faults;

pub(crate) use api_server::ApiServer;
pub(crate) use artifact::Artifact;
pub(crate) use cluster::Cluster;
pub(crate) use namespace::Namespace;
