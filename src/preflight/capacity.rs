//! Whether both servers have room for the move's connections and locks, and nothing in doubt.

use super::{Finding, Input, blocking, warning};
use crate::catalog::{Server, TableKind};

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [prepared_transactions(input), target_prepared_transactions(input), connections(input), locks(input)]
        .concat()
}

/// Connections beside the lanes': the snapshot's holder or the one for DDL, `pg_dump`, progress, a cancel.
const OTHER_CONNECTIONS: i32 = 4;

fn prepared_transactions(input: &Input<'_>) -> Vec<Finding> {
    let count = input.source.special.prepared_transactions;
    if count == 0 {
        return vec![];
    }
    vec![blocking(
        "prepared-transactions",
        "the source has prepared transactions: whether their rows count is not decided",
        format!("{count} in pg_prepared_xacts"),
        "SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = current_database(); then COMMIT PREPARED \
         'gid' or ROLLBACK PREPARED 'gid' for each",
    )]
}

fn target_prepared_transactions(input: &Input<'_>) -> Vec<Finding> {
    let count = input.target.special.prepared_transactions;
    if count == 0 {
        return vec![];
    }
    vec![warning(
        "target-prepared-transactions",
        "the target has prepared transactions: what they have made may appear during the move, and their locks stay",
        format!("{count} in pg_prepared_xacts"),
        "on the target: SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = current_database(); then \
         COMMIT PREPARED 'gid' or ROLLBACK PREPARED 'gid' for each",
    )]
}

fn connections(input: &Input<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (side, catalog) in [("source", input.source), ("target", input.target)] {
        let settings = &catalog.server.settings;
        let kept = if catalog.session.is_superuser { 0 } else { settings.reserved_connections };
        let free = settings.max_connections - kept;
        let needed = i32::from(input.jobs) + OTHER_CONNECTIONS;
        if needed > free {
            let most = free - OTHER_CONNECTIONS;
            let remedy = if most > 0 {
                format!(
                    "give --jobs {most} or less, or raise max_connections on the {side} (needs a restart)"
                )
            } else {
                format!("raise max_connections on the {side} (needs a restart)")
            };
            found.push(blocking(
                if side == "source" { "source-connections" } else { "target-connections" },
                format!("the {side} has too few connections for {} lanes", input.jobs),
                format!(
                    "max_connections is {}, of which {kept} are reserved; the move needs {needed}",
                    settings.max_connections
                ),
                remedy,
            ));
        }
    }
    found
}

/// Locks that the shared table holds for certain; there is some slack above it
/// (<https://www.postgresql.org/docs/current/runtime-config-locks.html>).
pub(crate) fn lock_table(server: &Server) -> u64 {
    let settings = &server.settings;
    let slots = i64::from(settings.max_connections) + i64::from(settings.max_prepared_transactions);
    u64::try_from(i64::from(settings.max_locks_per_transaction) * slots).unwrap_or(0)
}

/// On the source one transaction locks every table. On the target statements go one by one or in batches that fit.
fn locks(input: &Input<'_>) -> Vec<Finding> {
    let tables = input.source.tables.iter().filter(|table| table.kind != TableKind::Foreign).count() as u64;
    lock_finding("source", &input.source.server, tables, "the snapshot locks every table")
}

fn lock_finding(side: &str, server: &Server, needed: u64, why: &str) -> Vec<Finding> {
    let room = lock_table(server);
    let settings = &server.settings;
    let evidence = format!(
        "{why}: {needed} locks; max_locks_per_transaction {} * (max_connections {} + max_prepared_transactions {}) = {room}",
        settings.max_locks_per_transaction, settings.max_connections, settings.max_prepared_transactions
    );
    let slots = (settings.max_connections + settings.max_prepared_transactions).max(1);
    let wanted = (needed * 2).div_ceil(u64::from(slots.unsigned_abs())).next_multiple_of(64);
    let remedy = format!(
        "as a superuser on the {side}: ALTER SYSTEM SET max_locks_per_transaction = {wanted}; then restart the server"
    );
    if needed > room {
        vec![blocking("lock-table", format!("the {side}'s lock table is too small"), evidence, remedy)]
    } else if needed > room / 2 {
        vec![warning("lock-table-tight", format!("the {side}'s lock table may get full"), evidence, remedy)]
    } else {
        vec![]
    }
}
