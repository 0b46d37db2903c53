//! The whole program on objects in Kubernetes: nothing but a kubeconfig leads it to either server.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::cnpg::{self, Login, secret};
use super::moving::SOURCE;
use super::namespace::stateful_set;
use super::{Cluster, Namespace};
use crate::support::{
    Cut, Database, Ended, Fault, Move, PASSWORD, Proxy, Server, Variant, leftovers, pgmove, psql, state,
};

/// A legacy server in a `StatefulSet`, and a Cluster, as they are found in a namespace; both may be cut.
pub(super) struct World {
    pub(super) namespace: Namespace,
    pub(super) target: Database,
    pub(super) proxies: [Proxy; 2],
}

impl World {
    pub(super) fn of(source: &Database) -> World {
        let namespace = Cluster::get().namespace();
        let target = Server::shared(18).database();
        let proxies = [source.server.port, target.server.port].map(Proxy::start);
        legacy(&namespace, source, 5432);
        let login = Login { user: &target.name, password: Database::PASSWORD, database: &target.name };
        cnpg::cluster(&namespace, &login);
        namespace.forward("immich-postgres-0", proxies[0].port);
        namespace.forward("immich-postgres-1", proxies[1].port);
        World { namespace, target, proxies }
    }

    /// The options that lead to the namespace.
    fn options(&self) -> [String; 2] {
        [
            format!("--namespace={}", self.namespace.name),
            format!("--kubeconfig={}", self.namespace.cluster.kubeconfig.display()),
        ]
    }

    pub(super) fn to_move(&self, source: &Database) -> Move {
        let mut run = Move::new(source, &self.target);
        run.source = "sts/immich-postgres".into();
        run.target = "cluster/immich-postgres".into();
        run.admin = Some("cluster/immich-postgres".into());
        run.options.extend(self.options());
        run
    }

    /// Another command, in this directory.
    pub(super) fn pgmove(&self, directory: &Path, arguments: &[&str]) -> Ended {
        let mut command = pgmove();
        ended(command.current_dir(directory).args(arguments).args(self.options()))
    }
}

/// Has a run log in by this kubeconfig.
pub(super) fn log_in(run: &mut Move, kubeconfig: &Path) {
    run.options.retain(|option| !option.starts_with("--kubeconfig"));
    run.options.push(format!("--kubeconfig={}", kubeconfig.display()));
}

pub(super) fn ended(command: &mut assert_cmd::Command) -> Ended {
    let output = command.output().expect("pgmove runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
    Ended { code: output.status.code(), output: text }
}

/// A `StatefulSet` whose pod was made with the login of a database, and says that its server has this port.
pub(super) fn legacy(namespace: &Namespace, source: &Database, port: u16) {
    let login = json!({ "DB_USERNAME": source.name, "DB_PASSWORD": Database::PASSWORD });
    secret(namespace, "immich-secrets", &login);
    let from_secret = |key: &str| json!({ "secretKeyRef": { "name": "immich-secrets", "key": key } });
    let mut set = stateful_set("immich-postgres");
    let container = &mut set["spec"]["template"]["spec"]["containers"][0];
    container["ports"][0]["containerPort"] = json!(port);
    container["env"] = json!([
        { "name": "POSTGRES_USER", "valueFrom": from_secret("DB_USERNAME") },
        { "name": "POSTGRES_PASSWORD", "valueFrom": from_secret("DB_PASSWORD") },
        { "name": "POSTGRES_DB", "value": source.name },
    ]);
    namespace.apply(&set.to_string());
    namespace.ready_pod("immich-postgres-0");
}

/// A database that tests may write to.
pub(super) fn small() -> Database {
    let source = Server::shared(15).database();
    source.psql(
        "CREATE TABLE photo (id integer PRIMARY KEY); INSERT INTO photo SELECT generate_series(1, 1000)",
    );
    source
}

#[test]
fn a_database_moves_from_a_stateful_set_into_a_cluster() {
    let (source, before) = (&SOURCE.0, &SOURCE.1);
    let world = World::of(source);
    let run = world.to_move(source);
    let refused = run.run(&[]);
    refused
        .assert(3, &["cluster/immich-postgres offers no login of postgres", "enableSuperuserAccess: true"]);

    cnpg::enable_superuser(&world.namespace, PASSWORD);
    run.run(&["--dry-run"]).assert(0, &["public.asset"]);
    let moved = run.run(&[]);
    moved.assert(0, &["equal: "]);
    assert_eq!(leftovers(&world.target), "");
    state(&world.target).assert_equal(before);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let sides = ["verify", "--source=sts/immich-postgres", "--target=cluster/immich-postgres"];
    world.pgmove(directory.path(), &sides).assert(0, &["equal: "]);

    let report = run.report().to_string();
    let at = format!("cluster/immich-postgres in {}/{}", world.namespace.name, world.target.name);
    assert!(report.contains(&at), "{report}");
    for text in [&report, &moved.output] {
        assert!(!text.contains(Database::PASSWORD) && !text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn a_run_between_objects_outlives_a_cut_tunnel_a_kill_and_a_new_pod() {
    let (source, before) = (&SOURCE.0, &SOURCE.1);
    let world = World::of(source);
    cnpg::enable_superuser(&world.namespace, PASSWORD);
    let run = world.to_move(source);
    let former = world.namespace.ready_pod("immich-postgres-0");
    let mut running = run.start(&[]);
    assert!(running.reaches("copy"), "{}", running.output());
    running.kill();
    assert_ne!(world.namespace.replace_pod("immich-postgres-0"), former);
    world.proxies[1].set(Fault { words: "FROM STDIN", spared: 3, cut: Cut::RequestAfter(200), times: 1 });
    run.run(&["--resume"]).assert(0, &["equal: "]);
    assert_eq!(world.proxies[1].fired(), 1);
    assert_eq!(leftovers(&world.target), "");
    state(&world.target).assert_equal(before);
}

#[test]
fn every_other_command_works_on_objects_too() {
    let source = small();
    let world = World::of(&source);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pgmove = |arguments: &[&str]| world.pgmove(directory.path(), arguments);
    let refuses_writes = || {
        psql(&source.uri(), "INSERT INTO photo VALUES (0); DELETE FROM photo WHERE id = 0")
            .is_err_and(|error| error.contains("read-only transaction"))
    };

    pgmove(&["fence", "--source=sts/immich-postgres"]).assert(0, &["refuses writes by default"]);
    assert!(refuses_writes());
    // By the name of the database, as for a connection string.
    assert!(directory.path().join("pgmove-runs").join(&source.name).is_dir());
    pgmove(&["unfence", "--source=sts/immich-postgres"]).assert(0, &["accepts writes as before"]);
    assert!(!refuses_writes());

    let dumped = pgmove(&["dump", "--source=pod/immich-postgres-0", "--archive=photos", "--accept-writes"]);
    dumped.assert(0, &["equal: "]);
    pgmove(&["restore", "--archive=photos", "--target=cluster/immich-postgres"]).assert(0, &["equal: "]);
    assert_eq!(world.target.psql("SELECT count(*) FROM photo"), "1000");
}

#[test]
fn each_side_has_a_cluster_a_login_and_a_database_of_its_own() {
    let source = small();
    let world = World::of(&source);
    world.target.psql(
        "CREATE TABLE photo AS SELECT generate_series(1, 1000) AS id; ALTER TABLE photo ADD PRIMARY KEY (id)",
    );
    // The source is in another namespace, its pod tells nothing, and its Secret has keys of its own.
    let elsewhere = Cluster::get().namespace();
    let mut set = stateful_set("database");
    let exporter = json!({ "name": "postgres-exporter", "image": "postgres:15" });
    set["spec"]["template"]["spec"]["containers"].as_array_mut().expect("a list").push(exporter);
    elsewhere.apply(&set.to_string());
    elsewhere.ready_pod("database-0");
    elsewhere.forward("database-0", source.server.port);
    secret(&elsewhere, "login", &json!({ "role": source.name, "pw": Database::PASSWORD }));
    let rights = |more: &[&str]| {
        let rule = |group: &str, resource: &str, verbs: &[&str]| json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
        let mut rules = vec![
            rule("", "pods", &["get", "list"]),
            rule("", "pods/portforward", &["get", "create"]),
            rule("", "secrets", &["get"]),
        ];
        rules.extend(more.iter().map(|resource| rule("*", resource, &["get"])));
        json!(rules)
    };
    let [from, to] = [
        elsewhere.account("mover", &rights(&["statefulsets"])),
        world.namespace.account("mover", &rights(&["clusters"])),
    ]
    .map(|file| file.display().to_string());
    let compare = |options: &[&str]| {
        let mut command = pgmove();
        command.args(["verify", "--source=sts/database", "--target=cluster/immich-postgres"]);
        command.args([format!("--source-kubeconfig={from}"), format!("--target-kubeconfig={to}")]);
        ended(command.args(options))
    };
    let secret_option = "--source-secret=login:user=role,password=pw";
    let database = format!("--source-database={}", source.name);
    compare(&[secret_option, &database, "--source-container=postgres"]).assert(0, &["equal: "]);
    // Each of these options is needed.
    compare(&[&database, "--source-container=postgres"]).assert(3, &["password"]);
    // Its environment would tell the image's default, which is another database.
    compare(&[secret_option, "--source-container=postgres"])
        .assert(4, &["public.photo: the table is only on the target"]);
    let unknown = compare(&[secret_option, &database, "--source-container=main"]);
    unknown.assert(3, &["container", "postgres-exporter"]);
}

#[test]
fn what_leads_to_no_server_is_told_before_anything_is_done() {
    let world = World::of(&small());
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (source, code, phrases) in [
        ("sts/immich", 3, &["could not get StatefulSet immich", "has immich-postgres"][..]),
        ("sts/Immich", 2, &["\"Immich\" cannot be the name of a StatefulSet", "lower case letters"]),
        ("secret/immich", 2, &["\"secret\" is no kind of object", "write sts/NAME"]),
        ("immich-postgres", 2, &["the connection string is malformed"]),
    ] {
        let ended = world
            .pgmove(directory.path(), &["verify", "--source", source, "--target=cluster/immich-postgres"]);
        ended.assert(code, phrases);
    }
    let file = directory.path().join("pgmove.toml");
    fs::write(&file, "source = \"sts/Immich\"").expect("a file");
    let ended = world.pgmove(directory.path(), &["verify", "--target=cluster/immich-postgres"]);
    ended.assert(
        2,
        &["pgmove.toml:1:1: source is no object that a database is looked for behind", "\"Immich\""],
    );
    fs::remove_file(file).expect("it was there");
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0, "nothing was written");
}

#[test]
fn a_tunnel_carries_tls_where_that_is_asked_for() {
    let mut authority = CertificateParams::new(vec![]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let [authority_key, key] = [(); 2].map(|()| KeyPair::generate().expect("a key"));
    let root = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(authority.clone(), authority_key);
    let parameters = CertificateParams::new(vec!["immich-postgres-rw".to_owned()]).expect("a name");
    let certificate = parameters.signed_by(&key, &issuer).expect("a certificate").pem();
    let other_key = KeyPair::generate().expect("a key");
    let other = authority.self_signed(&other_key).expect("a certificate").pem();
    // Debian's, since the others are built without TLS.
    let server = Server::start(
        15,
        &Variant {
            settings: "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'".into(),
            host_based_authentication: "hostnossl all careful 127.0.0.1/32 reject".into(),
            files: vec![("server.crt", certificate), ("server.key", key.serialize_pem())],
            ..Variant::default()
        },
    );
    let role = "CREATE ROLE careful LOGIN PASSWORD 'secret'; CREATE DATABASE careful OWNER careful";
    for statement in role.split("; ") {
        psql(&server.uri("postgres"), statement).expect("a superuser may");
    }
    let namespace = Cluster::get().namespace();
    cnpg::cluster(&namespace, &Login { user: "careful", password: "secret", database: "careful" });
    namespace.forward("immich-postgres-1", server.port);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let dump = |mode: &str, archive: &str| {
        let mut command = pgmove();
        command.args(["dump", "--source=cluster/immich-postgres", "--accept-writes", "--archive"]);
        command.arg(directory.path().join(archive));
        command.args(["--namespace", &namespace.name, "--kubeconfig"]).arg(&namespace.cluster.kubeconfig);
        ended(command.args(["--source-sslmode", mode]))
    };
    let trust = |root: &str| secret(&namespace, "immich-postgres-ca", &json!({ "ca.crt": root }));
    trust(&root);
    dump("verify-full", "verified").assert(0, &["equal: "]);
    dump("require", "encrypted").assert(0, &["equal: "]);
    dump("disable", "plain").assert(3, &["does not admit this login without TLS"]);
    trust(&other);
    dump("verify-full", "other").assert(3, &["the server's certificate is not trusted"]);
    trust("nonsense");
    dump("verify-full", "none").assert(3, &["Secret immich-postgres-ca, key ca.crt"]);
}
