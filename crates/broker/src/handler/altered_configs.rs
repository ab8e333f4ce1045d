//! What AlterConfigs and IncrementalAlterConfigs have in common: whose settings are altered, which they are, and what is
//! wrong with a change. All changes of one resource are made or none.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::{BROKER, GROUP, TOPIC};
use super::{Context, NODE_ID, text};
use crate::configs::store::{ConfigError, Scope};
use crate::configs::{broker, group};
use crate::log::config::{self, Overrides, ValueType};
use crate::log::topics::TopicError;

/// Why settings are not altered.
pub(super) type Refused = (ResponseError, String);

pub(super) const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What is asked for one resource.
pub(super) struct Alteration<'a> {
    pub(super) kind: i8,
    pub(super) name: &'a str,
    pub(super) changes: Vec<Change>,
    /// Whether what is not named stays as it is.
    pub(super) keeps: bool,
    pub(super) validate_only: bool,
}

/// What is asked for one setting.
pub(super) struct Change {
    pub(super) name: StrBytes,
    pub(super) value: Option<StrBytes>,
    pub(super) operation: i8,
}

/// Alters settings; answers the code and the reason as both responses say them. Blocks on the disk.
pub(super) fn alter(ctx: &Context, asked: Alteration<'_>) -> (i16, Option<StrBytes>) {
    match try_alter(ctx, asked) {
        Ok(()) => (0, None),
        Err((error, reason)) => (error.code(), Some(text(reason))),
    }
}

fn try_alter(ctx: &Context, asked: Alteration<'_>) -> Result<(), Refused> {
    let _one_at_a_time = ctx.configs.one_at_a_time();
    let owner = Owner::find(asked.kind, asked.name)?;
    let before = owner.own(ctx)?;
    let mut own = if asked.keeps { before } else { Overrides::new() };
    let mut named = HashSet::new();
    for change in &asked.changes {
        if !named.insert(&*change.name) {
            let reason = format!("the request names {owner} setting {} twice", change.name.as_str());
            return Err((ResponseError::InvalidRequest, reason));
        }
        owner.apply(ctx, &mut own, change)?;
    }
    if asked.validate_only { owner.check_all(ctx, &own) } else { owner.store(ctx, own) }
}

/// Whose settings they are.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Topic(&'a str),
    Broker(Scope),
    Group(&'a str),
}

impl std::fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Topic(_) => "topic",
            Self::Broker(_) => "broker",
            Self::Group(_) => "group",
        })
    }
}

impl<'a> Owner<'a> {
    fn find(kind: i8, name: &'a str) -> Result<Self, Refused> {
        let refused = |reason| Err((ResponseError::InvalidRequest, reason));
        match kind {
            TOPIC => Ok(Self::Topic(name)),
            BROKER if name.is_empty() => Ok(Self::Broker(Scope::AllBrokers)),
            BROKER if *name == NODE_ID.to_string() => Ok(Self::Broker(Scope::Broker)),
            BROKER => refused(format!("there is no broker {name}, only {}", *NODE_ID)),
            GROUP if name.is_empty() => refused("a group needs a name: there are no settings of all groups".to_owned()),
            GROUP => Ok(Self::Group(name)),
            other => refused(format!("resource type {other} has no settings that could be altered here")),
        }
    }

    /// What it has of its own.
    fn own(self, ctx: &Context) -> Result<Overrides, Refused> {
        match self {
            Self::Topic(name) => {
                let unknown = || refuse(&TopicError::Unknown { name: name.to_owned() });
                ctx.topics.get(name).ok_or_else(unknown).map(|topic| topic.overrides())
            }
            Self::Broker(scope) => Ok(ctx.configs.of(scope)),
            Self::Group(name) => Ok(ctx.configs.of_group(name)),
        }
    }

    /// A setting's type, and the value that is beneath what the owner has of its own.
    fn beneath(self, ctx: &Context, name: &str) -> Result<(ValueType, String), Refused> {
        let settings = ctx.configs.in_force();
        let found = match self {
            Self::Topic(_) => config::find(name).map(|known| (known.value_type, known.default(&settings))),
            Self::Broker(_) => broker::find(name).map(|known| (known.value_type(), known.value(&settings))),
            Self::Group(_) => group::find(name).map(|known| (known.value_type, (known.default)(&settings))),
        };
        found.map_err(|reason| (self.wrong(), reason))
    }

    fn check(self, ctx: &Context, name: &str, value: &str) -> Result<(), Refused> {
        let checked = match self {
            Self::Topic(_) => config::check(name, value),
            Self::Broker(_) => broker::check(name, value),
            Self::Group(_) => group::check(name, value, &ctx.configs.in_force()),
        };
        checked.map_err(|reason| (self.wrong(), reason))
    }

    /// Kafka's code for a setting that cannot be what it is to be.
    fn wrong(self) -> ResponseError {
        match self {
            Self::Broker(_) => ResponseError::InvalidRequest,
            Self::Topic(_) | Self::Group(_) => ResponseError::InvalidConfig,
        }
    }

    /// Sets or unsets one setting.
    fn apply(self, ctx: &Context, own: &mut Overrides, change: &Change) -> Result<(), Refused> {
        let name = &*change.name;
        let invalid = |reason| Err((ResponseError::InvalidRequest, reason));
        match (change.operation, change.value.as_deref()) {
            (DELETE, _) => {
                self.beneath(ctx, name)?;
                own.remove(name);
                Ok(())
            }
            (SET | APPEND | SUBTRACT, None) => {
                invalid(format!("{self} setting {name} has no value; to go back to the default delete it"))
            }
            (SET, Some(value)) => {
                self.check(ctx, name, value)?;
                own.insert(name.to_owned(), value.to_owned());
                Ok(())
            }
            (operation @ (APPEND | SUBTRACT), Some(items)) => {
                let (value_type, beneath) = self.beneath(ctx, name)?;
                if value_type != ValueType::List {
                    let reason = format!("{self} setting {name} is no list that items could be added to or taken from");
                    return Err((self.wrong(), reason));
                }
                // Who has no list of its own begins with the one that is in force.
                let before = own.get(name).unwrap_or(&beneath);
                let after = config::alter_list(before, items, operation == APPEND);
                self.check(ctx, name, &after)?;
                own.insert(name.to_owned(), after);
                Ok(())
            }
            (other, _) => invalid(format!("operation {other} on {self} setting {name} is not known")),
        }
    }

    /// Checks what [`Owner::store`] would refuse.
    fn check_all(self, ctx: &Context, own: &Overrides) -> Result<(), Refused> {
        match self {
            Self::Topic(_) => Ok(()),
            Self::Broker(scope) => ctx.configs.check(scope, own).map_err(refuse_config),
            Self::Group(name) => {
                let together = group::check_together(own, &ctx.configs.in_force());
                together.map_err(|reason| (ResponseError::InvalidConfig, reason))?;
                ctx.configs.check_group(name, own).map_err(refuse_config)
            }
        }
    }

    /// Keeps the settings, and has them heeded.
    fn store(self, ctx: &Context, own: Overrides) -> Result<(), Refused> {
        self.check_all(ctx, &own)?;
        match self {
            Self::Topic(name) => ctx.topics.set_overrides(name, own).map_err(|error| refuse(&error)),
            Self::Broker(scope) => {
                tracing::info!(?scope, settings = ?own, "settings of the broker altered");
                ctx.configs.set(scope, own).map_err(refuse_config)?;
                ctx.topics.follow_defaults();
                Ok(())
            }
            Self::Group(name) => {
                ctx.configs.set_group(name, own.clone()).map_err(refuse_config)?;
                ctx.groups.configure(name, &own, &ctx.configs.in_force());
                Ok(())
            }
        }
    }
}

fn refuse(error: &TopicError) -> Refused {
    (error.code(), error.to_string())
}

fn refuse_config(error: ConfigError) -> Refused {
    (error.code(), error.to_string())
}
