//! The two servers themselves: versions, standbys, one database given twice, and the client tools.

use super::{Finding, Input, blocking, warning};
use crate::catalog::Catalog;
use crate::error::Fault;
use crate::pg::display_identifier;

/// The oldest source that is read, and the oldest target that is written.
const OLDEST_SOURCE: i32 = 12;
const OLDEST_TARGET: i32 = 14;
/// The newest major version that pgmove was tested with.
const NEWEST: i32 = 18;

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [same_database(input), versions(input), standbys(input), client_tools(input)].concat()
}

/// A cluster's identifier and a database's OID name one database, or a physical copy of it. Where a server hides
/// the identifier, the address decides, or the likeness of what both hold.
fn same_database(input: &Input<'_>) -> Vec<Finding> {
    let (source, target) = (input.source, input.target);
    let is_same_name = source.database.name == target.database.name;
    let evidence = match (&source.server.system_identifier, &target.server.system_identifier) {
        (Some(one), Some(other)) if one == other && source.database.oid == target.database.oid => {
            format!(
                "both servers have system identifier {one}, and both databases OID {}",
                source.database.oid
            )
        }
        (Some(_), Some(_)) => return vec![],
        _ if input.has_same_address && is_same_name => {
            format!("both name host, port and database {} alike", display_identifier(&source.database.name))
        }
        _ if is_same_name
            && source.database.oid == target.database.oid
            && source.user_objects.count > 0
            && source.user_objects == target.user_objects =>
        {
            format!(
                "the server hides its system identifier, but both databases are {} with OID {} and hold the same {}",
                display_identifier(&source.database.name),
                source.database.oid,
                super::counted(source.user_objects.count, "object")
            )
        }
        _ => return vec![],
    };
    vec![blocking(
        "same-database",
        "source and target are the same database",
        evidence,
        "name another database with --target (a physical copy, such as a promoted standby, counts as the same)",
    )]
}

fn versions(input: &Input<'_>) -> Vec<Finding> {
    let (source, target) = (&input.source.server, &input.target.server);
    let mut found = Vec::new();
    if source.major() < OLDEST_SOURCE {
        found.push(blocking(
            "source-too-old",
            format!("the source is older than PostgreSQL {OLDEST_SOURCE}"),
            format!("it is {}", source.version),
            format!("upgrade the source to {OLDEST_SOURCE} or newer first, with pg_upgrade"),
        ));
    }
    if target.major() < OLDEST_TARGET {
        found.push(blocking(
            "target-too-old",
            format!("the target is older than PostgreSQL {OLDEST_TARGET}"),
            format!("it is {}", target.version),
            format!("name a target of version {OLDEST_TARGET} to {NEWEST} with --target"),
        ));
    }
    for (side, server) in [("source", source), ("target", target)] {
        if server.major() > NEWEST {
            found.push(blocking(
                "server-unknown",
                format!("the {side} is newer than this pgmove knows"),
                format!("it is {}; this pgmove was tested with servers up to {NEWEST}", server.version),
                "install a newer pgmove",
            ));
        }
    }
    if target.major() < source.major() {
        found.push(blocking(
            "target-older",
            "the target is older than the source",
            format!("source {}, target {}", source.version, target.version),
            format!("name a target of version {} or newer with --target", source.major()),
        ));
    }
    found
}

fn standbys(input: &Input<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if input.target.server.is_in_recovery {
        found.push(blocking(
            "target-standby",
            "the target is a standby and takes no writes",
            "pg_is_in_recovery() is true",
            "name the primary with --target (of a CloudNative-PG cluster: the service that ends in -rw)",
        ));
    }
    if input.source.server.is_in_recovery {
        found.push(warning(
            "source-standby",
            "the source is a standby: replayed changes may cancel the copy, and it may lag behind its primary",
            "pg_is_in_recovery() is true",
            "name the primary with --source, or set max_standby_streaming_delay = -1 on the standby and stop writes \
             on the primary before the run",
        ));
        found.extend(standby_content(input));
    }
    found
}

/// What a standby cannot do for a move at all.
fn standby_content(input: &Input<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if input.is_fenced {
        found.push(blocking(
            "fence-on-standby",
            "a standby cannot be fenced",
            "--fence changes a setting of the source's database, and a standby takes no writes",
            "run `pgmove fence --source URI` with the primary's URI first, then `pgmove run` without --fence",
        ));
    }
    let unlogged = super::content::unlogged(input.source);
    if !unlogged.is_empty() {
        found.push(blocking(
            "unlogged-on-standby",
            "the source's unlogged tables cannot be read on a standby",
            super::few(unlogged),
            "name the primary with --source",
        ));
    }
    found
}

fn client_tools(input: &Input<'_>) -> Vec<Finding> {
    let needed = needed_client(input.source, input.target);
    match input.client_tools {
        Ok(tools) if i64::from(tools.version.major) < i64::from(needed) => vec![blocking(
            "client-tools",
            "pg_dump is older than a server",
            format!("found {tools}, needed is {needed}"),
            format!(
                "install PostgreSQL's client programs of version {needed}, or name them with --client-directory"
            ),
        )],
        Ok(_) => vec![],
        Err(error) => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            vec![blocking(
                "client-tools",
                "pg_dump and pg_restore cannot be used",
                format!("{error}{cause}"),
                error.hint().unwrap_or_default(),
            )]
        }
    }
}

/// The major version that `pg_dump` must have at least.
fn needed_client(source: &Catalog, target: &Catalog) -> i32 {
    source.server.major().max(target.server.major())
}
