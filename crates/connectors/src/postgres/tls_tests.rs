//! Encrypted connections to a real server, with certificates of an authority that the test is.

use std::path::PathBuf;
use std::sync::Arc;

use highwater_engine::plan::catalog::{Connector, Table, TableDefinition};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::PostgresConnector;
use super::server::{PASSWORD, Server, USER};
use crate::contract::{definition, select};

/// Signs certificates.
struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("a certificate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = params.self_signed(&key).expect("signed").pem();
        std::fs::write(folder.path().join("ca.pem"), certificate).expect("written");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The file with its own certificate.
    fn path(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these hosts, and its key.
    fn sign(&self, hosts: &[&str]) -> (String, String) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = CertificateParams::new(hosts).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

const IS_ENCRYPTED: &str = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A table that shows whether its own connection is encrypted; an error when it is made.
fn open(url: &str, more: &[(&str, &str)]) -> Result<Arc<dyn Table>, String> {
    let mut options = vec![("url", url), ("user", USER), ("password", PASSWORD), ("query", IS_ENCRYPTED)];
    options.extend_from_slice(more);
    let definition: TableDefinition = definition("postgres", None, &options);
    PostgresConnector.table(&definition).map_err(|error| match error.next_step() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    })
}

/// What the table shows, or what is said of it.
fn shown(url: &str, more: &[(&str, &str)]) -> String {
    match open(url, more) {
        Ok(table) => select(table.as_ref(), "SELECT * FROM t").join(", "),
        Err(said) => said,
    }
}

#[test]
fn connections_are_encrypted_and_certificates_checked() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (certificate, key) = ours.sign(&["localhost", "127.0.0.1"]);
    let Some(server) = Server::start_with_tls(&certificate, &key) else { return };
    let url = server.url();
    let by_name = url.replace("127.0.0.1", "localhost");
    let (ours, theirs) = (ours.path().display().to_string(), theirs.path().display().to_string());
    let encrypted = "true TLSv1.3";
    for url in [&url, &by_name] {
        assert_eq!(shown(url, &[("sslmode", "prefer")]), encrypted);
        assert_eq!(shown(url, &[("sslmode", "require")]), encrypted);
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(shown(url, &[("sslmode", mode), ("sslrootcert", &ours)]), encrypted, "{mode}");
            let said = shown(url, &[("sslmode", mode), ("sslrootcert", &theirs)]);
            let expected = "shows a certificate that is not taken: invalid peer certificate: UnknownIssuer; name the \
                            certificate of who has signed it: 'sslrootcert' = '/etc/ssl/db-ca.pem'";
            assert!(said.ends_with(expected), "{mode}: {said}");
        }
        // Whom this machine trusts did not sign it.
        let said = shown(url, &[("sslmode", "verify-ca")]);
        assert!(said.contains("UnknownIssuer") || said.contains("this machine has no certificates"), "{said}");
    }
    // In the url, as libpq and JDBC have them; a certificate to check with is a wish to check.
    assert_eq!(shown(&format!("{url}?sslmode=verify-full&sslrootcert={ours}"), &[]), encrypted);
    assert_eq!(shown(&format!("jdbc:{url}?application_name=x&sslmode=verify-ca&sslrootcert={ours}"), &[]), encrypted);
    assert_eq!(shown(&url, &[("sslrootcert", &ours)]), encrypted);
    // This one lets in only who encrypts.
    let said = shown(&url, &[]);
    assert!(said.contains("no pg_hba.conf entry for host") && said.contains("no encryption"), "{said}");
}

#[test]
fn a_certificate_for_another_host_is_taken_where_names_are_left_out() {
    let authority = Authority::new("ours");
    let (certificate, key) = authority.sign(&["db.example.com"]);
    let Some(server) = Server::start_with_tls(&certificate, &key) else { return };
    let (url, root) = (server.url(), authority.path().display().to_string());
    assert_eq!(shown(&url, &[("sslmode", "verify-ca"), ("sslrootcert", &root)]), "true TLSv1.3");
    let said = shown(&url, &[("sslmode", "verify-full"), ("sslrootcert", &root)]);
    assert!(said.contains("shows a certificate that is not taken: invalid peer certificate: "), "{said}");
    assert!(said.ends_with("or say 'sslmode' = 'verify-ca', which leaves the name out"), "{said}");
}

#[test]
fn a_server_that_cannot_encrypt_is_used_only_where_that_is_preferred() {
    let Some(server) = Server::start() else { return };
    let url = server.url();
    assert_eq!(shown(&url, &[]), "false null");
    assert_eq!(shown(&url, &[("sslmode", "disable")]), "false null");
    assert_eq!(shown(&url, &[("sslmode", "prefer")]), "false null");
    let authority = Authority::new("ours");
    let root = authority.path().display().to_string();
    for mode in ["require", "verify-ca", "verify-full"] {
        let said = shown(&url, &[("sslmode", mode), ("sslrootcert", &root)]);
        let expected = "does not encrypt connections; let the server encrypt (ssl = on), or say 'sslmode' = 'disable' where \
                        the network is safe";
        assert!(said.ends_with(expected), "{mode}: {said}");
    }
}

#[test]
fn files_without_certificates_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem").display().to_string();
    std::fs::write(&empty, "nothing\n").expect("written");
    // Nobody is asked: there is nothing to check with.
    let url = "postgresql://127.0.0.1:1/postgres";
    let said = shown(url, &[("sslmode", "verify-ca"), ("sslrootcert", &empty)]);
    let expected = format!("option 'sslrootcert' names '{empty}', which cannot be read: it has no certificate");
    assert!(said.contains(&expected) && said.ends_with("-----BEGIN CERTIFICATE-----"), "{said}");
    let said = shown(url, &[("sslrootcert", "/no/such/file.pem")]);
    assert!(said.contains("names '/no/such/file.pem', which cannot be read: "), "{said}");
}
