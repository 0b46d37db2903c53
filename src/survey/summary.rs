//! Sizes, and what the move needs of the target: the part of the survey that finds nothing. Pure.

use std::cmp::Reverse;

use serde::Serialize;

use super::{Input, Skipped};
use crate::catalog::{AvailableExtension, Catalog, Database, Extension, LocaleProvider, TableKind};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::plan::vector::hnsw_bytes;
use crate::plan::{Plan, VectorIndexPlan};
use crate::preflight::libraries;

/// So many tables and indexes are listed, the largest.
const LISTED: usize = 10;

/// What a survey has seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The source.
    pub source: Side,
    /// The target.
    pub target: Side,
    /// Rows with their TOAST, in bytes.
    pub row_bytes: u64,
    /// Indexes, in bytes.
    pub index_bytes: u64,
    /// How many tables hold rows.
    pub table_count: u64,
    /// How many indexes there are.
    pub index_count: u64,
    /// How many large objects.
    pub large_objects: u64,
    /// The largest tables.
    pub tables: Vec<Size>,
    /// The largest indexes.
    pub indexes: Vec<Size>,
    /// What the target needs.
    pub needs: Needs,
    /// What the builds of vector indexes need of memory; empty without a plan.
    pub vector_builds: Vec<VectorBuild>,
    /// The extensions that the target has or gets.
    pub extensions: Vec<ExtensionRow>,
    /// What was looked at.
    pub looked_at: Vec<&'static str>,
    /// What was not.
    pub skipped: Vec<Skipped>,
}

/// One of the two databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// The server's version.
    pub version: String,
    /// The database.
    pub database: String,
    /// The role that was connected.
    pub role: String,
    /// Its size on disk, in bytes.
    pub bytes: u64,
    /// Its encoding.
    pub encoding: String,
    /// Who compares strings, and by which locale.
    pub locale: String,
}

/// A table or an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Its name.
    pub name: String,
    /// Of an index: its table.
    pub table: Option<String>,
    /// Of a table: its rows, estimated.
    pub rows: Option<u64>,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Of a table: its indexes, in bytes.
    pub index_bytes: u64,
}

/// What the target's volume needs, in bytes; upper bounds, since a freshly loaded table has no dead rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Rows, TOAST, large objects.
    pub rows: u64,
    /// Indexes.
    pub indexes: u64,
    /// Files in which index builds sort: as much as the largest that may be built at once.
    pub sorting: u64,
    /// WAL that is kept: `max_wal_size`. Where it is archived or a standby lags, up to rows and indexes together.
    pub wal: u64,
    /// All of that.
    pub total: u64,
    /// What the databases of the target's server hold already, in bytes, as far as its role may know.
    pub occupied: u64,
    /// The size of the target's volume, in bytes, where it is known.
    pub volume: Option<u64>,
    /// The size of the volume that WAL has for itself, in bytes, where it is known.
    pub wal_volume: Option<u64>,
    /// What goes onto the target's volume: all of that, without WAL where that has a volume of its own.
    pub on_volume: u64,
}

impl Needs {
    /// What is free on the target's volume, where that is known.
    pub fn free(&self) -> Option<u64> {
        self.volume.map(|volume| volume.saturating_sub(self.occupied))
    }
}

/// The memory of a vector index's build, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VectorBuild {
    /// The index.
    pub index: String,
    /// Its access method on the target.
    pub access_method: String,
    /// `maintenance_work_mem` of the build.
    pub maintenance_work_mem: u64,
    /// What it takes beside that.
    pub beside: u64,
}

/// An extension on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtensionRow {
    /// Its name.
    pub name: String,
    /// Version and schema on the source; none where only the target gets it.
    pub source: Option<String>,
    /// Version and schema on the target, now or once it is created.
    pub target: Option<String>,
    /// Who makes it.
    pub created_by: &'static str,
    /// Whether the target's server loads its library at its start; none where that is hidden.
    pub is_preloaded: Option<bool>,
}

/// What every survey looks at.
const LOOKED_AT: &[&str] = &[
    "servers and client programs",
    "whether the target is free",
    "rights of both roles, owners",
    "extensions, their schemas and libraries",
    "encoding and locale",
    "connections and locks",
    "invalid indexes and constraints",
    "what needs a superuser or stays behind",
    "unlogged tables, large objects, publications, foreign servers",
];

/// What the survey's own reads of the source add.
const LOOKED_AT_ON_SOURCE: &[&str] =
    &["sessions, open and prepared transactions", "age of transaction ids", "embeddings, row by row"];

/// What the plan adds to that.
const LOOKED_AT_IN_PLAN: &[&str] =
    &["every definition, by pg_dump", "memory of index builds", "settings", "how each column travels"];

/// What a deep check adds.
const LOOKED_AT_DEEP: &[&str] =
    &["every row and large object of the source", "unique keys, without their indexes"];

/// What it adds where there is a scratch database.
const TRIED: &str = "whether the target takes every definition, in a scratch database";

/// Sums up what was read.
pub fn summary(input: &Input<'_>) -> Summary {
    let source = input.source;
    let tables = || source.tables.iter().filter(|table| table.kind == TableKind::Ordinary);
    let row_bytes = tables().map(|table| table.total_bytes).sum();
    let views: u64 = source.materialized_views.iter().map(|view| view.bytes).sum();
    let sizes = tables().map(|table| Size {
        name: table.name.to_string(),
        table: None,
        rows: table.estimated_rows,
        bytes: table.total_bytes,
        index_bytes: table.index_bytes,
    });
    let indexes = source.indexes.iter().filter(|index| !index.is_partitioned);
    let index_sizes: Vec<Size> = indexes
        .map(|index| Size {
            name: index.name.to_string(),
            table: Some(index.table.to_string()),
            rows: None,
            bytes: index.bytes,
            index_bytes: 0,
        })
        .collect();
    let index_bytes = index_sizes.iter().map(|index| index.bytes).sum();
    let mut looked_at = LOOKED_AT.to_vec();
    looked_at.extend(if input.found.is_source_read { LOOKED_AT_ON_SOURCE } else { &[] });
    looked_at.extend(input.plan.map_or(&[][..], |_| LOOKED_AT_IN_PLAN));
    looked_at.extend(if input.found.is_read_through { LOOKED_AT_DEEP } else { &[] });
    looked_at.extend(input.found.refused.as_ref().map(|_| TRIED));
    Summary {
        source: side(source),
        target: side(input.target),
        row_bytes,
        index_bytes,
        table_count: tables().count() as u64,
        index_count: index_sizes.len() as u64,
        large_objects: source.large_objects.count,
        needs: needs(input, row_bytes + views + source.large_objects.bytes, &index_sizes),
        tables: largest(sizes.collect()),
        indexes: largest(index_sizes),
        vector_builds: input.plan.map(vector_builds).unwrap_or_default(),
        extensions: extensions(input),
        looked_at,
        skipped: input.found.skipped.clone(),
    }
}

fn largest(mut sizes: Vec<Size>) -> Vec<Size> {
    sizes.sort_by(|one, other| {
        (Reverse(one.bytes + one.index_bytes), &one.name)
            .cmp(&(Reverse(other.bytes + other.index_bytes), &other.name))
    });
    sizes.truncate(LISTED);
    sizes
}

fn side(catalog: &Catalog) -> Side {
    Side {
        version: catalog.server.version.clone(),
        database: catalog.database.name.clone(),
        role: catalog.session.role.clone(),
        bytes: catalog.database.size_bytes,
        encoding: catalog.database.encoding.clone(),
        locale: locale(&catalog.database),
    }
}

fn locale(database: &Database) -> String {
    let provider = match database.locale_provider {
        LocaleProvider::Libc => "libc",
        LocaleProvider::Icu => "icu",
        LocaleProvider::Builtin => "builtin",
    };
    let locale = database.locale.as_ref().map(|locale| format!(" {locale}")).unwrap_or_default();
    let names = if database.collate == database.ctype {
        database.collate.clone()
    } else {
        format!("collate {}, ctype {}", database.collate, database.ctype)
    };
    format!("{provider}{locale} {names}")
}

fn vector_plans(plan: &Plan) -> impl Iterator<Item = (&crate::plan::Step, &VectorIndexPlan)> {
    plan.steps.iter().filter_map(|step| Some((step, step.vector_index.as_ref()?)))
}

fn vector_builds(plan: &Plan) -> Vec<VectorBuild> {
    let build = |(step, index): (&crate::plan::Step, &VectorIndexPlan)| VectorBuild {
        index: index.index.to_string(),
        access_method: index.access_method.clone(),
        maintenance_work_mem: step.maintenance_work_mem,
        beside: index.memory,
    };
    vector_plans(plan).map(build).collect()
}

fn needs(input: &Input<'_>, rows: u64, source_indexes: &[Size]) -> Needs {
    // Another access method gives another size, and pgvecto.rs keeps its indexes out of PostgreSQL's sight: about
    // the vectors themselves and their neighbours.
    let planned = |name: &str| {
        let plan = input.plan?;
        let (_, index) = vector_plans(plan).find(|(_, index)| index.index.to_string() == name)?;
        let columns = input.source.vector_columns();
        let column =
            columns.iter().find(|found| found.table == index.table && found.column == index.column)?;
        let table = input.source.tables.iter().find(|table| table.name == index.table)?;
        Some(hnsw_bytes(table.estimated_rows.unwrap_or(0), column.dimensions.unwrap_or(0)))
    };
    let mut sizes: Vec<u64> =
        source_indexes.iter().map(|index| planned(&index.name).unwrap_or(0).max(index.bytes)).collect();
    let indexes = sizes.iter().sum();
    sizes.sort_unstable_by_key(|size| Reverse(*size));
    let at_once = input.plan.map_or(1, |plan| usize::from(plan.jobs.max(1)));
    let sorting = sizes.iter().take(at_once).sum();
    let wal = input.target.server.settings.max_wal_size;
    let (without_wal, volumes) = (rows + indexes + sorting, input.volumes);
    Needs {
        rows,
        indexes,
        sorting,
        wal,
        total: without_wal + wal,
        occupied: input.found.target_bytes,
        volume: volumes.data,
        wal_volume: volumes.wal,
        on_volume: if volumes.has_wal { without_wal } else { without_wal + wal },
    }
}

fn extensions(input: &Input<'_>) -> Vec<ExtensionRow> {
    let (source, target) = (input.source, input.target);
    let mut names: Vec<&str> = source.extensions.iter().map(|found| found.name.as_str()).collect();
    let makes_vchord =
        input.plan.is_some_and(|plan| vector_plans(plan).any(|(_, index)| index.access_method == "vchordrq"));
    if names.contains(&LEGACY_VECTOR_EXTENSION) || makes_vchord {
        names.push("vector");
    }
    if makes_vchord {
        names.push("vchord");
    }
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name != "plpgsql");
    let is_superuser = target.session.is_superuser;
    let row = |name: &str| {
        let there = target.extensions.iter().find(|found| found.name == name);
        let offered = target.available_extensions.iter().find(|found| found.name == name);
        let described = |found: &Extension| format!("{} in {}", found.version, found.schema);
        let is_owners = offered.is_some_and(|offered| {
            !offered.needs_superuser || offered.is_trusted && target.session.can_create_in_database
        });
        let created_by = match (there, offered) {
            _ if name == LEGACY_VECTOR_EXTENSION => "nobody: vector takes its place",
            (Some(_), _) => "is there",
            (None, None) => "nobody: not offered",
            (None, Some(_)) if is_superuser || is_owners => "the target's role",
            (None, Some(_)) if input.is_left_to_operator(name) => "the Cluster's operator",
            (None, Some(_)) if input.has_superuser => "the superuser",
            (None, Some(_)) => "nobody: needs a superuser",
        };
        let library = |list: &String| libraries(list).contains(&name);
        let here = source.extensions.iter().find(|found| found.name == name);
        // Where it will stand.
        let schema = |offered: &AvailableExtension| {
            let wanted = offered.schema.clone().or_else(|| here.map(|found| found.schema.clone()));
            wanted.unwrap_or_else(|| "public".to_owned())
        };
        let to_be =
            |offered: &AvailableExtension| format!("{} in {}", offered.default_version, schema(offered));
        ExtensionRow {
            name: name.to_owned(),
            source: here.map(described),
            target: there.map(described).or_else(|| offered.map(to_be)),
            created_by,
            is_preloaded: target.server.shared_preload_libraries.as_ref().map(library),
        }
    };
    names.into_iter().map(row).collect()
}
