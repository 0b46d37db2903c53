//! Archives on real servers: written beside a load, dumped, checked, restored; and what is refused.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::support::{Database, Install, Pair, Server, Variant, pairs, pgmove, untouched};

mod proof;

/// Every way that rows travel: binary, arrays of a user's type, text; in several chunks and in none; large objects,
/// one of them empty and one of several pieces.
const SAMPLE: &str = "
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TABLE photo (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, taken timestamptz NOT NULL, moods mood[],
    bytes bytea, title text
);
INSERT INTO photo (taken, moods, bytes, title)
    SELECT timestamptz '2024-01-01' + n * interval '1 minute', ARRAY['calm', 'wild']::mood[],
        decode(repeat(md5(n::text), 20), 'hex'), 'title ' || n FROM generate_series(1, 8000) AS n;
CREATE TABLE described (class regclass, note text);
INSERT INTO described VALUES ('photo', E'tab\\t and line\\n and \\\\'), (NULL, NULL), ('mood_log', '');
CREATE TABLE empty ();
CREATE TABLE nothing (id int);
INSERT INTO empty DEFAULT VALUES;
CREATE TABLE face (photo bigint REFERENCES photo, id uuid);
INSERT INTO face SELECT id, md5(id::text)::uuid FROM photo WHERE id % 3 = 0;
CREATE INDEX face_photo ON face (photo);
CREATE SEQUENCE counter START 41;
SELECT nextval('counter'), nextval('counter');
SELECT lo_from_bytea(70001, ''), lo_from_bytea(70002, decode(repeat('0123456789abcdef', 200000), 'hex'));
COMMENT ON LARGE OBJECT 70001 IS 'empty';
GRANT SELECT ON LARGE OBJECT 70002 TO PUBLIC;
";

/// What must be equal on both sides, in one text.
pub(crate) const STATE: &str = "
SELECT count(*), md5(string_agg(p::text, ',' ORDER BY id)) FROM photo AS p;
SELECT count(*), md5(string_agg(d::text, ',' ORDER BY note)) FROM described AS d;
SELECT (SELECT count(*) FROM empty), (SELECT count(*) FROM nothing);
SELECT count(*), md5(string_agg(f::text, ',' ORDER BY id)) FROM face AS f;
SELECT last_value, is_called FROM counter;
SELECT last_value, is_called FROM photo_id_seq;
SELECT oid, md5(lo_get(oid)), obj_description(oid, 'pg_largeobject'), lomacl::text LIKE '%=r/%'
    FROM pg_largeobject_metadata ORDER BY oid;
SELECT conname, convalidated FROM pg_constraint
    WHERE conrelid IN ('photo'::regclass, 'face'::regclass) AND contype <> 'n' ORDER BY conname;
SELECT relname, indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid IN ('photo'::regclass, 'face'::regclass) ORDER BY relname;
SELECT to_regclass('pgmove.ledger') IS NULL;
";

pub(crate) fn sample(server: &std::sync::Arc<Server>) -> Database {
    let database = server.database();
    database.psql("CREATE TABLE mood_log ()");
    database.psql(SAMPLE);
    database
}

/// The directory that a test's archives and runs are in.
struct Ground(TempDir);

impl Ground {
    fn new() -> Self {
        Ground(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn dump(&self, source: &Database, name: &str) -> PathBuf {
        let archive = self.path(name);
        let dump = dump(source, &archive).output().expect("pgmove runs");
        assert_eq!(dump.status.code(), Some(0), "{}", String::from_utf8_lossy(&dump.stderr));
        archive
    }

    fn restore(&self, archive: &Path, target: &Database) -> assert_cmd::Command {
        let mut command = pgmove();
        command.arg("restore").arg("--archive").arg(archive).args(["--target", &target.uri()]);
        command.arg("--run-dir").arg(self.path(&target.name));
        command
    }
}

fn dump(source: &Database, archive: &Path) -> assert_cmd::Command {
    let mut command = pgmove();
    // Other tests write to the same server, which is all that the source's state can tell.
    command.args(["dump", "--source", &source.uri(), "--chunk-size", "1", "--accept-writes", "--archive"]);
    command.arg(archive);
    command
}

pub(crate) fn check(archive: &Path) -> assert_cmd::Command {
    let mut command = pgmove();
    command.args(["archive", "check"]).arg(archive);
    command
}

/// Ends a command with this exit code, and gives what it printed.
#[track_caller]
pub(crate) fn ends(command: &mut assert_cmd::Command, code: i32) -> String {
    let output = command.timeout(Duration::from_secs(120)).output().expect("pgmove runs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// The path of a file of the table `photo`, within the archive.
fn chunk_of_photo(archive: &Path) -> String {
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(archive.join("manifest.json")).expect("a manifest")).expect("JSON");
    let tables = manifest["tables"].as_array().expect("tables");
    let photo = tables.iter().find(|table| table["name"] == "photo").expect("photo");
    assert!(photo["content"]["chunks"].as_array().expect("chunks").len() > 2, "photo is cut into chunks");
    format!("data/{}/1.zst", photo["number"])
}

/// Seals a changed manifest, as somebody would who changes an archive on purpose.
fn reseal(archive: &Path) {
    let sum =
        Command::new("sha256sum").arg("manifest.json").current_dir(archive).output().expect("sha256sum");
    fs::write(archive.join("manifest.sha256"), sum.stdout).expect("written");
}

#[test]
fn a_dump_restores_to_what_a_run_gives() {
    for Pair { source, target } in pairs() {
        let (ground, source) = (Ground::new(), sample(&source));
        let (moved, restored) = (target.database(), target.database());
        let archive = ground.dump(&source, "dump");
        let text = ends(&mut check(&archive), 0);
        assert!(text.contains("as it was written"), "{text}");
        ends(&mut ground.restore(&archive, &restored), 0);

        let beside = ground.path("beside");
        let mut run = pgmove();
        run.args(["run", "--source", &source.uri(), "--target", &moved.uri(), "--accept-writes"]);
        run.arg("--run-dir").arg(ground.path("run")).arg("--archive").arg(&beside);
        ends(&mut run, 0);
        ends(&mut check(&beside), 0);

        let expected = source.psql(STATE);
        assert_eq!(restored.psql(STATE), expected);
        assert_eq!(moved.psql(STATE), expected);
        // The archive of a run restores too.
        let again = target.database();
        ends(&mut ground.restore(&beside, &again), 0);
        assert_eq!(again.psql(STATE), expected);
        assert_private(&archive);
    }
}

#[test]
fn a_rehearsed_restore_writes_nothing() {
    let ground = Ground::new();
    let source = sample(&Server::shared(16));
    let quiet = Server::start(18, &Variant { settings: "autovacuum = off".into(), ..Variant::default() });
    let target = quiet.database();
    let archive = ground.dump(&source, "archive");
    let before = untouched(&target);
    let text = ends(ground.restore(&archive, &target).arg("--dry-run"), 0);
    assert!(text.contains("public.photo"), "{text}");
    assert!(untouched(&target) == before, "a dry run has written");
    assert!(!ground.path(&target.name).exists());
}

fn assert_private(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        if entry.path().is_dir() {
            assert_eq!(mode, 0o700, "{}", entry.path().display());
            assert_private(&entry.path());
        } else {
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }
}

#[test]
fn legacy_embeddings_are_archived_as_vectors() {
    let (source, target) = (Server::shared(15), Server::shared(18));
    if !Install::of(15).offers("vectors") || !Install::of(18).offers("vchord") {
        eprintln!("skipped: these servers do not offer vectors and vchord");
        return;
    }
    let (ground, source, target) = (Ground::new(), source.database(), target.database());
    source.admin_psql("CREATE EXTENSION vectors; GRANT USAGE ON SCHEMA vectors TO PUBLIC;");
    source.psql(
        "CREATE TABLE smart_search (id int PRIMARY KEY, embedding vectors.vector(3) NOT NULL);
        INSERT INTO smart_search SELECT n, format('[%s,%s,-0.5]', n, n * 0.1)::vectors.vector FROM generate_series(1, 500) AS n;",
    );
    let archive = ground.dump(&source, "dump");
    ends(&mut check(&archive), 0);
    ends(ground.restore(&archive, &target).args(["--target-admin", &target.admin_uri()]), 0);
    let state = |cast: &str| {
        format!("SELECT md5(string_agg(id || (embedding::{cast})::text, ',' ORDER BY id)) FROM smart_search")
    };
    assert_eq!(target.psql(&state("real[]")), source.psql(&state("real[]")));
}

#[test]
fn a_restore_replaces_what_the_database_holds_that_is_named() {
    let (ground, source) = (Ground::new(), sample(&Server::shared(16)));
    let (archive, target) = (ground.dump(&source, "dump"), Server::shared(18).database());
    target.psql("CREATE TABLE photo (id integer); CREATE TABLE former (id integer)");
    let text = ends(&mut ground.restore(&archive, &target), 3);
    assert!(text.contains("target-not-empty") && text.contains("--replace"), "{text}");
    ends(ground.restore(&archive, &target).args(["--replace", "another"]), 2);
    assert_eq!(target.psql("SELECT count(*) FROM former"), "0");
    ends(ground.restore(&archive, &target).args(["--replace", &target.name]), 0);
    assert_eq!(target.psql(STATE), source.psql(STATE));
    assert_eq!(target.psql("SELECT to_regclass('former') IS NULL"), "t");
}

#[test]
fn a_damaged_chunk_is_named_and_the_target_can_go_on() {
    let (ground, source, target) = (Ground::new(), sample(&Server::shared(16)), Server::shared(18));
    let archive = ground.dump(&source, "dump");
    let file = chunk_of_photo(&archive);
    let path = archive.join(&file);
    let whole = fs::read(&path).expect("a chunk");
    let other = fs::read(path.with_file_name("2.zst")).expect("another chunk");
    let flipped = {
        let mut bytes = whole.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        bytes
    };
    for damaged in [&flipped[..], &whole[..whole.len() / 2], &other[..], &[]] {
        let target = target.database();
        fs::write(&path, damaged).expect("damaged");
        let text = ends(&mut ground.restore(&archive, &target), 5);
        assert!(text.contains(&file) && text.contains("public.photo, chunk 1"), "{text}");
        let text = ends(&mut check(&archive), 4);
        assert!(text.contains(&file), "{text}");
        let committed = "SELECT count(*) FROM pgmove.ledger WHERE item LIKE 'chunk:%:1' AND row_count > 500";
        assert_eq!(target.psql(committed), "0", "nothing of the damaged chunk is committed");
        fs::write(&path, &whole).expect("mended");
        ends(ground.restore(&archive, &target).arg("--resume"), 0);
        assert_eq!(target.psql(STATE), source.psql(STATE));
    }
}

#[test]
fn rows_that_are_not_those_of_the_manifest_are_refused() {
    let (ground, source) = (Ground::new(), sample(&Server::shared(16)));
    let archive = ground.dump(&source, "dump");
    let manifest = archive.join("manifest.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(&manifest).expect("read")).expect("JSON");
    let tables = json["tables"].as_array_mut().expect("tables");
    let photo = tables.iter_mut().find(|table| table["name"] == "photo").expect("photo");
    photo["content"]["chunks"][1]["digest"]["sums"] = "0".repeat(64).into();
    fs::write(&manifest, json.to_string()).expect("written");
    reseal(&archive);
    let text = ends(&mut check(&archive), 4);
    assert!(text.contains(&chunk_of_photo(&archive)) && text.contains("checksum of its rows"), "{text}");
    let target = Server::shared(18).database();
    let text = ends(&mut ground.restore(&archive, &target), 5);
    assert!(text.contains("checksum of its rows"), "{text}");
}

#[test]
fn what_is_no_archive_of_this_version_is_refused_before_the_first_write() {
    let (ground, source) = (Ground::new(), sample(&Server::shared(16)));
    let target = Server::shared(18).database();
    let archive = ground.dump(&source, "dump");
    let manifest = archive.join("manifest.json");
    let text = fs::read_to_string(&manifest).expect("read");
    for (changed, words) in [
        (text.replacen("\"version\":1", "\"version\":2", 1), "format version 2"),
        (text.replacen("photo", "phot0", 1), "plan.json"),
    ] {
        fs::write(&manifest, changed).expect("written");
        reseal(&archive);
        let text = ends(&mut ground.restore(&archive, &target), 3);
        assert!(text.contains(words), "{text}");
    }
    fs::write(&manifest, &text[1..]).expect("written");
    let text = ends(&mut ground.restore(&archive, &target), 3);
    assert!(text.contains("manifest.json"), "{text}");
    fs::remove_file(&manifest).expect("removed");
    let text = ends(&mut ground.restore(&archive, &target), 3);
    assert!(text.contains("no finished archive"), "{text}");
    assert_eq!(target.psql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"), "0");
}

#[test]
fn a_directory_that_holds_something_is_refused() {
    let (ground, source) = (Ground::new(), sample(&Server::shared(16)));
    let archive = ground.path("dump");
    fs::create_dir(&archive).expect("made");
    fs::write(archive.join("mine"), "").expect("written");
    let text = ends(&mut dump(&source, &archive), 2);
    assert!(text.contains("is not empty"), "{text}");
    let target = Server::shared(18).database();
    let mut run = pgmove();
    run.args(["run", "--source", &source.uri(), "--target", &target.uri()]);
    run.arg("--run-dir").arg(ground.path("run")).arg("--archive").arg(&archive);
    let text = ends(&mut run, 2);
    assert!(text.contains("is not empty"), "{text}");
    assert!(!ground.path("run").exists());
}

#[test]
fn a_full_disk_is_said() {
    let ground = Ground::new();
    let disk = ground.path("disk");
    fs::create_dir(&disk).expect("made");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=160k", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this process may not mount a tmpfs");
        return;
    }
    let source = sample(&Server::shared(16));
    let output = dump(&source, &disk.join("dump")).output().expect("pgmove runs");
    let unmounted = Command::new("umount").arg(&disk).status();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert!(text.contains("is not finished") && text.contains("free some space"), "{text}");
    assert!(unmounted.is_ok_and(|status| status.success()));
}

#[test]
fn a_killed_run_finishes_its_archive() {
    // A source where nothing else gives out transaction ids: an archive that is finished is the source's still.
    let quiet = Variant { settings: "autovacuum = off".into(), ..Variant::default() };
    let (ground, source) = (Ground::new(), sample(&Server::start(16, &quiet)));
    for milliseconds in [300, 500, 700, 900] {
        let target = Server::shared(18).database();
        let (archive, run_dir) = (ground.path(&format!("kill-{milliseconds}")), ground.path(&target.name));
        let run = || {
            let mut run = pgmove();
            run.args(["run", "--source", &source.uri(), "--target", &target.uri(), "--accept-writes"]);
            run.args(["--chunk-size", "1"]).arg("--run-dir").arg(&run_dir).arg("--archive").arg(&archive);
            run
        };
        // Ended by the kernel, as by `kill -9`.
        let _ = run().timeout(Duration::from_millis(milliseconds)).output();
        let mut again = run();
        if run_dir.join("journal.jsonl").exists() {
            again.arg("--resume");
        }
        ends(&mut again, 0);
        let text = ends(&mut check(&archive), 0);
        assert!(text.contains("as it was written"), "{text}");
        assert_eq!(target.psql(STATE), source.psql(STATE));
    }
}
