//! What goes on on both servers: who writes, what is open for long, and how near a server is to stop writing.

use super::{Input, OpenTransaction, TransactionAge, warning};
use crate::pg::display_identifier;
use crate::preflight::{Finding, few};
use crate::report::{duration, number};

/// How long a transaction may be open without being remarked.
const LONG: i64 = 60;

/// From this age on, PostgreSQL itself drops everything else for the sake of vacuuming (`vacuum_failsafe_age`); at
/// about 2,144 million it refuses writes.
const OLD: i64 = 1_600_000_000;

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [
        written(input),
        open_for_long(input),
        prepared_elsewhere(input),
        ages("source", &input.found.source_ages),
        ages("target", &input.found.target_ages),
    ]
    .concat()
}

fn described(open: &OpenTransaction) -> String {
    let name = if open.name.is_empty() { "(unnamed)" } else { &open.name };
    let process = open.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "seconds are shown in two units")]
    let since = open.seconds.map(|seconds| format!(", for {}", duration(seconds as f64))).unwrap_or_default();
    format!("{name} of {}{process}{since}", display_identifier(&open.role))
}

/// The sessions of this database.
fn sessions<'a>(input: &Input<'a>) -> impl Iterator<Item = &'a OpenTransaction> {
    let database = &input.source.database.name;
    input.found.transactions.iter().filter(move |open| open.pid.is_some() && open.database == *database)
}

fn written(input: &Input<'_>) -> Vec<Finding> {
    let writers: Vec<String> = sessions(input).filter(|open| open.has_written).map(described).collect();
    if writers.is_empty() {
        return vec![];
    }
    vec![warning(
        "source-written",
        "the source is being written at this moment",
        few(writers),
        "before the window: nothing; in the window: stop these applications before the run, or give --fence",
    )]
}

/// A transaction that is hidden from the role may be a long one, but then it is most often a short one.
fn open_for_long(input: &Input<'_>) -> Vec<Finding> {
    let long: Vec<&OpenTransaction> =
        sessions(input).filter(|open| open.seconds.is_some_and(|seconds| seconds >= LONG)).collect();
    let Some(pid) = long.first().and_then(|open| open.pid) else { return vec![] };
    vec![warning(
        "long-transactions",
        "transactions are open for long on the source: what they have written is not moved, and their locks are waited for",
        few(long.iter().map(|open| described(open))),
        format!(
            "end the applications, or, on the source, their sessions: SELECT pg_terminate_backend({pid});"
        ),
    )]
}

/// Ids are the server's: while one is in progress, the source cannot be proven unchanged by them.
fn prepared_elsewhere(input: &Input<'_>) -> Vec<Finding> {
    let database = &input.source.database.name;
    let prepared: Vec<&OpenTransaction> = input
        .found
        .transactions
        .iter()
        .filter(|open| open.pid.is_none() && open.database != *database)
        .collect();
    let Some(first) = prepared.first() else { return vec![] };
    vec![warning(
        "prepared-elsewhere",
        "other databases of the source's server have prepared transactions: a run will read the source twice to prove \
         that it was not written",
        few(prepared
            .iter()
            .map(|open| format!("{} in database {}", open.name, display_identifier(&open.database)))),
        format!(
            "connected to database {}: COMMIT PREPARED or ROLLBACK PREPARED {};",
            display_identifier(&first.database),
            crate::pg::quote_literal(&first.name).trim_start()
        ),
    )]
}

fn ages(side: &str, ages: &[TransactionAge]) -> Vec<Finding> {
    let old: Vec<&TransactionAge> =
        ages.iter().filter(|age| age.transactions.max(age.multixacts) >= OLD).collect();
    if old.is_empty() {
        return vec![];
    }
    let described = |age: &&TransactionAge| {
        let [transactions, multixacts] =
            [age.transactions, age.multixacts].map(|age| number(age.max(0).unsigned_abs()));
        format!(
            "database {}: {transactions} transactions, {multixacts} multixacts",
            display_identifier(&age.database)
        )
    };
    vec![warning(
        if side == "source" { "source-wraparound" } else { "target-wraparound" },
        format!("the {side}'s server is near to refusing all writes (transaction id wraparound)"),
        few(old.iter().map(described)),
        format!(
            "end old transactions, prepared ones and unused replication slots on the {side}; then, in each of these \
             databases, as a superuser: VACUUM (FREEZE);"
        ),
    )]
}
