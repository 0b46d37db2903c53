//! Whether the target's vector indexes answer queries, and how well.
//!
//! Vector indexes cannot be compared byte by byte: they are built anew, with random parts. So each is used:
//! stored rows serve as queries, the plan of a nearest-neighbour query must use the index, and what it finds is
//! held against an exact search of the same rows. Neighbours are compared by their distance, so that one of two
//! equally near rows is as good as the other. A low recall is told and no difference: it is the index's own trade.

use tokio_postgres::Row;

use crate::catalog::{Catalog, Index};
use crate::pg::{Access, Endpoint, QualifiedName, Session, SessionError, describe, display_identifier};
use crate::plan::vector::is_vector_method;
use crate::schema::index_statement;
use crate::verify::{Aspect, Comparison, Outcome, VectorSearchResult, VerifyError, is_passing};

/// How many stored rows are used as queries.
const SAMPLE: i64 = 20;

/// How many neighbours a query asks for.
const NEIGHBOURS: usize = 10;

/// Below this part of the nearest rows a person is told.
const GOOD_RECALL: f64 = 0.9;

/// An index that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Searched {
    name: QualifiedName,
    table: QualifiedName,
    /// The indexed column or expression, as SQL.
    expression: String,
    /// For a partial index, its condition.
    predicate: Option<String>,
    operator: &'static str,
    /// Sets what a query of this access method needs.
    settings: Vec<String>,
}

/// Asks every vector index of the target.
pub async fn compare(
    target: &Endpoint,
    catalog: &Catalog,
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let indexes: Vec<&Index> = catalog
        .indexes
        .iter()
        // A partitioned index has no storage: those of the partitions are asked.
        .filter(|index| is_vector_method(&index.access_method) && !index.is_partitioned)
        .collect();
    if indexes.is_empty() {
        return Ok(());
    }
    let session = Session::open(target, Access::Read, &search_path(catalog)).await?;
    for index in indexes {
        let outcome = match searched(index) {
            None => {
                Outcome::not_compared(format!("{} is not an index that pgmove can ask", index.definition))
            }
            Some(searched) => ask(&session, &searched, comparison).await?,
        };
        comparison.push(format!("index {}", index.name), Aspect::VectorSearch, outcome);
    }
    session.close().await;
    Ok(())
}

/// The operators stand in the schemas of these extensions.
fn search_path(catalog: &Catalog) -> String {
    let schemas = catalog
        .extensions
        .iter()
        .filter(|extension| ["vector", "vchord"].contains(&extension.name.as_str()))
        .map(|extension| crate::pg::quote_identifier(&extension.schema));
    std::iter::once("pg_catalog".to_owned()).chain(schemas).collect::<Vec<_>>().join(", ")
}

fn searched(index: &Index) -> Option<Searched> {
    let statement = index_statement(&index.definition)?;
    let ([column], [key]) = (statement.columns.as_slice(), index.keys.as_slice()) else { return None };
    let lists = lists(&index.options);
    let settings = match index.access_method.as_str() {
        // One entry a level; an eighth of the lists is what Immich asks for.
        "vchordrq" => {
            let probes: Vec<String> = lists.iter().map(|lists| lists.div_ceil(8).to_string()).collect();
            vec![format!("SET LOCAL vchordrq.probes = '{}'", probes.join(","))]
        }
        "ivfflat" => {
            // pgvector's own advice; it builds 100 lists unless told otherwise.
            let lists = lists.first().copied().unwrap_or(100);
            vec![format!("SET LOCAL ivfflat.probes = {}", lists.isqrt().max(1))]
        }
        _ => vec![],
    };
    Some(Searched {
        name: index.name.clone(),
        table: index.table.clone(),
        expression: column.expression.clone(),
        predicate: statement.predicate.clone(),
        operator: operator(&key.operator_class.name)?,
        settings,
    })
}

/// The operator that an operator class of pgvector or VectorChord orders by.
fn operator(class: &str) -> Option<&'static str> {
    let (_, distance) = class.strip_suffix("_ops")?.rsplit_once('_')?;
    Some(match distance {
        "l2" => "<->",
        "ip" => "<#>",
        "cosine" => "<=>",
        "l1" => "<+>",
        "hamming" => "<~>",
        "jaccard" => "<%>",
        _ => return None,
    })
}

/// The numbers of lists, by level: `lists=100` of ivfflat, `lists = [100, 10000]` in the options of vchordrq.
fn lists(options: &[String]) -> Vec<u64> {
    let text = options.join("\n");
    let Some((_, after)) = text.split_once("lists") else { return vec![] };
    let value = after.trim_start().strip_prefix('=').unwrap_or_default().trim_start();
    let (value, end): (_, &[char]) = match value.strip_prefix('[') {
        Some(inside) => (inside, &[']']),
        None => (value, &['\n', ',', '#']),
    };
    let value = value.split(end).next().unwrap_or_default();
    value.split(',').filter_map(|number| number.trim().parse().ok()).collect()
}

/// Uses the index. What the server says against it is a difference: queries of the application would fail too.
async fn ask(
    session: &Session,
    index: &Searched,
    comparison: &mut Comparison,
) -> Result<Outcome, VerifyError> {
    let result = measure(session, index).await;
    // Whatever it was, the next index begins anew.
    session.run("ROLLBACK", "end the queries").await?;
    let result = match result {
        Ok(result) => result,
        Err(error) if is_passing(&error) => return Err(error.into()),
        Err(SessionError::Statement { error, .. }) if error.code().is_some() => {
            return Ok(Outcome::different(format!("a nearest-neighbour query fails: {}", describe(&error))));
        }
        Err(error) => return Err(error.into()),
    };
    let outcome = match result.recall_at_10 {
        _ if !result.is_used && result.plan.contains("Index Scan using ") => {
            Outcome::not_compared("queries prefer another index of the same table")
        }
        _ if !result.is_used => Outcome::different("a nearest-neighbour query does not use the index"),
        Some(recall) if recall < GOOD_RECALL => Outcome::as_planned(format!(
            "it finds {:.0} % of the ten nearest rows ({} queries); more lists, probes or ef_search find more",
            recall * 100.0,
            result.sample
        )),
        _ => Outcome::Equal,
    };
    comparison.vector_search.push(result);
    Ok(outcome)
}

async fn measure(session: &Session, index: &Searched) -> Result<VectorSearchResult, SessionError> {
    let what = || format!("ask index {}", index.name);
    let begin = ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"].into_iter();
    let begin = begin.chain(index.settings.iter().map(String::as_str)).collect::<Vec<_>>().join("; ");
    session.run(&begin, what()).await?;
    let rows = query(session, &index.sample(), what).await?;
    let sample: Vec<String> = rows.iter().map(|row| row.get(0)).collect();

    // Small tables are cheaper to scan, and that says nothing about the index.
    session.run("SET LOCAL enable_seqscan = off", what()).await?;
    let no_row = "(0,0)".to_owned();
    let explain = format!("EXPLAIN (COSTS OFF) {}", index.nearest(sample.first().unwrap_or(&no_row)));
    let plan: Vec<String> = query(session, &explain, what).await?.iter().map(|row| row.get(0)).collect();
    let names = [index.name.name.clone(), display_identifier(&index.name.name)];
    let is_used =
        names.iter().any(|name| plan.iter().any(|line| line.contains(&format!("using {name} on "))));

    let mut found = Vec::new();
    for row in &sample {
        found.push(distances(&query(session, &index.nearest(row), what).await?));
    }
    // Any ordered scan of vchordrq looks cheap to the planner, so it is switched off by its own setting too.
    session.run("SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off", what()).await?;
    if index.settings.iter().any(|setting| setting.contains("vchordrq")) {
        session.run("SET LOCAL vchordrq.enable_scan = off", what()).await?;
    }
    let mut exact = Vec::new();
    for row in &sample {
        exact.push(distances(&query(session, &index.nearest(row), what).await?));
    }
    Ok(VectorSearchResult {
        index: index.name.to_string(),
        plan: plan.join("\n"),
        is_used,
        recall_at_10: recall(&found, &exact),
        sample: sample.len(),
    })
}

async fn query(session: &Session, text: &str, what: impl Fn() -> String) -> Result<Vec<Row>, SessionError> {
    session.client.query(text, &[]).await.map_err(|error| session.failed(what(), error))
}

impl Searched {
    /// Which rows the index holds. An expression may fail outside a partial index's condition, so it must not
    /// be computed before that.
    fn condition(&self) -> String {
        let has_value = format!("{} IS NOT NULL", self.expression);
        self.predicate.as_ref().map_or(has_value.clone(), |predicate| {
            format!("({predicate}) AND CASE WHEN ({predicate}) THEN {has_value} END")
        })
    }

    /// The places of the sample's rows: always the same ones of the same table.
    fn sample(&self) -> String {
        format!(
            "SELECT ctid::text FROM ONLY {} WHERE {} ORDER BY md5(ctid::text) LIMIT {SAMPLE}",
            self.table.sql(),
            self.condition()
        )
    }

    /// The distances of the rows that are nearest to a stored one, which is among them.
    fn nearest(&self, row: &str) -> String {
        let Searched { expression, operator, .. } = self;
        let table = self.table.sql();
        // The index holds no NULL, so that rows without a vector are no neighbours.
        let distance =
            format!("{expression} {operator} (SELECT {expression} FROM ONLY {table} WHERE ctid = '{row}')");
        format!(
            "SELECT ({distance})::float8 FROM ONLY {table} WHERE {} \
             ORDER BY {distance} LIMIT {NEIGHBOURS}",
            self.condition()
        )
    }
}

/// Distances, in the order in which they came. A row without one (the cosine of a zero vector is NaN) is far.
fn distances(rows: &[Row]) -> Vec<f64> {
    rows.iter()
        .map(|row| row.get::<_, Option<f64>>(0).filter(|it| !it.is_nan()).unwrap_or(f64::INFINITY))
        .collect()
}

/// The part of the exact neighbours that were found: those not farther than the farthest exact one.
fn recall(found: &[Vec<f64>], exact: &[Vec<f64>]) -> Option<f64> {
    let mut counts = [0_u32; 2];
    for (found, exact) in found.iter().zip(exact) {
        let Some(farthest) = exact.iter().copied().reduce(f64::max) else { continue };
        // The same distance may differ in its last bits: by an index that keeps its vectors in another form.
        let limit = farthest + farthest.abs() * 1e-6 + 1e-9;
        let hits = found.iter().filter(|distance| **distance <= limit).count().min(exact.len());
        counts[0] += u32::try_from(hits).unwrap_or(u32::MAX);
        counts[1] += u32::try_from(exact.len()).unwrap_or(u32::MAX);
    }
    (counts[1] > 0).then(|| f64::from(counts[0]) / f64::from(counts[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_from_either_form() {
        let of = |text: &str| lists(&[text.to_owned()]);
        assert_eq!(of("lists=100"), [100]);
        assert_eq!(of("options=\nresidual = true\n[build.internal]\nlists = [16, 256]\nx = [1]"), [16, 256]);
        assert_eq!(of("options=lists = []"), [0; 0]);
        assert_eq!(lists(&["m=16".to_owned()]), [0; 0]);
    }

    #[test]
    fn classes_have_their_operator() {
        assert_eq!(operator("vector_cosine_ops"), Some("<=>"));
        assert_eq!(operator("halfvec_l2_ops"), Some("<->"));
        assert_eq!(operator("text_ops"), None);
    }

    #[test]
    fn ties_are_no_misses() {
        let exact = [vec![0.0, 1.0, 1.0]];
        assert_eq!(recall(&[vec![0.0, 1.0, 1.0]], &exact), Some(1.0));
        assert_eq!(recall(&[vec![0.0, 1.0, 2.0]], &[vec![0.0, 1.0, 1.5]]), Some(2.0 / 3.0));
        assert_eq!(recall(&[vec![0.0]], &[vec![0.0, 1.0]]), Some(0.5));
        assert_eq!(recall(&[], &[]), None);
    }
}
