//! DescribeCluster: one node, which is also the controller.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::{Context, NO_OPERATIONS, NODE_ID, Peer, text};

pub(super) fn handle(ctx: &Context, peer: &Peer, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let here = peer.advertised();
    let node = DescribeClusterBroker::default()
        .with_broker_id(NODE_ID)
        .with_host(text(&*here.host))
        .with_port(here.port.into());
    DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(text(&*ctx.identity.cluster_id))
        .with_controller_id(NODE_ID)
        .with_brokers(vec![node])
        .with_cluster_authorized_operations(NO_OPERATIONS)
}
