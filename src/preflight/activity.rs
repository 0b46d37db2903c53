//! Who works with the source during the move.

use std::collections::BTreeMap;

use super::{Finding, Input, blocking, counted, few, warning};
use crate::catalog::ClientSession;
use crate::pg::{display_identifier, quote_identifier};

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [fence_permitted(input), connected(input), no_fence(input)].concat()
}

/// What connected applications are called, each with its role and the number of its sessions; pgmove's own
/// are left out.
pub(super) fn applications(clients: &[ClientSession]) -> Vec<String> {
    let mut sessions: BTreeMap<(&str, &str, bool), u64> = BTreeMap::new();
    for client in clients.iter().filter(|client| !client.application_name.starts_with("pgmove")) {
        *sessions.entry((&client.application_name, &client.role, client.is_superuser)).or_default() += 1;
    }
    sessions
        .into_iter()
        .map(|((name, role, is_superuser), sessions)| {
            let name = if name.is_empty() { "(unnamed)" } else { name };
            let superuser = if is_superuser { "superuser " } else { "" };
            let sessions = counted(sessions, "session");
            format!("{name} as {superuser}{} ({sessions})", display_identifier(role))
        })
        .collect()
}

fn fence_permitted(input: &Input<'_>) -> Vec<Finding> {
    let session = &input.source.session;
    if !input.is_fenced || input.source.server.is_in_recovery || session.owns_database || session.is_superuser
    {
        return vec![];
    }
    vec![blocking(
        "fence-not-permitted",
        "the source's role may not fence the database",
        format!(
            "{} does not own database {}; its owner is {}",
            display_identifier(&session.role),
            display_identifier(&input.source.database.name),
            display_identifier(&input.source.database.owner)
        ),
        format!(
            "connect as {} with --source, or leave --fence away and stop the applications yourself",
            display_identifier(&input.source.database.owner)
        ),
    )]
}

fn connected(input: &Input<'_>) -> Vec<Finding> {
    let clients = &input.source.clients;
    let sessions = applications(clients);
    if sessions.is_empty() {
        return vec![];
    }
    if !input.is_fenced {
        return vec![warning(
            "source-in-use",
            "applications are connected to the source",
            few(sessions),
            "stop them before the run; what they write after the snapshot is not moved",
        )];
    }
    let superusers: Vec<ClientSession> =
        clients.iter().filter(|client| client.is_superuser).cloned().collect();
    if !superusers.is_empty() && !input.source.session.is_superuser {
        return vec![warning(
            "fence-cannot-end",
            "superusers are connected to the source, and the fence cannot end their sessions",
            few(applications(&superusers)),
            "stop these applications, or connect to the source as a superuser",
        )];
    }
    vec![warning(
        "fence-ends-sessions",
        "applications are connected to the source, and the fence ends their sessions",
        few(sessions),
        "stop them if they should not see an error; they can connect again, but not write",
    )]
}

fn no_fence(input: &Input<'_>) -> Vec<Finding> {
    if input.is_fenced {
        return vec![];
    }
    let name = &input.source.database.name;
    // `pgmove fence` before the run serves as well.
    let is_read_only = input.source.database.settings.iter().any(|setting| {
        setting.role.is_none() && setting.name == "default_transaction_read_only" && setting.value == "on"
    });
    if is_read_only || input.source.server.is_in_recovery {
        return vec![];
    }
    vec![warning(
        "no-fence",
        "the source may be written during the run",
        format!("ALTER DATABASE {} SET default_transaction_read_only is not on", quote_identifier(name)),
        "give --fence for the real move; without it the run tells at its end whether the source was written",
    )]
}
