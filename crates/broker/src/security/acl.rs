//! Access rules, and the decision whether they allow something. Pure.
//!
//! As in Kafka: a rule allows or denies a principal, from a host, an operation on the resources a
//! pattern matches. A rule that denies wins over every rule that allows. To be allowed to read,
//! write, delete or alter is to be allowed to describe, and to alter configs to describe them; to
//! be denied one is not to be denied the other.
//!
//! Rules are kept in the order of what they are about: type, pattern, resource. So those that cover a name are found
//! by looking for it and for its beginnings, however many rules there are ([`covering`]).

use std::collections::BTreeSet;
use std::iter;

use serde::{Deserialize, Serialize};

use super::principal::{Principal, WILDCARD};

/// The name of the cluster as a resource.
pub(crate) const CLUSTER: &str = "kafka-cluster";

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $($variant = $code),* }

        impl $name {
            /// What the protocol's number stands for.
            pub(crate) fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            pub(crate) fn code(self) -> i8 {
                self as i8
            }
        }
    };
}

codes! {
    /// What rules are about.
    ResourceType { Topic = 2, Group = 3, Cluster = 4, TransactionalId = 5 }
}

codes! {
    /// How a rule names its resources.
    Pattern { Literal = 3, Prefixed = 4 }
}

codes! {
    /// What is done to a resource.
    Operation {
        All = 2, Read = 3, Write = 4, Create = 5, Delete = 6, Alter = 7, Describe = 8, ClusterAction = 9,
        DescribeConfigs = 10, AlterConfigs = 11, IdempotentWrite = 12,
    }
}

codes! {
    /// What a rule says.
    Permission { Deny = 2, Allow = 3 }
}

/// A rule. The order of its fields is the order of rules, which [`covering`] relies on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acl {
    pub(crate) resource_type: ResourceType,
    pub(crate) pattern: Pattern,
    /// A name, the beginning of one, or `*` (literal) for all.
    pub(crate) resource: String,
    pub(crate) principal: Principal,
    /// An address, or `*` for all.
    pub(crate) host: String,
    pub(crate) operation: Operation,
    pub(crate) permission: Permission,
}

impl Acl {
    fn covers(&self, resource_type: ResourceType, name: &str) -> bool {
        self.resource_type == resource_type
            && match self.pattern {
                Pattern::Literal => self.resource == WILDCARD || self.resource == name,
                Pattern::Prefixed => name.starts_with(&self.resource),
            }
    }

    fn is_about(&self, who: &Who<'_>) -> bool {
        let principal = self.principal.kind == who.principal.kind
            && (self.principal.name == WILDCARD || self.principal.name == who.principal.name);
        principal && (self.host == WILDCARD || self.host == who.host)
    }

    fn speaks_of(&self, operation: Operation) -> bool {
        self.operation == Operation::All
            || self.operation == operation
            || (self.permission == Permission::Allow && implied(operation).contains(&self.operation))
    }
}

/// What each of is enough to be allowed `operation`.
fn implied(operation: Operation) -> &'static [Operation] {
    match operation {
        Operation::Describe => &[Operation::Read, Operation::Write, Operation::Delete, Operation::Alter],
        Operation::DescribeConfigs => &[Operation::AlterConfigs],
        _ => &[],
    }
}

/// Who wants something, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) host: &'a str,
}

/// The rules of a broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) acls: &'a BTreeSet<Acl>,
    pub(crate) super_users: &'a BTreeSet<Principal>,
    /// Whether resources no rule is about are everybody's.
    pub(crate) allow_without_acl: bool,
}

/// Whether the rules allow an operation on a resource.
pub(crate) fn authorize(
    rules: Rules<'_>,
    who: Who<'_>,
    operation: Operation,
    resource_type: ResourceType,
    name: &str,
) -> bool {
    if rules.super_users.contains(who.principal) {
        return true;
    }
    let mut covered = false;
    let mut allowed = false;
    for acl in covering(rules.acls, resource_type, name) {
        covered = true;
        if acl.is_about(&who) && acl.speaks_of(operation) {
            if acl.permission == Permission::Deny {
                return false;
            }
            allowed = true;
        }
    }
    allowed || (!covered && rules.allow_without_acl)
}

/// The rules that cover a resource: those of its name, of every name, and of each beginning of its name.
fn covering<'a>(acls: &'a BTreeSet<Acl>, resource_type: ResourceType, name: &str) -> impl Iterator<Item = &'a Acl> {
    let of = move |pattern: Pattern, resource: &str| {
        let resource = resource.to_owned();
        let found = acls.range(first_of(resource_type, pattern, resource.clone())..);
        found.take_while(move |acl| {
            (acl.resource_type, acl.pattern, &acl.resource) == (resource_type, pattern, &resource)
        })
    };
    let named = (name != WILDCARD).then(|| of(Pattern::Literal, name));
    let beginnings = beginnings(acls, resource_type, name).flat_map(move |prefix| of(Pattern::Prefixed, prefix));
    let beginnings: Vec<&Acl> = beginnings.collect();
    of(Pattern::Literal, WILDCARD).chain(named.into_iter().flatten()).chain(beginnings)
}

/// The beginnings of a name that rules are about, from the longest. Between two of them is at most one look at a rule
/// that is about another name.
fn beginnings<'a>(acls: &'a BTreeSet<Acl>, resource_type: ResourceType, name: &str) -> impl Iterator<Item = &'a str> {
    let first = first_of(resource_type, Pattern::Prefixed, String::new());
    let mut left = Some(name.to_owned());
    iter::from_fn(move || {
        loop {
            let at_most = left.take()?;
            // No text stands between one and itself with a zero behind it.
            let behind = first_of(resource_type, Pattern::Prefixed, format!("{at_most}\0"));
            let found = &acls.range(&first..&behind).next_back()?.resource;
            let shared = found.chars().zip(at_most.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8());
            let shared: usize = shared.sum();
            if shared < found.len() {
                left = Some(at_most[..shared].to_owned());
                continue;
            }
            let mut shorter = found.chars();
            left = shorter.next_back().map(|_| shorter.as_str().to_owned());
            return Some(found.as_str());
        }
    })
}

/// What no rule about the same resources stands before.
fn first_of(resource_type: ResourceType, pattern: Pattern, resource: String) -> Acl {
    Acl {
        resource_type,
        pattern,
        resource,
        principal: Principal { kind: String::new(), name: String::new() },
        host: String::new(),
        operation: Operation::All,
        permission: Permission::Deny,
    }
}

/// Whether the rules allow an operation on at least one resource of a type, there or not.
pub(crate) fn authorize_any(rules: Rules<'_>, who: Who<'_>, operation: Operation, resource_type: ResourceType) -> bool {
    // A name no rule is likely to be about: for super users and open brokers, as Kafka does it.
    if authorize(rules, who, operation, resource_type, "hardcode") {
        return true;
    }
    let of = |permission: Permission| {
        let exactly = move |acl: &&Acl| acl.operation == Operation::All || acl.operation == operation;
        let about = rules.acls.iter().filter(move |acl| acl.resource_type == resource_type && acl.is_about(&who));
        about.filter(exactly).filter(move |acl| acl.permission == permission)
    };
    let denied = |allowing: &Acl| {
        of(Permission::Deny).any(|denying| match (denying.pattern, allowing.pattern) {
            (Pattern::Literal, Pattern::Literal) => {
                denying.resource == WILDCARD || denying.resource == allowing.resource
            }
            (Pattern::Literal, Pattern::Prefixed) => denying.resource == WILDCARD,
            (Pattern::Prefixed, _) => allowing.resource != WILDCARD && allowing.resource.starts_with(&denying.resource),
        })
    };
    of(Permission::Allow).any(|allowing| !denied(allowing))
}

/// Which rules are asked for. What is `None` may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) resource_type: Option<ResourceType>,
    pub(crate) pattern: PatternFilter,
    pub(crate) resource: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) operation: Option<Operation>,
    pub(crate) permission: Option<Permission>,
}

/// Which patterns are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PatternFilter {
    #[default]
    Any,
    /// Every pattern that covers the name, whatever its form.
    Match,
    Exactly(Pattern),
}

impl Filter {
    pub(crate) fn matches(&self, acl: &Acl) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        let resource = match (self.pattern, &self.resource) {
            (PatternFilter::Any, None) | (PatternFilter::Match, None) => true,
            (PatternFilter::Any, Some(name)) => acl.resource == *name,
            (PatternFilter::Match, Some(name)) => acl.covers(acl.resource_type, name),
            (PatternFilter::Exactly(pattern), name) => acl.pattern == pattern && is(name.as_ref(), &acl.resource),
        };
        resource
            && is(self.resource_type.as_ref(), &acl.resource_type)
            && self.principal.as_ref().is_none_or(|wanted| *wanted == acl.principal.to_string())
            && is(self.host.as_ref(), &acl.host)
            && is(self.operation.as_ref(), &acl.operation)
            && is(self.permission.as_ref(), &acl.permission)
    }
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
