//! What a person sees while a command works; on stderr, so that stdout stays data.
//!
//! ```text
//!   batches ──ProgressListener──> board ──> screen (a terminal): a block that is drawn again and again
//!                                       └─> log (no terminal): a line per query and interval
//! ```

pub(crate) mod board;
pub(crate) mod counter;
pub(crate) mod live;
pub(crate) mod screen;
