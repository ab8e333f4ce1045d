//! Share groups (KIP-932): members read the same partitions together, and each record is with one of them at a time.
//!
//! ```text
//! ShareGroupHeartbeat ─> coordinator (pure): who reads which partitions
//!
//! ShareFetch ──> session (pure): which partitions ─> partition (pure): which records ─> log
//! ShareAcknowledge ──────────────────────────────────────┘
//!                                                        ▼
//!                                            share-groups.log (store.rs)
//!
//! records of a partition:      SPSO                                   end
//!        finished ─────────────┤ acquired │ available │ acknowledged ├──── never handed out
//!
//!                     acquire                      accept
//!       Available ────────────────> Acquired ────────────────> Acknowledged
//!           ▲        count + 1       │    │       reject, gap
//!           └────────────────────────┘    └──────────────────> Archived
//!             release, lock timeout            or the last delivery failed
//! ```
//!
//! (<https://cwiki.apache.org/confluence/display/KAFKA/KIP-932>.) The start of a partition (SPSO) moves over what is
//! acknowledged and archived; what lies between it and the end is in flight, as runs of records in the same state.
//!
//! Members, sessions and locks live in memory. What is accepted, rejected or given up is on the disk before it is
//! answered: after a restart accepted records stay accepted, and those that were with a member are available again.
//!
//! A name is of a share group until that group is deleted: neither protocol of consumer groups takes over an empty
//! one, because its state is none they could read.

pub(crate) mod assignor;
pub(crate) mod coordinator;
pub(crate) mod partition;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod store;
pub(crate) mod read;
pub(crate) mod service;
