//! Runs that end before their time, and are resumed: the end is that of an undisturbed run, or the run says that it
//! must start over; never a mixture of two states of the source.

use std::{sync::Arc, thread, time::Duration};

use crate::support::{
    Cut, Database, Ended, Fault, Move, Proxy, Running, SMALL, Server, State, Variant, Vectors, hold,
    leftovers, state, wait_until,
};

/// Counts what is committed, large or small.
const COMMITTED: &str =
    "SELECT count(*) FROM (SELECT FROM pgmove.ledger UNION ALL SELECT FROM pgmove.ledger_unlogged) AS units";

/// A filled source and a server for targets, which no other test touches.
struct Scene {
    source: Database,
    targets: Arc<Server>,
}

/// What an undisturbed run of a scene does.
struct Undisturbed {
    end: State,
    /// How many units its ledger has.
    units: u64,
}

impl Scene {
    fn new(source: u32, target: u32) -> Self {
        let quiet = |major, more: &str| {
            let settings = format!("autovacuum = off\n{more}");
            Server::start(major, &Variant { settings, ..Variant::default() })
        };
        let server = quiet(source, "");
        // A crash of this one is to lose only what a crash loses.
        Self {
            source: SMALL.fill(&server, Vectors::of(&server)),
            targets: quiet(target, "synchronous_commit = on"),
        }
    }

    fn undisturbed(&self) -> Undisturbed {
        let target = self.targets.database();
        Move::new(&self.source, &target).with("--keep-ledger").run(&[]).assert(0, &[]);
        let units = target.admin_psql(COMMITTED).parse().expect("a number");
        Undisturbed { end: state(&target).without(&["comment on schema pgmove"]), units }
    }

    /// A run that has committed at least so many units of work; over if there are fewer.
    fn start(&self, units: u64) -> (Database, Move, Running) {
        let target = self.targets.database();
        let run = Move::new(&self.source, &target);
        let mut running = run.start(&[]);
        wait_until(&mut running, &target, &COMMITTED.replace("count(*)", &format!("count(*) >= {units}")));
        (target, run, running)
    }
}

#[track_caller]
fn assert_moved(ended: &Ended, target: &Database, expected: &State) {
    ended.assert(0, &[]);
    assert_eq!(leftovers(target), "");
    state(target).assert_equal(expected);
}

/// Points of a run, spread over its units of work in an order that is the same each time.
fn points(units: u64, count: u64) -> impl Iterator<Item = u64> {
    // Knuth's multiplicative hash picks a place in each of `count` equal parts.
    (0..count).map(move |part| {
        let offset = (part + 1).wrapping_mul(2_654_435_761) >> 7;
        part * units / count + offset % (units / count).max(1)
    })
}

#[test]
fn killed_at_ten_points_a_run_ends_as_if_undisturbed() {
    let scene = Scene::new(16, 18);
    let Undisturbed { end, units } = scene.undisturbed();
    end.assert_equal(&state(&scene.source));
    for point in points(units, 10) {
        let (target, run, running) = scene.start(point);
        running.kill();
        assert_moved(&run.run(&["--resume"]), &target, &end);
    }
}

#[test]
fn a_run_killed_again_and_again_comes_to_its_end() {
    let scene = Scene::new(15, 17);
    let Undisturbed { end, units } = scene.undisturbed();
    let (target, run, mut running) = scene.start(1);
    for point in points(units, 6).skip(1) {
        running.kill();
        running = run.start(&["--resume"]);
        let enough = COMMITTED.replace("count(*)", &format!("count(*) >= {point}"));
        wait_until(&mut running, &target, &enough);
    }
    assert_moved(&running.wait(), &target, &end);
}

#[test]
fn a_target_that_crashes_loses_nothing() {
    let scene = Scene::new(16, 18);
    let Undisturbed { end, units } = scene.undisturbed();
    for (number, point) in points(units, 8).enumerate() {
        let (target, _run, running) = scene.start(point);
        if number % 2 == 0 {
            scene.targets.crash();
        } else {
            scene.targets.stop();
        }
        scene.targets.restart();
        assert_moved(&running.wait(), &target, &end);
    }
}

#[test]
fn a_target_that_crashes_while_nobody_runs_loses_nothing() {
    let scene = Scene::new(15, 17);
    let Undisturbed { end, units } = scene.undisturbed();
    for point in points(units, 3) {
        let (target, run, running) = scene.start(point);
        running.kill();
        scene.targets.crash();
        scene.targets.restart();
        assert_moved(&run.run(&["--resume"]), &target, &end);
    }
}

#[test]
fn a_source_that_crashes_is_read_as_it_is_then() {
    let scene = Scene::new(16, 18);
    let Undisturbed { units, .. } = scene.undisturbed();
    for point in points(units, 3) {
        let (target, _run, running) = scene.start(point);
        scene.source.server.crash();
        scene.source.server.restart();
        let ended = running.wait();
        // What was unlogged is empty now, on the source too.
        let now = state(&scene.source);
        if ended.code != Some(7) {
            assert_moved(&ended, &target, &now);
        }
    }
}

#[test]
fn a_source_that_crashes_under_the_comparison_is_compared_as_it_is_then() {
    let scene = Scene::new(16, 18);
    let target = scene.targets.database();
    let proxy = Proxy::start(target.server.port);
    let mut run = Move::new(&scene.source, &target);
    run.target = proxy.uri(&run.target, target.server.port);
    // Only the comparison locks the target's tables, and it imports the source's snapshot after that.
    let cut = Cut::DelayAnswer(0, Duration::from_secs(10));
    proxy.set(Fault { words: "IN ACCESS SHARE MODE", spared: 0, cut, times: 1 });
    let mut running = run.start(&[]);
    while proxy.fired() == 0 {
        assert!(running.is_running(), "{}", running.output());
        thread::sleep(Duration::from_millis(5));
    }
    scene.source.server.crash();
    scene.source.server.restart();
    let ended = running.wait();
    assert_moved(&ended, &target, &state(&scene.source));
    let lost = "the session that holds the source's snapshot is lost";
    ended.assert(0, &[lost, "going on from the journal"]);
}

/// Kills a run, changes the source, and resumes: the new state arrives whole, or the run starts over.
fn changed_meanwhile(scene: &Scene, point: u64, change: &str, may_go_on: bool) {
    let (target, run, running) = scene.start(point);
    running.kill();
    scene.source.psql(change);
    let ended = run.run(&["--resume"]);
    if may_go_on && ended.code == Some(0) {
        assert_eq!(leftovers(&target), "");
        // ANALYZE and friends aside, the target is what a run begun now would make.
        state(&target).assert_equal(&state(&scene.source));
    } else {
        ended.assert(7, &["start over"]);
    }
}

#[test]
fn rows_changed_meanwhile_arrive_whole() {
    let scene = Scene::new(16, 18);
    let Undisturbed { units, .. } = scene.undisturbed();
    for point in points(units, 3) {
        for change in [
            // Some of these tables are copied by then, others not; some have triggers on the target by then.
            "UPDATE public.asset SET \"originalFileName\" = 'changed-' || \"originalFileName\" WHERE id IN (SELECT id FROM public.asset LIMIT 3);
             DELETE FROM oddities.without_key WHERE a = 1; INSERT INTO oddities.watched VALUES (99, 'meanwhile') ON CONFLICT DO NOTHING",
            "SELECT nextval('oddities.never_called'), nextval('\"Family Photos\".\"Odd Sequence\"')",
            "SELECT lo_put(700002, 0, '\\x42'); SELECT lo_from_bytea(0, 'after the plan')",
            "TRUNCATE oddities.unlogged; INSERT INTO oddities.upload VALUES (100000, '2031-01-01', 1, 'new') ON CONFLICT DO NOTHING",
        ] {
            changed_meanwhile(&scene, point, change, true);
        }
    }
}

#[test]
fn a_schema_changed_meanwhile_means_to_start_over() {
    let scene = Scene::new(15, 17);
    for (number, point) in [0, 20, 60].into_iter().enumerate() {
        changed_meanwhile(
            &scene,
            point,
            &format!("CREATE TABLE public.late_{number} (id integer)"),
            point < 1,
        );
    }
}

#[test]
fn a_finished_run_is_resumed_without_touching_its_target() {
    let scene = Scene::new(16, 18);
    let target = scene.targets.database();
    let run = Move::new(&scene.source, &target);
    run.run(&[]).assert(0, &[]);
    let before = state(&target);
    // It is live now: rows of its own, and never read-only again.
    target.psql("INSERT INTO oddities.without_rows (note) VALUES ('live')");
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(leftovers(&target), "");
    assert!(state(&target) != before, "the live row is gone");
    // A crash at the very end may have lost the journal's last lines.
    let journal = run.run_dir().join("journal.jsonl");
    let text = std::fs::read_to_string(&journal).expect("a journal");
    let records = text.lines().collect::<Vec<_>>();
    let end = records.iter().position(|line| line.contains("\"finished\"")).expect("a finished run");
    std::fs::write(&journal, records[..end].join("\n") + "\n").expect("a shorter journal");
    run.run(&["--resume"]).assert(0, &[]);
    assert_eq!(leftovers(&target), "");
}

#[test]
fn a_run_is_not_resumed_into_another_target() {
    let scene = Scene::new(15, 17);
    let (first, mut run, running) = scene.start(60);
    running.kill();
    let other = scene.targets.database();
    run.target = other.uri();
    run.admin = Some(other.admin_uri());
    run.run(&["--resume"]).assert(2, &["the target of the run is database"]);
    assert_eq!(leftovers(&other), "");
    // So is one that holds something.
    other.psql("CREATE TABLE mine (id integer)");
    run.run(&["--resume"]).assert(2, &["the target of the run is database"]);
    assert_eq!(leftovers(&other), "");
    run.target = first.uri();
    run.admin = Some(first.admin_uri());
    assert_moved(&run.run(&["--resume"]), &first, &state(&scene.source));
}

#[test]
fn two_runs_do_not_share_a_target() {
    let scene = Scene::new(16, 18);
    let (target, first, running) = scene.start(5);
    let second = Move::new(&scene.source, &target);
    second.run(&[]).assert(3, &[]);
    second.assert_left_only_a_report();
    // Nor does a second process of one run.
    first.run(&["--resume"]).assert(2, &["another pgmove works in"]);
    assert_moved(&running.wait(), &target, &state(&scene.source));
    // Both past their checks before either has claimed the target.
    let target = scene.targets.database();
    let runs = [Move::new(&scene.source, &target), Move::new(&scene.source, &target)];
    let running = runs.each_ref().map(|run| run.start(&[]));
    let ended = running.map(Running::wait);
    let codes = ended.each_ref().map(|ended| ended.code);
    assert!(codes == [Some(0), Some(3)] || codes == [Some(3), Some(0)], "{ended:#?}");
    assert_moved(
        ended.iter().find(|ended| ended.code == Some(0)).expect("one"),
        &target,
        &state(&scene.source),
    );
}

#[test]
fn a_target_that_changed_after_the_check_is_refused() {
    let scene = Scene::new(16, 18);
    let ledger = include_str!("../../sql/ledger/create.sql");
    let other_run = &format!("{ledger}; INSERT INTO pgmove.run (id) VALUES ('another')");
    for (change, replaces, phrase) in [
        ("CREATE TABLE public.meanwhile (id integer)", false, "holds 1 object now, 0 objects before"),
        ("CREATE TABLE public.meanwhile (id integer)", true, "holds 2 objects now, 1 object before"),
        (other_run, false, "it holds the ledger of run another"),
        (other_run, true, "it holds the ledger of run another"),
    ] {
        let target = scene.targets.database();
        let mut run = Move::new(&scene.source, &target);
        if replaces {
            target.psql("CREATE TABLE public.seen (id integer)");
            run = run.with(&format!("--replace={}", target.name));
        }
        // pg_dump reads this catalog between the check and the first write, and nothing of pgmove's own does.
        let held = hold(&scene.source.admin_uri(), "LOCK TABLE pg_catalog.pg_init_privs");
        let mut running = run.start(&[]);
        let is_held = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pg_dump'
            AND datname = current_database() AND wait_event_type = 'Lock'";
        assert!(wait_until(&mut running, &scene.source, is_held), "{}", running.output());
        target.psql(change);
        let before = state(&target);
        drop(held);
        running.wait().assert(3, &["the target has changed since the check", phrase]);
        state(&target).assert_equal(&before);
        run.assert_left_only_a_report();
    }
}

#[test]
fn an_interrupt_stops_at_a_safe_point_of_each_stage() {
    let scene = Scene::new(16, 18);
    let Undisturbed { end, units } = scene.undisturbed();
    // None at first: while it checks and plans.
    for point in [None].into_iter().chain(points(units, 5).map(Some)) {
        let (target, run, mut running) = if let Some(point) = point {
            scene.start(point)
        } else {
            let target = scene.targets.database();
            let run = Move::new(&scene.source, &target);
            let mut running = run.start(&[]);
            let dumps = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'pg_dump'
                AND datname = current_database()";
            wait_until(&mut running, &scene.source, dumps);
            (target, run, running)
        };
        assert!(running.is_running(), "{}", running.output());
        running.interrupt();
        let ended = running.wait();
        if ended.code == Some(0) {
            // There was no safe point left.
            assert_moved(&ended, &target, &end);
            continue;
        }
        ended.assert(130, &["--resume"]);
        assert_moved(&run.run(&["--resume"]), &target, &end);
    }
}

#[test]
fn a_second_interrupt_stops_at_once() {
    let scene = Scene::new(16, 18);
    let target = scene.targets.database();
    let run = Move::new(&scene.source, &target);
    let mut running = run.start(&[]);
    wait_until(&mut running, &target, &COMMITTED.replace("count(*)", "count(*) >= 1"));
    running.interrupt();
    running.interrupt();
    let ended = running.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.output);
    assert_moved(&run.run(&["--resume"]), &target, &state(&scene.source));
}

#[test]
fn what_a_killed_run_has_left_at_work_does_not_keep_the_next_process_from_its_target() {
    let (source, target) = (Server::shared(16).database(), Server::shared(18).database());
    source.psql("CREATE TABLE photo (id integer); INSERT INTO photo SELECT generate_series(1, 1000)");
    let proxy = Proxy::start(target.server.port);
    let mut run = Move::new(&source, &target).with("--accept-writes");
    let direct = std::mem::replace(&mut run.target, proxy.uri(&target.uri(), target.server.port));
    // The server does not notice that nobody is there any more, and the table stays locked.
    proxy.set(Fault { words: "FROM STDIN", spared: 0, cut: Cut::HoldRequest(0), times: 1 });
    let mut running = run.start(&[]);
    while proxy.fired() == 0 {
        assert!(running.is_running(), "{}", running.output());
    }
    running.kill();
    run.target = direct;
    assert_moved(&run.run(&["--resume"]), &target, &state(&source));
}
