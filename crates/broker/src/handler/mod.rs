//! One file an API: from a decoded request to its response.
//!
//! ```text
//! frame ─> dispatch ─> handler ─> topics, partitions, groups ─> response ─> frame
//! ```
//!
//! A handler translates between the protocol and the log or the groups, and decides nothing that
//! could be decided there. What goes wrong is an error code in the response, with a message where
//! the protocol has room for one. A handler that blocks on the disk does so off the reactor.
//!
//! Produce alone is answered in two steps, so that requests which follow each other on one
//! connection share an fsync; see `server.rs`.

mod api_versions;
mod metadata;
pub(crate) mod produce;
mod fetch;
mod list_offsets;
mod offset_for_leader_epoch;
mod init_producer_id;
mod add_partitions_to_txn;
mod add_offsets_to_txn;
mod txn_offset_commit;
mod end_txn;
mod write_txn_markers;
mod list_transactions;
mod describe_transactions;
mod describe_producers;
mod find_coordinator;
mod join_group;
mod sync_group;
mod heartbeat;
mod leave_group;
mod offset_commit;
mod offset_fetch;
mod list_groups;
mod describe_groups;
mod delete_groups;
mod offset_delete;
mod create_topics;
mod delete_topics;
mod delete_records;
mod describe_log_dirs;
mod create_partitions;
mod describe_configs;
mod broker_configs;
mod incremental_alter_configs;
mod alter_configs;
mod describe_cluster;
mod alter_client_quotas;
mod describe_client_quotas;
mod describe_topic_partitions;
mod elect_leaders;
mod alter_partition_reassignments;
mod list_partition_reassignments;
mod alter_replica_log_dirs;
mod list_config_resources;

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::budget::{Budget, Charge};
use crate::clock::Clock;
use crate::fetch_session::SessionCache;
use crate::group::service::Groups;
use crate::identity::Identity;
use crate::log::partition::Isolation;
use crate::log::topics::{Topic, Topics};
use crate::protocol::frame::{AnswerTo, Frame, FrameError};
use crate::quota::service::{Client, Quotas};
use crate::settings::{BrokerSettings, Sabotage};
use crate::txn::service::Transactions;

/// The id of the only node.
pub(crate) const NODE_ID: BrokerId = BrokerId(0);
const READ_COMMITTED: i8 = 1;
/// What a list of authorised operations says when it was not asked for, or cannot be told.
const NO_OPERATIONS: i32 = i32::MIN;
/// The user of a connection that has not said who it is.
const ANONYMOUS: &str = "ANONYMOUS";

/// Everything a handler may use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Arc<BrokerSettings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) fetch_sessions: Mutex<SessionCache>,
    pub(crate) quotas: Quotas,
    pub(crate) request_memory: Arc<Budget>,
    pub(crate) fetch_memory: Arc<Budget>,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) host: String,
}

impl Peer {
    /// Who its requests count for.
    pub(crate) fn quota_client<'a>(&'a self, client_id: &'a str) -> Client<'a> {
        Client { user: ANONYMOUS, id: client_id }
    }
}

/// An answer, and what goes with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) frame: Bytes,
    /// The connection is not read before this time of the monotonic clock; 0 if it may be.
    pub(crate) muted_until_ms: i64,
    /// Held until the answer is with the system's socket.
    pub(crate) _memory: Option<Charge>,
}

/// Answers any request but Produce.
pub(crate) async fn dispatch(ctx: &Arc<Context>, peer: &Peer, frame: Frame) -> Result<Answer, FrameError> {
    if frame.key == ApiKey::Fetch {
        return fetch::answer(ctx, peer, &frame).await;
    }
    let frame = answer(ctx, peer, frame).await?;
    Ok(Answer { frame, muted_until_ms: 0, _memory: None })
}

async fn answer(ctx: &Arc<Context>, peer: &Peer, frame: Frame) -> Result<Bytes, FrameError> {
    let to = AnswerTo { key: frame.key, version: frame.version, correlation_id: frame.correlation_id };
    match frame.key {
        ApiKey::ApiVersions => to.encode(&api_versions::handle(&frame)),
        ApiKey::Metadata => to.encode(&metadata::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::ListOffsets => to.encode(&list_offsets::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::OffsetForLeaderEpoch => to.encode(&offset_for_leader_epoch::handle(ctx, frame.decode()?)),
        ApiKey::InitProducerId => to.encode(&init_producer_id::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::AddPartitionsToTxn => {
            to.encode(&add_partitions_to_txn::handle(ctx, frame.decode()?, frame.version).await)
        }
        ApiKey::AddOffsetsToTxn => to.encode(&add_offsets_to_txn::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::TxnOffsetCommit => to.encode(&txn_offset_commit::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::EndTxn => to.encode(&end_txn::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::WriteTxnMarkers => to.encode(&write_txn_markers::handle(ctx, frame.decode()?).await),
        ApiKey::ListTransactions => to.encode(&list_transactions::handle(ctx, &frame.decode()?)),
        ApiKey::DescribeTransactions => to.encode(&describe_transactions::handle(ctx, frame.decode()?)),
        ApiKey::DescribeProducers => to.encode(&describe_producers::handle(ctx, frame.decode()?)),
        ApiKey::FindCoordinator => to.encode(&find_coordinator::handle(ctx, frame.decode()?, frame.version)),
        ApiKey::JoinGroup => to.encode(&join_group::handle(ctx, peer, &frame, frame.decode()?).await),
        ApiKey::SyncGroup => to.encode(&sync_group::handle(ctx, frame.decode()?).await),
        ApiKey::Heartbeat => to.encode(&heartbeat::handle(ctx, &frame.decode()?)),
        ApiKey::LeaveGroup => to.encode(&leave_group::handle(ctx, frame.decode()?, frame.version)),
        ApiKey::OffsetCommit => to.encode(&offset_commit::handle(ctx, frame.decode()?).await),
        ApiKey::OffsetFetch => to.encode(&offset_fetch::handle(ctx, frame.decode()?, frame.version)),
        ApiKey::ListGroups => to.encode(&list_groups::handle(ctx, &frame.decode()?)),
        ApiKey::DescribeGroups => to.encode(&describe_groups::handle(ctx, frame.decode()?, frame.version)),
        ApiKey::DeleteGroups => to.encode(&delete_groups::handle(ctx, frame.decode()?).await),
        ApiKey::OffsetDelete => to.encode(&offset_delete::handle(ctx, frame.decode()?).await),
        ApiKey::CreateTopics => to.encode(&create_topics::handle(ctx, frame.decode()?).await),
        ApiKey::DeleteTopics => to.encode(&delete_topics::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::DeleteRecords => to.encode(&delete_records::handle(ctx, frame.decode()?).await),
        ApiKey::DescribeLogDirs => to.encode(&describe_log_dirs::handle(ctx, frame.decode()?)),
        ApiKey::CreatePartitions => to.encode(&create_partitions::handle(ctx, frame.decode()?).await),
        ApiKey::DescribeConfigs => to.encode(&describe_configs::handle(ctx, frame.decode()?)),
        ApiKey::AlterConfigs => to.encode(&alter_configs::handle(ctx, frame.decode()?).await),
        ApiKey::IncrementalAlterConfigs => to.encode(&incremental_alter_configs::handle(ctx, frame.decode()?).await),
        ApiKey::DescribeCluster => to.encode(&describe_cluster::handle(ctx, &frame.decode()?)),
        ApiKey::AlterClientQuotas => to.encode(&alter_client_quotas::handle(ctx, frame.decode()?).await),
        ApiKey::DescribeClientQuotas => to.encode(&describe_client_quotas::handle(ctx, &frame.decode()?)),
        ApiKey::DescribeTopicPartitions => to.encode(&describe_topic_partitions::handle(ctx, &frame.decode()?)),
        ApiKey::ElectLeaders => to.encode(&elect_leaders::handle(ctx, frame.decode()?)),
        ApiKey::AlterPartitionReassignments => to.encode(&alter_partition_reassignments::handle(ctx, frame.decode()?)),
        ApiKey::ListPartitionReassignments => to.encode(&list_partition_reassignments::handle(&frame.decode()?)),
        ApiKey::AlterReplicaLogDirs => to.encode(&alter_replica_log_dirs::handle(ctx, frame.decode()?)),
        ApiKey::ListConfigResources => to.encode(&list_config_resources::handle(ctx, &frame.decode()?, frame.version)),
        key => Err(FrameError::Version { key, version: frame.version }),
    }
}

/// Runs what blocks on the disk off the reactor.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The first of each that is named more than once. An answer can be thousands of times larger than the name it is to, so
/// none is given twice: Kafka's clients put answers into maps and do not notice.
fn once<T, K: Eq + Hash>(asked: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::with_capacity(asked.len());
    asked.into_iter().filter(|one| seen.insert(key(one))).collect()
}

/// A result as the protocol's code: 0 is none.
fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

/// A producer that was replaced, in the words of versions before `since`.
fn fenced_before(since: i16, version: i16, error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if version < since => ResponseError::InvalidProducerEpoch,
        error => error,
    }
}

/// Bytes of a request that are to be kept: a copy, because a part of a frame keeps all of it in memory.
fn kept(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A single node has one leader epoch; a client that knows a newer one knows another cluster.
fn check_leader_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > crate::log::batch::LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}

impl Context {
    /// Until when a connection that is throttled for so long is not read; 0 if it is not throttled. Not longer than it
    /// could be idle: the rest of the time is told to its next request.
    pub(crate) fn muted_until_ms(&self, throttle_ms: i64) -> i64 {
        let longest = i64::try_from(self.settings.idle_connection_timeout_ms).unwrap_or(i64::MAX);
        if throttle_ms > 0 { self.clock.monotonic_ms().saturating_add(throttle_ms.min(longest)) } else { 0 }
    }

    /// What a request with this isolation level wants to see.
    fn isolation(&self, level: i8) -> Isolation {
        let ignored = self.settings.sabotage.contains(&Sabotage::NoIsolation);
        if level == READ_COMMITTED && !ignored { Isolation::Committed } else { Isolation::Uncommitted }
    }

    /// A topic by name, or by id in requests that name it so.
    fn topic(&self, name: &str, id: Uuid) -> Result<Arc<Topic>, ResponseError> {
        if id.is_nil() {
            self.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition)
        } else {
            self.topics.by_id(id).ok_or(ResponseError::UnknownTopicId)
        }
    }
}
