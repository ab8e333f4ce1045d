//! WriteTxnMarkers: the end of a transaction by hand, for an administrator who ends one that hangs.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use super::produce::refuse_append;
use super::{Context, blocking, code};
use crate::log::control::{Marker, Outcome};

pub(super) async fn handle(ctx: &Arc<Context>, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let ctx = Arc::clone(ctx);
    blocking(move || {
        let markers = request.markers.into_iter().map(|asked| {
            let marker = Marker {
                producer_id: asked.producer_id.0,
                producer_epoch: asked.producer_epoch,
                outcome: if asked.transaction_result { Outcome::Commit } else { Outcome::Abort },
            };
            let topics = asked.topics.into_iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|&index| {
                    WritableTxnMarkerPartitionResult::default()
                        .with_partition_index(index)
                        .with_error_code(code(write(&ctx, &topic.name, index, marker)))
                });
                let partitions = partitions.collect();
                WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions)
            });
            WritableTxnMarkerResult::default().with_producer_id(asked.producer_id).with_topics(topics.collect())
        });
        WriteTxnMarkersResponse::default().with_markers(markers.collect())
    })
    .await
}

fn write(ctx: &Context, topic: &str, index: i32, marker: Marker) -> Result<(), ResponseError> {
    let partition = ctx.topics.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let appended = partition.append_marker(marker, ctx.clock.wall_ms());
    appended.map(|_| ()).map_err(|error| refuse_append(topic, index, error).error)
}
