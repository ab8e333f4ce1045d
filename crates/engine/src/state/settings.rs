//! The settings of a state store: plain values, each with the default that suits one query on a small machine.

use serde::{Deserialize, Serialize};

/// Settings of the state of one query.
///
/// Memory below the operators' own caches is bounded by `block_cache_bytes` (data, indices and filters) plus
/// `write_buffer_total_bytes` (rows not yet in files), plus a few MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateSettings {
    /// Cache of blocks, indices and filters, shared by the operators.
    pub block_cache_bytes: u64,
    /// Rows of one operator kept in memory before they go to a file.
    pub write_buffer_bytes: u64,
    /// The same for all operators together.
    pub write_buffer_total_bytes: u64,
    /// Threads that write and merge files.
    pub background_jobs: u32,
    /// Files kept open.
    pub max_open_files: u32,
    /// A snapshot at the latest after this many batches.
    pub snapshot_every_batches: u64,
    /// No snapshot for fewer bytes of changelogs than this, unless the batches are enough.
    pub snapshot_min_bytes: u64,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self {
            block_cache_bytes: 64 << 20,
            write_buffer_bytes: 32 << 20,
            write_buffer_total_bytes: 96 << 20,
            background_jobs: 2,
            max_open_files: 512,
            snapshot_every_batches: 50,
            snapshot_min_bytes: 64 << 20,
        }
    }
}
