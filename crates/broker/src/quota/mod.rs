//! Client quotas (KIP-13, KIP-219, KIP-546): how fast a user or a client may produce and consume.
//!
//! ```text
//!  AlterClientQuotas ─> entity::check ─> Limits ─> quotas.json (sealed)
//!                                          │
//!  produce, fetch ─> (user, client id) ─> limit in force ─> rate over windows ─> throttle time
//!                                                                                    │
//!                              the answer says it, and the connection is not read for it
//! ```
//!
//! Rates are measured as Kafka measures them, in a ring of windows, and not with a token bucket: the throttle time a
//! client is told is then the number it would be told by Kafka for the same traffic, and the burst that is allowed
//! needs no setting of its own. What has gone over is always answered first; it is the next request that waits.
//!
//! The quotas of requests' processor time (`request_percentage`), of controller mutations and of connections by address
//! are refused when they are set: nothing is accepted and then ignored.

pub(crate) mod entity;
pub(crate) mod rate;
pub(crate) mod service;
