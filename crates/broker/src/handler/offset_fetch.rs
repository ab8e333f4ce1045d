//! OffsetFetch: what groups have committed; from version 8 on for several groups at once.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::{Context, text};
use crate::group::offsets::Committed;

const GROUPS_SINCE: i16 = 8;

/// A topic and the committed offsets of some of its partitions.
type TopicOffsets = (TopicName, Vec<(i32, Committed)>);

pub(super) fn handle(ctx: &Context, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    if version < GROUPS_SINCE {
        let asked = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics = find(ctx, &request.group_id, asked).into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, committed)| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(text(committed.metadata)))
            });
            OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
        });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = request.groups.into_iter().map(|group| {
        let asked = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics = find(ctx, &group.group_id, asked).into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, committed)| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(index)
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(text(committed.metadata)))
            });
            OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics)
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

/// The partitions asked for, or all that have an offset.
fn find(ctx: &Context, group: &str, asked: Option<Vec<(TopicName, Vec<i32>)>>) -> Vec<TopicOffsets> {
    let Some(asked) = asked else { return find_all(ctx, group) };
    let nothing = Committed { offset: -1, leader_epoch: -1, metadata: String::new() };
    let find_topic = |(name, partitions): (TopicName, Vec<i32>)| {
        let get = |index: i32| (index, ctx.groups.offsets().get(group, &name, index).unwrap_or(nothing.clone()));
        let found = partitions.into_iter().map(get).collect();
        (name, found)
    };
    asked.into_iter().map(find_topic).collect()
}

fn find_all(ctx: &Context, group: &str) -> Vec<TopicOffsets> {
    let mut topics: Vec<TopicOffsets> = Vec::new();
    for ((topic, partition), committed) in ctx.groups.offsets().of_group(group) {
        match topics.last_mut() {
            Some((name, partitions)) if **name == *topic => partitions.push((partition, committed)),
            _ => topics.push((TopicName(text(topic)), vec![(partition, committed)])),
        }
    }
    topics
}
