//! Why two databases could not be compared at all. What concerns one object alone is no error: it is an
//! outcome of that object's check.

use crate::catalog::CatalogError;
use crate::error::{Class, Fault, Side};
use crate::pg::{ConnInfoError, SessionError};
use crate::schema::DumpError;
use crate::transfer::archive::ArchiveError;
use crate::transfer::lane::LaneError;

/// Whether an error says nothing about what was asked for: it may be gone when somebody asks again, so it is no
/// outcome of a check, which would stand.
pub(super) fn is_passing(error: &impl Fault) -> bool {
    error.is_retryable() || error.lock_timeout().is_some()
}

/// Why a comparison broke off.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It was told to stop.
    #[error("the comparison was interrupted")]
    Interrupted,
    /// A session failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Rows could not be read, and not for a reason that concerns one table alone.
    #[error(transparent)]
    Read(#[from] LaneError),
    /// The password cannot be given to `pg_dump`.
    #[error(transparent)]
    Password(#[from] ConnInfoError),
    /// A schema could not be read.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The archive that is compared with could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl Fault for VerifyError {
    fn class(&self) -> Class {
        match self {
            VerifyError::Interrupted => Class::User,
            VerifyError::Session(error) => error.class(),
            VerifyError::Catalog(error) => error.class(),
            VerifyError::Read(error) => error.class(),
            VerifyError::Dump(error) => error.class(),
            VerifyError::Archive(error) => error.class(),
            VerifyError::Password(error) => error.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            VerifyError::Interrupted => false,
            VerifyError::Session(error) => error.is_retryable(),
            VerifyError::Catalog(error) => error.is_retryable(),
            VerifyError::Read(error) => error.is_retryable(),
            VerifyError::Dump(error) => error.is_retryable(),
            VerifyError::Archive(error) => error.is_retryable(),
            VerifyError::Password(error) => error.is_retryable(),
        }
    }

    fn lock_timeout(&self) -> Option<Side> {
        match self {
            VerifyError::Interrupted | VerifyError::Password(_) | VerifyError::Archive(_) => None,
            VerifyError::Session(error) => error.lock_timeout(),
            VerifyError::Catalog(error) => error.lock_timeout(),
            VerifyError::Read(error) => error.lock_timeout(),
            VerifyError::Dump(error) => error.lock_timeout(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            VerifyError::Interrupted => Some("compare again with `pgmove verify`".into()),
            VerifyError::Session(error) => error.hint(),
            VerifyError::Catalog(error) => error.hint(),
            VerifyError::Read(error) => error.hint(),
            VerifyError::Dump(error) => error.hint(),
            VerifyError::Archive(error) => error.hint(),
            VerifyError::Password(error) => error.hint(),
        }
    }
}
