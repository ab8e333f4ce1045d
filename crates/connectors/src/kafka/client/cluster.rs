//! The cluster as a client sees it: who leads which partition, which offsets there are, and connections to ask.
//!
//! Every call tries again after a pause while the trouble is one that passes (a leader moved, a broker restarts), up
//! to a limit; then the last error comes out. Shared by all readers of a table; nothing is held while a call waits
//! for a broker.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_engine::clock::Clock;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::{ApiKey, BrokerId, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::{Connection, ConnectionSettings};
use super::error::{ClientError, ClientResult};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition by its parts.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is the cluster's own (`__consumer_offsets`).
    pub internal: bool,
    /// Its partitions in order, each with the node that leads it, if one does.
    pub partitions: Vec<PartitionMetadata>,
}

/// A partition as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number.
    pub partition: i32,
    /// The node that leads it, none during an election.
    pub leader: Option<i32>,
    /// The nodes that have a copy.
    pub replicas: Vec<i32>,
    /// Those of them that are up to date.
    pub in_sync: Vec<i32>,
}

/// Which position to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first record that is still there.
    Earliest,
    /// Behind the last record (with `read_committed`: behind the last that is decided).
    Latest,
    /// The first record with this timestamp in milliseconds or a later one.
    AtTimestamp(i64),
}

/// How long to try, and what may be read.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `host:port` of some brokers.
    pub bootstrap: Vec<String>,
    /// For each connection.
    pub connection: ConnectionSettings,
    /// Read only what transactions have committed.
    pub read_committed: bool,
    /// How long a call keeps trying.
    pub retry_limit: Duration,
    /// The pause before the first new try; it doubles up to a second.
    pub retry_backoff: Duration,
    /// How often topics and offsets are asked for again, instead of a time limit.
    pub lookup_retries: Option<u32>,
    /// The pause between those tries, which then stays the same.
    pub lookup_interval: Option<Duration>,
    /// The most a broker may send in one answer for one partition.
    pub fetch_max_bytes: i32,
    /// How long a broker may wait for records before it sends an empty answer.
    pub fetch_max_wait: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            connection: ConnectionSettings::default(),
            read_committed: true,
            retry_limit: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            lookup_retries: None,
            lookup_interval: None,
            fetch_max_bytes: 2 << 20,
            fetch_max_wait: Duration::from_millis(500),
        }
    }
}

/// A client of one cluster. Cheap to clone: clones share connections and what is known of the cluster.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ClientSettings,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
}

/// What the last look at the cluster showed.
#[derive(Default)]
struct Known {
    brokers: HashMap<i32, String>,
    leaders: HashMap<TopicPartition, i32>,
}

const METADATA_MAX_VERSION: i16 = 9;
const LIST_OFFSETS_MAX_VERSION: i16 = 7;
const MAX_IDLE_CONNECTIONS: usize = 16;
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// After how many failures of one call in a row the user is told.
const TOLD_AFTER: u32 = 2;

impl Client {
    /// A client that has asked nothing yet.
    pub fn new(settings: ClientSettings, clock: Arc<dyn Clock>) -> Self {
        let (known, idle) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { settings, clock, known, idle }) }
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &ClientSettings {
        &self.shared.settings
    }

    /// The clock pauses are measured by.
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// Looks at the cluster once, without a second try: is anybody there?
    pub fn check(&self) -> ClientResult<()> {
        self.forget();
        self.metadata_once(Some(&[])).map(drop)
    }

    /// Whether the cluster's brokers know a request.
    pub fn supports(&self, apis: &[ApiKey]) -> ClientResult<bool> {
        self.retrying(|| {
            let connection = self.any_connection()?;
            let all = apis.iter().all(|api| connection.supports(*api));
            self.give_back(connection);
            Ok(all)
        })
    }

    /// All topics of the cluster.
    pub fn all_topics(&self) -> ClientResult<Vec<TopicMetadata>> {
        self.looking_up(|| {
            let response = self.metadata_once(None)?;
            Ok(response.topics.iter().filter(|topic| topic.error_code == 0).filter_map(topic_metadata).collect())
        })
    }

    /// These topics; one that does not exist is left out. Asks again while one is being made or elected.
    pub fn topics(&self, names: &[Arc<str>]) -> ClientResult<Vec<TopicMetadata>> {
        self.looking_up(|| {
            let response = self.metadata_once(Some(names))?;
            let mut found = Vec::with_capacity(names.len());
            for topic in &response.topics {
                match ResponseError::try_from_code(topic.error_code) {
                    None => found.extend(topic_metadata(topic)),
                    Some(ResponseError::UnknownTopicOrPartition) => {}
                    Some(code) => {
                        let name = topic.name.as_ref().map_or("?", |name| name.0.as_str());
                        return Err(ClientError::Refused { what: format!("to describe topic '{name}'"), code });
                    }
                }
            }
            Ok(found)
        })
    }

    /// One position of each partition; none where a partition has no record at or after the timestamp asked for.
    pub fn offsets(
        &self,
        wanted: &[(TopicPartition, Position)],
    ) -> ClientResult<BTreeMap<TopicPartition, Option<i64>>> {
        let mut found = BTreeMap::new();
        self.looking_up(|| {
            let missing: Vec<_> = wanted.iter().filter(|(partition, _)| !found.contains_key(partition)).collect();
            for (leader, wanted) in self.by_leader(&missing)? {
                self.offsets_of_leader(leader, &wanted, &mut found)?;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The same position of many partitions, where each has one.
    pub fn positions(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        position: Position,
    ) -> ClientResult<BTreeMap<TopicPartition, i64>> {
        let wanted: Vec<_> = partitions.into_iter().map(|partition| (partition, position)).collect();
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = self.offsets(&wanted)?;
        Ok(found.into_iter().filter_map(|(partition, offset)| Some((partition, offset?))).collect())
    }

    /// Runs `call` until it succeeds, fails for good, or the retry limit has passed.
    pub fn retrying<T>(&self, call: impl FnMut() -> ClientResult<T>) -> ClientResult<T> {
        self.retry(Retry::new(self), call)
    }

    /// The same for a look at topics or offsets, which has limits of its own.
    fn looking_up<T>(&self, call: impl FnMut() -> ClientResult<T>) -> ClientResult<T> {
        self.retry(Retry::of_lookup(self), call)
    }

    fn retry<T>(&self, mut retry: Retry, mut call: impl FnMut() -> ClientResult<T>) -> ClientResult<T> {
        loop {
            match call() {
                Err(error) => retry.pause(self, error)?,
                done => {
                    retry.succeeded();
                    return done;
                }
            }
        }
    }

    /// A connection to the leader of a partition.
    pub fn leader_connection(&self, partition: &TopicPartition) -> ClientResult<Connection> {
        if let Some(leader) = self.known_leader(partition) {
            return self.node_connection(leader);
        }
        self.metadata_once(Some(std::slice::from_ref(&partition.topic)))?;
        match self.known_leader(partition) {
            Some(leader) => self.node_connection(leader),
            None => Err(ClientError::Refused {
                what: format!("a connection to the leader of {partition}"),
                code: ResponseError::LeaderNotAvailable,
            }),
        }
    }

    /// Puts a connection into the pool, if it is fit for another caller.
    pub fn give_back(&self, connection: Connection) {
        if !connection.is_idle() {
            return;
        }
        let mut idle = lock(&self.shared.idle);
        let pool = idle.entry(connection.address().to_owned()).or_default();
        if pool.len() < MAX_IDLE_CONNECTIONS {
            pool.push(connection);
        }
    }

    /// Forgets who leads what, and the connections that may be dead.
    pub fn forget(&self) {
        lock(&self.shared.known).leaders.clear();
        lock(&self.shared.idle).clear();
    }

    /// A connection to a broker by its address.
    pub fn connection(&self, address: &str) -> ClientResult<Connection> {
        let idle = lock(&self.shared.idle).get_mut(address).and_then(Vec::pop);
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(address, &self.shared.settings.connection),
        }
    }

    /// Sends one request to any broker.
    pub fn call_any<R: Request>(&self, request: &R, max_version: i16) -> ClientResult<R::Response> {
        let mut connection = self.any_connection()?;
        let response = connection.call(request, max_version)?;
        self.give_back(connection);
        Ok(response)
    }

    /// Sends one request to the broker that manages topics.
    pub fn call_controller<R: Request>(&self, request: &R, max_version: i16) -> ClientResult<R::Response> {
        let controller = self.metadata_once(Some(&[]))?.controller_id.0;
        let mut connection = if controller >= 0 { self.node_connection(controller)? } else { self.any_connection()? };
        let response = connection.call(request, max_version)?;
        self.give_back(connection);
        Ok(response)
    }

    fn any_connection(&self) -> ClientResult<Connection> {
        let known: Vec<String> = lock(&self.shared.known).brokers.values().cloned().collect();
        let mut last = None;
        for address in self.shared.settings.bootstrap.iter().chain(&known) {
            match self.connection(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(last.unwrap_or(error)),
            }
        }
        match last {
            Some(ClientError::Unreachable { source, .. }) => {
                let address = self.shared.settings.bootstrap.join(",");
                Err(ClientError::Unreachable { address, source })
            }
            Some(other) => Err(other),
            None => Err(ClientError::Setting("option 'kafka.bootstrap.servers' names no broker".to_owned())),
        }
    }

    fn node_connection(&self, node: i32) -> ClientResult<Connection> {
        let address = lock(&self.shared.known).brokers.get(&node).cloned();
        match address {
            Some(address) => self.connection(&address),
            None => Err(ClientError::Refused {
                what: format!("a connection to node {node}"),
                code: ResponseError::LeaderNotAvailable,
            }),
        }
    }

    fn known_leader(&self, partition: &TopicPartition) -> Option<i32> {
        lock(&self.shared.known).leaders.get(partition).copied()
    }

    /// Asks for topics (all with `None`, the brokers only with an empty list) and remembers who leads them.
    fn metadata_once(&self, names: Option<&[Arc<str>]>) -> ClientResult<MetadataResponse> {
        let topic = |name: &Arc<str>| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(names.map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(false);
        let response = self.call_any(&request, METADATA_MAX_VERSION)?;
        let mut known = lock(&self.shared.known);
        known.brokers = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, format!("{}:{}", broker.host.as_str(), broker.port)))
            .collect();
        for topic in response.topics.iter().filter_map(topic_metadata) {
            for partition in &topic.partitions {
                let key = TopicPartition { topic: topic.name.clone(), partition: partition.partition };
                match partition.leader {
                    Some(leader) => known.leaders.insert(key, leader),
                    None => known.leaders.remove(&key),
                };
            }
        }
        Ok(response)
    }

    /// Sorts partitions by the node to ask.
    fn by_leader<'a>(
        &self,
        wanted: &[&'a (TopicPartition, Position)],
    ) -> ClientResult<BTreeMap<i32, Vec<&'a (TopicPartition, Position)>>> {
        if wanted.iter().any(|(partition, _)| self.known_leader(partition).is_none()) {
            let mut names: Vec<Arc<str>> = wanted.iter().map(|(partition, _)| partition.topic.clone()).collect();
            names.dedup();
            self.metadata_once(Some(&names))?;
        }
        let mut sorted: BTreeMap<i32, Vec<_>> = BTreeMap::new();
        for &item in wanted {
            let leader = self.known_leader(&item.0).ok_or_else(|| ClientError::Refused {
                what: format!("offsets of {}", item.0),
                code: ResponseError::LeaderNotAvailable,
            })?;
            sorted.entry(leader).or_default().push(item);
        }
        Ok(sorted)
    }

    fn offsets_of_leader(
        &self,
        leader: i32,
        wanted: &[&(TopicPartition, Position)],
        found: &mut BTreeMap<TopicPartition, Option<i64>>,
    ) -> ClientResult<()> {
        let mut topics: BTreeMap<&Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (partition, position) in wanted {
            let timestamp = match position {
                Position::Earliest => -2,
                Position::Latest => -1,
                Position::AtTimestamp(timestamp) => *timestamp,
            };
            topics.entry(&partition.topic).or_default().push(
                ListOffsetsPartition::default()
                    .with_partition_index(partition.partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(timestamp),
            );
        }
        let topic = |(name, partitions): (&Arc<str>, Vec<ListOffsetsPartition>)| {
            ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        };
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(i8::from(self.shared.settings.read_committed))
            .with_topics(topics.into_iter().map(topic).collect());
        let mut connection = self.node_connection(leader)?;
        let response = connection.call(&request, LIST_OFFSETS_MAX_VERSION)?;
        self.give_back(connection);
        for topic in &response.topics {
            for answer in &topic.partitions {
                let partition = TopicPartition::new(topic.name.0.as_str(), answer.partition_index);
                if let Some(code) = ResponseError::try_from_code(answer.error_code) {
                    return Err(ClientError::Refused { what: format!("offsets of {partition}"), code });
                }
                found.insert(partition, (answer.offset >= 0).then_some(answer.offset));
            }
        }
        Ok(())
    }
}

/// Counts the time or the tries that are left for one call.
pub struct Retry {
    deadline_ns: u64,
    backoff: Duration,
    longest_backoff: Duration,
    /// Tries that are left, where they are counted and not the time.
    tries: Option<u32>,
    failures: u32,
}

impl Retry {
    /// Begins to count.
    pub fn new(client: &Client) -> Self {
        let limit = u64::try_from(client.settings().retry_limit.as_nanos()).unwrap_or(u64::MAX);
        let deadline_ns = client.clock().monotonic_ns().saturating_add(limit);
        let backoff = client.settings().retry_backoff;
        Self { deadline_ns, backoff, longest_backoff: LONGEST_BACKOFF, tries: None, failures: 0 }
    }

    fn of_lookup(client: &Client) -> Self {
        let settings = client.settings();
        let retry = Self { tries: settings.lookup_retries, ..Self::new(client) };
        match settings.lookup_interval {
            Some(interval) => Self { backoff: interval, longest_backoff: interval, ..retry },
            None => retry,
        }
    }

    /// Whether there may be another try after a pause; counts it.
    fn may_try_again(&mut self, client: &Client) -> bool {
        if let Some(tries) = &mut self.tries {
            let left = tries.checked_sub(1);
            *tries = left.unwrap_or(0);
            return left.is_some();
        }
        let wait_ns = u64::try_from(self.backoff.as_nanos()).unwrap_or(u64::MAX);
        client.clock().monotonic_ns().saturating_add(wait_ns) <= self.deadline_ns
    }

    /// Waits before the next try after `error`, or gives it back if there is no point in one. What is known of the
    /// cluster is forgotten: the trouble may be that it changed.
    pub fn pause(&mut self, client: &Client, error: ClientError) -> ClientResult<()> {
        if !error.is_transient() || !self.may_try_again(client) {
            return Err(error);
        }
        self.failures += 1;
        // The first failure may be a connection that was closed while it was idle; the next one is news.
        if self.failures == TOLD_AFTER && error.is_outage() {
            let limit_s = client.settings().retry_limit.as_secs();
            tracing::warn!("{error}; trying again for up to {limit_s} s");
        } else {
            tracing::debug!(%error, backoff_ms = self.backoff.as_millis(), "Kafka call failed, trying again");
        }
        client.forget();
        client.clock().sleep(self.backoff);
        self.backoff = (self.backoff * 2).min(self.longest_backoff);
        Ok(())
    }

    /// Tells whoever was told of an outage that it is over.
    pub fn succeeded(&self) {
        if self.failures >= TOLD_AFTER {
            tracing::info!("Kafka answers again");
        }
    }
}

/// A topic's name in the form the protocol crate wants.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn topic_metadata(topic: &MetadataResponseTopic) -> Option<TopicMetadata> {
    let name: Arc<str> = topic.name.as_ref()?.0.as_str().into();
    let node_ids = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect();
    let mut partitions: Vec<PartitionMetadata> = topic
        .partitions
        .iter()
        .map(|partition| PartitionMetadata {
            partition: partition.partition_index,
            leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
            replicas: node_ids(&partition.replica_nodes),
            in_sync: node_ids(&partition.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.partition);
    Some(TopicMetadata { name, internal: topic.is_internal, partitions })
}

/// A lock whose holder panicked guards data that is whole: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
