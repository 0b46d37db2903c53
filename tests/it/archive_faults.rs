//! Runs with `--archive` that end before their time, and are resumed: the same rows are in the target and in the archive.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};

use tempfile::TempDir;

use crate::archive::{STATE, check, ends, sample};
use crate::support::{Database, Move, Server, Variant, leftovers, pgmove, wait_until};

/// Nobody writes to it, so a resumed run goes on with the files that are there.
static SOURCE: LazyLock<Arc<Server>> = LazyLock::new(|| {
    Server::start(16, &Variant { settings: "autovacuum = off".into(), ..Variant::default() })
});

struct Scene {
    target: Database,
    run: Move,
}

impl Scene {
    fn new(source: &Database, archive: &Path) -> Self {
        let target = Server::shared(18).database();
        let run = Move::new(source, &target).with("--chunk-size=1");
        Self { run: run.with(&format!("--archive={}", archive.display())), target }
    }

    /// Kills the run as soon as the archive's journal has so many lines; false if it never has.
    fn kill_at(&self, archive: &Path, lines: usize) -> bool {
        let mut running = self.run.start(&[]);
        while running.is_running() {
            let journal = fs::read_to_string(archive.join("journal.jsonl")).unwrap_or_default();
            if journal.lines().count() >= lines {
                running.kill();
                return true;
            }
        }
        running.wait().assert(0, &[]);
        false
    }

    #[track_caller]
    fn assert_ends(&self, source: &Database, archive: &Path) {
        self.run.run(&["--resume"]).assert(0, &[]);
        let text = ends(&mut check(archive), 0);
        assert!(text.contains("as it was written"), "{text}");
        assert_eq!(leftovers(&self.target), "");
        assert_eq!(self.target.psql(STATE), source.psql(STATE));
    }
}

/// A finished file of rows in the archive.
fn chunk(archive: &Path) -> Option<PathBuf> {
    let journal = fs::read_to_string(archive.join("journal.jsonl")).ok()?;
    let lines = journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let chunk = lines.map(|line| line["member"]["chunk"].clone()).find(|chunk| chunk["table"].is_u64())?;
    Some(archive.join(format!("data/{}/{}.zst", chunk["table"], chunk["chunk"])))
}

#[test]
fn killed_at_any_file_a_run_finishes_its_archive() {
    let (ground, source) = (tempfile::tempdir().expect("a temporary directory"), sample(&SOURCE));
    let mut killed = 0;
    for lines in [1, 3, 5, 8, 11, 14] {
        let archive = ground.path().join(lines.to_string());
        let scene = Scene::new(&source, &archive);
        killed += u32::from(scene.kill_at(&archive, lines));
        // What is read again is not loaded twice.
        scene.assert_ends(&source, &archive);
    }
    assert!(killed >= 4, "only {killed} runs were under way when they were to be killed");
}

#[test]
fn what_a_crash_of_the_machine_leaves_of_an_archive_is_written_again() {
    let (ground, source) = (tempfile::tempdir().expect("a temporary directory"), sample(&SOURCE));
    let archive = ground.path().join("archive");
    let scene = Scene::new(&source, &archive);
    assert!(scene.kill_at(&archive, 6));
    let cut = |path: &Path, length: u64| {
        let file = fs::OpenOptions::new().write(true).open(path).expect("a file of the archive");
        file.set_len(length).expect("shorter");
    };
    let chunk = chunk(&archive).expect("a chunk is finished");
    cut(&chunk, fs::metadata(&chunk).expect("it is there").len() / 2);
    fs::write(chunk.with_extension("zst.part"), "half of somethi").expect("written");
    let journal = archive.join("journal.jsonl");
    cut(&journal, fs::metadata(&journal).expect("it is there").len() - 7);
    scene.assert_ends(&source, &archive);
}

/// A source that nothing else gives transaction ids out on.
fn quiet() -> (Arc<Server>, Database) {
    let server = Server::start(16, &Variant { settings: "autovacuum = off".into(), ..Variant::default() });
    let source = sample(&server);
    (server, source)
}

#[test]
fn a_resumed_run_adopts_no_archive_that_it_has_not_begun() {
    let (ground, (_, source)) = (tempfile::tempdir().expect("a temporary directory"), quiet());
    let foreign = ground.path().join("foreign");
    assert!(Scene::new(&source, &foreign).kill_at(&foreign, 6));
    let target = Server::shared(18).database();
    let run = Move::new(&source, &target).with("--chunk-size=1");
    let mut running = run.start(&[]);
    let is_loading = "SELECT count(*) > 3 FROM pgmove.ledger";
    assert!(wait_until(&mut running, &target, is_loading), "{}", running.output());
    running.kill();
    let named = |directory: &Path| format!("--archive={}", directory.display());
    run.run(&["--resume", &named(&foreign)]).assert(2, &["foreign is not empty"]);
    let own = ground.path().join("own");
    run.run(&["--resume", &named(&own)]).assert(0, &[]);
    ends(&mut check(&own), 0);
    assert_eq!(target.psql(STATE), source.psql(STATE));
}

#[test]
fn an_archive_of_another_state_that_stands_in_the_place_of_the_runs_own_is_written_again() {
    let (ground, (_, source)) = (tempfile::tempdir().expect("a temporary directory"), quiet());
    let (foreign, archive) = (ground.path().join("foreign"), ground.path().join("archive"));
    assert!(Scene::new(&source, &foreign).kill_at(&foreign, 9));
    source.psql("UPDATE photo SET title = 'other' WHERE id < 9");
    let scene = Scene::new(&source, &archive);
    assert!(scene.kill_at(&archive, 3));
    fs::remove_dir_all(&archive).expect("removed");
    fs::rename(&foreign, &archive).expect("renamed");
    scene.assert_ends(&source, &archive);
}

#[test]
fn a_finished_archive_of_another_database_is_not_taken_for_the_runs_own() {
    let (ground, (server, source)) = (tempfile::tempdir().expect("a temporary directory"), quiet());
    // All databases of a server have its snapshots.
    let other = server.database();
    other.psql("CREATE TABLE photo (id integer); INSERT INTO photo VALUES (1)");
    let archive = ground.path().join("archive");
    let scene = Scene::new(&source, &archive);
    assert!(scene.kill_at(&archive, 6));
    fs::remove_dir_all(&archive).expect("removed");
    let mut dump = pgmove();
    dump.args(["dump", "--source", &other.uri(), "--archive"]).arg(&archive);
    ends(&mut dump, 0);
    let hint = format!("move {} away or remove it, then go on with --resume", archive.display());
    scene.run.run(&["--resume"]).assert(5, &["is not of the source as it is now", &hint]);
    fs::remove_dir_all(&archive).expect("removed");
    scene.assert_ends(&source, &archive);
}

#[test]
fn rows_in_an_archive_that_are_not_those_copied_stop_the_run_until_it_is_removed() {
    let (ground, (_, source)) = (tempfile::tempdir().expect("a temporary directory"), quiet());
    let archive = ground.path().join("archive");
    let scene = Scene::new(&source, &archive);
    assert!(scene.kill_at(&archive, 9));
    let journal = archive.join("journal.jsonl");
    let text = fs::read_to_string(&journal).expect("a journal");
    let forged = text.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("a line");
        if let Some(serde_json::Value::String(sums)) = line.pointer_mut("/record/digest/sums") {
            // Another checksum, of as many rows.
            *sums = sums.chars().rev().collect();
        }
        format!("{line}\n")
    });
    fs::write(&journal, forged.collect::<String>()).expect("written");
    let hint = format!("move {} away or remove it, then go on with --resume", archive.display());
    for _ in 0..2 {
        scene.run.run(&["--resume"]).assert(5, &["does not hold the rows that were copied", &hint]);
    }
    fs::remove_dir_all(&archive).expect("removed");
    scene.assert_ends(&source, &archive);
}

/// A small disk; unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    /// None if this process may not mount one.
    fn mount() -> Option<Self> {
        let disk = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", "size=160k", "tmpfs"]).arg(disk.path()).output();
        output.is_ok_and(|output| output.status.success()).then_some(Self(disk))
    }

    fn grow(&self) {
        let status = Command::new("mount").args(["-o", "remount,size=64m"]).arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_run_whose_archive_fills_the_disk_is_resumed() {
    let Some(disk) = Disk::mount() else {
        eprintln!("skipped: this process may not mount a tmpfs");
        return;
    };
    let source = sample(&SOURCE);
    let archive = disk.0.path().join("archive");
    let scene = Scene::new(&source, &archive);
    for more in [&[][..], &["--resume"]] {
        scene.run.run(more).assert(5, &["No space left on device", "free some space", "--resume"]);
    }
    disk.grow();
    scene.assert_ends(&source, &archive);
}
