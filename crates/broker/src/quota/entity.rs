//! Who a quota is for, which one is in force for a client, and which ones a question is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A part of an entity: absent, everybody who has no quota of their own, or one of this name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    #[default]
    Absent,
    Default,
    Named(String),
}

/// Who a quota is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub(crate) struct Entity {
    #[serde(default)]
    pub(crate) user: Part,
    #[serde(default)]
    pub(crate) client_id: Part,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Key {
    #[serde(rename = "consumer_byte_rate")]
    ConsumerByteRate,
    #[serde(rename = "producer_byte_rate")]
    ProducerByteRate,
}

/// The quotas of each entity, in bytes a second.
pub(crate) type Limits = BTreeMap<Entity, BTreeMap<Key, f64>>;

pub(crate) const USER: &str = "user";
pub(crate) const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

impl Key {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::ProducerByteRate => "producer_byte_rate",
        }
    }

    /// The quota of this name, for an entity of users and clients.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        match name {
            "consumer_byte_rate" => Ok(Self::ConsumerByteRate),
            "producer_byte_rate" => Ok(Self::ProducerByteRate),
            "request_percentage" | "controller_mutation_rate" => Err(format!(
                "quota {name} is not enforced by this broker; it enforces consumer_byte_rate and producer_byte_rate"
            )),
            _ => Err(format!("Invalid configuration key {name}")),
        }
    }
}

/// Checks the value of a quota, in bytes a second.
pub(crate) fn check_value(key: Key, value: f64) -> Result<f64, String> {
    let name = key.name();
    // NaN is not greater than anything.
    if value.is_nan() || value <= 0.0 {
        return Err(format!("Quota {name} must be greater than 0"));
    }
    if value > i64::MAX as f64 {
        return Err(format!("Proposed value for {name} is too large for a LONG."));
    }
    if value.fract() > 1e-6 {
        return Err(format!("{name} cannot be a fractional value."));
    }
    Ok(value)
}

impl Part {
    fn of(name: Option<&str>) -> Self {
        name.map_or(Self::Default, |name| Self::Named(name.to_owned()))
    }

    /// Kafka's word for it: no name is the default.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Absent | Self::Default => None,
        }
    }
}

impl Entity {
    /// An entity from its (type, name) parts, where no name is the default.
    pub(crate) fn parse<'a>(parts: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Result<Self, String> {
        let mut entity = Self::default();
        for (kind, name) in parts {
            let part = match kind {
                USER => &mut entity.user,
                CLIENT_ID => &mut entity.client_id,
                IP => return Err("quotas of connections by address are not enforced by this broker".to_owned()),
                _ => return Err(format!("Unhandled client quota entity type: {kind}")),
            };
            if *part != Part::Absent {
                return Err(format!("Invalid client quota entity, duplicate entity entry {kind}"));
            }
            *part = Part::of(name);
        }
        if entity == Self::default() {
            return Err("Invalid empty client quota entity".to_owned());
        }
        Ok(entity)
    }

    /// The parts there are, with their types.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        [(USER, &self.user), (CLIENT_ID, &self.client_id)].into_iter().filter(|(_, part)| **part != Part::Absent)
    }
}

/// The quota in force for a client, and for whom it is counted: those it is shared by have one count.
pub(crate) fn in_force(limits: &Limits, key: Key, user: &str, client_id: &str) -> Option<(Entity, f64)> {
    let (user, client) = (Part::Named(user.to_owned()), Part::Named(client_id.to_owned()));
    let both = Entity { user: user.clone(), client_id: client.clone() };
    let user_alone = Entity { user: user.clone(), client_id: Part::Absent };
    let client_alone = Entity { user: Part::Absent, client_id: client.clone() };
    let order = [
        (&user, &client, &both),
        (&user, &Part::Default, &both),
        (&user, &Part::Absent, &user_alone),
        (&Part::Default, &client, &both),
        (&Part::Default, &Part::Default, &both),
        (&Part::Default, &Part::Absent, &user_alone),
        (&Part::Absent, &client, &client_alone),
        (&Part::Absent, &Part::Default, &client_alone),
    ];
    order.into_iter().find_map(|(user, client_id, counted)| {
        let entity = Entity { user: user.clone(), client_id: client_id.clone() };
        let limit = limits.get(&entity)?.get(&key)?;
        Some((counted.clone(), *limit))
    })
}

/// Which entities a question is about.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    exact: Vec<(String, Part)>,
    any: Vec<String>,
    strict: bool,
}

/// Why a question cannot be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FilterError {
    Invalid(String),
    Unsupported(String),
}

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

impl Filter {
    /// A filter from its (type, how to match, name) components.
    pub(crate) fn parse<'a>(
        components: impl Iterator<Item = (&'a str, i8, Option<&'a str>)>,
        strict: bool,
    ) -> Result<Self, FilterError> {
        let mut filter = Self { strict, ..Self::default() };
        let invalid = |reason: String| Err(FilterError::Invalid(reason));
        for (kind, how, name) in components {
            if kind.is_empty() {
                return invalid("Invalid empty entity type.".to_owned());
            }
            if filter.kinds().any(|known| known == kind) {
                return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
            }
            if !matches!(kind, USER | CLIENT_ID | IP) {
                return Err(FilterError::Unsupported(format!("Unsupported entity type {kind}")));
            }
            match (how, name) {
                (EXACT, Some(name)) => filter.exact.push((kind.to_owned(), Part::Named(name.to_owned()))),
                (DEFAULT, None) => filter.exact.push((kind.to_owned(), Part::Default)),
                (SPECIFIED, None) => filter.any.push(kind.to_owned()),
                (EXACT, None) => return invalid("an exact match without a name to match".to_owned()),
                (DEFAULT | SPECIFIED, Some(_)) => {
                    return invalid(format!("match type {how} takes no name, found one for {kind}"));
                }
                _ => return invalid(format!("Unknown match type {how}")),
            }
        }
        let has = |wanted: &str| filter.kinds().any(|kind| kind == wanted);
        if has(IP) && (has(USER) || has(CLIENT_ID)) {
            return invalid("an ip cannot be asked for together with a user or a client id".to_owned());
        }
        Ok(filter)
    }

    fn kinds(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(|(kind, _)| kind.as_str()).chain(self.any.iter().map(String::as_str))
    }

    /// Whether the question is about this entity.
    pub(crate) fn matches(&self, entity: &Entity) -> bool {
        if self.strict && entity.parts().count() != self.exact.len() + self.any.len() {
            return false;
        }
        let part = |kind: &str| entity.parts().find(|(found, _)| *found == kind).map(|(_, part)| part);
        let exact = self.exact.iter().all(|(kind, wanted)| part(kind) == Some(wanted));
        exact && self.any.iter().all(|kind| part(kind).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(user: Option<Option<&str>>, client_id: Option<Option<&str>>) -> Entity {
        let part = |part: Option<Option<&str>>| part.map_or(Part::Absent, Part::of);
        Entity { user: part(user), client_id: part(client_id) }
    }

    #[test]
    fn the_most_specific_quota_is_in_force_as_in_kafka() {
        let (named, default) = (Some(Some("u")), Some(None));
        let client = Some(Some("c"));
        // From the last to the first in order; each new one takes over.
        let levels = [
            (entity(None, default), entity(None, client)),
            (entity(None, client), entity(None, client)),
            (entity(default, None), entity(named, None)),
            (entity(default, default), entity(named, client)),
            (entity(default, client), entity(named, client)),
            (entity(named, None), entity(named, None)),
            (entity(named, default), entity(named, client)),
            (entity(named, client), entity(named, client)),
        ];
        let mut limits = Limits::new();
        let find = |limits: &Limits| in_force(limits, Key::ProducerByteRate, "u", "c");
        assert_eq!(find(&limits), None);
        for (rank, (level, counted)) in (1..).zip(levels) {
            limits.insert(level.clone(), [(Key::ProducerByteRate, f64::from(rank))].into());
            assert_eq!(find(&limits), Some((counted, f64::from(rank))), "{level:?}");
        }
        assert_eq!(in_force(&limits, Key::ConsumerByteRate, "u", "c"), None, "a quota of the other kind");
        // A level without this kind of quota is passed over.
        limits.insert(entity(named, client), [(Key::ConsumerByteRate, 5.0)].into());
        assert_eq!(find(&limits), Some((entity(named, client), 7.0)));
    }

    #[test]
    fn entities_and_values_that_cannot_be_are_refused() {
        let check = |parts: &[(&str, Option<&str>)], expected: &str| {
            let error = Entity::parse(parts.iter().copied()).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        check(&[], "empty");
        check(&[("user", None), ("user", Some("a"))], "duplicate");
        check(&[("planet", None)], "planet");
        check(&[("ip", Some("127.0.0.1"))], "not enforced");
        for (value, expected) in [
            (0.0, "greater than 0"),
            (-1.0, "greater than 0"),
            (f64::NAN, "greater"),
            (1e30, "too large"),
            (1.5, "frac"),
        ] {
            let error = check_value(Key::ProducerByteRate, value).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        assert!(Key::parse("request_percentage").expect_err("refused").contains("not enforced"));
        assert!(Key::parse("speed").expect_err("refused").contains("speed"));
    }

    #[test]
    fn questions_find_what_they_ask_for() {
        let all = [
            entity(Some(Some("a")), None),
            entity(Some(None), None),
            entity(Some(Some("a")), Some(Some("c"))),
            entity(None, Some(Some("c"))),
        ];
        let check = |components: &[(&str, i8, Option<&str>)], strict: bool, expected: &[usize]| {
            let filter = Filter::parse(components.iter().copied(), strict).expect("valid");
            let found: Vec<usize> = (0..all.len()).filter(|&at| filter.matches(&all[at])).collect();
            assert_eq!(found, expected, "{components:?}");
        };
        check(&[], false, &[0, 1, 2, 3]);
        check(&[], true, &[]);
        check(&[("user", EXACT, Some("a"))], false, &[0, 2]);
        check(&[("user", EXACT, Some("a"))], true, &[0]);
        check(&[("user", DEFAULT, None)], false, &[1]);
        check(&[("user", SPECIFIED, None)], false, &[0, 1, 2]);
        check(&[("user", SPECIFIED, None), ("client-id", SPECIFIED, None)], true, &[2]);
        check(&[("ip", SPECIFIED, None)], false, &[]);
    }

    #[test]
    fn questions_that_make_no_sense_are_refused() {
        for components in [
            vec![("", 0, Some("a"))],
            vec![("user", 0, None)],
            vec![("user", 1, Some("a"))],
            vec![("user", 2, Some("a"))],
            vec![("user", 3, None)],
            vec![("user", 2, None), ("user", 1, None)],
            vec![("user", 2, None), ("ip", 2, None)],
        ] {
            let error = Filter::parse(components.iter().copied(), false).expect_err("refused");
            assert!(matches!(error, FilterError::Invalid(_)), "{components:?}");
        }
        let error = Filter::parse([("planet", 0, Some("a"))].into_iter(), false).expect_err("refused");
        assert!(matches!(error, FilterError::Unsupported(_)));
    }
}
