//! AddPartitionsToTxn: names the partitions a transaction is about to write to; all of them or none.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::{Context, blocking, code, fenced_before};
use crate::group::offsets::At;
use crate::txn::coordinator::Producer;

/// First version that knows the error of a producer that was replaced.
const FENCED_SINCE: i16 = 2;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: AddPartitionsToTxnRequest,
    version: i16,
) -> AddPartitionsToTxnResponse {
    let ctx = Arc::clone(ctx);
    blocking(move || {
        let topics = &request.v3_and_below_topics;
        let asked = |topic: &str, index: i32| (topic.to_owned(), index);
        let all: Vec<At> =
            topics.iter().flat_map(|topic| topic.partitions.iter().map(|&index| asked(&topic.name, index))).collect();
        let is_known = |(topic, index): &At| ctx.topics.partition(topic, *index).is_some();
        let producer = Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
        let added = if all.iter().all(is_known) {
            let added = ctx.transactions.add(&request.v3_and_below_transactional_id, producer, &all, None);
            added.map_err(|error| fenced_before(FENCED_SINCE, version, error))
        } else {
            Err(ResponseError::OperationNotAttempted)
        };
        let result = |at: At| {
            let result = if is_known(&at) { added } else { Err(ResponseError::UnknownTopicOrPartition) };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(at.1)
                .with_partition_error_code(code(result))
        };
        let results = topics.iter().map(|topic| {
            let results = topic.partitions.iter().map(|&index| result(asked(&topic.name, index))).collect();
            AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(results)
        });
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect())
    })
    .await
}
