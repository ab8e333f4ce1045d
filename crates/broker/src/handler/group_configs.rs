//! The settings of groups, for the requests that describe and alter settings: those of share groups.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;

use super::Context;
use super::incremental_alter_configs::{DELETE, Refused, SET};
use crate::group::share::settings::{self, Known, Overrides, StoreError};

/// The resource type of groups.
pub(super) const GROUP: i8 = 32;

/// A setting of a group with its own value, if it has one, and the default.
pub(super) fn described(ctx: &Context, group: &str) -> Vec<(&'static Known, Option<String>, String)> {
    let shares = ctx.groups.shares();
    let mut overrides = shares.settings.overrides(group);
    let all = settings::KNOWN.iter();
    all.map(|known| (known, overrides.remove(known.name), (known.default)(&shares.settings.defaults))).collect()
}

/// Sets and unsets settings of a group, all or none. Blocks on the disk.
pub(super) fn alter(ctx: &Context, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refused> {
    let mut named = HashSet::new();
    let mut changes = Vec::new();
    for change in &resource.configs {
        let name = change.name.as_str();
        if !named.insert(name) {
            return Err((ResponseError::InvalidRequest, format!("the request names group setting {name} twice")));
        }
        changes.push(checked(name, change.config_operation, change.value.as_deref())?);
    }
    store(ctx, &resource.resource_name, validate_only, |overrides| {
        for (name, value) in &changes {
            match value {
                Some(value) => drop(overrides.insert((*name).to_owned(), (*value).to_owned())),
                None => drop(overrides.remove(*name)),
            }
        }
    })
}

/// Gives a group these settings and no others. Blocks on the disk.
pub(super) fn replace<'a>(
    ctx: &Context,
    group: &str,
    settings: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    validate_only: bool,
) -> Result<(), Refused> {
    let mut replaced = Overrides::new();
    for (name, value) in settings {
        let (name, value) = checked(name, SET, value)?;
        replaced.insert(name.to_owned(), value.unwrap_or_default().to_owned());
    }
    store(ctx, group, validate_only, |overrides| *overrides = replaced)
}

/// A setting with its new value, or none if it is unset.
fn checked<'a>(name: &'a str, operation: i8, value: Option<&'a str>) -> Result<(&'a str, Option<&'a str>), Refused> {
    let invalid = |reason| (ResponseError::InvalidConfig, reason);
    match (operation, value) {
        (SET, Some(value)) => settings::check(name, value).map(|()| (name, Some(value))).map_err(invalid),
        (SET, None) => {
            let reason = format!("group setting {name} has no value; to go back to the default delete it");
            Err((ResponseError::InvalidRequest, reason))
        }
        (DELETE, _) => settings::find(name).map(|_| (name, None)).map_err(invalid),
        (other, _) => {
            let reason = format!("operation {other} on group setting {name} is not one: it is no list");
            Err((ResponseError::InvalidConfig, reason))
        }
    }
}

fn store(ctx: &Context, group: &str, validate_only: bool, change: impl FnOnce(&mut Overrides)) -> Result<(), Refused> {
    if group.is_empty() {
        return Err((ResponseError::InvalidRequest, "settings of a group need its name".to_owned()));
    }
    let settings = &ctx.groups.shares().settings;
    let mut changed = settings.overrides(group);
    change(&mut changed);
    settings.check_together(&changed).map_err(|reason| (ResponseError::InvalidConfig, reason))?;
    if validate_only {
        return Ok(());
    }
    settings.alter(group, |overrides| *overrides = changed).map_err(|error| match error {
        StoreError::TooMany { .. } => (ResponseError::PolicyViolation, error.to_string()),
        StoreError::Storage(_) => {
            tracing::error!(group, %error, "settings of a group not stored");
            (ResponseError::KafkaStorageError, error.to_string())
        }
    })
}
