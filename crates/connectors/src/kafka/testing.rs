//! A broker for tests: the one whose address is in `HIGHWATER_TEST_KAFKA`, or librdkafka's own mock.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::admin::{Admin, NewTopic};

/// A broker that lives as long as the value.
pub(super) struct TestBroker {
    address: String,
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl TestBroker {
    pub(super) fn start() -> Self {
        match std::env::var("HIGHWATER_TEST_KAFKA") {
            Ok(address) => Self { address, mock: None },
            Err(_) => {
                let mock = MockCluster::new(1).unwrap();
                Self { address: mock.bootstrap_servers(), mock: Some(mock) }
            }
        }
    }

    /// Makes a topic; the mock has no request for that.
    pub(super) fn create_topic(&self, topic: &str, partitions: i32) {
        match &self.mock {
            Some(mock) => mock.create_topic(topic, partitions, 1).unwrap(),
            None => {
                let topic = NewTopic { name: topic.to_owned(), partitions: Some(partitions), ..NewTopic::default() };
                Admin::connect(&self.address).unwrap().create_topic(&topic).unwrap();
            }
        }
    }

    /// Whether it can do only part of what brokers do.
    pub(super) fn is_mock(&self) -> bool {
        self.mock.is_some()
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}
