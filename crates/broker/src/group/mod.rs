//! Consumer groups: who is in them, who reads what, and how far they have read.
//!
//! ```text
//! join, sync, heartbeat, leave ─> service ─> coordinator (pure) ─> replies            classic protocol
//!                    timers ────────┤
//! consumer group heartbeat ─────────┼────> consumer::coordinator (pure) ─> reply      KIP-848
//! share group heartbeat ────────────┴────> share::coordinator (pure) ─> reply         KIP-932
//! commit ─> coordinator: may this member? ─> offsets (append-only file) ─> fetch
//! ```
//!
//! Membership lives in memory only: after a restart members find themselves unknown and join
//! again, which is what they do after any rebalance. Committed offsets live on the disk, and so do
//! the epochs of groups of the consumer protocol, and what share groups have read.

pub(crate) mod message;
pub(crate) mod member;
pub(crate) mod coordinator;
mod rebalance;
pub(crate) mod consumer;
pub(crate) mod share;
pub(crate) mod offsets;
pub(crate) mod published;
pub(crate) mod service;
