//! Keys and values that are not text, as text: hexadecimal digits or base64.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// How the bytes of a key or value stand in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// As they are.
    #[default]
    Text,
    /// Two hexadecimal digits a byte.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl Encoding {
    /// The bytes as they are printed.
    pub(super) fn encode(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Text => Cow::Borrowed(bytes),
            Self::Hex => {
                let mut digits = String::with_capacity(bytes.len() * 2);
                for byte in bytes {
                    // Writing to a String does not fail.
                    let _ = write!(digits, "{byte:02x}");
                }
                Cow::Owned(digits.into_bytes())
            }
            Self::Base64 => Cow::Owned(BASE64_STANDARD.encode(bytes).into_bytes()),
        }
    }

    /// The bytes that `text` stands for; the sentence of a mistake begins with what was found.
    pub(super) fn decode(self, text: &[u8]) -> Result<Cow<'_, [u8]>, String> {
        let mistake = |what: &str| format!("'{}' is not {what}", shortened(text));
        match self {
            Self::Text => Ok(Cow::Borrowed(text)),
            Self::Hex => from_hex(text).map(Cow::Owned).ok_or_else(|| mistake("an even number of hexadecimal digits")),
            Self::Base64 => BASE64_STANDARD.decode(text).map(Cow::Owned).map_err(|_| mistake("base64")),
        }
    }
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// The beginning of a text, for an error.
pub(super) fn shortened(text: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        for encoding in [Encoding::Text, Encoding::Hex, Encoding::Base64] {
            assert_eq!(encoding.decode(&encoding.encode(&bytes)).unwrap(), bytes, "{encoding:?}");
        }
        assert_eq!(Encoding::Hex.encode(b"\x00\xff"), &b"00ff"[..]);
    }

    #[test]
    fn what_is_neither_is_named() {
        for text in ["0", "0g", "é!"] {
            assert!(Encoding::Hex.decode(text.as_bytes()).unwrap_err().contains(text));
        }
        assert_eq!(Encoding::Base64.decode(b"a").unwrap_err(), "'a' is not base64");
        assert!(Encoding::Hex.decode(&[b'x'; 100]).unwrap_err().contains("..."));
    }
}
