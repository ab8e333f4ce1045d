//! CreateAcls: access rules, those that make sense together and durably.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::{AclCreation, CreateAclsRequest};
use kafka_protocol::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};

use super::{Context, blocking, text};
use crate::security::acl::{Acl, CLUSTER, Operation, Pattern, Permission, ResourceType};
use crate::security::acls::Acls;
use crate::security::principal::Principal;

type Refused = (ResponseError, String);

/// What every request about rules is answered where there are none.
pub(super) const DISABLED: &str = "this broker has no authorizer: it asks no client who it is; give it a listener \
                                   with authentication, or set allow_everyone_if_no_acl_found";
/// Longest name in a rule.
const MAX_NAME_BYTES: usize = 4096;

pub(super) async fn handle(ctx: &Arc<Context>, request: CreateAclsRequest) -> CreateAclsResponse {
    let ctx = Arc::clone(ctx);
    let results = blocking(move || match &ctx.authorizer {
        Some(authorizer) => create(&authorizer.acls, &request.creations),
        None => vec![Err((ResponseError::SecurityDisabled, DISABLED.to_owned())); request.creations.len()],
    })
    .await;
    let results = results.into_iter().map(|result| match result {
        Ok(()) => AclCreationResult::default().with_error_message(None),
        Err((error, reason)) => {
            AclCreationResult::default().with_error_code(error.code()).with_error_message(Some(text(reason)))
        }
    });
    CreateAclsResponse::default().with_results(results.collect())
}

fn create(acls: &Acls, creations: &[AclCreation]) -> Vec<Result<(), Refused>> {
    let parsed: Vec<Result<Acl, Refused>> =
        creations.iter().map(|asked| parse(asked).map_err(|reason| (ResponseError::InvalidRequest, reason))).collect();
    let refused = match acls.add(parsed.iter().flatten().cloned()) {
        Ok(true) => None,
        Ok(false) => {
            let reason = format!("there would be more than {} access rules, the broker's limit", acls.limit());
            Some((ResponseError::PolicyViolation, reason))
        }
        Err(error) => {
            tracing::error!(%error, "access rules not stored: check the disk of the data folder");
            Some((ResponseError::KafkaStorageError, "the access rules cannot be stored".to_owned()))
        }
    };
    let outcome = |parsed: Result<Acl, Refused>| parsed.and_then(|_| refused.clone().map_or(Ok(()), Err));
    parsed.into_iter().map(outcome).collect()
}

fn parse(asked: &AclCreation) -> Result<Acl, String> {
    let code = |what: &str, found: i8| format!("{what} {found} is not one that rules can have here");
    let resource_type =
        ResourceType::from_code(asked.resource_type).ok_or_else(|| code("resource type", asked.resource_type))?;
    let pattern = Pattern::from_code(asked.resource_pattern_type)
        .ok_or_else(|| code("pattern type", asked.resource_pattern_type))?;
    let operation = Operation::from_code(asked.operation).ok_or_else(|| code("operation", asked.operation))?;
    let permission =
        Permission::from_code(asked.permission_type).ok_or_else(|| code("permission type", asked.permission_type))?;
    let principal: Principal = asked.principal.parse()?;
    let (resource, host) = (asked.resource_name.to_string(), asked.host.to_string());
    if resource.is_empty() {
        return Err("Invalid empty resource name".to_owned());
    }
    if resource_type == ResourceType::Cluster && resource != CLUSTER {
        return Err(format!("The only valid name for the CLUSTER resource is {CLUSTER}"));
    }
    if host.is_empty() {
        return Err("a rule is for a host, or for `*`".to_owned());
    }
    if [&resource, &host, &principal.name].into_iter().any(|name| name.len() > MAX_NAME_BYTES) {
        return Err(format!("a name in a rule is longer than {MAX_NAME_BYTES} bytes"));
    }
    Ok(Acl { resource_type, pattern, resource, principal, host, operation, permission })
}
