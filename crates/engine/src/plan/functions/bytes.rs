//! Bytes: message authentication codes, base 32, parts of URLs, and whether they are text.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use hmac::{Hmac, KeyInit, Mac};

use super::cast::Mode;
use super::udf::{self, Arguments, Invocation, Spec, each, function};
use super::{encoding, failure, types};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("hmac", (2, 3), |a| of_bytes(a, 2, DataType::Binary), hmac),
    function("to_base32", (1, 1), |a| of_bytes(a, 1, DataType::Utf8), to_base32),
    function("from_base32", (1, 1), udf::binary, from_base32),
    function("is_valid_utf8", (1, 1), udf::boolean, is_valid_utf8),
    function("make_valid_utf8", (1, 1), udf::string, make_valid_utf8),
    function("validate_utf8", (1, 1), udf::string, |c| validate_utf8(c, true)),
    function("try_validate_utf8", (1, 1), udf::string, |c| validate_utf8(c, false)),
    function("url_decode", (1, 1), udf::string, |c| url_decode(c, Mode::Ansi)),
    function("try_url_decode", (1, 1), udf::string, |c| url_decode(c, Mode::Try)),
    function("jaro_winkler_similarity", (2, 2), udf::double, jaro_winkler),
    function("quote", (1, 1), udf::string, quote),
];

/// A type, if the first arguments are texts or binaries.
fn of_bytes(arguments: &Arguments<'_>, first: usize, data_type: DataType) -> Result<DataType> {
    let takes = |found: &&DataType| types::is_string(found) || matches!(found, DataType::Binary | DataType::Null);
    match arguments.types().take(first).find(|found| !takes(found)) {
        None => Ok(data_type),
        Some(other) => Err(failure::plan(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!("expected a BINARY or a STRING, found {}; cast it", ddl::type_name(other)),
        )),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    mac.update(message);
    Some(mac.finalize().into_bytes().to_vec())
}

fn hmac(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (keys, messages) = (call.bytes(0)?, call.bytes(1)?);
    let algorithms = if call.len() > 2 { call.strings(2)? } else { StringArray::from(vec!["SHA-256"; call.rows]) };
    let out: BinaryArray = each!(call.rows, (key = keys, message = messages, algorithm = algorithms) => {
        let mac: fn(&[u8], &[u8]) -> Option<Vec<u8>> = match algorithm.to_uppercase().replace('-', "").as_str() {
            "SHA224" => mac::<Hmac<sha2::Sha224>>,
            "SHA256" => mac::<Hmac<sha2::Sha256>>,
            "SHA384" => mac::<Hmac<sha2::Sha384>>,
            "SHA512" => mac::<Hmac<sha2::Sha512>>,
            "SHA1" => mac::<Hmac<sha1::Sha1>>,
            "MD5" => mac::<Hmac<md5::Md5>>,
            _ => return Err(failure::data(
                "INVALID_PARAMETER_VALUE.HMAC_ALGORITHM",
                format!("'{algorithm}' is no algorithm of hmac; use SHA-224, SHA-256, SHA-384, SHA-512, SHA-1 or MD5"),
            )),
        };
        if key.is_empty() {
            return Err(failure::data("INVALID_PARAMETER_VALUE.HMAC_CRYPTO_ERROR", "the key of hmac is empty"));
        }
        Ok(mac(key, message))
    })?;
    Ok(Arc::new(out))
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn to_base32(call: &Invocation<'_>) -> Result<ArrayRef> {
    let encode = |bytes: &[u8]| {
        let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
        for chunk in bytes.chunks(5) {
            let group =
                chunk.iter().fold(0_u64, |group, byte| group << 8 | u64::from(*byte)) << (8 * (5 - chunk.len()));
            let letters = (chunk.len() * 8).div_ceil(5);
            let letter = |i: usize| char::from(BASE32[(group >> (35 - 5 * i) & 31) as usize]);
            out.extend((0..8).map(|i| if i < letters { letter(i) } else { '=' }));
        }
        out
    };
    Ok(Arc::new(call.bytes(0)?.iter().map(|bytes| bytes.map(encode)).collect::<StringArray>()))
}

/// As lenient as Spark: what is no letter of base 32 is left out. So are bits that make no byte, but that a single letter
/// at the end makes one with the bits of the letter before it, as Commons Codec does.
fn from_base32(call: &Invocation<'_>) -> Result<ArrayRef> {
    let decode = |text: &str| {
        let (mut out, mut group, mut bits, mut letters) = (Vec::with_capacity(text.len() * 5 / 8), 0_u32, 0, 0);
        for byte in text.bytes().take_while(|byte| *byte != b'=') {
            let Some(value) = BASE32.iter().position(|letter| *letter == byte.to_ascii_uppercase()) else { continue };
            group = group << 5 | value as u32;
            bits += 5;
            letters += 1;
            if bits >= 8 {
                bits -= 8;
                out.push((group >> bits & 255) as u8);
            }
        }
        if letters % 8 == 1 {
            out.push((group >> 2 & 255) as u8);
        }
        out
    };
    Ok(Arc::new(call.strings(0)?.iter().map(|text| text.map(decode)).collect::<BinaryArray>()))
}

/// The text of an URL's part; nothing if a `%` has not two hexadecimal digits after it. Bytes that are no UTF-8 become
/// U+FFFD.
fn of_url(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn url_decode(call: &Invocation<'_>, mode: Mode) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let out: StringArray = each!(call.rows, (text = texts) => match of_url(text) {
        None if mode == Mode::Ansi => Err(failure::data(
            "CANNOT_DECODE_URL",
            format!("'{text}' has a % without two hexadecimal digits; use try_url_decode to get NULL"),
        )),
        decoded => Ok(decoded),
    })?;
    Ok(Arc::new(out))
}

fn is_valid_utf8(call: &Invocation<'_>) -> Result<ArrayRef> {
    let values = call.bytes(0)?;
    let valid = |bytes: Option<&[u8]>| bytes.map(|bytes| std::str::from_utf8(bytes).is_ok());
    Ok(Arc::new(values.iter().map(valid).collect::<BooleanArray>()))
}

/// Each longest run of bytes that begins no character becomes one U+FFFD.
fn make_valid_utf8(call: &Invocation<'_>) -> Result<ArrayRef> {
    let values = call.bytes(0)?;
    Ok(Arc::new(values.iter().map(|bytes| bytes.map(String::from_utf8_lossy)).collect::<StringArray>()))
}

fn validate_utf8(call: &Invocation<'_>, fails: bool) -> Result<ArrayRef> {
    let values = call.bytes(0)?;
    let out: StringArray = each!(call.rows, (bytes = values) => match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) if fails => Err(failure::data(
            "INVALID_UTF8_STRING",
            format!("the bytes {} are not UTF-8; use try_validate_utf8 to get NULL", encoding::upper_hex(bytes)),
        )),
        Err(_) => Ok(None),
    })?;
    Ok(Arc::new(out))
}

fn jaro_winkler(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (left, right) = (call.strings(0)?, call.strings(1)?);
    let out: Float64Array = each!(call.rows, (a = left, b = right) => {
        let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
        let jaro = jaro(&a, &b);
        let prefix = a.iter().zip(&b).take(4).take_while(|(a, b)| a == b).count();
        Ok(Some(jaro + prefix as f64 * 0.1 * (1.0 - jaro)))
    })?;
    Ok(Arc::new(out))
}

/// Jaro's similarity; half a transposition counts as half.
fn jaro(a: &[char], b: &[char]) -> f64 {
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let reach = (a.len().max(b.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; b.len()];
    let mut of_a = Vec::new();
    for (at, letter) in a.iter().enumerate() {
        let mut near = at.saturating_sub(reach)..b.len().min(at + reach + 1);
        if let Some(found) = near.find(|place| !taken[*place] && b[*place] == *letter) {
            taken[found] = true;
            of_a.push(letter);
        }
    }
    if of_a.is_empty() {
        return 0.0;
    }
    let of_b = b.iter().zip(&taken).filter(|(_, taken)| **taken).map(|(letter, _)| letter);
    let moved = of_a.iter().zip(of_b).filter(|(a, b)| **a != *b).count() as f64 / 2.0;
    let matches = of_a.len() as f64;
    (matches / a.len() as f64 + matches / b.len() as f64 + (matches - moved) / matches) / 3.0
}

/// A text in single quotes, those in it behind a backslash.
fn quote(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "\\'"));
    Ok(Arc::new(texts.iter().map(|text| text.map(quoted)).collect::<StringArray>()))
}
