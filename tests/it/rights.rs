//! What belongs to whom: schemas that are there for extensions.

use crate::support::{Database, Ended, Move, Server, leftovers, pgmove};

/// Extensions have a schema of their own, which the administrator has made: the target counts as empty.
const EXTENSIONS: &str = "
CREATE SCHEMA extensions;
CREATE EXTENSION pg_trgm SCHEMA extensions;
GRANT USAGE ON SCHEMA extensions TO PUBLIC;
COMMENT ON SCHEMA extensions IS 'for extensions';
";

/// What is asked of such a schema.
const SCHEMA: &str = "
SELECT nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'extensions'
";

const PHOTOS: &str = "
CREATE TABLE photo (id integer PRIMARY KEY, name text NOT NULL);
INSERT INTO photo SELECT n, 'photo ' || n FROM generate_series(1, 1000) AS n;
";

/// A move between shared servers, on which other tests write; without `--target-admin`.
fn unaided(source: &Database, target: &Database) -> Move {
    let mut run = Move::new(source, target).with("--accept-writes");
    run.admin = None;
    run
}

/// Runs to the end; what is told is not broken into lines, so that long names matter not.
fn told(run: &Move, more: &[&str]) -> Ended {
    let ended = run.run(more);
    Ended { output: ended.output.split_whitespace().collect::<Vec<_>>().join(" "), ..ended }
}

#[test]
fn a_schema_that_holds_extensions_may_be_on_the_target_only() {
    for major in [14, 16, 18] {
        let (source, target) = (Server::shared(14).database(), Server::shared(major).database());
        source.psql(PHOTOS);
        target.admin_psql(EXTENSIONS);
        if major < 15 {
            target.admin_psql("GRANT ALL ON SCHEMA public TO PUBLIC");
        }
        let before = target.admin_psql(SCHEMA);
        let kept = "schema extensions is on the target and keeps its owner postgres";
        let rights = "schema extensions on the target belongs to postgres, who gives rights on it";
        told(&unaided(&source, &target), &[]).assert(0, &[kept, rights]);
        assert_eq!(target.admin_psql(SCHEMA), before);
        assert_eq!(target.psql("SELECT count(*) FROM photo"), "1000");
    }
}

#[test]
fn a_schema_that_holds_extensions_may_be_on_both_sides() {
    let names = "CREATE INDEX ON photo USING gin (name extensions.gin_trgm_ops);";
    let (source, target) = (Server::shared(15).database(), Server::shared(17).database());
    source.psql("CREATE SCHEMA extensions; CREATE EXTENSION pg_trgm SCHEMA extensions");
    source.psql("GRANT ALL ON SCHEMA extensions TO pg_monitor; COMMENT ON SCHEMA extensions IS 'mine'");
    source.psql(&format!("{PHOTOS}{names}"));
    target.admin_psql(EXTENSIONS);
    let before = target.admin_psql(SCHEMA);
    let run = unaided(&source, &target);
    let planned = ["existing schema: 4", "CREATE SCHEMA extensions", "(left out)"];
    told(&run, &["--dry-run"]).assert(0, &planned);
    let reasons = ["keeps its owner postgres", "belongs to postgres, who gives rights on it"];
    told(&run, &[]).assert(0, &reasons);
    assert_eq!(target.admin_psql(SCHEMA), before);
    assert_eq!(leftovers(&target), "");
}

/// Where the session owns it, comment and rights are carried, beside the rights that were there.
#[test]
fn rights_on_a_schema_of_extensions_are_carried_where_its_owner_moves() {
    let (source, target) = (Server::shared(15).database(), Server::shared(17).database());
    for database in [&source, &target] {
        database.psql("CREATE SCHEMA extensions");
        database.admin_psql("CREATE EXTENSION pg_trgm SCHEMA extensions");
    }
    source.psql("GRANT ALL ON SCHEMA extensions TO pg_monitor; COMMENT ON SCHEMA extensions IS 'mine'");
    target.psql("GRANT USAGE ON SCHEMA extensions TO pg_read_all_stats");
    source.psql(PHOTOS);
    let run = unaided(&source, &target);
    told(&run, &[]).assert(0, &["schema extensions is on the target and keeps what it had there"]);
    let owner = &target.name;
    let acl = format!("{{{owner}=UC/{owner},pg_read_all_stats=U/{owner},pg_monitor=UC/{owner}}}");
    assert_eq!(target.admin_psql(SCHEMA), format!("{owner}|{acl}|mine"));
    // A right that is not carried is a difference.
    target.psql("REVOKE ALL ON SCHEMA extensions FROM pg_monitor");
    let ended = pgmove().args(["verify", "--source", &source.uri(), "--target", &target.uri()]).output();
    let ended = ended.expect("pgmove runs");
    let output = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(4), "{output}");
    assert!(output.contains("ACL SCHEMA extensions"), "{output}");
}
