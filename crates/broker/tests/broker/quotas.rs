//! Client quotas over the wire: kept, found, and enforced.

use std::sync::Arc;

use highwater_broker::{Broker, Clock, ManualClock};
use kafka_protocol::messages::*;
use tempfile::TempDir;

use crate::batch::Batch;
use crate::client::{Client, fetch_request, produce_request, text};
use crate::{settings, start};

const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const UNSUPPORTED_VERSION: i16 = 35;

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

fn entry(parts: Parts<'_>, key: &str, value: Option<f64>) -> alter_client_quotas_request::EntryData {
    let parts = parts.iter().map(|(kind, name)| {
        alter_client_quotas_request::EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    });
    let op = alter_client_quotas_request::OpData::default()
        .with_key(text(key))
        .with_value(value.unwrap_or_default())
        .with_remove(value.is_none());
    alter_client_quotas_request::EntryData::default().with_entity(parts.collect()).with_ops(vec![op])
}

async fn alter(client: &mut Client, parts: Parts<'_>, key: &str, value: Option<f64>) -> (i16, String) {
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry(parts, key, value)]);
    let response = client.call(&request, 1).await;
    let altered = &response.entries[0];
    (altered.error_code, altered.error_message.as_deref().unwrap_or_default().to_owned())
}

/// Every quota there is: what it is for, and how much.
async fn all(client: &mut Client) -> Vec<(String, f64)> {
    let response = client.call(&DescribeClientQuotasRequest::default(), 1).await;
    assert_eq!(response.error_code, 0);
    let entries = response.entries.unwrap_or_default();
    let line = |entry: &describe_client_quotas_response::EntryData| {
        let parts: Vec<String> = entry
            .entity
            .iter()
            .map(|part| format!("{}={}", part.entity_type, part.entity_name.as_deref().unwrap_or("<default>")))
            .collect();
        entry.values.iter().map(|value| (format!("{} {}", parts.join(","), value.key), value.value)).collect::<Vec<_>>()
    };
    entries.iter().flat_map(line).collect()
}

#[tokio::test]
async fn quotas_are_kept_found_and_removed() {
    let (dir, broker, mut client) = start().await;
    let both = [("user", Some("u")), ("client-id", None)];
    for (parts, key, value) in [
        (&both[..], "producer_byte_rate", 1000.0),
        (&both[1..], "producer_byte_rate", 2000.0),
        (&both[..1], "consumer_byte_rate", 3000.0),
    ] {
        assert_eq!(alter(&mut client, parts, key, Some(value)).await, (0, String::new()));
    }
    let expected = [
        ("client-id=<default> producer_byte_rate".to_owned(), 2000.0),
        ("user=u consumer_byte_rate".to_owned(), 3000.0),
        ("user=u,client-id=<default> producer_byte_rate".to_owned(), 1000.0),
    ];
    assert_eq!(all(&mut client).await, expected);
    broker.shutdown().await.unwrap();
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(all(&mut client).await, expected, "after a restart");
    alter(&mut client, &both, "producer_byte_rate", None).await;
    alter(&mut client, &both[1..], "producer_byte_rate", None).await;
    assert_eq!(all(&mut client).await, expected[1..2]);
}

#[tokio::test]
async fn what_is_not_enforced_or_makes_no_sense_is_refused() {
    let (_dir, _broker, mut client) = crate::start_with(|settings| settings.max_quota_entities = 1).await;
    let client = &mut client;
    let user = [("user", Some("u"))];
    let long = "x".repeat(2000);
    for (parts, key, value, expected) in [
        (&user[..], "request_percentage", 10.0, "not enforced"),
        (&user[..], "speed", 10.0, "Invalid configuration key speed"),
        (&user[..], "producer_byte_rate", 0.0, "must be greater than 0"),
        (&[("ip", Some("127.0.0.1"))][..], "connection_creation_rate", 10.0, "not enforced"),
        (&[][..], "producer_byte_rate", 10.0, "empty"),
        (&[("user", Some(&*long))][..], "producer_byte_rate", 10.0, "max_client_id_bytes"),
    ] {
        let (code, reason) = alter(client, parts, key, Some(value)).await;
        assert!(code == INVALID_REQUEST && reason.contains(expected), "{code} {reason}");
    }
    let twice = entry(&user, "producer_byte_rate", Some(1.0));
    let request = AlterClientQuotasRequest::default().with_entries(vec![twice.clone(), twice]);
    let response = client.call(&request, 1).await;
    assert!(response.entries.iter().all(|entry| entry.error_code == INVALID_REQUEST));
    assert_eq!(alter(client, &user, "producer_byte_rate", Some(1e9)).await.0, 0);
    let (code, reason) = alter(client, &[("user", None)], "producer_byte_rate", Some(1.0)).await;
    assert!(code == POLICY_VIOLATION && reason.contains("max_quota_entities"), "{code} {reason}");
    let strange = describe_client_quotas_request::ComponentData::default().with_entity_type(text("planet"));
    let response = client.call(&DescribeClientQuotasRequest::default().with_components(vec![strange]), 1).await;
    assert_eq!((response.error_code, response.entries), (UNSUPPORTED_VERSION, None));
}

/// A broker whose time is moved by hand, with a topic of one record of 50,000 bytes.
async fn start_at_a_standstill() -> (TempDir, Broker, Client, Arc<ManualClock>) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let broker = Broker::start_with_clock(settings(dir.path()), Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    client.create("t").await;
    client.append("t", Batch::sized(50_000).bytes()).await;
    (dir, broker, client, clock)
}

/// The answer that is next is not there before the clock has been moved.
async fn is_muted_until(client: &mut Client, clock: &ManualClock, throttle_ms: i32) {
    client.send(&MetadataRequest::default(), 9).await;
    assert!(!client.has_answer().await, "a muted connection was answered");
    clock.advance(i64::from(throttle_ms) + 1);
    client.receive::<MetadataRequest>(9).await;
}

#[tokio::test]
async fn a_producer_over_its_quota_is_answered_and_then_not_read() {
    let (_dir, broker, mut client, clock) = start_at_a_standstill().await;
    alter(&mut client, &[("client-id", Some("test"))], "producer_byte_rate", Some(1000.0)).await;
    let produce = |bytes| produce_request("t", Batch::sized(bytes).bytes(), 1);
    let within = client.call(&produce(5000), 7).await;
    assert_eq!(within.throttle_time_ms, 0);
    let over = client.call(&produce(15_000), 7).await;
    // 20,000 bytes and some headers, at 1,000 a second over 10 seconds.
    assert!((10_000..11_000).contains(&over.throttle_time_ms), "{}", over.throttle_time_ms);
    assert_eq!(over.responses[0].partition_responses[0].error_code, 0, "what was sent is stored");
    let mut other = Client::connect(broker.local_addr()).await;
    other.call(&MetadataRequest::default(), 9).await;
    is_muted_until(&mut client, &clock, over.throttle_time_ms).await;
    // Without acks there is no answer, but the connection is muted all the same.
    client.send(&produce_request("t", Batch::sized(15_000).bytes(), 0), 7).await;
    is_muted_until(&mut client, &clock, 60_000).await;
}

#[tokio::test]
async fn a_member_of_a_share_group_over_its_quota_gets_what_was_acquired_for_it_and_then_nothing_for_a_while() {
    let (_dir, broker, mut client, clock) = start_at_a_standstill().await;
    let mut member = crate::share_groups::Member::join_from_the_first(&broker, "a").await;
    client.append("t", Batch::sized(50_000).bytes()).await;
    alter(&mut client, &[("user", Some("ANONYMOUS"))], "consumer_byte_rate", Some(5100.0)).await;
    let fetch = async |member: &mut crate::share_groups::Member| {
        let request = member.request(1, &[]);
        member.epoch += 1;
        let response = member.client.call(&request, 1).await;
        let records = response.responses.iter().flat_map(|topic| &topic.partitions[0].acquired_records).count();
        (records, response.throttle_time_ms)
    };
    assert_eq!(fetch(&mut member).await, (1, 0));
    let (records, throttle_ms) = fetch(&mut member).await;
    assert!(records == 1 && (9000..11_000).contains(&throttle_ms), "{records} {throttle_ms}");
    client.append("t", Batch::sized(50_000).bytes()).await;
    let mut other = Client::connect(broker.local_addr()).await;
    std::mem::swap(&mut member.client, &mut other);
    let (records, throttle_ms) = fetch(&mut member).await;
    assert!(records == 0 && throttle_ms > 0, "on another connection: {records} {throttle_ms}");
    is_muted_until(&mut other, &clock, 11_000).await;
}

#[tokio::test]
async fn a_consumer_over_its_quota_gets_nothing_for_a_while() {
    let (_dir, _broker, mut client, clock) = start_at_a_standstill().await;
    alter(&mut client, &[("user", Some("ANONYMOUS"))], "consumer_byte_rate", Some(5100.0)).await;
    let request = fetch_request("t", 0, 0, 1);
    let within = client.call(&request, 12).await;
    assert_eq!(within.throttle_time_ms, 0);
    assert!(!within.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    let over = client.call(&request, 12).await;
    assert!((9000..11_000).contains(&over.throttle_time_ms), "{}", over.throttle_time_ms);
    assert!(over.responses.is_empty());
    is_muted_until(&mut client, &clock, over.throttle_time_ms).await;
    // By then the first answer counts no longer.
    clock.advance(11_000);
    let again = client.call(&request, 12).await;
    assert_eq!((again.throttle_time_ms, again.responses.len()), (0, 1));
}
