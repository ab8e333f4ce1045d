//! A connection to a Kafka cluster, and its errors in our words.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataPartition};

use crate::error::{Failure, Result};

/// How long a broker may take to answer the first question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Events looked at for the reason of a failed connection, and how long each may take to come.
const EVENTS: u32 = 4;
const EVENT_WAIT: Duration = Duration::from_millis(50);

/// Where a cluster is, and how its clients are set up.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Cluster {
    /// Brokers to ask first: host:port, several with commas
    #[arg(long, short = 'b', env = "HIGHWATER_BOOTSTRAP", default_value = "127.0.0.1:9092", value_name = "ADDR")]
    pub(crate) bootstrap: String,
    /// A setting of the Kafka client (librdkafka), such as security.protocol=SASL_SSL
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) properties: Vec<(String, String)>,
}

/// `KEY=VALUE` as a pair.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not of the form KEY=VALUE")),
    }
}

/// Keeps what librdkafka says about its connections, for the error that follows; logs it as debug.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    last_error: Mutex<Option<String>>,
}

impl ClientContext for Connection {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if let (false, Ok(mut last)) = (all_down, self.last_error.lock()) {
            *last = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Connection {}

impl Connection {
    /// What the last failed attempt to connect said: `Connection refused`.
    fn reason(&self) -> Option<String> {
        let text = self.last_error.lock().ok()?.clone()?;
        // librdkafka: "host:port/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms ...)"
        let reason = text.rsplit(" failed: ").next().unwrap_or(&text);
        Some(reason.split(" (after ").next().unwrap_or(reason).to_owned())
    }
}

impl Cluster {
    /// Settings every client begins with; `--property` comes last and wins.
    pub(crate) fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "highwater");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }

    /// A consumer that belongs to no group, for questions.
    pub(crate) fn consumer(&self, defaults: &[(&str, &str)]) -> Result<BaseConsumer<Connection>> {
        self.config(defaults).create_with_context(Connection::default()).map_err(|error| self.failure(&error))
    }

    /// What the cluster says about its topics.
    pub(crate) fn metadata(&self, consumer: &BaseConsumer<Connection>) -> Result<Metadata> {
        consumer.client().fetch_metadata(None, ANSWER_TIMEOUT).map_err(|error| {
            // What went wrong with the connection is only told to those who poll.
            for _ in 0..EVENTS {
                let _ = consumer.poll(EVENT_WAIT);
            }
            self.unreachable(consumer.context(), &error)
        })
    }

    /// The partitions of `topic`, or `None` if there is no such topic. Asks for the list, so that asking creates
    /// nothing.
    pub(crate) fn partitions(&self, consumer: &BaseConsumer<Connection>, topic: &str) -> Result<Option<Vec<i32>>> {
        let metadata = self.metadata(consumer)?;
        let found = metadata.topics().iter().find(|known| known.name() == topic);
        Ok(found.map(|topic| topic.partitions().iter().map(MetadataPartition::id).collect()))
    }

    /// The partitions of a topic that must be there.
    pub(crate) fn existing_partitions(&self, consumer: &BaseConsumer<Connection>, topic: &str) -> Result<Vec<i32>> {
        self.partitions(consumer, topic)?.ok_or_else(|| self.missing_topic(topic))
    }

    /// The failure of a topic that is not there.
    pub(crate) fn missing_topic(&self, topic: &str) -> Failure {
        Failure::runtime(format!("topic '{topic}' does not exist on {}", self.bootstrap)).help(format!(
            "see 'highwater topic list --bootstrap {0}', or create it: highwater topic create {topic} --bootstrap {0}",
            self.bootstrap
        ))
    }

    fn unreachable(&self, connection: &Connection, error: &KafkaError) -> Failure {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve,
            ) => {
                let reason = connection.reason().map_or_else(String::new, |reason| format!(": {reason}"));
                Failure::runtime(format!("no Kafka broker answers at {}{reason}", self.bootstrap)).help(format!(
                    "start one with 'highwater broker --listen {}', or name another with --bootstrap",
                    self.bootstrap
                ))
            }
            _ => self.failure(error),
        }
    }

    /// Any other error of the client.
    pub(crate) fn failure(&self, error: &KafkaError) -> Failure {
        match error {
            KafkaError::ClientConfig(_, reason, key, value) => {
                Failure::usage(format!("Kafka client property {key}={value} is refused: {reason}"))
                    .help("see librdkafka's CONFIGURATION.md for the properties there are")
            }
            _ => Failure::runtime(format!("Kafka at {}: {}", self.bootstrap, words(error))),
        }
    }
}

/// The error without librdkafka's names around it.
fn words(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_cut_out_of_librdkafkas_sentence() {
        let connection = Connection::default();
        let text = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
        connection.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), text);
        connection.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(connection.reason().as_deref(), Some("Connection refused"));
    }

    #[test]
    fn properties_are_pairs() {
        assert_eq!(key_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(key_value("=b"), Err("'=b' is not of the form KEY=VALUE".to_owned()));
    }
}
