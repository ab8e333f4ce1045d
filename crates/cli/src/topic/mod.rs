//! Topics of any Kafka: create, look at, fill and read them.
//!
//! ```text
//!   stdin, file, datagen ──> producer ──> topic ──> consume ──> stdout
//! ```
//!
//! Everything goes over the Kafka protocol to the address in `--bootstrap`; the embedded broker is not special.

pub(crate) mod admin;
pub(crate) mod client;
pub(crate) mod consume;
pub(crate) mod format;
pub(crate) mod produce;
pub(crate) mod producer;
