//! Spark Connect as it goes over the wire, for both directions.
//!
//! ```text
//!   connect (the server: PySpark asks Highwater) ──┐
//!                                                  ├─> messages (protocol buffers), framing (gRPC)
//!   spark (the client: Highwater asks Spark) ──────┘
//! ```
//!
//! Nothing here knows who asks: sockets, sessions and meanings stand in [`crate::connect`] and [`crate::spark`].

pub(crate) mod framing;
pub(crate) mod messages;
