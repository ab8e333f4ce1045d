//! What is left of a batch: the one decision compaction is about.

use std::collections::HashMap;
use std::io;

use super::super::batch::BatchHeader;
use super::super::producer_state::LastBatch;
use super::super::records::{Record, Unpacked, build};
use super::keys::Keys;
use super::transactions::{Role, Transactions};

/// What a pass knows when it judges a batch.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    pub(super) keys: &'a Keys,
    /// End of what the pass has read: every key below is in the map or was clean before.
    pub(super) end: i64,
    /// Of each producer that is remembered, what the log must not lose.
    pub(super) last_batches: &'a HashMap<i64, LastBatch>,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    pub(super) unpacked_bytes: usize,
}

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// All of it, byte by byte.
    Same,
    Other(Vec<u8>),
}

/// The records of a batch, counted.
#[derive(Debug, Default)]
struct Count {
    kept: i32,
    tombstones: i32,
    newest_ms: Option<i64>,
}

impl Filter<'_> {
    /// Judges the next batch of the walk.
    pub(super) fn judge(&self, header: &BatchHeader, batch: &[u8], met: &mut Transactions) -> io::Result<Left> {
        if header.base_offset >= self.end {
            return Ok(Left::Same);
        }
        let role = met.meet(header, batch);
        if header.record_count == 0 {
            return Ok(if self.must_stay(header) { Left::Same } else { Left::Nothing });
        }
        let expired = header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        let unpacked = Unpacked::new(header, batch, self.unpacked_bytes)?;
        let keeps = |record: &Record<'_>| match role {
            Role::Aborted => false,
            Role::MarkerWithoutData { listed } => listed || !expired,
            Role::Needed => header.is_control() || self.keeps(record, expired),
        };
        let mut count = Count::default();
        for record in unpacked.records() {
            let record = record?;
            if keeps(&record) {
                count.kept += 1;
                count.tombstones += i32::from(record.value.is_none());
                count.newest_ms = count.newest_ms.max(Some(record.timestamp));
            }
        }
        let Some(newest_ms) = count.newest_ms else {
            return if self.must_stay(header) { empty(header).map(Left::Other) } else { Ok(Left::Nothing) };
        };
        let ages = match role {
            Role::MarkerWithoutData { .. } => true,
            // Tombstones behind the end have not yet taken with them what is older.
            _ => !header.is_control() && count.tombstones > 0 && header.next_offset() <= self.end,
        };
        let starts_to_age = ages && header.delete_horizon_ms().is_none();
        if count.kept == header.record_count && !starts_to_age {
            return Ok(Left::Same);
        }
        let mut rebuilt = if starts_to_age {
            header.with_delete_horizon(self.now_ms.saturating_add(self.delete_retention_ms))
        } else {
            *header
        };
        if !header.is_log_append_time() {
            rebuilt.max_timestamp = newest_ms;
        }
        let kept = unpacked.records().filter_map(Result::ok).filter(keeps);
        build(&rebuilt, kept).map(Left::Other)
    }

    fn keeps(&self, record: &Record<'_>, tombstones_expired: bool) -> bool {
        if record.offset >= self.end {
            return true;
        }
        // A record without a key has nothing that could replace it or be replaced. Those of before the topic was
        // compacted go, as they do in Kafka.
        let Some(key) = record.key else { return false };
        !self.keys.replaces(key, record.offset) && (record.value.is_some() || !tombstones_expired)
    }

    /// Whether a batch stays though nothing is in it.
    fn must_stay(&self, header: &BatchHeader) -> bool {
        let of_producer = header.is_idempotent()
            && self.last_batches.get(&header.producer_id).is_some_and(|last| match last.offset {
                Some(offset) => header.last_offset() == offset,
                None => header.is_control() && header.producer_epoch == last.epoch,
            });
        of_producer || header.next_offset() == self.end
    }
}

fn empty(header: &BatchHeader) -> io::Result<Vec<u8>> {
    build(&header.emptied(), std::iter::empty())
}
