//! DescribeShareGroupOffsets: where share groups begin in the partitions they read.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, TopicName};
use uuid::Uuid;

use super::{Context, once, text};
use crate::group::share::coordinator::not_found;
use crate::log::batch::LEADER_EPOCH;

/// Where a group begins that has not read a partition.
const NOWHERE: i64 = -1;

pub(super) fn handle(ctx: &Context, request: DescribeShareGroupOffsetsRequest) -> DescribeShareGroupOffsetsResponse {
    let groups = once(request.groups, |group| group.group_id.clone());
    let told = groups.into_iter().map(|group| describe(ctx, group));
    DescribeShareGroupOffsetsResponse::default().with_groups(told.collect())
}

fn describe(ctx: &Context, asked: DescribeShareGroupOffsetsRequestGroup) -> DescribeShareGroupOffsetsResponseGroup {
    let told = DescribeShareGroupOffsetsResponseGroup::default();
    let topics = match asked.topics {
        _ if ctx.groups.look_shares(|shares, _| shares.group(&asked.group_id).is_none()) => {
            let refused = not_found(&asked.group_id);
            return told
                .with_group_id(asked.group_id)
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message)));
        }
        None => all(ctx, &asked.group_id),
        Some(topics) => {
            let topics = once(topics, |topic| topic.topic_name.clone());
            topics.into_iter().map(|topic| of_topic(ctx, &asked.group_id, topic)).collect()
        }
    };
    told.with_group_id(asked.group_id).with_topics(topics)
}

/// All a group reads; topics that are gone have no name to be told by.
fn all(ctx: &Context, group: &str) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
    let mut topics: BTreeMap<Uuid, Vec<DescribeShareGroupOffsetsResponsePartition>> = BTreeMap::new();
    for ((topic, partition), shared) in ctx.groups.shares().store.of_group(group) {
        topics.entry(topic).or_default().push(told(partition, shared.start()));
    }
    let named = topics.into_iter().filter_map(|(id, partitions)| {
        let topic = ctx.topics.by_id(id)?;
        let name = TopicName(text(&*topic.name));
        let told = DescribeShareGroupOffsetsResponseTopic::default();
        Some(told.with_topic_name(name).with_topic_id(id).with_partitions(partitions))
    });
    named.collect()
}

fn of_topic(
    ctx: &Context,
    group: &str,
    asked: DescribeShareGroupOffsetsRequestTopic,
) -> DescribeShareGroupOffsetsResponseTopic {
    let id = ctx.topics.get(&asked.topic_name).map(|topic| topic.id).unwrap_or_default();
    let partitions = once(asked.partitions, |partition| *partition).into_iter().map(|partition| {
        let shared = ctx.groups.shares().store.get(group, (id, partition));
        told(partition, shared.map_or(NOWHERE, |shared| shared.start()))
    });
    let partitions = partitions.collect();
    DescribeShareGroupOffsetsResponseTopic::default()
        .with_topic_name(asked.topic_name)
        .with_topic_id(id)
        .with_partitions(partitions)
}

fn told(partition: i32, start: i64) -> DescribeShareGroupOffsetsResponsePartition {
    DescribeShareGroupOffsetsResponsePartition::default()
        .with_partition_index(partition)
        .with_start_offset(start)
        .with_leader_epoch(LEADER_EPOCH)
}
