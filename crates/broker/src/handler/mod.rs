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
mod describe_topic_partitions;
mod elect_leaders;
mod alter_partition_reassignments;
mod list_partition_reassignments;
mod alter_replica_log_dirs;
mod list_config_resources;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::clock::Clock;
use crate::group::service::Groups;
use crate::identity::Identity;
use crate::log::partition::Isolation;
use crate::log::topics::{Topic, Topics};
use crate::protocol::frame::{AnswerTo, Frame, FrameError};
use crate::settings::{BrokerSettings, Sabotage};
use crate::txn::service::Transactions;

/// The id of the only node.
pub(crate) const NODE_ID: BrokerId = BrokerId(0);
const READ_COMMITTED: i8 = 1;
/// What a list of authorised operations says when it was not asked for, or cannot be told.
const NO_OPERATIONS: i32 = i32::MIN;

/// Everything a handler may use.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: Arc<BrokerSettings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) host: String,
}

/// Answers any request but Produce.
pub(crate) async fn dispatch(ctx: &Arc<Context>, peer: &Peer, frame: Frame) -> Result<Bytes, FrameError> {
    let to = AnswerTo { key: frame.key, version: frame.version, correlation_id: frame.correlation_id };
    match frame.key {
        ApiKey::ApiVersions => to.encode(&api_versions::handle(&frame)),
        ApiKey::Metadata => to.encode(&metadata::handle(ctx, frame.decode()?, frame.version).await),
        ApiKey::Fetch => to.encode(&fetch::handle(ctx, frame.decode()?, frame.version).await),
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

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A single node has one leader epoch; a client that knows a newer one knows another cluster.
fn check_leader_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > crate::log::batch::LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}

impl Context {
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
