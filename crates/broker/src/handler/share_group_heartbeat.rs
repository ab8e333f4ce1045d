//! ShareGroupHeartbeat: all a member of a share group says of itself, and which partitions it is to read.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::share_group_heartbeat_response::{Assignment as ToldAssignment, TopicPartitions};
use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use uuid::Uuid;

use super::{Context, Peer, blocking, text};
use crate::group::consumer::message::{Assignment, Refused};
use crate::group::share::coordinator::Heartbeat;
use crate::protocol::frame::Frame;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    peer: &Peer,
    frame: &Frame,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    if let Err(refused) = check_size(ctx, &request) {
        return refuse(refused);
    }
    let beat = heard(peer, frame, &request);
    let ctx = Arc::clone(ctx);
    match blocking(move || ctx.groups.share_heartbeat(&ctx.topics, &beat)).await {
        Ok(heard) => ShareGroupHeartbeatResponse::default()
            .with_member_id(Some(request.member_id))
            .with_member_epoch(heard.epoch)
            .with_heartbeat_interval_ms(heard.heartbeat_interval_ms)
            .with_assignment(heard.assignment.map(told)),
        Err(refused) => refuse(refused),
    }
}

/// What members say of themselves is kept.
fn check_size(ctx: &Context, request: &ShareGroupHeartbeatRequest) -> Result<(), Refused> {
    let names: usize = request.subscribed_topic_names.iter().flatten().map(|name| name.len()).sum();
    let size = names + request.member_id.len() + request.rack_id.as_ref().map_or(0, |rack| rack.len());
    let limit = ctx.settings.max_member_metadata_bytes;
    if size <= limit {
        return Ok(());
    }
    let message = format!(
        "the subscription of the member has {size} bytes, expected at most {limit} (max_member_metadata_bytes); \
         subscribe to fewer topics"
    );
    Err(Refused::new(ResponseError::InvalidRequest, message))
}

fn heard(peer: &Peer, frame: &Frame, request: &ShareGroupHeartbeatRequest) -> Heartbeat {
    let topics = request.subscribed_topic_names.as_ref();
    Heartbeat {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        epoch: request.member_epoch,
        rack: request.rack_id.as_ref().map(ToString::to_string),
        topics: topics.map(|names| names.iter().map(|name| name.to_string()).collect()),
        client_id: frame.client_id.clone(),
        client_host: peer.host.clone(),
    }
}

fn told(assignment: Assignment) -> ToldAssignment {
    let told = |(topic, partitions): (Uuid, BTreeSet<i32>)| {
        TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.into_iter().collect())
    };
    ToldAssignment::default().with_topic_partitions(assignment.into_iter().map(told).collect())
}

fn refuse(refused: Refused) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse::default()
        .with_error_code(refused.error.code())
        .with_error_message(Some(text(refused.message)))
        .with_member_id(None)
}
