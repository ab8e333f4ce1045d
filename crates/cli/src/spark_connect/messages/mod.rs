//! The messages of Spark Connect that are sent or read here, and no others.
//!
//! The numbers are those of Spark's own definition (`spark/connect/*.proto` of Spark 4.2 and 4.3); a number that is not
//! here is left out by who sends and skipped by who reads, as protocol buffers promise. What is refused by name is read as
//! bytes: protocol buffers write messages and bytes alike. Why they are written down and not generated:
//! [ADR 4](../../../../../docs/adr/0004-spark-connect-without-its-client.md).

mod base;
mod depth;
mod expression;
mod pipeline;
mod relation;
mod responses;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use base::*;
pub(crate) use depth::MAX_DEPTH;
pub(crate) use expression::*;
pub(crate) use pipeline::*;
pub(crate) use relation::*;
pub(crate) use responses::*;
pub(crate) use types::*;
