//! What the tests of the report show: a small photo library on its way.

mod reports;

use std::collections::BTreeSet;

use crate::catalog::DatabaseIdentity;
use crate::error::{Class, Error, Exit, Fault};
use crate::event::{Event, ExtensionVersions, Stage};
use crate::pg::{Oid, QualifiedName};
use crate::plan::columns::{ColumnPlan, Treatment};
use crate::plan::document::{Document, Estimate, Place, VERSION};
use crate::plan::{
    Chunk, LargeObjectBatch, LockMode, NotCarried, Phase, Plan, Route, Step, TablePlan, VectorIndexChoice,
    VectorIndexPlan,
};
use crate::preflight::{Finding, Severity};
use crate::report::progress::{StageTiming, TableTiming, Timings};
use crate::report::text::Page;
use crate::report::verdict::Scope;
use crate::schema::rewrite::{Owners, Roles};
use crate::schema::{Change, Rewrite};
use crate::settings::Choices;
use crate::verify::{Aspect, Comparison, Outcome, TableResult, VectorSearchResult};

pub(crate) use reports::{rehearsal, report, stopped};

pub(super) const PAGE: Page = Page { width: 100, is_coloured: false };

pub(super) fn findings() -> Vec<Finding> {
    let finding = |id, severity, title: &str, evidence: &str, remedy: &str| Finding {
        id,
        severity,
        title: title.into(),
        evidence: evidence.into(),
        objects: vec![],
        remedy: remedy.into(),
    };
    vec![
        finding(
            "source-has-writers",
            Severity::Warning,
            "the source can be written while it is copied",
            "2 sessions of role immich are connected: process 812 from 10.42.0.7, process 813 from 10.42.0.7; both were active within the last second",
            "stop the application, or let pgmove refuse writes with --fence",
        ),
        finding(
            "target-not-empty",
            Severity::Blocking,
            "the target app holds objects",
            "3 tables in schema public: asset, person, evil\x1b]0;name\x07",
            "drop them, or name the database:\n--replace app",
        ),
    ]
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(&'static str, #[source] Option<Box<Broken>>);

impl Fault for Broken {
    fn class(&self) -> Class {
        Class::Target
    }

    fn hint(&self) -> Option<String> {
        Some("give the target's volume more room, then go on with --resume".into())
    }
}

pub(super) fn error() -> Error {
    let disk = Broken(
        "ERROR: could not extend file \"base/16384/24601\": No space left on device (SQLSTATE 53100)",
        None,
    );
    let stream = Broken("the target ended the stream", Some(Box::new(disk)));
    let lane = Broken("could not copy public.asset, chunk 3 of 17", Some(Box::new(stream)));
    Error::new(Exit::Resumable, lane)
}

fn compared(target_rows: u64, target_sum: &str) -> Comparison {
    let mut comparison = Comparison::default();
    for (table, rows, sum) in [
        ("public.asset", [100_000, target_rows], target_sum),
        ("public.smart_search", [99_871; 2], "51f0"),
        ("public.\"user\"", [4; 2], "9c1e"),
    ] {
        let whole = |prefix: &str| format!("{prefix}{}", "0123456789abcdef".repeat(2));
        let source = if table == "public.asset" { "77ab" } else { sum };
        comparison.tables.push(TableResult {
            table: table.into(),
            rows,
            checksums: Some([whole(source), whole(sum)]),
        });
    }
    comparison.push("public.smart_search", Aspect::Rows, Outcome::Equal);
    comparison.push("public.\"user\"", Aspect::Rows, Outcome::Equal);
    for sequence in ["public.audit_id_seq", "public.migrations_id_seq"] {
        comparison.push(sequence, Aspect::Sequence, Outcome::Equal);
    }
    for object in ["TABLE public.asset", "FUNCTION public.updated_at()"] {
        comparison.push(object, Aspect::Schema, Outcome::Equal);
    }
    let detail = "rewrite vector index: hnsw became vchordrq".to_owned();
    comparison.push("INDEX public.clip_index", Aspect::Schema, Outcome::AsPlanned { detail });
    comparison.push("large objects", Aspect::LargeObjects, Outcome::Equal);
    comparison.vector_search.push(VectorSearchResult {
        index: "public.clip_index".into(),
        plan: "Limit\n  ->  Index Scan using clip_index on smart_search".into(),
        is_used: true,
        recall_at_10: Some(0.9831),
        sample: 50,
    });
    comparison.push("public.clip_index", Aspect::VectorSearch, Outcome::Equal);
    comparison
}

pub(super) fn equal() -> Comparison {
    let mut comparison = compared(100_000, "77ab");
    comparison.push("public.asset", Aspect::Rows, Outcome::Equal);
    comparison
}

pub(super) fn different() -> Comparison {
    let mut comparison = compared(99_999, "0bad");
    let detail = "1 row is missing on the target".to_owned();
    let rows = vec!["id = 6b1f6c9e-1d6e-4c1b-8a50-0f2f4a3f9f3e".to_owned()];
    comparison.push("public.asset", Aspect::Rows, Outcome::Different { detail, rows });
    let reason = "the target's role may not read it".to_owned();
    comparison.push("statistics of public.asset", Aspect::Setting, Outcome::NotCompared { reason });
    comparison
}

pub(super) fn counted() -> Comparison {
    let mut comparison = Comparison::default();
    for (table, rows) in [("public.asset", 100_000), ("public.person", 12)] {
        comparison.tables.push(TableResult { table: table.into(), rows: [rows; 2], checksums: None });
        let reason = "only its rows were counted, as asked".to_owned();
        comparison.push(table, Aspect::Rows, Outcome::NotCompared { reason });
    }
    comparison.push("public.audit_id_seq", Aspect::Sequence, Outcome::Equal);
    comparison
}

pub(super) fn scope() -> Scope {
    Scope { as_of: "2026-11-23T02:14:09Z".parse().ok(), large_objects: 12 }
}

pub(super) fn timings() -> Timings {
    let stage = |stage, seconds, items, rows, bytes| StageTiming {
        stage,
        seconds,
        is_finished: true,
        items,
        tables: 0,
        rows,
        bytes,
        retries: u64::from(stage == Stage::Copy),
    };
    let table =
        |rows, bytes, copy_seconds| TableTiming { rows, bytes, copy_seconds, ..TableTiming::default() };
    Timings {
        stages: vec![
            stage(Stage::Check, 0.31, 0, 0, 0),
            stage(Stage::Schema, 0.92, 214, 0, 0),
            stage(Stage::Copy, 4.08, 43, 199_875, 312_400_000),
            stage(Stage::Indexes, 71.4, 26, 0, 0),
            stage(Stage::Finish, 0.05, 18, 0, 0),
            stage(Stage::Verify, 3.3, 43, 199_875, 312_400_000),
        ],
        tables: [
            ("public.asset".to_owned(), table(100_000, 102_300_000, 2.2)),
            ("public.smart_search".to_owned(), table(99_871, 210_000_000, 3.9)),
            ("public.\"user\"".to_owned(), table(4, 1200, 0.004)),
        ]
        .into(),
    }
}

fn table(name: &str, bytes: u64, chunks: usize, treatment: Treatment) -> TablePlan {
    TablePlan {
        name: QualifiedName::new("public", name),
        columns: vec![ColumnPlan { name: "value".into(), treatment }],
        generated: vec![],
        key: vec!["id".into()],
        condition: None,
        is_unlogged: false,
        bytes,
        heap_bytes: bytes,
        estimated_rows: (name != "person").then_some(bytes / 1000),
        chunks: vec![Chunk::WHOLE; chunks],
    }
}

fn rewrites(create: &str) -> Vec<Change> {
    let change = |rewrite, object: &str, before: &str, after: Option<&str>, reason: &str| Change {
        rewrite,
        entry: 7,
        object: object.into(),
        before: before.into(),
        after: after.map(Into::into),
        reason: reason.into(),
    };
    let mut rewrites: Vec<Change> = ["asset", "person", "user", "face", "audit"]
        .iter()
        .map(|name| {
            let (before, after) = (
                format!("ALTER TABLE public.{name} OWNER TO postgres"),
                format!("ALTER TABLE public.{name} OWNER TO app"),
            );
            change(
                Rewrite::Owner,
                &format!("TABLE public.{name}"),
                &before,
                Some(&after),
                "the target has no role postgres for it",
            )
        })
        .collect();
    rewrites.push(change(
        Rewrite::VectorIndex,
        "INDEX public.clip_index",
        "CREATE INDEX clip_index ON public.smart_search USING vectors (embedding vectors.vector_cos_ops)",
        Some(create),
        "Immich's own index on VectorChord",
    ));
    rewrites.push(change(
        Rewrite::LegacySchema,
        "SCHEMA vectors",
        "CREATE SCHEMA vectors",
        None,
        "it belongs to pgvecto.rs, which stays behind",
    ));
    rewrites
}

pub(crate) fn plan() -> Plan {
    let step = |id, object: &str, phase, route, statement: &str| Step {
        id,
        object: object.into(),
        phase,
        route,
        needs: vec![],
        statements: vec![statement.into()],
        may_hold_secrets: false,
        masked_digest: None,
        extension: None,
        maintenance_work_mem: 0,
        vector_index: None,
    };
    let build = |table| Phase::Build { table: Some(table), lock: LockMode::Share };
    let clip = VectorIndexPlan {
        index: QualifiedName::new("public", "clip_index"),
        table: QualifiedName::new("public", "smart_search"),
        column: "embedding".into(),
        access_method: "vchordrq".into(),
        operator: "<=>".into(),
        list_levels: 1,
        lists: 100,
        expected_lists: vec![],
        memory: 230_000_000,
    };
    let create = "CREATE INDEX clip_index ON public.smart_search USING vchordrq (embedding vector_cosine_ops) WITH (options=$$\nresidual_quantization = false\n[build.internal]\nlists = [100]\n$$)";
    Plan {
        run: "20261123-021409".into(),
        search_path: "public".into(),
        copy_encoding: None,
        jobs: 4,
        index_memory: 1 << 30,
        replaced: None,
        existing_schemas: vec![],
        target_database: None,
        roles: Roles {
            owners: Owners::Keep,
            existing: BTreeSet::new(),
            assignable: BTreeSet::new(),
            creator: None,
            may_impersonate: false,
        },
        tables: vec![
            table("asset", 102_300_000, 6, Treatment::MaskedArray),
            table("smart_search", 210_000_000, 12, Treatment::Embedding),
            table("person", 16_384, 1, Treatment::Text("regclass is an object of this server".into())),
        ],
        materialized_views: vec![table("album_size", 8192, 1, Treatment::Raw)],
        partitioned: vec![],
        sequences: vec![QualifiedName::new("public", "audit_id_seq")],
        large_objects: vec![LargeObjectBatch { first: Oid(16_400), last: Oid(16_411) }],
        admin: None,
        steps: vec![
            step(1, "EXTENSION vchord", Phase::PreData, Route::Admin, "CREATE EXTENSION vchord CASCADE"),
            step(
                2,
                "TABLE public.asset",
                Phase::PreData,
                Route::Owner,
                "CREATE TABLE public.asset (id uuid)",
            ),
            Step {
                may_hold_secrets: false,
                masked_digest: None,
                extension: None,
                maintenance_work_mem: 64 << 20,
                vector_index: Some(clip),
                ..step(3, "INDEX public.clip_index", build(1), Route::Owner, create)
            },
            step(4, "INDEX public.asset_pkey", build(0), Route::Owner, "CREATE UNIQUE INDEX asset_pkey"),
            step(
                5,
                "FK CONSTRAINT public.face",
                Phase::ForeignKey { tables: vec![0, 2] },
                Route::Owner,
                "ALTER TABLE",
            ),
            step(6, "TRIGGER asset_updated_at", Phase::Finish, Route::Owner, "CREATE TRIGGER"),
            step(
                7,
                "EVENT TRIGGER audit",
                Phase::Finish,
                Route::Admin,
                "CREATE EVENT TRIGGER audit ON ddl_command_end",
            ),
        ],
        rewrites: rewrites(create),
        not_carried: vec![NotCarried {
            object: "SUBSCRIPTION upstream".into(),
            reason: "it would begin to replicate into both databases".into(),
        }],
    }
}

/// The plan, as it is kept.
pub(crate) fn document() -> Document {
    let place = |oid, name: &str, major| Place {
        database: DatabaseIdentity {
            system_identifier: Some("7300".into()),
            oid: Oid(oid),
            name: name.into(),
        },
        server: format!("{major}.4"),
        major,
    };
    let extension = |name: &str, source: &str, target: Option<&str>| ExtensionVersions {
        name: name.into(),
        source: source.into(),
        target: target.map(Into::into),
    };
    Document {
        version: VERSION,
        pgmove: env!("CARGO_PKG_VERSION").into(),
        source: place(16_384, "immich", 14),
        target: place(16_385, "app", 18),
        extensions: vec![extension("vector", "0.5.1", Some("0.8.1")), extension("vectors", "0.2.0", None)],
        choices: Choices { owner: None, vector_index: VectorIndexChoice::Auto },
        chunk_bytes: None,
        workers: 2,
        estimate: Estimate {
            table_bytes: 312_316_384,
            index_bytes: 90_000_000,
            large_object_bytes: 0,
            bytes_basis: "sizes on the source's disk, free space within them among it".into(),
            seconds: 3,
            measured: false,
            seconds_basis: "140 MiB a second, which docs/performance.md measured".into(),
        },
        plan: plan(),
        sha256: String::new(),
    }
    .seal()
}

/// A move of two lanes: what is heard, and when, in milliseconds.
pub(super) fn script() -> Vec<(u64, Event)> {
    let begin = |stage, items, bytes, rows| Event::StageStarted { stage, items: Some(items), bytes, rows };
    let end = |stage, seconds| Event::StageFinished { stage, seconds };
    let take = |stage, lane, item: &str, table: &str, bytes| Event::ItemStarted {
        stage,
        lane,
        item: item.into(),
        table: Some(table.into()),
        bytes,
    };
    let part = |stage, lane, rows, bytes| Event::Progress { stage, lane, rows, bytes };
    let done =
        |stage, lane, item: &str, seconds| Event::ItemFinished { stage, lane, item: item.into(), seconds };
    let (copy, indexes) = (Stage::Copy, Stage::Indexes);
    let clip = "INDEX public.clip_index";
    vec![
        (0, Event::StageStarted { stage: Stage::Check, items: None, bytes: None, rows: None }),
        (200, end(Stage::Check, 0.2)),
        (200, begin(copy, 3, Some(300_000_000), Some(200_000))),
        (210, begin(indexes, 2, None, None)),
        (300, take(copy, 0, "public.smart_search, chunk 1 of 2", "public.smart_search", Some(100_000_000))),
        (300, take(copy, 1, "public.smart_search, chunk 2 of 2", "public.smart_search", Some(100_000_000))),
        (4000, part(copy, 0, 40_000, 80_000_000)),
        (4000, part(copy, 1, 30_000, 60_000_000)),
        (5200, Event::Warning { message: "the source was written: table \"a\x1b[31m\"".into() }),
        (5300, Event::Note { message: "the snapshot's holder answered".into() }),
        (
            6000,
            Event::Retry {
                stage: copy,
                item: "public.smart_search, chunk 2 of 2".into(),
                reason: "connection reset by peer".into(),
            },
        ),
        (7000, part(copy, 1, 50_000, 100_000_000)),
        (7100, part(copy, 0, 10_000, 20_000_000)),
        (7200, done(copy, 0, "public.smart_search, chunk 1 of 2", 6.9)),
        (7200, take(copy, 0, "public.asset", "public.asset", Some(100_000_000))),
        (7300, done(copy, 1, "public.smart_search, chunk 2 of 2", 7.0)),
        (7300, take(indexes, 1, clip, "public.smart_search", None)),
        (
            9000,
            Event::IndexProgress {
                lane: 1,
                item: clip.into(),
                phase: "building index: loading tuples".into(),
                percent: Some(45.6),
            },
        ),
        (10_500, part(copy, 0, 99_000, 101_000_000)),
        (11_000, done(copy, 0, "public.asset", 3.8)),
        (11_000, end(copy, 10.8)),
        (16_500, done(indexes, 1, clip, 9.2)),
        (16_600, end(indexes, 16.4)),
    ]
}
