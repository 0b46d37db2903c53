//! Where a database is, as it was written.

use std::env;
use std::path::PathBuf;

use crate::error::{Class, Fault};
use crate::kubernetes::{ObjectRef, ObjectRefError};
use crate::pg::{ConnInfo, ConnInfoError, Defaults};

/// Where a database is.
#[derive(Debug)]
pub(in crate::cli) enum Endpoint {
    /// As libpq's connection strings say it.
    ConnectionString(Box<ConnInfo>),
    /// Behind an object in Kubernetes.
    Object(ObjectRef),
}

/// What is neither a connection string nor an object.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum EndpointError {
    #[error(transparent)]
    ConnectionString(#[from] ConnInfoError),
    #[error(transparent)]
    Object(#[from] ObjectRefError),
}

impl Fault for EndpointError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        match self {
            EndpointError::ConnectionString(error) => error.hint(),
            EndpointError::Object(error) => error.hint(),
        }
    }
}

impl Endpoint {
    pub(in crate::cli) fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        // Every connection string has one of these, and no object has.
        if text.contains('/') && !text.contains('=') && !text.contains("://") {
            return Ok(Endpoint::Object(text.parse()?));
        }
        // The operating system's name of the user is the default, as for libpq.
        let defaults = Defaults { user: env::var("USER").ok(), home: env::var_os("HOME").map(PathBuf::from) };
        Ok(Endpoint::ConnectionString(Box::new(ConnInfo::parse(text, &defaults)?)))
    }

    /// Whether it holds a password itself.
    pub(in crate::cli) fn holds_password(&self) -> bool {
        matches!(self, Endpoint::ConnectionString(conninfo) if conninfo.password().is_some())
    }
}

/// An option for objects only, and connection strings.
#[derive(Debug, thiserror::Error)]
#[error(
    "{option} is for an object in Kubernetes, and {} {}",
    endpoints.join(" and "),
    if endpoints.len() == 1 { "is a connection string" } else { "are connection strings" }
)]
pub(super) struct NoObject {
    pub(super) option: String,
    pub(super) endpoints: Vec<&'static str>,
}

impl Fault for NoObject {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some(format!("leave {} away, or name an object: sts/NAME or cluster/NAME, for instance", self.option))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_told_from_an_object() {
        for text in
            ["postgres://app@new/app", "postgresql://app@/app?host=/tmp", "host=/run/postgresql user=app"]
        {
            let endpoint = Endpoint::parse(text).expect(text);
            assert!(matches!(endpoint, Endpoint::ConnectionString(_)), "{text}");
        }
        for text in ["sts/immich-postgres", "clusters.postgresql.cnpg.io/immich", "pod/a-0"] {
            assert!(matches!(Endpoint::parse(text).expect(text), Endpoint::Object(_)), "{text}");
        }
        for (text, message, step) in [
            ("sts/Immich", "\"Immich\" cannot be the name of a StatefulSet", "lower case letters"),
            ("secret/immich", "\"secret\" is no kind of object", "write sts/NAME"),
            ("immich", "the connection string is malformed", "write postgres://"),
            ("postgres://app@new/app?sslmod=require", "unknown connection parameter \"sslmod\"", "spelling"),
        ] {
            let error = Endpoint::parse(text).expect_err(text);
            assert!(error.to_string().starts_with(message), "{text}: {error}");
            assert!(error.hint().is_some_and(|hint| hint.contains(step)), "{text}: {:?}", error.hint());
        }
        // A password is repeated by no error.
        let error = Endpoint::parse("password=geheim host=/tmp x=1").expect_err("unknown");
        assert!(!format!("{error} {error:?}").contains("geheim"), "{error:?}");
    }
}
