//! Fetch sessions over the wire.

use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse, MetadataRequest, fetch_request};

use crate::batch::Batch;
use crate::client::{Client, fetch_request, topic_name};
use crate::{start, start_with};

const SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_SESSION_EPOCH: i16 = 71;

fn in_session(request: FetchRequest, id: i32, epoch: i32) -> FetchRequest {
    request.with_session_id(id).with_session_epoch(epoch)
}

/// A request that names nothing.
fn poll(id: i32, epoch: i32) -> FetchRequest {
    in_session(FetchRequest::default().with_max_bytes(1 << 20), id, epoch)
}

fn partitions(response: &FetchResponse) -> usize {
    response.responses.iter().map(|topic| topic.partitions.len()).sum()
}

#[tokio::test]
async fn a_session_tells_news_only() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    client.append("t", Batch::of(["a"]).bytes()).await;
    for version in 7..=12 {
        let end = client.list_offset("t", -1).await.0;
        let full = client.call(&in_session(fetch_request("t", end, 0, 0), 0, 0), version).await;
        let id = full.session_id;
        assert!(id > 0 && partitions(&full) == 1, "version {version}");
        let silent = client.call(&poll(id, 1), version).await;
        assert_eq!((silent.session_id, silent.error_code, partitions(&silent)), (id, 0, 0), "version {version}");
        client.append("t", Batch::of(["b"]).bytes()).await;
        // The session remembers where to read.
        let news = client.call(&poll(id, 2), version).await;
        assert_eq!(news.responses[0].topic, topic_name("t"));
        let records = news.responses[0].partitions[0].records.clone().unwrap();
        assert_eq!(crate::batch::parse(&records)[0].values, ["b"], "version {version}");
        let wrong = client.call(&poll(id, 2), version).await;
        assert_eq!((wrong.error_code, wrong.session_id), (INVALID_SESSION_EPOCH, 0));
        let unknown = client.call(&poll(id ^ 1, 1), version).await;
        assert_eq!((unknown.error_code, partitions(&unknown)), (SESSION_ID_NOT_FOUND, 0));
    }
}

#[tokio::test]
async fn a_long_poll_in_a_session_ends_when_a_partition_grows() {
    let (_dir, broker, mut client) = start().await;
    client.create("t").await;
    let id = client.call(&in_session(fetch_request("t", 0, 0, 1), 0, 0), 12).await.session_id;
    let mut writer = Client::connect(broker.local_addr()).await;
    client.send(&poll(id, 1).with_max_wait_ms(60_000).with_min_bytes(1), 12).await;
    writer.append("t", Batch::of(["late"]).bytes()).await;
    let news: FetchResponse = client.receive::<FetchRequest>(12).await;
    assert_eq!(partitions(&news), 1);
}

#[tokio::test]
async fn sessions_name_topics_by_id_from_version_13_on() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let metadata = client.call(&MetadataRequest::default().with_topics(None), 12).await;
    let mut request = in_session(fetch_request("t", 0, 0, 0), 0, 0);
    request.topics[0].topic = topic_name("");
    request.topics[0].topic_id = metadata.topics[0].topic_id;
    let full = client.call(&request, 13).await;
    let id = full.session_id;
    assert_eq!(partitions(&client.call(&poll(id, 1), 17).await), 0);
    // The id of a topic that is gone stays in the session and says so.
    client.call(&DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]), 5).await;
    let gone = client.call(&poll(id, 2), 17).await;
    assert_eq!(gone.responses[0].partitions[0].error_code, 100, "UNKNOWN_TOPIC_ID");
    let mut forget = poll(id, 3);
    forget.forgotten_topics_data = vec![
        fetch_request::ForgottenTopic::default().with_topic_id(metadata.topics[0].topic_id).with_partitions(vec![0]),
    ];
    let ended = client.call(&forget, 17).await;
    assert_eq!((ended.session_id, ended.error_code), (0, 0));
    assert_eq!(client.call(&poll(id, 4), 17).await.error_code, SESSION_ID_NOT_FOUND);
}

#[tokio::test]
async fn beyond_its_slots_a_fetch_goes_on_without_a_session() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_fetch_sessions = 1).await;
    client.create("t").await;
    let request = in_session(fetch_request("t", 0, 0, 0), 0, 0);
    assert!(client.call(&request, 12).await.session_id > 0);
    let beyond = client.call(&request, 12).await;
    assert_eq!((beyond.session_id, partitions(&beyond)), (0, 1));
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_fetch_session_partitions = 0).await;
    assert_eq!(client.call(&request, 12).await.session_id, 0);
}
