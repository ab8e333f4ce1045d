//! `highwater connect`: Spark Connect served by this engine, for programs written for PySpark.
//!
//! ```text
//!   PySpark client ── gRPC ──> grpc ─> service ─> session (views, configuration, rows, executions)
//!                                        │ plan ─> sql ─> text ─> engine: SessionScope (batch)
//!                                        └ streams ─────────────> engine: Pipeline (writeStream)
//! ```
//!
//! Loopback only: whoever reaches the server can read files with its rights, and there is no token to tell friends from
//! others yet. Python functions are never run: what needs them is refused by name.

mod analyze;
mod config;
mod execute;
mod grpc;
mod operations;
mod problem;
mod server;
mod service;
mod session;
mod show;
mod sql;
mod streams;
mod types;

pub(crate) use server::{Server, Settings};
