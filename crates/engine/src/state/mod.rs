//! The state of a query: rows of bytes below the operators' caches, durable batch by batch.
//!
//! ```text
//!   operators: decoded rows in a bounded cache (their own)
//!      │ multi_get, scan            │ apply (write-back)              │ commit(N): what batch N changed
//!      ▼                            ▼                                 ▼
//!   StateStore ── RocksDB in a local folder, ──────────────  state/N.changelog   one file a batch, durable
//!                 a column family an operator                      │
//!                        │ snapshot(N), now and then               │ restore: newest snapshot + changelogs after it
//!                        ▼                                         ▼
//!                 state/N.snapshot ── names ──> state/sst/*   only files that are not there yet are written
//!
//!   key.rs        bucket (expiry) · shard · group key: the order of keys is the order of expiry
//!   changes.rs    ChangeSet: what changed, in the bytes the changelog stores    spill_file.rs  those without room
//!   changelog.rs  the file of a batch              snapshot.rs  the file of a snapshot
//!   versions.rs   what can be restored, when a snapshot is due, what can go: pure
//!   inspect.rs    the files looked at and removed without a database
//!   rocks.rs      the only place that knows RocksDB        parallel.rs  files carried side by side
//! ```
//!
//! The local RocksDB is a cache of the checkpoint: it has no log of its own, is never trusted after a restart, and is
//! built again from the checkpoint each time a store is opened. A store knows bytes and batch ids; it does not know
//! what a row means, when it expires or which batch is next.

pub(crate) mod changelog;
mod changes;
pub(crate) mod inspect;
pub mod key;
mod parallel;
mod rocks;
mod settings;
mod snapshot;
mod spill_file;
mod store;
#[cfg(test)]
mod store_tests;
mod versions;

use crate::error::{EngineError, Result};

pub use changes::{Change, ChangeSet};
pub use settings::StateSettings;
pub use store::{
    FrozenSnapshot, OperatorMetrics, RestoreReport, SnapshotReport, StateCommitReport, StateMetrics, StateStore,
};
pub use versions::{RestorePath, SinceSnapshot, StateVersions, snapshot_due};

/// The format of state rows as operators write them, in changelogs and snapshots: 2 has counts of rows beside them.
pub(crate) const STATE_FORMAT: u32 = 2;

fn refuse_other_format(address: &str, found: u32) -> Result<()> {
    if found == STATE_FORMAT {
        return Ok(());
    }
    Err(EngineError::data(format!("{address} has state format {found}, expected {STATE_FORMAT}")).help(
        "use the version of highwater that wrote it, or give the query another name or another --storage, so that it \
         starts over",
    ))
}
