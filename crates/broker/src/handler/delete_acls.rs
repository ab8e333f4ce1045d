//! DeleteAcls: removes the access rules that filters match, and says which they were.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_acls_request::{DeleteAclsFilter, DeleteAclsRequest};
use kafka_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsResponse,
};

use super::create_acls::DISABLED;
use super::describe_acls::Asked;
use super::{Context, blocking, text};
use crate::security::acl::{Acl, Filter};
use crate::security::acls::Acls;

type Refused = (ResponseError, String);

pub(super) async fn handle(ctx: &Arc<Context>, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let ctx = Arc::clone(ctx);
    let results = blocking(move || match &ctx.authorizer {
        Some(authorizer) => delete(&authorizer.acls, &request.filters),
        None => vec![Err((ResponseError::SecurityDisabled, DISABLED.to_owned())); request.filters.len()],
    })
    .await;
    let results = results.into_iter().map(|result| match result {
        Ok(removed) => DeleteAclsFilterResult::default()
            .with_error_message(None)
            .with_matching_acls(removed.iter().map(describe).collect()),
        Err((error, reason)) => {
            DeleteAclsFilterResult::default().with_error_code(error.code()).with_error_message(Some(text(reason)))
        }
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

fn delete(acls: &Acls, asked: &[DeleteAclsFilter]) -> Vec<Result<Vec<Acl>, Refused>> {
    let parsed: Vec<Result<Option<Filter>, String>> = asked.iter().map(parse).collect();
    let filters: Vec<Filter> = parsed.iter().flatten().flatten().cloned().collect();
    let removed = acls.remove(&filters).map_err(|error| {
        tracing::error!(%error, "access rules not removed: check the disk of the data folder");
        (ResponseError::KafkaStorageError, "the access rules cannot be stored".to_owned())
    });
    let mut removed = removed.map(Vec::into_iter);
    let outcome = |parsed: Result<Option<Filter>, String>| match parsed {
        Err(reason) => Err((ResponseError::InvalidRequest, reason)),
        Ok(None) => Ok(Vec::new()),
        Ok(Some(_)) => removed.as_mut().map(|removed| removed.next().unwrap_or_default()).map_err(|e| e.clone()),
    };
    parsed.into_iter().map(outcome).collect()
}

fn parse(asked: &DeleteAclsFilter) -> Result<Option<Filter>, String> {
    let asked = Asked {
        resource_type: asked.resource_type_filter,
        pattern: asked.pattern_type_filter,
        resource: asked.resource_name_filter.as_ref(),
        principal: asked.principal_filter.as_ref(),
        host: asked.host_filter.as_ref(),
        operation: asked.operation,
        permission: asked.permission_type,
    };
    asked.filter()
}

fn describe(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(acl.resource_type.code())
        .with_resource_name(text(&*acl.resource))
        .with_pattern_type(acl.pattern.code())
        .with_principal(text(acl.principal.to_string()))
        .with_host(text(&*acl.host))
        .with_operation(acl.operation.code())
        .with_permission_type(acl.permission.code())
}
