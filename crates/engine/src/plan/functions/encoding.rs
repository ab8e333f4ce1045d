//! Bytes and text: hexadecimal, base 64, digests, checksums, hashes of rows, URLs.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use datafusion_spark::function as spark;

use super::udf::{self, ANY, Invocation, Spec, each, function};
use super::{failure, types};

pub(super) const TABLE: &[Spec] = &[
    function("hex", (1, 1), udf::string, hex),
    function("unhex", (1, 1), udf::binary, unhex),
    function("bin", (1, 1), udf::string, bin),
    function("conv", (3, 3), udf::string, conv),
    function("base64", (1, 1), udf::string, base64),
    function("unbase64", (1, 1), udf::binary, unbase64),
    function("encode", (2, 2), udf::binary, encode),
    function("decode", (2, 2), udf::string, decode),
    function("md5", (1, 1), udf::string, |c| digest(c, "md5")),
    function("sha1", (1, 1), udf::string, |c| c.delegate(&SHA1, &[DataType::Binary])).alias(&["sha"]),
    function("sha2", (2, 2), udf::string, |c| c.delegate(&SHA2, &[DataType::Binary, DataType::Int32])),
    function("crc32", (1, 1), udf::long, |c| c.delegate(&CRC32, &[DataType::Binary])),
    function("hash", (1, ANY), udf::int, hash),
    function("xxhash64", (1, ANY), udf::long, xxhash64),
    function("parse_url", (2, 3), udf::string, |c| c.delegate(&PARSE_URL, &[DataType::Utf8])),
    function("try_parse_url", (2, 3), udf::string, |c| c.delegate(&TRY_PARSE_URL, &[DataType::Utf8])),
    function("url_encode", (1, 1), udf::string, |c| c.delegate(&URL_ENCODE, &[DataType::Utf8])),
    function("format_string", (1, ANY), udf::string, format_string).alias(&["printf"]),
    function("soundex", (1, 1), udf::string, |c| c.delegate(&SOUNDEX, &[DataType::Utf8])),
    function("luhn_check", (1, 1), udf::boolean, |c| c.delegate(&LUHN, &[DataType::Utf8])),
];

static SHA1: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::hash::sha1);
static SHA2: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::hash::sha2);
static CRC32: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::hash::crc32);
static PARSE_URL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::url::parse_url);
static TRY_PARSE_URL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::url::try_parse_url);
static URL_ENCODE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::url::url_encode);
static SOUNDEX: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::string::soundex);
static LUHN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::string::luhn_check);
static FORMAT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::string::format_string);

fn format_string(call: &Invocation<'_>) -> Result<ArrayRef> {
    let mut wanted = vec![DataType::Utf8];
    wanted.extend((1..call.len()).map(|i| call.field(i).data_type().clone()));
    call.delegate(&FORMAT, &wanted)
}

pub(super) fn upper_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Numbers by their bits, text and bytes by theirs.
pub(super) fn hex(call: &Invocation<'_>) -> Result<ArrayRef> {
    let data_type = call.field(0).data_type();
    if types::as_decimal(data_type).is_some() || matches!(data_type, DataType::Float32 | DataType::Float64) {
        let numbers = call.longs(0)?;
        return Ok(Arc::new(numbers.iter().map(|n| n.map(|n| format!("{n:X}"))).collect::<StringArray>()));
    }
    Ok(Arc::new(call.bytes(0)?.iter().map(|bytes| bytes.map(upper_hex)).collect::<StringArray>()))
}

fn unhex(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    Ok(Arc::new(texts.iter().map(|text| text.and_then(bytes_of_hex)).collect::<BinaryArray>()))
}

/// The bytes of hexadecimal digits, of an odd number of them with a zero before; nothing if others are among them.
pub(super) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let mut digits = digits?;
    if digits.len() % 2 == 1 {
        digits.insert(0, 0);
    }
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn bin(call: &Invocation<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(call.longs(0)?.iter().map(|n| n.map(|n| format!("{n:b}"))).collect::<StringArray>()))
}

/// A whole number from one base in another; what follows the last digit is ignored.
fn conv(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, from, to) = (call.strings(0)?, call.ints(1)?, call.ints(2)?);
    let out: StringArray = each!(call.rows, (text = texts, from = from, to = to) => {
        let (from, base) = (from.unsigned_abs(), to.unsigned_abs());
        if !(2..=36).contains(&from) || !(2..=36).contains(&base) {
            return Ok(None);
        }
        let text = text.trim();
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let value = digits.chars().map_while(|c| c.to_digit(from)).try_fold(0_u64, |value, digit| {
            value.checked_mul(from.into())?.checked_add(digit.into())
        });
        let value = value.ok_or_else(|| failure::overflow("conv"))?;
        let value = if negative { value.wrapping_neg() } else { value };
        let (sign, mut rest) = if to < 0 && (value as i64) < 0 { ("-", value.wrapping_neg()) } else { ("", value) };
        let mut out = Vec::new();
        while rest > 0 || out.is_empty() {
            out.extend(char::from_digit((rest % u64::from(base)) as u32, base).map(|c| c.to_ascii_uppercase()));
            rest /= u64::from(base);
        }
        Ok(Some(sign.to_owned() + &out.iter().rev().collect::<String>()))
    })?;
    Ok(Arc::new(out))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn base64(call: &Invocation<'_>) -> Result<ArrayRef> {
    let encode = |bytes: &[u8]| {
        let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let group =
                chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for i in 0..4 {
                let letter = BASE64[(group >> (18 - 6 * i) & 63) as usize];
                out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
            }
        }
        out
    };
    Ok(Arc::new(call.bytes(0)?.iter().map(|bytes| bytes.map(encode)).collect::<StringArray>()))
}

fn unbase64(call: &Invocation<'_>) -> Result<ArrayRef> {
    let texts = call.strings(0)?;
    let out: BinaryArray = each!(call.rows, (text = texts) => match bytes_of_base64(text) {
        None => Err(failure::data("CONVERSION_INVALID_INPUT", format!("'{text}' is not in base 64"))),
        bytes => Ok(bytes),
    })?;
    Ok(Arc::new(out))
}

/// The bytes of a text in base 64, spaces left out; nothing if it is not.
pub(super) fn bytes_of_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut bits) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()).take_while(|byte| *byte != b'=') {
        let value = BASE64.iter().position(|letter| *letter == byte)?;
        group = group << 6 | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((group >> bits & 255) as u8);
        }
    }
    (bits != 6).then_some(out)
}

fn charset(name: &str) -> Result<()> {
    if ["UTF-8", "UTF8", "US-ASCII"].iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(failure::data("INVALID_PARAMETER_VALUE.CHARSET", format!("the charset '{name}' is not supported, use UTF-8")))
}

fn encode(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (texts, charsets) = (call.strings(0)?, call.strings(1)?);
    let out: BinaryArray = each!(call.rows, (text = texts, name = charsets) => {
        charset(name).map(|()| Some(text.as_bytes().to_vec()))
    })?;
    Ok(Arc::new(out))
}

pub(super) fn decode(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (values, charsets) = (call.bytes(0)?, call.strings(1)?);
    let out: StringArray = each!(call.rows, (bytes = values, name = charsets) => {
        charset(name)?;
        let text = std::str::from_utf8(bytes).map_err(|_| {
            failure::data("MALFORMED_CHARACTER_CODING", "decode found bytes that are not UTF-8")
        })?;
        Ok(Some(text.to_owned()))
    })?;
    Ok(Arc::new(out))
}

fn digest(call: &Invocation<'_>, name: &str) -> Result<ArrayRef> {
    let to = datafusion::functions::crypto::functions().into_iter().find(|function| function.name() == name);
    let to = to.ok_or_else(|| failure::plan("UNRESOLVED_ROUTINE", name))?;
    call.delegate(&to, &[DataType::Binary])
}

static XXHASH64: LazyLock<Arc<ScalarUDF>> = LazyLock::new(spark::hash::xxhash64);

pub(super) fn xxhash64(call: &Invocation<'_>) -> Result<ArrayRef> {
    let wanted: Vec<DataType> = (0..call.len()).map(|i| call.field(i).data_type().clone()).collect();
    call.delegate(&XXHASH64, &wanted)
}

/// Spark's `hash`: Murmur3 with seed 42 from column to column, NULLs skipped.
fn hash(call: &Invocation<'_>) -> Result<ArrayRef> {
    let mut hashes = vec![42_i32; call.rows];
    for i in 0..call.len() {
        hash_column(&call.raw(i)?, &mut hashes)?;
    }
    Ok(Arc::new(Int32Array::from(hashes)))
}

fn hash_column(array: &ArrayRef, hashes: &mut [i32]) -> Result<()> {
    macro_rules! each_value {
        ($typed:expr, |$value:ident, $seed:ident| $body:expr) => {
            for (row, hash) in hashes.iter_mut().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                let ($value, $seed) = ($typed.value(row), *hash);
                *hash = $body;
            }
        };
    }
    macro_rules! ints {
        ($arrow:ty) => {
            each_value!(array.as_primitive::<$arrow>(), |v, seed| hash_int(v.into(), seed))
        };
    }
    macro_rules! longs {
        ($arrow:ty) => {
            each_value!(array.as_primitive::<$arrow>(), |v, seed| hash_long(v, seed))
        };
    }
    match array.data_type() {
        DataType::Null => {}
        DataType::Boolean => each_value!(array.as_boolean(), |v, seed| hash_int(i32::from(v), seed)),
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Date32 => ints!(Date32Type),
        DataType::Int64 => longs!(Int64Type),
        DataType::Timestamp(..) => longs!(TimestampMicrosecondType),
        DataType::Float32 => each_value!(array.as_primitive::<Float32Type>(), |v, seed| {
            hash_int(if v == 0.0 { 0 } else { v.to_bits() as i32 }, seed)
        }),
        DataType::Float64 => each_value!(array.as_primitive::<Float64Type>(), |v, seed| {
            hash_long(if v == 0.0 { 0 } else { v.to_bits() as i64 }, seed)
        }),
        DataType::Decimal128(precision, _) if *precision <= 18 => {
            each_value!(array.as_primitive::<Decimal128Type>(), |v, seed| hash_long(v as i64, seed))
        }
        DataType::Decimal128(..) => each_value!(array.as_primitive::<Decimal128Type>(), |v, seed| {
            hash_bytes(minimal_bytes(v).as_slice(), seed)
        }),
        DataType::Utf8 => each_value!(array.as_string::<i32>(), |v, seed| hash_bytes(v.as_bytes(), seed)),
        DataType::Binary => each_value!(array.as_binary::<i32>(), |v, seed| hash_bytes(v, seed)),
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                hash_column(column, hashes)?;
            }
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
                let items = lists.value(row);
                for item in 0..items.len() {
                    hash_column(&items.slice(item, 1), &mut hashes[row..=row])?;
                }
            }
        }
        other => {
            return Err(failure::data("DATATYPE_MISMATCH.HASH_MAP_TYPE", format!("{other} cannot be hashed")));
        }
    }
    Ok(())
}

/// A number's bytes as Java's `BigInteger.toByteArray` gives them: big end first, no more than needed.
fn minimal_bytes(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let fill = if value < 0 { 0xff } else { 0 };
    let spare = |i: &usize| bytes[*i] == fill && (bytes[*i + 1] ^ fill) & 0x80 == 0;
    let skip = (0..15).take_while(spare).count();
    bytes[skip..].to_vec()
}

fn mix_k(k: i32) -> i32 {
    k.wrapping_mul(0xcc9e_2d51_u32 as i32).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn mix_h(h: i32, k: i32) -> i32 {
    (h ^ mix_k(k)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64_u32 as i32)
}

fn finish(h: i32, length: usize) -> i32 {
    let mut h = h as u32 ^ length as u32;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    (h ^ h >> 16) as i32
}

fn hash_int(value: i32, seed: i32) -> i32 {
    finish(mix_h(seed, value), 4)
}

fn hash_long(value: i64, seed: i32) -> i32 {
    finish(mix_h(mix_h(seed, value as i32), (value >> 32) as i32), 8)
}

/// Four bytes at a time, then the rest one by one: Spark's variant of Murmur3.
pub(crate) fn hash_bytes(bytes: &[u8], seed: i32) -> i32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let h = words.iter().fold(seed, |h, word| mix_h(h, i32::from_le_bytes(*word)));
    let h = rest.iter().fold(h, |h, byte| mix_h(h, i32::from(*byte as i8)));
    finish(h, bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_is_sparks() {
        assert_eq!(hash_int(1, 42), -559_580_957);
        assert_eq!(hash_bytes(b"abc", 42), 1_322_437_556);
    }
}
