//! Secrets by reference: settings say where a password is, and never what it is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::error::BrokerError;

/// Where a secret is: `${env:NAME}` or `${file:PATH}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// The value of an environment variable.
    Env(String),
    /// The content of a file, without the line break at its end.
    File(PathBuf),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "${{file:{}}}", path.display()),
        }
    }
}

impl FromStr for SecretRef {
    type Err = String;

    /// The error does not repeat the text: it may be a password that was written where a reference
    /// belongs.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
        match inner.and_then(|inner| inner.split_once(':')) {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            _ => Err("a secret is written out in the settings, expected a reference to it: `${env:NAME}` or \
                      `${file:PATH}`"
                .to_owned()),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(secret: SecretRef) -> Self {
        secret.to_string()
    }
}

impl SecretRef {
    /// Looks the secret up. `of` is what it is, for the error: `the password of user bob`.
    pub fn resolve(&self, of: &str) -> Result<Secret, BrokerError> {
        let missing = |reason: String| BrokerError::Secret { of: of.to_owned(), reference: self.to_string(), reason };
        let value = match self {
            Self::Env(name) => {
                std::env::var(name).map_err(|_| missing("the environment variable is not set".to_owned()))?
            }
            Self::File(path) => {
                let content = std::fs::read_to_string(path).map_err(|error| missing(error.to_string()))?;
                content.strip_suffix('\n').map_or(content.as_str(), |line| line.trim_end_matches('\r')).to_owned()
            }
        };
        if value.is_empty() {
            return Err(missing("it is empty".to_owned()));
        }
        Ok(Secret(value))
    }
}

/// A secret that was looked up; it does not print itself.
pub struct Secret(String);

impl Secret {
    /// What it is.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether somebody knows it; takes as long for a guess that begins well as for any other of its length.
    pub fn is(&self, guess: &[u8]) -> bool {
        self.bytes().ct_eq(guess).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_what_it_prints_and_a_password_is_refused_unseen() {
        for text in ["${env:PASSWORD}", "${file:/etc/password}"] {
            assert_eq!(text.parse::<SecretRef>().expect(text).to_string(), text);
        }
        for wrong in ["hunter2", "", "${env:}", "${vault:hunter2}", "${env:hunter2"] {
            let error = wrong.parse::<SecretRef>().expect_err(wrong);
            assert!(error.contains("${env:NAME}") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_without_its_last_line_break() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("password");
        for (content, expected) in [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), (" a b ", " a b ")] {
            std::fs::write(&path, content).expect("written");
            let secret = SecretRef::File(path.clone()).resolve("the password of user bob").expect("resolved");
            assert_eq!(secret.bytes(), expected.as_bytes());
            assert_eq!(format!("{secret:?}"), "Secret(..)");
            assert!(secret.is(expected.as_bytes()) && !secret.is(b"hunter3") && !secret.is(b""));
        }
        std::fs::write(&path, "\n").expect("written");
        let error = SecretRef::File(path.clone()).resolve("the password of user bob").expect_err("empty").to_string();
        assert!(error.contains("user bob") && error.contains("empty"), "{error}");
        let error = SecretRef::Env("HIGHWATER_NOT_SET".to_owned())
            .resolve("the password of user bob")
            .expect_err("unset")
            .to_string();
        assert!(error.contains("${env:HIGHWATER_NOT_SET}"), "{error}");
    }
}
