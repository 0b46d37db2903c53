//! Certificates, keys and kubeconfigs of a control plane: each user of the API server has a certificate of one authority.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use serde_json::json;

use crate::{debian, process};

/// The user that may do everything.
pub(super) const ADMINISTRATOR: &str = "admin";

/// Users and their groups; those of Kubernetes' own parts have the rights that it gives them by these names.
const USERS: [(&str, Option<&str>); 3] = [
    (ADMINISTRATOR, Some("system:masters")),
    ("system:kube-controller-manager", None),
    ("system:kube-scheduler", None),
];

/// Of the keys of certificates.
const ELLIPTIC: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// The directory that holds them all.
pub(super) struct Credentials {
    directory: PathBuf,
}

impl Credentials {
    /// Makes them in a new `directory`, for an API server on this port of 127.0.0.1.
    pub(super) fn make(directory: &Path, port: u16) -> Result<Self> {
        debian::provide_program("openssl", "openssl")?;
        fs::create_dir_all(directory)?;
        let credentials = Self { directory: directory.to_owned() };
        credentials.certificate("authority", "authority", "/CN=pgmove-test")?;
        credentials.certificate("server", "server", "/CN=kube-apiserver")?;
        // The API server takes no other's public part from the private one.
        Self::key(&credentials.service_account_key(), &["-algorithm", "RSA"])?;
        for (user, group) in USERS {
            let group = group.map(|group| format!("/O={group}")).unwrap_or_default();
            credentials.certificate(user, "client", &format!("{group}/CN={user}"))?;
            credentials.write_kubeconfig(user, port)?;
        }
        Ok(credentials)
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.file("authority.crt")
    }

    /// Certificate and key of whatever listens on loopback.
    pub(super) fn server(&self) -> (PathBuf, PathBuf) {
        (self.file("server.crt"), self.file("server.key"))
    }

    /// What signs the tokens of service accounts.
    pub(super) fn service_account_key(&self) -> PathBuf {
        self.file("service-account.key")
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.file(&format!("{user}.kubeconfig"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a private key.
    fn key(file: &Path, algorithm: &[&str]) -> Result<()> {
        process::run(Command::new("openssl").args(["genpkey", "-quiet", "-out"]).arg(file).args(algorithm))
    }

    /// Makes a key and a certificate with the extensions of that section of openssl.cnf.
    fn certificate(&self, name: &str, section: &str, subject: &str) -> Result<()> {
        let key = self.file(&format!("{name}.key"));
        Self::key(&key, &ELLIPTIC)?;
        let mut command = Command::new("openssl");
        command
            .args(["req", "-x509", "-days", "365", "-extensions", section, "-subj", subject, "-config"])
            .arg(process::workspace().join("tests/cluster/openssl.cnf"))
            .arg("-key")
            .arg(key)
            .arg("-out")
            .arg(self.file(&format!("{name}.crt")));
        if section != "authority" {
            command.arg("-CA").arg(self.authority()).arg("-CAkey").arg(self.file("authority.key"));
        }
        process::run(&mut command)
    }

    /// JSON, which is YAML too.
    fn write_kubeconfig(&self, user: &str, port: u16) -> Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "pgmove-test",
                "cluster": {
                    "server": format!("https://127.0.0.1:{port}"),
                    "certificate-authority": self.authority(),
                },
            }],
            "users": [{
                "name": user,
                "user": {
                    "client-certificate": self.file(&format!("{user}.crt")),
                    "client-key": self.file(&format!("{user}.key")),
                },
            }],
            "contexts": [{ "name": "pgmove-test", "context": { "cluster": "pgmove-test", "user": user } }],
            "current-context": "pgmove-test",
        });
        Ok(fs::write(self.kubeconfig(user), serde_json::to_vec_pretty(&config)?)?)
    }
}
