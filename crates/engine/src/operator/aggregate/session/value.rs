//! The state row of a key: all its sessions.
//!
//! ```text
//!   ┌ start ──┬ end ────┬ length ─┬ stamp ───────┬ states of the functions ┐
//!   │ i64, be │ i64, be │ u32, be │ i64, be      │ Arrow's row format      │  once for each session, by start
//!   └─────────┴─────────┴─────────┴──────────────┴─────────────────────────┘
//!                        top bit: ^ there is one, which only sessions with a ttl have
//! ```

use crate::error::{EngineError, Result};
use crate::operator::NO_EXPIRY;

/// The bit of a length that says that a stamp follows.
const HAS_STAMP: u32 = 1 << 31;

/// A session as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operator::aggregate) struct StoredSession<'a> {
    pub(in crate::operator::aggregate) start_us: i64,
    pub(in crate::operator::aggregate) end_us: i64,
    /// The stamp of its last row, [`NO_EXPIRY`] if it has none.
    pub(in crate::operator::aggregate) written_us: i64,
    pub(in crate::operator::aggregate) state: &'a [u8],
}

/// Adds a session to a value.
pub(in crate::operator::aggregate) fn push(session: StoredSession<'_>, value: &mut Vec<u8>) -> Result<()> {
    let length = u32::try_from(session.state.len()).ok().filter(|length| length & HAS_STAMP == 0).ok_or_else(|| {
        EngineError::unavailable("the state of one session is longer than 2 GiB")
            .help("collect less in a session, or give it a shorter gap")
    })?;
    let stamp = Some(session.written_us).filter(|written_us| *written_us != NO_EXPIRY);
    value.extend_from_slice(&session.start_us.to_be_bytes());
    value.extend_from_slice(&session.end_us.to_be_bytes());
    value.extend_from_slice(&(length | if stamp.is_some() { HAS_STAMP } else { 0 }).to_be_bytes());
    value.extend(stamp.iter().flat_map(|stamp| stamp.to_be_bytes()));
    value.extend_from_slice(session.state);
    Ok(())
}

/// The sessions of a value.
pub(in crate::operator::aggregate) fn sessions(value: &[u8]) -> impl Iterator<Item = Result<StoredSession<'_>>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let session = take(&mut rest);
        if session.is_none() {
            rest = &[];
        }
        Some(session.ok_or_else(damaged))
    })
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<StoredSession<'a>> {
    let (start, after) = rest.split_first_chunk::<8>()?;
    let (end, after) = after.split_first_chunk::<8>()?;
    let (length, mut after) = after.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length);
    let mut written_us = NO_EXPIRY;
    if length & HAS_STAMP != 0 {
        let (stamp, behind) = after.split_first_chunk::<8>()?;
        (written_us, after) = (i64::from_be_bytes(*stamp), behind);
    }
    let (state, after) = after.split_at_checked((length & !HAS_STAMP) as usize)?;
    *rest = after;
    let (start_us, end_us) = (i64::from_be_bytes(*start), i64::from_be_bytes(*end));
    Some(StoredSession { start_us, end_us, written_us, state })
}

fn damaged() -> EngineError {
    EngineError::data("the state of a key's sessions is damaged: it ends inside a session")
        .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_back_and_a_cut_value_is_an_error() {
        let first = StoredSession { start_us: -5, end_us: 7, written_us: NO_EXPIRY, state: b"abc" };
        let second = StoredSession { start_us: 9, end_us: i64::MAX, written_us: 77, state: b"" };
        let mut value = Vec::new();
        push(first, &mut value).unwrap();
        push(second, &mut value).unwrap();
        assert_eq!(sessions(&value).collect::<Result<Vec<_>>>().unwrap(), [first, second]);
        for end in (1..value.len()).filter(|end| *end != 23) {
            assert!(sessions(&value[..end]).any(|session| session.is_err()), "{end}");
        }
    }
}
