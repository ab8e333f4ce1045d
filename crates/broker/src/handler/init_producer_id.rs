//! InitProducerId: an id for an idempotent producer; for a transactional one also a newer epoch,
//! which fences whoever used its transactional id before.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Context, blocking, fenced_before};
use crate::txn::coordinator::Producer;

/// First version that knows the error of a producer that was replaced.
const FENCED_SINCE: i16 = 4;

pub(super) async fn handle(ctx: &Arc<Context>, request: InitProducerIdRequest, version: i16) -> InitProducerIdResponse {
    let started = match &request.transactional_id {
        Some(id) => {
            let known = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
            let known = (known.id >= 0).then_some(known);
            ctx.transactions.init(id, known, request.transaction_timeout_ms).await
        }
        None => {
            let ctx = Arc::clone(ctx);
            let fresh = blocking(move || ctx.identity.new_producer_id()).await.map_err(|error| {
                tracing::error!(%error, "no producer id");
                ResponseError::CoordinatorNotAvailable
            });
            fresh.map(|id| Producer { id, epoch: 0 })
        }
    };
    let (error, producer) = match started {
        Ok(producer) => (0, producer),
        Err(error) => (fenced_before(FENCED_SINCE, version, error).code(), Producer { id: -1, epoch: -1 }),
    };
    InitProducerIdResponse::default()
        .with_error_code(error)
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
}
