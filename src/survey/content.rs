//! What is moved in a way that an operator may want to know, and what only the target's own limits decide.

use std::cmp::Reverse;

use super::{Input, blocking, note, warning};
use crate::pg::{display_identifier, quote_identifier};
use crate::plan::{Plan, Route, Step};
use crate::preflight::{Finding, ObjectKind, create, few, in_order};
use crate::report::{bytes, number};

/// How the plan names a setting.
const SETTING: &str = "setting ";

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    let mut found = vec![];
    found.extend(elsewhere(input));
    found.extend(large_objects(input));
    found.extend(event_triggers(input));
    found.extend(publications(input));
    found.extend(foreign_servers(input));
    found.extend(role_settings(input));
    if let Some(plan) = input.plan {
        let shared_buffers = input.target.server.settings.shared_buffers;
        found.extend(input.options.memory_limit.and_then(|limit| index_memory(plan, limit, shared_buffers)));
        found.extend(over_admin(plan));
        found.extend(by_operator(plan));
        found.extend(settings_carried(plan));
        found.extend(settings_left(plan));
        found.extend(as_text(plan));
    }
    found
}

/// Extensions are per database, and CloudNative-PG's `postInitSQL` runs in database `postgres`.
fn elsewhere(input: &Input<'_>) -> Option<Finding> {
    let is_here = |name: &str| input.target.extensions.iter().any(|found| found.name == name);
    let is_wanted = |name: &str| {
        let is_replaced = ["vector", "vchord"].contains(&name);
        is_replaced || input.source.extensions.iter().any(|found| found.name == name)
    };
    let misplaced: Vec<_> = in_order(&input.found.elsewhere)
        .into_iter()
        .filter(|found| found.name != "plpgsql" && is_wanted(&found.name) && !is_here(&found.name))
        .collect();
    if misplaced.is_empty() {
        return None;
    }
    let database = display_identifier(&input.target.database.name);
    // Where the source has them, and each after those that it requires.
    let statements: Vec<String> = misplaced
        .iter()
        .map(|found| {
            let on_source = input.source.extensions.iter().find(|known| known.name == found.name);
            let offered = input.target.available_extensions.iter().find(|known| known.name == found.name);
            create(&found.name, on_source.map_or("public", |known| known.schema.as_str()), offered)
        })
        .collect();
    let title =
        format!("extensions are in database postgres of the target's server, and not in database {database}");
    let evidence =
        few(misplaced.iter().map(|found| format!("{} {}", display_identifier(&found.name), found.version)));
    let remedy = |who: String| {
        format!(
            "an extension is for one database only. CloudNative-PG: bootstrap.initdb.postInitSQL runs in database \
             postgres, postInitApplicationSQL in the application's. {who}: {}",
            statements.join(" ")
        )
    };
    Some(if misplaced.iter().all(|found| input.is_left_to_operator(&found.name)) {
        let who = "The Cluster's operator creates them there for the move; or by hand".to_owned();
        note("extension-elsewhere", title, evidence, remedy(who))
    } else if input.has_superuser {
        let who = "pgmove creates them over the superuser's connection; or by hand".to_owned();
        note("extension-elsewhere", title, evidence, remedy(who))
    } else {
        let who = format!("As a superuser, connected to database {database}");
        warning("extension-elsewhere", title, evidence, remedy(who))
    })
}

fn large_objects(input: &Input<'_>) -> Option<Finding> {
    let found = input.source.large_objects;
    (found.count > 0).then(|| {
        note(
            "large-objects",
            "the source has large objects; they are moved with owners, rights and comments",
            format!("{} of them, up to {} in all", number(found.count), bytes(found.bytes)),
            "none; those that no row refers to any more are found by vacuumlo, which belongs to PostgreSQL's contrib",
        )
    })
}

fn event_triggers(input: &Input<'_>) -> Option<Finding> {
    let names = input.named(ObjectKind::EventTrigger).filter(|_| input.has_superuser)?;
    Some(note(
        "event-triggers",
        "event triggers are made by the superuser, after everything that could fire them",
        names,
        "none",
    ))
}

fn publications(input: &Input<'_>) -> Option<Finding> {
    Some(note(
        "publications",
        "publications are moved, the replication slots of their subscribers are not",
        input.named(ObjectKind::Publication)?,
        "after the move, on each subscriber, once its slot is made on the target: ALTER SUBSCRIPTION ... CONNECTION '...';",
    ))
}

fn foreign_servers(input: &Input<'_>) -> Option<Finding> {
    Some(note(
        "foreign-servers",
        "foreign servers are moved with their options",
        input.named(ObjectKind::ForeignServer)?,
        "see that the target's server reaches them, and make the user mappings there",
    ))
}

/// They are the server's, not the database's.
fn role_settings(input: &Input<'_>) -> Option<Finding> {
    let settings = &input.found.role_settings;
    let first = settings.first()?;
    let role = quote_identifier(&first.role);
    Some(note(
        "role-settings",
        "settings of roles are the server's, and are not moved",
        few(settings.iter().map(|found| format!("{} of {}", found.setting, display_identifier(&found.role)))),
        format!(
            "to see the values, on the source: SELECT rolconfig FROM pg_roles WHERE rolname = {}; to set one on the \
             target: ALTER ROLE {role} SET {} TO ...;",
            crate::pg::quote_literal(&first.role).trim_start(),
            first.setting
        ),
    ))
}

/// Builds run together as far as they fit into the plan's memory for them, as many as there are lanes; one that is larger
/// runs alone.
/// `limit` is what the target's server has of memory, in bytes.
pub(crate) fn index_memory(plan: &Plan, limit: u64, shared_buffers: u64) -> Option<Finding> {
    let needed =
        |step: &Step| step.maintenance_work_mem + step.vector_index.as_ref().map_or(0, |index| index.memory);
    let mut builds: Vec<(&Step, u64)> = plan.steps.iter().map(|step| (step, needed(step))).collect();
    builds.retain(|(_, memory)| *memory > 0);
    builds.sort_by_key(|(_, memory)| Reverse(*memory));
    let (_, largest) = *builds.first()?;
    builds.truncate(usize::from(plan.jobs.max(1)));
    let sum = builds.iter().fold(0_u64, |sum, (_, memory)| sum.saturating_add(*memory));
    let together = sum.min(plan.index_memory.max(largest));
    let most = shared_buffers.saturating_add(together);
    (most > limit).then(|| {
        blocking(
            "index-memory",
            "index builds need more memory than the target's server has",
            few(builds.iter().map(|(step, memory)| format!("{}: {}", step.object, bytes(*memory)))).within(|builds| {
                format!(
                    "limit {}, shared_buffers {}, builds that run at once {} ({} lanes, --index-memory {}); the largest: \
                     {builds}",
                    bytes(limit),
                    bytes(shared_buffers),
                    bytes(together),
                    plan.jobs,
                    bytes(plan.index_memory)
                )
            }),
            format!(
                "for the time of the move, let the server have at least {} (CloudNative-PG: resources.limits.memory); or give \
                 a smaller --index-memory; what a vchordrq build takes does not depend on that, --vector-index hnsw does",
                bytes(most)
            ),
        )
    })
}

/// What is made in this way.
fn objects_by(plan: &Plan, route: Route) -> Vec<&str> {
    let steps = plan.steps.iter().filter(|step| step.route == route);
    steps.map(|step| step.object.as_str()).collect()
}

fn over_admin(plan: &Plan) -> Option<Finding> {
    let steps = objects_by(plan, Route::Admin);
    (!steps.is_empty()).then(|| {
        note(
            "over-admin",
            format!(
                "what only a superuser may make goes over {}",
                plan.admin.as_deref().unwrap_or("--target-admin")
            ),
            few(steps),
            "none; `pgmove run --dry-run` shows each statement",
        )
    })
}

fn by_operator(plan: &Plan) -> Option<Finding> {
    let steps = objects_by(plan, Route::Operator);
    (!steps.is_empty()).then(|| {
        note(
            "by-operator",
            "what only a superuser may make is left to the Cluster's operator",
            few(steps),
            "none; it gets a Database resource that is removed once it has followed it, and keeps the database",
        )
    })
}

fn settings_carried(plan: &Plan) -> Option<Finding> {
    let carried: Vec<&str> = plan.steps.iter().filter_map(|step| step.object.strip_prefix(SETTING)).collect();
    (!carried.is_empty()).then(|| {
        note(
            "settings-carried",
            "settings of the source's database are set on the target's",
            few(carried),
            "none; what should be otherwise there is changed after the move",
        )
    })
}

fn settings_left(plan: &Plan) -> Option<Finding> {
    let left: Vec<String> = plan
        .not_carried
        .iter()
        .filter_map(|left| Some(format!("{} ({})", left.object.strip_prefix(SETTING)?, left.reason)))
        .collect();
    (!left.is_empty()).then(|| {
        note(
            "settings-left",
            "settings of the source's database stay behind",
            few(left),
            "none, unless the application counts on one; then ALTER DATABASE or ALTER ROLE on the target after the move",
        )
    })
}

/// Binary is several times as fast, above all for numbers and embeddings.
fn as_text(plan: &Plan) -> Option<Finding> {
    let tables: Vec<String> = plan
        .tables
        .iter()
        .filter_map(|table| Some(format!("{} ({})", table.name, table.text_reason()?)))
        .collect();
    (!tables.is_empty()).then(|| {
        note(
            "travels-as-text",
            "tables travel as text, since a column's binary form is not safe between these servers",
            few(tables),
            "none; they are compared like all others, and only take longer",
        )
    })
}
