//! DescribeLogDirs: the data folder, and how much of it each partition takes.

use kafka_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

use super::{Context, text};
use crate::log::partition::Partition;
use crate::log::topics::Topic;

pub(super) fn handle(ctx: &Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let topics = match request.topics {
        None => ctx.topics.all().iter().map(|topic| describe(topic, |_| true)).collect(),
        Some(asked) => asked.iter().filter_map(|asked| describe_asked(ctx, asked)).collect(),
    };
    let folder = DescribeLogDirsResult::default()
        .with_log_dir(text(ctx.settings.data_dir.display().to_string()))
        .with_topics(topics);
    DescribeLogDirsResponse::default().with_results(vec![folder])
}

/// A topic that is not there takes no space, which is no error.
fn describe_asked(ctx: &Context, asked: &DescribableLogDirTopic) -> Option<DescribeLogDirsTopic> {
    let topic = ctx.topics.get(&asked.topic)?;
    Some(describe(&topic, |partition| asked.partitions.contains(&partition.index())))
}

fn describe(topic: &Topic, wanted: impl Fn(&Partition) -> bool) -> DescribeLogDirsTopic {
    let partitions = topic.partitions().into_iter().filter(|partition| wanted(partition));
    let sizes = partitions.map(|partition| {
        DescribeLogDirsPartition::default()
            .with_partition_index(partition.index())
            .with_partition_size(i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(kafka_protocol::messages::TopicName(text(&*topic.name)))
        .with_partitions(sizes.collect())
}
