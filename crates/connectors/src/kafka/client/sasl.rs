//! SASL, the client's side: PLAIN (RFC 4616), and SCRAM (RFC 5802, RFC 7677), by which a password is proven and not sent.
//!
//! ```text
//! client                                      broker
//!   n,,n=user,r=nonce            ──────────>
//!                                <──────────    r=nonce+theirs,s=salt,i=iterations
//!   c=biws,r=nonce+theirs,p=proof──────────>
//!                                <──────────    v=signature, by which the broker is known to know the password
//! ```
//!
//! Names and passwords are taken as they are, as Kafka does. No channel binding, no Kerberos, no tokens. Everything here
//! is a function of its input; the nonce is given.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// Fewer iterations would make a password easy to guess from what was overheard (RFC 7677).
const MIN_ITERATIONS: u32 = 4096;
/// More would let whoever answers keep this process busy.
const MAX_ITERATIONS: u32 = 1_000_000;

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password itself.
    Plain,
    /// A proof, with SHA-256.
    ScramSha256,
    /// A proof, with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// Its name in the protocol and in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::ScramSha512 => Sha512::digest(bytes).to_vec(),
            Self::Plain | Self::ScramSha256 => Sha256::digest(bytes).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::ScramSha512 => mac::<Hmac<Sha512>>(key, message),
            Self::Plain | Self::ScramSha256 => mac::<Hmac<Sha256>>(key, message),
        }
    }

    /// The slow part, on purpose: some milliseconds.
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::ScramSha512 => {
                let mut out = vec![0; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out);
                out
            }
            Self::Plain | Self::ScramSha256 => {
                let mut out = vec![0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out);
                out
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Who a client is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// How it says so.
    pub mechanism: Mechanism,
    /// Its name.
    pub user: String,
    /// Its secret.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// One authentication: a first message, then an answer to each of the broker's until there is none to give.
pub(super) struct Exchange<'a> {
    credentials: &'a Credentials,
    nonce: String,
    step: Step,
}

enum Step {
    /// Nothing but the broker's agreement is waited for.
    Last,
    /// The broker's part of the nonce, and its salt, are waited for.
    ServerFirst,
    /// The broker's own proof is waited for.
    ServerFinal { signature: Vec<u8> },
}

impl<'a> Exchange<'a> {
    /// Begins one; `nonce` is printable, has no comma, and was never used.
    pub(super) fn begin(credentials: &'a Credentials, nonce: String) -> (Self, Vec<u8>) {
        let Credentials { mechanism, user, password } = credentials;
        let (step, message) = match mechanism {
            Mechanism::Plain => (Step::Last, format!("\0{user}\0{password}")),
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
                (Step::ServerFirst, format!("n,,{}", bare_first(user, &nonce)))
            }
        };
        (Self { credentials, nonce, step }, message.into_bytes())
    }

    /// The next message, or none when the broker has said all that is needed; otherwise what is wrong with what it said.
    pub(super) fn answer(&mut self, server: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match &self.step {
            Step::Last => Ok(None),
            Step::ServerFirst => {
                let text = std::str::from_utf8(server).map_err(|_| "its first message is not text".to_owned())?;
                let (message, signature) = self.proof(text)?;
                self.step = Step::ServerFinal { signature };
                Ok(Some(message))
            }
            Step::ServerFinal { signature } => {
                let text = std::str::from_utf8(server).unwrap_or_default();
                let given = field(text, "v=").and_then(|text| BASE64.decode(text).ok());
                if given.as_ref() != Some(signature) {
                    return Err(
                        "it did not prove that it knows the password: it may not be the broker it claims to be"
                            .to_owned(),
                    );
                }
                self.step = Step::Last;
                Ok(None)
            }
        }
    }

    /// The message with the proof, and what the broker must answer.
    fn proof(&self, server_first: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
        let missing = || "its first message is not SCRAM's".to_owned();
        let nonce = field(server_first, "r=").ok_or_else(missing)?;
        let salt = field(server_first, "s=").and_then(|salt| BASE64.decode(salt).ok()).ok_or_else(missing)?;
        let iterations: u32 = field(server_first, "i=").and_then(|text| text.parse().ok()).ok_or_else(missing)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its nonce does not go on from ours".to_owned());
        }
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err(format!("it asks for {iterations} iterations, expected {MIN_ITERATIONS} to {MAX_ITERATIONS}"));
        }
        let Credentials { mechanism, user, password } = self.credentials;
        let salted = mechanism.salted(password.as_bytes(), &salt, iterations);
        let client_key = mechanism.hmac(&salted, b"Client Key");
        // `biws` is "n,,": no channel binding.
        let without_proof = format!("c=biws,r={nonce}");
        let all = format!("{},{server_first},{without_proof}", bare_first(user, &self.nonce));
        let client_signature = mechanism.hmac(&mechanism.hash(&client_key), all.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&client_signature).map(|(key, signature)| key ^ signature).collect();
        let signature = mechanism.hmac(&mechanism.hmac(&salted, b"Server Key"), all.as_bytes());
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes(), signature))
    }
}

fn bare_first(user: &str, nonce: &str) -> String {
    format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"))
}

fn field<'t>(message: &'t str, name: &str) -> Option<&'t str> {
    message.split(',').find_map(|field| field.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(mechanism: Mechanism, user: &str, password: &str) -> Credentials {
        Credentials { mechanism, user: user.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn plain_is_the_password() {
        let credentials = credentials(Mechanism::Plain, "alice", "a=b");
        let (mut exchange, first) = Exchange::begin(&credentials, String::new());
        assert_eq!(first, b"\0alice\0a=b");
        assert_eq!(exchange.answer(b""), Ok(None));
        assert!(!format!("{credentials:?}").contains("a=b"));
    }

    /// The example of RFC 7677, section 3.
    const RFC_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const RFC_SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn a_password_is_proven_as_the_rfc_shows() {
        let credentials = credentials(Mechanism::ScramSha256, "user", "pencil");
        let (mut exchange, first) = Exchange::begin(&credentials, RFC_NONCE.to_owned());
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = exchange.answer(RFC_SERVER_FIRST.as_bytes()).unwrap().unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(proof).unwrap(), expected);
        assert_eq!(exchange.answer(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(None));
    }

    #[test]
    fn a_broker_that_cannot_be_trusted_is_refused() {
        let check = |server: &[&str], expected: &str| {
            let credentials = credentials(Mechanism::ScramSha256, "user", "pencil");
            let (mut exchange, _) = Exchange::begin(&credentials, RFC_NONCE.to_owned());
            let answers: Vec<_> = server.iter().map(|message| exchange.answer(message.as_bytes())).collect();
            let error = answers.into_iter().next_back().unwrap().unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(&["r=other,s=AAAA,i=4096"], "nonce");
        check(&["r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096"], "nonce");
        check(&["r=rOprNGfwEbeRWgbNEkqO1,s=AAAA,i=1"], "it asks for 1 iterations, expected 4096 to 1000000");
        check(&["r=rOprNGfwEbeRWgbNEkqO1,s=AAAA,i=4000000000"], "4000000000 iterations");
        check(&["e=other-error"], "not SCRAM's");
        check(&[RFC_SERVER_FIRST, "v=AAAA"], "did not prove");
        check(&[RFC_SERVER_FIRST, ""], "did not prove");
    }

    #[test]
    fn names_keep_their_commas() {
        let credentials = credentials(Mechanism::ScramSha512, "a,b=c", "x");
        assert_eq!(Exchange::begin(&credentials, "n".to_owned()).1, b"n,,n=a=2Cb=3Dc,r=n");
    }
}
