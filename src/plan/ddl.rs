//! The dump's entries turned into steps: rewritten, routed, and put into their phase. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::catalog::{Catalog, Constraint, ConstraintKind};
use crate::pg::QualifiedName;
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::plan::create_privilege::{self, Ungranted};
use crate::plan::database;
use crate::plan::extensions;
use crate::plan::unique_index;
use crate::plan::vector::{self, Facts};
use crate::plan::{LockMode, NotCarried, Phase, Route, Step, TablePlan, VectorIndexChoice, VectorIndexPlan};
use crate::profile;
use crate::schema::rewrite::{self, ExistingSchema, Owners, Roles, TypeRename};
use crate::schema::{Change, Entry, EntryClass, Section, index_statement, superuser_reason};

/// What the steps depend on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The source.
    pub source: &'a Catalog,
    /// The target.
    pub target: &'a Catalog,
    /// The tables to be copied.
    pub tables: &'a [TablePlan],
    /// Exact row counts of tables with vector indexes.
    pub vector_rows: &'a HashMap<QualifiedName, u64>,
    /// Schemas that the target has before anything is made there.
    pub existing_schemas: &'a [ExistingSchema],
    /// The role that gets everything; `None` keeps owners.
    pub owner: Option<&'a str>,
    /// Which vector indexes are wanted.
    pub vector_index: VectorIndexChoice,
    /// Whether there is a connection as superuser.
    pub has_admin: bool,
    /// Whether the target's operator creates extensions.
    pub has_operator: bool,
    /// Memory for all index builds that run at once, in bytes.
    pub index_memory: u64,
    /// How many of them run at once.
    pub jobs: u16,
    /// `pg_settings.context` on the target of the settings that the source's database has.
    pub setting_contexts: &'a BTreeMap<String, String>,
}

/// The steps, what was changed, and what stays behind.
#[derive(Debug, Default)]
pub struct Ddl {
    /// In the dump's order.
    pub steps: Vec<Step>,
    /// Every change.
    pub changes: Vec<Change>,
    /// Entries that are left out.
    pub not_carried: Vec<NotCarried>,
    /// Entries that still name the legacy vector extension's schema after all rewrites.
    pub unconvertible: Vec<String>,
    /// Entries that need a superuser where there is none, with the reason.
    pub forbidden: Vec<(String, String)>,
    /// Rights to create that a role needs and nobody can give it.
    pub ungranted: Vec<Ungranted>,
}

/// The schemas that an empty target has: `public`, and those that extensions stand in.
pub fn existing_schemas(target: &Catalog) -> Vec<ExistingSchema> {
    let given = target.schemas.iter().filter(|schema| schema.is_given());
    let existing = given.map(|schema| ExistingSchema {
        name: schema.name.clone(),
        owner: schema.owner.clone(),
        is_owned: schema.is_owned,
    });
    existing.collect()
}

/// Rewrites the entries as the plan asks, and tells what was changed. Comparing two schemas goes by the same
/// function, so what a run changes is what a comparison expects.
pub fn rewritten(entry: &Entry, input: &Input<'_>) -> (Entry, Vec<Change>, Option<VectorIndexPlan>) {
    let (mut entry, mut changes, mut index) = (entry.clone(), Vec::new(), None);
    changes.extend(rewrite::extension(&mut entry));
    if let Some(legacy) = extension(input.source, LEGACY_VECTOR_EXTENSION) {
        changes.extend(rewrite::legacy_schema(&mut entry, &legacy.schema));
        let rename = |name: &str| TypeRename {
            from: QualifiedName::new(&legacy.schema, name),
            to: QualifiedName::new(vector_schema(input), name),
            // pgvector's own (`vector--0.7.0.sql`); pgvecto.rs has another from 0.3 on.
            storage: "EXTERNAL".to_owned(),
        };
        if entry.class != EntryClass::INDEX {
            changes.extend(rewrite::types(&mut entry, &[rename("vector")]));
        }
    }
    changes.extend(rewrite::existing_schema(&mut entry, input.existing_schemas));
    let roles = roles(input);
    changes.extend(rewrite::owners(&mut entry, &roles));
    changes.extend(rewrite::rights(&mut entry, &roles));
    if entry.class == EntryClass::INDEX {
        let statement = entry.statements.first().and_then(|text| index_statement(text));
        if let Some(statement) = statement.filter(|found| vector::is_vector_method(&found.access_method)) {
            let (rewrite, plan) = vector::decide(&facts(&statement, input));
            if let Some(rewrite) = rewrite {
                changes.extend(rewrite::vector_index(&mut entry, &rewrite));
            }
            index = plan;
        }
    }
    (entry, changes, index)
}

fn facts<'a>(statement: &'a crate::schema::IndexStatement, input: &'a Input<'_>) -> Facts<'a> {
    let column = statement.columns.first().map(|column| column.expression.trim_matches('"'));
    let dimensions = input
        .source
        .vector_columns()
        .into_iter()
        .find(|found| found.table == statement.table && Some(found.column.as_str()) == column)
        .and_then(|found| found.dimensions);
    Facts {
        statement,
        rows: input.vector_rows.get(&statement.table).copied().unwrap_or(0),
        dimensions: dimensions.unwrap_or(0),
        choice: input.vector_index,
        application: profile::vector_index(&statement.table.name, &statement.name),
        offers_vchord: input.target.available_extensions.iter().any(|offered| offered.name == "vchord"),
        vector_schema: vector_schema(input),
        vchord_schema: extension_schema(input, "vchord"),
    }
}

/// The schema of pgvector on the target, now or once it is created there.
fn vector_schema<'a>(input: &'a Input<'_>) -> &'a str {
    extension_schema(input, "vector")
}

fn extension_schema<'a>(input: &'a Input<'_>, name: &str) -> &'a str {
    [input.target, input.source]
        .into_iter()
        .find_map(|catalog| extension(catalog, name))
        .map_or("public", |found| found.schema.as_str())
}

pub(super) fn extension<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a crate::catalog::Extension> {
    catalog.extensions.iter().find(|found| found.name == name)
}

/// What is known of the target's roles.
pub fn roles(input: &Input<'_>) -> Roles {
    let target = input.target;
    Roles {
        owners: input.owner.map_or(Owners::Keep, |role| Owners::All(role.to_owned())),
        existing: target.roles.iter().map(|role| role.name.clone()).collect(),
        assignable: target.roles.iter().filter(|role| role.is_member).map(|role| role.name.clone()).collect(),
        creator: Some(target.session.role.clone()),
        may_impersonate: target.session.is_superuser,
    }
}

/// Turns all entries into steps.
pub fn steps(entries: &[Entry], input: &Input<'_>) -> Ddl {
    let mut ddl = Ddl::default();
    let mut creates_vchord = false;
    let mut kept = Vec::new();
    let (mut after_schemas, mut before_rights) = (0, None);
    for original in entries {
        if original.class.stays_behind() {
            ddl.not_carried.push(NotCarried {
                object: original.object(),
                reason: "its definition may hold a password; create it on the target by hand".into(),
            });
            continue;
        }
        let (entry, changes, index) = rewritten(original, input);
        ddl.changes.extend(changes);
        creates_vchord |= index.as_ref().is_some_and(|index| index.access_method == "vchordrq");
        if original.class == EntryClass::EXTENSION {
            ddl.steps.extend(extensions::step(original, input));
            continue;
        }
        if entry.statements.is_empty() {
            continue;
        }
        if let Some(legacy) = extension(input.source, LEGACY_VECTOR_EXTENSION)
            && entry.mentions_schema(&legacy.schema)
        {
            ddl.unconvertible.push(entry.object());
        }
        let is_superuser = input.has_admin || input.target.session.is_superuser;
        if let Some(reason) = superuser_reason(&entry).filter(|_| !is_superuser) {
            ddl.forbidden.push((entry.object(), reason));
        }
        if entry.class == EntryClass::ACL {
            before_rights.get_or_insert(ddl.steps.len());
        }
        ddl.steps.push(step(&entry, index, input));
        if entry.class == EntryClass::SCHEMA {
            after_schemas = ddl.steps.len();
        }
        kept.push(entry);
    }
    let vchord_id = next_id(entries);
    let loans = create_privilege::lend(&kept, input, vchord_id + 1);
    let ids = loans.before.iter().chain(&loans.after).map(|step| step.id + 1);
    let database_id = ids.max().unwrap_or(vchord_id + 1);
    // The later place first, so that the earlier one stays where it is.
    let before_rights = before_rights.unwrap_or(ddl.steps.len());
    ddl.steps.splice(before_rights..before_rights, loans.after);
    ddl.steps.splice(after_schemas..after_schemas, loans.before);
    ddl.changes.extend(loans.changes);
    ddl.ungranted = loans.ungranted;
    if creates_vchord
        && extension(input.target, "vchord").is_none()
        && extension(input.source, "vchord").is_none()
    {
        let vchord = extensions::create(0, "vchord", "public", input);
        let after =
            ddl.steps.iter().rposition(|step| step.object.starts_with("EXTENSION ")).map_or(0, |at| at + 1);
        ddl.steps.insert(after, Step { id: vchord_id, ..vchord });
    }
    extensions::leave_what_is_required(&mut ddl.steps, input);
    let database =
        database::steps(input.source, input.target, input.setting_contexts, input.has_admin, database_id);
    ddl.steps.extend(database.steps);
    ddl.not_carried.extend(database.not_carried);
    ddl.forbidden.extend(database.forbidden);
    split_unique_constraints(&mut ddl, input.tables);
    ddl
}

fn split_unique_constraints(ddl: &mut Ddl, tables: &[TablePlan]) {
    let mut id = ddl.steps.iter().map(|step| step.id).max().unwrap_or(0) + 1;
    for mut step in std::mem::take(&mut ddl.steps) {
        if let Some((index, change)) = unique_index::split(&mut step, id, tables) {
            ddl.steps.push(index);
            ddl.changes.push(change);
            id += 1;
        }
        ddl.steps.push(step);
    }
}

/// A dump id that no entry has.
fn next_id(entries: &[Entry]) -> u32 {
    entries.iter().map(|entry| entry.id).max().unwrap_or(0) + 1
}

fn step(entry: &Entry, index: Option<VectorIndexPlan>, input: &Input<'_>) -> Step {
    let phase = phase(entry, input);
    let share = input.index_memory / u64::from(input.jobs.max(1));
    let maintenance_work_mem = match (&phase, &index) {
        (Phase::Build { .. }, Some(found)) if found.access_method == "hnsw" => {
            let statement = entry.statements.first().and_then(|text| index_statement(text));
            let rows = input.vector_rows.get(&found.table).copied().unwrap_or(0);
            let dimensions = statement.as_ref().map_or(0, |statement| facts(statement, input).dimensions);
            let options = statement.and_then(|statement| statement.options).unwrap_or_default();
            vector::hnsw_graph(rows, dimensions, &options).clamp(share, input.index_memory.max(share))
        }
        (Phase::Build { .. } | Phase::ForeignKey { .. }, _) => share,
        _ => 0,
    };
    Step {
        id: entry.id,
        object: entry.object(),
        route: if needs_admin(entry, input) { Route::Admin } else { Route::Owner },
        needs: entry.dependencies.clone(),
        statements: entry.commands(),
        may_hold_secrets: entry.class.may_hold_secrets(),
        masked_digest: None,
        extension: None,
        maintenance_work_mem,
        vector_index: index,
        phase,
    }
}

/// What only a superuser may do, and the default privileges of roles whose rights the session does not have, go
/// over the admin's connection.
pub(super) fn needs_admin(entry: &Entry, input: &Input<'_>) -> bool {
    let is_others_default = || {
        rewrite::default_privileges_of(entry)
            .is_some_and(|creator| !roles(input).assignable.contains(&creator))
    };
    input.has_admin
        && !input.target.session.is_superuser
        && (superuser_reason(entry).is_some() || is_others_default())
}

fn phase(entry: &Entry, input: &Input<'_>) -> Phase {
    if entry.section == Section::PreData {
        return Phase::PreData;
    }
    let position = |name: &QualifiedName| input.tables.iter().position(|table| table.name == *name);
    let relation = entry.relation();
    let is_partitioned = relation.as_ref().is_some_and(|name| {
        input
            .source
            .tables
            .iter()
            .any(|table| table.name == *name && table.kind == crate::catalog::TableKind::Partitioned)
    });
    let table = relation.as_ref().and_then(position);
    let build = |lock| match table {
        Some(table) => Phase::Build { table: Some(table), lock },
        None if is_partitioned => Phase::Build { table: None, lock },
        None => Phase::Finish,
    };
    match entry.class {
        EntryClass::INDEX => build(LockMode::Share),
        EntryClass::CONSTRAINT => build(LockMode::AccessExclusive),
        EntryClass::INDEX_ATTACH => Phase::Build { table: None, lock: LockMode::AccessExclusive },
        EntryClass::FK_CONSTRAINT => foreign_key(entry, relation.as_ref(), table, input),
        class if class.name() == "STATISTICS" => build(LockMode::ShareUpdateExclusive),
        _ => Phase::Finish,
    }
}

/// A foreign key between two tables that hold rows is checked on a lane; with a partitioned one it waits for
/// everything.
fn foreign_key(
    entry: &Entry,
    relation: Option<&QualifiedName>,
    table: Option<usize>,
    input: &Input<'_>,
) -> Phase {
    let referenced = relation
        .and_then(|relation| referenced(&entry.tag, relation, &input.source.constraints))
        .and_then(|name| input.tables.iter().position(|table| table.name == *name));
    match (table, referenced) {
        (Some(table), Some(referenced)) => {
            let mut tables = vec![table, referenced];
            tables.dedup();
            Phase::ForeignKey { tables }
        }
        _ => Phase::Finish,
    }
}

/// The table that a foreign key points to. The tag of what belongs to a table is the table's name, a blank, and its own.
fn referenced<'a>(
    tag: &str,
    relation: &QualifiedName,
    constraints: &'a [Constraint],
) -> Option<&'a QualifiedName> {
    constraints
        .iter()
        .filter(|found| found.kind == ConstraintKind::ForeignKey && found.table == *relation)
        .find(|found| tag == format!("{} {}", found.table.name, found.name))?
        .references
        .as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_key_is_not_taken_for_one_whose_name_ends_alike() {
        let asset = QualifiedName::new("public", "asset");
        let constraint = |name: &str, references: &str| Constraint {
            table: asset.clone(),
            name: name.to_owned(),
            kind: ConstraintKind::ForeignKey,
            is_validated: true,
            references: Some(QualifiedName::new("public", references)),
            definition: String::new(),
        };
        let constraints = [constraint("owner", "person"), constraint("asset owner", "company")];
        for (tag, expected) in [("asset owner", "person"), ("asset asset owner", "company")] {
            let found = referenced(tag, &asset, &constraints).map(|name| name.name.as_str());
            assert_eq!(found, Some(expected), "{tag}");
        }
        assert_eq!(referenced("album owner", &asset, &constraints), None);
    }
}
