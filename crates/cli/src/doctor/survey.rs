//! Asks a cluster for everything the rules want to know.
//!
//! ```text
//!   any broker    Metadata, DescribeConfigs of topics
//!   each broker   ApiVersions, DescribeConfigs of itself, DescribeLogDirs, ListGroups, OffsetFetch of its groups
//!   each leader   ListOffsets twice, a while apart; the oldest record a group has not read
//! ```
//!
//! Everything goes over our own client, which speaks TLS and SASL by the same properties as the other verbs: librdkafka does
//! not ask for sizes on disk, versions and features. A question that is refused is noted in [`Facts::unanswered`]; only a
//! cluster that cannot be reached at all is an error.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_connectors::kafka::client::cluster::{Client, ClientSettings, Position, TopicPartition};
use highwater_connectors::kafka::client::connection::Connection;
use highwater_connectors::kafka::client::error::{ClientError, ClientResult};
use highwater_connectors::kafka::client::fetch::PartitionFetcher;
use highwater_connectors::kafka::options::bootstrap;
use highwater_connectors::kafka::security::Security;
use highwater_connectors::kafka::token;
use highwater_engine::clock::{Clock, SystemClock};
use highwater_engine::error::EngineError;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequest;
use kafka_protocol::messages::{ApiVersionsRequest, GroupId, ListGroupsRequest, MetadataRequest};
use kafka_protocol::protocol::{Request, StrBytes};

use super::facts::{Broker, Configs, Facts, Group, Growth, Lag, Partition, Topic};
use crate::error::Result;
use crate::topic::client::Cluster;

/// A cluster that does not answer for so long is told to the user.
const RETRY: Duration = Duration::from_secs(10);
const FETCH_BYTES: i32 = 1 << 16;
/// Topics whose settings are asked for at once.
const TOPICS_AT_ONCE: usize = 200;

/// `DescribeConfigs` calls its objects so.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What is looked at, and for how long.
pub(crate) struct Scope {
    /// Topics; all if empty.
    pub(crate) topics: Vec<glob::Pattern>,
    /// How long growth is measured.
    pub(crate) measure: Duration,
}

/// Looks at a cluster.
pub(crate) fn survey(cluster: &Cluster, scope: &Scope) -> Result<Facts> {
    let mut settings = ClientSettings {
        bootstrap: bootstrap("Kafka", &cluster.bootstrap)?,
        // Where groups are is compared with all that was written, open transactions too.
        read_committed: false,
        retry_limit: RETRY,
        fetch_max_bytes: FETCH_BYTES,
        ..ClientSettings::default()
    };
    Security::read("the Kafka client", "", &cluster.properties)?.apply(&mut settings.connection);
    let client = Client::new(settings, Arc::new(SystemClock));
    client.check().map_err(EngineError::from)?;
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let metadata = client.retrying(|| client.call_any(&request, 9)).map_err(EngineError::from)?;
    let mut survey = Survey { client, unanswered: Vec::new() };
    let mut facts = Facts {
        address: cluster.bootstrap.clone(),
        controller: Some(metadata.controller_id.0).filter(|id| *id >= 0),
        topics: topics(&metadata, &scope.topics),
        ..Facts::default()
    };
    let mut sizes = BTreeMap::new();
    let mut groups = Vec::new();
    let mut nodes: Vec<(i32, String)> =
        metadata.brokers.iter().map(|node| (node.node_id.0, format!("{}:{}", node.host.as_str(), node.port))).collect();
    nodes.sort();
    let before = survey.ends(&facts);
    let began = Instant::now();
    for (id, address) in &nodes {
        facts.brokers.push(survey.broker(*id, address));
        let sized = survey.sizes(*id, address);
        sizes.extend(sized.into_iter().map(|(partition, size)| ((*id, partition), size)));
        groups.extend(survey.groups(address));
    }
    survey.topic_configs(&mut facts);
    std::thread::sleep(scope.measure.saturating_sub(began.elapsed()));
    let after = survey.ends(&facts);
    let elapsed_s = began.elapsed().as_secs_f64().max(0.001);
    let grown: HashMap<(i32, TopicPartition), i64> = nodes
        .iter()
        .flat_map(|(id, address)| {
            survey.sizes(*id, address).into_iter().map(|(partition, size)| ((*id, partition), size))
        })
        .collect();
    for topic in &mut facts.topics {
        for partition in &mut topic.partitions {
            let key = TopicPartition::new(topic.name.as_str(), partition.id);
            let place = partition.leader.map(|leader| (leader, key.clone()));
            let size = |sizes: &dyn Fn(&(i32, TopicPartition)) -> Option<i64>| place.as_ref().and_then(sizes);
            let first = size(&|place| sizes.get(place).copied());
            partition.size_bytes = size(&|place| grown.get(place).copied()).or(first);
            // What retention removes in between is no growth.
            let per_s = |from: i64, to: i64| to.saturating_sub(from).max(0) as f64 / elapsed_s;
            partition.growth = before.get(&key).zip(after.get(&key)).map(|(from, to)| Growth {
                records_per_s: per_s(*from, *to),
                bytes_per_s: first.zip(partition.size_bytes).map(|(from, to)| per_s(from, to)),
            });
        }
    }
    facts.groups = survey.lags(groups, &after);
    survey.unanswered.dedup();
    facts.unanswered = survey.unanswered;
    Ok(facts)
}

fn topics(metadata: &MetadataResponse, wanted: &[glob::Pattern]) -> Vec<Topic> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|pattern| pattern.matches(name));
    let topic = |topic: &MetadataResponseTopic| {
        let name = topic.name.as_ref()?.0.to_string();
        let ids = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
        let mut partitions: Vec<Partition> = topic
            .partitions
            .iter()
            .map(|partition| Partition {
                id: partition.partition_index,
                leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
                replicas: ids(&partition.replica_nodes),
                in_sync: ids(&partition.isr_nodes),
                ..Partition::default()
            })
            .collect();
        partitions.sort_by_key(|partition| partition.id);
        is_wanted(&name).then_some(Topic { name, internal: topic.is_internal, partitions, ..Topic::default() })
    };
    let mut found: Vec<Topic> = metadata.topics.iter().filter_map(topic).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// A group, and where it stands.
struct Standing {
    name: String,
    state: String,
    committed: Vec<(TopicPartition, i64)>,
}

struct Survey {
    client: Client,
    unanswered: Vec<String>,
}

impl Survey {
    /// The answer of one broker, or a note that there is none.
    fn ask<R: Request>(&mut self, address: &str, what: &str, request: &R, max_version: i16) -> Option<R::Response> {
        let answered = self.client.connection(address).and_then(|mut connection: Connection| {
            let answer = connection.call(request, max_version)?;
            self.client.give_back(connection);
            Ok(answer)
        });
        self.noted(what, answered)
    }

    fn noted<T>(&mut self, what: &str, answered: ClientResult<T>) -> Option<T> {
        answered.map_err(|error| self.unanswered.push(format!("{what}: {error}"))).ok()
    }

    fn refused(&mut self, what: &str, code: i16) -> bool {
        let Some(code) = ResponseError::try_from_code(code) else { return false };
        self.unanswered.push(format!("{what}: {code:?}"));
        true
    }

    fn broker(&mut self, id: i32, address: &str) -> Broker {
        let mut broker = Broker { id, ..Broker::default() };
        let named = StrBytes::from_static_str("highwater");
        let request = ApiVersionsRequest::default()
            .with_client_software_name(named)
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        if let Some(answer) = self.ask(address, &format!("versions of broker {id}"), &request, 3) {
            let range = |api: &kafka_protocol::messages::api_versions_response::ApiVersion| {
                (api.api_key, (api.min_version, api.max_version))
            };
            broker.apis = answer.api_keys.iter().map(range).collect();
            let is_level = |name: &StrBytes| name.as_str() == "metadata.version";
            let newest = answer.supported_features.iter().find(|feature| is_level(&feature.name));
            let in_force = answer.finalized_features.iter().find(|feature| is_level(&feature.name));
            broker.metadata_level =
                in_force.zip(newest).map(|(in_force, newest)| (in_force.max_version_level, newest.max_version));
        }
        let what = format!("settings of broker {id}");
        let asked = configs_of(BROKER, [id.to_string()]);
        broker.configs = self.configs(address, &what, &asked).into_values().next().unwrap_or_default();
        broker
    }

    /// Settings of what is asked for, by name.
    fn configs(&mut self, address: &str, what: &str, request: &DescribeConfigsRequest) -> BTreeMap<String, Configs> {
        let answer = self.ask(address, what, request, 4);
        let mut found = BTreeMap::new();
        for result in answer.into_iter().flat_map(|answer| answer.results) {
            if self.refused(what, result.error_code) {
                continue;
            }
            let configs = result.configs.into_iter();
            let configs = configs.filter_map(|config| Some((config.name.to_string(), config.value?.to_string())));
            found.insert(result.resource_name.to_string(), Configs(configs.collect()));
        }
        found
    }

    fn topic_configs(&mut self, facts: &mut Facts) {
        let Some(address) = self.client.settings().bootstrap.first().cloned() else { return };
        for topics in facts.topics.chunks_mut(TOPICS_AT_ONCE) {
            let request = configs_of(TOPIC, topics.iter().map(|topic| topic.name.clone()));
            let address = self.reachable(&address);
            let mut found = self.configs(&address, "settings of topics", &request);
            for topic in topics {
                topic.configs = found.remove(&topic.name).unwrap_or_default();
            }
        }
    }

    /// An address of the user's that somebody answers at.
    fn reachable(&self, otherwise: &str) -> String {
        let mut all = self.client.settings().bootstrap.iter();
        let found = all.find(|address| {
            self.client.connection(address).map(|connection| self.client.give_back(connection)).is_ok()
        });
        found.map_or_else(|| otherwise.to_owned(), Clone::clone)
    }

    /// Bytes of the partitions on a broker's disks.
    fn sizes(&mut self, id: i32, address: &str) -> Vec<(TopicPartition, i64)> {
        let what = format!("sizes on broker {id}");
        let answer = self.ask(address, &what, &DescribeLogDirsRequest::default().with_topics(None), 4);
        let mut found = Vec::new();
        for folder in answer.into_iter().flat_map(|answer| answer.results) {
            if self.refused(&what, folder.error_code) {
                continue;
            }
            for topic in folder.topics {
                let partitions = topic.partitions.iter().filter(|partition| !partition.is_future_key);
                found.extend(partitions.map(|partition| {
                    (TopicPartition::new(topic.name.0.as_str(), partition.partition_index), partition.partition_size)
                }));
            }
        }
        found
    }

    /// The ends of all partitions that have a leader.
    fn ends(&mut self, facts: &Facts) -> BTreeMap<TopicPartition, i64> {
        let led = facts.topics.iter().flat_map(|topic| {
            let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
            led.map(|partition| TopicPartition::new(topic.name.as_str(), partition.id))
        });
        let led: Vec<TopicPartition> = led.collect();
        let answered = self.client.positions(led, Position::Latest);
        self.noted("ends of partitions", answered).unwrap_or_default()
    }

    /// The groups a broker coordinates, with the offsets they have committed.
    fn groups(&mut self, address: &str) -> Vec<Standing> {
        let Some(answer) = self.ask(address, "groups", &ListGroupsRequest::default(), 5) else { return Vec::new() };
        if self.refused("groups", answer.error_code) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for group in answer.groups {
            // Share groups have no offsets of their own.
            if group.group_type.as_str().eq_ignore_ascii_case("share") {
                continue;
            }
            let name = group.group_id.to_string();
            let what = format!("offsets of group '{name}'");
            let request =
                OffsetFetchRequest::default().with_group_id(GroupId(group.group_id.0.clone())).with_topics(None);
            let Some(answer) = self.ask(address, &what, &request, 7) else { continue };
            if self.refused(&what, answer.error_code) {
                continue;
            }
            let committed = answer.topics.iter().flat_map(|topic| {
                // What Highwater's sinks keep in such groups are numbers of batches, not positions.
                let positions = topic.partitions.iter().filter(|partition| {
                    partition.committed_offset >= 0
                        && partition.metadata.as_ref().is_none_or(|text| text.as_str() != token::METADATA)
                });
                positions.map(|partition| {
                    let key = TopicPartition::new(topic.name.0.as_str(), partition.partition_index);
                    (key, partition.committed_offset)
                })
            });
            let committed: Vec<_> = committed.collect();
            if !committed.is_empty() {
                found.push(Standing { name, state: group.group_state.to_string(), committed });
            }
        }
        found
    }

    /// How far groups are behind the ends that are known.
    fn lags(&mut self, groups: Vec<Standing>, ends: &BTreeMap<TopicPartition, i64>) -> Vec<Group> {
        let mut found = Vec::new();
        for group in groups {
            let mut lags = Vec::new();
            for (partition, offset) in group.committed {
                let Some(end) = ends.get(&partition) else { continue };
                let records = end.saturating_sub(offset).max(0);
                let seconds = if records > 0 { self.age_s(&partition, offset, *end) } else { None };
                lags.push(Lag { topic: partition.topic.to_string(), records, seconds });
            }
            if !lags.is_empty() {
                found.push(Group { name: group.name, state: group.state, lags });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// How long the first record at or behind an offset has been there.
    fn age_s(&mut self, partition: &TopicPartition, offset: i64, end: i64) -> Option<i64> {
        let earliest = self.client.positions([partition.clone()], Position::Earliest).ok()?;
        let from = earliest.get(partition).map_or(offset, |earliest| offset.max(*earliest));
        let mut timestamp_ms = None;
        let mut fetcher = PartitionFetcher::new(self.client.clone(), partition.clone(), from, end);
        let read = fetcher.read(|record| {
            timestamp_ms = Some(record.timestamp);
            Ok::<_, ClientError>(ControlFlow::Break(()))
        });
        self.noted(&format!("the oldest unread record of {partition}"), read)?;
        timestamp_ms.map(|timestamp_ms| SystemClock.now_ms().saturating_sub(timestamp_ms).max(0) / 1000)
    }
}

fn configs_of(kind: i8, names: impl IntoIterator<Item = String>) -> DescribeConfigsRequest {
    let resource = |name: String| {
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name))
            .with_configuration_keys(None)
    };
    DescribeConfigsRequest::default().with_resources(names.into_iter().map(resource).collect())
}
