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

pub use memory::{MemoryConnector, MemoryTable};
pub use objects::{Fault, FaultyStore};
pub use script::StreamScript;

pub use crate::clock::ManualClock;
