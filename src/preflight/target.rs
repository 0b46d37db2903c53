//! Whether the target is free: empty, not another run's, not read-only, not in use.

use super::{Finding, Input, Ledger, blocking, counted, few, warning};
use crate::catalog::ClientSession;
use crate::pg::{display_identifier, quote_identifier};

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [elsewhere(input), other_run(input), not_empty(input), read_only(input), in_use(input)].concat()
}

/// Extensions are per database: what is sent over the admin's connection must arrive in this one.
fn elsewhere(input: &Input<'_>) -> Vec<Finding> {
    let target = input.target.identity();
    let Some(found) = input.admin_database.filter(|found| !found.is_same_as(&target)) else { return vec![] };
    vec![blocking(
        "admin-elsewhere",
        "--target-admin leads to another database than --target",
        format!("database {found}, not {target}"),
        format!("name the same server and database {} in --target-admin", display_identifier(&target.name)),
    )]
}

fn other_run(input: &Input<'_>) -> Vec<Finding> {
    let Ledger::Other(run) = input.ledger else { return vec![] };
    let title = "the target holds the ledger of another run";
    let evidence = format!("schema pgmove belongs to run {run}");
    if input.replaces_target {
        return vec![warning(
            "other-ledger",
            title,
            evidence,
            "make sure that run is over: --replace drops its work, which cannot be resumed then",
        )];
    }
    vec![blocking(
        "other-ledger",
        title,
        evidence,
        format!(
            "go on with it: `--resume --run-dir DIRECTORY` with that run's directory; or drop its work with `--replace {}`",
            input.target.database.name
        ),
    )]
}

fn not_empty(input: &Input<'_>) -> Vec<Finding> {
    let objects = &input.target.user_objects;
    if objects.count == 0 || input.ledger == Ledger::Own {
        return vec![];
    }
    let database = &input.target.database.name;
    let first: Vec<String> =
        objects.first.iter().map(|object| format!("{} {}", object.kind, object.name)).collect();
    let evidence = format!("{}; the first: {}", counted(objects.count, "object"), first.join(", "));
    if input.replaces_target {
        return vec![warning(
            "target-replaced",
            format!("everything in the target database {} is dropped", display_identifier(database)),
            evidence,
            "leave --replace away if any of it is still needed",
        )];
    }
    vec![blocking(
        "target-not-empty",
        format!("the target database {} is not empty", display_identifier(database)),
        evidence,
        format!(
            "name an empty database with --target, or let pgmove drop what is there with `--replace {database}`; \
             if an application created it, stop that application first"
        ),
    )]
}

/// The mark of a move under way; without this run's ledger somebody else set it, and it would stay.
fn read_only(input: &Input<'_>) -> Vec<Finding> {
    let database = &input.target.database;
    let mark = database.settings.iter().find(|setting| {
        setting.name == "default_transaction_read_only"
            && ["on", "true", "yes", "1"].contains(&setting.value.to_ascii_lowercase().as_str())
    });
    let Some(mark) = mark.filter(|_| input.ledger != Ledger::Own) else { return vec![] };
    // The mark of the run whose work is dropped goes with it.
    if input.replaces_target && mark.role.is_none() && matches!(input.ledger, Ledger::Other(_)) {
        return vec![];
    }
    let name = quote_identifier(&database.name);
    let (evidence, statement) = match &mark.role {
        None => (
            format!("ALTER DATABASE {name} SET default_transaction_read_only = {}", mark.value),
            format!("ALTER DATABASE {name} RESET default_transaction_read_only;"),
        ),
        Some(role) => {
            let prefix = format!("ALTER ROLE {} IN DATABASE {name}", quote_identifier(role));
            (
                format!("{prefix} SET default_transaction_read_only = {}", mark.value),
                format!("{prefix} RESET default_transaction_read_only;"),
            )
        }
    };
    vec![blocking(
        "target-read-only",
        "the target database is set read-only, and not by this run",
        evidence,
        format!("if no other move is under way: {statement}"),
    )]
}

fn in_use(input: &Input<'_>) -> Vec<Finding> {
    let clients = &input.target.clients;
    let mut sessions = super::activity::applications(clients);
    if input.replaces_target {
        // pgmove's own are not applications; one that is at work holds locks all the same.
        let is_at_work = |client: &&ClientSession| {
            client.application_name.starts_with("pgmove")
                && client.state.as_ref().is_some_and(|state| state != "idle")
        };
        let at_work = clients.iter().filter(is_at_work);
        sessions
            .extend(at_work.map(|client| format!("{} (process {})", client.application_name, client.pid)));
    }
    if sessions.is_empty() {
        return vec![];
    }
    if input.replaces_target {
        return vec![blocking(
            "target-in-use",
            "the target is in use, and --replace would drop what its sessions work with",
            few(sessions),
            "stop these applications, then run again; sessions that stay can be ended by: SELECT \
             pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> \
             pg_backend_pid();",
        )];
    }
    vec![warning(
        "target-in-use",
        "applications are connected to the target",
        few(sessions),
        "stop them until the verdict: what they write would be in the way, or lost",
    )]
}
