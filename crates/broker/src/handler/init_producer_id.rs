//! InitProducerId: an id for an idempotent producer. Transactional ids are refused: there is no
//! transaction coordinator.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{Context, blocking};

pub(super) async fn handle(ctx: &Arc<Context>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |error: ResponseError| {
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        return refuse(ResponseError::InvalidRequest);
    }
    let ctx = Arc::clone(ctx);
    match blocking(move || ctx.identity.new_producer_id()).await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => {
            tracing::error!(%error, "no producer id");
            refuse(ResponseError::CoordinatorNotAvailable)
        }
    }
}
