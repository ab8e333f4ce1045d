//! Topics as an administrator sees them: make, delete, list, describe. For the command line, and for the sink, which
//! makes its topic if it is not there.
//!
//! Calls block and go to the controller; they return when the brokers show the change.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_engine::clock::SystemClock;
use highwater_engine::error::{EngineError, Result};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::protocol::StrBytes;

use super::client::cluster::{Client, ClientSettings, Position, TopicMetadata, TopicPartition, topic_name};
use super::client::error::{ClientError, ClientResult};
use super::options::bootstrap;
use super::positions::missing_topic;

const CREATE_TOPICS_MAX_VERSION: i16 = 5;
const DELETE_TOPICS_MAX_VERSION: i16 = 5;
const BROKER_TIMEOUT_MS: i32 = 15_000;

/// A topic to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; the broker's default if none.
    pub partitions: Option<i32>,
    /// How many copies of each; the broker's default if none.
    pub replication: Option<i16>,
    /// Settings by their Kafka names, e.g. `retention.ms`.
    pub configs: BTreeMap<String, String>,
}

/// A topic with the offsets of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Whether it is the cluster's own.
    pub internal: bool,
    /// Its partitions in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition with its offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The node that leads it, none during an election.
    pub leader: Option<i32>,
    /// The nodes that have a copy.
    pub replicas: Vec<i32>,
    /// Those of them that are up to date.
    pub in_sync: Vec<i32>,
    /// The first offset there is, none without a leader.
    pub earliest: Option<i64>,
    /// The offset behind the last, none without a leader.
    pub latest: Option<i64>,
}

/// Topics of one cluster.
#[derive(Clone)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// Reaches a cluster through `servers`, `host:port` separated by commas; fails soon if nobody answers.
    pub fn connect(servers: &str) -> Result<Self> {
        let settings = ClientSettings { bootstrap: bootstrap("Kafka", servers)?, ..ClientSettings::default() };
        let client = Client::new(settings, Arc::new(SystemClock));
        client.check()?;
        Ok(Self { client })
    }

    /// Administers through a client that is there already.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes a topic and waits until it can be used.
    pub fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        let config = |(name, value): (&String, &String)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        };
        let creatable = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions.unwrap_or(-1))
            .with_replication_factor(topic.replication.unwrap_or(-1))
            .with_configs(topic.configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![creatable]).with_timeout_ms(BROKER_TIMEOUT_MS);
        let what = format!("to create topic '{}'", topic.name);
        let answer = self.client.retrying(|| {
            let response = self.client.call_controller(&request, CREATE_TOPICS_MAX_VERSION)?;
            let answers = response.topics.iter();
            let codes =
                answers.map(|answer| (answer.error_code, answer.error_message.as_ref().map(|text| text.as_str())));
            check_codes(&what, codes)
        });
        match answer {
            Ok(()) => Ok(self.wait_until_usable(&topic.name)?),
            Err(error) if error.code() == Some(ResponseError::TopicAlreadyExists) => {
                Err(EngineError::config(format!("Kafka topic '{}' exists already", topic.name))
                    .help(format!("see it: highwater topic describe {}", topic.name)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes topics; one that is not there is an error, the others are deleted nevertheless.
    pub fn delete_topics(&self, names: &[String]) -> Result<()> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(names.iter().map(|name| topic_name(name)).collect())
            .with_timeout_ms(BROKER_TIMEOUT_MS);
        let response = self.client.retrying(|| self.client.call_controller(&request, DELETE_TOPICS_MAX_VERSION))?;
        for answer in &response.responses {
            let name = answer.name.as_ref().map_or("?", |name| name.0.as_str());
            match ResponseError::try_from_code(answer.error_code) {
                None => {}
                Some(ResponseError::UnknownTopicOrPartition) => return Err(missing_topic(&self.client, name)),
                Some(code) => {
                    return Err(ClientError::Refused { what: format!("to delete topic '{name}'"), code }.into());
                }
            }
        }
        Ok(())
    }

    /// All topics by name.
    pub fn list_topics(&self) -> Result<Vec<TopicMetadata>> {
        let mut topics = self.client.all_topics()?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic with its leaders and offsets.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let topics = self.client.topics(&[Arc::from(name)])?;
        let topic = topics.into_iter().next().ok_or_else(|| missing_topic(&self.client, name))?;
        let key = |partition: i32| TopicPartition::new(topic.name.clone(), partition);
        let led = || topic.partitions.iter().filter(|partition| partition.leader.is_some());
        let keys = || led().map(|partition| key(partition.partition));
        let earliest = self.client.positions(keys(), Position::Earliest)?;
        let latest = self.client.positions(keys(), Position::Latest)?;
        let partitions = topic.partitions.iter().map(|partition| PartitionDescription {
            partition: partition.partition,
            leader: partition.leader,
            replicas: partition.replicas.clone(),
            in_sync: partition.in_sync.clone(),
            earliest: earliest.get(&key(partition.partition)).copied(),
            latest: latest.get(&key(partition.partition)).copied(),
        });
        Ok(TopicDescription { name: name.to_owned(), internal: topic.internal, partitions: partitions.collect() })
    }

    /// Makes a topic with the broker's defaults unless it is there.
    pub fn ensure_topic(&self, name: &str) -> Result<()> {
        if !self.client.topics(&[Arc::from(name)])?.is_empty() {
            return Ok(());
        }
        let topic = NewTopic { name: name.to_owned(), ..NewTopic::default() };
        match self.create_topic(&topic) {
            Ok(()) => {
                tracing::info!(topic = name, "created Kafka topic with the broker's defaults");
                Ok(())
            }
            // Somebody else was faster.
            Err(_) if !self.client.topics(&[Arc::from(name)])?.is_empty() => Ok(()),
            Err(error) => {
                Err(EngineError::config(format!("Kafka topic '{name}' does not exist and could not be created"))
                    .caused_by(error)
                    .help(format!("create it: highwater topic create {name}")))
            }
        }
    }

    fn wait_until_usable(&self, name: &str) -> ClientResult<()> {
        self.client.retrying(|| {
            let topics = self.client.topics(&[Arc::from(name)])?;
            let led = |topic: &TopicMetadata| topic.partitions.iter().all(|partition| partition.leader.is_some());
            match topics.first() {
                Some(topic) if led(topic) => Ok(()),
                _ => Err(ClientError::Refused {
                    what: format!("the use of topic '{name}'"),
                    code: ResponseError::LeaderNotAvailable,
                }),
            }
        })
    }
}

/// The first error among answers, with the broker's own words.
fn check_codes<'a>(what: &str, codes: impl Iterator<Item = (i16, Option<&'a str>)>) -> ClientResult<()> {
    for (code, message) in codes {
        if let Some(code) = ResponseError::try_from_code(code) {
            let what = match message {
                Some(message) => format!("{what} ({message})"),
                None => what.to_owned(),
            };
            return Err(ClientError::Refused { what, code });
        }
    }
    Ok(())
}
