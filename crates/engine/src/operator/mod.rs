//! What happens to rows between source and sink.
//!
//! ```text
//!   stateless steps (project, filter, watermark, static join) ──> aggregate (keyed rows, groups, state)
//! ```

pub(crate) mod aggregate;
pub(crate) mod join;
pub(crate) mod stateless;
