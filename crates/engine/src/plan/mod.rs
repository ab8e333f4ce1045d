//! From SQL text to a streaming plan.

pub mod catalog;
pub mod ddl;
pub mod dialect;
pub mod functions;
pub mod identifiers;
pub mod datetime_pattern;
