//! A real broker on a port of its own, driven over the wire.
//!
//! Every test starts its own broker in its own directory. Nothing waits for a fixed time: each wait
//! is for an answer, and bounded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod batch;
mod client;
mod records;
mod deletion;
mod placement;
mod restart;
mod topics;
mod configs;
mod compaction;
mod groups;
mod consumer_groups;
mod share_groups;
mod transactions;
mod hostile;
mod versions;
mod kcat;
mod sessions;
mod quotas;
mod limits;
mod fetch;
mod security;

use std::path::Path;

use client::Client;
use highwater_broker::{Broker, BrokerSettings, FsyncMode};
use tempfile::TempDir;

/// Settings for a test: any free port, groups that do not dawdle.
fn settings(dir: &Path) -> BrokerSettings {
    BrokerSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        fsync: FsyncMode::Os,
        group_initial_rebalance_delay_ms: 0,
        ..BrokerSettings::new(dir)
    }
}

/// A broker in a fresh directory, and a client of it.
async fn start() -> (TempDir, Broker, Client) {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut BrokerSettings)) -> (TempDir, Broker, Client) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    change(&mut settings);
    let broker = Broker::start(settings).await.unwrap();
    let client = Client::connect(broker.local_addr()).await;
    (dir, broker, client)
}
