//! Embeddings that the target would refuse: values that are not finite, and dimensions that differ.

use super::read::{ReadError, Reader, refusal};
use super::{Input, blocking, note};
use crate::catalog::{Catalog, TableKind, VectorColumn};
use crate::pg::{QualifiedName, display_identifier, quote_identifier};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::preflight::{Finding, few};
use crate::report::number;

/// What a column of embeddings holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embeddings {
    /// The column.
    pub column: VectorColumn,
    /// What was counted, or the server's words where it cannot read them.
    pub counted: Result<Counted, String>,
}

/// Counts of a column's embeddings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many there are.
    pub rows: i64,
    /// How many hold NaN, infinity or NULL.
    pub not_finite: i64,
    /// The fewest and the most dimensions; none without rows.
    pub dimensions: Option<(i32, i32)>,
}

/// What pgvector's `vector_in` and `vector_recv` refuse. An embedding is named `e`.
const NOT_FINITE: &str = "'NaN'::real = ANY (e) OR 'Infinity'::real = ANY (e) OR '-Infinity'::real = ANY (e) \
    OR array_position(e, NULL) IS NOT NULL";

impl Embeddings {
    /// Reads the source's embeddings: all of pgvecto.rs, which takes any value, and those of pgvector that declare no
    /// dimensions.
    pub(super) async fn read(reader: &Reader<'_>, source: &Catalog) -> Result<Vec<Embeddings>, ReadError> {
        let mut found = Vec::new();
        let is_foreign = |column: &VectorColumn| {
            source.tables.iter().any(|table| table.name == column.table && table.kind == TableKind::Foreign)
        };
        for column in source.vector_columns().into_iter().filter(|column| !is_foreign(column)) {
            let Some(statement) = statement(&column) else { continue };
            let what = format!("read the embeddings of {}", column.table);
            let counted = match reader.rows(&statement, &[], &what).await {
                Ok(rows) => Ok(rows.first().map_or_else(Counted::default, |row| Counted {
                    rows: row.get("rows"),
                    not_finite: row.get("not_finite"),
                    dimensions: row.get::<_, Option<i32>>("least").zip(row.get("most")),
                })),
                // The type's library may be missing, or a row damaged.
                Err(error) => Err(refusal(error)?.words),
            };
            found.push(Embeddings { column, counted });
        }
        Ok(found)
    }
}

/// `OFFSET 0` has each embedding converted once.
fn statement(column: &VectorColumn) -> Option<String> {
    let name = quote_identifier(&column.column);
    let (value, not_finite, dimensions) = if column.extension == LEGACY_VECTOR_EXTENSION {
        if column.type_name.name != "vector" {
            return None;
        }
        (format!("{name}::real[]"), NOT_FINITE, "cardinality(e)".to_owned())
    } else {
        let has_dimensions = ["vector", "halfvec"].contains(&column.type_name.name.as_str());
        if column.dimensions.is_some() || !has_dimensions {
            return None;
        }
        (name, "false", format!("{}.vector_dims(e)", quote_identifier(&column.type_name.schema)))
    };
    Some(format!(
        "SELECT count(*) AS rows, count(*) FILTER (WHERE {not_finite}) AS not_finite, min({dimensions}) AS least, \
         max({dimensions}) AS most FROM (SELECT {value} AS e FROM ONLY {} OFFSET 0) AS embedding WHERE e IS NOT NULL",
        column.table.sql()
    ))
}

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [unreadable(input), not_finite(input), other_dimensions(input), mixed_dimensions(input)].concat()
}

fn name(column: &VectorColumn) -> String {
    format!("{}.{}", column.table, display_identifier(&column.column))
}

fn counted<'a>(input: &Input<'a>) -> impl Iterator<Item = (&'a VectorColumn, Counted)> {
    input.found.embeddings.iter().filter_map(|found| Some((&found.column, found.counted.clone().ok()?)))
}

/// The query that shows the rows for which `condition` holds of the embedding `e`, by their keys.
fn look(input: &Input<'_>, column: &VectorColumn, condition: &str) -> String {
    let key = |table: &QualifiedName| {
        let found = input.source.tables.iter().find(|found| found.name == *table)?;
        let columns: Vec<String> = found.primary_key.iter().map(|name| quote_identifier(name)).collect();
        (!columns.is_empty()).then(|| columns.join(", "))
    };
    format!(
        "SELECT {} FROM {} CROSS JOIN LATERAL (SELECT {}::real[] AS e) AS embedding WHERE {condition};",
        key(&column.table).unwrap_or_else(|| "ctid".into()),
        column.table.sql(),
        quote_identifier(&column.column)
    )
}

fn unreadable(input: &Input<'_>) -> Vec<Finding> {
    let failed = input
        .found
        .embeddings
        .iter()
        .filter_map(|found| Some((&found.column, found.counted.as_ref().err()?)));
    let application = input.found.application.as_ref().map(|application| &application.profile);
    let image = application
        .and_then(|profile| Some(format!(" (for {}: {})", profile.name, profile.legacy_image.as_ref()?)));
    let image = image.unwrap_or_default();
    let finding = |(column, words): (&VectorColumn, &String)| {
        let is_library = words.contains("could not access file");
        blocking(
            "embeddings-unreadable",
            format!("the source cannot read the embeddings of {}", name(column)),
            words,
            if is_library {
                format!(
                    "start the source with an image that has the type's library{image}; or drop the column, if the \
                     application can compute its content again"
                )
            } else {
                "`pgmove check --deep` names the rows that cannot be read; delete them, if the application can compute them \
                 again"
                    .to_owned()
            },
        )
    };
    failed.map(finding).collect()
}

fn not_finite(input: &Input<'_>) -> Vec<Finding> {
    let held: Vec<_> = counted(input).filter(|(_, counted)| counted.not_finite > 0).collect();
    let Some((first, _)) = held.first() else { return vec![] };
    vec![blocking(
        "embedding-not-finite",
        "embeddings hold NaN, infinity or NULL, which pgvector refuses",
        few(held.iter().map(|(column, counted)| {
            let [bad, all] = [counted.not_finite, counted.rows].map(|count| number(count.unsigned_abs()));
            format!("{}: {bad} of {all} rows", name(column))
        })),
        format!(
            "on the source, look at them: {} and delete these rows, so that the application computes them again",
            look(input, first, NOT_FINITE)
        ),
    )]
}

/// pgvecto.rs does not hold its columns to their dimensions; pgvector does.
fn other_dimensions(input: &Input<'_>) -> Vec<Finding> {
    let differs = |column: &VectorColumn, counted: &Counted| {
        let declared = i32::try_from(column.dimensions?).ok()?;
        let (least, most) = counted.dimensions.filter(|found| *found != (declared, declared))?;
        Some((declared, least, most))
    };
    let held: Vec<_> =
        counted(input).filter_map(|(column, counted)| Some((column, differs(column, &counted)?))).collect();
    let Some((first, (declared, ..))) = held.first() else { return vec![] };
    vec![blocking(
        "embedding-dimensions",
        "embeddings have other dimensions than their column declares, and pgvector refuses them",
        few(held.iter().map(|(column, (declared, least, most))| {
            format!("{}: declared {declared}, found {least} to {most}", name(column))
        })),
        format!(
            "on the source, look at them: {} and delete these rows, so that the application computes them again",
            look(input, first, &format!("cardinality(e) <> {declared}"))
        ),
    )]
}

fn mixed_dimensions(input: &Input<'_>) -> Vec<Finding> {
    let mixed: Vec<String> = counted(input)
        .filter(|(column, _)| column.dimensions.is_none())
        .filter_map(|(column, counted)| {
            let (least, most) = counted.dimensions.filter(|(least, most)| least < most)?;
            Some(format!("{}: {least} to {most}", name(column)))
        })
        .collect();
    if mixed.is_empty() {
        return vec![];
    }
    vec![note(
        "embedding-dimensions-mixed",
        "columns that declare no dimensions hold embeddings of several",
        few(mixed),
        "none: they are moved as they are; only an index over such a column wants one number of dimensions",
    )]
}
