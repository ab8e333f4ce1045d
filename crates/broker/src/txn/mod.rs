//! Transactions: which producer writes under which transactional id, and how each transaction ends.
//!
//! ```text
//! InitProducerId ─> Empty ──add──> Ongoing ──end──> Ending ──every marker written──> Ended ─┐
//!                     ▲               └─timeout, new producer─┘                             │
//!                     └────────────────────────── add ── Ongoing <──────────────────────────┘
//! ```
//!
//! `coordinator` is the pure state machine above; `service` drives it: it keeps each change in
//! `transactions.log` before it counts, and writes the markers into the partitions and the offsets
//! of the groups that took part. What is decided (Ending) is durable before the first marker is
//! written, so a broker that dies in between ends what it had begun when it starts again.

pub(crate) mod coordinator;
pub(crate) mod service;

#[cfg(test)]
mod coordinator_tests;
