//! Settings that are altered while the broker runs: its own, and those of single groups.
//!
//! ```text
//! given at the start ─> of all brokers ─> of this broker ─> in force ─> topics, compaction, connections, threads
//!                       └────────── configs.json ──────┘
//!                       of a group ─────────────────────────────────> its members: heartbeats, locks of share groups
//! ```
//!
//! Names and values are Kafka's, and each layer wins over those to its left. Only what takes effect at once can be
//! altered: a name that can only be given at the start is refused, and so is one nobody here knows. A topic's own
//! settings are not here but with the topic (`log/topics.rs`).

pub(crate) mod broker;
pub(crate) mod group;
pub(crate) mod store;
