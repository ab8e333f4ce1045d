//! What each request needs: one `impl` of [`Guard`] an API, so that a request without one is not
//! served.
//!
//! ```text
//! request ─> guard ─┬─ refused ──────────────────────────────> response
//!                   └─ what is allowed of it ─> handler ─> response + what was denied
//! ```
//!
//! A guard takes out of a request what its client may not do and puts the denial into the response
//! when the handler is done, so that handlers know nothing of rights. Lists that the client did not
//! name (all topics, all groups) are filtered instead: what may not be seen is not there.
//!
//! | request | operation and resource |
//! |---|---|
//! | Produce | write topic; write transactional id |
//! | Fetch | read topic (followers: cluster action) |
//! | ListOffsets, OffsetForLeaderEpoch, Metadata | describe topic; Metadata that creates: create cluster or topic |
//! | OffsetCommit | read group, read topic |
//! | OffsetFetch | describe group, describe topic |
//! | FindCoordinator | describe group or transactional id |
//! | JoinGroup, SyncGroup, Heartbeat, LeaveGroup | read group |
//! | ConsumerGroupHeartbeat | read group; describe each topic it names |
//! | ShareGroupHeartbeat | read group; describe each topic it names |
//! | ShareFetch, ShareAcknowledge, AlterShareGroupOffsets | read group, read topic |
//! | DescribeGroups | describe group |
//! | ConsumerGroupDescribe | describe group, and every topic of its members |
//! | ShareGroupDescribe | describe group, and every topic of its members |
//! | DescribeShareGroupOffsets | describe group, describe topic |
//! | DeleteShareGroupOffsets | delete group, read topic |
//! | ListGroups | describe cluster, or each group that describe group allows |
//! | DeleteGroups | delete group |
//! | OffsetDelete | delete group, read topic |
//! | CreateTopics | create cluster or topic; its configs: describe configs topic |
//! | DeleteTopics, DeleteRecords | delete topic |
//! | CreatePartitions | alter topic |
//! | DescribeConfigs, AlterConfigs, IncrementalAlterConfigs | describe or alter configs of topic, group or cluster |
//! | InitProducerId | write transactional id; without: idempotent write cluster, or write any topic |
//! | AddPartitionsToTxn | write transactional id, write topic |
//! | AddOffsetsToTxn | write transactional id, read group |
//! | TxnOffsetCommit | write transactional id, read group, read topic |
//! | EndTxn | write transactional id |
//! | WriteTxnMarkers | alter or cluster action cluster |
//! | DescribeTransactions, ListTransactions | describe transactional id; topics of it: describe topic |
//! | DescribeProducers | read topic |
//! | DescribeLogDirs, DescribeAcls, DescribeUserScramCredentials | describe cluster |
//! | CreateAcls, DeleteAcls, AlterUserScramCredentials | alter cluster |
//! | DescribeTopicPartitions | describe topic |
//! | ElectLeaders, AlterPartitionReassignments, AlterReplicaLogDirs | alter cluster |
//! | ListPartitionReassignments | describe cluster |
//! | ListConfigResources | describe configs cluster |
//! | DescribeClientQuotas, AlterClientQuotas | describe or alter configs of cluster |
//! | ApiVersions, DescribeCluster, SaslHandshake, SaslAuthenticate | nothing |

mod records;
mod groups;
mod shares;
mod placement;
mod transactions;
mod topics;
mod cluster;

use kafka_protocol::protocol::Request;

use super::authorizer::Access;
pub(crate) use shares::unreadable;

/// What a guard decides.
pub(crate) enum Verdict<R> {
    /// The response to a request that is denied as a whole.
    Refused(R),
    /// The rest goes on; this completes its response.
    Admitted(Finish<R>),
}

type Finish<R> = Box<dyn FnOnce(Access<'_>, &mut R) + Send>;

/// A request whose rights are checked.
pub(crate) trait Guard: Request {
    /// Takes out of the request what its client may not do.
    fn guard(&mut self, access: Access<'_>, version: i16) -> Verdict<Self::Response>;
}

fn admitted<R>(finish: impl FnOnce(Access<'_>, &mut R) + Send + 'static) -> Verdict<R> {
    Verdict::Admitted(Box::new(finish))
}

/// Goes on whole.
fn untouched<R>() -> Verdict<R> {
    admitted(|_, _| {})
}

/// Takes out what is denied.
fn take_out<T>(items: &mut Vec<T>, denied: impl FnMut(&mut T) -> bool) -> Vec<T> {
    items.extract_if(.., denied).collect()
}

// The protocol's codes of the four ways to be denied; the codec has them as no constants.
const TOPIC_DENIED: i16 = 29;
const GROUP_DENIED: i16 = 30;
const CLUSTER_DENIED: i16 = 31;
const TRANSACTION_DENIED: i16 = 53;

/// Requests anybody may make.
macro_rules! free {
    ($($request:ident),* $(,)?) => {$(
        impl Guard for kafka_protocol::messages::$request {
            fn guard(&mut self, _: Access<'_>, _: i16) -> Verdict<Self::Response> {
                untouched()
            }
        }
    )*};
}

free!(SaslHandshakeRequest, SaslAuthenticateRequest);

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::*;

    #[test]
    fn the_codes_are_the_protocols() {
        assert_eq!(TOPIC_DENIED, ResponseError::TopicAuthorizationFailed.code());
        assert_eq!(GROUP_DENIED, ResponseError::GroupAuthorizationFailed.code());
        assert_eq!(CLUSTER_DENIED, ResponseError::ClusterAuthorizationFailed.code());
        assert_eq!(TRANSACTION_DENIED, ResponseError::TransactionalIdAuthorizationFailed.code());
    }
}
