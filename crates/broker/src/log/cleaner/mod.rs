//! Log compaction: of each key the newest record stays, and in time not even that if it is a tombstone.
//!
//! ```text
//!         clean                     dirty                uncleanable
//!  ┌────────┬────────┐ ┌────────┬────────┬────────┐ ┌───────────────────┐
//!  │ closed │ closed │ │ closed │ closed │ closed │ │ ... active        │
//!  └────────┴────────┘ └────────┴────────┴────────┘ └───────────────────┘
//!                      ▲ dirty offset               ▲ active segment, oldest open transaction,
//!                      └── keys: key ─> newest ──┘    high watermark, min.compaction.lag.ms
//!   └───────── every batch judged against keys ───┘
//!       └─> .cleaned ─> .swap ─> .log                 one group of neighbours at a time
//! ```
//!
//! A pass reads the keys of the dirty part into memory, then writes everything from the log's beginning to the end of
//! that part anew without the records that a later one replaces. It follows Kafka in what stays:
//!
//! - Offsets never change: compaction makes holes. A batch keeps its first and last offset, whatever is left of it.
//! - A batch that holds the last sequence number of a known producer stays, at least as an empty batch. So does the last
//!   batch of the pass, so that every offset below the end of the log leads somewhere.
//! - A tombstone stays for `delete.retention.ms` from the first pass that has seen it; the batch carries that time
//!   (KIP-534). In that pass everything older of its key went, so that it is not missed when it goes.
//! - Records of aborted transactions go at once; a marker stays while a batch of its transaction is there, and then
//!   for `delete.retention.ms`.
//!
//! The newest value of a key cannot be lost. A record goes only when the very bytes of its key stand in the map with a
//! higher offset, and the map takes only records that are there, committed, below the end of the pass and never
//! removed by that pass except as expired tombstones. A crash at any step leaves the old segments or the new ones
//! ([`swap`]), groups are replaced from the oldest on, and what a pass has removed in one group is superseded by a
//! record in the same or a later one.
//!
//! Readers and writers go on: files are read and written without any lock, and the log is locked for the moment in
//! which the new file takes the place of the old ones. Whoever reads the old ones has them open. When retention or a
//! deletion was faster, the pass is given up; the next one begins anew.

mod filter;
mod keys;
mod pass;
mod plan;
pub(crate) mod swap;
mod throttle;
mod transactions;
mod view;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::partition::Partition;
use crate::error::BrokerError;

#[cfg(test)]
use super::segment::Segment;
pub(crate) use plan::Candidate;
pub(crate) use throttle::Throttle;

/// What compaction may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Memory of the keys of one pass.
    pub(crate) keys_bytes: usize,
    /// Records of one batch, unpacked.
    pub(crate) unpacked_bytes: usize,
}

/// Why a pass has ended before its end.
#[derive(Debug, Error)]
pub(crate) enum CleanError {
    #[error("the log is closed")]
    Stopped,
    #[error("segments were deleted meanwhile")]
    Overtaken,
    #[error("{} cannot be compacted: {reason}", file.display())]
    Unreadable { file: PathBuf, reason: String },
    #[error(transparent)]
    Storage(#[from] BrokerError),
}

impl CleanError {
    fn unreadable(file: &Path, reason: impl ToString) -> Self {
        Self::Unreadable { file: file.to_owned(), reason: reason.to_string() }
    }

    /// Sorts an error while a file of the log was read: one that is gone was deleted.
    fn reading(file: &Path, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Overtaken } else { Self::unreadable(file, error) }
    }
}

/// Compacts the partitions that need it, the most dirty first, until none does.
pub(crate) fn clean_all(
    partitions: impl Fn() -> Vec<Arc<Partition>>,
    limits: Limits,
    throttle: &mut Throttle,
    now_ms: i64,
) {
    // A pass moves the dirty offset forward, so this ends when nobody writes; and one that loses each race with
    // writers is not tried for ever.
    let mut passes_left = 10 * partitions().len() + 10;
    while passes_left > 0 {
        let candidates = partitions().into_iter().filter_map(|partition| {
            let candidate = partition.compaction_candidate(now_ms)?;
            Some((candidate, partition))
        });
        let Some((_, partition)) = candidates.max_by(|(a, _), (b, _)| a.urgency().total_cmp(&b.urgency())) else {
            return;
        };
        partition.compact(limits, throttle, now_ms);
        passes_left -= 1;
    }
}
