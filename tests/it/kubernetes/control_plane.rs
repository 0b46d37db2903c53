//! The control plane itself: pods lead to real servers and programs, rights are kept, and its parts can be killed.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Config, NoTls};

use super::{
    ApiServer, Cluster, Namespace,
    cluster::{LIMIT, client},
};
use crate::support::{PASSWORD, Server};

/// A namespace whose pod `db-0` is a server.
fn namespace_with_server() -> (Namespace, Arc<Server>) {
    let server = Server::shared(15);
    let namespace = Cluster::get().namespace();
    namespace.stateful_set("db");
    namespace.lead("db-0", &server);
    (namespace, server)
}

/// A session of the superuser through a port-forward.
async fn connect(pods: &Api<Pod>) -> Result<tokio_postgres::Client, Box<dyn std::error::Error>> {
    let mut forward = pods.portforward("db-0", &[5432]).await?;
    let stream = forward.take_stream(5432).expect("the port that was asked for");
    let mut config = Config::new();
    config.user("postgres").password(PASSWORD).dbname("postgres");
    let (client, connection) = config.connect_raw(stream, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn server_port(client: &tokio_postgres::Client) -> String {
    let row = client.query_one("SHOW port", &[]).await.expect("an answer");
    row.get(0)
}

/// What a command in the pod printed, and its exit code.
async fn exec(pods: &Api<Pod>, command: &[&str], input: &[u8]) -> (String, String, i32) {
    let parameters = AttachParams::default().container("postgres").stdin(!input.is_empty());
    let mut process = pods.exec("db-0", command.iter().copied(), &parameters).await.expect("it may be run");
    let status = process.take_status().expect("it is asked for once");
    let (out, error) = (process.stdout().expect("attached"), process.stderr().expect("attached"));
    let feed = async {
        if let Some(mut stdin) = process.stdin() {
            stdin.write_all(input).await.expect("the command reads");
            stdin.shutdown().await.expect("its input can end");
        }
    };
    let ((), out, error) = tokio::join!(feed, text(out), text(error));
    let status = status.await.expect("a status comes last");
    let code = if status.status.as_deref() == Some("Success") {
        0
    } else {
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
        code.and_then(|cause| cause.message.as_ref()?.parse().ok()).expect("an exit code")
    };
    (out, error, code)
}

async fn text(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text until its end");
    text.trim_end().to_owned()
}

#[tokio::test]
async fn a_port_forward_reaches_a_server() {
    let (namespace, server) = namespace_with_server();
    let pods = Api::<Pod>::namespaced(namespace.cluster.client().await, &namespace.name);
    let client = connect(&pods).await.expect("a session");
    assert_eq!(server_port(&client).await, server.port.to_string());

    // The server ends the session, and the stream ends with it.
    let ended = client.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await;
    assert!(ended.is_err_and(|error| error.code().is_some_and(|code| code.code() == "57P01")));
    let end = async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, end).await.expect("the stream ends with the session");
}

#[tokio::test]
async fn an_exec_runs_programs_of_this_machine() {
    let (namespace, server) = namespace_with_server();
    let pods = Api::<Pod>::namespaced(namespace.cluster.client().await, &namespace.name);

    let (out, _, code) = exec(&pods, &["psql", "-X", "-A", "-t", "-c", "SHOW port"], b"").await;
    assert_eq!((out, code), (server.port.to_string(), 0));

    let (out, error, code) = exec(&pods, &["psql", "-X", "-v", "ON_ERROR_STOP=1"], b"SELECT 1/0;").await;
    assert_eq!((out.as_str(), code), ("", 3));
    assert!(error.contains("division by zero"), "{error}");

    // The end of the input arrives, and nothing before it is lost.
    let input = vec![7; 3_000_001];
    assert_eq!(exec(&pods, &["wc", "-c"], &input).await.0, "3000001");
}

#[tokio::test]
async fn an_account_may_do_what_its_role_says_and_no_more() {
    let (namespace, server) = namespace_with_server();
    let rules = json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"] },
    ]);
    let account = namespace.account("mover", &rules);
    let pods = Api::<Pod>::namespaced(client(&account).await, &namespace.name);

    let session = connect(&pods).await.expect("a session");
    assert_eq!(server_port(&session).await, server.port.to_string());

    let refused =
        pods.exec("db-0", ["true"], &AttachParams::default()).await.err().expect("no right to exec");
    assert!(format!("{refused:?}").contains("403"), "{refused:?}");
    let refused = pods.list(&kube::api::ListParams::default()).await.expect_err("no right to list");
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused:?}");
}

#[tokio::test]
async fn an_api_server_can_be_killed_and_comes_back() {
    let (namespace, server) = namespace_with_server();
    let api_server = ApiServer::start(namespace.cluster);
    let pods = Api::<Pod>::namespaced(client(&api_server.kubeconfig).await, &namespace.name);
    let session = connect(&pods).await.expect("a session");

    api_server.crash();
    assert!(session.query("SELECT 1", &[]).await.is_err());
    assert!(pods.get("db-0").await.is_err());

    api_server.restart();
    let session = connect(&pods).await.expect("a session");
    assert_eq!(server_port(&session).await, server.port.to_string());
}

#[tokio::test]
async fn a_pod_is_replaced_under_another_uid() {
    let (namespace, server) = namespace_with_server();
    let pods = Api::<Pod>::namespaced(namespace.cluster.client().await, &namespace.name);
    let first = namespace.ready_pod("db-0");

    assert_ne!(namespace.replace_pod("db-0"), first);
    let session = connect(&pods).await.expect("a session");
    assert_eq!(server_port(&session).await, server.port.to_string());
}

#[test]
fn the_objects_of_cloudnative_pg_and_flux_are_known() {
    let known = Cluster::get().kubectl(&["api-resources", "--output=name"], "");
    for name in [
        "clusters.postgresql.cnpg.io",
        "databases.postgresql.cnpg.io",
        "backups.postgresql.cnpg.io",
        "kustomizations.kustomize.toolkit.fluxcd.io",
        "helmreleases.helm.toolkit.fluxcd.io",
        "gitrepositories.source.toolkit.fluxcd.io",
        "imageupdateautomations.image.toolkit.fluxcd.io",
    ] {
        assert!(known.lines().any(|line| line == name), "{name} is not in\n{known}");
    }
}
