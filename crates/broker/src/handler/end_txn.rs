//! EndTxn: commits or aborts a transaction; answered when its end can be read in every partition.

use std::sync::Arc;

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

use super::{Context, fenced_before};
use crate::log::control::Outcome;
use crate::txn::coordinator::{End, Producer};

/// First version that knows the error of a producer that was replaced.
const FENCED_SINCE: i16 = 2;
/// First version in which a producer takes a new epoch with each answer (KIP-890).
const RENEWS_EPOCH_SINCE: i16 = 5;

pub(super) async fn handle(ctx: &Arc<Context>, request: EndTxnRequest, version: i16) -> EndTxnResponse {
    let end = End {
        producer: Producer { id: request.producer_id.0, epoch: request.producer_epoch },
        outcome: if request.committed { Outcome::Commit } else { Outcome::Abort },
        renews_epoch: version >= RENEWS_EPOCH_SINCE,
    };
    match ctx.transactions.end(&request.transactional_id, end).await {
        Ok(producer) if end.renews_epoch => {
            EndTxnResponse::default().with_producer_id(ProducerId(producer.id)).with_producer_epoch(producer.epoch)
        }
        Ok(_) => EndTxnResponse::default(),
        Err(error) => EndTxnResponse::default().with_error_code(fenced_before(FENCED_SINCE, version, error).code()),
    }
}
