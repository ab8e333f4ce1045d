//! How much of the past a checkpoint keeps.
//!
//! ```text
//!   ... 40 41 42 │ 43 ........ 142      minBatchesToRetain = 100, batch 142 committed: keep from 43
//!      removed   │      kept            (state keeps the newest snapshot at or below 43 as well)
//! ```
//!
//! Kept batches can be inspected and gone back to. Recovery itself needs only the newest committed batch and the one
//! after it, and those always stay. Dead letters are not part of this: they are data, and go when somebody says so.

use serde::{Deserialize, Serialize};

use super::{CommitLog, OffsetLog};
use crate::error::Result;
use crate::sink::BatchId;

/// The setting `minBatchesToRetain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    /// How many committed batches stay; 0 counts as 1.
    pub min_batches_to_retain: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { min_batches_to_retain: 100 }
    }
}

impl Retention {
    /// The oldest batch to keep once `last_commit` is committed.
    pub fn keep_from(&self, last_commit: BatchId) -> BatchId {
        (last_commit + 1).saturating_sub(self.min_batches_to_retain.max(1))
    }

    /// Removes old entries of both logs and gives the oldest batch kept, for [`crate::state::StateStore::prune`].
    pub fn prune_logs(&self, offsets: &OffsetLog, commits: &CommitLog) -> Result<Option<BatchId>> {
        let Some(last_commit) = commits.latest_id() else { return Ok(None) };
        let keep_from = self.keep_from(last_commit);
        offsets.prune(keep_from)?;
        commits.prune(keep_from)?;
        Ok(Some(keep_from))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::checkpoint;
    use super::super::{CommitLogEntry, OffsetLogEntry};
    use super::*;

    #[test]
    fn the_newest_committed_batch_always_stays() {
        let keep = |retain: u64, last: BatchId| Retention { min_batches_to_retain: retain }.keep_from(last);
        assert_eq!([keep(100, 142), keep(100, 99), keep(100, 0), keep(1, 7), keep(0, 7)], [43, 0, 0, 7, 7]);
    }

    #[test]
    fn logs_keep_what_recovery_needs() {
        let (_dir, checkpoint) = checkpoint();
        let offsets = OffsetLog::open(&checkpoint).unwrap();
        let commits = CommitLog::open(&checkpoint).unwrap();
        let retention = Retention { min_batches_to_retain: 2 };
        assert_eq!(retention.prune_logs(&offsets, &commits).unwrap(), None);
        for batch in 0..6 {
            offsets.add(batch, &OffsetLogEntry::default()).unwrap();
            if batch < 5 {
                commits.add(batch, &CommitLogEntry::default()).unwrap();
            }
        }
        assert_eq!(retention.prune_logs(&offsets, &commits).unwrap(), Some(3));
        assert_eq!((offsets.oldest_id(), offsets.latest_id()), (Some(3), Some(5)));
        assert_eq!((commits.oldest_id(), commits.latest_id()), (Some(3), Some(4)));
    }
}
