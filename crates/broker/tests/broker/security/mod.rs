//! Strangers, users and their rights, over the wire.

mod tls;
mod sasl;
mod users;
mod acls;
mod rights;
mod share_rights;
mod combined;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use highwater_broker::{
    Broker, BrokerSettings, ClientAuth, ListenerProtocol, ListenerSettings, SaslMechanism, SecretRef, TlsSettings,
    UserSettings,
};
use hmac::{Hmac, KeyInit, Mac};
use kafka_protocol::messages::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest, Sha512};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Client, text};
use crate::settings;

/// An authority with its folder of PEM files.
pub(crate) struct Authority {
    pub(crate) dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key`: a certificate for `localhost` whose subject is `CN=NAME`.
    pub(crate) fn sign(&self, name: &str) {
        self.sign_as(name, name);
    }

    pub(crate) fn sign_as(&self, file: &str, name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
    }

    pub(crate) fn tls(&self, client_auth: ClientAuth) -> TlsSettings {
        TlsSettings {
            certificate: self.path("broker.pem"),
            key: self.path("broker.key"),
            client_ca: (client_auth != ClientAuth::None).then(|| self.path("ca.pem")),
            client_auth,
        }
    }

    /// A TLS connection that shows the certificate of `name`, if any.
    pub(crate) async fn connect(
        &self,
        broker: &Broker,
        name: Option<&str>,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        self.connect_with(broker, name, &[&rustls::version::TLS13, &rustls::version::TLS12]).await
    }

    pub(crate) async fn connect_with(
        &self,
        broker: &Broker,
        name: Option<&str>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let config = config.with_root_certificates(roots);
        let config = match name {
            None => config.with_no_client_auth(),
            Some(name) => {
                let certificate = CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap();
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let socket = TcpStream::connect(broker.local_addr()).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
    }
}

pub(crate) fn listener(protocol: ListenerProtocol) -> ListenerSettings {
    ListenerSettings { protocol, ..ListenerSettings::plaintext("test", ([127, 0, 0, 1], 0).into()) }
}

/// Settings with users whose password is their name, `root` among them, who may do everything.
pub(crate) fn with_users(dir: &Path, listener: ListenerSettings, users: &[&str]) -> BrokerSettings {
    let mut settings = settings(&dir.join("data"));
    settings.listeners = vec![listener];
    settings.security.failed_authentication_delay_ms = 0;
    settings.security.super_users = vec!["User:root".to_owned()];
    for name in users {
        let file = dir.join(format!("{name}.password"));
        std::fs::write(&file, format!("{name}\n")).unwrap();
        let user = UserSettings { name: (*name).to_owned(), password: SecretRef::File(file) };
        settings.security.users.push(user);
    }
    settings
}

/// A broker that clients authenticate at with SCRAM, in the clear.
pub(crate) async fn start_scram(users: &[&str]) -> (TempDir, Broker) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), users)).await;
    (dir, broker.unwrap())
}

/// A client that is `name` now.
pub(crate) async fn log_in(broker: &Broker, name: &str) -> Client {
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(scram(&mut client, name, name).await.error_code, 0);
    client
}

pub(crate) async fn handshake(client: &mut Client, mechanism: &str) -> SaslHandshakeResponse {
    client.call(&SaslHandshakeRequest::default().with_mechanism(text(mechanism)), 1).await
}

pub(crate) async fn token(client: &mut Client, token: impl Into<Bytes>) -> SaslAuthenticateResponse {
    client.call(&SaslAuthenticateRequest::default().with_auth_bytes(token.into()), 2).await
}

/// PLAIN; answers what the broker says at the end.
pub(crate) async fn plain(client: &mut Client, user: &str, password: &str) -> SaslAuthenticateResponse {
    assert_eq!(handshake(client, "PLAIN").await.error_code, 0);
    token(client, format!("\0{user}\0{password}")).await
}

/// SCRAM-SHA-512; answers what the broker says at the end.
pub(crate) async fn scram(client: &mut Client, user: &str, password: &str) -> SaslAuthenticateResponse {
    assert_eq!(handshake(client, "SCRAM-SHA-512").await.error_code, 0);
    let bare = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
    let first = token(client, format!("n,,{bare}")).await;
    assert_eq!(first.error_code, 0, "{:?}", first.error_message);
    let first = String::from_utf8(first.auth_bytes.to_vec()).unwrap();
    let (last, signature) = prove(&bare, &first, password);
    let answer = token(client, last).await;
    if answer.error_code == 0 {
        assert_eq!(answer.auth_bytes, signature, "the broker knows the password too");
    }
    answer
}

/// The client's last message, and what the broker must answer to it.
pub(crate) fn prove(bare: &str, first: &str, password: &str) -> (String, String) {
    let field = |name: &str| first.split(',').find_map(|field| field.strip_prefix(name)).unwrap();
    let (nonce, salt) = (field("r="), BASE64.decode(field("s=")).unwrap());
    let mut salted = [0; 64];
    pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), &salt, field("i=").parse().unwrap(), &mut salted);
    let hmac = |key: &[u8], message: &str| {
        let mut mac = <Hmac<Sha512> as KeyInit>::new_from_slice(key).unwrap();
        mac.update(message.as_bytes());
        mac.finalize().into_bytes().to_vec()
    };
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("{bare},{first},{without_proof}");
    let client_key = hmac(&salted, "Client Key");
    let signature = hmac(&Sha512::digest(&client_key), &signed);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
    let server = hmac(&hmac(&salted, "Server Key"), &signed);
    (format!("{without_proof},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(server)))
}

/// A broker that takes PLAIN and SCRAM over TLS.
pub(crate) async fn start_sasl_ssl(authority: &Authority, users: &[&str]) -> (TempDir, Broker) {
    authority.sign("broker");
    let dir = tempfile::tempdir().unwrap();
    let listener = ListenerSettings {
        tls: Some(authority.tls(ClientAuth::None)),
        sasl: vec![SaslMechanism::Plain, SaslMechanism::ScramSha512],
        ..listener(ListenerProtocol::SaslSsl)
    };
    let broker = Broker::start(with_users(dir.path(), listener, users)).await.unwrap();
    (dir, broker)
}
