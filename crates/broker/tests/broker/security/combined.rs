//! Users and their rights together with fetch sessions, quotas, and the limits of connections and memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_broker::{Broker, ListenerProtocol, ListenerSettings, ManualClock};
use kafka_protocol::messages::*;
use tokio::time::timeout;
use uuid::Uuid;

use super::rights::{ALLOW, READ, Resource, World, rule};
use super::{listener, log_in, start_scram, with_users};
use crate::batch::Batch;
use crate::client::{Client, PATIENCE, fetch_request, produce_request, text, topic_name};

const DENIED: i16 = 29;
const UNKNOWN: i16 = 3;
const UNKNOWN_ID: i16 = 100;

/// The names of all topics by their ids.
async fn names(client: &mut Client) -> BTreeMap<Uuid, String> {
    let all = client.call(&MetadataRequest::default().with_topics(None), 12).await.topics;
    // The broker's own comes a moment after offsets were committed, or later on a busy machine.
    let own = all.into_iter().filter(|topic| !topic.is_internal);
    own.map(|topic| (topic.topic_id, topic.name.unwrap().to_string())).collect()
}

/// A fetch of both topics from their beginning that opens a session.
fn full(names: &BTreeMap<Uuid, String>, version: i16) -> FetchRequest {
    let topics = names.iter().map(|(id, name)| {
        let topic = fetch_request(name, 0, 0, 0).topics.remove(0);
        if version >= 13 { topic.with_topic(topic_name("")).with_topic_id(*id) } else { topic }
    });
    FetchRequest::default().with_session_epoch(0).with_max_bytes(1 << 20).with_topics(topics.collect())
}

/// The session's next fetch, which names nothing.
fn next(id: i32, epoch: i32) -> FetchRequest {
    FetchRequest::default().with_max_bytes(1 << 20).with_session_id(id).with_session_epoch(epoch)
}

/// What an answer says of each topic: its error, and its records.
fn told(response: &FetchResponse, names: &BTreeMap<Uuid, String>) -> BTreeMap<String, (i16, Vec<String>)> {
    assert_eq!(response.error_code, 0);
    let topics = response.responses.iter().map(|topic| {
        let name = names.get(&topic.topic_id).cloned().unwrap_or_else(|| topic.topic.to_string());
        let partition = &topic.partitions[0];
        let batches = crate::batch::parse(&partition.records.clone().unwrap_or_default());
        (name, (partition.error_code, batches.into_iter().flat_map(|batch| batch.values).collect()))
    });
    topics.collect()
}

fn expected(topics: [(i16, &[&str]); 2]) -> BTreeMap<String, (i16, Vec<String>)> {
    let of = |(code, values): (i16, &[&str])| (code, values.iter().map(|value| (*value).to_owned()).collect());
    ["t", "u"].map(str::to_owned).into_iter().zip(topics.map(of)).collect()
}

#[tokio::test]
async fn rights_are_asked_for_at_each_fetch_of_a_session() {
    for version in [7, 12, 13, 17] {
        let mut world = World::new().await;
        world.root.create("u").await;
        let names = names(&mut world.root).await;
        for topic in ["t", "u"] {
            world.root.append(topic, Batch::of(["a"]).bytes()).await;
        }
        let read = |topic| rule(ALLOW, READ, Resource::Topic, topic);
        world.rules(vec![read("t")]).await;
        let answer = world.alice.call(&full(&names, version), version).await;
        let id = answer.session_id;
        assert!(id > 0, "version {version}");
        assert_eq!(told(&answer, &names), expected([(0, &["a"]), (DENIED, &[])]), "version {version}");
        for topic in ["t", "u"] {
            world.root.append(topic, Batch::of(["b"]).bytes()).await;
        }
        // The session reads on where it was told to, from the beginning; only what is allowed changes.
        let steps: [(&[&str], _); 5] = [
            (&["t"], [(0, &["a", "b"][..]), (DENIED, &[][..])]),
            (&["t", "u"], [(0, &["a", "b"]), (0, &["a", "b"])]),
            (&["u"], [(DENIED, &[]), (0, &["a", "b"])]),
            (&[], [(DENIED, &[]), (DENIED, &[])]),
            (&["t"], [(0, &["a", "b"]), (DENIED, &[])]),
        ];
        for ((allowed, topics), epoch) in steps.into_iter().zip(1..) {
            world.rules(allowed.iter().map(|topic| read(topic)).collect()).await;
            let answer = world.alice.call(&next(id, epoch), version).await;
            assert_eq!(answer.session_id, id);
            assert_eq!(told(&answer, &names), expected(topics), "version {version} with {allowed:?}");
        }
    }
}

/// In a session the same errors are told with each answer, so who got them at once would ask without a pause.
#[tokio::test]
async fn a_topic_that_is_denied_or_gone_does_not_end_a_long_poll_for_others() {
    let poll = |id, epoch| next(id, epoch).with_max_wait_ms(60_000).with_min_bytes(1);
    for (version, gone, code) in [(12, false, DENIED), (13, false, DENIED), (12, true, UNKNOWN), (13, true, UNKNOWN_ID)]
    {
        let mut world = World::new().await;
        world.root.create("u").await;
        let names = names(&mut world.root).await;
        let readable = if gone { vec!["t", "u"] } else { vec!["t"] };
        world.rules(readable.iter().map(|topic| rule(ALLOW, READ, Resource::Topic, topic)).collect()).await;
        let id = world.alice.call(&full(&names, version), version).await.session_id;
        if gone {
            let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("u")]);
            world.root.call(&delete, 5).await;
        }
        world.alice.send(&poll(id, 1), version).await;
        assert!(!world.alice.has_answer().await, "version {version}, {code}: there is nothing to read");
        world.root.append("t", Batch::of(["a"]).bytes()).await;
        let answer = world.alice.receive::<FetchRequest>(version).await;
        assert_eq!(told(&answer, &names), expected([(0, &["a"]), (code, &[])]), "version {version}");
        // Where nothing else is asked for there is nothing to wait for.
        let t = *names.iter().find(|(_, name)| *name == "t").unwrap().0;
        let forgotten = fetch_request::ForgottenTopic::default().with_partitions(vec![0]);
        let forgotten = match version {
            12 => forgotten.with_topic(topic_name("t")),
            _ => forgotten.with_topic_id(t),
        };
        let answer = world.alice.call(&poll(id, 2).with_forgotten_topics_data(vec![forgotten]), version).await;
        assert_eq!(told(&answer, &names), BTreeMap::from([("u".to_owned(), (code, Vec::new()))]));
    }
}

#[tokio::test]
async fn a_session_of_another_user_lends_no_rights() {
    let mut world = World::new().await;
    world.root.create("u").await;
    let names = names(&mut world.root).await;
    world.root.append("t", Batch::of(["a"]).bytes()).await;
    world.root.append("u", Batch::of(["a"]).bytes()).await;
    let id = world.root.call(&full(&names, 12), 12).await.session_id;
    world.rules(vec![rule(ALLOW, READ, Resource::Topic, "u")]).await;
    let stolen = world.alice.call(&next(id, 1), 12).await;
    assert_eq!(told(&stolen, &names), expected([(DENIED, &[]), (0, &["a"])]));
}

#[tokio::test]
async fn a_quota_counts_for_the_user_and_not_for_others_with_the_same_client_id() {
    let dir = tempfile::tempdir().unwrap();
    let settings = with_users(dir.path(), listener(ListenerProtocol::SaslPlaintext), &["root", "alice"]);
    let clock = Arc::new(ManualClock::at(1_000_000));
    let broker = Broker::start_with_clock(settings, clock).await.unwrap();
    let (mut root, mut alice) = (log_in(&broker, "root").await, log_in(&broker, "alice").await);
    root.create("t").await;
    let all = create_acls_request::AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_resource_pattern_type(3)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(2)
        .with_permission_type(ALLOW);
    root.call(&CreateAclsRequest::default().with_creations(vec![all]), 3).await;
    let part = alter_client_quotas_request::EntityData::default()
        .with_entity_type(text("user"))
        .with_entity_name(Some(text("alice")));
    let op = |key| alter_client_quotas_request::OpData::default().with_key(text(key)).with_value(1000.0);
    let entry = alter_client_quotas_request::EntryData::default()
        .with_entity(vec![part])
        .with_ops(vec![op("producer_byte_rate"), op("consumer_byte_rate")]);
    let altered = root.call(&AlterClientQuotasRequest::default().with_entries(vec![entry]), 1).await;
    assert_eq!(altered.entries[0].error_code, 0, "{altered:?}");

    let produce = produce_request("t", Batch::sized(50_000).bytes(), 1);
    assert_eq!(root.call(&produce, 7).await.throttle_time_ms, 0);
    let fetch = fetch_request("t", 0, 0, 1);
    assert_eq!(root.call(&fetch, 12).await.throttle_time_ms, 0);
    // Another connection, as this one is not read again before the clock moves.
    let over = log_in(&broker, "alice").await.call(&fetch, 12).await;
    assert!(over.throttle_time_ms > 0 && over.responses.is_empty(), "{over:?}");
    let over = alice.call(&produce, 7).await;
    assert!(over.throttle_time_ms > 0, "{over:?}");
    assert_eq!(over.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(root.call(&produce, 7).await.throttle_time_ms, 0);
}

#[tokio::test]
async fn requests_of_strangers_count_for_the_memory_of_all() {
    let (_dir, broker) = start_scram(&["root"]).await;
    let mut root = log_in(&broker, "root").await;
    let held = async |root: &mut Client, is_reached: fn(usize) -> bool| {
        let reached = async {
            while !is_reached(broker.request_memory().now) {
                root.call(&ApiVersionsRequest::default(), 3).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{:?}", broker.request_memory()));
    };
    let mut stranger = Client::connect(broker.local_addr()).await;
    stranger.send_raw(&60_000_i32.to_be_bytes()).await;
    stranger.send_raw(&[0; 59_999]).await;
    held(&mut root, |bytes| bytes >= 59_999).await;
    drop(stranger);
    held(&mut root, |bytes| bytes < 59_999).await;
}

#[tokio::test]
async fn connections_of_one_address_are_counted_over_all_listeners() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = crate::settings(dir.path());
    settings.max_connections_per_ip = 1;
    settings.listeners = ["a", "b"].map(|name| ListenerSettings::plaintext(name, ([127, 0, 0, 1], 0).into())).into();
    let broker = Broker::start(settings).await.unwrap();
    let mut first = Client::connect(broker.listener_addr("a").unwrap()).await;
    first.call(&ApiVersionsRequest::default(), 3).await;
    let mut second = Client::connect(broker.listener_addr("b").unwrap()).await;
    assert!(second.receive_frame().await.is_none());
    first.call(&ApiVersionsRequest::default(), 3).await;
}
