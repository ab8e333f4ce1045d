//! SaslHandshake: the client chooses how to authenticate.

use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::{Context, Peer};

pub(super) fn handle(
    ctx: &Context,
    peer: &Peer,
    request: &SaslHandshakeRequest,
    version: i16,
) -> SaslHandshakeResponse {
    peer.session.handshake(ctx, request, version)
}
