//! Access rules, managed over the protocol as `kafka-acls.sh` does.

use highwater_broker::{Broker, ListenerProtocol};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::*;

use super::{listener, log_in, start_scram, with_users};
use crate::client::{Client, text};

const TOPIC: i8 = 2;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const READ: i8 = 3;
const ALLOW: i8 = 3;
const ANY: i8 = 1;
const MATCH: i8 = 2;

fn allow_read(principal: &str, topic: &str, pattern: i8) -> AclCreation {
    AclCreation::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_resource_pattern_type(pattern)
        .with_principal(text(principal))
        .with_host(text("*"))
        .with_operation(READ)
        .with_permission_type(ALLOW)
}

async fn create(client: &mut Client, creations: Vec<AclCreation>) -> Vec<i16> {
    let response = client.call(&CreateAclsRequest::default().with_creations(creations), 3).await;
    response.results.iter().map(|result| result.error_code).collect()
}

/// Everything a filter by name and pattern finds, as `pattern name principal`.
async fn describe(client: &mut Client, name: Option<&str>, pattern: i8) -> Vec<String> {
    let request = DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_resource_name_filter(name.map(text))
        .with_pattern_type_filter(pattern)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY);
    let response = client.call(&request, 3).await;
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    let all = response.resources.iter().flat_map(|resource| {
        let of = |acl: &describe_acls_response::AclDescription| {
            format!("{} {} {}", resource.pattern_type, &*resource.resource_name, &*acl.principal)
        };
        resource.acls.iter().map(of).collect::<Vec<_>>()
    });
    all.collect()
}

#[tokio::test]
async fn rules_are_created_found_kept_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = || with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), &["root"]);
    let broker = Broker::start(settings()).await.unwrap();
    let mut root = log_in(&broker, "root").await;
    let rules = || {
        vec![
            allow_read("User:alice", "orders", LITERAL),
            allow_read("User:bob", "orders", LITERAL),
            allow_read("User:alice", "ord", PREFIXED),
            allow_read("User:alice", "other", LITERAL),
        ]
    };
    assert_eq!(create(&mut root, rules()).await, [0; 4]);
    assert_eq!(create(&mut root, rules()).await, [0; 4], "the same rules again change nothing");
    broker.shutdown().await.unwrap();

    let broker = Broker::start(settings()).await.unwrap();
    let mut root = log_in(&broker, "root").await;
    let all = ["3 orders User:alice", "3 orders User:bob", "3 other User:alice", "4 ord User:alice"];
    assert_eq!(describe(&mut root, None, ANY).await, all);
    assert_eq!(describe(&mut root, Some("orders"), LITERAL).await, all[..2]);
    assert_eq!(describe(&mut root, Some("orders"), MATCH).await, [all[0], all[1], all[3]]);
    assert_eq!(describe(&mut root, Some("ord"), PREFIXED).await, all[3..]);

    let filter = |principal: Option<&str>, resource_type: i8| {
        DeleteAclsFilter::default()
            .with_resource_type_filter(resource_type)
            .with_resource_name_filter(None)
            .with_pattern_type_filter(ANY)
            .with_principal_filter(principal.map(text))
            .with_host_filter(None)
            .with_operation(ANY)
            .with_permission_type(ANY)
    };
    // A rule two filters match is named by both; a type of resource there is not has no rules.
    let filters =
        vec![filter(Some("User:alice"), TOPIC), filter(Some("User:alice"), ANY), filter(None, 6), filter(None, 99)];
    let response = root.call(&DeleteAclsRequest::default().with_filters(filters), 3).await;
    let found: Vec<(i16, usize)> =
        response.filter_results.iter().map(|result| (result.error_code, result.matching_acls.len())).collect();
    assert_eq!(found, [(0, 3), (0, 3), (0, 0), (42, 0)]);
    assert_eq!(describe(&mut root, None, ANY).await, ["3 orders User:bob"]);
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused_one_by_one() {
    let (_dir, broker) = start_scram(&["root"]).await;
    let mut root = log_in(&broker, "root").await;
    let good = || allow_read("User:a", "t", LITERAL);
    let codes = create(
        &mut root,
        vec![
            good().with_resource_type(99),
            good().with_resource_type(ANY),
            good().with_resource_pattern_type(MATCH),
            good().with_operation(ANY),
            good().with_permission_type(ANY),
            good().with_principal(text("alice")),
            good().with_host(text("")),
            good().with_resource_name(text("")),
            good().with_resource_name(text(&"x".repeat(5000))),
            good().with_resource_type(CLUSTER),
            good().with_resource_type(CLUSTER).with_resource_name(text("kafka-cluster")),
        ],
    )
    .await;
    assert_eq!(codes, [42, 42, 42, 42, 42, 42, 42, 42, 42, 42, 0]);
    assert_eq!(describe(&mut root, None, ANY).await, ["3 kafka-cluster User:a"]);
}

#[tokio::test]
async fn there_is_a_limit_to_rules() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), &["root"]);
    settings.security.max_acls = 2;
    let broker = Broker::start(settings).await.unwrap();
    let mut root = log_in(&broker, "root").await;
    let rule = |name: &str| allow_read("User:a", name, LITERAL);
    assert_eq!(create(&mut root, vec![rule("a"), rule("b")]).await, [0, 0]);
    assert_eq!(create(&mut root, vec![rule("c")]).await, [44]);
    assert_eq!(create(&mut root, vec![rule("a")]).await, [0], "one that is there");
}

#[tokio::test]
async fn without_authentication_there_are_no_rules() {
    let (_dir, _broker, mut client) = crate::start().await;
    assert_eq!(create(&mut client, vec![allow_read("User:a", "t", LITERAL)]).await, [54]);
    assert_eq!(client.call(&DescribeAclsRequest::default(), 3).await.error_code, 54);
    let request = DeleteAclsRequest::default().with_filters(vec![DeleteAclsFilter::default()]);
    let response = client.call(&request, 3).await;
    assert_eq!(response.filter_results[0].error_code, 54);
    assert!(response.filter_results[0].error_message.as_ref().unwrap().contains("authorizer"));
}
