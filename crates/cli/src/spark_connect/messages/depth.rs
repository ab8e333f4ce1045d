//! How deep relations and expressions may stand in each other.
//!
//! The library counts the messages that stand in each other and refuses more than a hundred, which programs reach that add
//! columns in a loop. So relations and expressions are counted here, up to what Spark's own server takes, and each has its
//! hundred messages for itself. Reading them uses stack: who reads for others has a deep one (`connect/server.rs`).

use std::cell::Cell;

use prost::encoding::DecodeContext;

/// How many relations and expressions may stand in each other. Each is two messages, of which Spark takes 1024.
pub(crate) const MAX_DEPTH: usize = 512;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Reads a part of a relation or an expression, which is one more in those around it. Beyond the limit the library's own count
/// goes on, and ends soon.
pub(super) fn one_deeper<T>(context: DecodeContext, read: impl FnOnce(DecodeContext) -> T) -> T {
    let depth = DEPTH.get();
    let context = if depth < MAX_DEPTH { DecodeContext::default() } else { context };
    DEPTH.set(depth + 1);
    let part = read(context);
    DEPTH.set(depth);
    part
}
