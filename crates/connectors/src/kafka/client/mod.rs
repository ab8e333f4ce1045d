//! Our own reading side of the Kafka protocol: whole record batches straight from the socket to the decoder.
//!
//! ```text
//!   Client ──Metadata, ListOffsets──> leaders, positions
//!     └─ Connections (one idle pool for all readers) ──> PartitionFetcher ──batches──> records borrowed from the answer
//!          └─ tls, sasl: when they are opened
//! ```
//!
//! A client library that hands out messages costs more for each than decoding its JSON does; walking the batches
//! ourselves costs 40 to 160 ns. The client only reads: producing, transactions and groups are librdkafka's. It keeps
//! no positions and commits nothing.

pub mod error;
pub mod compression;
pub mod record_batch;
pub mod sasl;
pub mod tls;
pub mod connection;
pub mod cluster;
pub mod fetch;

#[cfg(test)]
mod tests;
