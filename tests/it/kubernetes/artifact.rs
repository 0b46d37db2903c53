//! What Flux's source-controller would have fetched, served over loopback.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Namespace, cluster::eventually};

/// A source with one revision, and the Kustomization that applies it to the namespace every second.
pub(crate) struct Artifact<'a> {
    namespace: &'a Namespace,
    name: String,
}

impl<'a> Artifact<'a> {
    /// Applies the source and the Kustomization, both of this name, and waits until Flux has applied `objects`.
    pub(crate) fn apply(namespace: &'a Namespace, name: &str, objects: &Value) -> Self {
        let artifact = Self::source(namespace, name, objects);
        namespace.apply(&kustomization(namespace, name).to_string());
        artifact.reconcile("first");
        artifact
    }

    /// The same, but that Flux applies the Kustomization too, by another one of this name.
    pub(crate) fn nested(namespace: &'a Namespace, parent: &str, name: &str, objects: &Value) -> Self {
        let artifact = Self::source(namespace, name, objects);
        Self::apply(namespace, parent, &kustomization(namespace, name));
        artifact.reconcile("first");
        artifact
    }

    fn source(namespace: &'a Namespace, name: &str, objects: &Value) -> Self {
        namespace.apply(
            &json!({
                "apiVersion": "source.toolkit.fluxcd.io/v1",
                "kind": "GitRepository",
                "metadata": { "name": name },
                "spec": { "interval": "1h", "url": "https://example.invalid/fleet.git" },
            })
            .to_string(),
        );
        let artifact = Self { namespace, name: name.to_owned() };
        artifact.publish(objects, 1);
        artifact
    }

    /// source-controller's part, for the revision of this number.
    pub(crate) fn publish(&self, objects: &Value, revision: u32) {
        let archive = archive(objects);
        let digest =
            Sha256::digest(&archive).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let url = serve(archive);
        let status = json!({
            "status": {
                "artifact": {
                    "url": url,
                    "path": "fleet.tar.gz",
                    "digest": format!("sha256:{digest}"),
                    "revision": format!("main@sha1:{revision:040}"),
                    "lastUpdateTime": "2026-01-01T00:00:00Z",
                },
            },
        });
        self.namespace.kubectl(&[
            "patch",
            &format!("gitrepository/{}", self.name),
            "--subresource=status",
            "--type=merge",
            &format!("--patch={status}"),
        ]);
    }

    fn kustomization(&self) -> String {
        format!("kustomization/{}", self.name)
    }

    /// The one of this name that was applied before.
    pub(crate) fn of(namespace: &'a Namespace, name: &str) -> Self {
        Self { namespace, name: name.to_owned() }
    }

    /// Asks Flux to reconcile, by a word that was not used before.
    pub(crate) fn ask(&self, word: &str) {
        let annotation = format!("reconcile.fluxcd.io/requestedAt={word}");
        self.namespace.kubectl(&["annotate", "--overwrite", &self.kustomization(), &annotation]);
    }

    /// Asks it, and waits until it has.
    pub(crate) fn reconcile(&self, word: &str) {
        let kustomization = self.kustomization();
        self.ask(word);
        eventually("Flux has reconciled", || {
            let status = self.namespace.get(&kustomization)?["status"].take();
            (status["lastHandledReconcileAt"] == word).then_some(())
        });
    }
}

/// What applies the source of this name every second.
pub(crate) fn kustomization(namespace: &Namespace, name: &str) -> Value {
    json!({
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": { "name": name },
        "spec": {
            "interval": "1s",
            "path": "./",
            "prune": false,
            "sourceRef": { "kind": "GitRepository", "name": name },
            "targetNamespace": namespace.name,
        },
    })
}

/// A compressed tar of one file.
fn archive(objects: &Value) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("objects.yaml"), objects.to_string()).expect("a file of it");
    let output = Command::new("tar")
        .args(["-cz", "-f", "-", "objects.yaml"])
        .current_dir(directory.path())
        .output()
        .expect("tar runs");
    assert!(output.status.success());
    output.stdout
}

/// Answers every request with the bytes, as long as the tests run; returns the URL.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("a bound address").port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // One that goes away needs no answer.
            let _ = answer(&mut client, &bytes);
        }
    });
    format!("http://127.0.0.1:{port}/fleet.tar.gz")
}

fn answer(client: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut request = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len())?;
    client.write_all(bytes)
}
