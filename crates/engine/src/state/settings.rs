//! The settings of a state store: plain values, each with the default that suits one query on a small machine.

use serde::{Deserialize, Serialize};

/// Settings of the state of one query.
///
/// Memory below the operators' own caches, which [`StateSettings::within`] fits into that of the query, is bounded by `block_cache_bytes` (data, indices and filters) plus
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

/// Memory that RocksDB does not do without.
const LEAST_BYTES: u64 = 1 << 20;

impl StateSettings {
    /// These settings with no more than a part of `budget_bytes`, and what is left of it for the operators' own rows.
    ///
    /// ```text
    ///   a quarter   cache of blocks, indices and filters   ┐ at most: what these settings ask for, if that is less
    ///   an eighth   rows not yet in files                  ┘
    ///   an eighth   a batch's changes on their way to the changelog, tables that grow, what the allocator holds back
    ///   the rest    the operators
    /// ```
    pub fn within(&self, budget_bytes: usize) -> (Self, usize) {
        let budget = budget_bytes as u64;
        let cache = self.block_cache_bytes.min((budget / 4).max(LEAST_BYTES));
        let buffers = self.write_buffer_total_bytes.min((budget / 8).max(LEAST_BYTES));
        let settings = Self {
            block_cache_bytes: cache,
            write_buffer_total_bytes: buffers,
            write_buffer_bytes: self.write_buffer_bytes.min(buffers / 2),
            ..self.clone()
        };
        let left = budget.saturating_sub(cache + buffers + budget / 8);
        (settings, usize::try_from(left).unwrap_or(usize::MAX))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_part_of_the_budget() {
        let check = |budget_mib: usize, expected: [u64; 4]| {
            let (settings, operators) = StateSettings::default().within(budget_mib << 20);
            let mib = |bytes: u64| bytes >> 20;
            let found = [
                mib(settings.block_cache_bytes),
                mib(settings.write_buffer_total_bytes),
                mib(settings.write_buffer_bytes),
                mib(operators as u64),
            ];
            assert_eq!(found, expected, "{budget_mib}");
        };
        check(256, [64, 32, 16, 128]);
        check(64, [16, 8, 4, 32]);
        check(4096, [64, 96, 32, 3424]);
        check(0, [1, 1, 0, 0]);
    }
}
