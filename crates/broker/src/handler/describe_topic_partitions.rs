//! DescribeTopicPartitions: topics and their partitions by name, a page at a time.
//!
//! ```text
//! names, sorted ─> from the cursor on ─> partitions, up to the limit ─> the cursor of the next page
//! ```

use std::collections::BTreeSet;
use std::ops::Bound;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use super::{Context, NO_OPERATIONS, NODE_ID, text};
use crate::log::batch::LEADER_EPOCH;
use crate::log::topics::is_valid_name;

pub(super) fn handle(ctx: &Context, request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let from = request.cursor.as_ref();
    let first_partition = from.map_or(0, |cursor| cursor.partition_index);
    let first_name = from.map_or("", |cursor| &*cursor.topic_name);
    if first_partition < 0 {
        let refused = request.topics.iter().map(|asked| failed(&asked.name, ResponseError::InvalidRequest));
        return DescribeTopicPartitionsResponse::default().with_topics(refused.collect());
    }
    let limit = request.response_partition_limit.clamp(1, ctx.settings.max_described_partitions);
    let mut page = Page { left: limit, topics: Vec::new() };
    for name in names(ctx, request).range::<str, _>((Bound::Included(first_name), Bound::Unbounded)) {
        let first = if name == first_name { first_partition } else { 0 };
        if let Some(next) = page.add(ctx, name, first) {
            let cursor = Cursor::default().with_topic_name(TopicName(text(&**name))).with_partition_index(next);
            return DescribeTopicPartitionsResponse::default().with_topics(page.topics).with_next_cursor(Some(cursor));
        }
    }
    DescribeTopicPartitionsResponse::default().with_topics(page.topics).with_next_cursor(None)
}

/// The names asked about, every topic when none is.
fn names(ctx: &Context, request: &DescribeTopicPartitionsRequest) -> BTreeSet<String> {
    if request.topics.is_empty() {
        return ctx.topics.all().iter().map(|topic| topic.name.to_string()).collect();
    }
    request.topics.iter().map(|topic| topic.name.to_string()).collect()
}

struct Page {
    /// Partitions there is room for.
    left: i32,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Page {
    /// Adds a topic from its partition `first` on; the partition to go on with if the page is full before its end.
    fn add(&mut self, ctx: &Context, name: &str, first: i32) -> Option<i32> {
        if self.left == 0 {
            return Some(first);
        }
        let Some(topic) = ctx.topics.get(name) else {
            let known = is_valid_name(name);
            let error =
                if known { ResponseError::UnknownTopicOrPartition } else { ResponseError::InvalidTopicException };
            self.topics.push(failed(name, error));
            return None;
        };
        let count = topic.partition_count();
        let end = count.min(first.saturating_add(self.left));
        self.left -= (end - first).max(0);
        self.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(TopicName(text(name))))
                .with_topic_id(topic.id)
                .with_partitions((first..end).map(partition).collect())
                .with_topic_authorized_operations(NO_OPERATIONS),
        );
        (end < count).then_some(end)
    }
}

fn partition(index: i32) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(NODE_ID)
        .with_leader_epoch(LEADER_EPOCH)
        .with_replica_nodes(vec![NODE_ID])
        .with_isr_nodes(vec![NODE_ID])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}

fn failed(name: &str, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(TopicName(text(name))))
        .with_topic_authorized_operations(NO_OPERATIONS)
}
