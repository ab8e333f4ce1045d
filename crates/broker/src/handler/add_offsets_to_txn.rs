//! AddOffsetsToTxn: names a group whose offsets a transaction is about to commit.

use std::sync::Arc;

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::{Context, blocking, code, fenced_before};
use crate::txn::coordinator::Producer;

/// First version that knows the error of a producer that was replaced.
const FENCED_SINCE: i16 = 2;

pub(super) async fn handle(
    ctx: &Arc<Context>,
    request: AddOffsetsToTxnRequest,
    version: i16,
) -> AddOffsetsToTxnResponse {
    let ctx = Arc::clone(ctx);
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let added =
        blocking(move || ctx.transactions.add(&request.transactional_id, producer, &[], Some(&request.group_id))).await;
    let added = added.map_err(|error| fenced_before(FENCED_SINCE, version, error));
    AddOffsetsToTxnResponse::default().with_error_code(code(added))
}
