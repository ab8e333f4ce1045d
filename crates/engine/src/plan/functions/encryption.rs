//! AES: `aes_encrypt`, `aes_decrypt` and `try_aes_decrypt`, in the modes GCM, CBC and ECB.
//!
//! ```text
//!   GCM   [ vector, 12 bytes | encrypted | tag, 16 bytes ]
//!   CBC   [ vector, 16 bytes | encrypted, padded to whole blocks ]
//!   ECB   [ encrypted, padded to whole blocks ]
//! ```
//!
//! It refuses to encrypt in GCM and CBC without a vector. Spark draws one then, and a batch that is run again would give
//! other bytes than the sink has already.

use std::sync::Arc;

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, BlockSizeUser, KeyInit, typenum::U16};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::AeadInPlace;
use aes_gcm::aead::consts::U12;
use aes_gcm::{AesGcm, Nonce, Tag};
use arrow::array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};

use super::cast::Mode as Fails;
use super::failure;
use super::udf::{Arguments, Invocation, Spec, function};
use crate::plan::ddl;

pub(super) const TABLE: &[Spec] = &[
    function("aes_encrypt", (2, 6), encrypted_type, aes_encrypt),
    function("aes_decrypt", (2, 5), of_bytes, |c| aes_decrypt(c, Fails::Ansi)),
    function("try_aes_decrypt", (2, 5), of_bytes, |c| aes_decrypt(c, Fails::Try)),
];

const BLOCK: usize = 16;
const TAG: usize = 16;

/// BINARY, if value and key are texts or binaries.
fn of_bytes(arguments: &Arguments<'_>) -> Result<DataType> {
    let takes = |found: &&DataType| matches!(found, DataType::Utf8 | DataType::Binary | DataType::Null);
    match arguments.types().take(2).find(|found| !takes(found)) {
        None => Ok(DataType::Binary),
        Some(other) => Err(failure::plan(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!("AES takes a BINARY or a STRING, found {}; cast it", ddl::type_name(other)),
        )),
    }
}

fn encrypted_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let data_type = of_bytes(arguments)?;
    let draws = match arguments.text(2) {
        Some(mode) => matches!(Mode::of(mode, "DEFAULT"), Ok(Mode::Gcm | Mode::Cbc)),
        None => arguments.fields.len() < 3,
    };
    if draws && arguments.fields.len() < 5 {
        return Err(no_vector());
    }
    Ok(data_type)
}

fn no_vector() -> DataFusionError {
    failure::plan(
        "UNSUPPORTED_FEATURE",
        "aes_encrypt without an initialization vector would draw one at random, and other bytes when a batch is run \
         again; give one that differs from row to row as the fifth argument, or encrypt with the mode ECB",
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Gcm,
    Cbc,
    Ecb,
}

impl Mode {
    fn of(mode: &str, padding: &str) -> Result<Self> {
        match (mode.to_uppercase().as_str(), padding.to_uppercase().as_str()) {
            ("GCM", "NONE" | "DEFAULT") => Ok(Self::Gcm),
            ("CBC", "PKCS" | "DEFAULT") => Ok(Self::Cbc),
            ("ECB", "PKCS" | "DEFAULT") => Ok(Self::Ecb),
            _ => Err(failure::data(
                "UNSUPPORTED_FEATURE.AES_MODE",
                format!("AES has no mode '{mode}' with the padding '{padding}'; use GCM, CBC or ECB, and DEFAULT"),
            )),
        }
    }

    fn vector_length(self) -> usize {
        match self {
            Self::Gcm => 12,
            Self::Cbc => BLOCK,
            Self::Ecb => 0,
        }
    }
}

fn crypto_error(what: &str) -> DataFusionError {
    failure::data("INVALID_PARAMETER_VALUE.AES_CRYPTO_ERROR", format!("AES cannot decrypt: {what}"))
}

/// What is done with one row, whatever the length of its key.
fn with_key(key: &[u8], mode: Mode, vector: &[u8], aad: &[u8], bytes: &[u8], encrypts: bool) -> Result<Vec<u8>> {
    macro_rules! with {
        ($cipher:ty) => {
            match (mode, encrypts) {
                (Mode::Gcm, true) => seal::<$cipher>(key, vector, aad, bytes),
                (Mode::Gcm, false) => open::<$cipher>(key, vector, aad, bytes),
                (_, true) => Ok(encrypt_blocks(&<$cipher>::new(GenericArray::from_slice(key)), vector, bytes)),
                (_, false) => decrypt_blocks(&<$cipher>::new(GenericArray::from_slice(key)), vector, bytes),
            }
        };
    }
    match key.len() {
        16 => with!(Aes128),
        24 => with!(Aes192),
        32 => with!(Aes256),
        _ => Err(key_length(key)),
    }
}

fn check_key(key: &[u8]) -> Result<()> {
    if matches!(key.len(), 16 | 24 | 32) { Ok(()) } else { Err(key_length(key)) }
}

fn key_length(key: &[u8]) -> DataFusionError {
    failure::data(
        "INVALID_PARAMETER_VALUE.AES_KEY_LENGTH",
        format!("a key of AES has 16, 24 or 32 bytes, found {}", key.len()),
    )
}

fn seal<C>(key: &[u8], vector: &[u8], aad: &[u8], bytes: &[u8]) -> Result<Vec<u8>>
where
    AesGcm<C, U12>: KeyInit + AeadInPlace<NonceSize = U12, TagSize = U16>,
{
    let cipher = <AesGcm<C, U12> as KeyInit>::new_from_slice(key).map_err(|_| crypto_error("the key does not fit"))?;
    let mut out = bytes.to_vec();
    let tag = cipher
        .encrypt_in_place_detached(Nonce::from_slice(vector), aad, &mut out)
        .map_err(|_| crypto_error("the value is too long"))?;
    out.extend_from_slice(&tag);
    Ok(out)
}

fn open<C>(key: &[u8], vector: &[u8], aad: &[u8], bytes: &[u8]) -> Result<Vec<u8>>
where
    AesGcm<C, U12>: KeyInit + AeadInPlace<NonceSize = U12, TagSize = U16>,
{
    let cipher = <AesGcm<C, U12> as KeyInit>::new_from_slice(key).map_err(|_| crypto_error("the key does not fit"))?;
    let Some((encrypted, tag)) = bytes.split_last_chunk::<TAG>() else {
        return Err(crypto_error("there are fewer bytes than a tag has"));
    };
    let mut out = encrypted.to_vec();
    cipher
        .decrypt_in_place_detached(Nonce::from_slice(vector), aad, &mut out, Tag::from_slice(tag))
        .map_err(|_| crypto_error("the tag does not fit the bytes, the key or the additional data"))?;
    Ok(out)
}

/// Blocks one after another, each mixed with the one before it where there is a vector. The last is filled up with the
/// number of bytes that fill it (PKCS #7).
fn encrypt_blocks<C: BlockEncrypt + BlockSizeUser<BlockSize = U16>>(
    cipher: &C,
    vector: &[u8],
    bytes: &[u8],
) -> Vec<u8> {
    let filling = BLOCK - bytes.len() % BLOCK;
    let mut out = bytes.to_vec();
    out.resize(bytes.len() + filling, filling as u8);
    let mut before = vector.to_vec();
    for block in out.chunks_exact_mut(BLOCK) {
        block.iter_mut().zip(&before).for_each(|(byte, before)| *byte ^= before);
        cipher.encrypt_block(GenericArray::from_mut_slice(block));
        if !vector.is_empty() {
            before.copy_from_slice(block);
        }
    }
    out
}

fn decrypt_blocks<C>(cipher: &C, vector: &[u8], bytes: &[u8]) -> Result<Vec<u8>>
where
    C: BlockDecrypt + BlockSizeUser<BlockSize = U16>,
{
    if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK) {
        return Err(crypto_error("the bytes are no whole blocks of 16"));
    }
    let mut out = bytes.to_vec();
    let mut before = vector.to_vec();
    for (block, encrypted) in out.chunks_exact_mut(BLOCK).zip(bytes.chunks_exact(BLOCK)) {
        cipher.decrypt_block(GenericArray::from_mut_slice(block));
        block.iter_mut().zip(&before).for_each(|(byte, before)| *byte ^= before);
        if !vector.is_empty() {
            before.copy_from_slice(encrypted);
        }
    }
    let filling = usize::from(out[out.len() - 1]);
    let end = out.len().checked_sub(filling).filter(|_| (1..=BLOCK).contains(&filling));
    match end.filter(|end| out[*end..].iter().all(|byte| usize::from(*byte) == filling)) {
        Some(end) => {
            out.truncate(end);
            Ok(out)
        }
        None => Err(crypto_error("the padding does not fit; the key may be another")),
    }
}

/// The arguments of all rows, with what was left out.
struct Rows {
    values: BinaryArray,
    keys: BinaryArray,
    modes: StringArray,
    paddings: StringArray,
    rest: Vec<BinaryArray>,
}

impl Rows {
    fn of(call: &Invocation<'_>) -> Result<Self> {
        let text = |i: usize, usual: &str| {
            if i < call.len() { call.strings(i) } else { Ok(StringArray::from(vec![usual; call.rows])) }
        };
        Ok(Self {
            values: call.bytes(0)?,
            keys: call.bytes(1)?,
            modes: text(2, "GCM")?,
            paddings: text(3, "DEFAULT")?,
            rest: (4..call.len()).map(|i| call.bytes(i)).collect::<Result<_>>()?,
        })
    }

    fn is_null(&self, row: usize) -> bool {
        let bytes = self.rest.iter().chain([&self.values, &self.keys]);
        bytes.into_iter().any(|array| array.is_null(row)) || self.modes.is_null(row) || self.paddings.is_null(row)
    }

    fn rest(&self, at: usize, row: usize) -> &[u8] {
        self.rest.get(at).map_or(&[], |array| array.value(row))
    }

    fn mode(&self, row: usize) -> Result<Mode> {
        Mode::of(self.modes.value(row), self.paddings.value(row))
    }
}

fn aes_encrypt(call: &Invocation<'_>) -> Result<ArrayRef> {
    let rows = Rows::of(call)?;
    let row = |row: usize| -> Result<Option<Vec<u8>>> {
        if rows.is_null(row) {
            return Ok(None);
        }
        let (mode, vector, aad) = (rows.mode(row)?, rows.rest(0, row), rows.rest(1, row));
        check_vector(mode, vector)?;
        if mode != Mode::Gcm && !aad.is_empty() {
            return Err(failure::data(
                "UNSUPPORTED_FEATURE.AES_MODE_AAD",
                "additional data can be given with the mode GCM only",
            ));
        }
        let encrypted = with_key(rows.keys.value(row), mode, vector, aad, rows.values.value(row), true)?;
        Ok(Some([vector, &encrypted].concat()))
    };
    Ok(Arc::new((0..call.rows).map(row).collect::<Result<BinaryArray>>()?))
}

fn check_vector(mode: Mode, vector: &[u8]) -> Result<()> {
    match (mode.vector_length(), vector.len()) {
        (wanted, found) if wanted == found => Ok(()),
        (0, _) => Err(failure::data(
            "UNSUPPORTED_FEATURE.AES_MODE_IV",
            "an initialization vector can be given with the modes GCM and CBC only",
        )),
        (_, 0) => Err(no_vector()),
        (wanted, found) => Err(failure::data(
            "INVALID_PARAMETER_VALUE.AES_IV_LENGTH",
            format!("an initialization vector has {wanted} bytes in this mode, found {found}"),
        )),
    }
}

fn aes_decrypt(call: &Invocation<'_>, fails: Fails) -> Result<ArrayRef> {
    let rows = Rows::of(call)?;
    let decrypted = |row: usize| -> Result<Vec<u8>> {
        let mode = rows.mode(row)?;
        check_key(rows.keys.value(row))?;
        let (vector, bytes) = rows
            .values
            .value(row)
            .split_at_checked(mode.vector_length())
            .ok_or_else(|| crypto_error("there are fewer bytes than a vector has"))?;
        with_key(rows.keys.value(row), mode, vector, rows.rest(0, row), bytes, false)
    };
    let row = |row: usize| match rows.is_null(row) {
        true => Ok(None),
        false if fails == Fails::Try => Ok(decrypted(row).ok()),
        false => decrypted(row).map(Some),
    };
    Ok(Arc::new((0..call.rows).map(row).collect::<Result<BinaryArray>>()?))
}
