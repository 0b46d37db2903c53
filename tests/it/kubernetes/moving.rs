//! Moves between databases in pods, as the library does them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use pgmove::{
    event::{Event, Events},
    kubernetes::{Access, ApiServer, Kubeconfig, Route},
    pg::{ConnInfo, Defaults},
    run::{self, Outcome},
    schema::ClientSearch,
    settings::{Connections, RETRIES, RunSettings, Substitute},
    verify::Verdict,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Database, Install, SMALL, Server, State, Variant, Vectors, leftovers, state};

/// A source that nobody writes to, for all tests here; they only read it.
pub(super) static SOURCE: LazyLock<(Database, State)> = LazyLock::new(|| {
    let quiet = Variant { settings: "autovacuum = off".into(), ..Variant::default() };
    let server = Server::start(16, &quiet);
    let source = SMALL.fill(&server, Vectors::of(&server));
    let end = state(&source);
    (source, end)
});

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub(super) kubeconfig: PathBuf,
    pub(super) namespace: String,
}

impl Reach {
    pub(super) async fn server(&self) -> ApiServer {
        let kubeconfig = Kubeconfig::File(self.kubeconfig.clone());
        let access = Access { kubeconfig, context: None, namespace: Some(self.namespace.clone()) };
        ApiServer::connect(&access).await.expect("a kubeconfig")
    }

    /// The login of `uri` to the server behind an object; TLS as the URI says, with the certificate of its host.
    pub(super) async fn conninfo(&self, object: &str, uri: &str) -> Arc<ConnInfo> {
        let route = Route::new(self.server().await, object.parse().expect("an object"), None);
        Arc::new(ConnInfo::parse(uri, &Defaults::default()).expect("a URI").in_pod(Arc::new(route)))
    }
}

/// A move over tunnels on both sides.
pub(super) struct Move {
    pub(super) reach: Reach,
    /// The object behind which the source is.
    pub(super) source: &'static str,
    /// The same for the target.
    pub(super) behind: &'static str,
    pub(super) target: Database,
    /// Where client programs are looked for, by the logins of source and target.
    pub(super) client: fn(&[Arc<ConnInfo>; 3]) -> ClientSearch,
    /// How often it goes on by itself.
    pub(super) retries: u32,
    /// What is added to each connection string.
    pub(super) parameters: &'static str,
    directory: tempfile::TempDir,
}

impl Move {
    /// From [`SOURCE`] to an empty database.
    pub(super) fn new(reach: Reach, [source, behind]: [&'static str; 2], target: Database) -> Move {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Move { reach, source, behind, target, client: newest, retries: RETRIES, parameters: "", directory }
    }

    /// How it ended, and the reasons why something was tried again.
    pub(super) fn run(&self, resume: bool) -> (Result<Outcome, String>, Vec<String>) {
        let (events, heard) = Events::channel();
        let (outcome, retries) = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let events = events;
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async {
                    let login = async |object, uri: String| {
                        self.reach.conninfo(object, &(uri + self.parameters)).await
                    };
                    let logins = [
                        login(self.source, SOURCE.0.uri()).await,
                        login(self.behind, self.target.uri()).await,
                        login(self.behind, self.target.admin_uri()).await,
                    ];
                    let client = (self.client)(&logins);
                    let settings = settings(logins, client, &self.directory.path().join("run"), resume);
                    let settings = RunSettings { retries: self.retries, ..settings };
                    run::run(&settings, &events, &CancellationToken::new()).await
                })
            });
            let retries = heard.iter().filter_map(|event| match event {
                Event::Retry { reason, .. } => Some(reason),
                _ => None,
            });
            // Heard while it runs, since events that nobody takes hold it up.
            let retries = retries.collect();
            (run.join().expect("it does not panic"), retries)
        });
        (outcome.map_err(|error| error.chain().join(": ")), retries)
    }

    /// Fails unless everything is proven to be there, and nothing else is left.
    #[track_caller]
    pub(super) fn assert_moved(&self, outcome: &Result<Outcome, String>) {
        let Ok(Outcome::Moved { comparison, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(comparison.verdict(), Verdict::Equal, "{comparison:?}");
        assert_eq!(leftovers(&self.target), "");
        state(&self.target).assert_equal(&SOURCE.1);
    }
}

/// Those of this machine.
fn newest(_: &[Arc<ConnInfo>; 3]) -> ClientSearch {
    let clients = Install::all().last().expect("a server").client_bin_dir.clone();
    ClientSearch { directory: Some(clients), ..ClientSearch::default() }
}

fn settings(
    [source, target, admin]: [Arc<ConnInfo>; 3],
    client: ClientSearch,
    run_dir: &Path,
    resume: bool,
) -> RunSettings {
    let connections = Connections {
        source: Some(source),
        target,
        target_admin: Some(admin),
        substitute: Substitute::None,
        operator: None,
        client,
        stall: Duration::from_secs(5),
    };
    RunSettings { resume, jobs: Some(2), ..RunSettings::new(connections, run_dir.to_owned()) }
}
