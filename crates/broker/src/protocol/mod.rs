//! The wire: frames, the table of what is served, and the check that stands before the decoder.
//!
//! ```text
//! bytes ─> frame (size limit) ─> header ─> api table ─> shape ─> decoded request ─> handler
//! ```
//!
//! The messages themselves come from `kafka-protocol`, generated from Kafka's own definitions.
//! Nothing here knows what a request means.

pub(crate) mod api;
pub(crate) mod shape;
pub(crate) mod frame;
pub(crate) mod pieces;
pub(crate) mod fetch_response;
pub(crate) mod share;
