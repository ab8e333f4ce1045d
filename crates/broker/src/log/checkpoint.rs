//! What is known of a partition's log beside the log itself.
//!
//! Written after a segment is closed, at a clean stop, when records are deleted, and when segments are compacted. It
//! saves the next start from verifying everything, and it says which segments have been compacted: only there may
//! offsets be missing, and such a segment must have all of its bytes. Everywhere else a missing offset is damage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sealed::{self, Kind};
use crate::error::BrokerError;

const CHECKPOINT: Kind = Kind { name: "checkpoint", holds: "up to where the partition was flushed" };

/// What was known of the log when it was last written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Everything below is on the disk.
    pub(crate) recovery_offset: i64,
    /// Everything below was deleted, also where its segment is still there.
    #[serde(default)]
    pub(crate) start_offset: i64,
    /// Compaction has looked at every key below: what lies behind is dirty.
    #[serde(default)]
    pub(crate) dirty_offset: i64,
    /// Base offset and bytes of each segment that was compacted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) compacted: BTreeMap<i64, u64>,
    /// Which segments were compacted is not known.
    #[serde(skip)]
    pub(crate) lost: bool,
}

impl Checkpoint {
    fn path(dir: &Path) -> PathBuf {
        dir.join("checkpoint.json")
    }

    /// The checkpoint in `dir`. A damaged one is as good as none: then everything is verified. So is one that is
    /// gone where compaction must have left one.
    pub(crate) fn read(dir: &Path, compacts: bool) -> Self {
        match sealed::read(&Self::path(dir), CHECKPOINT) {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => Self { lost: compacts, ..Self::default() },
            Err(error) => {
                tracing::warn!(%error, "checkpoint not usable, the whole log is verified");
                Self { lost: true, ..Self::default() }
            }
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), BrokerError> {
        sealed::write(&Self::path(dir), CHECKPOINT, self)
    }

    /// Up to which position of a segment offsets may be missing.
    pub(crate) fn holes_until(&self, base_offset: i64) -> u64 {
        let known = self.compacted.get(&base_offset).copied().unwrap_or(0);
        if self.lost { u64::MAX } else { known }
    }
}
