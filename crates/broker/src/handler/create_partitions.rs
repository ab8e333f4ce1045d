//! CreatePartitions: more partitions for topics that exist; never fewer.

use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};

use super::{Context, blocking, text};

pub(super) async fn handle(ctx: &Arc<Context>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let ctx = Arc::clone(ctx);
    let validate_only = request.validate_only;
    let results =
        blocking(move || request.topics.into_iter().map(|topic| grow(&ctx, topic, validate_only)).collect()).await;
    CreatePartitionsResponse::default().with_results(results)
}

fn grow(ctx: &Context, asked: CreatePartitionsTopic, validate_only: bool) -> CreatePartitionsTopicResult {
    let grown = if validate_only {
        ctx.topics.check_grow(&asked.name, asked.count).map(|_| ())
    } else {
        ctx.topics.grow(&asked.name, asked.count)
    };
    let result = CreatePartitionsTopicResult::default().with_name(asked.name);
    match grown {
        Ok(()) => result,
        Err(error) => result.with_error_code(error.code().code()).with_error_message(Some(text(error.to_string()))),
    }
}
