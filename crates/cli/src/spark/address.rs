//! Where a Spark Connect server is, as Spark's clients write it:
//!
//! ```text
//!   sc://HOST[:PORT][/;key=value;...]      token, use_ssl, user_id, session_id, any other: a header of each call
//! ```
//!
//! A token, or a header that proves who asks, over an unencrypted connection is refused, as Spark's clients do with a token,
//! but for this machine itself.

use std::fmt;

use crate::config::secrets;
use crate::error::{Failure, Result};

/// The port a Connect server has if nothing else is said.
const DEFAULT_PORT: u16 = 15002;

/// What every address begins with.
pub(crate) const SCHEME: &str = "sc://";

/// A server and how to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name or an address; one of IP version 6 without its brackets.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// Whether the connection is encrypted.
    pub(crate) use_ssl: bool,
    /// What proves who asks.
    pub(crate) token: Option<String>,
    /// Who asks, for servers that do not ask for proof.
    pub(crate) user_id: Option<String>,
    /// The session to use instead of a new one.
    pub(crate) session_id: Option<String>,
    /// Headers of each call.
    pub(crate) headers: Vec<(String, String)>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token, nor headers that may hold one.
        write!(f, "{SCHEME}{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Address {
    /// Reads an address.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            // Not the text itself: it may hold a token.
            Failure::usage(format!("the address of the Spark Connect server {reason}"))
                .help("write sc://HOST:PORT, or sc://HOST:PORT/;use_ssl=true;token=...")
        };
        let Some(rest) = text.strip_prefix(SCHEME) else { return Err(wrong("does not begin with sc://")) };
        let (server, parameters) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(server).map_err(|reason| wrong(&reason))?;
        let mut address =
            Self { host, port, use_ssl: false, token: None, user_id: None, session_id: None, headers: Vec::new() };
        let parameters = parameters.strip_prefix(';').unwrap_or(parameters);
        for parameter in parameters.split(';').filter(|parameter| !parameter.is_empty()) {
            let Some((key, value)) = parameter.split_once('=') else {
                return Err(wrong("has a parameter without '=' after its '/'"));
            };
            address.set(key.trim(), value.trim()).map_err(|reason| wrong(&reason))?;
        }
        let is_authorization = |key: &str| key.eq_ignore_ascii_case("authorization");
        let secret = if address.token.is_some() {
            Some("a token")
        } else {
            address.headers.iter().any(|(key, _)| is_authorization(key)).then_some("an authorization")
        };
        if let (Some(secret), false, false) = (secret, address.use_ssl, address.is_local()) {
            return Err(wrong(&format!("has {secret} but not use_ssl=true: it would be sent unencrypted")));
        }
        Ok(address)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "use_ssl" => {
                self.use_ssl = value
                    .to_ascii_lowercase()
                    .parse()
                    .map_err(|_| format!("says use_ssl={value}, expected true or false"))?;
            }
            "token" => {
                secrets::remember(value);
                self.token = Some(value.to_owned());
            }
            "user_id" => self.user_id = Some(value.to_owned()),
            "session_id" if uuid::Uuid::parse_str(value).is_err() => {
                return Err(format!("says session_id={value}, expected a UUID"));
            }
            "session_id" => self.session_id = Some(value.to_owned()),
            // It names the client in the server's log, and this one has a name.
            "user_agent" => {}
            _ => {
                if key.eq_ignore_ascii_case("authorization") {
                    secrets::remember(value);
                }
                self.headers.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(())
    }

    /// Whether the server is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let is_loopback = |host: &str| host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.host == "localhost" || is_loopback(&self.host)
    }
}

fn host_and_port(server: &str) -> Result<(String, u16), String> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("has a '[' that is not closed")?;
            (host, after.strip_prefix(':'))
        }
        None => server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    let port = match port {
        Some(port) => port.parse().map_err(|_| format!("has '{port}' as its port, expected a number"))?,
        None => DEFAULT_PORT,
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_sparks_clients_do() {
        let check = |text: &str, expected: &str| {
            let shown = match Address::parse(text) {
                Ok(a) => {
                    format!("{a} ssl={} token={:?} user={:?} headers={:?}", a.use_ssl, a.token, a.user_id, a.headers)
                }
                Err(failure) => {
                    failure.message().trim_start_matches("the address of the Spark Connect server ").to_owned()
                }
            };
            assert_eq!(shown, expected);
        };
        check("sc://spark", "sc://spark:15002 ssl=false token=None user=None headers=[]");
        check("sc://[::1]:7", "sc://::1:7 ssl=false token=None user=None headers=[]");
        check(
            "sc://h:1/;use_ssl=true;token=abc;user_id=u;x-tenant=t",
            "sc://h:1 ssl=true token=Some(\"abc\") user=Some(\"u\") headers=[(\"x-tenant\", \"t\")]",
        );
        check("sc://localhost:1/;token=abc", "sc://localhost:1 ssl=false token=Some(\"abc\") user=None headers=[]");
        check("sc://h:1/;token=abc", "has a token but not use_ssl=true: it would be sent unencrypted");
        let unencrypted = "has an authorization but not use_ssl=true: it would be sent unencrypted";
        check("sc://h:1/;Authorization=Basic YTpi", unencrypted);
        check(
            "sc://[::1]:1/;authorization=x",
            "sc://::1:1 ssl=false token=None user=None headers=[(\"authorization\", \"x\")]",
        );
        check("spark://h:1", "does not begin with sc://");
        check("sc://:1", "names no host");
        check("sc://h:x", "has 'x' as its port, expected a number");
        check("sc://h/;use_ssl=yes", "says use_ssl=yes, expected true or false");
        check("sc://h/;session_id=1", "says session_id=1, expected a UUID");
    }

    #[test]
    fn a_token_is_never_shown() {
        let address = Address::parse("sc://h:1/;use_ssl=true;token=geheim;authorization=geheim").unwrap();
        assert_eq!(format!("{address} {address:?}"), "sc://h:1 sc://h:1");
    }
}
