//! What `cargo xtask bench --cluster` measures: one COPY, the same for each of some connections to a pod, through pgmove's
//! tunnels or through kube's own forwarder. Ends when all of it has arrived; whoever started it looks at clock and processor.

use std::{fs::File, io::Read, path::PathBuf, sync::Arc, thread};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures_util::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use pgmove::{
    error::Side,
    kubernetes::{Access, ApiServer, Kubeconfig, ObjectRef, Route},
    pg::{self, ConnInfo, Defaults},
};
use tokio_postgres::{Client, NoTls};

/// How much is handed over at once: what a lane gathers.
const BUFFER: usize = pgmove::transfer::relay::BUFFER;

/// The port that the pod is said to have.
const PORT: u16 = 5432;

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum)]
    contestant: Contestant,
    #[arg(long)]
    kubeconfig: PathBuf,
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    pod: String,
    /// Login and database; the host is not looked at.
    #[arg(long)]
    uri: String,
    /// How many connections carry the same at once.
    #[arg(long)]
    tunnels: usize,
    /// The COPY.
    #[arg(long)]
    statement: String,
    /// What a COPY to the server sends; without it, the COPY is from the server.
    #[arg(long)]
    input: Option<PathBuf>,
    /// What cargo gives to every bench.
    #[arg(long)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Contestant {
    /// The tunnels of a move.
    Pgmove,
    /// `Portforwarder` of the library kube.
    Kube,
}

fn main() {
    let arguments = Arguments::parse();
    // As lanes have it: a thread and a runtime for each.
    thread::scope(|scope| {
        for _ in 0..arguments.tunnels {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime needs only what a running process has").block_on(copy(&arguments));
            });
        }
    });
}

async fn copy(arguments: &Arguments) {
    let client = match arguments.contestant {
        Contestant::Pgmove => through_pgmove(arguments).await,
        Contestant::Kube => through_kube(arguments).await,
    };
    if let Some(file) = &arguments.input {
        let sink = client.copy_in::<_, Bytes>(&arguments.statement).await.expect("the server takes rows");
        let mut sink = std::pin::pin!(sink);
        let mut file = File::open(file).expect("the input is there");
        loop {
            let mut buffer = vec![0; BUFFER];
            let length = file.read(&mut buffer).expect("the input can be read");
            if length == 0 {
                break;
            }
            buffer.truncate(length);
            sink.send(buffer.into()).await.expect("the server takes rows");
        }
        sink.finish().await.expect("the server has taken all");
    } else {
        let rows = client.copy_out(&arguments.statement).await.expect("the server sends rows");
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.next().await {
            row.expect("the server sends all rows");
        }
    }
}

async fn through_pgmove(arguments: &Arguments) -> Client {
    let access = Access {
        kubeconfig: Kubeconfig::File(arguments.kubeconfig.clone()),
        context: None,
        namespace: Some(arguments.namespace.clone()),
    };
    let server = ApiServer::connect(&access).await.expect("a kubeconfig");
    let object: ObjectRef = format!("pod/{}", arguments.pod).parse().expect("a pod's name");
    let route = Arc::new(Route::new(server, object, None));
    let conninfo = ConnInfo::parse(&arguments.uri, &Defaults::default()).expect("a URI").in_pod(route);
    let connected = pg::connect(&conninfo, "bench", Side::Source).await.expect("a connection");
    tokio::spawn(connected.driver);
    connected.client
}

async fn through_kube(arguments: &Arguments) -> Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(&arguments.kubeconfig).expect("a kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a context");
    let client = kube::Client::try_from(config).expect("credentials that can be read");
    let pods = Api::<Pod>::namespaced(client, &arguments.namespace);
    let mut forward = pods.portforward(&arguments.pod, &[PORT]).await.expect("a port-forward");
    let stream = forward.take_stream(PORT).expect("the port that was asked for");
    let login: tokio_postgres::Config = arguments.uri.parse().expect("a URI");
    let (client, connection) = login.connect_raw(stream, NoTls).await.expect("a connection");
    tokio::spawn(async move {
        // The forward goes on until its value is dropped.
        let _forward = forward;
        connection.await
    });
    client
}
