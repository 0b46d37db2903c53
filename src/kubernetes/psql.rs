//! psql as `postgres`, in the pod of a server that lets nobody else in: what CloudNative-PG offers where the superuser has no
//! password, since its container's user may be any role over the Unix socket.
//!
//! [`Psql::run`] has one transaction carried out. Its statements travel as input, so that no secret stands in the audit
//! log or among the pod's processes, and a stream that is cut never brings their COMMIT. [`Psql::ask`] gives the rows
//! of a query. Neither is a session: each resolves the pod anew, and connects anew.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::exec::{Exec, ExecError, exec};
use super::workload::{ResolveError, Route};
use crate::error::{Class, Fault};
use crate::pg::quote_literal;

/// psql in the pod of a server.
#[derive(Debug, Clone)]
pub struct Psql {
    /// The way to the pod.
    pub route: Arc<Route>,
    /// The database.
    pub database: String,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// For so long nothing may be heard of it.
    pub stall: Duration,
}

impl Psql {
    /// Carries out statements, as one transaction.
    pub async fn run(&self, statements: &str) -> Result<(), PsqlError> {
        self.send(&format!("BEGIN;\n{statements};\nCOMMIT;\n")).await.map(drop)
    }

    /// The rows of a query, by the names of its columns. Its parameters are all text.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        query: &str,
        parameters: &[&str],
    ) -> Result<Vec<T>, PsqlError> {
        let (types, values) = match parameters {
            [] => (String::new(), String::new()),
            values => {
                let quoted: Vec<String> = values.iter().map(|value| quote_literal(value)).collect();
                (format!(" ({})", vec!["text"; values.len()].join(", ")), format!(" ({})", quoted.join(", ")))
            }
        };
        let text = self
            .send(&format!(
                "PREPARE question{types} AS\nSELECT pg_catalog.row_to_json(answer) FROM (\n{}\n) AS answer;\n\
                 EXECUTE question{values};\n",
                without_end(query)
            ))
            .await?;
        let row = |line| serde_json::from_str(line).map_err(|cause| PsqlError::Answer { cause });
        text.lines().map(row).collect()
    }

    async fn send(&self, statements: &str) -> Result<String, PsqlError> {
        let at = Box::pin(self.route.resolve()).await?;
        let quoted = |value: &str| format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"));
        let database = format!(
            "--dbname=user=postgres dbname={} application_name={} client_encoding=UTF8 connect_timeout=30",
            quoted(&self.database),
            quoted(&self.application_name)
        );
        let command = [
            "psql",
            "--no-psqlrc",
            "--no-password",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            "--set=VERBOSITY=verbose",
            &database,
            "--file=-",
        ];
        // The same as for a session; its own answer is nobody's business.
        let pin = without_end(include_str!("../../sql/session/pin.sql"));
        let name = quote_literal(&self.application_name);
        let input = format!(
            "PREPARE pin (text, text, text) AS\n{pin};\nEXECUTE pin ('', 'off', {name}) \\g /dev/null\n{statements}"
        );
        let run = Exec { at: &at, command: &command, input: input.as_bytes(), stall: self.stall };
        let output = Box::pin(exec(&self.route.server, &run)).await?;
        if output.code == 0 {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(PsqlError::Refused { pod: at.pod, said: said(&output.stderr), code: output.code })
    }
}

/// `postgres`, and where: `psql as postgres in the pod of cluster/immich-postgres in media`.
impl fmt::Display for Psql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "psql as postgres in the pod of {}", self.route)
    }
}

/// A statement without its semicolon.
fn without_end(statement: &str) -> &str {
    statement.trim_end().trim_end_matches(';')
}

/// What psql reports, without its own place in the input and in PostgreSQL's sources, and without any part of a statement,
/// which may hold a password.
fn said(stderr: &str) -> String {
    let is_told = |line: &&str| {
        let repeats = ["LOCATION:", "LINE ", "CONTEXT:", "QUERY:", "STATEMENT:"];
        !repeats.iter().any(|word| line.starts_with(word)) && line.trim() != "^"
    };
    let lines = stderr.lines().filter(is_told);
    let lines = lines.map(|line| match line.split_once("ERROR:") {
        Some((_, message)) => message.trim(),
        None => line.trim(),
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
}

/// Why it is not known to be done.
#[derive(Debug, thiserror::Error)]
pub enum PsqlError {
    /// No pod.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// It could not be run, or not be heard to its end.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Its answer is none.
    #[error("psql's answer could not be read")]
    Answer {
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// It ended with an error.
    #[error("psql in pod {pod} failed (exit code {code}): {said}")]
    Refused {
        /// The pod.
        pod: String,
        /// What it wrote.
        said: String,
        /// How it ended: 3 where the server refused a statement.
        code: i32,
    },
}

impl Fault for PsqlError {
    fn class(&self) -> Class {
        match self {
            PsqlError::Resolve(error) => error.class(),
            PsqlError::Exec(error) => error.class(),
            PsqlError::Refused { .. } | PsqlError::Answer { .. } => Class::Target,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            PsqlError::Resolve(error) => error.is_retryable(),
            PsqlError::Exec(error) => error.is_retryable(),
            PsqlError::Refused { .. } | PsqlError::Answer { .. } => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            PsqlError::Resolve(error) => error.hint(),
            PsqlError::Exec(error) => error.hint(),
            PsqlError::Refused { .. } | PsqlError::Answer { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_psql_reports_is_the_servers_message() {
        let stderr = "psql:<stdin>:44: ERROR:  42501: permission denied to create extension \"vchord\"\nHINT:  Must be \
                      superuser to create this extension.\nLOCATION:  execute_extension_script, extension.c:1010\n";
        assert_eq!(
            said(stderr),
            "42501: permission denied to create extension \"vchord\" / HINT:  Must be superuser to create this extension."
        );
    }
}
