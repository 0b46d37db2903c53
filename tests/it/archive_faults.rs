//! Runs with `--archive` that end before their time, and are resumed: the same rows are in the target and in the archive.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};

use tempfile::TempDir;

use crate::archive::{STATE, check, ends, sample};
use crate::support::{Database, Move, Server, Variant, leftovers};

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
