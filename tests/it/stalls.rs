//! Streams that stand still, with a limit shorter than the command line's: they are ended, and their work is done again.

use std::{
    sync::{Arc, mpsc::RecvTimeoutError},
    time::Duration,
};

use pgmove::{
    event::{Event, Events},
    pg::{ConnInfo, Defaults},
    run::{self, Outcome},
    schema::ClientSearch,
    settings::{Connections, RunSettings, Substitute},
    verify::Verdict,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Cut, Fault, Install, Proxy, Server, leftovers, state};

/// More than any buffer between pgmove and a server takes.
const SAMPLE: &str = "
CREATE TABLE photo (id integer PRIMARY KEY, body text);
INSERT INTO photo SELECT n, repeat('0123456789abcdef', 65536) FROM generate_series(1, 24) AS n;
";

const STALL: Duration = Duration::from_secs(2);

fn settings(source: &str, target: &str, run_dir: &std::path::Path) -> RunSettings {
    let conninfo = |uri| Arc::new(ConnInfo::parse(uri, &Defaults::default()).expect("a URI"));
    let clients = Install::all().last().expect("a server").client_bin_dir.clone();
    let connections = Connections {
        source: Some(conninfo(source)),
        target: conninfo(target),
        target_admin: None,
        substitute: Substitute::None,
        operator: None,
        client: ClientSearch { directory: Some(clients), ..ClientSearch::default() },
        stall: STALL,
    };
    RunSettings { jobs: Some(2), accept_writes: true, ..RunSettings::new(connections, run_dir.to_owned()) }
}

#[test]
fn a_stream_that_stands_still_is_begun_again() {
    let source = Server::shared(16).database();
    source.psql(SAMPLE);
    for (is_source, words, cut) in [
        (true, "TO STDOUT", Cut::HoldAnswer(3_000_000)),
        (false, "FROM STDIN", Cut::HoldRequest(3_000_000)),
        (false, "TO STDOUT", Cut::HoldAnswer(3_000_000)),
    ] {
        let target = Server::shared(18).database();
        let port = if is_source { source.server.port } else { target.server.port };
        let proxy = Proxy::start(port);
        proxy.set(Fault { words, spared: 0, cut, times: 1 });
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [from, to] = [source.uri(), target.uri()].map(|uri| proxy.uri(&uri, port));
        let settings = settings(&from, &to, &directory.path().join("run"));
        let (events, heard) = Events::channel();
        let run = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(run::run(&settings, &events, &CancellationToken::new()))
        });
        let mut retries: Vec<String> = Vec::new();
        loop {
            match heard.recv_timeout(30 * STALL) {
                Ok(Event::Retry { reason, .. }) => retries.push(reason),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{words}, {cut:?}: nothing happens after {retries:?}")
                }
            }
        }
        let outcome = run.join().expect("it does not panic");
        let Ok(Outcome::Moved { comparison, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(comparison.verdict(), Verdict::Equal, "{comparison:?}");
        assert_eq!((proxy.fired(), retries.len()), (1, 1), "{retries:?}");
        assert!(retries[0].contains("for 2 s"), "{retries:?}");
        // A server that nobody takes an answer from does not notice; where it was to load rows, its session is ended.
        let left = leftovers(&target);
        let is_expected = |line: &&str| matches!(cut, Cut::HoldAnswer(_)) && line.starts_with("session ");
        assert_eq!(left.lines().filter(|line| !is_expected(line)).collect::<Vec<_>>(), [""; 0], "{words}");
        state(&target).assert_equal(&state(&source));
    }
}
