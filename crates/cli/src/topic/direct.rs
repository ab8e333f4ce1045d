//! Questions that librdkafka does not ask: sizes on disk, times of newest records, states of groups, and why a change
//! was refused.
//!
//! Asked over connections of our own, with the properties of the command's client as far as they know them: where a
//! cluster wants more, or a broker is too old to know a question, there is no answer, and what depends on it is shown as
//! absent. Never fails a command.

use std::collections::BTreeMap;

use highwater_connectors::kafka::client::connection::{Connection, ConnectionSettings};
use highwater_connectors::kafka::client::error::ClientError;
use highwater_connectors::kafka::security::Security;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListGroupsRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use rdkafka::metadata::Metadata;

use super::admin::NewTopicSettings;
use super::client::Cluster;

/// "The record with the latest timestamp", which ListOffsets knows from version 7 on (Kafka 3.0).
const LATEST_TIMESTAMP: i64 = -3;
const LATEST_TIMESTAMP_SINCE: i16 = 7;

/// `DescribeConfigs` and its kin call topics so.
const TOPIC: i8 = 2;

/// Connections to the brokers of a cluster.
pub(super) struct Direct {
    brokers: BTreeMap<i32, Connection>,
}

impl Direct {
    /// Connects to every broker in `metadata`; those that cannot be reached are left out.
    pub(super) fn open(cluster: &Cluster, metadata: &Metadata) -> Self {
        let mut settings = ConnectionSettings::default();
        match Security::read("the Kafka client", "", &cluster.properties) {
            Ok(security) => security.apply(&mut settings),
            Err(error) => {
                tracing::debug!(%error, "no connections of our own");
                return Self { brokers: BTreeMap::new() };
            }
        }
        let connect = |broker: &rdkafka::metadata::MetadataBroker| {
            let address = format!("{}:{}", broker.host(), broker.port());
            let opened = Connection::open(&address, &settings).inspect_err(|error| unanswered("a connection", error));
            Some((broker.id(), opened.ok()?))
        };
        Self { brokers: metadata.brokers().iter().filter_map(connect).collect() }
    }

    fn ask<R: Request>(&mut self, broker: i32, request: &R, max_version: i16) -> Option<R::Response> {
        let connection = self.brokers.get_mut(&broker)?;
        match connection.call(request, max_version) {
            Ok(answer) => Some(answer),
            Err(error) => {
                unanswered("a question", &error);
                // Only a refusal leaves the connection as it was; an unsupported request was never sent.
                if !matches!(error, ClientError::Unsupported { .. }) {
                    self.brokers.remove(&broker);
                }
                None
            }
        }
    }

    /// Bytes on the disk of the leader of each partition; `led` is (partition, leader).
    pub(super) fn sizes(&mut self, topic: &str, led: &[(i32, i32)]) -> BTreeMap<i32, i64> {
        let mut sizes = BTreeMap::new();
        for (leader, partitions) in by_leader(led) {
            let asked = DescribableLogDirTopic::default().with_topic(topic_name(topic)).with_partitions(partitions);
            let request = DescribeLogDirsRequest::default().with_topics(Some(vec![asked]));
            let Some(answer) = self.ask(leader, &request, 4) else { continue };
            let folders = answer.results.into_iter().filter(|folder| folder.error_code == 0);
            for partition in folders.flat_map(|folder| folder.topics).flat_map(|topic| topic.partitions) {
                if !partition.is_future_key {
                    sizes.insert(partition.partition_index, partition.partition_size);
                }
            }
        }
        sizes
    }

    /// The timestamp, in milliseconds, of the newest record of each partition that has one.
    pub(super) fn newest(&mut self, topic: &str, led: &[(i32, i32)]) -> BTreeMap<i32, i64> {
        let mut newest = BTreeMap::new();
        for (leader, partitions) in by_leader(led) {
            let asked = |partition: i32| {
                ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(LATEST_TIMESTAMP)
            };
            let asked = partitions.into_iter().map(asked).collect();
            let topics = vec![ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(asked)];
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics);
            let Some(answer) = self.ask(leader, &request, LATEST_TIMESTAMP_SINCE) else { continue };
            for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
                if partition.error_code == 0 && partition.timestamp >= 0 {
                    newest.insert(partition.partition_index, partition.timestamp);
                }
            }
        }
        newest
    }

    /// The states of all groups, by name.
    pub(super) fn group_states(&mut self) -> BTreeMap<String, String> {
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        let mut states = BTreeMap::new();
        for broker in brokers {
            let Some(answer) = self.ask(broker, &ListGroupsRequest::default(), 5) else { continue };
            let known = answer.groups.into_iter().filter(|group| !group.group_state.is_empty());
            states.extend(known.map(|group| (group.group_id.to_string(), group.group_state.to_string())));
        }
        states
    }

    /// Asks once more for the creation of a topic, without creating it, for the words of the refusal.
    pub(super) fn why_not_create(&mut self, topic: &str, settings: &NewTopicSettings) -> Option<String> {
        let configs = settings
            .configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        let asked = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(settings.partitions)
            .with_replication_factor(i16::try_from(settings.replication).unwrap_or(-1))
            .with_configs(configs.collect());
        let request =
            CreateTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(5000).with_validate_only(true);
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        let mut answers = brokers.into_iter().filter_map(|broker| self.ask(broker, &request, 5));
        let words = answers.find_map(|answer| answer.topics.into_iter().find_map(|topic| topic.error_message));
        words.map(|words| words.to_string())
    }

    /// Asks whether a topic could have these settings and no others: the words of a refusal, or `Some(None)` if it
    /// could, or `None` if nobody could be asked.
    pub(super) fn why_not_alter(&mut self, topic: &str, all: &BTreeMap<String, String>) -> Option<Option<String>> {
        let config = |(key, value): (&String, &String)| {
            AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)))
        };
        let asked = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configs(all.iter().map(config).collect());
        let request = AlterConfigsRequest::default().with_resources(vec![asked]).with_validate_only(true);
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        let answer = brokers.into_iter().find_map(|broker| self.ask(broker, &request, 2))?;
        let refused = answer.responses.into_iter().find(|response| response.error_code != 0);
        let words =
            |code: i16| ResponseError::try_from_code(code).map_or_else(|| code.to_string(), |code| code.to_string());
        Some(refused.map(|refused| match refused.error_message {
            Some(message) if !message.is_empty() => message.to_string(),
            _ => words(refused.error_code),
        }))
    }
}

fn unanswered(what: &str, error: &ClientError) {
    tracing::debug!(%error, "{what} was left without an answer");
}

fn by_leader(led: &[(i32, i32)]) -> BTreeMap<i32, Vec<i32>> {
    let mut grouped: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (partition, leader) in led {
        grouped.entry(*leader).or_default().push(*partition);
    }
    grouped
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
