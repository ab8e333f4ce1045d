//! SCRAM (RFC 5802, RFC 7677), the server's side: a user proves that it knows a password which the
//! server never sees and does not keep.
//!
//! ```text
//! client                                      server
//!   n,,n=user,r=nonce            ──────────>
//!                                <──────────    r=nonce+ours,s=salt,i=iterations
//!   c=biws,r=nonce+ours,p=proof  ──────────>    H(proof xor HMAC(stored key, all of this)) = stored key?
//!                                <──────────    v=signature, by which the client knows the server
//! ```
//!
//! Kafka's flavour: passwords and names are taken as they are (no SASLprep), an authorization id
//! must be the user itself, extensions are delegation tokens and refused, and the last message may
//! repeat more than the nonce as long as it ends with it. No channel binding.
//!
//! Everything here is a pure function of its input, the server's nonce included.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// Fewest iterations of a verifier, by RFC 7677.
pub(crate) const MIN_ITERATIONS: u32 = 4096;
/// Most iterations of a verifier, as in Kafka: PLAIN makes the broker do them.
pub(crate) const MAX_ITERATIONS: u32 = 16_384;
/// Longest salt that is stored.
pub(crate) const MAX_SALT_BYTES: usize = 1024;

/// A SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Scram {
    #[serde(rename = "SCRAM-SHA-256")]
    Sha256,
    #[serde(rename = "SCRAM-SHA-512")]
    Sha512,
}

impl Scram {
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// Its number in the protocol.
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    pub(crate) fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.code() == code)
    }

    /// Bytes of its keys.
    pub(crate) fn key_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    pub(crate) fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, message),
        }
    }

    /// The slow part, on purpose: some milliseconds.
    fn salted_password(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut out = vec![0; self.key_bytes()];
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out),
        }
        out
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// What is kept of a password: enough to check it, not enough to log in with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verifier {
    #[serde(with = "base64_bytes")]
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    #[serde(with = "base64_bytes")]
    pub(crate) stored_key: Vec<u8>,
    #[serde(with = "base64_bytes")]
    pub(crate) server_key: Vec<u8>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Verifier {
    /// The verifier of a password. Slow.
    pub(crate) fn of_password(mechanism: Scram, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let salted = mechanism.salted_password(password, &salt, iterations);
        Self::of_salted_password(mechanism, &salted, salt, iterations)
    }

    /// The verifier of a password that a client has salted already.
    pub(crate) fn of_salted_password(mechanism: Scram, salted: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let stored_key = mechanism.hash(&mechanism.hmac(salted, b"Client Key"));
        let server_key = mechanism.hmac(salted, b"Server Key");
        Self { salt, iterations, stored_key, server_key }
    }

    /// Whether this is the verifier of `password`. Slow, and takes as long either way.
    pub(crate) fn accepts(&self, mechanism: Scram, password: &[u8]) -> bool {
        let given = Self::of_password(mechanism, password, self.salt.clone(), self.iterations);
        given.stored_key.ct_eq(&self.stored_key).into()
    }
}

/// Why an exchange ends: what the client said is no SCRAM, or no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) &'static str);

/// The client's first message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    pub(crate) user: String,
    /// The part before the message proper, which the last message repeats.
    header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Failed> {
        let text = std::str::from_utf8(message).map_err(|_| Failed("the first message is not text"))?;
        let malformed = Failed("the first message is not SCRAM's");
        let mut parts = text.splitn(3, ',');
        let (binding, authorization, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(binding), Some(authorization), Some(bare)) => (binding, authorization, bare),
            _ => return Err(malformed),
        };
        if binding != "n" && binding != "y" {
            return Err(Failed("channel binding is not supported"));
        }
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|field| field.strip_prefix("n=")).ok_or(malformed)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(malformed)?;
        if fields.next().is_some() {
            return Err(Failed("extensions (delegation tokens) are not supported"));
        }
        let user = unescaped(user).ok_or(malformed)?;
        if user.is_empty() || nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed);
        }
        let authorized = match authorization {
            "" => true,
            id => id.strip_prefix("a=").and_then(unescaped).is_some_and(|id| id == user),
        };
        if !authorized {
            return Err(Failed("the authorization id is not the user"));
        }
        let (header, bare, nonce) = (format!("{binding},{authorization},"), bare.to_owned(), nonce.to_owned());
        Ok(Self { user, header, bare, nonce })
    }
}

/// `=2C` is a comma and `=3D` an equals sign; no other use of `=` is allowed.
fn unescaped(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        out.push_str(before);
        let (letter, after) = match after.as_bytes() {
            [b'2', b'C', ..] => (',', &after[2..]),
            [b'3', b'D', ..] => ('=', &after[2..]),
            _ => return None,
        };
        out.push(letter);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub(crate) struct Challenge {
    mechanism: Scram,
    first: ClientFirst,
    nonce: String,
    message: String,
    verifier: Verifier,
}

impl Challenge {
    /// `nonce` is the server's own part: random, printable, without commas.
    pub(crate) fn new(mechanism: Scram, first: ClientFirst, verifier: Verifier, nonce: &str) -> Self {
        let nonce = format!("{}{nonce}", first.nonce);
        let message = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        Self { mechanism, first, nonce, message, verifier }
    }

    /// What the client is sent.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Checks the proof; answers the last message to the client.
    pub(crate) fn finish(&self, message: &[u8]) -> Result<String, Failed> {
        let malformed = Failed("the last message is not SCRAM's");
        let text = std::str::from_utf8(message).map_err(|_| malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c=")).ok_or(malformed)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(malformed)?;
        if BASE64.decode(binding).ok().as_deref() != Some(self.first.header.as_bytes()) {
            return Err(Failed("the channel binding is not the one the exchange began with"));
        }
        // As Kafka does: librdkafka before 2.6.1 puts its own part in front once more. What makes the
        // exchange fresh is the server's part, and the proof signs all of it.
        if !nonce.ends_with(&self.nonce) {
            return Err(Failed("the nonce is not the one the exchange began with"));
        }
        let proof = BASE64.decode(proof).map_err(|_| malformed)?;
        let mechanism = self.mechanism;
        if proof.len() != mechanism.key_bytes() {
            return Err(malformed);
        }
        let signed = format!("{},{},{without_proof}", self.first.bare, self.message);
        let signature = mechanism.hmac(&self.verifier.stored_key, signed.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        if !bool::from(mechanism.hash(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(Failed("the proof does not fit the password"));
        }
        let answer = mechanism.hmac(&self.verifier.server_key, signed.as_bytes());
        Ok(format!("v={}", BASE64.encode(answer)))
    }

    pub(crate) fn user(&self) -> &str {
        &self.first.user
    }
}

/// Bytes in a JSON file.
pub(crate) mod base64_bytes {
    use super::{BASE64, Engine};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(mechanism: Scram, salt: &str, password: &str) -> Verifier {
        Verifier::of_password(mechanism, password.as_bytes(), BASE64.decode(salt).expect("base64"), 4096)
    }

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_exchange_of_the_rfc_comes_out_as_printed() {
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").expect("first");
        let verifier = password(Scram::Sha256, "W22ZaJ0SNY7soEsUEjb6gQ==", "pencil");
        assert!(verifier.accepts(Scram::Sha256, b"pencil") && !verifier.accepts(Scram::Sha256, b"pencils"));
        let challenge = Challenge::new(Scram::Sha256, first, verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert_eq!(
            challenge.message(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let signature = challenge.finish(last.as_bytes()).expect("proven");
        assert_eq!(signature, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        for wrong in [
            last.replace("dHzb", "dHzc"),
            last.replace("biws", "eSws"),
            last.replace("r=rO", "r=rP"),
            last.replace("r=rO", "r=rOrO"),
            last.replace("VQ=", "VQ"),
            last.replace(",p=", ",q="),
            "c=biws,p=".to_owned(),
            String::new(),
        ] {
            challenge.finish(wrong.as_bytes()).expect_err(&wrong);
        }
        challenge.finish(&[0xff, 0xfe]).expect_err("not text");
    }

    #[test]
    fn first_messages() {
        let user = |message: &str| ClientFirst::parse(message.as_bytes()).map(|first| first.user).map_err(|e| e.0);
        for (message, expected) in [
            ("n,,n=alice,r=abc", "alice"),
            ("y,,n=alice,r=abc", "alice"),
            ("n,a=alice,n=alice,r=abc", "alice"),
            ("n,,n=a=2Cb=3Dc,r=abc", "a,b=c"),
            ("n,a=a=2Cb,n=a=2Cb,r=abc", "a,b"),
        ] {
            assert_eq!(user(message).as_deref(), Ok(expected), "{message}");
        }
        for (message, reason) in [
            ("", "not SCRAM"),
            ("n,,", "not SCRAM"),
            ("n,,n=,r=abc", "not SCRAM"),
            ("n,,n=alice,r=", "not SCRAM"),
            ("n,,n=alice", "not SCRAM"),
            ("n,,n=al=ice,r=abc", "not SCRAM"),
            ("n,,n=al=2,r=abc", "not SCRAM"),
            ("n,,n=alice,r=a b", "not SCRAM"),
            ("p=tls-unique,,n=alice,r=abc", "channel binding"),
            ("n,a=bob,n=alice,r=abc", "authorization id"),
            ("n,,n=alice,r=abc,tokenauth=true", "delegation"),
        ] {
            let error = user(message).expect_err(message);
            assert!(error.contains(reason), "{message}: {error}");
        }
        ClientFirst::parse(&[b'n', b',', b',', 0xff]).expect_err("not text");
    }

    #[test]
    fn a_verifier_reads_what_it_writes_and_prints_no_key() {
        let verifier = password(Scram::Sha512, "c2FsdA==", "hunter2");
        let written = serde_json::to_string(&verifier).expect("written");
        assert_eq!(serde_json::from_str::<Verifier>(&written).expect("read"), verifier);
        assert!(!written.contains("hunter2"));
        assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
    }
}
