//! OffsetFetch: what groups have committed; from version 8 on for several groups at once.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::{Context, once, text};
use crate::group::offsets::{At, Committed};

const GROUPS_SINCE: i16 = 8;

/// A topic and the committed offsets of some of its partitions, or why they cannot be told.
type TopicOffsets = (TopicName, Vec<(i32, Found)>);

/// `None` where nothing is committed.
type Found = Result<Option<Committed>, ResponseError>;

pub(super) fn handle(ctx: &Context, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    if version < GROUPS_SINCE {
        let asked = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics =
            find(ctx, &request.group_id, asked, request.require_stable).into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, found)| {
                    let (error, committed) = told(found);
                    OffsetFetchResponsePartition::default()
                        .with_error_code(error)
                        .with_partition_index(index)
                        .with_committed_offset(committed.offset)
                        .with_committed_leader_epoch(committed.leader_epoch)
                        .with_metadata(Some(text(committed.metadata)))
                });
                OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
            });
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let groups = once(request.groups, |group| group.group_id.clone()).into_iter().map(|group| {
        let member = group.member_id.as_deref().unwrap_or_default();
        if let Err(error) = ctx.groups.check_fetch(&group.group_id, member, group.member_epoch) {
            let refused = OffsetFetchResponseGroup::default().with_error_code(error.code());
            return refused.with_group_id(group.group_id);
        }
        let asked = group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        let topics = find(ctx, &group.group_id, asked, request.require_stable).into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, found)| {
                let (error, committed) = told(found);
                OffsetFetchResponsePartitions::default()
                    .with_error_code(error)
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

fn told(found: Found) -> (i16, Committed) {
    let nothing = || Committed { offset: -1, leader_epoch: -1, metadata: String::new() };
    match found {
        Ok(committed) => (0, committed.unwrap_or_else(nothing)),
        Err(error) => (error.code(), nothing()),
    }
}

/// The partitions asked for, or all that have an offset. Who asks for stable offsets is told of each
/// that waits for the end of a transaction.
fn find(ctx: &Context, group: &str, asked: Option<Vec<(TopicName, Vec<i32>)>>, stable: bool) -> Vec<TopicOffsets> {
    let unstable = if stable { ctx.groups.offsets().unstable(group) } else { BTreeSet::new() };
    let Some(asked) = asked else { return find_all(ctx, group, &unstable) };
    // Each once, however often it is named: its metadata is much longer than its number.
    let mut seen = HashSet::new();
    let mut find_topic = |(name, mut partitions): (TopicName, Vec<i32>)| {
        partitions.retain(|&index| seen.insert((name.clone(), index)));
        let get = |index: i32| {
            if unstable.contains(&(name.to_string(), index)) {
                return (index, Err(ResponseError::UnstableOffsetCommit));
            }
            (index, Ok(ctx.groups.offsets().get(group, &name, index)))
        };
        let found = partitions.into_iter().map(get).collect();
        (name, found)
    };
    asked.into_iter().map(&mut find_topic).collect()
}

fn find_all(ctx: &Context, group: &str, unstable: &BTreeSet<At>) -> Vec<TopicOffsets> {
    let committed = ctx.groups.offsets().of_group(group).into_iter().map(|(at, committed)| (at, Ok(Some(committed))));
    let mut all: BTreeMap<At, _> = committed.collect();
    all.extend(unstable.iter().map(|at| (at.clone(), Err(ResponseError::UnstableOffsetCommit))));
    let mut topics: Vec<TopicOffsets> = Vec::new();
    for ((topic, partition), found) in all {
        match topics.last_mut() {
            Some((name, partitions)) if **name == *topic => partitions.push((partition, found)),
            _ => topics.push((TopicName(text(topic)), vec![(partition, found)])),
        }
    }
    topics
}
