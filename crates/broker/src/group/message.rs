//! What goes into the coordinator and what comes out of it, in no protocol version's form.

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::member::Protocol;

/// Names a join or sync request that waits for its reply.
pub(crate) type Token = u64;

/// The limits of groups, from the settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) min_session_timeout_ms: i32,
    pub(crate) max_session_timeout_ms: i32,
    pub(crate) initial_rebalance_delay_ms: i32,
    pub(crate) new_member_join_timeout_ms: i32,
    pub(crate) max_groups: usize,
    pub(crate) max_members: usize,
}

/// A request to join.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) group: String,
    /// Empty from a member that has none yet.
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<Protocol>,
    /// The id this member gets if it has none.
    pub(crate) new_member: String,
    /// The client first fetches its id and joins with it in a second request.
    pub(crate) must_know_member: bool,
    /// The client understands that it leads but need not assign.
    pub(crate) can_skip_assignment: bool,
}

/// A member that has joined a generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) member: String,
    pub(crate) skip_assignment: bool,
    /// For the leader: every member (id, instance, subscription).
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

/// A request for the assignment; the leader's brings it.
#[derive(Debug, Clone)]
pub(crate) struct Sync {
    pub(crate) group: String,
    pub(crate) member: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// What a member was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) assignment: Bytes,
}

/// Why a join failed, and the member id to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRefused {
    pub(crate) error: ResponseError,
    pub(crate) member: String,
}

/// The reply to a request that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Joined(Token, Result<Joined, JoinRefused>),
    Synced(Token, Result<Synced, ResponseError>),
}

pub(crate) type Replies = Vec<Reply>;

/// Who says something about a group: a heartbeat, a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) group: &'a str,
    pub(crate) member: &'a str,
    pub(crate) instance: Option<&'a str>,
    pub(crate) generation: i32,
}
