//! DescribeAcls: the access rules a filter matches, by resource.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::create_acls::DISABLED;
use super::{Context, text};
use crate::security::acl::{Acl, Filter, Operation, Pattern, PatternFilter, Permission, ResourceType};

/// In a filter: anything.
const ANY: i8 = 1;
/// In a filter: every pattern that covers the name.
const MATCH: i8 = 2;

pub(super) fn handle(ctx: &Context, request: &DescribeAclsRequest) -> DescribeAclsResponse {
    let refuse = |error: ResponseError, reason: String| {
        DescribeAclsResponse::default().with_error_code(error.code()).with_error_message(Some(text(reason)))
    };
    let Some(authorizer) = &ctx.authorizer else {
        return refuse(ResponseError::SecurityDisabled, DISABLED.to_owned());
    };
    let asked = Asked {
        resource_type: request.resource_type_filter,
        pattern: request.pattern_type_filter,
        resource: request.resource_name_filter.as_ref(),
        principal: request.principal_filter.as_ref(),
        host: request.host_filter.as_ref(),
        operation: request.operation,
        permission: request.permission_type,
    };
    let filter = match asked.filter() {
        Ok(filter) => filter,
        Err(reason) => return refuse(ResponseError::InvalidRequest, reason),
    };
    let acls = authorizer.acls.current();
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    // The rules are ordered by resource.
    for acl in acls.iter().filter(|acl| filter.as_ref().is_some_and(|filter| filter.matches(acl))) {
        let is_same = |last: &DescribeAclsResource| {
            last.resource_type == acl.resource_type.code()
                && last.pattern_type == acl.pattern.code()
                && *last.resource_name == *acl.resource
        };
        if !resources.last().is_some_and(is_same) {
            let resource = DescribeAclsResource::default()
                .with_resource_type(acl.resource_type.code())
                .with_resource_name(text(&*acl.resource))
                .with_pattern_type(acl.pattern.code());
            resources.push(resource);
        }
        if let Some(resource) = resources.last_mut() {
            resource.acls.push(describe(acl));
        }
    }
    DescribeAclsResponse::default().with_error_message(None).with_resources(resources)
}

fn describe(acl: &Acl) -> AclDescription {
    AclDescription::default()
        .with_principal(text(acl.principal.to_string()))
        .with_host(text(&*acl.host))
        .with_operation(acl.operation.code())
        .with_permission_type(acl.permission.code())
}

/// A filter as the protocol has it.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) resource_type: i8,
    pub(super) pattern: i8,
    pub(super) resource: Option<&'a StrBytes>,
    pub(super) principal: Option<&'a StrBytes>,
    pub(super) host: Option<&'a StrBytes>,
    pub(super) operation: i8,
    pub(super) permission: i8,
}

/// The last codes Kafka knows, where it knows more than this broker has.
const LAST_RESOURCE_TYPE: i8 = 7;
const LAST_OPERATION: i8 = 15;

impl Asked<'_> {
    /// The filter; `None` when it asks for something no rule here can be about.
    pub(super) fn filter(&self) -> Result<Option<Filter>, String> {
        let unknown = |what: &str, found: i8| format!("{what} {found} is unknown");
        let resource_type = match self.resource_type {
            ANY => None,
            code => match ResourceType::from_code(code) {
                None if (ANY..=LAST_RESOURCE_TYPE).contains(&code) => return Ok(None),
                None => return Err(unknown("resource type", code)),
                known => known,
            },
        };
        let operation = match self.operation {
            ANY => None,
            code => match Operation::from_code(code) {
                None if (ANY..=LAST_OPERATION).contains(&code) => return Ok(None),
                None => return Err(unknown("operation", code)),
                known => known,
            },
        };
        let pattern = match self.pattern {
            ANY => PatternFilter::Any,
            MATCH => PatternFilter::Match,
            code => PatternFilter::Exactly(Pattern::from_code(code).ok_or_else(|| unknown("pattern type", code))?),
        };
        let permission = match self.permission {
            ANY => None,
            code => Some(Permission::from_code(code).ok_or_else(|| unknown("permission type", code))?),
        };
        let owned = |text: Option<&StrBytes>| text.map(ToString::to_string);
        Ok(Some(Filter {
            resource_type,
            pattern,
            resource: owned(self.resource),
            principal: owned(self.principal),
            host: owned(self.host),
            operation,
            permission,
        }))
    }
}
