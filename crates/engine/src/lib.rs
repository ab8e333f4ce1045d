//! Structured streaming: the plans, operators, state, checkpoints and query runtime of Highwater.
//!
//! ```text
//!  source ──> plan ──> operator + state ──> query (triggers, batches) ──> checkpoint ──> sink
//!  (offsets,  (Spark    (watermark, window,   (offset log, run, state       (offset log,   (staged, then
//!   ranges)    SQL)      RocksDB)              commit, sink commit)          commit log)    visible with its token)
//!                                                   └──> progress
//! ```
//!
//! The modules stand in this order. The engine opens no socket, knows no connector by name and reads time only in
//! [`clock`].

pub mod source;
pub mod plan;
pub(crate) mod operator;
pub mod state;
pub mod query;
pub mod checkpoint;
pub mod sink;
pub mod progress;
pub mod clock;
pub mod error;
pub mod writable;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(any(test, all(fuzzing, feature = "testing")))]
pub mod fuzzing;
