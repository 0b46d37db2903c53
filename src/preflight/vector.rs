//! Vector columns and the indexes that they get on the target.

use super::extension::{future_version, is_older};
use super::{Finding, Input, blocking, few, warning};
use crate::catalog::{Index, Persistence, TypeKind, Types, VectorColumn};
use crate::pg::{Oid, display_identifier, quote_identifier};
use crate::plan::VectorIndexPlan;
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::plan::vector::{Facts, decide, is_vector_method};
use crate::profile;
use crate::schema::index_statement;

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [
        legacy_types(input),
        too_long(input),
        unknown_indexes(input),
        dimensions(input),
        unlogged(input),
        parallel_build(input),
    ]
    .concat()
}

/// The vector indexes that the target gets.
pub(super) fn planned(input: &Input<'_>) -> Vec<VectorIndexPlan> {
    vector_indexes(input).filter_map(|index| plan_of(index, input)).collect()
}

fn vector_indexes<'a>(input: &Input<'a>) -> impl Iterator<Item = &'a Index> {
    input.source.indexes.iter().filter(|index| index.is_valid && is_vector_method(&index.access_method))
}

/// Decided as the plan decides; only the number of lists depends on rows, and is not asked for here.
fn plan_of(index: &Index, input: &Input<'_>) -> Option<VectorIndexPlan> {
    let statement = index_statement(&index.definition)?;
    let facts = Facts {
        statement: &statement,
        rows: 0,
        dimensions: 0,
        choice: input.vector_index,
        application: profile::vector_index(&statement.table.name, &statement.name),
        offers_vchord: input.target.available_extensions.iter().any(|offered| offered.name == "vchord"),
        vector_schema: "public",
        vchord_schema: "public",
    };
    decide(&facts).1
}

fn column_name(column: &VectorColumn) -> String {
    format!("{}.{}", column.table, display_identifier(&column.column))
}

/// Whether a type holds one of pgvecto.rs other than its `vector` itself, which alone is converted.
fn holds_other_legacy(oid: Oid, types: &Types, is_contained: bool) -> bool {
    let Some(found) = types.get(&oid) else { return false };
    match &found.kind {
        TypeKind::Domain { base, .. } => holds_other_legacy(*base, types, is_contained),
        TypeKind::Array { element } => holds_other_legacy(*element, types, true),
        TypeKind::Composite { attributes } => {
            attributes.iter().any(|attribute| holds_other_legacy(attribute.type_oid, types, true))
        }
        _ => {
            found.extension.as_deref() == Some(LEGACY_VECTOR_EXTENSION)
                && (is_contained || found.name.name != "vector")
        }
    }
}

fn legacy_types(input: &Input<'_>) -> Vec<Finding> {
    let source = input.source;
    let columns =
        source.tables.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column)));
    let held: Vec<_> =
        columns.filter(|(_, column)| holds_other_legacy(column.type_oid, &source.types, false)).collect();
    let Some((table, column)) = held.first() else { return vec![] };
    let (name, embedding) = (table.name.sql(), quote_identifier(&column.name));
    vec![blocking(
        "legacy-vector-type",
        "columns have types of pgvecto.rs that are not converted; of its types only vector is",
        few(held.iter().map(|(table, column)| {
            format!("{}.{} {}", table.name, display_identifier(&column.name), column.formatted_type)
        })),
        format!(
            "turn each into real[] on the source, and into a type of pgvector after the move. vecf16 (from 0.3 on): ALTER \
             TABLE {name} ALTER {embedding} TYPE real[] USING {embedding}::vectors.vector::real[]; (later halfvec); \
             svector (counts from 0, sparsevec from 1), bvector and veci8 by way of their text; or drop the column if its \
             content can be computed again"
        ),
    )]
}

/// pgvector stores up to 16,000 dimensions, pgvecto.rs 65,535.
fn too_long(input: &Input<'_>) -> Vec<Finding> {
    const MOST: u32 = 16_000;
    let long: Vec<String> = input
        .source
        .vector_columns()
        .iter()
        .filter(|column| column.extension == LEGACY_VECTOR_EXTENSION && column.dimensions > Some(MOST))
        .map(|column| format!("{} ({})", column_name(column), column.dimensions.unwrap_or_default()))
        .collect();
    if long.is_empty() {
        return vec![];
    }
    vec![blocking(
        "vector-too-long",
        format!("embeddings have more dimensions than pgvector stores ({MOST})"),
        few(long),
        "turn the column into real[] on the source, or drop it if its content can be computed again",
    )]
}

/// Indexes of pgvecto.rs that have no counterpart.
fn unknown_indexes(input: &Input<'_>) -> Vec<Finding> {
    let unknown: Vec<&Index> = vector_indexes(input)
        .filter(|index| index.access_method == LEGACY_VECTOR_EXTENSION && plan_of(index, input).is_none())
        .collect();
    let Some(first) = unknown.first() else { return vec![] };
    vec![blocking(
        "legacy-vector-index",
        "indexes of pgvecto.rs have no counterpart on the target",
        few(unknown.iter().map(|index| format!("{}: {}", index.name, index.definition))),
        format!(
            "on the source: DROP INDEX {}; and create the index that you want after the move",
            first.name.sql()
        ),
    )]
}

/// The most dimensions that an index takes (pgvector's README; VectorChord takes what the type holds).
fn most_dimensions(access_method: &str, type_name: &str) -> Option<u32> {
    match (access_method, type_name) {
        ("hnsw" | "ivfflat", "halfvec") => Some(4000),
        ("hnsw" | "ivfflat", "vector") => Some(2000),
        _ => None,
    }
}

/// An index needs a column of declared and not too many dimensions.
fn dimensions(input: &Input<'_>) -> Vec<Finding> {
    let columns = input.source.vector_columns();
    let mut found = Vec::new();
    for index in planned(input) {
        let Some(column) =
            columns.iter().find(|column| column.table == index.table && column.column == index.column)
        else {
            continue;
        };
        let (name, method) = (column_name(column), &index.access_method);
        let Some(dimensions) = column.dimensions else {
            found.push(blocking(
                "vector-without-dimensions",
                format!("column {name} declares no dimensions, and index {} needs them", index.index),
                format!("its type is {}, the index will be {method}", column.type_name),
                format!(
                    "on the source: SELECT DISTINCT cardinality({1}::real[]) FROM {0}; then, with that number: ALTER TABLE {0} \
                     ALTER {1} TYPE {2}(512); or drop the index",
                    column.table.sql(),
                    quote_identifier(&column.column),
                    column.type_name.sql()
                ),
            ));
            continue;
        };
        if let Some(most) = most_dimensions(method, &column.type_name.name).filter(|most| dimensions > *most)
        {
            found.push(blocking(
                "vector-index-dimensions",
                format!("column {name} has too many dimensions for index {} as {method}", index.index),
                format!("{dimensions} dimensions; {method} over {} takes {most}", column.type_name.name),
                "give --vector-index vchordrq with a target that offers vchord; or drop the index on the source",
            ));
        }
    }
    found
}

/// VectorChord refuses to index an unlogged table.
fn unlogged(input: &Input<'_>) -> Vec<Finding> {
    let is_unlogged = |index: &VectorIndexPlan| {
        let mut tables = input.source.tables.iter();
        tables.any(|table| table.name == index.table && table.persistence == Persistence::Unlogged)
    };
    let refused: Vec<VectorIndexPlan> = planned(input)
        .into_iter()
        .filter(|index| index.access_method == "vchordrq" && is_unlogged(index))
        .collect();
    let Some(first) = refused.first() else { return vec![] };
    vec![blocking(
        "vector-index-unlogged",
        "VectorChord does not index unlogged tables",
        few(refused.iter().map(|index| format!("{} on {}", index.index, index.table))),
        format!("on the source: ALTER TABLE {} SET LOGGED; or give --vector-index hnsw", first.table.sql()),
    )]
}

/// CVE-2026-3172: parallel builds of hnsw overflow a buffer in pgvector 0.6.0 to 0.8.1.
fn parallel_build(input: &Input<'_>) -> Vec<Finding> {
    let Some(version) = future_version(input, "vector") else { return vec![] };
    let workers = input.target.server.settings.max_parallel_maintenance_workers;
    let is_hit = !is_older(version, "0.6.0") && is_older(version, "0.8.2") && workers > 0;
    let indexes: Vec<String> = planned(input)
        .iter()
        .filter(|index| index.access_method == "hnsw")
        .map(|index| index.index.to_string())
        .collect();
    if !is_hit || indexes.is_empty() {
        return vec![];
    }
    vec![warning(
        "pgvector-parallel-build",
        "the target's pgvector may overflow a buffer in parallel builds of hnsw (CVE-2026-3172)",
        few(indexes).within(|indexes| {
            format!(
                "pgvector {version}, fixed in 0.8.2; max_parallel_maintenance_workers = {workers}; {indexes}"
            )
        }),
        format!(
            "install pgvector 0.8.2 or newer on the target; or, as the target's role: ALTER ROLE {} SET \
             max_parallel_maintenance_workers = 0;",
            quote_identifier(&input.target.session.role)
        ),
    )]
}
