//! Which index a vector column gets on the target. Pure.
//!
//! An application may recognise its indexes by their text and by the number of lists, as Immich does, and rebuild them
//! before it serves requests if they do not match. So those get exactly its statement and its rule for `lists`, which
//! stand in its profile ([`crate::profile`]). Other `vchordrq` indexes follow VectorChord's own
//! recommendation (<https://docs.vectorchord.ai/vectorchord/usage/indexing.html>), but for `lists = []`,
//! which fails as soon as a session sets `vchordrq.probes`: `[1]` takes its place.

use crate::pg::{QualifiedName, quote_identifier, quote_literal};
use crate::plan::{VectorIndexChoice, VectorIndexPlan};
use crate::profile::{Hnsw, Vchordrq, VectorIndexes};
use crate::schema::IndexStatement;
use crate::schema::rewrite::VectorIndex;

/// What is known of an index when its fate is decided.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The source's statement.
    pub statement: &'a IndexStatement,
    /// Rows of its table.
    pub rows: u64,
    /// The column's dimensions, 0 if they are not declared.
    pub dimensions: u32,
    /// What was asked for.
    pub choice: VectorIndexChoice,
    /// How the application that knows the index makes it.
    pub application: Option<&'a VectorIndexes>,
    /// Whether the target offers VectorChord.
    pub offers_vchord: bool,
    /// The schema of `vector` on the target.
    pub vector_schema: &'a str,
    /// The schema of `vchord` on the target; its operator classes are there.
    pub vchord_schema: &'a str,
}

/// The access methods whose indexes hold vectors.
pub fn is_vector_method(access_method: &str) -> bool {
    ["vectors", "hnsw", "ivfflat", "vchordrq", "vchordg"].contains(&access_method)
}

/// How the index is built: the rewrite, or `None` where it is kept; and what is then known of it, or `None`
/// for a kind that pgmove carries over without knowing how to query it.
pub fn decide(facts: &Facts<'_>) -> (Option<VectorIndex>, Option<VectorIndexPlan>) {
    let statement = facts.statement;
    let [column] = statement.columns.as_slice() else { return (None, None) };
    let Some(class) = column.operator_class().and_then(|name| Class::parse(&name)) else {
        return (None, None);
    };
    let from = statement.access_method.as_str();
    let own = facts.application.and_then(|application| application.vchordrq.as_ref());
    let to = match facts.choice {
        VectorIndexChoice::Vchordrq => "vchordrq",
        VectorIndexChoice::Hnsw => "hnsw",
        VectorIndexChoice::Auto if facts.offers_vchord && (from == "vectors" || own.is_some()) => "vchordrq",
        VectorIndexChoice::Auto | VectorIndexChoice::Keep if from == "vectors" => "hnsw",
        VectorIndexChoice::Auto | VectorIndexChoice::Keep => from,
    };
    let is_kept =
        to == from && !(to == "vchordrq" && own.is_some() && facts.choice != VectorIndexChoice::Keep);
    let (options, lists) = match to {
        _ if is_kept => {
            (statement.options.clone(), lists_of(statement.options.as_deref().unwrap_or_default()))
        }
        "vchordrq" => {
            let (text, lists) = vchordrq_options(own, facts.rows, class.distance);
            (Some(format!("options = {}", quote_literal(&text).trim_start())), vec![lists])
        }
        _ => (Some(hnsw_options(facts)), vec![]),
    };
    let schema = if to == "vchordrq" { facts.vchord_schema } else { facts.vector_schema };
    let rewrite = (!is_kept).then(|| VectorIndex {
        access_method: to.to_owned(),
        operator_class: format!("{}.{}", quote_identifier(schema), class.name()),
        options,
    });
    let plan = VectorIndexPlan {
        index: QualifiedName::new(&statement.table.schema, &statement.name),
        table: statement.table.clone(),
        column: column.expression.trim_matches('"').replace("\"\"", "\""),
        access_method: to.to_owned(),
        operator: class.distance.operator().to_owned(),
        list_levels: lists.len(),
        lists: lists.last().copied().unwrap_or(0),
        expected_lists: own
            .filter(|_| to == "vchordrq")
            .map(|own| own.expected_lists(facts.rows))
            .unwrap_or_default(),
        memory: build_memory(to, lists.last().copied().unwrap_or(0), facts),
    };
    (rewrite, Some(plan))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Distance {
    L2,
    InnerProduct,
    Cosine,
}

impl Distance {
    fn operator(self) -> &'static str {
        match self {
            Distance::L2 => "<->",
            Distance::InnerProduct => "<#>",
            Distance::Cosine => "<=>",
        }
    }
}

struct Class {
    kind: &'static str,
    distance: Distance,
}

impl Class {
    /// pgvecto.rs says `dot` and `cos` where pgvector says `ip` and `cosine`.
    fn parse(name: &str) -> Option<Class> {
        let (kind, distance) = name.strip_suffix("_ops")?.split_once('_')?;
        let kind = match kind {
            "vector" => "vector",
            "halfvec" => "halfvec",
            _ => return None,
        };
        let distance = match distance {
            "l2" => Distance::L2,
            "ip" | "dot" => Distance::InnerProduct,
            "cosine" | "cos" => Distance::Cosine,
            _ => return None,
        };
        Some(Class { kind, distance })
    }

    fn name(&self) -> String {
        let distance = match self.distance {
            Distance::L2 => "l2",
            Distance::InnerProduct => "ip",
            Distance::Cosine => "cosine",
        };
        format!("{}_{distance}_ops", self.kind)
    }
}

/// VectorChord's recommendation.
pub fn recommended_lists(rows: u64) -> u64 {
    match rows {
        0..100_000 => 1,
        100_000..2_000_000 => rows / 500,
        2_000_000..50_000_000 => 4 * rows.isqrt(),
        _ => 8 * rows.isqrt(),
    }
}

/// Threads for k-means, as Immich has them.
const BUILD_THREADS: u64 = 4;

/// VectorChord's own, which k-means samples a list by.
const SAMPLING_FACTOR: u64 = 256;

fn vchordrq_options(own: Option<&Vchordrq>, rows: u64, distance: Distance) -> (String, u64) {
    if let Some(own) = own {
        let lists = own.lists(rows);
        return (own.options.replace("{lists}", &lists.to_string()), lists);
    }
    let lists = recommended_lists(rows);
    let is_l2 = distance == Distance::L2;
    let text = format!(
        "residual_quantization = {is_l2}\n[build.internal]\nlists = [{lists}]\nspherical_centroids = {}\n\
         build_threads = {BUILD_THREADS}\n",
        !is_l2
    );
    (text, lists)
}

/// The source's `m` and `ef_construction` where it names them, the application's own, else pgvector's defaults.
fn hnsw_options(facts: &Facts<'_>) -> String {
    let options = facts.statement.options.as_deref().unwrap_or_default();
    let own = facts.application.and_then(|application| application.hnsw);
    let Hnsw { m, ef_construction } = own.unwrap_or(Hnsw { m: 16, ef_construction: 64 });
    format!(
        "m = {}, ef_construction = {}",
        number_of(options, "m").unwrap_or(m),
        number_of(options, "ef_construction").unwrap_or(ef_construction)
    )
}

/// The number after `name =` in TOML or in reloptions (`m='16'`).
fn number_of(options: &str, name: &str) -> Option<u64> {
    options
        .split(|c: char| c.is_whitespace() || c == ',')
        .collect::<Vec<_>>()
        .join(" ")
        .replace('=', " = ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .windows(3)
        .find(|words| words[0].trim_start_matches('\'') == name && words[1] == "=")
        .and_then(|words| words[2].trim_matches('\'').parse().ok())
}

/// The numbers of `lists = [a, b]`.
fn lists_of(options: &str) -> Vec<u64> {
    let Some((_, after)) = options.split_once("lists") else { return vec![] };
    let Some((_, after)) = after.split_once('[') else { return vec![] };
    let Some((inside, _)) = after.split_once(']') else { return vec![] };
    inside.split(',').filter_map(|number| number.trim().parse().ok()).collect()
}

/// What the build takes beside (vchordrq: k-means samples) or as (hnsw: the graph) `maintenance_work_mem`.
fn build_memory(access_method: &str, lists: u64, facts: &Facts<'_>) -> u64 {
    let dimensions = u64::from(facts.dimensions.max(1));
    match access_method {
        // VectorChord's own estimate, 4 * lists * dim * (1 + threads + sampling_factor).
        "vchordrq" => {
            let own = facts.application.and_then(|application| application.vchordrq.as_ref());
            let named = |name| own.and_then(|own| number_of(&own.options, name));
            let threads = named("build_threads").unwrap_or(BUILD_THREADS);
            let sampling = named("sampling_factor").unwrap_or(SAMPLING_FACTOR);
            4 * lists * dimensions * (1 + threads + sampling)
        }
        _ => 0,
    }
}

/// `maintenance_work_mem` that keeps an `hnsw` graph in memory: the vector, and about twice `m` neighbours of
/// 16 bytes with their overhead.
pub fn hnsw_graph(rows: u64, dimensions: u32, options: &str) -> u64 {
    let m = number_of(options, "m").unwrap_or(16);
    rows.saturating_mul(4 * u64::from(dimensions) + 48 * m + 128)
}

/// What such an index takes on disk at most: pages hold whole entries, so one of more than half a page has one for itself.
pub fn hnsw_bytes(rows: u64, dimensions: u32) -> u64 {
    const PAGE: u64 = 8192;
    let entry = hnsw_graph(1, dimensions, "");
    rows.div_ceil((PAGE / entry).max(1)).saturating_mul(entry.div_ceil(PAGE) * PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::index_statement;

    fn facts(statement: &IndexStatement, rows: u64) -> Facts<'_> {
        Facts {
            statement,
            rows,
            dimensions: 512,
            choice: VectorIndexChoice::Auto,
            application: crate::profile::vector_index(&statement.table.name, &statement.name),
            offers_vchord: true,
            vector_schema: "public",
            vchord_schema: "public",
        }
    }

    fn decided(
        sql: &str,
        rows: u64,
        choice: VectorIndexChoice,
        offers_vchord: bool,
    ) -> (String, Option<VectorIndexPlan>) {
        let statement = index_statement(sql).expect("an index");
        let (rewrite, plan) = decide(&Facts { choice, offers_vchord, ..facts(&statement, rows) });
        let text = rewrite.map_or_else(
            || sql.to_owned(),
            |to| {
                statement
                    .with_method(&to.access_method, &to.operator_class, to.options.as_deref())
                    .expect("one column")
            },
        );
        (text, plan)
    }

    const LEGACY: &str = "CREATE INDEX clip_index ON public.smart_search USING vectors (embedding vectors.vector_cos_ops) \
        WITH (options='[indexing.hnsw]\nm = 16\nef_construction = 300')";

    #[test]
    fn an_index_takes_whole_pages_for_its_entries() {
        // Two of 512 dimensions to a page, one of 1152.
        assert_eq!(hnsw_bytes(1001, 512), 501 * 8192);
        assert_eq!(hnsw_bytes(1001, 1152), 1001 * 8192);
        assert_eq!(hnsw_bytes(10, 4000), 10 * 3 * 8192);
    }

    #[test]
    fn immich_gets_its_own_statement() {
        let (text, plan) = decided(LEGACY, 300_000, VectorIndexChoice::Auto, true);
        assert_eq!(
            text,
            "CREATE INDEX \"clip_index\" ON \"public\".\"smart_search\" USING vchordrq (embedding \"public\".vector_cosine_ops) \
             WITH (options = '\n        residual_quantization = false\n        [build.internal]\n        lists = [512]\n        \
             spherical_centroids = true\n        build_threads = 4\n        sampling_factor = 1024\n        ')"
        );
        let plan = plan.expect("known");
        assert_eq!((plan.operator.as_str(), plan.lists, plan.list_levels), ("<=>", 512, 1));
        // 1.0 GiB in the table of shared facts.
        assert_eq!(plan.memory / (1 << 20), 1029);
    }

    /// Of an application that is not built in, by its profile alone.
    #[test]
    fn another_application_gets_its_own_numbers() {
        let tiny = crate::profile::tiny();
        let sql = "CREATE INDEX book_idx ON public.book USING vectors (embedding vectors.vector_l2_ops)";
        let statement = index_statement(sql).expect("an index");
        let facts = Facts { application: tiny.vector_indexes.first(), ..facts(&statement, 10) };
        let (rewrite, plan) = decide(&Facts { offers_vchord: false, ..facts });
        let options = rewrite.and_then(|rewrite| rewrite.options);
        assert_eq!(options.as_deref(), Some("m = 8, ef_construction = 32"));
        assert_eq!(plan.map(|plan| plan.expected_lists), Some(vec![]));
        let (rewrite, _) = decide(&facts);
        let options = rewrite.and_then(|rewrite| rewrite.options).unwrap_or_default();
        assert!(options.contains("residual_quantization = true"), "VectorChord's own: {options}");
    }

    #[test]
    fn what_immich_takes_of_a_kept_index_is_known() {
        let sql = "CREATE INDEX clip_index ON public.smart_search USING vchordrq (embedding public.vector_cosine_ops) \
            WITH (options='[build.internal]\nlists = [1]\n')";
        let (text, plan) = decided(sql, 220_000, VectorIndexChoice::Keep, true);
        let plan = plan.expect("known");
        assert_eq!((text.as_str(), plan.lists, plan.expected_lists), (sql, 1, vec![256, 512]));
    }

    #[test]
    fn without_vchord_a_legacy_index_becomes_hnsw_with_its_own_numbers() {
        let (text, plan) = decided(LEGACY, 10, VectorIndexChoice::Auto, false);
        assert!(
            text.ends_with(
                "USING hnsw (embedding \"public\".vector_cosine_ops) WITH (m = 16, ef_construction = 300)"
            ),
            "{text}"
        );
        assert_eq!(plan.map(|plan| plan.access_method).as_deref(), Some("hnsw"));
    }

    #[test]
    fn other_indexes_are_kept_unless_asked() {
        let sql = "CREATE INDEX i ON public.t USING hnsw (e public.vector_l2_ops) WITH (m='8')";
        assert_eq!(decided(sql, 1000, VectorIndexChoice::Auto, true).0, sql);
        assert_eq!(decided(sql, 1000, VectorIndexChoice::Keep, true).0, sql);
        let (text, plan) = decided(sql, 200_000, VectorIndexChoice::Vchordrq, true);
        assert!(text.contains("lists = [400]") && text.contains("residual_quantization = true"), "{text}");
        assert_eq!(plan.map(|plan| plan.lists), Some(400));
        let bit = "CREATE INDEX i ON public.t USING hnsw (e public.bit_hamming_ops)";
        assert_eq!(decided(bit, 1000, VectorIndexChoice::Vchordrq, true), (bit.to_owned(), None));
    }

    #[test]
    fn a_kept_vchordrq_index_tells_its_lists() {
        let sql = "CREATE INDEX i ON public.t USING vchordrq (e public.vector_l2_ops) WITH (options='[build.internal]\nlists = [10, 1000]\n')";
        let (_, plan) = decided(sql, 10, VectorIndexChoice::Auto, true);
        assert_eq!(plan.map(|plan| (plan.list_levels, plan.lists)), Some((2, 1000)));
    }
}
