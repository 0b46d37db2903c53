//! Runs that are killed or interrupted at any moment, from the check to the clearing up: the end is that of an
//! undisturbed run. (tests/it/resume.rs does so between units of work.)

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{Database, Move, SMALL, Server, State, Variant, Vectors, leftovers, state};

/// The stages in the order in which they begin.
const STAGES: [&str; 6] = ["check", "schema", "copy", "indexes", "finish", "verify"];

struct Scene {
    source: Database,
    targets: Arc<Server>,
    end: State,
    /// How long an undisturbed run takes.
    duration: Duration,
}

impl Scene {
    fn new(source: u32, target: u32) -> Self {
        let quiet = |major| {
            Server::start(major, &Variant { settings: "autovacuum = off".into(), ..Variant::default() })
        };
        let (server, targets) = (quiet(source), quiet(target));
        let source = SMALL.fill(&server, Vectors::of(&server));
        let target = targets.database();
        let begun = Instant::now();
        Move::new(&source, &target).run(&[]).assert(0, &[]);
        let duration = begun.elapsed();
        let end = state(&target);
        Self { source, targets, end, duration }
    }

    /// Goes on with a run that was stopped, if it had come so far that it can; else begins it anew.
    #[track_caller]
    fn assert_ends(&self, run: &Move, target: &Database, when: &str) {
        let has_begun = run.journal().iter().any(|record| record["record"] == "started");
        if !has_begun && run.run_dir().exists() {
            std::fs::remove_dir_all(run.run_dir()).expect("a directory of the test");
        }
        let ended = run.run(if has_begun { &["--resume"] } else { &[] });
        assert_eq!(ended.code, Some(0), "{when}:\n{}", ended.output);
        assert_eq!(leftovers(target), "", "{when}");
        state(target).assert_equal(&self.end);
    }
}

#[test]
fn killed_at_random_moments_a_run_ends_as_if_undisturbed() {
    let scene = Scene::new(16, 18);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let mut random = u64::from(clock.subsec_nanos()) << 20 | 1;
    for _ in 0..5 {
        // Marsaglia's xorshift.
        for (shift, is_left) in [(13, true), (7, false), (17, true)] {
            random ^= if is_left { random << shift } else { random >> shift };
        }
        let moment = scene.duration * u32::try_from(random % 1000).expect("it is small") / 1000;
        let target = scene.targets.database();
        let run = Move::new(&scene.source, &target);
        let running = run.start(&[]);
        thread::sleep(moment);
        running.kill();
        scene.assert_ends(&run, &target, &format!("killed after {moment:?} of {:?}", scene.duration));
    }
}

#[test]
fn killed_as_a_stage_begins_a_run_ends_as_if_undisturbed() {
    let scene = Scene::new(15, 17);
    for stage in STAGES {
        let target = scene.targets.database();
        let run = Move::new(&scene.source, &target);
        let mut running = run.start(&[]);
        assert!(running.reaches(stage), "{}", running.output());
        running.kill();
        scene.assert_ends(&run, &target, stage);
    }
}

#[test]
fn interrupted_as_a_stage_begins_a_run_stops_and_goes_on() {
    let scene = Scene::new(16, 18);
    for stage in STAGES {
        let target = scene.targets.database();
        target.psql("CREATE TABLE album (id integer)");
        let run = Move::new(&scene.source, &target).with(&format!("--replace={}", target.name));
        let mut running = run.start(&[]);
        assert!(running.reaches(stage), "{}", running.output());
        running.interrupt();
        let ended = running.wait();
        assert_eq!(ended.code, Some(130), "{stage}:\n{}", ended.output);
        scene.assert_ends(&run, &target, stage);
    }
}
