//! Time to live: how long rows are kept that no watermark lets go, by the time of the batch that wrote them last.
//!
//! ```text
//!   time of the batch ──up to a sixteenth of the ttl──> stamp      a bucket of state, which goes whole
//!                                                         │
//!   rows of a bucket are over when a batch begins at stamp + ttl or later
//! ```
//!
//! The time is that of the offset log, so that a batch that is run again forgets the same rows; nothing here reads a
//! clock. Stamps are coarse, so that a key that is written all the time changes its bucket sixteen times in its life and
//! not with each batch, and that few buckets have to be looked at: a row lives for at least the ttl, and for a sixteenth
//! more at most. A stamp is a moment, whatever ttl it was made for: another one holds for the rows there are.
//!
//! Rows from before there was a ttl have no stamp. They count from the first batch that had one, which is noted in their
//! table: `NEVER · shard · "since" -> stamp`.

use std::time::Duration;

use super::{NO_EXPIRY, Place};
use crate::error::{EngineError, Result};
use crate::state::{ChangeSet, key};

/// Into how many stamps a ttl is divided.
const STAMPS: i64 = 16;

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ttl {
    ttl_us: i64,
}

impl Ttl {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl_us: i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX).max(1) }
    }

    /// In milliseconds, for people.
    pub(crate) fn ms(self) -> i64 {
        self.ttl_us / 1000
    }

    /// What rows are kept by that a batch of this time writes.
    pub(crate) fn stamp(self, time_us: i64) -> i64 {
        let grain_us = (self.ttl_us / STAMPS).max(1);
        let past = time_us.rem_euclid(grain_us);
        if past == 0 { time_us } else { time_us.saturating_add(grain_us - past) }
    }

    /// The newest stamp whose rows are over when a batch of this time begins.
    pub(crate) fn bound(self, time_us: i64) -> i64 {
        time_us.saturating_sub(self.ttl_us)
    }
}

/// The stamps of one worker's table: that of the batch, which of the others are over, and the keys that rows have left for it.
///
/// A key is in one bucket only. Rows that are written move to the bucket of the batch; without a ttl that is the one of rows
/// without a time, to which rows come back that an earlier ttl has put elsewhere.
pub(crate) struct Aging {
    ttl: Option<Ttl>,
    stamp_us: i64,
    /// Rows of this stamp and before are gone.
    gone_us: i64,
    unstamped: Unstamped,
    /// Stored keys that rows have left since the last commit.
    left: Vec<Vec<u8>>,
}

impl Aging {
    /// What the first table of a worker needs: without a ttl to remove the note that there was one.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let unstamped = Unstamped::open(place, place.first_table)?;
        Ok(Self { ttl: place.ttl, stamp_us: NO_EXPIRY, gone_us: i64::MIN, unstamped, left: Vec::new() })
    }

    /// The bucket of rows that this batch writes.
    pub(crate) fn stamp_us(&self) -> i64 {
        self.stamp_us
    }

    /// The bucket of rows that this batch writes, which would be in bucket `time` without a ttl.
    pub(crate) fn place_of(&self, time: i64) -> i64 {
        if self.ttl.is_some() { self.stamp_us } else { time }
    }

    /// Begins a batch of this processing time; gives the newest stamp whose rows are over, if there is a ttl.
    pub(crate) fn begin(&mut self, time_us: i64) -> Option<i64> {
        let ttl = self.ttl?;
        let bound = ttl.bound(time_us);
        self.gone_us = self.gone_us.max(bound);
        // A clock that was set back writes no rows that are gone already.
        self.stamp_us = ttl.stamp(time_us).max(self.gone_us.saturating_add(1));
        Some(bound)
    }

    /// Whether the rows without a stamp, which there are, are over at `bound`.
    pub(crate) fn unstamped_are_over(&mut self, bound: i64) -> bool {
        self.unstamped.begin(self.stamp_us, bound)
    }

    /// Notes that rows have left a stored key.
    pub(crate) fn leave(&mut self, stored_key: Vec<u8>) {
        self.left.push(stored_key);
    }

    /// Writes the changes since the last commit, before those of the rows themselves.
    pub(crate) fn take_changes(&mut self, place: &Place, changes: &mut ChangeSet) {
        self.unstamped.take_changes(place, changes);
        std::mem::take(&mut self.left).iter().for_each(|stored_key| changes.push_delete(stored_key));
    }

    /// Writes what the store does not know yet.
    pub(crate) fn take_unflushed(&mut self, place: &Place, changes: &mut ChangeSet) {
        self.unstamped.take_unflushed(place, changes);
    }
}

/// The rows of a table that have no stamp.
#[derive(Debug, Default)]
pub(crate) struct Unstamped {
    /// Since when they count; none if there are none, or nothing lets them go.
    since_us: Option<i64>,
    /// Whether the note has to go, in the changelog and in the store.
    note: Written,
    /// Whether the rows have to go from the changelog.
    rows_are_gone: bool,
}

/// What is still to be written of a note.
#[derive(Debug, Default, Clone, Copy)]
struct Written {
    is_dirty: bool,
    is_unflushed: bool,
}

const DUE: Written = Written { is_dirty: true, is_unflushed: true };

impl Unstamped {
    /// Reads since when the rows count. Without a ttl they do not, and begin anew when there is one again.
    pub(crate) fn open(place: &Place, table: usize) -> Result<Self> {
        let keys: Vec<Vec<u8>> = (0..=u8::MAX).map(note_key).collect();
        let mut since_us = None;
        for value in place.store.multi_get(table, &keys)?.into_iter().flatten() {
            let stamp = i64::from_be_bytes(value.as_slice().try_into().map_err(|_| damaged())?);
            since_us = since_us.max(Some(stamp));
        }
        match place.ttl {
            Some(_) => Ok(Self { since_us, ..Self::default() }),
            None => Ok(Self { note: if since_us.is_some() { DUE } else { Written::default() }, ..Self::default() }),
        }
    }

    /// Begins a batch of this stamp in which the table has rows without one; tells whether they are over at `bound`.
    pub(crate) fn begin(&mut self, stamp: i64, bound: i64) -> bool {
        let since_us = *self.since_us.get_or_insert_with(|| {
            self.note = DUE;
            stamp
        });
        let is_over = since_us <= bound;
        if is_over {
            (self.since_us, self.note, self.rows_are_gone) = (None, DUE, true);
        }
        is_over
    }

    /// Removes the rows from the store, at once, so that none is brought back from there.
    pub(crate) fn remove_stored(place: &Place, table: usize) -> Result<()> {
        let mut changes = ChangeSet::new();
        delete_rows(&mut changes);
        place.store.apply(table, &changes)
    }

    /// Writes the changes since the last commit.
    pub(crate) fn take_changes(&mut self, place: &Place, changes: &mut ChangeSet) {
        if std::mem::take(&mut self.rows_are_gone) {
            delete_rows(changes);
        }
        if std::mem::take(&mut self.note.is_dirty) {
            self.write_note(place, changes);
        }
    }

    /// Writes what the store does not know yet.
    pub(crate) fn take_unflushed(&mut self, place: &Place, changes: &mut ChangeSet) {
        if std::mem::take(&mut self.note.is_unflushed) {
            self.write_note(place, changes);
        }
    }

    fn write_note(&self, place: &Place, changes: &mut ChangeSet) {
        let mut shards = (0..=u8::MAX).filter(|shard| place.owns(*shard));
        match self.since_us {
            Some(since_us) => {
                changes.push_put(&note_key(shards.next().unwrap_or_default()), &since_us.to_be_bytes());
            }
            None => shards.for_each(|shard| changes.push_delete(&note_key(shard))),
        }
    }
}

fn delete_rows(changes: &mut ChangeSet) {
    let (from, to) = key::bucket_range(NO_EXPIRY, key::NEVER);
    changes.push_range_delete(&from, &to);
}

fn note_key(shard: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    key::encode(key::NEVER, shard, b"since", &mut bytes);
    bytes
}

fn damaged() -> EngineError {
    EngineError::data("the note since when rows without a time count is damaged")
        .help("restore the checkpoint from a backup, or give the query a new checkpoint location to start over")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_lives_for_its_ttl_and_a_sixteenth_at_most() {
        for (ttl_us, time_us) in [(16, 0), (16, 7), (1_600_000, 1_234_567), (1, 5), (3, -7), (i64::MAX, 99)] {
            let ttl = Ttl::new(Duration::from_micros(u64::try_from(ttl_us).unwrap()));
            let stamp = ttl.stamp(time_us);
            let lived = |until: i64| stamp > ttl.bound(until);
            assert!(lived(time_us.saturating_add(ttl_us - 1)), "{ttl_us} {time_us}");
            let longest = time_us.saturating_add(ttl_us).saturating_add(ttl_us / STAMPS);
            assert!(ttl_us == i64::MAX || !lived(longest), "{ttl_us} {time_us}");
            assert_eq!(ttl.stamp(stamp), stamp);
        }
    }
}
