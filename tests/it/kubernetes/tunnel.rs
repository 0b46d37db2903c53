//! Moves over tunnels through a real API server, to pods that lead to real PostgreSQL servers.

use std::{sync::Arc, time::Duration};

use pgmove::{
    error::{Fault as _, Side},
    kubernetes::{Exec, PodPort, exec},
    pg,
    run::Outcome,
};
use serde_json::json;

use super::moving::{Move, Reach, SOURCE};
use super::{ApiServer, Cluster, Namespace};
use crate::support::{Cut, Fault, Proxy, Server, Variant, psql};

/// A stand-alone pair: what the pods `legacy-0` and `new-0` lead to may be cut.
struct Pair {
    namespace: Namespace,
    proxies: [Proxy; 2],
    target: Arc<Server>,
}

impl Pair {
    fn start() -> Pair {
        let namespace = Cluster::get().namespace();
        let target = Server::shared(18);
        let proxies = [SOURCE.0.server.port, target.port].map(Proxy::start);
        for (name, proxy) in ["legacy", "new"].into_iter().zip(&proxies) {
            namespace.forward(&format!("{name}-0"), proxy.port);
            namespace.stateful_set(name);
        }
        Pair { namespace, proxies, target }
    }

    fn reach(&self) -> Reach {
        Reach {
            kubeconfig: self.namespace.cluster.kubeconfig.clone(),
            namespace: self.namespace.name.clone(),
        }
    }

    fn to_move(&self, reach: Reach) -> Move {
        Move::new(reach, ["sts/legacy", "sts/new"], self.target.database())
    }
}

#[test]
fn a_move_over_tunnels_is_proven() {
    let pair = Pair::start();
    let moved = pair.to_move(pair.reach());
    let (outcome, retries) = moved.run(false);
    moved.assert_moved(&outcome);
    assert_eq!(retries, [""; 0]);
}

#[test]
fn a_connection_that_is_cut_behind_the_pod_is_a_chunk_copied_again() {
    let pair = Pair::start();
    for (side, words, spared, cut) in [
        (0, "TO STDOUT", 10, Cut::Answer(3000)),
        (1, "FROM STDIN", 10, Cut::RequestAfter(2000)),
        (1, "'chunk:", 5, Cut::Answer(0)),
        // VectorChord writes to its client while it builds, and so notices that there is none any more.
        (1, "USING vchordrq", 0, Cut::Answer(0)),
    ] {
        let moved = pair.to_move(pair.reach());
        pair.proxies[side].set(Fault { words, spared, cut, times: 1 });
        let (outcome, retries) = moved.run(false);
        assert_eq!(pair.proxies[side].fired(), 1, "{words}: {outcome:?}");
        moved.assert_moved(&outcome);
        assert_eq!(retries.len(), 1, "{words}: {retries:?}");
    }
}

#[test]
fn a_tunnel_that_stands_still_is_waited_for_and_at_the_limit_its_chunk_is_copied_again() {
    let pair = Pair::start();
    // The limit is 5 s.
    for (delay, again) in [(2, 0), (60, 1)] {
        let moved = pair.to_move(pair.reach());
        let cut = Cut::DelayAnswer(3000, Duration::from_secs(delay));
        pair.proxies[0].set(Fault { words: "TO STDOUT", spared: 10, cut, times: 1 });
        let (outcome, retries) = moved.run(false);
        assert_eq!(pair.proxies[0].fired(), 1, "{delay} s: {outcome:?}");
        moved.assert_moved(&outcome);
        assert_eq!(retries.len(), again, "{delay} s: {retries:?}");
        let reason = "no row came from the source for 5 s";
        assert!(retries.iter().all(|told| told.contains(reason)), "{retries:?}");
    }
}

#[test]
fn the_snapshots_holder_is_missed_and_the_run_goes_on() {
    let pair = Pair::start();
    let moved = pair.to_move(pair.reach());
    pair.proxies[0].set(Fault { words: "\u{b}SELECT\0", spared: 0, cut: Cut::Answer(0), times: 1 });
    let (outcome, retries) = moved.run(false);
    assert_eq!(pair.proxies[0].fired(), 1);
    moved.assert_moved(&outcome);
    assert!(
        retries.iter().any(|reason| goes_on(reason) && reason.contains("snapshot is lost")),
        "{retries:?}"
    );
}

/// What is told when a run goes on by itself.
fn goes_on(reason: &str) -> bool {
    reason.contains("; going on from the journal in ")
}

/// Runs a move, and does something while it copies. What became of it, and why something was tried again.
fn disturbed(moved: &Move, disturb: impl FnOnce()) -> (Result<Outcome, String>, Vec<String>) {
    let uri = moved.target.admin_uri();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| moved.run(false));
        let copied = "SELECT count(*) > 5 FROM pgmove.ledger WHERE item ~ 'chunk'";
        while psql(&uri, copied).as_deref() != Ok("t") {
            assert!(!run.is_finished(), "it is too fast: {:?}", run.join());
        }
        disturb();
        run.join().expect("it does not panic")
    })
}

#[test]
fn an_api_server_that_is_killed_and_comes_back_is_gone_on_from() {
    let pair = Pair::start();
    let api_server = ApiServer::start(pair.namespace.cluster);
    let moved = pair.to_move(Reach { kubeconfig: api_server.kubeconfig.clone(), ..pair.reach() });
    let (outcome, retries) = disturbed(&moved, || {
        api_server.crash();
        api_server.restart();
    });
    moved.assert_moved(&outcome);
    let is_told = |reason: &String| {
        goes_on(reason) && (reason.contains("the tunnel to ") || reason.contains("cannot be reached"))
    };
    assert!(retries.iter().any(is_told), "{retries:?}");
}

#[test]
fn an_api_server_that_does_not_come_back_stops_a_run_that_goes_on_later() {
    let pair = Pair::start();
    let api_server = ApiServer::start(pair.namespace.cluster);
    let mut moved = pair.to_move(Reach { kubeconfig: api_server.kubeconfig.clone(), ..pair.reach() });
    (moved.retries, moved.parameters) = (1, "&connect_timeout=2");
    let (outcome, retries) = disturbed(&moved, || api_server.crash());
    let error = outcome.expect_err("nothing leads to the servers");
    assert!(error.contains("could not connect to the ") && error.contains("cannot be reached"), "{error}");
    assert_eq!(retries.iter().filter(|reason| goes_on(reason)).count(), 1, "{retries:?}");
    api_server.restart();
    moved.parameters = "";
    let (outcome, _) = moved.run(true);
    moved.assert_moved(&outcome);
}

#[test]
fn a_pod_that_is_replaced_is_found_again() {
    let pair = Pair::start();
    let server = Server::start(18, &Variant::default());
    pair.namespace.forward("new-0", server.port);
    let moved = Move::new(pair.reach(), ["sts/legacy", "sts/new"], server.database());
    let first = pair.namespace.ready_pod("new-0");
    let (outcome, retries) = disturbed(&moved, || {
        server.crash();
        pair.namespace.kubectl(&["delete", "pod", "new-0", "--wait=false"]);
        server.restart();
    });
    moved.assert_moved(&outcome);
    assert!(retries.iter().any(|reason| goes_on(reason)), "{retries:?}");
    assert_ne!(pair.namespace.ready_pod("new-0"), first);
}

/// The node cuts what is idle for 40 s (`idle` in tests/cluster/streams.go).
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_longer_than_a_node_lets_a_stream_be_idle_is_answered() {
    let pair = Pair::start();
    let conninfo = pair.reach().conninfo("sts/legacy", &SOURCE.0.uri()).await;
    let pg::Connected { client, driver, .. } =
        pg::connect(&conninfo, "pgmove test", Side::Source).await.expect("a tunnel");
    let (answer, ended) = tokio::join!(
        async move { client.query_one("SELECT 1 FROM pg_sleep(55)", &[]).await },
        tokio::time::timeout(Duration::from_secs(120), driver),
    );
    answer.unwrap_or_else(|error| panic!("{error}: {ended:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_the_right_to_forward_is_told_which_one() {
    let pair = Pair::start();
    let statefulset = json!({ "apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get"] });
    let pods = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] });
    let kubeconfig = pair.namespace.account("reader", &json!([statefulset, pods]));
    let reach = Reach { kubeconfig, ..pair.reach() };
    let uri = format!("{}&connect_timeout=5", SOURCE.0.uri());
    let conninfo = reach.conninfo("sts/legacy", &uri).await;
    let error = pg::connect(&conninfo, "pgmove test", Side::Source).await.err().expect("no right");
    let text = pgmove::pg::server_error::describe_chain(&error);
    assert!(
        text.contains(&format!("account system:serviceaccount:{}:reader may not", pair.namespace.name)),
        "{text}"
    );
    let hint = error.hint().expect("a rule");
    assert!(hint.contains("pods/portforward"), "{hint}");

    let forward = json!({ "apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"] });
    let kubeconfig = pair.namespace.account("mover", &json!([statefulset, pods, forward]));
    let conninfo = Reach { kubeconfig, ..pair.reach() }.conninfo("sts/legacy", &uri).await;
    pg::connect(&conninfo, "pgmove test", Side::Source).await.map(drop).expect("these rights will do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_a_container_is_heard_to_its_end() {
    let namespace = Cluster::get().namespace();
    let server = Server::shared(18);
    namespace.stateful_set("new");
    namespace.lead("new-0", &server);
    let reach = Reach { kubeconfig: namespace.cluster.kubeconfig.clone(), namespace: namespace.name.clone() };
    let api_server = reach.server().await;
    let at = PodPort {
        namespace: namespace.name.clone(),
        pod: "new-0".into(),
        uid: String::new(),
        container: "postgres".into(),
        port: 5432,
    };
    let stall = Duration::from_secs(20);
    let run = async |command: &[&str], input: &[u8]| {
        exec(&api_server, &Exec { at: &at, command, input, stall }).await.expect("it is heard to its end")
    };
    let shown = run(&["psql", "-XAtc", "SHOW port"], b"").await;
    assert_eq!((String::from_utf8_lossy(&shown.stdout).trim(), shown.code), (&*server.port.to_string(), 0));
    let input = vec![7; 3_000_001];
    assert!(run(&["cat"], &input).await.stdout == input);
    let failed = run(&["psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", "SELECT 1/0"], b"").await;
    assert!(failed.code == 1 && failed.stderr.contains("division by zero"), "{failed:?}");
}
