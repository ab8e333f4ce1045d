//! AlterReplicaLogDirs: there is one data folder; a partition can be put where it is and nowhere else.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};

use super::{Context, code};

pub(super) fn handle(ctx: &Context, request: AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    let mut results = Vec::new();
    for AlterReplicaLogDir { path, topics, .. } in request.dirs {
        let is_ours = *path == ctx.settings.data_dir.display().to_string();
        results.extend(topics.into_iter().map(|topic| place(ctx, is_ours, topic)));
    }
    AlterReplicaLogDirsResponse::default().with_results(results)
}

fn place(ctx: &Context, is_ours: bool, asked: AlterReplicaLogDirTopic) -> AlterReplicaLogDirTopicResult {
    let topic = ctx.topics.get(&asked.name);
    let result = |index: i32| match topic.as_ref().and_then(|topic| topic.partition(index)) {
        _ if !is_ours => Err(ResponseError::LogDirNotFound),
        Some(_) => Ok(()),
        None => Err(ResponseError::UnknownTopicOrPartition),
    };
    let answer = |index: &i32| {
        AlterReplicaLogDirPartitionResult::default().with_partition_index(*index).with_error_code(code(result(*index)))
    };
    let partitions = asked.partitions.iter().map(answer).collect();
    AlterReplicaLogDirTopicResult::default().with_topic_name(asked.name).with_partitions(partitions)
}
