//! Apache Kafka itself, three brokers with three copies of everything: disturbed, over TLS with passwords, and looked at
//! by the doctor. `make kafka-test` starts the cluster and says where it is; there the tests of examples, pipelines and
//! connectors, which otherwise use the embedded broker, run against it as well.

mod disturbed;
mod doctor;
mod secured;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::MutexGuard;

use serde_json::Value;

use crate::broker::{cluster_address, take_turn};
use crate::program::{eventually, root, run, succeed};

/// The brokers' numbers.
const BROKERS: [i64; 3] = [1, 2, 3];

/// The cluster, while this test has it for itself.
struct Cluster {
    /// The brokers, in the clear.
    address: String,
    folder: PathBuf,
    known: Value,
    _turn: MutexGuard<'static, ()>,
}

/// A test that failed leaves no broker behind that is dead or cut off: the next one would fail for that.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = Command::new(root().join("scripts/kafka-cluster")).arg("heal").arg(&self.folder).status();
        }
    }
}

impl Cluster {
    /// The one the environment names.
    fn take(folder: &Path) -> Self {
        let state = std::env::var_os("HIGHWATER_TEST_CLUSTER").expect("HIGHWATER_TEST_CLUSTER: use make kafka-test");
        let state = PathBuf::from(state);
        let known = std::fs::read_to_string(state.join("cluster.json")).expect("a cluster runs");
        let address = cluster_address().expect("HIGHWATER_TEST_KAFKA: use make kafka-test");
        let turn = take_turn(folder, &address);
        let cluster = Self { address, folder: state, known: serde_json::from_str(&known).expect("JSON"), _turn: turn };
        for topic in ["__consumer_offsets", "__transaction_state"] {
            if !cluster.partitions(folder, topic).is_empty() {
                cluster.wait_until_whole(folder, topic);
            }
        }
        cluster
    }

    /// Does something to a broker.
    fn script(&self, verb: &str, broker: i64) {
        let mut command = Command::new(root().join("scripts/kafka-cluster"));
        let done = command.arg(verb).arg(&self.folder).arg(broker.to_string()).status();
        assert!(done.is_ok_and(|status| status.success()), "kafka-cluster {verb} {broker}");
    }

    /// What is known of the partitions of a topic; nothing while nobody knows.
    fn partitions(&self, folder: &Path, topic: &str) -> Vec<Value> {
        let described = run(folder, &["topic", "describe", topic, "--bootstrap", &self.address, "--output", "json"]);
        let topic: Value = serde_json::from_str(&described.stdout).unwrap_or_default();
        topic["partitions"].as_array().cloned().unwrap_or_default()
    }

    /// The broker that leads the first partition of a topic.
    fn leader(&self, folder: &Path, topic: &str) -> i64 {
        eventually("a leader", || self.partitions(folder, topic).first()?["leader"].as_i64())
    }

    /// Waits until every partition of a topic has all its copies.
    fn wait_until_whole(&self, folder: &Path, topic: &str) {
        eventually("copies that are up to date", || {
            let partitions = self.partitions(folder, topic);
            let whole = |partition: &Value| partition["in_sync"].as_i64() == Some(3);
            (!partitions.is_empty() && partitions.iter().all(whole)).then_some(())
        });
    }

    /// Starts a broker again and waits until it has caught up.
    fn restart(&self, folder: &Path, broker: i64, topics: &[&str]) {
        self.script("restart", broker);
        let own = ["__consumer_offsets", "__transaction_state"];
        topics.iter().chain(&own).for_each(|topic| self.wait_until_whole(folder, topic));
    }

    /// Makes a topic with as many copies as the cluster gives by itself.
    fn create(&self, folder: &Path, topic: &str, partitions: &str) {
        succeed(folder, &["topic", "create", topic, "--bootstrap", &self.address, "--partitions", partitions]);
    }
}
