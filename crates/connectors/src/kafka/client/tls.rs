//! TLS, the client's side: a connection that is encrypted and whose broker is known by its certificate, or is neither.
//!
//! Certificates are PEM. The broker's must come from an authority that is trusted, the one named or those of this machine,
//! and be for the host that was connected to; there is no way to leave that out. Files are read with the first connection
//! and kept.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::error::{ClientError, ClientResult};

/// PEM, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// In the settings.
    Text(String),
}

/// Whom to trust, and who to be.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// The authorities; those this machine trusts if none.
    pub authorities: Option<Pem>,
    /// Our certificate and its key, where brokers ask for them.
    pub identity: Option<(Pem, Pem)>,
    loaded: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl TlsSettings {
    /// Settings whose files nobody has read yet.
    pub fn new(authorities: Option<Pem>, identity: Option<(Pem, Pem)>) -> Self {
        Self { authorities, identity, loaded: Arc::default() }
    }

    fn config(&self) -> ClientResult<Arc<ClientConfig>> {
        if let Some(config) = self.loaded.get() {
            return Ok(Arc::clone(config));
        }
        let config = self.load()?;
        Ok(Arc::clone(self.loaded.get_or_init(|| config)))
    }

    fn load(&self) -> ClientResult<Arc<ClientConfig>> {
        // Named, not taken from the process: another crate's features may leave none to take.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| ClientError::Setting(format!("TLS cannot be set up: {error}")))?
            .with_root_certificates(self.roots()?);
        let Some((chain, key)) = &self.identity else { return Ok(Arc::new(config.with_no_client_auth())) };
        let certificates = certificates(chain)?;
        let config = config.with_client_auth_cert(certificates, private_key(key)?);
        config.map(Arc::new).map_err(|error| bad(chain, format!("it cannot be used with its key: {error}")))
    }

    fn roots(&self) -> ClientResult<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(pem) => {
                for certificate in certificates(pem)? {
                    roots
                        .add(certificate)
                        .map_err(|error| bad(pem, format!("a certificate is no authority: {error}")))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            let text = "this machine trusts no authorities; name one by the option 'kafka.ssl.ca.location'";
            return Err(ClientError::Setting(text.to_owned()));
        }
        Ok(roots)
    }
}

fn bad(pem: &Pem, reason: impl std::fmt::Display) -> ClientError {
    let place = match pem {
        Pem::File(path) => format!("certificate file {}", path.display()),
        Pem::Text(_) => "the certificate or key in the options".to_owned(),
    };
    ClientError::Setting(format!("{place}: {reason}"))
}

fn bytes(pem: &Pem) -> ClientResult<Vec<u8>> {
    match pem {
        Pem::File(path) => std::fs::read(path).map_err(|error| bad(pem, format!("it cannot be read: {error}"))),
        Pem::Text(text) => Ok(text.clone().into_bytes()),
    }
}

fn certificates(pem: &Pem) -> ClientResult<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(pem)?).collect();
    let found = found.map_err(|error| bad(pem, format!("it is no PEM: {error}")))?;
    if found.is_empty() {
        return Err(bad(pem, "there is no certificate in it, expected PEM: -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

fn private_key(pem: &Pem) -> ClientResult<PrivateKeyDer<'static>> {
    let bytes = bytes(pem)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if String::from_utf8_lossy(&bytes).contains("ENCRYPTED") {
            return bad(pem, "the key in it is encrypted; decrypt it with `openssl pkey -in FILE -out OTHER`");
        }
        bad(pem, format!("there is no private key in it, expected PEM: -----BEGIN PRIVATE KEY----- ({error})"))
    })
}

/// A connection to a broker, encrypted or not.
pub(super) enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Inside TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Encrypts a connection to `address`, if there are settings for it; the broker is known when this returns.
    pub(super) fn over(mut tcp: TcpStream, address: &str, settings: Option<&TlsSettings>) -> ClientResult<Self> {
        let Some(settings) = settings else { return Ok(Self::Plain(tcp)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let failed = |reason: String| ClientError::Tls { address: address.to_owned(), reason };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
        let mut connection =
            ClientConnection::new(settings.config()?, name).map_err(|error| failed(error.to_string()))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).map_err(|error| {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(reason) => failed(reason.to_string()),
                    None => ClientError::Disconnected { address: address.to_owned(), source: error },
                }
            })?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, tcp))))
    }

    /// What is underneath, for its time limits.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: Option<&str>, expected: &str| {
            let path = folder.path().join("ca.pem");
            let _ = std::fs::remove_file(&path);
            text.iter().for_each(|text| std::fs::write(&path, text).unwrap());
            let error = TlsSettings::new(Some(Pem::File(path.clone())), None).config().unwrap_err().to_string();
            assert_eq!(error, format!("certificate file {}: {expected}", path.display()));
        };
        check(None, "it cannot be read: No such file or directory (os error 2)");
        check(Some("hello"), "there is no certificate in it, expected PEM: -----BEGIN CERTIFICATE-----");
    }
}
