//! Reads records for one member of a share group: from the log, as far as they can be acquired.
//!
//! ```text
//! next offset ─> read a piece ─> stretches: records, or nothing to see ─> acquire ─> next offset ─> ...
//! ```
//!
//! Pieces are small, because what can be acquired may be a few records that were given back with many behind them that
//! others have. What is sent are whole batches, as they are stored; the member is told which of their records it has.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::partition::{Acquired, Order, Stretch};
use super::settings::{OffsetReset, ShareConfig};
use super::store::{ShareStore, Shared};
use crate::buffers::Buffers;
use crate::log::batch::BatchHeader;
use crate::log::partition::{Batches, Isolation, Partition, ReadError, ReadLimits};

/// Bytes that are read at once, unless the first batch has more.
pub(crate) const PIECE_BYTES: usize = 1024 * 1024;

/// What a member gets of a partition.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) records: Bytes,
    pub(crate) acquired: Vec<Acquired>,
}

/// How much is read, and into what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room<'a> {
    pub(crate) max_bytes: usize,
    /// Read the first batch even if it is larger than that.
    pub(crate) at_least_one: bool,
    pub(crate) verify: bool,
    pub(crate) buffers: &'a Arc<Buffers>,
}

impl ShareConfig {
    pub(crate) fn isolation(&self) -> Isolation {
        if self.is_committed_only { Isolation::Committed } else { Isolation::Uncommitted }
    }

    /// Where a group begins in a partition it has not read.
    pub(crate) fn first_offset(&self, partition: &Partition, now_ms: i64) -> Result<i64, ReadError> {
        Ok(match self.offset_reset {
            OffsetReset::Earliest => partition.start_offset(),
            OffsetReset::Latest => partition.end_offset(self.isolation()),
            OffsetReset::Ago { duration_ms } => {
                let found = partition.find_time(now_ms.saturating_sub(duration_ms), self.isolation())?;
                found.map_or_else(|| partition.end_offset(self.isolation()), |found| found.offset)
            }
        })
    }
}

/// Whether a read may find something.
pub(crate) fn has_more(shared: &Shared, partition: &Partition, config: &ShareConfig) -> bool {
    let next = shared.next_offset(config.max_in_flight);
    partition.is_deleted() || next.is_some_and(|next| next < partition.end_offset(config.isolation()))
}

/// Reads and acquires up to `order.max_records`. Blocks on the disk.
pub(crate) fn fetch(
    store: &ShareStore,
    shared: &Shared,
    partition: &Partition,
    config: &ShareConfig,
    mut order: Order,
    room: Room<'_>,
) -> Result<Fetched, ReadError> {
    let _fetching = shared.fetching.lock();
    store.fit(shared, partition.start_offset(), partition.high_watermark());
    let mut acquired: Vec<Acquired> = Vec::new();
    let mut records = BytesMut::new();
    let mut read_to = i64::MIN;
    while order.max_records > 0 && (records.len() < room.max_bytes || (room.at_least_one && records.is_empty())) {
        // Records behind those already read only: a member expects them in order, each once.
        let next = shared.next_offset(config.max_in_flight).filter(|next| *next >= read_to);
        let Some(from) = next else { break };
        let limits = ReadLimits {
            max_bytes: (room.max_bytes - records.len().min(room.max_bytes)).min(PIECE_BYTES),
            at_least_one: room.at_least_one && records.is_empty(),
            verify: room.verify,
            isolation: config.isolation(),
        };
        let read = match partition.read(from, limits, room.buffers) {
            Ok(read) => read,
            // Deleted since the look at where the log begins; or damaged, and there is something to give before it.
            Err(ReadError::OutOfRange { .. }) => break,
            Err(_) if !acquired.is_empty() => break,
            Err(error) => return Err(error),
        };
        let batches = batches(&read);
        let Some(last) = batches.last() else { break };
        read_to = last.stretch.last + 1;
        let stretches: Vec<Stretch> = batches.iter().map(|batch| batch.stretch).collect();
        let more = store.acquire(shared, order.clone(), from, &stretches);
        order.max_records -= more.iter().map(|it| it.last - it.first + 1).sum::<i64>();
        if let Some((from, to)) = span_of(&batches, &more) {
            records.extend_from_slice(&read.bytes[from..to]);
        }
        acquired.extend(more);
    }
    Ok(Fetched { records: records.freeze(), acquired })
}

/// A batch that was read.
#[derive(Debug)]
struct Batch {
    stretch: Stretch,
    position: usize,
    end: usize,
}

fn batches(read: &Batches) -> Vec<Batch> {
    let mut found = Vec::new();
    let mut position = 0;
    while let Some(header) = read.bytes.get(position..).and_then(|rest| BatchHeader::parse(rest).ok()) {
        let base = header.base_offset;
        let is_aborted = header.is_transactional()
            && read.aborted.iter().any(|ended| {
                ended.producer_id == header.producer_id && (ended.first_offset..ended.marker_offset).contains(&base)
            });
        let is_data = !header.is_control() && !is_aborted && header.record_count > 0;
        let end = position + header.size_bytes;
        found.push(Batch { stretch: Stretch { first: base, last: header.last_offset(), is_data }, position, end });
        position = end;
    }
    found
}

/// From the first batch with records that were acquired to the last.
fn span_of(batches: &[Batch], acquired: &[Acquired]) -> Option<(usize, usize)> {
    let (first, last) = (acquired.first()?.first, acquired.last()?.last);
    let from = batches.iter().find(|batch| batch.stretch.last >= first)?.position;
    let to = batches.iter().rev().find(|batch| batch.stretch.first <= last)?.end;
    Some((from, to))
}

/// Partitions that others change while a member waits for something to read.
pub(crate) fn register(shared: &Shared, partition: &Partition, waiter: &Arc<tokio::sync::Notify>) {
    shared.register(waiter);
    partition.register(waiter);
}
