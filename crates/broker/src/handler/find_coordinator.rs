//! FindCoordinator: for groups and transactions it is this node.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Context, NODE_ID, Peer, text};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// First version that asks for several keys at once.
const KEYS_SINCE: i16 = 4;

pub(super) fn handle(
    ctx: &Context,
    peer: &Peer,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    if request.key_type == GROUP {
        ctx.groups.offsets().watch();
    }
    let refused = (!matches!(request.key_type, GROUP | TRANSACTION)).then_some(ResponseError::InvalidRequest);
    let error = refused.map_or(0, |error| error.code());
    let message = refused.map(|_| text("this broker coordinates consumer groups and transactions"));
    let here = peer.advertised();
    let (node, host, port) = match refused {
        None => (NODE_ID, here.host.as_str(), here.port.into()),
        Some(_) => (BrokerId(-1), "", -1),
    };
    if version < KEYS_SINCE {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_error_message(message)
            .with_node_id(node)
            .with_host(text(host))
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(error)
            .with_error_message(message.clone())
            .with_node_id(node)
            .with_host(text(host))
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}
