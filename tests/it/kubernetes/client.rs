//! `pg_dump` and `pg_restore` in the pods of servers, for a machine that has none: what they write is whole, and nobody
//! sees the password.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use pgmove::{
    error::{Fault as _, Side},
    pg::ConnInfo,
    schema::{
        ChildEndpoint, ChildLimits, ClientChoice, ClientError, ClientSearch, ClientTools, DumpError,
        DumpRequest, Entry, dump_schema, pods,
    },
};
use secrecy::SecretString;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::cluster::eventually;
use super::cnpg::{self, Login};
use super::endpoints::{ended, legacy, small};
use super::moving::{self, SOURCE};
use super::stand_in::{Loss, StandIn};
use super::{Cluster, Namespace, rbac};
use crate::support::{Database, Ended, Move, PASSWORD, Server, client_path, leftovers, pgmove, state};

/// A path on which the first client programs are those of another age.
struct OldPrograms(tempfile::TempDir);

impl OldPrograms {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for program in ["pg_dump", "pg_restore"] {
            let path = directory.path().join(program);
            fs::write(&path, format!("#!/bin/sh\necho '{program} (PostgreSQL) 15.18'\n")).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        }
        Self(directory)
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }

    fn path(&self) -> OsString {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let parts = std::iter::once(self.directory().to_owned()).chain(env::split_paths(&inherited));
        env::join_paths(parts).expect("a directory whose name holds no colon")
    }
}

fn search(servers: &[(Side, &Arc<ConnInfo>)], choice: ClientChoice) -> ClientSearch {
    ClientSearch { choice, pods: pods(servers), ..ClientSearch::default() }
}

async fn dump(tools: &ClientTools, conninfo: &Arc<ConnInfo>) -> Result<Vec<Entry>, DumpError> {
    let scratch = tempfile::tempdir().expect("a directory");
    let archive = scratch.path().join("schema.dump");
    let endpoint = ChildEndpoint::of(conninfo).expect("a password of one line");
    let limits = ChildLimits { stall: Duration::from_secs(60), cancel: CancellationToken::new() };
    let request = DumpRequest {
        side: Side::Target,
        tools,
        endpoint: &endpoint,
        snapshot: None,
        archive: &archive,
        limits: &limits,
    };
    let dumped = dump_schema(&request).await?;
    let mode = fs::metadata(&archive).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    Ok(dumped.entries)
}

/// Some tables, whose owner has a password that a shell would take for something else.
async fn careful(stand_in: &StandIn, pod: &str, database: &Database) -> Arc<ConnInfo> {
    let password = " p'\\\"$HOME`id` ";
    let reach = stand_in.reach();
    let conninfo = reach.conninfo(&format!("pod/{pod}"), &database.uri()).await;
    database.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY, name text); CREATE VIEW named AS SELECT name FROM photo",
    );
    database.admin_psql(&format!("ALTER ROLE {} PASSWORD '{}'", database.name, password.replace('\'', "''")));
    Arc::new(ConnInfo::clone(&conninfo).with_password(SecretString::from(password)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pg_dump_writes_in_a_pod_is_whole_and_its_password_is_seen_by_nobody() {
    let databases = [Server::shared(18).database(), Server::shared(16).database()];
    let ports = databases.each_ref().map(|database| database.server.port);
    let stand_in = StandIn::with_addresses(&[("new-1", ports[0]), ("legacy-0", ports[1])]);
    stand_in.offer(client_path());
    let [target, source] = [
        careful(&stand_in, "new-1", &databases[0]).await,
        careful(&stand_in, "legacy-0", &databases[1]).await,
    ];
    let search = search(&[(Side::Target, &target), (Side::Source, &source)], ClientChoice::Pod);
    let tools = ClientTools::find(&search, 18).await.expect("those of the pod");
    assert!(tools.to_string().ends_with(" in the pod of pod/new-1 in media"), "{tools}");

    // The server of its own pod, and one in another.
    let whole = dump(&tools, &target).await.expect("it is reached");
    assert!(whole.iter().any(|entry| format!("{entry:?}").contains("photo")), "{whole:?}");
    let other = dump(&tools, &source).await.expect("it is reached");
    assert_eq!(other.len(), whole.len());
    let commands = stand_in.commands();
    let [mut own, mut of_other] = [0, 0];
    for argument in commands.iter().flatten() {
        assert!(!argument.contains("$HOME`"), "{argument}");
        let Some(login) = argument.strip_prefix("--dbname=") else { continue };
        assert!(login.starts_with("host='127.0.0.1' "), "{login}");
        // Loopback is as a tunnel is to the server; between pods there may be a network.
        let is = |port: u16, mode: &str| {
            usize::from(
                login.contains(&format!(" port='{port}' ")) && login.contains(&format!(" sslmode='{mode}' ")),
            )
        };
        own += is(ports[0], "disable");
        of_other += is(ports[1], "prefer");
    }
    assert_eq!([own, of_other], [1, 1], "{commands:?}");

    // In pg_dump, and in both looks of pg_restore at its archive.
    for place in 0..3 {
        for loss in [
            Loss { output: 200, ..Loss::NONE },
            Loss { input: 3, ..Loss::NONE },
            Loss { messages: 10, ..Loss::NONE },
            Loss { is_cut: true, messages: 0, ..Loss::NONE },
        ] {
            let before = stand_in.commands().len();
            stand_in.lose_next(&[&vec![Loss::NONE; place][..], &[loss]].concat());
            let again =
                dump(&tools, &target).await.unwrap_or_else(|error| panic!("{place}, {loss:?}: {error:?}"));
            assert_eq!(format!("{again:?}"), format!("{whole:?}"), "{place}, {loss:?}");
            assert_eq!(stand_in.commands().len() - before, 4, "{place}, {loss:?}: one is run again");
        }
    }
    stand_in.lose(Loss { output: 200, ..Loss::NONE });
    let error = dump(&tools, &target).await.expect_err("it is never whole");
    let DumpError::Dump { cause, .. } = &error else { panic!("{error:?}") };
    let expected =
        "the connection to pg_dump in pod new-1 was cut: the 200 bytes that came are not what it wrote";
    assert!(cause.to_string() == expected && error.is_retryable(), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_client_programs_will_do_all_places_are_named() {
    let database = Server::shared(18).database();
    let stand_in = StandIn::with_addresses(&[("new-1", database.server.port)]);
    let old = OldPrograms::new();
    let conninfo = stand_in.reach().conninfo("pod/new-1", &database.uri()).await;
    let find = async |choice, directory: Option<&Path>| {
        let candidates = vec![old.directory().to_owned()];
        let directory = directory.map(Path::to_owned);
        let search = ClientSearch { candidates, directory, ..search(&[(Side::Target, &conninfo)], choice) };
        ClientTools::find(&search, 18).await
    };
    let told = |error: &ClientError| format!("{error} | {}", error.hint().unwrap_or_default());
    let here = format!("pg_dump must be version 18 or newer, found 15.18 in {}", old.directory().display());
    let in_pod = "15.18 in the pod of pod/new-1 in media";

    stand_in.offer(old.path());
    let error = told(&find(ClientChoice::Auto, None).await.expect_err("both are old"));
    assert!(error.starts_with(&format!("{here}; nor is there a pod for it: {in_pod} | install")), "{error}");
    let error = told(&find(ClientChoice::Pod, None).await.expect_err("they are old"));
    let expected = format!("no pod has pg_dump and pg_restore of version 18 or newer: {in_pod} | install");
    assert!(error.starts_with(&expected), "{error}");
    // Nobody has asked for a pod.
    for (choice, directory) in [(ClientChoice::Local, None), (ClientChoice::Auto, Some(old.directory()))] {
        let before = stand_in.commands().len();
        let error = told(&find(choice, directory).await.expect_err("they are old"));
        assert!(
            error.starts_with(&format!("{here} | install")) && error.ends_with("--client pod"),
            "{error}"
        );
        assert_eq!(stand_in.commands().len(), before);
    }

    // A container without them.
    let bare = tempfile::tempdir().expect("a directory");
    for program in ["sh", "env", "cat", "head", "sha256sum", "tee"] {
        let found = ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(program));
        let found = found.iter().find(|path| path.exists()).expect("this machine has it");
        std::os::unix::fs::symlink(found, bare.path().join(program)).expect("a link");
    }
    stand_in.offer(bare.path().into());
    let error = told(&find(ClientChoice::Pod, None).await.expect_err("there are none"));
    assert!(error.contains("none in the pod of pod/new-1 in media (pg_dump in pod new-1 failed"), "{error}");
    stand_in.offer(client_path());
    let found = find(ClientChoice::Auto, None).await.expect("those of the pod");
    assert_eq!(found.version.major, 18);
}

#[test]
fn a_run_goes_to_a_pod_where_this_machine_has_no_client_programs_however_its_streams_are_cut() {
    let target = Server::shared(18).database();
    let stand_in =
        StandIn::with_addresses(&[("legacy-0", SOURCE.0.server.port), ("new-1", target.server.port)]);
    stand_in.offer(client_path());
    let mut moved = moving::Move::new(stand_in.reach(), ["pod/legacy-0", "pod/new-1"], target);
    moved.client =
        |[source, target, _]| search(&[(Side::Target, target), (Side::Source, source)], ClientChoice::Auto);
    // After both programs have told their version.
    let cut = Loss { output: 20_000, ..Loss::NONE };
    stand_in.lose_next(&[Loss::NONE, Loss::NONE, cut]);
    let (outcome, _) = moved.run(false);
    moved.assert_moved(&outcome);
    let dumps = |command: &Vec<String>| command.iter().any(|word| word.starts_with("--snapshot="));
    assert_eq!(stand_in.commands().iter().filter(|command| dumps(command)).count(), 2, "one is cut");
}

/// A legacy server in a `StatefulSet` and a Cluster, at addresses where they are reached from pods.
struct Pods {
    namespace: Namespace,
    target: Database,
}

const SOURCE_POD: &str = "immich-postgres-0";
const TARGET_POD: &str = "immich-postgres-1";

impl Pods {
    fn of(source: &Database) -> Pods {
        let (namespace, target) = (Cluster::get().namespace(), Server::shared(18).database());
        let ports = [source, &target].map(|database| database.server.port);
        legacy(&namespace, source, ports[0]);
        let login = Login { user: &target.name, password: Database::PASSWORD, database: &target.name };
        cnpg::cluster_at(&namespace, &login, ports[1]);
        let addresses = json!({ "status": { "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }] } });
        let patch = format!("--patch={addresses}");
        let pods = Pods { namespace, target };
        for (pod, port) in [(SOURCE_POD, ports[0]), (TARGET_POD, ports[1])] {
            pods.namespace.forward_from(pod, port, port);
            pods.namespace.kubectl(&["patch", "pod", pod, "--subresource=status", "--type=merge", &patch]);
            pods.offer(pod, &client_path());
        }
        pods
    }

    /// Has programs of a pod find others on this path, and what would lead them to no server.
    fn offer(&self, pod: &str, path: &OsStr) {
        let path = path.to_str().expect("UTF-8");
        let variables = [
            ("PATH", path),
            ("PGHOST", "elsewhere"),
            ("PGPASSWORD", "wrong"),
            ("PGSERVICE", "none"),
            ("PGOPTIONS", "-c"),
        ];
        let environment = variables.map(|(name, value)| json!({ "name": name, "value": value }));
        let exec = json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": "Exec",
            "metadata": { "name": pod },
            "spec": { "execs": [{ "containers": ["postgres"], "local": { "envs": environment } }] },
        });
        self.namespace.apply(&exec.to_string());
    }

    fn to_move(&self, source: &Database, kubeconfig: &Path) -> Move {
        let mut run = Move::new(source, &self.target);
        run.source = "sts/immich-postgres".into();
        run.target = "cluster/immich-postgres".into();
        run.admin = None;
        run.options.extend(self.options(kubeconfig));
        run
    }

    fn options(&self, kubeconfig: &Path) -> [String; 3] {
        [
            format!("--namespace={}", self.namespace.name),
            format!("--kubeconfig={}", kubeconfig.display()),
            "--client=pod".into(),
        ]
    }

    /// Another command.
    fn pgmove(&self, kubeconfig: &Path, arguments: &[&str]) -> Ended {
        ended(pgmove().args(arguments).args(self.options(kubeconfig)))
    }
}

const BOTH: [&str; 2] = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];

#[test]
fn a_whole_move_has_its_client_programs_in_a_pod() {
    let (source, before) = (&SOURCE.0, &SOURCE.1);
    let pods = Pods::of(source);
    let kubeconfig = &pods.namespace.cluster.kubeconfig;
    cnpg::enable_superuser(&pods.namespace, PASSWORD);
    let pgmove =
        |command: &str, more: &[&str]| pods.pgmove(kubeconfig, &[&[command], &BOTH[..], more].concat());
    pgmove("check", &[]).assert(0, &["[client-in-pod]", "are run in the pod of cluster/immich-postgres"]);

    let mut run = pods.to_move(source, kubeconfig);
    run.admin = Some("cluster/immich-postgres".into());
    run.run(&[]).assert(0, &["equal: "]);
    assert_eq!(leftovers(&pods.target), "");
    state(&pods.target).assert_equal(before);
    let at = format!(" in the pod of cluster/immich-postgres in {}\"", pods.namespace.name);
    let report = run.report().to_string();
    assert!(report.contains(&at), "{report}");

    // Where the target's are too old, the source's pod is asked.
    let old = OldPrograms::new();
    pods.offer(TARGET_POD, &old.path());
    pgmove("verify", &[]).assert(0, &["equal: "]);
    pods.offer(SOURCE_POD, &old.path());
    let unequal = pgmove("verify", &[]);
    unequal.assert(
        8,
        &[
            "no pod has pg_dump and pg_restore of version 18 or newer: 15.18 in the pod of cluster/immich-postgres",
            "15.18 in the pod of sts/immich-postgres",
        ],
    );
}

#[test]
fn an_account_needs_the_right_to_exec_where_client_programs_are_in_a_pod() {
    let source = small();
    let pods = Pods::of(&source);
    let words = [&BOTH[..], &["--source-secret", "immich-secrets", "--for"]].concat();
    let account = rbac::apply(&pods.namespace, &[&words[..], &["run"]].concat());
    let run = pods.to_move(&source, &account).with("--target-privileges=none");
    let refused = run.run(&[]);
    refused.assert(3, &["[client-tools]", "may not", "pods/exec", "resources: [\"pods/exec\"]"]);
    run.assert_left_only_a_report();
    assert_eq!(pods.target.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), "0");
    let check = [&["check"], &BOTH[..], &["--target-privileges=none"]].concat();
    pods.pgmove(&account, &check).assert(3, &["[kubernetes-rights]", "resources: [\"pods/exec\"]"]);

    let namespace = ["-n", &pods.namespace.name, "--service-account", "mover"];
    let printed = pgmove().arg("rbac").args(namespace).args(&words).arg("run,client").output();
    let role = String::from_utf8(printed.expect("pgmove runs").stdout).expect("UTF-8");
    pods.namespace.cluster.kubectl(&["apply", "--filename=-"], &role);
    eventually("the rights are there", || (pods.pgmove(&account, &check).code == Some(0)).then_some(()));
    run.run(&[]).assert(0, &["equal: "]);

    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = format!("--archive={}", directory.path().join("photos").display());
    let dumped = pods.pgmove(
        &pods.namespace.cluster.kubeconfig,
        &["dump", "--source=sts/immich-postgres", &archive, "--accept-writes"],
    );
    dumped.assert(0, &["equal: "]);
    let replace = format!("--replace={}", pods.target.name);
    let restored = pods.pgmove(
        &account,
        &[
            "restore",
            BOTH[1],
            &archive,
            &replace,
            "--target-privileges=none",
            "--run-dir",
            directory.path().join("run").to_str().expect("UTF-8"),
        ],
    );
    restored.assert(0, &["equal: "]);
}
