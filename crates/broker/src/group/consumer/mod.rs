//! Groups of the consumer protocol (KIP-848): the coordinator assigns, and a heartbeat is all a
//! member says.
//!
//! ```text
//! heartbeat ─> member came, went, subscribed otherwise? topics changed?
//!                  │ group epoch + 1
//!                  ▼
//!              assignor (uniform, range) ─> target assignment, of that epoch
//!                  │
//!                  ▼
//!              reconcile: the member one step nearer to its part of the target
//!
//!              Stable ──> Unrevoked ──────> Unreleased ────────> Stable
//!                         it has to give    others have to give
//!                         something up      something up first
//! ```
//!
//! (<https://cwiki.apache.org/confluence/display/KAFKA/KIP-848>.) A partition is never with two
//! members: it is given only when nobody else has it, and taken from a member only when the member
//! says that it has let go, or is thrown out for not saying so.
//!
//! Members live in memory; what is kept on the disk is which groups there are and an epoch above
//! all they have had (`epochs.rs`). After a restart members find themselves unknown and join again
//! with epoch 0, at a higher epoch: a commit of the time before is stale and refused.
//!
//! A group is of one protocol at a time. An empty one changes over to whoever joins; a member of
//! the classic protocol cannot join a group that has members of this one, nor the other way round
//! (Kafka's online migration is not done here).

pub(crate) mod message;
pub(crate) mod topics;
pub(crate) mod subscription;
pub(crate) mod member;
pub(crate) mod assignor;
mod reconcile;
pub(crate) mod group;
pub(crate) mod coordinator;
pub(crate) mod epochs;
mod service;
