//! DescribeClientQuotas: the quotas a filter finds.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::DescribeClientQuotasRequest;
use kafka_protocol::messages::describe_client_quotas_response::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};

use super::{Context, text};
use crate::quota::entity::{Filter, FilterError};

pub(super) fn handle(ctx: &Context, request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let components = request
        .components
        .iter()
        .map(|component| (&*component.entity_type, component.match_type, component._match.as_deref()));
    let (error, reason) = match Filter::parse(components, request.strict) {
        Ok(filter) => return found(ctx, &filter),
        Err(FilterError::Invalid(reason)) => (ResponseError::InvalidRequest, reason),
        Err(FilterError::Unsupported(reason)) => (ResponseError::UnsupportedVersion, reason),
    };
    DescribeClientQuotasResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(text(reason)))
        .with_entries(None)
}

fn found(ctx: &Context, filter: &Filter) -> DescribeClientQuotasResponse {
    let entries = ctx.quotas.describe(filter).into_iter().map(|(entity, limits)| {
        let parts = entity.parts().map(|(kind, part)| {
            EntityData::default().with_entity_type(text(kind)).with_entity_name(part.name().map(text))
        });
        let values =
            limits.iter().map(|(key, value)| ValueData::default().with_key(text(key.name())).with_value(*value));
        EntryData::default().with_entity(parts.collect()).with_values(values.collect())
    });
    DescribeClientQuotasResponse::default().with_error_message(None).with_entries(Some(entries.collect()))
}
