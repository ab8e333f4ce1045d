//! Encrypted connections to PostgreSQL, and whose certificate they take.
//!
//! | `sslmode` | encrypted | the server's certificate |
//! |---|---|---|
//! | `disable` | no | |
//! | `prefer` | if the server can | any |
//! | `require` | yes | any; with `sslrootcert` as `verify-ca` |
//! | `verify-ca` | yes | signed by somebody in `sslrootcert`, or whom this machine trusts |
//! | `verify-full` | yes | the same, and for the host in the url |
//!
//! The words are libpq's. What is not said is `disable` to this machine and `verify-full` to another: a password goes over
//! no network to somebody who was not asked who they are unless the table says so. Client certificates are not made use of.
//! Signatures of the handshake are checked in every mode; the cryptography is that of the broker's TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use highwater_engine::error::{EngineError, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The words of the modes.
pub(super) const MODES: [(&str, TlsMode); 5] = [
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

impl TlsMode {
    /// Whether a server that cannot encrypt is refused.
    pub(super) fn is_required(self) -> bool {
        self >= Self::Require
    }
}

/// What to do about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsSettings {
    pub(super) mode: TlsMode,
    /// A file with the certificates, in PEM, of those who may have signed the server's; none for those this machine trusts.
    pub(super) root_cert: Option<String>,
}

impl TlsSettings {
    /// Makes TLS connections. Reads the file of certificates.
    pub(super) fn connector(&self, object: &str) -> Result<MakeTls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match (self.mode, &self.root_cert) {
            (TlsMode::Disable | TlsMode::Prefer, _) | (TlsMode::Require, None) => {
                Arc::new(Verifier { provider: Arc::clone(&provider), signed: None, checks_name: false })
            }
            (mode, _) => {
                let signed =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots(object)?), Arc::clone(&provider));
                let signed = signed.build().map_err(|error| {
                    EngineError::config(format!("{object}: no certificate can be checked")).caused_by(error)
                })?;
                let checks_name = mode == TlsMode::VerifyFull;
                Arc::new(Verifier { provider: Arc::clone(&provider), signed: Some(signed), checks_name })
            }
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| EngineError::internal("the versions of TLS").caused_by(error))?;
        let mut config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(MakeTls(TlsConnector::from(Arc::new(config))))
    }

    fn roots(&self, object: &str) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.root_cert else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(EngineError::config(format!("{object}: this machine has no certificates it trusts"))
                    .help("name a file with the certificate of who has signed the server's: 'sslrootcert' = '/etc/ssl/db-ca.pem'"));
            }
            return Ok(roots);
        };
        let unreadable = |error: &dyn fmt::Display| {
            EngineError::config(format!("{object}: option 'sslrootcert' names '{path}', which cannot be read: {error}"))
                .help("name a file with certificates in PEM: -----BEGIN CERTIFICATE-----")
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
            roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
        }
        if roots.is_empty() { Err(unreadable(&"it has no certificate")) } else { Ok(roots) }
    }
}

/// Decides whose certificate is taken.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Who checks who has signed it; none if anybody may have.
    signed: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(signed) = &self.signed else { return Ok(ServerCertVerified::assertion()) };
        match signed.verify_server_cert(certificate, between, name, ocsp, now) {
            // The name is looked at last, when all else was found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a TLS connection was not made, where the server's certificate or its settings are the reason.
pub(super) fn refusal(error: &tokio_postgres::Error) -> Option<(String, &'static str)> {
    let source = std::error::Error::source(error)?;
    if source.to_string().contains("does not support TLS") {
        let help = "let the server encrypt (ssl = on), or say 'sslmode' = 'disable' where the network is safe";
        return Some(("does not encrypt connections".to_owned(), help));
    }
    let inner = source.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = inner else { return None };
    let help = match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "write the host in 'url' as the certificate has it, or say 'sslmode' = 'verify-ca', which leaves the name out"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "give the server a new certificate",
        _ => "name the certificate of who has signed it: 'sslrootcert' = '/etc/ssl/db-ca.pem'",
    };
    Some((format!("shows a certificate that is not taken: {inner}"), help))
}

/// Makes TLS connections to a host.
#[derive(Clone)]
pub(super) struct MakeTls(TlsConnector);

/// A connection to one host that is about to be made.
pub(super) struct ConnectTls {
    connector: TlsConnector,
    host: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for MakeTls {
    type Stream = TlsStream<S>;
    type TlsConnect = ConnectTls;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<ConnectTls> {
        // Whether it is a name that can be checked matters only where the connection gets encrypted.
        Ok(ConnectTls { connector: self.0.clone(), host: host.to_owned() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ConnectTls {
    type Stream = TlsStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TlsStream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            let stream = self.connector.connect(name, stream).await?;
            Ok(TlsStream(Box::new(stream)))
        })
    }
}

/// An encrypted connection.
pub(super) struct TlsStream<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for TlsStream<S> {
    /// Logins are not bound to the certificate: which hash it takes is written inside it, and nothing here reads that.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
