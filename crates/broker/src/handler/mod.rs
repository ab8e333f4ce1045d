//! One file an API: from a decoded request to its response.
//!
//! ```text
//! frame ─> dispatch ─> guard ─> handler ─> topics, partitions, groups ─> response ─> frame
//! ```
//!
//! A handler translates between the protocol and the log or the groups, and decides nothing that
//! could be decided there. What goes wrong is an error code in the response, with a message where
//! the protocol has room for one. A handler that blocks on the disk does so off the reactor. Rights
//! are `security/guard`'s: a handler sees only what its client may do.
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
mod altered_configs;
mod incremental_alter_configs;
mod alter_configs;
mod describe_cluster;
mod alter_client_quotas;
mod describe_client_quotas;
mod sasl_handshake;
mod sasl_authenticate;
mod create_acls;
mod describe_acls;
mod delete_acls;
mod alter_user_scram_credentials;
mod describe_user_scram_credentials;
mod describe_topic_partitions;
mod elect_leaders;
mod alter_partition_reassignments;
mod list_partition_reassignments;
mod alter_replica_log_dirs;
mod list_config_resources;
mod consumer_group_heartbeat;
mod consumer_group_describe;
mod share_group_heartbeat;
mod share_group_describe;
mod share_fetch;
mod share_acknowledge;
mod describe_share_group_offsets;
mod alter_share_group_offsets;
mod delete_share_group_offsets;

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, BrokerId, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::budget::{Budget, Charge};
use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::configs::store::Configs;
use crate::fetch_session::SessionCache;
use crate::group::service::Groups;
use crate::identity::Identity;
use crate::log::partition::Isolation;
use crate::log::topics::{Topic, Topics};
use crate::protocol::frame::{AnswerTo, Frame, FrameError};
use crate::protocol::pieces::Pieces;
use crate::quota::service::{Client, Quotas};
use crate::security::authorizer::{Access, Authorizer, LogLimits};
use crate::security::guard::{Guard, Verdict};
use crate::security::principal::Principal;
use crate::security::session::Session;
use crate::security::settings::HostPort;
use crate::security::users::Users;
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
    /// As the broker was started; what can be altered meanwhile is in `configs`.
    pub(crate) settings: Arc<BrokerSettings>,
    pub(crate) configs: Arc<Configs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) fetch_sessions: Mutex<SessionCache>,
    pub(crate) quotas: Quotas,
    pub(crate) request_memory: Arc<Budget>,
    pub(crate) fetch_memory: Arc<Budget>,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) users: Users,
    /// `None` on a broker that asks nobody who they are.
    pub(crate) authorizer: Option<Authorizer>,
    pub(crate) log_limits: LogLimits,
}

/// Who asks, and where.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) host: String,
    pub(crate) principal: Arc<Principal>,
    pub(crate) session: Arc<Session>,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, principal: Arc<Principal>, session: Arc<Session>) -> Self {
        Self { host: format!("/{}", address.to_canonical()), principal, session }
    }

    /// Who its requests count for.
    pub(crate) fn quota_client<'a>(&'a self, client_id: &'a str) -> Client<'a> {
        Client { user: &self.principal.name, id: client_id }
    }

    /// Its address, as access rules name hosts.
    pub(crate) fn address(&self) -> &str {
        self.host.trim_start_matches('/')
    }

    /// Where its listener sends clients.
    fn advertised(&self) -> &HostPort {
        &self.session.endpoint.advertised
    }
}

/// An answer, and what goes with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) frame: Pieces,
    /// The connection is not read before this time of the monotonic clock; 0 if it may be.
    pub(crate) muted_until_ms: i64,
    /// Held until the answer is with the system's socket.
    pub(crate) _memory: Option<Charge>,
}

/// Makes the answer to one request: what its client may not do is taken out before the handler and answered after it.
macro_rules! answer {
    ($asked:ident: $request:ident => $handled:expr) => {{
        let Asked { ctx, peer, frame } = $asked;
        let to = AnswerTo { key: frame.key, version: frame.version, correlation_id: frame.correlation_id };
        let mut $request = frame.decode()?;
        match guard(&mut $request, Access::new(ctx, peer), frame.version) {
            Verdict::Refused(response) => to.encode(&response),
            Verdict::Admitted(finish) => {
                let mut response = $handled;
                finish(Access::new(ctx, peer), &mut response);
                to.encode(&response)
            }
        }
    }};
}

/// A request, and who makes it.
#[derive(Clone, Copy)]
struct Asked<'a> {
    ctx: &'a Arc<Context>,
    peer: &'a Peer,
    frame: &'a Frame,
}

/// Answers any request but Produce.
pub(crate) async fn dispatch(ctx: &Arc<Context>, peer: &Peer, frame: Frame) -> Result<Answer, FrameError> {
    if frame.key == ApiKey::Fetch {
        return fetch::answer(ctx, peer, &frame).await;
    }
    if frame.key == ApiKey::ShareFetch {
        return share_fetch::answer(ctx, peer, &frame).await;
    }
    let frame = answer(Asked { ctx, peer, frame: &frame }).await?;
    Ok(Answer { frame: frame.into(), muted_until_ms: 0, _memory: None })
}

async fn answer(asked: Asked<'_>) -> Result<Bytes, FrameError> {
    let Asked { ctx, peer, frame } = asked;
    let version = frame.version;
    match frame.key {
        ApiKey::ApiVersions => {
            let to = AnswerTo { key: frame.key, version, correlation_id: frame.correlation_id };
            to.encode(&api_versions::handle(frame))
        }
        ApiKey::Metadata => answer!(asked: request => metadata::handle(ctx, peer, request, version).await),
        ApiKey::ListOffsets => answer!(asked: request => list_offsets::handle(ctx, request, version).await),
        ApiKey::OffsetForLeaderEpoch => answer!(asked: request => offset_for_leader_epoch::handle(ctx, request)),
        ApiKey::InitProducerId => answer!(asked: request => init_producer_id::handle(ctx, request, version).await),
        ApiKey::AddPartitionsToTxn => {
            answer!(asked: request => add_partitions_to_txn::handle(ctx, request, version).await)
        }
        ApiKey::AddOffsetsToTxn => answer!(asked: request => add_offsets_to_txn::handle(ctx, request, version).await),
        ApiKey::TxnOffsetCommit => answer!(asked: request => txn_offset_commit::handle(ctx, request, version).await),
        ApiKey::EndTxn => answer!(asked: request => end_txn::handle(ctx, request, version).await),
        ApiKey::WriteTxnMarkers => answer!(asked: request => write_txn_markers::handle(ctx, request).await),
        ApiKey::ListTransactions => answer!(asked: request => list_transactions::handle(ctx, &request)),
        ApiKey::DescribeTransactions => answer!(asked: request => describe_transactions::handle(ctx, request)),
        ApiKey::DescribeProducers => answer!(asked: request => describe_producers::handle(ctx, request)),
        ApiKey::FindCoordinator => answer!(asked: request => find_coordinator::handle(ctx, peer, request, version)),
        ApiKey::JoinGroup => answer!(asked: request => join_group::handle(ctx, peer, frame, request).await),
        ApiKey::SyncGroup => answer!(asked: request => sync_group::handle(ctx, request).await),
        ApiKey::Heartbeat => answer!(asked: request => heartbeat::handle(ctx, &request)),
        ApiKey::LeaveGroup => answer!(asked: request => leave_group::handle(ctx, request, version)),
        ApiKey::OffsetCommit => answer!(asked: request => offset_commit::handle(ctx, request, version).await),
        ApiKey::OffsetFetch => answer!(asked: request => offset_fetch::handle(ctx, request, version)),
        ApiKey::ListGroups => answer!(asked: request => list_groups::handle(ctx, &request)),
        ApiKey::DescribeGroups => answer!(asked: request => describe_groups::handle(ctx, request, version)),
        ApiKey::DeleteGroups => answer!(asked: request => delete_groups::handle(ctx, request).await),
        ApiKey::OffsetDelete => answer!(asked: request => offset_delete::handle(ctx, request).await),
        ApiKey::CreateTopics => answer!(asked: request => create_topics::handle(ctx, request).await),
        ApiKey::DeleteTopics => answer!(asked: request => delete_topics::handle(ctx, request, version).await),
        ApiKey::DeleteRecords => answer!(asked: request => delete_records::handle(ctx, request).await),
        ApiKey::DescribeLogDirs => answer!(asked: request => describe_log_dirs::handle(ctx, request)),
        ApiKey::CreatePartitions => answer!(asked: request => create_partitions::handle(ctx, request).await),
        ApiKey::DescribeConfigs => answer!(asked: request => describe_configs::handle(ctx, request)),
        ApiKey::AlterConfigs => answer!(asked: request => alter_configs::handle(ctx, request).await),
        ApiKey::IncrementalAlterConfigs => {
            answer!(asked: request => incremental_alter_configs::handle(ctx, request).await)
        }
        ApiKey::DescribeCluster => answer!(asked: request => describe_cluster::handle(ctx, peer, &request)),
        ApiKey::ConsumerGroupHeartbeat => {
            answer!(asked: request => consumer_group_heartbeat::handle(ctx, peer, frame, request).await)
        }
        ApiKey::ConsumerGroupDescribe => {
            answer!(asked: request => consumer_group_describe::handle(ctx, request, version))
        }
        _ => answer_to_share_groups(asked).await,
    }
}

/// Answers requests of and about share groups but ShareFetch.
async fn answer_to_share_groups(asked: Asked<'_>) -> Result<Bytes, FrameError> {
    let Asked { ctx, peer, frame } = asked;
    match frame.key {
        ApiKey::ShareGroupHeartbeat => {
            answer!(asked: request => share_group_heartbeat::handle(ctx, peer, frame, request).await)
        }
        ApiKey::ShareGroupDescribe => answer!(asked: request => share_group_describe::handle(ctx, request)),
        ApiKey::ShareAcknowledge => share_acknowledge::answer(ctx, peer, frame).await,
        ApiKey::DescribeShareGroupOffsets => {
            answer!(asked: request => describe_share_group_offsets::handle(ctx, request))
        }
        ApiKey::AlterShareGroupOffsets => {
            answer!(asked: request => alter_share_group_offsets::handle(ctx, request).await)
        }
        ApiKey::DeleteShareGroupOffsets => {
            answer!(asked: request => delete_share_group_offsets::handle(ctx, request).await)
        }
        _ => answer_about_places(asked).await,
    }
}

/// Answers requests about where partitions are, for which one node has one answer.
async fn answer_about_places(asked: Asked<'_>) -> Result<Bytes, FrameError> {
    let Asked { ctx, frame, .. } = asked;
    let version = frame.version;
    match frame.key {
        ApiKey::DescribeTopicPartitions => answer!(asked: request => describe_topic_partitions::handle(ctx, &request)),
        ApiKey::ElectLeaders => answer!(asked: request => elect_leaders::handle(ctx, request)),
        ApiKey::AlterPartitionReassignments => {
            answer!(asked: request => alter_partition_reassignments::handle(ctx, request))
        }
        ApiKey::ListPartitionReassignments => {
            answer!(asked: request => list_partition_reassignments::handle(&request))
        }
        ApiKey::AlterReplicaLogDirs => answer!(asked: request => alter_replica_log_dirs::handle(ctx, request)),
        ApiKey::ListConfigResources => answer!(asked: request => list_config_resources::handle(ctx, &request, version)),
        _ => answer_about_clients(asked).await,
    }
}

/// Answers requests about clients themselves: who they are, what they may do, and how much.
async fn answer_about_clients(asked: Asked<'_>) -> Result<Bytes, FrameError> {
    let Asked { ctx, peer, frame } = asked;
    let version = frame.version;
    match frame.key {
        ApiKey::SaslHandshake => answer!(asked: request => sasl_handshake::handle(ctx, peer, &request, version)),
        ApiKey::SaslAuthenticate => answer!(asked: request => sasl_authenticate::handle(ctx, peer, request).await),
        ApiKey::CreateAcls => answer!(asked: request => create_acls::handle(ctx, request).await),
        ApiKey::DescribeAcls => answer!(asked: request => describe_acls::handle(ctx, &request)),
        ApiKey::DeleteAcls => answer!(asked: request => delete_acls::handle(ctx, request).await),
        ApiKey::AlterUserScramCredentials => {
            answer!(asked: request => alter_user_scram_credentials::handle(ctx, request).await)
        }
        ApiKey::DescribeUserScramCredentials => {
            answer!(asked: request => describe_user_scram_credentials::handle(ctx, &request))
        }
        ApiKey::AlterClientQuotas => answer!(asked: request => alter_client_quotas::handle(ctx, request).await),
        ApiKey::DescribeClientQuotas => answer!(asked: request => describe_client_quotas::handle(ctx, &request)),
        key => Err(FrameError::Version { key, version }),
    }
}

fn guard<R: Guard>(request: &mut R, access: Access<'_>, version: i16) -> Verdict<R::Response> {
    request.guard(access, version)
}

/// Appends what a produce brings, as far as its client may write.
pub(crate) async fn admit_produce(
    ctx: &Arc<Context>,
    peer: &Peer,
    mut request: ProduceRequest,
    version: i16,
) -> produce::Admitted {
    let is_silent = request.acks == 0;
    match guard(&mut request, Access::new(ctx, peer), version) {
        Verdict::Refused(response) => produce::Admitted::refused(response, is_silent),
        Verdict::Admitted(finish) => {
            let mut admitted = produce::admit(ctx, request, version).await;
            let before = admitted.response.responses.len();
            finish(Access::new(ctx, peer), &mut admitted.response);
            admitted.failed |= admitted.response.responses.len() > before;
            admitted
        }
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
