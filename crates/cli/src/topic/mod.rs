//! Topics of any Kafka: create, look at, change, fill and read them.
//!
//! ```text
//!   name ─naming─┐
//!   flags, --for ┴─plan (sizing)──> admin ──> topic <── describe (direct)
//!   stdin, file, datagen ─input──> producer ──> topic ──> consume (offsets, format) ──> stdout
//! ```
//!
//! Everything goes over the Kafka protocol to the address in `--bootstrap`; the embedded broker is not special.

pub(crate) mod admin;
pub(crate) mod client;
pub(crate) mod consume;
pub(crate) mod create;
pub(crate) mod describe;
mod direct;
mod encoding;
pub(crate) mod format;
mod input;
mod json_line;
pub(crate) mod naming;
mod offsets;
pub(crate) mod plan;
pub(crate) mod produce;
pub(crate) mod producer;
mod sizing;
