//! From SQL text to a streaming plan.
//!
//! ```text
//!   text ──token──> statements ──program──> tables and flows ──analysis──> LogicalPlan ──streaming──> StreamingPlan
//! ```

pub mod catalog;
pub mod datetime_pattern;
pub mod ddl;
pub mod describe;
pub mod dialect;
pub mod functions;
mod grouping;
pub mod identifiers;
pub mod outline;
pub mod size;
pub mod window;
pub(crate) mod analysis;
pub(crate) mod auto_cdc;
pub(crate) mod batch;
pub(crate) mod cache;
pub(crate) mod distinct_on;
pub(crate) mod interval;
pub(crate) mod json_fields;
mod kept_order;
mod limits;
mod lineage;
pub(crate) mod live;
pub(crate) mod logical;
pub(crate) mod physical_rules;
pub mod program;
pub(crate) mod raw_strings;
pub(crate) mod relation;
mod relations;
pub mod session;
pub(crate) mod session_window;
pub(crate) mod statement;
pub(crate) mod streaming;
pub(crate) mod token;

pub use program::{Program, ScriptError, ScriptFile};
