//! Steps that create extensions: by whom, and where.

use crate::catalog::AvailableExtension;
use crate::kubernetes::WantedExtension;
use crate::pg::{display_identifier, quote_identifier};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::plan::ddl::{Input, extension};
use crate::plan::{Phase, Route, Step};
use crate::schema::Entry;

/// `CREATE EXTENSION` for one of the source, or for pgvector in the place of pgvecto.rs.
pub(super) fn step(entry: &Entry, input: &Input<'_>) -> Option<Step> {
    let name = if entry.tag == LEGACY_VECTOR_EXTENSION { "vector" } else { entry.tag.as_str() };
    // A source that has both gets pgvector by its own entry.
    let is_twice = entry.tag == LEGACY_VECTOR_EXTENSION && extension(input.source, name).is_some();
    if is_twice || extension(input.target, name).is_some() {
        return None;
    }
    let schema = extension(input.source, name).map_or("public", |found| found.schema.as_str());
    Some(create(entry.id, name, schema, input))
}

pub(super) fn create(id: u32, name: &str, schema: &str, input: &Input<'_>) -> Step {
    let offered = input.target.available_extensions.iter().find(|offered| offered.name == name);
    let owner_may = input.target.session.is_superuser
        || offered.is_some_and(|offered| !offered.needs_superuser || offered.is_trusted);
    let in_schema = match offered.and_then(|offered| offered.schema.as_deref()) {
        Some(_) => String::new(),
        None => format!(" WITH SCHEMA {}", quote_identifier(schema)),
    };
    let operator_may = input.has_operator && may_leave_to_operator(offered, schema);
    let route = match (owner_may, operator_may, input.has_admin) {
        (true, _, _) | (false, false, false) => Route::Owner,
        (false, true, _) => Route::Operator,
        (false, false, true) => Route::Admin,
    };
    Step {
        id,
        object: format!("EXTENSION {}", display_identifier(name)),
        phase: Phase::PreData,
        route,
        needs: vec![],
        statements: vec![format!("CREATE EXTENSION IF NOT EXISTS {}{in_schema}", quote_identifier(name))],
        may_hold_secrets: false,
        masked_digest: None,
        extension: may_leave_to_operator(offered, schema).then(|| WantedExtension {
            name: name.to_owned(),
            schema: (!in_schema.is_empty()).then(|| schema.to_owned()),
        }),
        maintenance_work_mem: 0,
        vector_index: None,
    }
}

/// What an extension requires that is left to the operator must be there before, so it is left to it too.
pub(super) fn leave_what_is_required(steps: &mut [Step], input: &Input<'_>) {
    loop {
        let left = steps.iter().filter(|step| step.route == Route::Operator);
        let names: Vec<&str> = left.filter_map(|step| Some(step.extension.as_ref()?.name.as_str())).collect();
        let offered = input.target.available_extensions.iter();
        let required: Vec<&String> = offered
            .filter(|offered| names.contains(&offered.name.as_str()))
            .flat_map(|offered| &offered.requires)
            .collect();
        let is_required = |step: &&mut Step| {
            let extension = step.extension.as_ref().filter(|_| step.route != Route::Operator);
            extension.is_some_and(|extension| required.contains(&&extension.name))
        };
        let Some(step) = steps.iter_mut().find(is_required) else { return };
        step.route = Route::Operator;
    }
}

/// Whether a target's operator can create an extension. It comes before all schemas, and what it puts into one of the user's
/// would make the target another one than was checked.
pub(crate) fn may_leave_to_operator(offered: Option<&AvailableExtension>, schema: &str) -> bool {
    schema == "public" || offered.is_some_and(|offered| offered.schema.is_some())
}
