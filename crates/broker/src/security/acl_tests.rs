//! Rules as text, decisions as tables.

use super::*;

/// `allow User:alice 10.0.0.1 read topic orders`; a name that ends in `..` is a prefix.
fn acl(text: &str) -> Acl {
    let words: Vec<&str> = text.split(' ').collect();
    let &[permission, principal, host, operation, resource_type, name] = words.as_slice() else { panic!("{text}") };
    let read = |word: &str| serde_json::Value::String(word.to_owned());
    let (resource, pattern) = match name.strip_suffix("..") {
        Some(prefix) => (prefix, Pattern::Prefixed),
        None => (name, Pattern::Literal),
    };
    Acl {
        permission: serde_json::from_value(read(permission)).expect(text),
        principal: principal.parse().expect(text),
        host: host.to_owned(),
        operation: serde_json::from_value(read(operation)).expect(text),
        resource_type: serde_json::from_value(read(resource_type)).expect(text),
        resource: resource.to_owned(),
        pattern,
    }
}

struct Table {
    acls: BTreeSet<Acl>,
    super_users: BTreeSet<Principal>,
    allow_without_acl: bool,
}

impl Table {
    fn new(acls: &[&str]) -> Self {
        let super_users = BTreeSet::from([Principal::user("root")]);
        Self { acls: acls.iter().map(|text| acl(text)).collect(), super_users, allow_without_acl: false }
    }

    fn rules(&self) -> Rules<'_> {
        Rules { acls: &self.acls, super_users: &self.super_users, allow_without_acl: self.allow_without_acl }
    }

    fn allows(&self, user: &str, operation: Operation, resource_type: ResourceType, name: &str) -> bool {
        let who = Who { principal: &Principal::user(user), host: "10.0.0.1" };
        authorize(self.rules(), who, operation, resource_type, name)
    }

    fn allows_any(&self, user: &str) -> bool {
        let who = Who { principal: &Principal::user(user), host: "10.0.0.1" };
        authorize_any(self.rules(), who, Operation::Write, ResourceType::Topic)
    }
}

#[test]
fn what_rules_allow() {
    use Operation::*;
    let table = |acls: &[&str], asked: &[(&str, Operation, &str, bool)]| {
        let table = Table::new(acls);
        for &(user, operation, topic, expected) in asked {
            let found = table.allows(user, operation, ResourceType::Topic, topic);
            assert_eq!(found, expected, "{acls:?}: {user} {operation:?} {topic}");
        }
    };
    table(&[], &[("alice", Read, "t", false), ("root", Alter, "t", true)]);
    table(
        &["allow User:alice * read topic t"],
        &[
            ("alice", Read, "t", true),
            ("alice", Describe, "t", true),
            ("alice", Write, "t", false),
            ("alice", DescribeConfigs, "t", false),
            ("alice", Read, "tt", false),
            ("bob", Read, "t", false),
        ],
    );
    // Names and hosts.
    table(&["allow User:* * read topic t"], &[("bob", Read, "t", true)]);
    table(&["allow Group:bob * read topic t"], &[("bob", Read, "t", false)]);
    table(&["allow User:bob 10.0.0.1 read topic t"], &[("bob", Read, "t", true)]);
    table(&["allow User:bob 10.0.0.2 read topic t"], &[("bob", Read, "t", false)]);
    // Patterns.
    table(&["allow User:a * read topic *"], &[("a", Read, "anything", true)]);
    table(&["allow User:a * read topic ord.."], &[("a", Read, "orders", true), ("a", Read, "or", false)]);
    table(&["allow User:a * read group t"], &[("a", Read, "t", false)]);
    // What is implied, by permissions only.
    for (operation, implied) in
        [(Read, Describe), (Write, Describe), (Delete, Describe), (Alter, Describe), (AlterConfigs, DescribeConfigs)]
    {
        let name = serde_json::to_value(operation).expect("a name");
        let rule = |permission: &str| format!("{permission} User:a * {} topic t", name.as_str().expect("text"));
        table(&[&rule("allow")], &[("a", implied, "t", true)]);
        table(
            &["allow User:a * all topic t", &rule("deny")],
            &[("a", implied, "t", true), ("a", operation, "t", false)],
        );
    }
    table(&["allow User:a * create topic t"], &[("a", Describe, "t", false)]);
    table(&["allow User:a * all topic t"], &[("a", Delete, "t", true), ("a", AlterConfigs, "t", true)]);
    // A rule that denies wins, whoever and whatever is allowed besides.
    table(
        &["allow User:a * read topic t", "deny User:* * all topic t.."],
        &[("a", Read, "t", false), ("a", Describe, "t", false), ("root", Read, "t", true)],
    );
    table(&["allow User:a * all topic t", "deny User:a 10.0.0.2 all topic t"], &[("a", Read, "t", true)]);
    table(
        &["allow User:a * all topic *", "deny User:a * read topic t"],
        &[("a", Read, "t", false), ("a", Read, "u", true)],
    );
}

#[test]
fn what_no_rule_is_about_is_everybodys_only_where_that_is_set() {
    let mut table = Table::new(&["allow User:a * read topic t"]);
    table.allow_without_acl = true;
    let read = |user: &str, topic: &str| table.allows(user, Operation::Read, ResourceType::Topic, topic);
    assert!(read("a", "t") && !read("b", "t") && read("b", "free"));
    assert!(table.allows("b", Operation::Alter, ResourceType::Cluster, CLUSTER));
}

#[test]
fn some_resource_of_a_type() {
    for (acls, expected) in [
        (&[][..], false),
        (&["allow User:a * write topic t"], true),
        (&["allow User:a * all topic t"], true),
        (&["allow User:a * read topic t"], false),
        (&["allow User:a * write group t"], false),
        (&["allow User:b * write topic t"], false),
        (&["allow User:a 10.0.0.2 write topic t"], false),
        (&["allow User:a * write topic t", "deny User:a * write topic t"], false),
        (&["allow User:a * write topic t", "deny User:a * write topic u"], true),
        (&["allow User:a * write topic t", "deny User:a * write topic *"], false),
        (&["allow User:a * write topic *", "deny User:a * write topic t"], true),
        (&["allow User:a * write topic orders", "deny User:a * write topic ord.."], false),
        (&["allow User:a * write topic ord..", "deny User:a * write topic orders"], true),
        (&["allow User:a * write topic ord..", "deny User:a * write topic or.."], false),
        (&["allow User:a * write topic or..", "deny User:a * write topic ord.."], true),
        (&["allow User:a * write topic t", "deny User:* * all topic *"], false),
    ] {
        assert_eq!(Table::new(acls).allows_any("a"), expected, "{acls:?}");
    }
    assert!(Table::new(&[]).allows_any("root"));
}

#[test]
fn filters() {
    let acls = [
        "allow User:a * read topic orders",
        "allow User:a * read topic ord..",
        "allow User:b 10.0.0.1 write topic *",
        "deny User:a * all group orders",
    ]
    .map(acl);
    let check = |filter: Filter, expected: &[usize]| {
        let found: Vec<usize> = (0..acls.len()).filter(|&at| filter.matches(&acls[at])).collect();
        assert_eq!(found, expected, "{filter:?}");
    };
    let any = Filter::default;
    let orders = || Some("orders".to_owned());
    check(any(), &[0, 1, 2, 3]);
    check(Filter { resource: orders(), ..any() }, &[0, 3]);
    check(Filter { resource: orders(), pattern: PatternFilter::Match, ..any() }, &[0, 1, 2, 3]);
    check(
        Filter { resource_type: Some(ResourceType::Topic), resource: orders(), pattern: PatternFilter::Match, ..any() },
        &[0, 1, 2],
    );
    check(Filter { pattern: PatternFilter::Match, ..any() }, &[0, 1, 2, 3]);
    check(Filter { pattern: PatternFilter::Exactly(Pattern::Prefixed), ..any() }, &[1]);
    check(Filter { pattern: PatternFilter::Exactly(Pattern::Literal), resource: orders(), ..any() }, &[0, 3]);
    check(Filter { principal: Some("User:b".to_owned()), ..any() }, &[2]);
    check(Filter { host: Some("10.0.0.1".to_owned()), ..any() }, &[2]);
    check(Filter { operation: Some(Operation::All), ..any() }, &[3]);
    check(Filter { permission: Some(Permission::Deny), ..any() }, &[3]);
}

#[test]
fn codes_are_kafkas() {
    assert_eq!(Operation::from_code(12), Some(Operation::IdempotentWrite));
    assert_eq!((Operation::from_code(1), Operation::from_code(13)), (None, None));
    assert_eq!(
        (ResourceType::from_code(5), Pattern::from_code(4)),
        (Some(ResourceType::TransactionalId), Some(Pattern::Prefixed))
    );
    assert_eq!((Permission::Deny.code(), Permission::Allow.code()), (2, 3));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Short names of few letters, one of them of two bytes, so that many begin with others.
    const NAME: &str = "[abß]{0,4}";

    fn rules() -> impl Strategy<Value = BTreeSet<Acl>> {
        let name = prop_oneof![4 => NAME, 1 => Just(WILDCARD.to_owned())];
        let types = prop_oneof![Just(ResourceType::Topic), Just(ResourceType::Group)];
        let patterns = prop_oneof![Just(Pattern::Literal), Just(Pattern::Prefixed)];
        let permissions = prop_oneof![Just(Permission::Allow), Just(Permission::Deny)];
        let rule = (types, patterns, name, "[xy]", permissions).prop_map(
            |(resource_type, pattern, resource, user, permission)| Acl {
                principal: Principal::user(user),
                host: WILDCARD.to_owned(),
                operation: Operation::Read,
                permission,
                ..first_of(resource_type, pattern, resource)
            },
        );
        prop::collection::btree_set(rule, 0..30)
    }

    proptest! {
        #[test]
        fn what_covers_a_name_is_found_as_by_looking_at_every_rule(acls in rules(), name in NAME) {
            for name in [&name, WILDCARD] {
                let mut found: Vec<&Acl> = covering(&acls, ResourceType::Topic, name).collect();
                found.sort_unstable();
                let scanned: Vec<&Acl> = acls.iter().filter(|acl| acl.covers(ResourceType::Topic, name)).collect();
                prop_assert_eq!(found, scanned);
            }
        }
    }
}
