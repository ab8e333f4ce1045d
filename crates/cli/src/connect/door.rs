//! Who may come in: the token that clients show, and the TLS that hides it on its way.
//!
//! ```text
//!   connection ─> TLS, if there are certificates ─> call ─> authorization: Bearer TOKEN ─> service
//! ```
//!
//! An address that other machines reach is refused without both: a token that anybody on the way can read is none, and
//! PySpark sends its token unencrypted to `localhost` alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use highwater_broker::{Secret, SecretRef, Tls, TlsSettings};
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::problem::{Problem, Result as Answer};
use crate::config::secrets;
use crate::error::{Failure, Result};

/// Shorter tokens can be guessed.
const MIN_TOKEN_BYTES: usize = 16;

/// The code of gRPC for whoever has not proven who it is.
const UNAUTHENTICATED: u32 = 16;

/// The entrance of a server.
#[derive(Debug, Default)]
pub(crate) struct Door {
    token: Option<Secret>,
    pub(super) tls: Option<Tls>,
}

impl Door {
    /// Looks the token up, and reads the certificates: PEM files of a chain and its key.
    pub(crate) fn open(token: Option<&SecretRef>, certificates: Option<(PathBuf, PathBuf)>) -> Result<Self> {
        let broken = |error: highwater_broker::BrokerError| Failure::usage(error.to_string());
        let token = token.map(|token| token.resolve("the token of highwater connect")).transpose().map_err(broken)?;
        if let Some(token) = &token {
            secrets::remember(&String::from_utf8_lossy(token.bytes()));
            if token.bytes().len() < MIN_TOKEN_BYTES {
                return Err(Failure::usage(format!(
                    "the token of highwater connect has {} bytes, expected at least {MIN_TOKEN_BYTES}",
                    token.bytes().len()
                ))
                .help("make one that nobody guesses: openssl rand -hex 32"));
            }
        }
        let tls = certificates.map(|(certificate, key)| {
            let settings = TlsSettings { certificate, key, client_ca: None, client_auth: Default::default() };
            Tls::open("connect", &settings, &["h2"])
        });
        Ok(Self { token, tls: tls.transpose().map_err(broken)? })
    }

    /// Refuses an address that is not safe with what there is.
    pub(crate) fn check(&self, listen: SocketAddr) -> Result<()> {
        if listen.ip().is_loopback() || (self.token.is_some() && self.tls.is_some()) {
            return Ok(());
        }
        let missing = match (&self.token, &self.tls) {
            (None, None) => "neither a token nor a certificate",
            (None, Some(_)) => "no token",
            _ => "no certificate",
        };
        Err(Failure::usage(format!("other machines reach {listen}, and there is {missing}")).help(
            "give --token-env or --token-file, and --tls-certificate with --tls-key; or listen on 127.0.0.1, and let other \
             machines come through a tunnel, such as ssh -L",
        ))
    }

    /// Lets in who knows the token.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Answer<()> {
        let Some(token) = &self.token else { return Ok(()) };
        let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let shown = shown.and_then(|value| value.split_first_chunk::<7>());
        match shown {
            Some((scheme, shown)) if scheme.eq_ignore_ascii_case(b"bearer ") && token.is(shown) => Ok(()),
            Some(_) => Err(Problem::call(UNAUTHENTICATED, "the token is not that of this server")),
            None => Err(Problem::call(UNAUTHENTICATED, "this server asks for a token: sc://HOST:PORT/;token=...")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-of-this-test-alone";

    fn door(token: &str) -> Result<Door> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{token}\n")).unwrap();
        Door::open(Some(&SecretRef::File(file)), None)
    }

    #[test]
    fn only_who_knows_the_token_comes_in() {
        let door = door(TOKEN).unwrap();
        let check = |value: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(AUTHORIZATION, value.parse().unwrap());
            }
            let admitted = door.admit(&headers);
            assert_eq!(admitted.is_ok(), expected, "{value:?}");
            assert!(admitted.is_ok() || admitted.unwrap_err().code() == UNAUTHENTICATED);
        };
        check(Some(&format!("Bearer {TOKEN}")), true);
        check(Some(&format!("bearer {TOKEN}")), true);
        check(Some("Bearer another-token-of-nobody"), false);
        check(Some("Bearer "), false);
        check(Some(TOKEN), false);
        check(None, false);
        assert!(Door::default().admit(&HeaderMap::new()).is_ok(), "without a token everybody on this machine is in");
        assert_eq!(secrets::redact(&format!("it is {TOKEN}")), "it is ******");
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        let check = |door: &Door, listen: &str, expected: Option<&str>| {
            let refused = door.check(listen.parse().unwrap()).err();
            assert_eq!(refused.as_ref().map(Failure::message), expected);
        };
        check(&Door::default(), "127.0.0.1:1", None);
        check(&Door::default(), "[::1]:1", None);
        let nothing = "other machines reach 0.0.0.0:1, and there is neither a token nor a certificate";
        check(&Door::default(), "0.0.0.0:1", Some(nothing));
        let token = door(TOKEN).unwrap();
        check(&token, "127.0.0.1:1", None);
        check(&token, "0.0.0.0:1", Some("other machines reach 0.0.0.0:1, and there is no certificate"));
        let short = door("short").unwrap_err();
        assert_eq!(short.message(), "the token of highwater connect has 5 bytes, expected at least 16");
        let missing = Door::open(Some(&SecretRef::Env("HIGHWATER_NOT_SET".to_owned())), None).unwrap_err();
        assert!(missing.message().starts_with("the token of highwater connect is ${env:HIGHWATER_NOT_SET}"));
    }
}
