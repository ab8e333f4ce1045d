//! SaslAuthenticate: a message of the mechanism chosen, and the broker's reply.

use std::sync::Arc;

use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

use super::{Context, Peer};

pub(super) async fn handle(
    ctx: &Arc<Context>,
    peer: &Peer,
    request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    peer.session.authenticate(ctx, request).await
}
