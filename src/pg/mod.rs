//! PostgreSQL: how to reach a server, sessions with pinned settings, COPY streams, names.

pub mod acl;
pub mod connect;
pub mod connect_error;
pub mod conninfo;
mod copy_stream;
pub mod lock_wait;
pub mod name;
pub(crate) mod pod;
pub mod server_error;
pub mod session;
pub mod tls;

pub use connect::{Connected, cancel, connect};
pub use connect_error::{ConnectError, Refusal};
pub use conninfo::{ConnInfo, ConnInfoError, Defaults};
pub use lock_wait::{LockHolder, lock_holders, naming_lock_holders};
pub use name::{Oid, QualifiedName, display_identifier, quote_identifier, quote_literal};
pub(crate) use pod::look;
pub use server_error::describe;
pub use session::{Access, Endpoint, Session, SessionError};
