//! A broker for tests: the embedded one, or the one whose address is in `HIGHWATER_TEST_KAFKA`.

use std::collections::BTreeMap;

use highwater_broker::{Broker, BrokerSettings};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::admin::{Admin, NewTopic};

/// A broker that lives as long as the value.
pub(crate) struct TestBroker {
    address: String,
    embedded: Option<Embedded>,
}

struct Embedded {
    runtime: Runtime,
    broker: Broker,
    _data_dir: TempDir,
}

impl TestBroker {
    /// The broker of the environment, or a fresh one.
    pub(crate) fn start() -> Self {
        match std::env::var("HIGHWATER_TEST_KAFKA") {
            Ok(address) => Self { address, embedded: None },
            Err(_) => Self::start_embedded(),
        }
    }

    /// A fresh broker.
    pub(crate) fn start_embedded() -> Self {
        let data_dir = TempDir::new().unwrap();
        let settings = BrokerSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            auto_create_topics: false,
            ..BrokerSettings::new(data_dir.path())
        };
        let runtime = Runtime::new().unwrap();
        let broker = runtime.block_on(Broker::start(settings)).unwrap();
        let address = broker.local_addr().to_string();
        Self { address, embedded: Some(Embedded { runtime, broker, _data_dir: data_dir }) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Makes a topic.
    pub(crate) fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_with(topic, partitions, &[]);
    }

    /// Makes a topic with settings of its own.
    pub(crate) fn create_topic_with(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs: BTreeMap<String, String> =
            configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let topic = NewTopic { name: topic.to_owned(), partitions: Some(partitions), configs, ..NewTopic::default() };
        Admin::connect(&self.address).unwrap().create_topic(&topic).unwrap();
    }

    /// Removes what the topics' retention no longer keeps.
    pub(crate) fn enforce_retention(&self) {
        if let Some(Embedded { runtime, broker, .. }) = &self.embedded {
            runtime.block_on(broker.enforce_retention());
        }
    }
}
