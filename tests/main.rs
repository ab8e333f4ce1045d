//! Tests of the whole: the binary as a user runs it, and the rules of the source tree.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its job")]

mod avro;
mod broker;
mod cli;
mod cluster;
mod connect;
mod crash;
mod damage;
mod demo;
mod disk;
mod examples;
mod ledger;
mod log_crash;
mod malformed;
mod nexmark;
mod outage;
mod pipelines;
#[path = "../crates/connectors/src/postgres/server.rs"]
mod postgres_server;
mod program;
mod random;
mod real_time;
mod remote;
mod spark;
mod static_tables;
mod tidy;
