//! The messages of Spark Connect that a server reads and sends.
//!
//! The numbers are those of Spark's own definition (`spark/connect/*.proto` of Spark 4.2 and 4.3). What is refused by name
//! is read as bytes: protocol buffers write messages and bytes alike. Why they are written down and not generated:
//! [ADR 4](../../../../../docs/adr/0004-spark-connect-without-its-client.md). Requests that only Highwater as a client
//! sends stand in [`crate::spark`].

mod base;
mod expression;
mod relation;
mod responses;
mod types;

pub(crate) use base::*;
pub(crate) use expression::*;
pub(crate) use relation::*;
pub(crate) use responses::*;
pub(crate) use types::*;
