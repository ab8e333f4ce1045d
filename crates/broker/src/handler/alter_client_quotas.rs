//! AlterClientQuotas: each entity of the request by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request::{AlterClientQuotasRequest, EntryData, OpData};
use kafka_protocol::messages::alter_client_quotas_response::{
    AlterClientQuotasResponse, EntityData, EntryData as Altered,
};

use super::{Context, blocking, text};
use crate::quota::entity::{self, Entity, Key};
use crate::quota::service::{AlterError, Changes};

type Refused = (ResponseError, String);

pub(super) async fn handle(ctx: &Arc<Context>, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let ctx = Arc::clone(ctx);
    let entries = blocking(move || {
        let mut named: BTreeMap<Entity, usize> = BTreeMap::new();
        request
            .entries
            .iter()
            .filter_map(|entry| parse(entry).ok())
            .for_each(|one| *named.entry(one).or_default() += 1);
        let answer = |entry: EntryData| describe(alter(&ctx, &entry, &named, request.validate_only), entry);
        request.entries.into_iter().map(answer).collect()
    })
    .await;
    AlterClientQuotasResponse::default().with_entries(entries)
}

fn parse(entry: &EntryData) -> Result<Entity, Refused> {
    let parts = entry.entity.iter().map(|part| (&*part.entity_type, part.entity_name.as_deref()));
    Entity::parse(parts).map_err(invalid)
}

fn invalid(reason: String) -> Refused {
    (ResponseError::InvalidRequest, reason)
}

fn alter(
    ctx: &Context,
    entry: &EntryData,
    named: &BTreeMap<Entity, usize>,
    validate_only: bool,
) -> Result<(), Refused> {
    let entity = parse(entry)?;
    if named.get(&entity) != Some(&1) {
        return Err(invalid("the request names this entity twice".to_owned()));
    }
    let longest = ctx.settings.max_client_id_bytes;
    if let Some(name) = entity.parts().filter_map(|(_, part)| part.name()).find(|name| name.len() > longest) {
        return Err(invalid(format!("a name of {} bytes, but max_client_id_bytes is {longest}", name.len())));
    }
    let mut changes = Changes::new();
    for op in &entry.ops {
        let (key, value) = change(op).map_err(invalid)?;
        if changes.insert(key, value).is_some() {
            return Err(invalid(format!("Duplicate quota key {}", key.name())));
        }
    }
    ctx.quotas.alter(entity, &changes, validate_only).map_err(|error| match &error {
        AlterError::TooMany { .. } => (ResponseError::PolicyViolation, error.to_string()),
        AlterError::Storage(_) => {
            tracing::error!(%error, "quotas not altered: check the disk of the data folder");
            (ResponseError::KafkaStorageError, error.to_string())
        }
    })
}

fn change(op: &OpData) -> Result<(Key, Option<f64>), String> {
    let key = Key::parse(&op.key)?;
    let value = if op.remove { None } else { Some(entity::check_value(key, op.value)?) };
    Ok((key, value))
}

fn describe(altered: Result<(), Refused>, entry: EntryData) -> Altered {
    let parts = entry
        .entity
        .into_iter()
        .map(|part| EntityData::default().with_entity_type(part.entity_type).with_entity_name(part.entity_name));
    let answer = Altered::default().with_entity(parts.collect()).with_error_message(None);
    match altered {
        Ok(()) => answer,
        Err((error, reason)) => answer.with_error_code(error.code()).with_error_message(Some(text(reason))),
    }
}
