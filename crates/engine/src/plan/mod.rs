//! From SQL text to a streaming plan.

pub mod catalog;
