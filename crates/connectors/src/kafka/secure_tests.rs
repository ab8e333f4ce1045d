//! The connector over TLS and with passwords, at the embedded broker: the contract of a sink holds, and whoever cannot be
//! trusted is not spoken to.

use std::path::{Path, PathBuf};

use highwater_broker::{
    Broker, BrokerSettings, ClientAuth, ListenerProtocol, ListenerSettings, SaslMechanism, SecretRef, TlsSettings,
    UserSettings,
};
use highwater_engine::plan::catalog::{Role, TableDefinition};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::client::connection::{Connection, ConnectionSettings};
use super::client::sasl::{Credentials, Mechanism};
use crate::contract;

/// A broker with one listener, the certificates for it, and a client's, all from one authority.
struct Secured {
    folder: TempDir,
    broker: Broker,
    _runtime: Runtime,
}

/// Writes `ca.pem`, and `NAME.pem` with `NAME.key` for a host of this machine and a client.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (name, host) in [("broker", "127.0.0.1"), ("root", "client.example"), ("elsewhere", "kafka.example")] {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

impl Secured {
    fn start(protocol: ListenerProtocol, certificate: &str, client_auth: ClientAuth) -> Self {
        Self::with_users(protocol, certificate, client_auth, &[("root", "root-secret")])
    }

    /// The same with users and their passwords.
    fn with_users(
        protocol: ListenerProtocol,
        certificate: &str,
        client_auth: ClientAuth,
        users: &[(&str, &str)],
    ) -> Self {
        let folder = TempDir::new().unwrap();
        certificates(folder.path());
        let path = |name: &str| folder.path().join(name);
        let tls = TlsSettings {
            certificate: path(&format!("{certificate}.pem")),
            key: path(&format!("{certificate}.key")),
            client_ca: (client_auth != ClientAuth::None).then(|| path("ca.pem")),
            client_auth,
        };
        let listener = ListenerSettings {
            protocol,
            tls: protocol.has_tls().then_some(tls),
            // In the clear the broker takes no passwords, only proofs.
            sasl: match (protocol.has_sasl(), protocol.has_tls()) {
                (true, true) => vec![SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512],
                (true, false) => vec![SaslMechanism::ScramSha256, SaslMechanism::ScramSha512],
                (false, _) => Vec::new(),
            },
            ..ListenerSettings::plaintext("test", ([127, 0, 0, 1], 0).into())
        };
        let mut settings = BrokerSettings { listeners: vec![listener], ..BrokerSettings::new(path("data")) };
        settings.security.super_users = vec!["User:root".to_owned(), "User:CN=root".to_owned()];
        settings.security.failed_authentication_delay_ms = 0;
        for (number, (name, password)) in users.iter().enumerate() {
            let file = path(&format!("password-{number}"));
            std::fs::write(&file, format!("{password}\n")).unwrap();
            settings.security.users.push(UserSettings { name: (*name).to_owned(), password: SecretRef::File(file) });
        }
        let runtime = Runtime::new().unwrap();
        let broker = runtime.block_on(Broker::start(settings)).unwrap();
        Self { folder, broker, _runtime: runtime }
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        path.display().to_string()
    }

    /// Opens a table with these options more; the words of the refusal, and the way out.
    fn refused(&self, options: &[(&str, &str)]) -> (String, String) {
        let address = self.broker.local_addr().to_string();
        let all = [&[("kafka.bootstrap.servers", address.as_str()), ("subscribe", "t")], options].concat();
        let table = contract::table(&contract::definition("kafka", None, &all));
        let Err(error) = table.probe(Role::Source) else { panic!("{options:?} is let in") };
        (error.to_string().replace(&address, "ADDRESS"), error.next_step().unwrap_or_default().to_owned())
    }

    /// A table of `id_name`, with these options more.
    fn definition(&self, options: &[(&str, &str)]) -> TableDefinition {
        let address = self.broker.local_addr().to_string();
        let table = [
            ("kafka.bootstrap.servers", address.as_str()),
            ("subscribe", "events"),
            ("topic", "events"),
            ("value.format", "json"),
            ("transactional", "true"),
        ];
        contract::definition("kafka", Some(contract::id_name()), &[&table[..], options].concat())
    }

    /// The contract of an exactly-once sink: one client writes, the other reads.
    fn keeps_the_contract(&self, options: &[(&str, &str)]) {
        contract::check(&self.definition(options));
    }

    /// How many rows the contract has left.
    fn rows(&self, options: &[(&str, &str)]) -> usize {
        contract::select(contract::table(&self.definition(options)).as_ref(), "SELECT id FROM t").len()
    }
}

#[test]
fn tables_are_read_and_written_with_passwords() {
    let secured = Secured::start(ListenerProtocol::SaslSsl, "broker", ClientAuth::None);
    let ca = secured.path("ca.pem");
    let with = |mechanism: &'static str| {
        [
            ("kafka.security.protocol", "SASL_SSL"),
            ("kafka.ssl.ca.location", ca.as_str()),
            ("kafka.sasl.mechanism", mechanism),
            ("kafka.sasl.username", "root"),
            ("kafka.sasl.password", "root-secret"),
        ]
    };
    secured.keeps_the_contract(&with("SCRAM-SHA-512"));
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        assert_eq!(secured.rows(&with(mechanism)), 32, "{mechanism}");
    }
}

/// Client and broker have each its own half of SCRAM, and no line in common: whatever one says the other understands.
#[test]
fn the_exchange_is_the_same_for_names_and_passwords_of_any_letters() {
    let long = "a very long password, ".repeat(20);
    let users = [
        ("root", "root-secret"),
        ("a,b=c", "p,=q,r=s"),
        ("=2C", "n,,n=user,r=nonce"),
        ("j\u{fc}rgen", "gr\u{f6}\u{df}e \u{6f22}\u{5b57}"),
        ("name with spaces", long.as_str()),
    ];
    let secured = Secured::with_users(ListenerProtocol::SaslPlaintext, "broker", ClientAuth::None, &users);
    let address = secured.broker.local_addr().to_string();
    let open = |mechanism: Mechanism, user: &str, password: &str| {
        let credentials = Credentials { mechanism, user: user.to_owned(), password: password.to_owned() };
        let settings = ConnectionSettings { credentials: Some(credentials), ..ConnectionSettings::default() };
        Connection::open(&address, &settings).map(drop).map_err(|error| error.to_string())
    };
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        for (user, password) in users {
            assert_eq!(open(mechanism, user, password), Ok(()), "{mechanism:?} {user}");
            for wrong in [format!("{password} "), password.to_uppercase(), "root-secre".to_owned()] {
                let refused = open(mechanism, user, &wrong).expect_err("a password that is not the user's");
                assert!(refused.contains("does not let this client in"), "{mechanism:?} {user}: {refused}");
            }
        }
        open(mechanism, "nobody", "root-secret").expect_err("nobody of that name");
        open(mechanism, "a=2Cb=3Dc", "p,=q,r=s").expect_err("how a name is sent is not the name");
    }
}

#[test]
fn a_certificate_is_a_name_too() {
    let secured = Secured::start(ListenerProtocol::Ssl, "broker", ClientAuth::Required);
    let path = |name: &str| std::fs::read_to_string(secured.path(name)).unwrap();
    std::fs::write(secured.path("both.pem"), path("root.key") + &path("root.pem")).unwrap();
    let (ca, both) = (secured.path("ca.pem"), secured.path("both.pem"));
    let java = [
        ("kafka.security.protocol", "SSL"),
        ("kafka.ssl.truststore.type", "PEM"),
        ("kafka.ssl.truststore.location", ca.as_str()),
        ("kafka.ssl.keystore.type", "PEM"),
        ("kafka.ssl.keystore.location", &both),
    ];
    secured.keeps_the_contract(&java);
}

#[test]
fn who_cannot_be_trusted_is_refused() {
    let secured = Secured::start(ListenerProtocol::SaslSsl, "broker", ClientAuth::None);
    let (ca, other) = (secured.path("ca.pem"), secured.path("root.pem"));
    let with = |authority: &str, password: &str| {
        secured.refused(&[
            ("kafka.security.protocol", "SASL_SSL"),
            ("kafka.ssl.ca.location", authority),
            ("kafka.sasl.mechanism", "SCRAM-SHA-512"),
            ("kafka.sasl.username", "root"),
            ("kafka.sasl.password", password),
        ])
    };
    let (error, help) = with(&ca, "guess");
    assert!(error.starts_with("Kafka broker ADDRESS does not let this client in: "), "{error}");
    assert!(help.contains("'kafka.sasl.password'") && !error.contains("guess"), "{error} {help}");
    let (error, help) = with(&other, "root-secret");
    assert!(error.starts_with("no TLS with Kafka broker ADDRESS: invalid peer certificate"), "{error}");
    assert!(help.contains("'kafka.ssl.ca.location'"), "{help}");
    let elsewhere = Secured::start(ListenerProtocol::Ssl, "elsewhere", ClientAuth::None);
    let ca = elsewhere.path("ca.pem");
    let (error, _) = elsewhere.refused(&[("kafka.security.protocol", "SSL"), ("kafka.ssl.ca.location", &ca)]);
    assert!(error.contains("certificate not valid for name"), "{error}");
}
