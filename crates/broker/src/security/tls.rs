//! TLS: certificates from PEM files, clients' certificates, and files that change.
//!
//! The files are looked at (size and time of change, not content) when a connection comes in, and
//! read again when they differ, so that a renewed certificate is served without a restart. Files
//! that cannot be used then leave the old certificate in place and are logged; at the start they are
//! an error that names the file and what is wrong with it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::settings::{ClientAuth, TlsSettings};
use crate::error::BrokerError;

/// The TLS side of a listener; other servers of the process use it, too.
#[derive(Debug)]
pub struct Tls {
    listener: String,
    settings: TlsSettings,
    protocols: Vec<Vec<u8>>,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
}

/// By which a file that changed is noticed.
type Stamp = Option<(SystemTime, u64)>;

impl Tls {
    /// Reads the files. `protocols` are those of ALPN that are spoken inside, none to leave that out as Kafka does.
    pub fn open(listener: &str, settings: &TlsSettings, protocols: &[&str]) -> Result<Self, BrokerError> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stamps = stamps(settings);
        let config = load(listener, settings, &protocols)?;
        let loaded = Mutex::new(Loaded { config, stamps });
        Ok(Self { listener: listener.to_owned(), settings: settings.clone(), protocols, loaded })
    }

    /// The handshake.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current()).accept(socket).await
    }

    /// What is served now; reads the files again if they changed.
    fn current(&self) -> Arc<ServerConfig> {
        let now = stamps(&self.settings);
        let mut loaded = self.loaded.lock();
        if now != loaded.stamps {
            match load(&self.listener, &self.settings, &self.protocols) {
                Ok(config) => {
                    tracing::info!(listener = self.listener, "certificates read again");
                    loaded.config = config;
                }
                Err(error) => tracing::error!(listener = self.listener, %error, "changed certificates are not used"),
            }
            // Also after a failure: the same files are not tried at each connection.
            loaded.stamps = now;
        }
        Arc::clone(&loaded.config)
    }
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let files = [Some(&settings.certificate), Some(&settings.key), settings.client_ca.as_ref()];
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.into_iter().flatten().map(stamp).collect()
}

/// Named, not taken from the process: another crate's features may leave none to take.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn load(listener: &str, settings: &TlsSettings, protocols: &[Vec<u8>]) -> Result<Arc<ServerConfig>, BrokerError> {
    let bad = |file: &Path, reason: String| BrokerError::Certificate {
        listener: listener.to_owned(),
        file: file.to_owned(),
        reason,
    };
    let chain = certificates(&settings.certificate).map_err(|reason| bad(&settings.certificate, reason))?;
    let key = private_key(&settings.key).map_err(|reason| bad(&settings.key, reason))?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| bad(&settings.certificate, error.to_string()))?;
    let config = match verifier(settings) {
        Ok(Some(verifier)) => config.with_client_cert_verifier(verifier),
        Ok(None) => config.with_no_client_auth(),
        Err((file, reason)) => return Err(bad(&file, reason)),
    };
    let mut config = config.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let reason = format!("the key is not that of the certificate in {}", settings.certificate.display());
            bad(&settings.key, reason)
        }
        error => bad(&settings.certificate, error.to_string()),
    })?;
    config.alpn_protocols = protocols.to_vec();
    Ok(Arc::new(config))
}

fn verifier(settings: &TlsSettings) -> Result<Option<Arc<dyn ClientCertVerifier>>, (PathBuf, String)> {
    let (ClientAuth::Requested | ClientAuth::Required, Some(file)) = (settings.client_auth, &settings.client_ca) else {
        return Ok(None);
    };
    let bad = |reason: String| (file.clone(), reason);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file).map_err(bad)? {
        roots.add(certificate).map_err(|error| bad(format!("a certificate in it is no authority: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if settings.client_auth == ClientAuth::Requested { builder.allow_unauthenticated() } else { builder };
    builder.build().map(Some).map_err(|error| bad(error.to_string()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(file).map_err(|error| format!("it cannot be read: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| format!("it is no PEM file: {error}"))?;
    if found.is_empty() {
        return Err("there is no certificate in it, expected `-----BEGIN CERTIFICATE-----`".to_owned());
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = std::fs::read(file).map_err(|error| format!("it cannot be read: {error}"))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        if String::from_utf8_lossy(&pem).contains("ENCRYPTED") {
            return "the key in it is encrypted; decrypt it with `openssl pkey -in FILE -out OTHER`".to_owned();
        }
        format!("there is no private key in it, expected `-----BEGIN PRIVATE KEY-----` ({error})")
    })
}
