//! TLS for server connections: rustls with ring, and libpq's levels of verification.
//!
//! [`connector`] turns a [`ConnInfo`]'s TLS parameters into a connector, reading certificate files. Nothing
//! process-wide is set. What each `sslmode` proves is in the PostgreSQL manual, "SSL Support", "Protection
//! Provided in Different Modes". The certificate's signature over the handshake is checked in every mode:
//! SCRAM's channel binding means nothing without it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{ConnInfo, RootCertificates, SslMode};

/// Why no TLS connection can be tried.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A certificate or key file that cannot be read, or holds nothing usable.
    #[error("could not use {role} {}", path.display())]
    File {
        /// What the file is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `sslrootcert=system` on a machine without trusted roots.
    #[error("this machine has no trusted root certificates")]
    NoSystemRoots,
    /// rustls refuses the parameters.
    #[error("could not set up TLS")]
    Setup(#[source] Error),
}

/// A connector that verifies what the `sslmode` asks for, and shows the client certificate if there is one.
pub fn connector(conninfo: &ConnInfo) -> Result<MakeRustlsConnect, TlsSetupError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(conninfo, provider)?));
    let config = match conninfo.client_certificate() {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates("client certificate", &client.certificate)?;
            check_private(&client.key)?;
            let key = PrivateKeyDer::from_pem_file(&client.key)
                .map_err(|cause| file("client key", &client.key, cause))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|cause| file("client certificate", &client.certificate, cause))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn file(
    role: &'static str,
    path: &Path,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TlsSetupError {
    TlsSetupError::File { role, path: path.to_owned(), cause: cause.into() }
}

/// libpq's rule for key files: `pg_dump` would refuse one that others may read, so pgmove does it first. A key
/// of root may be readable by its group.
fn check_private(key: &Path) -> Result<(), TlsSetupError> {
    let metadata = fs::metadata(key).map_err(|cause| file("client key", key, cause))?;
    let forbidden = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    if metadata.permissions().mode() & forbidden != 0 {
        return Err(file("client key", key, "group or others have access to it; run chmod 0600"));
    }
    Ok(())
}

/// The certificates of a PEM file, at least one.
fn certificates(role: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, pem::Error>>)
        .map_err(|cause| file(role, path, cause))?;
    if certificates.is_empty() {
        return Err(file(role, path, "there is no certificate in it"));
    }
    Ok(certificates)
}

/// libpq's verification. It differs from rustls's own in three ways: the chain or the name may be left
/// unchecked, and a root that is itself the server's certificate is trusted.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    chain: Option<Chain>,
}

#[derive(Debug)]
struct Chain {
    verifier: Arc<WebPkiServerVerifier>,
    /// The file's certificates: a server with a self-signed certificate, as PostgreSQL's manual makes one,
    /// is trusted by putting that very certificate there. rustls alone refuses a root as a server's.
    roots: Vec<CertificateDer<'static>>,
    is_name_checked: bool,
}

impl Verifier {
    fn new(conninfo: &ConnInfo, provider: Arc<CryptoProvider>) -> Result<Verifier, TlsSetupError> {
        let roots = match (conninfo.ssl_mode(), conninfo.root_certificates()) {
            (SslMode::Disable | SslMode::Prefer, _) | (_, None) => {
                return Ok(Verifier { provider, chain: None });
            }
            (_, Some(RootCertificates::File(path))) => certificates("root certificate", path)?,
            (_, Some(RootCertificates::Text { origin, pem })) => {
                let read =
                    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, pem::Error>>();
                read.map_err(|cause| file("root certificate", Path::new(origin), cause))?
            }
            (_, Some(RootCertificates::System)) => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
        let verifier = match (builder.build(), conninfo.root_certificates()) {
            (Ok(verifier), _) => verifier,
            (Err(cause), Some(RootCertificates::File(path))) => {
                return Err(file("root certificate", path, cause));
            }
            (Err(cause), Some(RootCertificates::Text { origin, .. })) => {
                return Err(file("root certificate", Path::new(origin), cause));
            }
            (Err(_), _) => return Err(TlsSetupError::NoSystemRoots),
        };
        let is_name_checked = conninfo.ssl_mode() == SslMode::VerifyFull;
        Ok(Verifier { provider, chain: Some(Chain { verifier, roots, is_name_checked }) })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        if chain.roots.iter().any(|root| root == end_entity) {
            if chain.is_name_checked {
                let certificate = rustls::server::ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&certificate, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // rustls judges the name last, so everything else has been found right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !chain.is_name_checked => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
