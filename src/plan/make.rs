//! The plan from what both servers hold. Pure.

use crate::catalog::{Catalog, TableKind};
use crate::pg::{Oid, QualifiedName};
use crate::plan::create_privilege::Ungranted;
use crate::plan::ddl::{self, Ddl};
use crate::plan::tables::{self, Cutting};
use crate::plan::{Chunk, LargeObjectBatch, NotCarried, Plan, TablePlan};
use crate::schema::{Entry, EntryClass};

/// What was asked for, and what was measured.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The run's id.
    pub run: &'a str,
    /// The source's `search_path`.
    pub search_path: &'a str,
    /// How many lanes.
    pub jobs: u16,
    /// Size of a chunk in bytes, if the user named one.
    pub chunk_bytes: Option<u64>,
    /// Large objects of the source, in order.
    pub large_objects: &'a [Oid],
}

/// Objects that cannot be made on the target.
#[derive(Debug, Default)]
pub struct Obstacles {
    /// Those that use the legacy vector extension in a way that no rewrite covers.
    pub unconvertible: Vec<String>,
    /// Those that need a superuser where there is none, with the reason.
    pub forbidden: Vec<(String, String)>,
    /// Rights to create that a role needs and nobody can give it.
    pub ungranted: Vec<Ungranted>,
}

/// How many large objects are copied in one transaction.
const LARGE_OBJECT_BATCH: usize = 500;

/// The tables that hold rows of the user, planned.
pub fn tables(source: &Catalog, target: &Catalog, jobs: u16, chunk_bytes: Option<u64>) -> Vec<TablePlan> {
    planned(source, jobs, chunk_bytes, same_version(source, target))
}

/// The same for a target that is not known yet: what depends on an extension's version travels as text.
pub fn archived_tables(source: &Catalog, jobs: u16, chunk_bytes: Option<u64>) -> Vec<TablePlan> {
    planned(source, jobs, chunk_bytes, |_: &str| false)
}

fn planned(
    source: &Catalog,
    jobs: u16,
    chunk_bytes: Option<u64>,
    same_version: impl Fn(&str) -> bool,
) -> Vec<TablePlan> {
    let ordinary = || source.tables.iter().filter(|table| table.kind == TableKind::Ordinary);
    let total = ordinary().map(|table| table.total_bytes).sum();
    let cutting = Cutting {
        chunk_bytes: chunk_bytes.unwrap_or_else(|| tables::chunk_bytes(total, jobs)),
        has_tid_range_scan: source.server.major() >= 14,
    };
    ordinary().map(|table| TablePlan::new(table, &source.types, cutting, &same_version)).collect()
}

/// The materialised views that hold rows, by name.
pub fn views(source: &Catalog, target: &Catalog) -> Vec<TablePlan> {
    planned_views(source, same_version(source, target))
}

/// The same for a target that is not known yet.
pub fn archived_views(source: &Catalog) -> Vec<TablePlan> {
    planned_views(source, |_: &str| false)
}

fn planned_views(source: &Catalog, same_version: impl Fn(&str) -> bool) -> Vec<TablePlan> {
    let populated = source.materialized_views.iter().filter(|view| view.is_populated);
    populated.map(|view| TablePlan::of_view(view, &source.types, &same_version)).collect()
}

/// Whether both sides have, or will have, the same version of an extension.
fn same_version<'a>(source: &'a Catalog, target: &'a Catalog) -> impl Fn(&str) -> bool + 'a {
    let version =
        |name: &str| source.extensions.iter().find(|found| found.name == name).map(|found| &found.version);
    let future = |name: &str| {
        target
            .available_extensions
            .iter()
            .find(|found| found.name == name)
            .map(|found| found.installed_version.as_ref().unwrap_or(&found.default_version))
    };
    move |name| version(name).is_some() && version(name) == future(name)
}

/// Everything that will be done. `tables` are those of [`tables`], which the entries' steps point to.
pub fn make(request: &Request<'_>, entries: &[Entry], input: &ddl::Input<'_>) -> (Plan, Obstacles) {
    let (source, target) = (input.source, input.target);
    let Ddl { steps, changes, mut not_carried, unconvertible, forbidden, ungranted } =
        ddl::steps(entries, input);
    let foreign = source.tables.iter().filter(|table| table.kind == TableKind::Foreign);
    not_carried.extend(foreign.map(|table| NotCarried {
        object: format!("rows of foreign table {}", table.name),
        reason: "they are on another server".into(),
    }));
    let populated = views(source, target);
    let views = entries
        .iter()
        .filter(|entry| entry.class == EntryClass::MATERIALIZED_VIEW)
        .filter_map(Entry::relation)
        .filter_map(|name| populated.iter().find(|view| view.name == name).cloned())
        .collect();
    let plan = Plan {
        run: request.run.to_owned(),
        search_path: search_path(request.search_path),
        copy_encoding: copy_encoding(source),
        jobs: request.jobs,
        index_memory: input.index_memory,
        replaced: None,
        tables: input.tables.to_vec(),
        materialized_views: views,
        partitioned: names(source, TableKind::Partitioned),
        sequences: source.sequences.iter().map(|sequence| sequence.name.clone()).collect(),
        large_objects: batches(request.large_objects),
        roles: ddl::roles(input),
        existing_schemas: input.existing_schemas.to_vec(),
        target_database: Some(target.database.clone()),
        admin: None,
        steps,
        rewrites: changes,
        not_carried,
    };
    (plan, Obstacles { unconvertible, forbidden, ungranted })
}

fn names(source: &Catalog, kind: TableKind) -> Vec<QualifiedName> {
    source.tables.iter().filter(|table| table.kind == kind).map(|table| table.name.clone()).collect()
}

/// The encoding that the source's values travel in, if it is not UTF-8: its own, so that it converts nothing.
pub fn copy_encoding(source: &Catalog) -> Option<String> {
    let encoding = source.database.encoding.as_str();
    (encoding != "UTF8").then(|| encoding.to_owned())
}

/// The source's path without the schema of the legacy vector extension.
pub fn search_path(path: &str) -> String {
    let kept: Vec<&str> = path
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty() && part.trim_matches('"') != super::columns::LEGACY_VECTOR_EXTENSION)
        .collect();
    kept.join(", ")
}

/// Large objects in batches.
pub fn batches(oids: &[Oid]) -> Vec<LargeObjectBatch> {
    oids.chunks(LARGE_OBJECT_BATCH)
        .filter_map(|batch| Some(LargeObjectBatch { first: *batch.first()?, last: *batch.last()? }))
        .collect()
}

impl TablePlan {
    /// A materialised view, as far as comparing goes.
    fn of_view(
        view: &crate::catalog::MaterializedView,
        types: &crate::catalog::Types,
        same_version: impl Fn(&str) -> bool,
    ) -> TablePlan {
        TablePlan {
            name: view.name.clone(),
            columns: tables::planned(&view.columns, types, same_version),
            generated: vec![],
            key: vec![],
            condition: None,
            is_unlogged: false,
            bytes: view.bytes,
            heap_bytes: view.bytes,
            estimated_rows: None,
            chunks: vec![Chunk::WHOLE],
        }
    }
}
