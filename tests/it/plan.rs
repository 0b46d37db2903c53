//! A plan by itself: read-only, the same every time, and kept to or refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::support::{
    Database, Ended, Move, PASSWORD, SMALL, Server, Variant, Vectors, leftovers, pgmove, state, untouched,
};

/// Two tables, one of which is cut into chunks of a mebibyte.
const SAMPLE: &str = "
CREATE TABLE photo (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, taken timestamptz);
INSERT INTO photo (name) SELECT repeat('photo ', 40) || n FROM generate_series(1, 20000) AS n;
CREATE TABLE album (id integer PRIMARY KEY, kind regclass);
CREATE INDEX photo_name ON photo (name);
CREATE VIEW recent AS SELECT id FROM photo WHERE taken > now() - interval '1 day';
GRANT SELECT ON recent TO PUBLIC;
VACUUM ANALYZE;
";

/// A source and a target.
struct Ground {
    source: Database,
    target: Database,
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        Self::on(&Server::shared(16), &Server::shared(18))
    }

    /// Where nobody else works, not even the servers.
    fn quiet() -> Self {
        let quiet = Variant { settings: "autovacuum = off".into(), ..Variant::default() };
        Self::on(&Server::start(16, &quiet), &Server::start(18, &quiet))
    }

    fn on(source: &Arc<Server>, target: &Arc<Server>) -> Self {
        let (source, target) = (source.database(), target.database());
        source.psql(SAMPLE);
        source.psql(&format!("ALTER DATABASE {} SET work_mem = '8MB'", source.name));
        Self { source, target, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn plan(&self, options: &[&str]) -> Ended {
        let output = pgmove()
            .args(["plan", "--source", &self.source.uri(), "--target", &self.target.uri()])
            .args(["--target-admin", &self.target.admin_uri()])
            .args(options)
            .output()
            .expect("pgmove runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        Ended { code: output.status.code(), output: text }
    }

    /// Saves a plan.
    fn save(&self, name: &str, options: &[&str]) -> (PathBuf, String) {
        let path = self.file(name);
        let save = path.to_str().expect("UTF-8");
        self.plan(&[&["--save", save][..], options].concat()).assert(0, &["the plan is in"]);
        let text = std::fs::read_to_string(&path).expect("a plan");
        (path, text)
    }

    fn run(&self, plan: &Path, more: &[&str]) -> (Move, Ended) {
        let mut run = Move::new(&self.source, &self.target);
        run.options.clear();
        let ended = run.run(&[&["--plan", plan.to_str().expect("UTF-8")][..], more].concat());
        (run, ended)
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn two_plans_of_an_unchanged_world_are_equal_to_the_byte() {
    let ground = Ground::quiet();
    let before = (untouched(&ground.source), untouched(&ground.target));
    let options = ["--jobs=2", "--chunk-size=1"];
    let (_, first) = ground.save("first.json", &options);
    let (_, second) = ground.save("second.json", &options);
    assert!(first == second, "{first}\n{second}");
    assert!((untouched(&ground.source), untouched(&ground.target)) == before, "a plan has written");
    for password in ["owner-secret", PASSWORD] {
        assert!(!first.contains(password), "{first}");
    }
    // What a script gets is the same.
    let result = ground.plan(&[&options[..], &["--output=json"]].concat());
    let last = result.output.lines().find(|line| line.starts_with("{\"result\"")).expect("a result");
    assert_eq!(json(last)["result"]["plan"], json(&first));
    let again = ground.plan(&[&options[..], &["--output=json"]].concat());
    assert!(again.output.lines().any(|line| line == last), "{}", again.output);
}

#[test]
fn a_plan_tells_everything_that_a_run_would_do() {
    let ground = Ground::new();
    let (_, text) = ground.save("plan.json", &["--jobs=2", "--chunk-size=1"]);
    let plan = json(&text);
    let table = |name: &str| {
        let tables = plan["tables"].as_array().expect("tables");
        tables.iter().find(|table| table["name"]["name"] == name).expect("it is planned").clone()
    };
    assert!(table("photo")["chunks"].as_array().expect("chunks").len() > 3);
    assert_eq!(table("album")["chunks"].as_array().expect("chunks").len(), 1);
    assert_eq!(plan["jobs"], 2);
    assert_eq!(plan["target"]["major"], 18);
    assert!(plan["estimate"]["table_bytes"].as_u64().expect("bytes") > 4 << 20);
    assert!(plan["estimate"]["index_bytes"].as_u64().expect("bytes") > 4 << 20);
    let estimate = &plan["estimate"];
    assert!(estimate["seconds"].as_u64() >= Some(1) && estimate["measured"] == false, "{estimate}");
    let told = ground.plan(&["--jobs=2", "--chunk-size=1"]);
    told.assert(
        0,
        &[
            "2 lanes",
            "plpgsql: 1.0 -> 1.0",
            "public.photo  binary",
            "public.album travels as text: column kind:",
            "INDEX public.photo_name",
            "parallel workers for each",
            "SET \"work_mem\" TO '8MB'",
            "1 object with grants: ACL public.TABLE recent",
            "the window will take 1.0 s at least: 140 MiB a second, which docs/performance.md measured on two cores",
            "pgmove rehearse measures it here",
        ],
    );
}

#[test]
fn a_run_does_what_its_plan_says() {
    let ground = Ground::new();
    ground.source.admin_psql("CREATE EXTENSION vector");
    ground.source.psql(
        "CREATE TABLE face (embedding vector(2000));
         CREATE INDEX near ON face USING hnsw (embedding vector_l2_ops)",
    );
    let (path, text) = ground.save("plan.json", &["--jobs=3", "--chunk-size=1", "--index-memory=16"]);
    // Rows are no change: the plan's chunks hold the table however it has grown, and a build's memory is not reckoned again.
    ground.source.psql(
        "INSERT INTO photo (name) SELECT repeat('later ', 40) || n FROM generate_series(1, 30000) AS n;
         INSERT INTO face (embedding) SELECT array_fill(n, ARRAY[2000])::vector FROM generate_series(1, 800) AS n",
    );
    let (run, ended) = ground.run(&path, &["--accept-writes"]);
    ended.assert(0, &["equal: "]);
    state(&ground.target).assert_equal(&state(&ground.source));
    assert_eq!(leftovers(&ground.target), "");
    let done = json(&std::fs::read_to_string(run.run_dir().join("plan.json")).expect("the run's plan"));
    let planned = json(&text);
    for key in ["jobs", "index_memory", "search_path", "rewrites", "not_carried"] {
        assert_eq!(done[key], planned[key], "{key}");
    }
    let statements = |plan: &Value| -> Vec<[Value; 4]> {
        let steps = plan["steps"].as_array().expect("steps").iter();
        let keys = ["object", "route", "statements", "maintenance_work_mem"];
        steps.map(|step| keys.map(|key| step[key].clone())).collect()
    };
    assert_eq!(statements(&done), statements(&planned));
    let chunks = |plan: &Value| -> Vec<Value> {
        plan["tables"].as_array().expect("tables").iter().map(|table| table["chunks"].clone()).collect()
    };
    assert_eq!(chunks(&done), chunks(&planned));
}

#[test]
fn a_run_is_refused_where_the_world_has_changed_since_its_plan() {
    let ground = Ground::quiet();
    let (path, _) = ground.save("plan.json", &["--jobs=2", "--chunk-size=1"]);
    let changes = [
        (
            "CREATE TABLE late (id integer)",
            "DROP TABLE late",
            "tables were added since the plan was made",
            "public.late",
        ),
        (
            "ALTER TABLE album ALTER id TYPE bigint",
            "ALTER TABLE album ALTER id TYPE integer",
            "TABLE public.album has changed",
            "id bigint",
        ),
        (
            "ALTER INDEX photo_name RENAME TO other",
            "ALTER INDEX other RENAME TO photo_name",
            "objects were added",
            "INDEX public.other",
        ),
        (
            "ALTER TABLE photo DROP CONSTRAINT photo_pkey",
            "ALTER TABLE photo ADD PRIMARY KEY (id)",
            "the primary key of public.photo has changed",
            "planned: id",
        ),
    ];
    let before = untouched(&ground.target);
    for (change, undo, title, evidence) in changes {
        ground.source.psql(change);
        // The undo is written where a fence would stand.
        let (run, ended) = ground.run(&path, &["--fence"]);
        ended.assert(3, &["plan-changed", title, evidence, "pgmove plan --save"]);
        assert!(untouched(&ground.target) == before, "a refused run has written");
        run.assert_left_only_a_report();
        ground.source.psql(undo);
    }
    // The target, too.
    ground.target.admin_psql("CREATE SCHEMA extensions; CREATE EXTENSION hstore SCHEMA extensions");
    let (_, ended) = ground.run(&path, &[]);
    ended.assert(3, &["schemas that the target has before were added", "extensions of"]);
    ground.target.admin_psql("DROP EXTENSION hstore; DROP SCHEMA extensions");
    let other = ground.target.server.database();
    let mut run = Move::new(&ground.source, &other);
    run.options.clear();
    run.run(&["--plan", path.to_str().expect("UTF-8")]).assert(3, &["the target is another database"]);
    // Undone, it is the world of the plan again.
    ground.run(&path, &["--accept-writes"]).1.assert(0, &["equal: "]);
}

/// Some applications keep the key of their tokens in a setting.
#[test]
fn a_custom_setting_is_planned_without_its_value_and_a_change_of_it_is_seen() {
    let ground = Ground::new();
    let database = &ground.source.name;
    let set = |value: &str| {
        ground.source.admin_psql(&format!("ALTER DATABASE {database} SET app.jwt_secret = '{value}'"));
    };
    set("first-s3cret");
    let (path, text) = ground.save("plan.json", &["--jobs=2"]);
    let told = ground.plan(&["--jobs=2", "-v"]);
    told.assert(0, &["TO '***'"]);
    let refused = pgmove()
        .args(["plan", "--source", &ground.source.uri(), "--target", &ground.target.uri()])
        .output()
        .expect("pgmove runs");
    let refused = String::from_utf8([refused.stdout, refused.stderr].concat()).expect("UTF-8");
    assert!(refused.contains("it takes ALTER DATABASE"), "{refused}");
    for said in [&text, &told.output, &refused] {
        assert!(!said.contains("first-s3cret"), "{said}");
    }
    set("other-s3cret");
    let (_, ended) = ground.run(&path, &[]);
    ended.assert(3, &["plan-changed", "setting app.jwt_secret of the database has changed"]);
    assert!(!ended.output.contains("s3cret"), "{}", ended.output);
    set("first-s3cret");
    ground.run(&path, &["--accept-writes"]).1.assert(0, &["equal: "]);
    let moved = "SELECT current_setting('app.jwt_secret')";
    assert_eq!(ground.target.psql(moved), "first-s3cret");
}

#[test]
fn what_is_no_plan_is_refused_before_anything_is_asked() {
    let ground = Ground::new();
    let (path, text) = ground.save("plan.json", &["--jobs=2"]);
    let wrong = [
        (text[..text.len() / 2].to_owned(), "the plan is damaged"),
        ("{}".to_owned(), "is no plan of pgmove"),
        (text.replacen("\"jobs\": 2", "\"jobs\": 4", 1), "the plan was changed since pgmove wrote it"),
        (
            text.replacen("\"version\": 1", "\"version\": 9", 1),
            "format 9, and this version of pgmove knows 1",
        ),
    ];
    for (text, message) in wrong {
        let other = ground.file("other.json");
        std::fs::write(&other, text).expect("a file");
        let (run, ended) = ground.run(&other, &[]);
        ended.assert(2, &["could not go by the plan in", message]);
        assert!(!run.run_dir().exists());
    }
    ground.run(&ground.file("missing.json"), &[]).1.assert(2, &["could not read", "missing.json"]);
    // The plan decides this.
    let run = Move::new(&ground.source, &ground.target);
    run.run(&["--plan", path.to_str().expect("UTF-8")]).assert(2, &["--plan", "--jobs"]);
}

#[test]
fn a_plan_is_refused_where_a_run_would_be() {
    let ground = Ground::new();
    ground.target.psql("CREATE TABLE taken (id integer)");
    let path = ground.file("plan.json");
    let refused = ground.plan(&["--save", path.to_str().expect("UTF-8")]);
    refused.assert(3, &["target-not-empty"]);
    assert!(!path.exists());
    let emptied = ground.plan(&["--replace", &ground.target.name]);
    emptied.assert(0, &["1 object is of the target dropped", "table public.taken"]);
}

#[test]
fn the_library_is_moved_by_its_plan() {
    let (from, to) = (Server::shared(15), Server::shared(17));
    let source = SMALL.fill(&from, Vectors::of(&from));
    source.psql("VACUUM ANALYZE");
    let ground =
        Ground { source, target: to.database(), directory: tempfile::tempdir().expect("a directory") };
    let (path, text) = ground.save("plan.json", &["--jobs=2"]);
    let told = ground.plan(&["--jobs=2"]);
    told.assert(0, &["EXTENSION", "vector index", "embeddings converted", "as admin: "]);
    assert!(
        text.contains("\"access_method\": \"vchordrq\"") || text.contains("\"access_method\": \"hnsw\""),
        "{text}"
    );
    ground.run(&path, &["--accept-writes"]).1.assert(0, &["equal: "]);
    assert_eq!(leftovers(&ground.target), "");
}
