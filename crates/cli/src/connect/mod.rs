//! `highwater connect`: Spark Connect served by this engine, for programs written for PySpark.
//!
//! ```text
//!   PySpark client ── gRPC ──> grpc ─> service ─> session (views, configuration, rows, executions)
//!                                        │ plan ─> sql ─> text ─> engine: SessionScope (batch)
//!                                        └ streams ─────────────> engine: Pipeline (writeStream)
//! ```
//!
//! Whoever reaches the server can read and write files with its rights: it listens on this machine only, unless clients show
//! a token, and then through TLS. Python functions are never run: what needs them is refused by name.

mod analyze;
mod config;
mod door;
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

pub(crate) use door::Door;
pub(crate) use server::{Server, Settings};
