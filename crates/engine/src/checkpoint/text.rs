//! The frame of every small text file of a checkpoint: version first, checksum last.
//!
//! ```text
//!   v1
//!   <line>            one or more lines of JSON (or `-`)
//!   ...
//!   crc32c 1a2b3c4d   of every byte above this line
//! ```
//!
//! The first lines are Spark's, so that a person who knows Spark's checkpoints can read ours; the checksum is ours:
//! without it a torn or edited file could pass for a shorter one.

use crate::error::{EngineError, Result};

const VERSION: &str = "v1";
const CHECKSUM: &str = "crc32c ";

/// The file's bytes. No line may contain a line break.
pub(crate) fn encode(lines: &[String]) -> Vec<u8> {
    let mut text = format!("{VERSION}\n");
    for line in lines {
        debug_assert!(!line.contains('\n'), "JSON text has no line breaks");
        text.push_str(line);
        text.push('\n');
    }
    let checksum = crc32c::crc32c(text.as_bytes());
    text.push_str(&format!("{CHECKSUM}{checksum:08x}\n"));
    text.into_bytes()
}

/// The lines between version and checksum, or an error that names the file.
pub(crate) fn decode(address: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let damaged = |found: String| damaged(address, &found);
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8 text".to_owned()))?;
    let first = text.lines().next().unwrap_or_default();
    if first != VERSION && is_version(first) {
        return Err(EngineError::data(format!("{address} begins with '{first}', this version reads '{VERSION}'"))
            .help("use the version of highwater that wrote it, or a newer one"));
    }
    let body = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).map(|end| text.split_at(end + 1));
    let checksum = body.and_then(|(_, last)| last.trim_end_matches('\n').strip_prefix(CHECKSUM));
    let (Some((body, _)), Some(checksum)) = (body, checksum) else {
        return Err(damaged(format!("it is torn: {} bytes without a checksum line at the end", bytes.len())));
    };
    if checksum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err(damaged("its content does not match its checksum".to_owned()));
    }
    let mut lines = body.lines();
    match lines.next() {
        Some(VERSION) => Ok(lines.map(str::to_owned).collect()),
        other => Err(damaged(format!("it begins with '{}', expected '{VERSION}'", other.unwrap_or_default()))),
    }
}

/// The error for a checkpoint file that cannot be what was written.
pub(crate) fn damaged(address: &str, found: &str) -> EngineError {
    EngineError::data(format!("checkpoint file {address} is damaged: {found}"))
        .help("restore this file from a backup, or give the query a new checkpoint location to start over")
}

fn is_version(line: &str) -> bool {
    line.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let lines = vec!["{\"a\":1}".to_owned(), "-".to_owned()];
        let whole = encode(&lines);
        assert_eq!(decode("f", &whole).unwrap(), lines);
        for end in 0..whole.len() {
            let error = decode("offsets/7", &whole[..end]).unwrap_err();
            assert!(error.to_string().contains("offsets/7"), "{error}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = decode("offsets/7", &flipped).unwrap_err();
            assert!(error.to_string().contains("offsets/7"), "{error}");
        }
    }

    #[test]
    fn a_newer_version_is_not_called_damage() {
        let error = decode("offsets/7", b"v2\n{}\n").unwrap_err();
        assert_eq!(error.to_string(), "offsets/7 begins with 'v2', this version reads 'v1'");
    }
}
