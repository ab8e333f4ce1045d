//! Asks the rules, and says in the log who was denied what.

use std::collections::BTreeSet;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use uuid::Uuid;

use super::acl::{self, CLUSTER, Operation, ResourceType, Rules, Who};
use super::acls::Acls;
use super::principal::Principal;
use crate::handler::{Context, Peer};

/// The rules of a broker that has any.
#[derive(Debug)]
pub(crate) struct Authorizer {
    pub(crate) acls: Acls,
    pub(crate) super_users: BTreeSet<Principal>,
    pub(crate) allow_without_acl: bool,
}

/// What one connection may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) ctx: &'a Context,
    peer: &'a Peer,
}

impl<'a> Access<'a> {
    pub(crate) fn new(ctx: &'a Context, peer: &'a Peer) -> Self {
        Self { ctx, peer }
    }

    /// Whether an operation is allowed. A denial is logged.
    pub(crate) fn can(&self, operation: Operation, resource_type: ResourceType, name: &str) -> bool {
        self.can_quietly(operation, resource_type, name) || {
            self.log(operation, resource_type, name);
            false
        }
    }

    /// Whether an operation is allowed, where a denial is no news: a list that is filtered, or
    /// something that another permission may allow as well.
    pub(crate) fn can_quietly(&self, operation: Operation, resource_type: ResourceType, name: &str) -> bool {
        self.ask(|rules, who| acl::authorize(rules, who, operation, resource_type, name))
    }

    /// Whether an operation is allowed on the cluster. A denial is logged.
    pub(crate) fn can_cluster(&self, operation: Operation) -> bool {
        self.can(operation, ResourceType::Cluster, CLUSTER)
    }

    /// Whether an operation is allowed on some resource of a type.
    pub(crate) fn can_any(&self, operation: Operation, resource_type: ResourceType) -> bool {
        self.ask(|rules, who| acl::authorize_any(rules, who, operation, resource_type))
    }

    /// The operations allowed on a resource, a bit each.
    pub(crate) fn operations(&self, resource_type: ResourceType, name: &str) -> i32 {
        let allowed = supported(resource_type).iter().filter(|op| self.can_quietly(**op, resource_type, name));
        allowed.fold(0, |bits, operation| bits | 1 << operation.code())
    }

    /// The operations allowed on the cluster; none to those who may not describe it.
    pub(crate) fn cluster_operations(&self) -> i32 {
        let may_see = self.can_quietly(Operation::Describe, ResourceType::Cluster, CLUSTER);
        if may_see { self.operations(ResourceType::Cluster, CLUSTER) } else { 0 }
    }

    /// The name of a topic that a request names by name or id; `None` for an id nobody has.
    pub(crate) fn topic_name(&self, name: &TopicName, id: Uuid) -> Option<TopicName> {
        if id.is_nil() {
            return Some(name.clone());
        }
        self.ctx.topics.by_id(id).map(|topic| TopicName(StrBytes::from_string(topic.name.to_string())))
    }

    fn ask(&self, decide: impl FnOnce(Rules<'_>, Who<'_>) -> bool) -> bool {
        let Some(authorizer) = &self.ctx.authorizer else { return true };
        let acls = authorizer.acls.current();
        let rules = Rules {
            acls: &acls,
            super_users: &authorizer.super_users,
            allow_without_acl: authorizer.allow_without_acl,
        };
        decide(rules, Who { principal: &self.peer.principal, host: self.peer.address() })
    }

    fn log(&self, operation: Operation, resource_type: ResourceType, name: &str) {
        let Peer { principal, .. } = self.peer;
        let host = self.peer.address();
        self.ctx.log_limits.denials.log(self.ctx.clock.monotonic_ms(), |more| {
            tracing::warn!(%principal, host, ?operation, ?resource_type, resource = name, more, "denied");
        });
    }
}

/// What can be done to a resource of a type.
fn supported(resource_type: ResourceType) -> &'static [Operation] {
    use Operation::*;
    match resource_type {
        ResourceType::Topic => &[Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs],
        ResourceType::Group => &[Read, Describe, Delete, DescribeConfigs, AlterConfigs],
        ResourceType::Cluster => {
            &[Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe]
        }
        ResourceType::TransactionalId => &[Describe, Write],
    }
}

/// The limits of what strangers can make the log say.
#[derive(Debug)]
pub(crate) struct LogLimits {
    pub(crate) denials: LogLimit,
    pub(crate) failed_authentications: LogLimit,
    pub(crate) closed_connections: LogLimit,
}

impl LogLimits {
    pub(crate) fn new(per_minute: u32) -> Self {
        let limit = || LogLimit::new(per_minute);
        Self { denials: limit(), failed_authentications: limit(), closed_connections: limit() }
    }
}

const MINUTE_MS: i64 = 60_000;

/// So many lines a minute; the first of the next minute says how many were left out.
#[derive(Debug)]
pub(crate) struct LogLimit {
    per_minute: u32,
    state: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    until_ms: i64,
    written: u32,
    left_out: u64,
}

impl LogLimit {
    fn new(per_minute: u32) -> Self {
        Self { per_minute, state: Mutex::new(Window::default()) }
    }

    /// Calls `write` with the number of lines left out before it, unless this one is left out too.
    pub(crate) fn log(&self, now_ms: i64, write: impl FnOnce(u64)) {
        let mut window = self.state.lock();
        if now_ms >= window.until_ms {
            window.until_ms = now_ms.saturating_add(MINUTE_MS);
            window.written = 0;
        }
        if window.written >= self.per_minute {
            window.left_out += 1;
            return;
        }
        window.written += 1;
        let left_out = std::mem::take(&mut window.left_out);
        drop(window);
        write(left_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_counted_and_told_a_minute_later() {
        let limit = LogLimit::new(2);
        let mut told = Vec::new();
        for now_ms in [0, 1, 2, 3, MINUTE_MS - 1, MINUTE_MS, MINUTE_MS + 1, MINUTE_MS + 2] {
            limit.log(now_ms, |left_out| told.push((now_ms, left_out)));
        }
        assert_eq!(told, [(0, 0), (1, 0), (MINUTE_MS, 3), (MINUTE_MS + 1, 0)]);
    }
}
