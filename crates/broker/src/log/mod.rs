//! The log: record batches on the disk, from one batch up to every topic of the broker.
//!
//! ```text
//! batch ─> segment (+ index) ─> partition log (+ producers, retention) ─> partition ─> topics
//!            ▲                     ▲                                        │  ▲
//!            └─ scan ── recovery ──┘                               waiters ─┘  └─ group fsync
//! ```
//!
//! `control` are the markers that end a transaction in a log, `aborted` what readers of committed
//! records have to leave out. `sealed` and `journal` are the two ways small things are kept.
//!
//! Batches are stored as they arrive: checked once, given their offsets, never decoded on the way
//! in or out. Everything a crash can leave behind is handled by `recovery` and nowhere else. Where a
//! topic is compacted, `cleaner` writes closed segments anew.

pub(crate) mod batch;
pub(crate) mod control;
pub(crate) mod records;
pub(crate) mod admission;
pub(crate) mod index;
pub(crate) mod scan;
pub(crate) mod segment;
pub(crate) mod producer_state;
pub(crate) mod aborted;
pub(crate) mod topic_settings;
pub(crate) mod config;
pub(crate) mod checkpoint;
pub(crate) mod retention;
pub(crate) mod recovery;
pub(crate) mod partition_log;
pub(crate) mod waiters;
pub(crate) mod flush;
pub(crate) mod partition;
pub(crate) mod cleaner;
mod each;
pub(crate) mod sealed;
pub(crate) mod journal;
pub(crate) mod topics;

#[cfg(test)]
#[path = "found_tests.rs"]
mod found_tests;
