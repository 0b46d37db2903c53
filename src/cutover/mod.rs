//! What is done outside the target, and undone.
//!
//! [`freeze`] keeps the cluster from writing to the source, [`alarm`] watches that it stays so, [`lease`] keeps two runs
//! apart, [`rollback`] puts everything back; [`fence`] makes the source itself refuse writes.

pub mod alarm;
pub mod fence;
pub mod field_manager;
pub mod freeze;
pub mod lease;
pub mod object;
pub mod record;
mod requests;
pub mod rollback;
