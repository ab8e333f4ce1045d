//! What tests of queries are written with: a source and a sink in memory, a clock that stands still, and
//! [`StreamScript`], which runs a script of actions over them.
//!
//! ```text
//!   StreamScript::new("CREATE TABLE ev (...) USING test; CREATE SINK out USING test; CREATE FLOW ...")
//!       .add("ev", r#"{"k": "a", "ts": "2024-01-01T00:00:05Z"}"#)      rows for the next batch
//!       .process()                                                      run until nothing is left, then stop
//!       .check("out", &["a 1"])                                         all rows of the sink so far
//! ```
//!
//! Every `process` is a new start of the pipeline on the same checkpoint, so each script tests recovery too; with
//! [`StreamScript::checkpoints_in`] the checkpoint is in an object store that fails when it is told to.

mod memory;
mod objects;
mod script;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub use memory::{MemoryConnector, MemoryTable};
pub use objects::{Fault, FaultyStore};
pub use script::StreamScript;

use crate::clock::Clock;

/// A clock that moves only when it is told to, or when somebody sleeps on it.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    pub fn new(now_ms: i64) -> Self {
        Self { now_ms: AtomicI64::new(now_ms) }
    }

    /// Moves it on.
    pub fn advance(&self, duration: Duration) {
        self.now_ms.fetch_add(i64::try_from(duration.as_millis()).unwrap_or(0), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.now_ms()).unwrap_or(0) * 1_000_000
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}
