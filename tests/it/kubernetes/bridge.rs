//! TLS within a tunnel, cancel requests by way of one, and the socket by which `pg_dump` reaches a pod.

use std::{path::Path, sync::Arc, time::Duration};

use pgmove::{
    error::{Fault as _, Side},
    pg::{self, Access, ConnInfo, Endpoint, Session},
    schema::{
        ChildEndpoint, ChildLimits, ClientSearch, ClientTools, DumpError, DumpRequest, SchemaDump,
        dump_schema,
    },
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_util::sync::CancellationToken;

use super::stand_in::{After, End, Fault, StandIn};
use crate::support::{Install, Server, Variant, psql};

fn endpoint(conninfo: Arc<ConnInfo>) -> Endpoint {
    Endpoint { side: Side::Target, conninfo, application_name: "pgmove test".into(), copy_encoding: None }
}

/// A chain of causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn dump(conninfo: &Arc<ConnInfo>, archive: &Path) -> Result<SchemaDump, DumpError> {
    let directory = Install::all().last().expect("a server").client_bin_dir.clone();
    let search = ClientSearch { directory: Some(directory), ..ClientSearch::default() };
    let tools = ClientTools::find(&search, 18).await.expect("the newest server's");
    let limits = ChildLimits { stall: Duration::from_secs(60), cancel: CancellationToken::new() };
    let endpoint = ChildEndpoint::of(conninfo).expect("a password that a passfile can hold");
    let side = Side::Target;
    let request =
        DumpRequest { side, tools: &tools, endpoint: &endpoint, snapshot: None, archive, limits: &limits };
    dump_schema(&request).await
}

/// The sockets of this process.
fn sockets() -> usize {
    let ours = format!("pgmove-socket-{}-", std::process::id());
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("a directory");
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_a_pod_is_known_by_its_certificate_in_a_session_and_in_pg_dump() {
    let names = ["immich-postgres-rw", "immich-postgres-rw.media.svc"].map(str::to_owned);
    let mut authority = CertificateParams::new(vec![]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let [authority_key, key] = [(); 2].map(|()| KeyPair::generate().expect("a key"));
    let root = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, authority_key);
    let parameters = CertificateParams::new(names).expect("names");
    let certificate = parameters.signed_by(&key, &issuer).expect("a certificate").pem();
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
    psql(
        &server.uri("postgres"),
        "CREATE ROLE careful LOGIN PASSWORD 'secret'; CREATE TABLE photo (id integer PRIMARY KEY);
         GRANT SELECT ON photo TO careful",
    )
    .expect("a role");
    let scratch = tempfile::tempdir().expect("a directory");
    let file = scratch.path().join("ca.crt");
    std::fs::write(&file, root).expect("a file");
    let stand_in = StandIn::start(&[("immich-postgres-1", server.port)]);
    let login = async |host: &str, mode: &str| {
        let uri = format!(
            "postgres://careful:secret@{host}/postgres?sslmode={mode}&sslrootcert={}&connect_timeout=10",
            file.display()
        );
        stand_in.reach().conninfo("pod/immich-postgres-1", &uri).await
    };

    for (host, mode) in
        [("immich-postgres-rw", "verify-full"), ("elsewhere", "verify-ca"), ("elsewhere", "prefer")]
    {
        let conninfo = login(host, mode).await;
        let session = Session::open(&endpoint(Arc::clone(&conninfo)), Access::Read, "pg_catalog").await;
        let session = session.unwrap_or_else(|error| panic!("{mode}: {}", chain(&error)));
        let statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = session.client.query_one(statement, &[]).await.expect("an answer");
        assert!(row.get::<_, bool>("ssl"), "{mode}");
        session.close().await;
        let dumped = dump(&conninfo, &scratch.path().join(mode)).await;
        let dumped = dumped.unwrap_or_else(|error| panic!("{mode}: {}", chain(&error)));
        assert!(dumped.entries.iter().any(|entry| format!("{entry:?}").contains("photo")));
    }
    for (host, mode, expected) in [
        ("elsewhere", "verify-full", "does not name the host"),
        ("immich-postgres-rw", "disable", "does not admit this login without TLS"),
    ] {
        let conninfo = login(host, mode).await;
        let error = Session::open(&endpoint(Arc::clone(&conninfo)), Access::Read, "").await.expect_err(mode);
        assert!(chain(&error).contains(expected), "{}", chain(&error));
        let dumped = dump(&conninfo, &scratch.path().join(format!("not-{mode}"))).await;
        let error = dumped.expect_err("pg_dump is not less careful");
        let expected = if mode == "disable" { "no encryption" } else { "not valid for name" };
        assert!(chain(&error).contains(expected), "{}", chain(&error));
    }
    // Why pg_dump failed has nothing to do with the tunnel.
    let conninfo = login("immich-postgres-rw", "require").await;
    psql(&server.uri("postgres"), "REVOKE SELECT ON photo FROM careful").expect("revoked");
    let error = dump(&conninfo, &scratch.path().join("denied")).await.expect_err("it may not lock the table");
    assert!(
        chain(&error).contains("permission denied") && !chain(&error).contains("tunnel"),
        "{}",
        chain(&error)
    );
    assert_eq!(sockets(), 0, "each is removed with its child");
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_dump_tells_why_its_tunnel_was_cut() {
    let database = Server::shared(18).database();
    database.psql("CREATE TABLE photo (id integer PRIMARY KEY)");
    let stand_in = StandIn::start(&[("new-1", database.server.port)]);
    let conninfo = stand_in.reach().conninfo("pod/new-1", &database.uri()).await;
    let scratch = tempfile::tempdir().expect("a directory");
    let end = End::Error("error forwarding port 5432: lost connection to pod");
    stand_in.set(Fault { pod: "", words: "pg_class", spared: 0, times: 1, after: After::Down(100), end });
    let error = dump(&conninfo, &scratch.path().join("cut")).await.expect_err("it is cut");
    assert!(chain(&error).contains("lost connection to pod"), "{}", chain(&error));
    assert!(error.is_retryable(), "{error:?}");
    dump(&conninfo, &scratch.path().join("again")).await.expect("a second one is not");
    assert_eq!(stand_in.fired(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_cancelled_by_way_of_a_tunnel() {
    let database = Server::shared(16).database();
    let stand_in = StandIn::start(&[("new-1", database.server.port)]);
    let conninfo = stand_in.reach().conninfo("pod/new-1", &database.uri()).await;
    let session = Session::open(&endpoint(conninfo), Access::Read, "pg_catalog").await.expect("a session");
    let (slept, ()) = tokio::join!(session.run("SELECT pg_sleep(60)", "sleep"), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        session.cancel().await.expect("a cancel request");
    });
    let error = slept.expect_err("it was cancelled");
    assert!(error.to_string().contains("57014"), "{error}");
    assert_eq!(stand_in.opened(), 2);
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn why_there_is_no_tunnel_is_told_with_the_next_step() {
    let database = Server::shared(16).database();
    let stand_in = StandIn::start(&[("new-1", database.server.port), ("deaf-0", 1)]);
    let forbidden = "pods \"new-1\" is forbidden: User \"jane\" cannot create resource \"pods/portforward\" in API group \"\"";
    for (pod, refusals, expected, step) in [
        (
            "new-1",
            vec![(403, forbidden)],
            "account jane may not create pods/portforward",
            "verbs: [\"create\"]",
        ),
        ("new-1", vec![(401, "Unauthorized")], "does not accept the credentials", "auth whoami"),
        ("gone-0", vec![], "there is none of that name", ""),
        (
            "deaf-0",
            vec![],
            "the tunnel to media/deaf-0:5432 was given up by the pod's node: error forwarding port",
            "listens",
        ),
    ] {
        stand_in.refuse(&refusals);
        let uri = format!("{}&connect_timeout=5", database.uri());
        let conninfo = stand_in.reach().conninfo(&format!("pod/{pod}"), &uri).await;
        let error = pg::connect(&conninfo, "pgmove test", Side::Target).await.err().expect("no connection");
        assert!(chain(&error).contains(expected), "{}", chain(&error));
        assert!(error.hint().unwrap_or_default().contains(step), "{:?}", error.hint());
    }
    // An API server that is not well for a moment is waited for.
    stand_in.refuse(&[(500, "etcd is not ready"), (503, "shutting down"), (404, "pod not found")]);
    let conninfo = stand_in.reach().conninfo("pod/new-1", &database.uri()).await;
    pg::connect(&conninfo, "pgmove test", Side::Target).await.map(drop).expect("at the third attempt");
}
