//! DeleteGroups: groups without members, and their committed offsets.

use std::sync::Arc;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::{Context, blocking, code};

pub(super) async fn handle(ctx: &Arc<Context>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let ctx = Arc::clone(ctx);
    let results = blocking(move || {
        let delete = |id: kafka_protocol::messages::GroupId| {
            let result = ctx.groups.delete(&id);
            DeletableGroupResult::default().with_group_id(id).with_error_code(code(result))
        };
        request.groups_names.into_iter().map(delete).collect()
    })
    .await;
    DeleteGroupsResponse::default().with_results(results)
}
