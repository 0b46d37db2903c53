//! One case a finding: a sound pair of databases with their plan, one thing about them, and what must be found.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::embedding::Counted;
use super::*;
use crate::catalog::{LargeObjects, MaterializedView, VectorColumn};
use crate::pg::QualifiedName;
use crate::plan::columns::Treatment;
use crate::plan::{NotCarried, Step};
use crate::preflight::Severity;
use crate::preflight::tests::case::{Case, extension, table};
use crate::report::sample;

struct Situation {
    case: Case,
    found: Found,
    plan: Plan,
    has_superuser: bool,
    volumes: Volumes,
    options: Options,
}

impl Situation {
    fn clean() -> Situation {
        let mut plan = sample::plan();
        plan.tables.retain(|table| table.text_reason().is_none());
        plan.steps.retain(|step| step.route == crate::plan::Route::Owner);
        Situation {
            case: Case::clean(),
            found: Found::default(),
            plan,
            has_superuser: false,
            volumes: Volumes::default(),
            options: Options::default(),
        }
    }

    fn input(&self) -> Input<'_> {
        Input {
            source: &self.case.source,
            target: &self.case.target,
            source_rights: &self.case.source_rights,
            has_superuser: self.has_superuser,
            found: &self.found,
            plan: Some(&self.plan),
            volumes: self.volumes,
            options: self.options,
        }
    }

    fn embed(&mut self, dimensions: Option<u32>, counted: Result<Counted, String>) {
        let column = VectorColumn {
            table: QualifiedName::new("public", "asset"),
            column: "embedding".into(),
            extension: "vectors".into(),
            type_name: QualifiedName::new("vectors", "vector"),
            dimensions,
        };
        self.found.embeddings = vec![Embeddings { column, counted }];
    }

    fn setting(&mut self, name: &str) {
        let step = Step { object: format!("setting {name} of the database"), ..self.plan.steps[0].clone() };
        self.plan.steps.push(step);
    }
}

type Change = fn(&mut Situation);

/// The expected finding (blocking ones with a `!`, notes with a `.`), and what is so.
const CASES: &[(&str, Change)] = &[
    ("!rows-unreadable", |it| {
        it.found.damage = vec![
            damaged(Some("(12,3)"), "missing chunk number 0 for toast value 7 (SQLSTATE XX001)"),
            damaged(Some("page 40"), "invalid page in block 40 of relation base/5/16400 (SQLSTATE XX001)"),
        ];
    }),
    ("!rows-unreadable", |it| {
        it.found.damage = vec![damaged(None, "could not read block 7 (SQLSTATE 58030)")];
    }),
    ("!rows-unreadable", |it| {
        it.found.damaged_objects = vec![(Oid(16_500), "pageno 3 is missing (SQLSTATE XX001)".into())];
    }),
    ("!rows-unreadable", |it| {
        let name = QualifiedName::new("public", "asset");
        it.case.source.materialized_views.push(view(name));
        it.found.damage = vec![damaged(None, "could not read block 7 (SQLSTATE 58030)")];
    }),
    ("!hidden-duplicates", |it| {
        it.found.duplicates = vec![Duplicates {
            index: QualifiedName::new("public", "asset_pkey"),
            table: QualifiedName::new("public", "asset"),
            keys: 2,
            rows: 5,
            examples: vec!["(0,1) and (0,7)".into(), "(3,2) and (9,1)".into()],
            query: "SELECT id, count(*) FROM ONLY \"public\".\"asset\" GROUP BY id HAVING count(*) > 1;"
                .into(),
        }];
    }),
    ("!definition-refused", |it| {
        it.found.refused = Some(vec![Refused {
            object: "VIEW public.buffers".into(),
            statement: "CREATE VIEW public.buffers AS SELECT buffers_backend FROM pg_stat_bgwriter".into(),
            words: "ERROR: column \"buffers_backend\" does not exist (SQLSTATE 42703)".into(),
            followers: 1,
        }]);
    }),
    ("source-written", |it| it.found.transactions = vec![open("immich", Some(4711), Some(2), true)]),
    ("long-transactions", |it| it.found.transactions = vec![open("pgAdmin", Some(4712), Some(3720), false)]),
    ("prepared-elsewhere", |it| {
        let elsewhere = OpenTransaction { database: "shop".into(), ..open("order 7", None, Some(9), true) };
        it.found.transactions = vec![elsewhere];
    }),
    ("source-wraparound", |it| it.found.source_ages = vec![age(1_700_000_000, 0), age(50, 2)]),
    ("target-wraparound", |it| it.found.target_ages = vec![age(50, 1_600_000_000)]),
    ("!embeddings-unreadable", |it| {
        it.embed(
            Some(512),
            Err("could not access file \"$libdir/vectors\": No such file or directory".into()),
        );
    }),
    ("!embeddings-unreadable", |it| {
        it.embed(Some(512), Err("missing chunk number 0 for toast value 7".into()));
    }),
    ("!embedding-not-finite", |it| it.embed(Some(512), Ok(counted(3, 512, 512)))),
    ("!embedding-dimensions", |it| it.embed(Some(512), Ok(counted(0, 512, 768)))),
    (".embedding-dimensions-mixed", |it| it.embed(None, Ok(counted(0, 3, 4)))),
    ("extension-elsewhere", |it| {
        it.found.elsewhere = vec![extension("vchord", "1.1.1"), extension("dblink", "1.2")];
    }),
    (".extension-elsewhere", |it| {
        it.has_superuser = true;
        it.found.elsewhere = vec![extension("vchord", "1.1.1")];
    }),
    (".by-operator", |it| {
        let mut step = sample::plan().steps.remove(0);
        step.route = crate::plan::Route::Operator;
        step.object = "EXTENSION vchord".into();
        it.plan.steps.push(step);
    }),
    (".large-objects", |it| it.case.source.large_objects = LargeObjects { count: 3, bytes: 24_576 }),
    (".event-triggers", |it| {
        it.has_superuser = true;
        it.case.name_on_source(ObjectKind::EventTrigger, "audit", "");
    }),
    (".publications", |it| it.case.name_on_source(ObjectKind::Publication, "feed", "")),
    (".foreign-servers", |it| it.case.name_on_source(ObjectKind::ForeignServer, "archive", "postgres_fdw")),
    (".role-settings", |it| {
        it.found.role_settings = vec![RoleSetting { role: "immich".into(), setting: "work_mem".into() }];
    }),
    // Buffers of 128 MiB, and 64 MiB with 230 MB beside for the build.
    ("!index-memory", |it| it.options.memory_limit = Some(256 << 20)),
    // Two of which each is small enough by itself.
    ("!index-memory", |it| {
        let build = it.plan.steps.iter().find(|step| step.vector_index.is_some()).cloned().expect("a build");
        it.plan.steps.push(Step { id: 99, object: "INDEX public.face_index".into(), ..build });
        it.options.memory_limit = Some(600 << 20);
    }),
    (".over-admin", |it| it.plan.steps.extend(sample::plan().steps.into_iter().take(1))),
    (".settings-carried", |it| it.setting("work_mem")),
    (".settings-left", |it| {
        it.plan.not_carried = vec![NotCarried {
            object: "setting vchordrq.prewarm_dim of the database".into(),
            reason: "VectorChord no longer knows it".into(),
        }];
    }),
    (".travels-as-text", |it| {
        it.plan.tables[0].columns[0].treatment =
            Treatment::Text("public.shape carries the OIDs of other types".into());
    }),
];

/// After these there is still nothing to find.
const CLEAN: &[Change] = &[
    |_| (),
    |it| it.options.memory_limit = Some(1 << 30),
    |it| {
        it.found.transactions =
            vec![open("psql", Some(4713), None, false), open("psql", Some(4714), Some(59), false)];
    },
    // Together they are larger, but not together at one time.
    |it| {
        let build = it.plan.steps.iter().find(|step| step.vector_index.is_some()).cloned().expect("a build");
        it.plan.steps.push(Step { id: 99, object: "INDEX public.face_index".into(), ..build });
        it.plan.jobs = 1;
        it.options.memory_limit = Some(600 << 20);
    },
    |it| {
        let build = it.plan.steps.iter().find(|step| step.vector_index.is_some()).cloned().expect("a build");
        it.plan.steps.push(Step { id: 99, object: "INDEX public.face_index".into(), ..build });
        it.plan.index_memory = 300 << 20;
        it.options.memory_limit = Some(600 << 20);
    },
    |it| it.found.source_ages = vec![age(1_599_999_999, 0)],
    |it| it.embed(Some(512), Ok(counted(0, 512, 512))),
    |it| it.embed(Some(512), Ok(Counted::default())),
    |it| {
        it.case.target.extensions.push(extension("vchord", "1.1.1"));
        it.found.elsewhere = vec![extension("vchord", "1.1.1"), extension("plpgsql", "1.0")];
    },
];

fn view(name: QualifiedName) -> MaterializedView {
    MaterializedView {
        oid: Oid(16_600),
        name,
        owner: "app".into(),
        is_populated: true,
        bytes: 8192,
        columns: vec![],
    }
}

#[test]
fn an_extension_that_is_made_has_its_place_and_only_its_own_library_is_preloaded() {
    let mut situation = Situation::clean();
    situation.case.offer("vector", "0.8.1");
    situation
        .case
        .source
        .extensions
        .push(Extension { schema: "extensions".into(), ..extension("vector", "0.8.0") });
    situation.case.target.server.shared_preload_libraries = Some("vectors.so".into());
    let rows = summary(&situation.input()).extensions;
    let row = rows.iter().find(|row| row.name == "vector").expect("it is listed");
    assert_eq!(row.target.as_deref(), Some("0.8.1 in extensions"));
    assert_eq!(row.is_preloaded, Some(false));
}

fn damaged(place: Option<&str>, words: &str) -> Damage {
    Damage {
        table: QualifiedName::new("public", "asset"),
        place: place.map(str::to_owned),
        words: words.into(),
    }
}

fn open(name: &str, pid: Option<i32>, seconds: Option<i64>, has_written: bool) -> OpenTransaction {
    OpenTransaction {
        name: name.into(),
        role: "app".into(),
        database: "app".into(),
        pid,
        seconds,
        has_written,
    }
}

fn age(transactions: i64, multixacts: i64) -> TransactionAge {
    TransactionAge { database: "app".into(), transactions, multixacts }
}

fn counted(not_finite: i64, least: i32, most: i32) -> Counted {
    Counted { rows: 5000, not_finite, dimensions: Some((least, most)) }
}

fn labelled(finding: &Finding) -> String {
    let mark = match finding.severity {
        Severity::Blocking => "!",
        Severity::Warning => "",
        Severity::Note => ".",
    };
    format!("{mark}{}", finding.id)
}

fn changed(change: Change) -> Vec<Finding> {
    let mut situation = Situation::clean();
    change(&mut situation);
    findings(&situation.input())
}

#[test]
fn each_situation_is_found_and_nothing_else() {
    for (expected, change) in CASES {
        let found = changed(*change);
        assert_eq!(found.iter().map(labelled).collect::<Vec<_>>(), [*expected], "{found:#?}");
    }
}

#[test]
fn of_a_sound_pair_there_is_nothing_to_tell() {
    for change in CLEAN {
        assert_eq!(changed(*change), vec![]);
    }
}

#[test]
fn blocking_findings_are_first_and_notes_last() {
    let mut all: Vec<Finding> = CASES.iter().flat_map(|(_, change)| changed(*change)).collect();
    sort(&mut all);
    assert!(all.is_sorted_by_key(|finding| Reverse(finding.severity)));
    assert_eq!(all.first().map(|finding| finding.severity), Some(Severity::Blocking));
    assert_eq!(all.last().map(|finding| finding.severity), Some(Severity::Note));
}

/// Every finding once as an operator reads it.
#[test]
fn wording_of_the_survey() {
    let mut text = String::new();
    for (_, change) in CASES {
        for finding in changed(*change) {
            let Finding { title, evidence, remedy, .. } = &finding;
            let block = format!("{}: {title}\n  seen: {evidence}\n  do:   {remedy}\n\n", labelled(&finding));
            text.write_str(&block).expect("a string takes all");
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_target_needs_room_for_rows_indexes_sorting_and_wal() {
    let mut situation = Situation::clean();
    let table = &mut situation.case.source.tables[0];
    (table.total_bytes, table.index_bytes) = (1000 << 20, 300 << 20);
    for (name, size) in [("one", 200 << 20), ("other", 100 << 20)] {
        let index = crate::preflight::tests::case::index_of(name, "btree", "CREATE INDEX");
        situation.case.source.indexes.push(crate::catalog::Index { bytes: size, ..index });
    }
    situation.plan.jobs = 1;
    let summary = summary(&situation.input());
    let needs = summary.needs;
    assert_eq!(
        [needs.rows, needs.indexes, needs.sorting, needs.wal].map(|bytes| bytes >> 20),
        [1000, 300, 200, 1024]
    );
    assert_eq!((needs.total >> 20, needs.on_volume >> 20, needs.free()), (2524, 2524, None));
    situation.volumes = Volumes { data: Some(3000 << 20), has_wal: true, wal: Some(512 << 20) };
    situation.found.target_bytes = 700 << 20;
    let needs = super::summary(&situation.input()).needs;
    assert_eq!((needs.total >> 20, needs.on_volume >> 20), (2524, 1500));
    assert_eq!((needs.free().map(|free| free >> 20), needs.wal_volume), (Some(2300), Some(512 << 20)));
    assert_eq!(
        summary.indexes.iter().map(|index| index.name.as_str()).collect::<Vec<_>>(),
        ["public.one", "public.other"]
    );
}

/// By its profile alone: what its file does not say is not told.
#[test]
fn an_application_with_little_to_say_is_told_of_all_the_same() {
    let mut situation = Situation::clean();
    situation.case.source.tables = ["book", "reader"].map(|name| table(name, vec![])).into();
    situation.case.offer("vector", "0.8.1");
    situation.found.application = Some(Application {
        profile: crate::profile::tiny(),
        schema: "public".into(),
        version: None,
        paths: vec![],
        gates: vec![],
    });
    let found = findings(&situation.input());
    assert_eq!(found.iter().map(labelled).collect::<Vec<_>>(), ["application-rebuild", ".application"]);
    assert!(found[0].evidence.starts_with("public.book_idx is missing on the source"), "{found:#?}");
    assert!(found[1].evidence.contains("version unknown"), "{found:#?}");
}
