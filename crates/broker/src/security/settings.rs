//! What a broker can be told about its listeners, its users and their rights.
//!
//! Plain values, as all settings: paths of certificates and references to passwords, so that a set
//! of settings can be printed and holds nothing worth stealing.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::principal::Principal;
use super::scram::{MAX_ITERATIONS, MIN_ITERATIONS, Scram};
use super::secret::SecretRef;
use crate::error::BrokerError;
use crate::settings::BrokerSettings;

/// What a listener speaks below Kafka's own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenerProtocol {
    /// TCP, everybody is `User:ANONYMOUS`. On loopback addresses only.
    #[default]
    Plaintext,
    /// TLS; clients are named by their certificate, if they show one.
    Ssl,
    /// TCP with SASL: users prove who they are, the rest can be read on the way.
    SaslPlaintext,
    /// TLS with SASL.
    SaslSsl,
}

impl ListenerProtocol {
    /// Whether connections are encrypted.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether clients authenticate with SASL.
    pub fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for ListenerProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        })
    }
}

/// A way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// The password itself, sent through TLS.
    #[serde(rename = "plain")]
    Plain,
    /// A proof made with SHA-256; the password stays with the client.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// A proof made with SHA-512; the password stays with the client.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// As clients call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => Scram::Sha256.name(),
            Self::ScramSha512 => Scram::Sha512.name(),
        }
    }
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// It is not asked for.
    #[default]
    None,
    /// It is asked for, and checked if there is one.
    Requested,
    /// Without one there is no connection.
    Required,
}

/// The certificate files of a listener. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file of the broker's certificate, followed by the certificates that signed it.
    pub certificate: PathBuf,
    /// PEM file of its private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    pub key: PathBuf,
    /// PEM file of the authorities whose client certificates are accepted.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// A host and port as clients are told it: `kafka.example:9093`, `[::1]:9092`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("an advertised address is {text:?}, expected HOST:PORT such as kafka.example:9093");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let host = bare.unwrap_or(host);
        let odd = |letter: char| letter.is_whitespace() || matches!(letter, '/' | '[' | ']' | '@');
        if host.is_empty() || host.contains(odd) || (bare.is_none() && host.contains(':')) || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for HostPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

/// An address the broker listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSettings {
    /// What logs and errors call it.
    pub name: String,
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// What it speaks.
    #[serde(default)]
    pub protocol: ListenerProtocol,
    /// Where clients of this listener are sent; `address` when absent.
    #[serde(default)]
    pub advertised: Option<HostPort>,
    /// Certificates, for `ssl` and `sasl_ssl`.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    /// Mechanisms clients may choose from, for `sasl_plaintext` and `sasl_ssl`; both SCRAM
    /// mechanisms when empty.
    #[serde(default)]
    pub sasl: Vec<SaslMechanism>,
}

impl ListenerSettings {
    /// A plaintext listener.
    pub fn plaintext(name: impl Into<String>, address: SocketAddr) -> Self {
        Self {
            name: name.into(),
            address,
            protocol: ListenerProtocol::Plaintext,
            advertised: None,
            tls: None,
            sasl: Vec::new(),
        }
    }

    /// The mechanisms clients may choose from.
    pub(crate) fn mechanisms(&self) -> Vec<SaslMechanism> {
        match (self.protocol.has_sasl(), self.sasl.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => vec![SaslMechanism::ScramSha512, SaslMechanism::ScramSha256],
            (true, false) => self.sasl.clone(),
        }
    }

    /// Whether every client of it has proven who it is.
    pub(crate) fn is_authenticated(&self) -> bool {
        let certificate = self.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Required);
        self.protocol.has_sasl() || (self.protocol.has_tls() && certificate)
    }

    fn check(&self) -> Result<(), BrokerError> {
        let refuse = |what: &str, expected: &str| {
            Err(BrokerError::InvalidListener {
                name: self.name.clone(),
                what: what.to_owned(),
                expected: expected.to_owned(),
            })
        };
        let protocol = self.protocol;
        if self.name.is_empty() {
            return refuse("has no name", "a `name` of its own");
        }
        match &self.tls {
            None if protocol.has_tls() => {
                let what = format!("speaks {protocol} but has no certificate");
                return refuse(&what, "`tls: {certificate: FILE, key: FILE}`");
            }
            Some(_) if !protocol.has_tls() => {
                let what = format!("has certificates but speaks {protocol}");
                return refuse(&what, "protocol `ssl` or `sasl_ssl`, or no `tls`");
            }
            Some(tls) if tls.client_auth != ClientAuth::None && tls.client_ca.is_none() => {
                return refuse("asks clients for certificates but trusts none", "`client_ca: FILE` under `tls`");
            }
            Some(tls) if tls.client_auth == ClientAuth::None && tls.client_ca.is_some() => {
                return refuse("has a `client_ca` but asks for no certificates", "`client_auth: required` under `tls`");
            }
            _ => {}
        }
        if !protocol.has_sasl() && !self.sasl.is_empty() {
            let what = format!("has SASL mechanisms but speaks {protocol}");
            return refuse(&what, "protocol `sasl_ssl`, or no `sasl`");
        }
        if self.sasl.contains(&SaslMechanism::Plain) && !protocol.has_tls() {
            let what = format!("offers PLAIN over {protocol}, which sends passwords that anybody on the way can read");
            return refuse(&what, "protocol `sasl_ssl`, or `sasl: [scram-sha-512]`");
        }
        if !self.address.ip().is_loopback() && !self.is_authenticated() {
            return Err(BrokerError::ListenNotLoopback { address: self.address, listener: self.name.clone() });
        }
        if self.address.ip().is_unspecified() && self.advertised.is_none() {
            let what = format!("listens on every address ({}) and does not say which to tell clients", self.address);
            return refuse(&what, "`advertised: HOST:PORT`");
        }
        Ok(())
    }
}

/// A user that is there from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
    /// What it logs in with; its principal is `User:` and this.
    pub name: String,
    /// Where its password is: `${env:NAME}` or `${file:PATH}`. At each start the user gets it, for
    /// every mechanism.
    pub password: SecretRef,
}

/// Limits and rules of authentication and authorization, part of [`BrokerSettings`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecuritySettings {
    /// Users that are there from the start. Others are added over the protocol
    /// (`kafka-configs.sh --entity-type users`).
    pub users: Vec<UserSettings>,
    /// Principals that may do everything, such as `User:admin`.
    pub super_users: Vec<String>,
    /// Whether what no rule speaks of is allowed. When absent: on a broker without any
    /// authentication there are no rules at all, on any other it is denied.
    pub allow_everyone_if_no_acl_found: Option<bool>,
    /// PBKDF2 iterations of the verifiers of [`SecuritySettings::users`].
    pub scram_iterations: u32,
    /// Longest time from the connection to the end of TLS and SASL.
    pub authentication_timeout_ms: u64,
    /// Largest frame of a client that has not authenticated yet.
    pub max_unauthenticated_request_bytes: usize,
    /// How long the answer to a failed authentication is held back.
    pub failed_authentication_delay_ms: u64,
    /// How long a SASL session lasts before the client has to authenticate again
    /// (`connections.max.reauth.ms`); 0 is for ever.
    pub max_reauthentication_ms: u64,
    /// Users that can be stored.
    pub max_users: usize,
    /// Access rules that can be stored.
    pub max_acls: usize,
    /// Lines the log has in a minute of each: denials, failed authentications, connections closed
    /// for what their client sent. Those beyond are counted.
    pub max_logged_per_minute: u32,
}

impl Default for SecuritySettings {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            super_users: Vec::new(),
            allow_everyone_if_no_acl_found: None,
            scram_iterations: MIN_ITERATIONS,
            authentication_timeout_ms: 10_000,
            max_unauthenticated_request_bytes: 64 * 1024,
            failed_authentication_delay_ms: 100,
            max_reauthentication_ms: 0,
            max_users: 10_000,
            max_acls: 10_000,
            max_logged_per_minute: 60,
        }
    }
}

/// Every listener, the simple one of `listen` included.
pub(crate) fn listeners(settings: &BrokerSettings) -> Vec<ListenerSettings> {
    if !settings.listeners.is_empty() {
        return settings.listeners.clone();
    }
    let mut simple = ListenerSettings::plaintext("plaintext", settings.listen);
    simple.advertised = settings.advertised.clone().map(|(host, port)| HostPort { host, port });
    vec![simple]
}

/// Refuses listeners, users and limits that cannot work or would leave the broker open.
pub(crate) fn check(settings: &BrokerSettings) -> Result<(), BrokerError> {
    let security = &settings.security;
    let mut names = BTreeSet::new();
    let listeners = listeners(settings);
    for listener in &listeners {
        listener.check()?;
        if !names.insert(listener.name.clone()) {
            return Err(BrokerError::InvalidListener {
                name: listener.name.clone(),
                what: "is there twice".to_owned(),
                expected: "a `name` of its own".to_owned(),
            });
        }
    }
    let invalid = |name, found: String, expected: String| Err(BrokerError::InvalidSetting { name, found, expected });
    for principal in &security.super_users {
        if principal.parse::<Principal>().is_err() {
            return invalid("super_users", format!("{principal:?}"), "`User:` and a name".to_owned());
        }
    }
    let mut users = BTreeSet::new();
    for user in &security.users {
        if user.name.is_empty() || !users.insert(user.name.as_str()) {
            return invalid("users", format!("twice {:?}", user.name), "each user once, with a name".to_owned());
        }
    }
    if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&security.scram_iterations) {
        let expected = format!("between {MIN_ITERATIONS} and {MAX_ITERATIONS}");
        return invalid("scram_iterations", security.scram_iterations.to_string(), expected);
    }
    let least = 512;
    if security.max_unauthenticated_request_bytes < least {
        let found = security.max_unauthenticated_request_bytes.to_string();
        return invalid("max_unauthenticated_request_bytes", found, format!("at least {least}"));
    }
    if security.authentication_timeout_ms == 0 {
        return invalid("authentication_timeout_ms", "0".to_owned(), "at least 1".to_owned());
    }
    Ok(())
}

/// Whether any client has to prove who it is, or rules were asked for.
pub(crate) fn has_authorizer(settings: &BrokerSettings) -> bool {
    let security = &settings.security;
    let by_listener =
        listeners(settings).iter().any(|listener| listener.protocol.has_sasl() || listener.is_authenticated());
    by_listener || security.allow_everyone_if_no_acl_found.is_some() || !security.super_users.is_empty()
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
