//! ConsumerGroupHeartbeat: all a member of the consumer protocol says, and what it is to read.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment as ToldAssignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use uuid::Uuid;

use super::{Context, Peer, blocking, text};
use crate::group::consumer::message::{Assignment, Heartbeat, JOIN, Refused};
use crate::group::consumer::subscription::Reader;
use crate::protocol::frame::Frame;
use crate::security::acl::{Operation, ResourceType};
use crate::security::authorizer::Access;

/// First version whose clients choose their ids themselves.
const OWN_IDS_SINCE: i16 = 1;
/// A rebalance timeout that has not changed.
const UNCHANGED: i32 = -1;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    peer: &Peer,
    frame: &Frame,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    if let Err(refused) = check_size(ctx, &request) {
        return refuse(refused);
    }
    let beat = Heartbeat { reader: reader(ctx, peer), ..heard(peer, frame, request) };
    let ctx = Arc::clone(ctx);
    match blocking(move || ctx.groups.consumer_heartbeat(&ctx.topics, &beat)).await {
        Ok(heard) => ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(heard.member)))
            .with_member_epoch(heard.epoch)
            .with_heartbeat_interval_ms(heard.heartbeat_interval_ms)
            .with_assignment(heard.assignment.map(told)),
        Err(refused) => refuse(refused),
    }
}

/// Who asks, for as long as the broker runs: topics are looked up again when there are others.
fn reader(ctx: &Arc<Context>, peer: &Peer) -> Option<Reader> {
    ctx.authorizer.as_ref()?;
    let name = format!("{}@{}", peer.principal, peer.address());
    // The groups are a part of the context: they must not keep it.
    let (ctx, peer) = (Arc::downgrade(ctx), peer.clone());
    let may_see = move |topic: &str| {
        let Some(ctx) = ctx.upgrade() else { return false };
        Access::new(&ctx, &peer).can_quietly(Operation::Describe, ResourceType::Topic, topic)
    };
    Some(Reader { name, may_see: Arc::new(may_see) })
}

/// What members say of themselves is kept.
fn check_size(ctx: &Context, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refused> {
    let names: usize = request.subscribed_topic_names.iter().flatten().map(|name| name.len()).sum();
    let texts = [&request.instance_id, &request.rack_id, &request.subscribed_topic_regex];
    let size = names + request.member_id.len() + texts.into_iter().flatten().map(|text| text.len()).sum::<usize>();
    let limit = ctx.settings.max_member_metadata_bytes;
    if size > limit {
        let message = format!(
            "the subscription of the member has {size} bytes, expected at most {limit} (max_member_metadata_bytes); \
             subscribe to fewer topics, or by a regular expression"
        );
        return Err(Refused::new(ResponseError::InvalidRequest, message));
    }
    Ok(())
}

fn heard(peer: &Peer, frame: &Frame, request: ConsumerGroupHeartbeatRequest) -> Heartbeat {
    let needs_id = frame.version < OWN_IDS_SINCE && request.member_id.is_empty() && request.member_epoch == JOIN;
    let member = if needs_id { Uuid::new_v4().to_string() } else { request.member_id.to_string() };
    let topics = request.subscribed_topic_names.map(|names| names.iter().map(|name| name.to_string()).collect());
    let owned = request.topic_partitions.map(|topics| {
        let mut owned = Assignment::new();
        for topic in topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
            owned.entry(topic.topic_id).or_default().extend(topic.partitions);
        }
        owned
    });
    Heartbeat {
        group: request.group_id.to_string(),
        member,
        epoch: request.member_epoch,
        instance: request.instance_id.map(|id| id.to_string()),
        rack: request.rack_id.map(|rack| rack.to_string()),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|timeout_ms| *timeout_ms != UNCHANGED),
        topics,
        regex: request.subscribed_topic_regex.map(|regex| regex.to_string()),
        assignor: request.server_assignor.map(|assignor| assignor.to_string()),
        owned,
        client_id: frame.client_id.clone(),
        client_host: peer.host.clone(),
        reader: None,
    }
}

fn told(assignment: Assignment) -> ToldAssignment {
    let told = |(topic, partitions): (Uuid, BTreeSet<i32>)| {
        TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.into_iter().collect())
    };
    ToldAssignment::default().with_topic_partitions(assignment.into_iter().map(told).collect())
}

fn refuse(refused: Refused) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(refused.error.code())
        .with_error_message(Some(text(refused.message)))
        .with_member_id(None)
}
