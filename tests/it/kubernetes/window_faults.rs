//! Windows, frozen and fenced, that meet faults while their rows are copied, by the whole program.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::endpoints::{World, log_in};
use super::freeze::{names_pgmove, replicas, workload, written};
use super::going_on::{SAMPLE, Scene};
use super::heeding::account;
use super::window::{self, WINDOW, application, refuses_writes, standing};
use super::{ApiServer, Namespace, cluster::eventually, cnpg};
use crate::support::{Cut, Database, Direction, Ended, Fault, Move, Proxy, Running, Server, leftovers};

const CHANGED: [&str; 2] = ["deployment/immich-server", "cronjob/backup"];

/// A window that stands still while it copies, and what it has found in the cluster.
struct Window {
    scene: Scene,
    before: Vec<Value>,
}

impl Window {
    /// With what a test makes beside, and with options of its own.
    fn begin(prepare: impl FnOnce(&World, &mut Move)) -> Window {
        let mut before = vec![];
        let scene = Scene::begin(|world, run| {
            application(&world.namespace);
            before = all_written(world);
            run.options.extend(WINDOW.map(str::to_owned));
            prepare(world, run);
        });
        let window = Window { scene, before };
        window.assert_stands();
        window
    }

    #[track_caller]
    fn assert_stands(&self) {
        assert_stands(&self.scene.world, &self.scene.source);
    }

    /// Waits until the run has told this.
    #[track_caller]
    fn tells(&mut self, words: &str) {
        tells(&mut self.scene.running, words);
    }

    /// Lets it go on to its end, which is this one: all is moved, and stands frozen and fenced until it is put back.
    #[track_caller]
    fn ends_proven(self, phrases: &[&str], look: impl FnOnce(&Move)) {
        let Window { scene: Scene { source, world, run, running, gate }, before } = self;
        Scene::open(&gate);
        let ended = running.wait();
        ended.assert(0, &[&["equal: ", "the application is frozen still"], phrases].concat());
        look(&run);
        assert_moved(&source, &world, &run, &before);
    }

    /// The same of a run that ends before, in this way, and goes on when what is in the way is removed.
    #[track_caller]
    fn stops_and_is_resumed(self, phrases: &[&str], remove: impl FnOnce(&World)) {
        let Window { scene: Scene { source, world, run, running, gate }, before } = self;
        Scene::open(&gate);
        running.wait().assert(5, &[&["the application is frozen still", "--resume"], phrases].concat());
        assert_stands(&world, &source);
        remove(&world);
        run.run(&["--resume"]).assert(0, &["equal: "]);
        assert_moved(&source, &world, &run, &before);
    }
}

fn all_written(world: &World) -> Vec<Value> {
    CHANGED.iter().map(|object| written(&world.namespace, object)).collect()
}

#[track_caller]
fn assert_stands(world: &World, source: &Database) {
    assert_eq!(standing(&world.namespace), (json!(0), json!(true)));
    assert!(refuses_writes(source));
}

#[track_caller]
fn assert_moved(source: &Database, world: &World, run: &Move, before: &[Value]) {
    assert_stands(world, source);
    Scene::assert_moved(source, &world.target);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run_dir = format!("--run-dir={}", run.run_dir().display());
    world.pgmove(directory.path(), &["rollback", &run_dir]).assert(0, &["immich-server", "backup"]);
    assert_eq!(all_written(world), before);
    for object in CHANGED {
        assert!(!names_pgmove(&world.namespace, object), "{object}");
    }
    assert!(world.namespace.kubectl(&["get", "leases", "--output=name"]).is_empty());
    let unfence = ["unfence", "--source=sts/immich-postgres", &run_dir];
    world.pgmove(directory.path(), &unfence).assert(0, &["accepts writes as before"]);
    assert!(!refuses_writes(source));
}

/// Waits until a run has told this, wrapped or not.
#[track_caller]
fn tells(running: &mut Running, words: &str) {
    eventually(&format!("the run tells {words:?}"), || {
        let is_running = running.is_running();
        let output = running.output();
        let is_told = output.split_whitespace().collect::<Vec<_>>().join(" ").contains(words);
        assert!(is_told || is_running, "{output}");
        is_told.then_some(())
    });
}

/// A window that works by an API server of its own.
fn through_its_own(more: &[&str]) -> (Window, ApiServer) {
    let mut api_server = None;
    let window = Window::begin(|world, run| {
        let own = ApiServer::start(world.namespace.cluster);
        log_in(run, &own.kubeconfig);
        run.options.extend(more.iter().map(|&option| option.to_owned()));
        api_server = Some(own);
    });
    (window, api_server.expect("it was started"))
}

#[test]
fn a_window_outlives_an_api_server_that_is_killed_and_comes_back() {
    let (mut window, api_server) = through_its_own(&[]);
    api_server.crash();
    window.tells("retry: ");
    window.assert_stands();
    api_server.restart();
    window.ends_proven(&["going on from the journal"], |_| ());
}

#[test]
fn a_window_whose_api_server_was_killed_stands_until_it_is_resumed() {
    let (mut window, api_server) = through_its_own(&["--retries=0"]);
    api_server.crash();
    window.tells("retry: ");
    api_server.restart();
    window.stops_and_is_resumed(&["lost"], |_| ());
}

#[test]
fn a_window_finds_the_pod_of_its_target_again_that_is_replaced() {
    let mut window = Window::begin(|_, _| ());
    let World { namespace, proxies, .. } = &window.scene.world;
    let pod = "immich-postgres-1";
    let former = namespace.ready_pod(pod);
    namespace.kubectl(&["delete", "pod", pod]);
    proxies[1].sever();
    proxies[1].heal();
    window.tells("retry: ");
    window.assert_stands();
    let new = cnpg::instance(&window.scene.world.namespace, pod, 5432);
    assert_ne!(new, former);
    window.ends_proven(&["going on from the journal"], |run| {
        let is_target = |record: &&Value| record["record"] == "pinned" && record["side"] == "target";
        let journal = run.journal();
        let pods = journal.iter().filter(is_target).map(|record| &record["server"]["at"]["uid"]);
        assert_eq!(pods.collect::<Vec<_>>(), [&former, &new]);
    });
}

#[test]
fn a_window_whose_snapshots_holder_is_cut_off_goes_on_with_a_new_one() {
    let window = Window::begin(|_, _| ());
    // It is asked at the latest when all rows are copied.
    let ping = Fault { words: "\u{b}SELECT\0", spared: 0, cut: Cut::Answer(0), times: 1 };
    window.scene.world.proxies[0].set(ping);
    window.ends_proven(&["snapshot is lost", "going on from the journal"], |run| {
        let journal = run.journal();
        let is_copied = |record: &&Value| record["record"] == "stage-finished" && record["stage"] == "copy";
        let is_missed = |record: &&Value| record["record"] == "retried";
        let first = journal.iter().find(|record| is_copied(record) || is_missed(record));
        assert!(
            first.is_some_and(|record| is_missed(&record)),
            "the copy counts without its locks: {journal:?}"
        );
    });
}

/// Puts a proxy between a run and its API server.
fn in_between(world: &World, run: &mut Move, directory: &Path) -> Proxy {
    let text =
        fs::read_to_string(&world.namespace.cluster.kubeconfig).expect("the administrator's kubeconfig");
    let config: Value = serde_json::from_str(&text).expect("it is written as JSON");
    let server = config["clusters"][0]["cluster"]["server"].as_str().expect("a URL");
    let port = server.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let proxy = Proxy::start(port);
    let kubeconfig = directory.join("kubeconfig");
    fs::write(&kubeconfig, proxy.uri(&text, port)).expect("a file of a temporary directory");
    log_in(run, &kubeconfig);
    proxy
}

#[test]
fn a_window_whose_connection_to_the_api_server_is_cut_in_the_midst_of_rows_copies_their_chunk_again() {
    let rows = "CREATE TABLE thumbnail AS
        SELECT id, repeat(md5(id::text), 128) AS bytes FROM generate_series(1, 1000) AS id";
    for (direction, pod) in [(Direction::Down, "immich-postgres-0"), (Direction::Up, "immich-postgres-1")] {
        let source = window::source(rows);
        let world = World::of(&source);
        application(&world.namespace);
        let before = all_written(&world);
        let mut run = window::frozen(&world, &source);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let proxy = in_between(&world, &mut run, directory.path());
        // Nothing but the rows of that table is as long.
        proxy.cut(direction, 2_000_003);
        let ended = run.run(&[]);
        let tunnel = format!("the tunnel to {}/{pod}:5432 broke: ", world.namespace.name);
        ended.assert(0, &["equal: ", "the application is frozen still", "retry: public.thumbnail", &tunnel]);
        assert!(!ended.output.contains("going on from the journal"), "{}", ended.output);
        assert_eq!(proxy.fired(), 1);
        assert_moved(&source, &world, &run, &before);
    }
}

/// Takes the right to connect to pods away from the account, or gives it back, and waits until that holds.
fn allow_forward(world: &World, is_allowed: bool) {
    let Namespace { cluster, name, .. } = &world.namespace;
    let mut rules = world.namespace.get("role/pgmove").expect("it is there")["rules"].take();
    let forward = json!({ "apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"] });
    let all = rules.as_array_mut().expect("a list");
    all.retain(|rule| rule["resources"] != forward["resources"]);
    all.extend(is_allowed.then_some(forward));
    let patch = format!("--patch={}", json!({ "rules": rules }));
    world.namespace.kubectl(&["patch", "role/pgmove", "--type=merge", &patch]);
    let account = format!("--as=system:serviceaccount:{name}:mover");
    let asked = ["-n", name, "auth", "can-i", "create", "pods", "--subresource=portforward", &account];
    eventually("the rules hold", || match cluster.try_kubectl(&asked, "") {
        Ok(_) => is_allowed.then_some(()),
        // A no goes to stdout; what has failed says why.
        Err(reason) => (!is_allowed && reason.is_empty()).then_some(()),
    });
}

/// A window by an account that loses the right to connect to pods, and its connections with it; the words of the API server.
fn without_its_right(more: &[&str]) -> (Window, String) {
    let window = Window::begin(|world, run| {
        log_in(run, &account(world, "run,freeze,rollback"));
        allow_forward(world, true);
        run.options.extend(["--source-secret=immich-secrets", "--target-privileges=none"].map(str::to_owned));
        run.options.extend(more.iter().map(|&option| option.to_owned()));
    });
    let World { namespace, proxies, .. } = &window.scene.world;
    allow_forward(&window.scene.world, false);
    for proxy in proxies {
        proxy.sever();
        proxy.heal();
    }
    let words = format!("account system:serviceaccount:{}:mover may not ", namespace.name);
    (window, words)
}

#[test]
fn a_window_goes_on_when_a_right_that_was_taken_away_is_given_back() {
    // Each attempt is refused at once, so there have to be some until the right is back.
    let (mut window, words) = without_its_right(&["--retries=9"]);
    window.tells(&words);
    window.assert_stands();
    allow_forward(&window.scene.world, true);
    window.ends_proven(&["going on from the journal"], |_| ());
}

#[test]
fn a_window_without_a_right_names_it_and_is_resumed_when_it_is_given_back() {
    let (window, words) = without_its_right(&["--retries=1"]);
    let rule = "resources: [\"pods/portforward\"]";
    window.stops_and_is_resumed(&[&words, "pods/portforward", rule], |world| allow_forward(world, true));
}

/// What happens to a window.
type Disturb = fn(&Scene);

/// What has become of a window that was to go back where it fails.
struct Over {
    ended: Ended,
    source: Database,
    world: World,
    before: Vec<Value>,
}

impl Over {
    fn after(disturb: Disturb) -> Over {
        let Window { scene, before } =
            Window::begin(|_, run| run.options.push("--on-failure=rollback".into()));
        disturb(&scene);
        let Scene { source, world, run: _run, running, gate: _gate } = scene;
        Over { ended: running.wait(), source, world, before }
    }

    fn is_read_only(&self) -> bool {
        self.world.target.psql("SHOW default_transaction_read_only") == "on"
    }
}

/// Fails unless a window that is to go back does so when it ends with this number, and keeps that.
fn goes_back_with(code: i32, is_read_only: bool, disturb: Disturb) {
    let over = Over::after(disturb);
    over.ended.assert(code, &["the fence was lifted again", "what was frozen is put back"]);
    assert_eq!(all_written(&over.world), over.before);
    assert!(over.world.namespace.kubectl(&["get", "leases", "--output=name"]).is_empty());
    assert!(!refuses_writes(&over.source));
    assert_eq!(over.is_read_only(), is_read_only);
}

#[test]
fn a_window_whose_target_holds_what_the_source_does_not_goes_back() {
    goes_back_with(4, false, |Scene { world, gate, .. }| {
        world.target.psql("SET default_transaction_read_only = off; CREATE TABLE public.stray ()");
        Scene::open(gate);
    });
}

#[test]
fn a_window_whose_target_is_another_server_goes_back() {
    goes_back_with(7, true, |Scene { world, gate, .. }| {
        cnpg::report(&world.namespace, &json!({ "systemID": "1" }));
        Scene::open(gate);
    });
}

#[test]
fn a_window_with_a_writer_whom_the_fence_does_not_keep_away_goes_back() {
    goes_back_with(8, false, |Scene { source, gate, .. }| {
        source.psql("SET default_transaction_read_only = off; INSERT INTO photo VALUES (1001)");
        Scene::open(gate);
    });
}

#[test]
fn a_window_that_is_interrupted_goes_back() {
    goes_back_with(130, true, |Scene { running, .. }| running.interrupt());
}

#[test]
fn a_window_that_goes_back_leaves_what_others_have_set_and_one_that_is_killed_leaves_all() {
    let over = Over::after(|Scene { world, .. }| {
        world.namespace.kubectl(&["scale", "deployment/immich-server", "--replicas=1"]);
    });
    let told = ["not everything is as it was", "the fence was lifted again", "was changed by others since"];
    over.ended.assert(5, &told);
    assert_eq!(standing(&over.world.namespace), (json!(1), json!(false)));
    assert!(!refuses_writes(&over.source) && over.is_read_only());

    let over = Over::after(|Scene { running, .. }| running.signal("KILL"));
    assert_eq!(over.ended.code, None, "{}", over.ended.output);
    assert_stands(&over.world, &over.source);
    assert!(over.is_read_only());
}

/// Another run on the source of a world, which freezes something else.
fn another(world: &World, source: &Database, target: &Database, options: &[&str]) -> Move {
    let mut run = world.to_move(source);
    (run.target, run.admin) = (target.uri(), None);
    run.options.push("--freeze".into());
    run.options.extend(options.iter().map(|&option| option.to_owned()));
    run
}

/// Fails unless a run was refused because this one works, and has left nothing.
#[track_caller]
fn assert_refused(ended: &Ended, refused: &Move, target: &Database, holder: &Move) {
    let id = holder.journal()[0]["run"].as_str().expect("the run's id").to_owned();
    ended.assert(3, &[&format!("run {id} of "), "works on this source, since ", "get lease"]);
    refused.assert_left_only_a_report();
    assert_eq!(leftovers(target), "");
}

#[test]
fn a_window_is_not_undone_by_another_run_that_its_lease_keeps_away() {
    let window = Window::begin(|world, _| {
        world.namespace.apply(&workload("Deployment", "learning", 1, &json!({})).to_string());
    });
    let Scene { source, world, run, .. } = &window.scene;
    let target = Server::shared(18).database();
    let options = ["--fence", "--workload=deploy/learning", "--on-failure=rollback"];
    let refused = another(world, source, &target, &options);
    assert_refused(&refused.run(&[]), &refused, &target, run);
    assert_eq!(replicas(&world.namespace, "learning"), 1);
    window.assert_stands();
    window.ends_proven(&[], |_| ());
}

#[test]
fn of_two_runs_that_begin_at_once_one_works_and_the_other_is_told_its_name() {
    let source = Server::shared(15).database();
    source.psql(SAMPLE);
    let world = World::of(&source);
    application(&world.namespace);
    let other = Server::shared(18).database();
    let mut gates = [&world.target, &other].map(Scene::close);
    // Without a fence, which would end the other's sessions before it comes to the Lease.
    let start = |target, workload| {
        let run = another(&world, &source, target, &[workload]);
        let running = run.start(&[]);
        (run, running, target)
    };
    let mut begun =
        [start(&world.target, "--workload=deploy/immich-server"), start(&other, "--workload=cronjob/backup")];
    let first =
        eventually("one of them ends", || begun.iter_mut().position(|(_, running, _)| !running.is_running()));
    let frozen = [(json!(2), json!(true)), (json!(0), json!(false))];
    begun.rotate_left(first);
    gates.rotate_left(first);
    let [(refused, ended, target), (run, running, _)] = begun;
    let [unneeded, gate] = gates;
    Scene::open(&unneeded);
    assert_refused(&ended.wait(), &refused, target, &run);
    Scene::open(&gate);
    running.wait().assert(0, &["equal: ", "the application is frozen still"]);
    assert_eq!(standing(&world.namespace), frozen[first]);
}
