//! The ways in which a kubeconfig, or a pod, gives credentials: programs that log in, OIDC, a service account's token.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::eventually;
use super::endpoints::{World, ended, log_in, small};
use super::going_on::Scene;
use super::rbac::apply;
use super::{Cluster, Namespace};
use crate::support::{Ended, Move, pgmove, pgmove_process};

const SIDES: [&str; 2] = ["--source=sts/immich-postgres", "--target=cluster/immich-postgres"];

/// What the account may that the tests are.
fn mover(world: &World) -> PathBuf {
    let sides = ["--source", "sts/immich-postgres", "--target", "cluster/immich-postgres"];
    apply(&world.namespace, &[&sides[..], &["--source-secret", "immich-secrets", "--for", "run"]].concat())
}

/// A credential plugin: prints the token that is in a file, which has expired already by its own words, so that it is asked
/// again for each request. Without a token it fails.
const PLUGIN: &str = r#"#!/bin/sh
token=$(cat "$0.token" 2>/dev/null) || { echo "the session has ended: log in" >&2; exit 1; }
echo asked >> "$0.asked"
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {
    "token": "'"$token"'", "expirationTimestamp": "'"$(date -u +%Y-%m-%dT%H:%M:%SZ)"'"}}'
"#;

/// An account that is logged in by a program.
struct Login {
    kubeconfig: PathBuf,
    directory: TempDir,
}

impl Login {
    fn new(namespace: &Namespace) -> Login {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let plugin = directory.path().join("get-token");
        fs::write(&plugin, PLUGIN).expect("a file");
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).expect("a mode");
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": plugin,
            "interactiveMode": "Never",
        });
        let kubeconfig = namespace.kubeconfig("plugin", |user| *user = json!({ "exec": exec }));
        Login { kubeconfig, directory }
    }

    /// Logs in, with a token that holds as long as this Secret is there.
    fn log_in(&self, namespace: &Namespace, secret: &str) -> String {
        namespace.kubectl(&["create", "secret", "generic", secret]);
        let bound = ["--bound-object-kind=Secret", &format!("--bound-object-name={secret}")];
        let token = namespace.kubectl(&[&["create", "token", "mover"], &bound[..]].concat());
        fs::write(self.file("token"), &token).expect("a file");
        token
    }

    fn log_out(&self) {
        fs::remove_file(self.file("token")).expect("there is one");
    }

    fn file(&self, end: &str) -> PathBuf {
        self.directory.path().join(format!("get-token.{end}"))
    }

    fn asked(&self) -> usize {
        fs::read_to_string(self.file("asked")).unwrap_or_default().lines().count()
    }

    /// Has a run log in so.
    fn take(&self, run: &mut Move) {
        log_in(run, &self.kubeconfig);
        run.options.extend(["--accept-writes", "--source-secret=immich-secrets"].map(str::to_owned));
        run.options.push("--target-privileges=none".into());
    }
}

/// Waits until the API server takes a token no more; it keeps an answer for some seconds.
fn is_refused(namespace: &Namespace, token: &str) {
    let config = namespace.kubeconfig("refused", |user| *user = json!({ "token": token }));
    let config = format!("--kubeconfig={}", config.display());
    eventually("the token is refused", || {
        let answer = namespace.cluster.try_kubectl(&["auth", "whoami", &config], "");
        answer.is_err_and(|error| error.contains("must be logged in")).then_some(())
    });
}

#[test]
fn a_credential_plugin_is_asked_again_when_its_token_has_expired() {
    let mut login = None;
    let Scene { source, world, run: _run, running, gate } = Scene::begin(|world, run| {
        mover(world);
        let plugin = Login::new(&world.namespace);
        plugin.take(run);
        let token = plugin.log_in(&world.namespace, "first");
        login = Some((plugin, token));
    });
    let (login, former) = login.expect("it was made");
    login.log_in(&world.namespace, "second");
    world.namespace.kubectl(&["delete", "secret", "first"]);
    is_refused(&world.namespace, &former);
    let before = login.asked();
    Scene::open(&gate);
    running.wait().assert(0, &["equal: "]);
    assert!(login.asked() > before, "{before}");
    Scene::assert_moved(&source, &world.target);
}

#[test]
fn a_login_that_ends_during_a_run_ends_it_and_the_next_login_goes_on() {
    let mut login = None;
    let Scene { source, world, run, running, gate } = Scene::begin(|world, run| {
        mover(world);
        let plugin = Login::new(&world.namespace);
        plugin.take(run);
        plugin.log_in(&world.namespace, "first");
        login = Some(plugin);
    });
    let login = login.expect("it was made");
    login.log_out();
    Scene::open(&gate);
    running.wait().assert(
        5,
        &[
            "the credential plugin failed (exit status: 1): the session has ended: log in",
            "log in as you do for kubectl",
            "--resume",
        ],
    );
    let plugin = login.directory.path().join("get-token").display().to_string();
    run.run(&["--resume"]).assert(
        5,
        &["there are no credentials for context", &plugin, "the session has ended: log in", "auth whoami"],
    );
    login.log_in(&world.namespace, "second");
    run.run(&["--resume"]).assert(0, &["equal: "]);
    Scene::assert_moved(&source, &world.target);
}

/// What a check prints whose kubeconfig has this user.
fn check_as(namespace: &Namespace, user: &Value) -> Ended {
    let kubeconfig = namespace.kubeconfig("other", |found| *found = user.clone());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = pgmove();
    command.current_dir(&directory).arg("check").args(SIDES).args(["--namespace", &namespace.name]);
    ended(command.arg("--kubeconfig").arg(kubeconfig))
}

#[test]
fn who_gives_no_credentials_is_named_with_the_way_to_some() {
    let namespace = Cluster::get().namespace();
    let exec = |command: &str, more: &Value| {
        let version = "client.authentication.k8s.io/v1";
        let mut exec = json!({ "apiVersion": version, "command": command, "interactiveMode": "Never" });
        exec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "exec": exec })
    };
    let missing = exec("nowhere-to-be-found", &json!({ "installHint": "brew install it" }));
    check_as(&namespace, &missing).assert(
        3,
        &[
            "there are no credentials for context",
            "from nowhere-to-be-found: the credential plugin could not be started: No such file or directory",
            "install nowhere-to-be-found, or have its directory in PATH; the kubeconfig says: brew install it",
        ],
    );
    let silent = exec("sh", &json!({ "args": ["-c", "echo hidden-token"] }));
    let ended = check_as(&namespace, &silent);
    ended.assert(3, &["from sh: the credential plugin's output could not be read", "auth whoami"]);
    assert!(!ended.output.contains("hidden"), "{}", ended.output);

    // `{"exp": 1}`, in 1970.
    let oidc = |more: &Value| {
        let mut config = json!({ "idp-issuer-url": "https://127.0.0.1:1", "client-id": "pgmove", "client-secret": "hidden" });
        config["id-token"] = json!("e30.eyJleHAiOjF9.hidden");
        config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "auth-provider": { "name": "oidc", "config": config } })
    };
    for (more, why) in [
        (json!({}), "cannot be renewed: missing field refresh-token"),
        (json!({ "refresh-token": "hidden" }), "was not renewed: Connection refused"),
    ] {
        let ended = check_as(&namespace, &oidc(&more));
        ended.assert(3, &["the id-token of the OIDC login has expired", why, "log in as you do for kubectl"]);
        assert!(!ended.output.contains("hidden"), "{}", ended.output);
    }
}

/// Mounts what a kubelet mounts into a pod, and runs a command there.
const POD: &str = r#"
mount -t tmpfs tmpfs /var/run || exit 125
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cp "$1"/* /var/run/secrets/kubernetes.io/serviceaccount/
shift
exec "$@"
"#;

/// Where a process may have mounts of its own.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]);
    command
}

#[test]
fn in_a_pod_its_service_account_is_taken() {
    let mounted = unshare().args(["mount", "-t", "tmpfs", "tmpfs", "/var/run"]).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this process may not make a mount namespace, in which it would be in a pod");
        return;
    }
    let source = small();
    let world = World::of(&source);
    let kubeconfig = fs::read(mover(&world)).expect("the account's kubeconfig");
    let kubeconfig: Value = serde_json::from_slice(&kubeconfig).expect("it is written as JSON");
    let account = tempfile::tempdir().expect("a temporary directory");
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let authority = fs::read(text(&cluster["certificate-authority"])).expect("the authority's certificate");
    fs::write(account.path().join("ca.crt"), authority).expect("a file");
    fs::write(account.path().join("token"), text(&kubeconfig["users"][0]["user"]["token"])).expect("a file");
    fs::write(account.path().join("namespace"), &world.namespace.name).expect("a file");
    let url = text(&cluster["server"]);
    let (host, port) = url.trim_start_matches("https://").split_once(':').expect("host and port");

    let work = tempfile::tempdir().expect("a temporary directory");
    let program = pgmove_process();
    let in_pod = |arguments: &[&str]| {
        let mut command = unshare();
        command.args(["sh", "-c", POD, "pod"]).arg(account.path()).arg(program.get_program());
        command.args(arguments).current_dir(&work);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_remove("KUBECONFIG").env("HOME", work.path());
        command.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port);
        let output = command.output().expect("unshare runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        Ended { code: output.status.code(), output: text }
    };
    let login = ["--source-secret=immich-secrets", "--target-privileges=none"];
    in_pod(&[&["run"], &SIDES[..], &login, &["--accept-writes"]].concat()).assert(0, &["equal: "]);
    assert_eq!(world.target.psql("SELECT count(*) FROM photo"), "1000");

    fs::remove_file(account.path().join("namespace")).expect("it was there");
    let refused = in_pod(&[&["check"], &SIDES[..]].concat());
    refused.assert(3, &["the service account of this pod cannot be used", "mount a service account token"]);
}
