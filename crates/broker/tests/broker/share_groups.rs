//! Share groups (KIP-932) over the wire; the tables of cases of their parts stand in `src/group/share`.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use highwater_broker::{Broker, BrokerSettings, ManualClock};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable};
use tempfile::TempDir;
use uuid::Uuid;

use crate::batch::{Batch, parse};
use crate::client::{Client, text, topic_name};
use crate::transactions::Producer;
use crate::{settings, start, start_with};

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

/// First and last offset, and how often they were handed out.
type Got = Vec<(i64, i64, i16)>;

fn group() -> GroupId {
    GroupId(text("g"))
}

fn beat(member: &str, epoch: i32, topics: Option<&[&str]>) -> ShareGroupHeartbeatRequest {
    let topics = topics.map(|topics| topics.iter().map(|topic| topic_name(topic)).collect());
    ShareGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(topics)
}

async fn join(client: &mut Client, member: &str) {
    let heard = client.call(&beat(member, 0, Some(&["t"])), 1).await;
    assert_eq!(heard.error_code, 0, "{:?}", heard.error_message);
}

async fn set(client: &mut Client, name: &str, value: Option<&str>) -> i16 {
    let config = incremental_alter_configs_request::AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(i8::from(value.is_none()))
        .with_value(value.map(text));
    let resource = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text("g"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(&request, 1).await.responses[0].error_code
}

async fn topic_id(client: &mut Client) -> Uuid {
    let metadata = client.call(&MetadataRequest::default().with_topics(None), 12).await;
    metadata.topics.iter().find(|found| found.name == Some(topic_name("t"))).unwrap().topic_id
}

/// A member with its session, as a client library would be one.
pub(crate) struct Member {
    pub(crate) client: Client,
    name: &'static str,
    topic: Uuid,
    pub(crate) epoch: i32,
    max_wait_ms: i32,
}

pub(crate) type Acks<'a> = &'a [(i64, i64, i8)];

impl Member {
    async fn join(broker: &Broker, name: &'static str) -> Self {
        let mut client = Client::connect(broker.local_addr()).await;
        join(&mut client, name).await;
        let topic = topic_id(&mut client).await;
        Self { client, name, topic, epoch: 0, max_wait_ms: 0 }
    }

    /// In a group that begins at the first record.
    pub(crate) async fn join_from_the_first(broker: &Broker, name: &'static str) -> Self {
        let mut client = Client::connect(broker.local_addr()).await;
        assert_eq!(set(&mut client, "share.auto.offset.reset", Some("earliest")).await, 0);
        Self::join(broker, name).await
    }

    pub(crate) fn request(&self, max_records: i32, acks: Acks<'_>) -> ShareFetchRequest {
        let batches = acks.iter().map(|(first, last, kind)| {
            share_fetch_request::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(vec![*kind])
        });
        let partition = share_fetch_request::FetchPartition::default().with_acknowledgement_batches(batches.collect());
        let topic =
            share_fetch_request::FetchTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        ShareFetchRequest::default()
            .with_group_id(Some(group()))
            .with_member_id(Some(text(self.name)))
            .with_share_session_epoch(self.epoch)
            .with_max_wait_ms(self.max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(max_records)
            .with_batch_size(max_records)
            .with_topics(vec![topic])
    }

    /// Fetches, with acknowledgements; answers what was got, and the error of these.
    async fn fetch_with(&mut self, max_records: i32, acks: Acks<'_>) -> (Got, i16) {
        let request = self.request(max_records, acks);
        let response = self.client.call(&request, 1).await;
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        self.epoch += 1;
        let Some(partition) = response.responses.first().map(|topic| &topic.partitions[0]) else {
            return (Got::new(), 0);
        };
        assert_eq!(partition.error_code, 0);
        let acquired = partition.acquired_records.iter();
        let got: Got = acquired.map(|it| (it.first_offset, it.last_offset, it.delivery_count)).collect();
        let records = parse(partition.records.as_ref().unwrap());
        let offsets: Vec<i64> = records.iter().flat_map(|batch| batch.offsets.clone()).collect();
        for (first, last, _) in &got {
            assert!((*first..=*last).all(|offset| offsets.contains(&offset)), "{got:?} but {offsets:?}");
        }
        (got, partition.acknowledge_error_code)
    }

    async fn fetch(&mut self, max_records: i32) -> Got {
        self.fetch_with(max_records, &[]).await.0
    }

    /// Acknowledges without a fetch; answers the error of the whole, or of the partition.
    async fn ack(&mut self, epoch: i32, acks: Acks<'_>) -> i16 {
        let batches = acks.iter().map(|(first, last, kind)| {
            share_acknowledge_request::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(vec![*kind])
        });
        let partition =
            share_acknowledge_request::AcknowledgePartition::default().with_acknowledgement_batches(batches.collect());
        let topic = share_acknowledge_request::AcknowledgeTopic::default()
            .with_topic_id(self.topic)
            .with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(group()))
            .with_member_id(Some(text(self.name)))
            .with_share_session_epoch(epoch)
            .with_topics(vec![topic]);
        let response = self.client.call(&request, 1).await;
        if response.error_code == 0 {
            self.epoch += 1;
        }
        let partition = response.responses.first().map_or(0, |topic| topic.partitions[0].error_code);
        response.error_code.max(partition)
    }
}

/// A broker with ten records in topic `t`, each in a batch of its own, and a group that begins at the first.
async fn ten_records(change: impl FnOnce(&mut BrokerSettings)) -> (TempDir, Broker, Client) {
    let (dir, broker, mut client) = start_with(change).await;
    fill(&mut client).await;
    (dir, broker, client)
}

async fn fill(client: &mut Client) {
    client.create("t").await;
    for value in 0..10 {
        client.append("t", Batch::of([value.to_string()]).bytes()).await;
    }
    assert_eq!(set(client, "share.auto.offset.reset", Some("earliest")).await, 0);
}

async fn restart(dir: &TempDir) -> Broker {
    Broker::start(settings(dir.path())).await.unwrap()
}

#[tokio::test]
async fn each_record_is_with_one_member_until_it_says_what_became_of_it() {
    let (_dir, broker, _) = ten_records(|_| {}).await;
    let mut a = Member::join(&broker, "a").await;
    let mut b = Member::join(&broker, "b").await;
    assert_eq!(a.fetch(4).await, [(0, 3, 1)]);
    assert_eq!(b.fetch(4).await, [(4, 7, 1)]);
    assert_eq!(
        a.fetch_with(4, &[(0, 0, ACCEPT), (1, 2, RELEASE), (3, 3, REJECT)]).await,
        (vec![(1, 2, 2), (8, 9, 1)], 0)
    );
    assert_eq!(b.fetch(4).await, []);
    let stale = ResponseError::InvalidRecordState.code();
    assert_eq!(b.ack(b.epoch, &[(1, 1, ACCEPT)]).await, stale, "it is with another");
    assert_eq!(b.ack(b.epoch, &[(4, 7, ACCEPT)]).await, 0);
    // Who ends its session gives the rest back, and it was not handed out for that.
    assert_eq!(a.ack(-1, &[(1, 1, ACCEPT)]).await, 0);
    assert_eq!(b.fetch(9).await, [(2, 2, 2), (8, 9, 1)]);
    assert_eq!(b.fetch_with(9, &[(2, 2, ACCEPT), (8, 9, ACCEPT)]).await, (vec![], 0));
}

#[tokio::test]
async fn what_was_accepted_survives_a_crash_and_the_rest_is_handed_out_again() {
    let (dir, broker, _) = ten_records(|_| {}).await;
    let mut a = Member::join(&broker, "a").await;
    assert_eq!(a.fetch(10).await, [(0, 9, 1)]);
    assert_eq!(a.ack(a.epoch, &[(0, 2, ACCEPT), (5, 5, ACCEPT), (7, 7, REJECT), (8, 8, RELEASE)]).await, 0);
    drop(broker);
    let broker = restart(&dir).await;
    assert_eq!(a_code(&broker, "a", 1).await, ResponseError::UnknownMemberId.code());
    let mut a = Member::join(&broker, "a").await;
    a.epoch = 2;
    let request = a.request(10, &[]);
    let response = a.client.call(&request, 1).await;
    assert_eq!(response.error_code, ResponseError::ShareSessionNotFound.code());
    a.epoch = 0;
    assert_eq!(a.fetch(10).await, [(3, 4, 1), (6, 6, 1), (8, 8, 2), (9, 9, 1)]);
}

async fn a_code(broker: &Broker, member: &str, epoch: i32) -> i16 {
    Client::connect(broker.local_addr()).await.call(&beat(member, epoch, None), 1).await.error_code
}

#[tokio::test]
async fn locks_run_out_and_wake_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let settings = BrokerSettings { share_lock_check_interval_ms: 5, ..settings(dir.path()) };
    let broker = Broker::start_with_clock(settings, Arc::<ManualClock>::clone(&clock)).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    fill(&mut client).await;
    assert_eq!(set(&mut client, "share.record.lock.duration.ms", Some("15000")).await, 0);
    let mut a = Member::join(&broker, "a").await;
    let mut b = Member::join(&broker, "b").await;
    assert_eq!(a.fetch(10).await, [(0, 9, 1)]);
    b.max_wait_ms = 30_000;
    let request = b.request(10, &[]);
    b.client.send(&request, 1).await;
    clock.advance(15_000);
    let response = b.client.receive::<ShareFetchRequest>(1).await;
    let acquired = &response.responses[0].partitions[0].acquired_records;
    assert_eq!(acquired.iter().map(|it| (it.first_offset, it.delivery_count)).collect::<Vec<_>>(), [(0, 2)]);
    assert_eq!(response.acquisition_lock_timeout_ms, 15_000);
    assert_eq!(a.ack(a.epoch, &[(0, 9, ACCEPT)]).await, ResponseError::InvalidRecordState.code());
    // New records wake as well.
    b.epoch = 1;
    let request = b.request(10, &[]);
    b.client.send(&request, 1).await;
    client.append("t", Batch::of(["new"]).bytes()).await;
    let response = b.client.receive::<ShareFetchRequest>(1).await;
    assert_eq!(response.responses[0].partitions[0].acquired_records[0].first_offset, 10);
}

/// A request of version 2: version 1 with bytes more behind its group, its member and some numbers.
async fn call_2(client: &mut Client, key: ApiKey, body: &impl Encodable, numbers: usize, new: &[u8]) -> Bytes {
    let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(2);
    let (mut frame, mut known) = (BytesMut::new(), BytesMut::new());
    header.encode(&mut frame, 2).unwrap();
    body.encode(&mut known, 1).unwrap();
    let at = 2 + 2 + 4 * numbers;
    client.send_frame(&[&frame[..], &known[..at], new, &known[at..]].concat()).await;
    let mut answer = client.receive_frame().await.expect("an answer");
    ResponseHeader::decode(&mut answer, 1).unwrap();
    answer
}

#[tokio::test]
async fn version_2_renews_locks_and_takes_a_number_of_records_as_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let settings = BrokerSettings { share_lock_check_interval_ms: 5, ..settings(dir.path()) };
    let broker = Broker::start_with_clock(settings, Arc::<ManualClock>::clone(&clock)).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    client.create("t").await;
    client.append("t", Batch::of((0..10).map(|value| value.to_string())).bytes()).await;
    set(&mut client, "share.auto.offset.reset", Some("earliest")).await;
    let mut a = Member::join(&broker, "a").await;
    let request = a.request(4, &[]);
    let mut answer = call_2(&mut a.client, ApiKey::ShareFetch, &request, 6, &[1, 0]).await;
    let response = ShareFetchResponse::decode(&mut answer, 1).unwrap();
    let acquired = &response.responses[0].partitions[0].acquired_records;
    assert_eq!(acquired.iter().map(|it| (it.first_offset, it.last_offset)).collect::<Vec<_>>(), [(0, 3)]);

    let batch = share_acknowledge_request::AcknowledgementBatch::default()
        .with_last_offset(1)
        .with_acknowledge_types(vec![RENEW]);
    let partition =
        share_acknowledge_request::AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
    let topic =
        share_acknowledge_request::AcknowledgeTopic::default().with_topic_id(a.topic).with_partitions(vec![partition]);
    let renew = |epoch| {
        ShareAcknowledgeRequest::default()
            .with_group_id(Some(group()))
            .with_member_id(Some(text("a")))
            .with_share_session_epoch(epoch)
            .with_topics(vec![topic.clone()])
    };
    clock.advance(20_000);
    // Without saying that it renews it may not, and nothing changes.
    for (epoch, says_so, expected) in [(1, 0, ResponseError::InvalidRequest.code()), (2, 1, 0)] {
        let answer = call_2(&mut a.client, ApiKey::ShareAcknowledge, &renew(epoch), 1, &[says_so]).await;
        // Throttle time, error code and no message stand before the lock timeout.
        assert_eq!((&answer[7..11]).get_i32(), 30_000);
        let mut known = Bytes::from([&answer[..7], &answer[11..]].concat());
        let response = ShareAcknowledgeResponse::decode(&mut known, 1).unwrap();
        assert_eq!((response.error_code, response.responses[0].partitions[0].error_code), (0, expected));
    }
    let mut b = Member::join(&broker, "b").await;
    b.max_wait_ms = 30_000;
    assert_eq!(b.fetch(6).await, [(4, 9, 1)]);
    let request = b.request(9, &[]);
    b.client.send(&request, 1).await;
    clock.advance(10_000);
    let response = b.client.receive::<ShareFetchRequest>(1).await;
    let acquired = &response.responses[0].partitions[0].acquired_records;
    assert_eq!(acquired.iter().map(|it| (it.first_offset, it.last_offset)).collect::<Vec<_>>(), [(2, 3)]);

    // A fetch that renews must fetch nothing.
    a.epoch = 3;
    let request = a.request(4, &[(0, 1, RENEW)]);
    let mut answer = call_2(&mut a.client, ApiKey::ShareFetch, &request, 6, &[0, 1]).await;
    let response = ShareFetchResponse::decode(&mut answer, 1).unwrap();
    assert_eq!(response.error_code, ResponseError::InvalidRequest.code());
    let request = a.request(0, &[(0, 1, RENEW)]).with_max_bytes(0).with_min_bytes(0);
    let mut answer = call_2(&mut a.client, ApiKey::ShareFetch, &request, 6, &[0, 1]).await;
    let response = ShareFetchResponse::decode(&mut answer, 1).unwrap();
    assert_eq!((response.error_code, response.responses[0].partitions[0].acknowledge_error_code), (0, 0));
}

#[tokio::test]
async fn a_session_that_is_not_right_is_refused() {
    let (_dir, broker, mut client) = ten_records(|settings| settings.max_share_sessions = 1).await;
    let mut a = Member::join(&broker, "a").await;
    let code = |error: ResponseError| error.code();
    let refused = async |a: &mut Member, epoch: i32, acks: Acks<'_>| {
        a.epoch = epoch;
        let request = a.request(1, acks);
        a.client.call(&request, 1).await.error_code
    };
    assert_eq!(refused(&mut a, 1, &[]).await, code(ResponseError::ShareSessionNotFound));
    assert_eq!(refused(&mut a, -1, &[]).await, code(ResponseError::ShareSessionNotFound));
    assert_eq!(refused(&mut a, 0, &[(0, 0, ACCEPT)]).await, code(ResponseError::InvalidRequest));
    assert_eq!(refused(&mut a, 0, &[]).await, 0);
    assert_eq!(refused(&mut a, 5, &[]).await, code(ResponseError::InvalidShareSessionEpoch));
    assert_eq!(a.ack(0, &[]).await, code(ResponseError::InvalidShareSessionEpoch));
    let mut b = Member::join(&broker, "b").await;
    assert_eq!(refused(&mut b, 0, &[]).await, code(ResponseError::ShareSessionLimitReached));
    assert_eq!(refused(&mut a, -1, &[]).await, 0);
    assert_eq!(refused(&mut b, 0, &[]).await, 0);

    let nobodys = b.request(1, &[]).with_group_id(Some(GroupId(text("nobody"))));
    assert_eq!(client.call(&nobodys, 1).await.error_code, code(ResponseError::GroupIdNotFound));
    let nameless = b.request(1, &[]).with_group_id(None);
    assert_eq!(client.call(&nameless, 1).await.error_code, code(ResponseError::InvalidRequest));
    let long = b.request(1, &[]).with_member_id(Some(text(&"m".repeat(257))));
    assert_eq!(client.call(&long, 1).await.error_code, code(ResponseError::InvalidRequest));
    // A topic that is not there is an error of its own, and told each time.
    b.topic = Uuid::from_u128(9);
    let request = b.request(1, &[]).with_share_session_epoch(1);
    let response = b.client.call(&request, 1).await;
    let found = response.responses.iter().find(|topic| topic.topic_id == b.topic).unwrap();
    assert_eq!(found.partitions[0].error_code, code(ResponseError::UnknownTopicId));
}

#[tokio::test]
async fn records_of_transactions_are_seen_as_the_group_asks_for() {
    for (isolation, expected) in [
        // Aborted at 1, its marker at 2, committed at 3, its marker at 4.
        ("read_committed", vec![(0, 0, 1), (3, 3, 1), (5, 5, 1)]),
        ("read_uncommitted", vec![(0, 1, 1), (3, 3, 1), (5, 6, 1)]),
    ] {
        let (_dir, broker, mut client) = start().await;
        let client = &mut client;
        client.create("t").await;
        set(client, "share.auto.offset.reset", Some("earliest")).await;
        assert_eq!(set(client, "share.isolation.level", Some(isolation)).await, 0);
        client.append("t", Batch::of(["plain"]).bytes()).await;
        let mut producer = Producer::start(client, "tx").await;
        for committed in [false, true] {
            producer.write(client, "t", "in a transaction").await;
            assert_eq!(producer.end(client, committed).await, 0);
        }
        client.append("t", Batch::of(["plain"]).bytes()).await;
        producer.write(client, "t", "open").await;
        let mut a = Member::join(&broker, "a").await;
        assert_eq!(a.fetch(100).await, expected, "{isolation}");
    }
}

fn alter(start: i64) -> AlterShareGroupOffsetsRequest {
    use alter_share_group_offsets_request::*;
    let partition = AlterShareGroupOffsetsRequestPartition::default().with_start_offset(start);
    let topic =
        AlterShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name("t")).with_partitions(vec![partition]);
    AlterShareGroupOffsetsRequest::default().with_group_id(group()).with_topics(vec![topic])
}

async fn alter_code(client: &mut Client, start: i64) -> (i16, i16) {
    let response = client.call(&alter(start), 0).await;
    (response.error_code, response.responses.first().map_or(0, |topic| topic.partitions[0].error_code))
}

async fn delete_code(client: &mut Client) -> (i16, i16) {
    let topic = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic_name("t"));
    let request = DeleteShareGroupOffsetsRequest::default().with_group_id(group()).with_topics(vec![topic]);
    let response = client.call(&request, 0).await;
    (response.error_code, response.responses.first().map_or(0, |topic| topic.error_code))
}

/// Where the group begins in partition 0, asked for by name or with all.
async fn begins(client: &mut Client, by_name: bool) -> Result<Option<i64>, i16> {
    let topic = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic_name("t"))
        .with_partitions(vec![0]);
    let asked = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(group())
        .with_topics(by_name.then(|| vec![topic]));
    let request = DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked]);
    let response = client.call(&request, 0).await;
    match &response.groups[0] {
        refused if refused.error_code != 0 => Err(refused.error_code),
        told => Ok(told.topics.first().map(|topic| topic.partitions[0].start_offset)),
    }
}

#[tokio::test]
async fn where_a_group_begins_can_be_told_and_altered_while_nobody_reads() {
    let (dir, broker, mut client) = ten_records(|_| {}).await;
    let client = &mut client;
    let not_found = ResponseError::GroupIdNotFound.code();
    assert_eq!((begins(client, true).await, delete_code(client).await), (Err(not_found), (not_found, 0)));
    assert_eq!(alter_code(client, 11).await, (0, ResponseError::OffsetOutOfRange.code()));
    assert_eq!((begins(client, true).await, begins(client, false).await), (Ok(Some(-1)), Ok(None)));
    assert_eq!(alter_code(client, 8).await, (0, 0));
    assert_eq!((begins(client, true).await, begins(client, false).await), (Ok(Some(8)), Ok(Some(8))));

    let mut a = Member::join(&broker, "a").await;
    assert_eq!(a.fetch(10).await, [(8, 9, 1)]);
    let not_empty = ResponseError::NonEmptyGroup.code();
    assert_eq!((alter_code(client, 0).await, delete_code(client).await), ((not_empty, 0), (not_empty, 0)));
    assert_eq!(a.ack(-1, &[(8, 8, ACCEPT)]).await, 0);
    assert_eq!(client.call(&beat("a", -1, None), 1).await.error_code, 0);
    assert_eq!(begins(client, true).await, Ok(Some(9)));
    drop(broker);
    let broker = restart(&dir).await;
    let client = &mut Client::connect(broker.local_addr()).await;
    assert_eq!(begins(client, true).await, Ok(Some(9)));
    assert_eq!(delete_code(client).await, (0, 0));
    assert_eq!(begins(client, true).await, Ok(Some(-1)));
    let mut a = Member::join(&broker, "a").await;
    assert_eq!(a.fetch(1).await, [(0, 0, 1)], "from the first again, as its settings say");
}

#[tokio::test]
async fn partitions_that_groups_read_are_limited() {
    let (_dir, broker, mut client) = ten_records(|settings| settings.max_share_partitions = 1).await;
    let mut a = Member::join(&broker, "a").await;
    assert_eq!(a.fetch(1).await, [(0, 0, 1)]);
    let other = beat("a", 0, Some(&["t"])).with_group_id(GroupId(text("other")));
    assert_eq!(client.call(&other, 1).await.error_code, 0);
    let request = a.request(1, &[]).with_group_id(Some(GroupId(text("other")))).with_share_session_epoch(0);
    let response = client.call(&request, 1).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ResponseError::PolicyViolation.code());
}

async fn listed(client: &mut Client) -> Vec<(String, String, String)> {
    let request = ListGroupsRequest::default().with_types_filter(vec![text("share")]);
    let response = client.call(&request, 5).await;
    let groups = response.groups.iter();
    groups.map(|g| (g.group_id.to_string(), g.group_state.to_string(), g.protocol_type.to_string())).collect()
}

#[tokio::test]
async fn a_share_group_is_listed_described_and_deleted_and_its_name_is_no_other_groups() {
    let (dir, broker, mut client) = ten_records(|_| {}).await;
    let client = &mut client;
    join(client, "a").await;
    assert_eq!(listed(client).await, [("g".into(), "Stable".into(), "share".into())]);
    let request = ShareGroupDescribeRequest::default().with_group_ids(vec![group(), GroupId(text("nobody"))]);
    let response = client.call(&request, 1).await;
    let described = &response.groups[0];
    assert_eq!((&*described.group_state, &*described.assignor_name), ("Stable", "simple"));
    let member = &described.members[0];
    assert_eq!((&*member.member_id, &member.subscribed_topic_names), ("a", &vec![topic_name("t")]));
    assert_eq!(member.assignment.topic_partitions[0].partitions, [0]);
    let not_found = ResponseError::GroupIdNotFound.code();
    assert_eq!(response.groups[1].error_code, not_found);

    // Other protocols, also when nobody is in it.
    let consumer = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("c"))
        .with_rebalance_timeout_ms(1000)
        .with_subscribed_topic_names(Some(vec![topic_name("t")]))
        .with_topic_partitions(Some(vec![]));
    let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
    let classic = JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let partition = offset_commit_request::OffsetCommitRequestPartition::default();
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, ResponseError::NonEmptyGroup.code());
    assert_eq!(client.call(&beat("a", -1, None), 1).await.error_code, 0);
    assert_eq!(client.call(&consumer, 1).await.error_code, not_found);
    assert_eq!(client.call(&classic, 9).await.error_code, ResponseError::InconsistentGroupProtocol.code());
    assert_eq!(client.call(&commit, 9).await.topics[0].partitions[0].error_code, not_found);
    let describe = DescribeGroupsRequest::default().with_groups(vec![group()]);
    assert_eq!(client.call(&describe, 6).await.groups[0].error_code, not_found);

    drop(broker);
    let broker = restart(&dir).await;
    let client = &mut Client::connect(broker.local_addr()).await;
    assert_eq!(listed(client).await, [("g".into(), "Empty".into(), "share".into())]);
    assert_eq!(client.call(&delete, 2).await.results[0].error_code, 0);
    assert_eq!(listed(client).await, []);
    // The name is free, for one of the other kind too.
    assert_eq!(client.call(&consumer, 1).await.error_code, 0);
    assert_eq!(client.call(&beat("a", 0, Some(&["t"])), 1).await.error_code, not_found);
}

#[tokio::test]
async fn settings_of_groups_are_altered_described_listed_and_kept() {
    let (dir, broker, mut client) = start().await;
    let client = &mut client;
    let invalid = ResponseError::InvalidConfig.code();
    assert_eq!(set(client, "share.delivery.count.limit", Some("3")).await, 0);
    assert_eq!(set(client, "share.delivery.count.limit", Some("1")).await, invalid);
    assert_eq!(set(client, "share.session.timeout.ms", Some("4000")).await, invalid, "below the heartbeat's");
    assert_eq!(set(client, "share.isolation.level", Some("read_committed")).await, 0);
    assert_eq!(set(client, "share.isolation.level", None).await, 0);
    drop(broker);
    let broker = restart(&dir).await;
    let client = &mut Client::connect(broker.local_addr()).await;
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text("g"))
        .with_configuration_keys(None);
    let response = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4).await;
    let value = |name: &str| {
        let found = response.results[0].configs.iter().find(|config| *config.name == *name).unwrap();
        (found.value.clone().unwrap_or_default().to_string(), found.config_source)
    };
    assert_eq!(value("share.delivery.count.limit"), ("3".into(), 8));
    assert_eq!(value("share.isolation.level"), ("read_uncommitted".into(), 5));
    let listed = client.call(&ListConfigResourcesRequest::default().with_resource_types(vec![32]), 1).await;
    assert_eq!(listed.config_resources[0].resource_name, text("g"));
    // The old request: what it does not name goes back to its default.
    let config = alter_configs_request::AlterableConfig::default()
        .with_name(text("share.auto.offset.reset"))
        .with_value(Some(text("earliest")));
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text("g"))
        .with_configs(vec![config]);
    let altered = client.call(&AlterConfigsRequest::default().with_resources(vec![resource.clone()]), 2).await;
    assert_eq!(altered.responses[0].error_code, 0);
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text("g"))
        .with_configuration_keys(Some(vec![text("share.delivery.count.limit")]));
    let response = client.call(&DescribeConfigsRequest::default().with_resources(vec![resource]), 4).await;
    assert_eq!(response.results[0].configs[0].value, Some(text("5")));
}
