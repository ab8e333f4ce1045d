//! Outside systems as sources and sinks of the engine.
//!
//! ```text
//!   bytes ──format──> rows      kafka, file, delta, rate, memory ──> Source
//!                               postgres, sqlite, delta, file, memory ──> rows as they are, for joins
//!                               kafka, file, delta, sqlite, console, memory, noop ──> Sink
//! ```
//!
//! Each connector is a folder with the same parts: `mod.rs` (its options, checked, and the `Table`), `source.rs`,
//! `sink.rs`. [`registry`] names them all, and the object stores (`object_store`) that checkpoints can be kept in;
//! [`stand_in`] puts tables in memory in the tables' place. Nothing here decides what is replayed.

pub mod format;
pub mod kafka;
pub mod file;
pub mod delta;
pub mod sqlite;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod rate;
pub mod console;
pub mod memory;
pub mod noop;
mod condition;
mod object_store;
pub mod stand_in;
pub mod registry;
#[cfg(test)]
mod contract;
