//! Transactions over the wire: what readers see of them, who may end them, and what a crash leaves.

use std::sync::Arc;

use highwater_broker::{Broker, FsyncMode, ManualClock};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::*;

use crate::batch::{self, Batch};
use crate::client::{Client, fetch_request, produce_request, text, topic_name};
use crate::{settings, start, start_with};

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// A transactional producer, as a client library would be one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producer {
    id: &'static str,
    producer_id: ProducerId,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    pub(crate) async fn start(client: &mut Client, id: &'static str) -> Self {
        let response = Self::init(client, id).await;
        assert_eq!(response.error_code, 0);
        Self { id, producer_id: response.producer_id, epoch: response.producer_epoch, sequence: 0 }
    }

    async fn init(client: &mut Client, id: &'static str) -> InitProducerIdResponse {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional(id)))
            .with_transaction_timeout_ms(10_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        client.call(&request, 4).await
    }

    async fn add(&self, client: &mut Client, topic: &str) -> i16 {
        let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional(self.id))
            .with_v3_and_below_producer_id(self.producer_id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let response = client.call(&request, 3).await;
        response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    /// Sends one record in the transaction; answers the error.
    async fn send(&mut self, client: &mut Client, topic: &str, value: &str, version: i16) -> i16 {
        self.send_batch(client, topic, Batch::of([value]), version).await
    }

    /// Adds the partition and sends a record with a key.
    pub(crate) async fn write_keyed(&mut self, client: &mut Client, topic: &str, key: &str, value: &str) {
        assert_eq!(self.add(client, topic).await, 0);
        assert_eq!(self.send_batch(client, topic, Batch::keyed([(key, Some(value))]), 9).await, 0);
    }

    async fn send_batch(&mut self, client: &mut Client, topic: &str, batch: Batch, version: i16) -> i16 {
        let batch = batch.by_producer(self.producer_id.0, self.epoch, self.sequence);
        let mut request = produce_request(topic, batch.packed(TRANSACTIONAL, |records| records), -1);
        request.transactional_id = Some(transactional(self.id));
        let response = client.call(&request, version).await;
        let error = response.responses[0].partition_responses[0].error_code;
        if error == 0 {
            self.sequence += 1;
        }
        error
    }

    /// Adds the partition and sends a record, as one that works does.
    pub(crate) async fn write(&mut self, client: &mut Client, topic: &str, value: &str) {
        assert_eq!(self.add(client, topic).await, 0);
        assert_eq!(self.send(client, topic, value, 9).await, 0);
    }

    pub(crate) async fn end(&self, client: &mut Client, committed: bool) -> i16 {
        self.end_as(client, committed, 3).await.error_code
    }

    async fn end_as(&self, client: &mut Client, committed: bool, version: i16) -> EndTxnResponse {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional(self.id))
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        client.call(&request, version).await
    }

    async fn commit_offset(&self, client: &mut Client, group: &str, topic: &str, offset: i64, version: i16) -> i16 {
        if version < 5 {
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transactional(self.id))
                .with_producer_id(self.producer_id)
                .with_producer_epoch(self.epoch)
                .with_group_id(GroupId(text(group)));
            assert_eq!(client.call(&request, 3).await.error_code, 0);
        }
        let partition = txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("")));
        let topic = txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional(self.id))
            .with_group_id(GroupId(text(group)))
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        client.call(&request, version).await.topics[0].partitions[0].error_code
    }
}

fn transactional(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// What a reader of committed records sees from `offset` on, as its library would filter it, and the last stable offset.
pub(crate) async fn read_committed(client: &mut Client, topic: &str, mut offset: i64) -> (Vec<String>, i64) {
    let mut values = Vec::new();
    loop {
        let request = fetch_request(topic, offset, 0, 1).with_isolation_level(1);
        let response = client.fetch(&request).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let records = partition.records.clone().unwrap_or_default();
        if records.is_empty() {
            return (values, partition.last_stable_offset);
        }
        let mut aborted: Vec<(i64, i64)> = partition
            .aborted_transactions
            .iter()
            .flatten()
            .map(|told| (told.producer_id.0, told.first_offset))
            .collect();
        for batch in batch::parse(&records) {
            offset = batch.base_offset + i64::from(batch.last_offset_delta) + 1;
            let of_batch = |&(id, first): &(i64, i64)| id == batch.producer_id && first <= batch.base_offset;
            if batch.attributes & CONTROL != 0 {
                // A marker ends the transaction it was told for.
                if let Some(at) = aborted.iter().position(of_batch) {
                    aborted.remove(at);
                }
            } else if !aborted.iter().any(of_batch) {
                values.extend(batch.values);
            }
        }
    }
}

async fn fetch_offset(client: &mut Client, group: &str, topic: &str, require_stable: bool) -> (i16, i64) {
    let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(Some(vec![topic]))
        .with_require_stable(require_stable);
    let partition = client.call(&request, 7).await.topics[0].partitions[0].clone();
    (partition.error_code, partition.committed_offset)
}

#[tokio::test]
async fn committed_records_become_readable_together_and_aborted_ones_never() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    client.create("u").await;
    let mut producer = Producer::start(client, "tx").await;
    let mut other = Producer::start(client, "other").await;

    producer.write(client, "t", "a").await;
    let mut on_u = Producer { sequence: 0, ..producer };
    on_u.write(client, "u", "a").await;
    client.append("t", Batch::of(["plain"]).bytes()).await;
    other.write(client, "t", "never").await;
    assert_eq!(read_committed(client, "t", 0).await, (vec![], 0));
    assert_eq!(read_committed(client, "u", 0).await, (vec![], 0));

    assert_eq!(producer.end(client, true).await, 0);
    assert_eq!(read_committed(client, "u", 0).await.0, ["a"]);
    // The other one is still open behind it.
    assert_eq!(read_committed(client, "t", 0).await, (vec!["a".into(), "plain".into()], 2));
    assert_eq!(other.end(client, false).await, 0);
    producer.write(client, "t", "b").await;
    assert_eq!(producer.end(client, true).await, 0);
    let (values, stable) = read_committed(client, "t", 0).await;
    assert_eq!((values, stable), (vec!["a".into(), "plain".into(), "b".into()], 7));
    // From the middle of the aborted transaction on, too.
    assert_eq!(read_committed(client, "t", 2).await.0, ["b"]);
    // Who does not ask for committed records sees all of them.
    assert_eq!(client.read_all("t", 0).await.iter().filter(|value| *value == "never").count(), 1);
}

#[tokio::test]
async fn the_end_of_the_log_is_the_last_stable_offset_to_readers_of_committed_records() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    client.append("t", Batch::of(["plain"]).bytes()).await;
    let mut producer = Producer::start(client, "tx").await;
    producer.write(client, "t", "a").await;
    for (isolation, expected) in [(0, 2), (1, 1)] {
        let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_isolation_level(isolation).with_topics(vec![topic]);
        assert_eq!(client.call(&request, 7).await.topics[0].partitions[0].offset, expected);
    }
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_the_marker() {
    let (_dir, broker, mut client) = start().await;
    client.create("t").await;
    let mut producer = Producer::start(&mut client, "tx").await;
    producer.write(&mut client, "t", "a").await;
    let mut reader = Client::connect(broker.local_addr()).await;
    reader.send(&fetch_request("t", 0, 20_000, 1).with_isolation_level(1), 12).await;
    assert_eq!(producer.end(&mut client, true).await, 0);
    let response = reader.receive::<FetchRequest>(12).await;
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(batch::parse(&records)[0].values, ["a"]);
}

#[tokio::test]
async fn a_producer_that_was_replaced_can_do_nothing_any_more() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    let mut zombie = Producer::start(client, "tx").await;
    zombie.write(client, "t", "zombie").await;
    let mut producer = Producer::start(client, "tx").await;
    assert_eq!(producer.producer_id, zombie.producer_id);
    assert_eq!(zombie.send(client, "t", "late", 9).await, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(zombie.send(client, "t", "late", 12).await, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(zombie.add(client, "t").await, ResponseError::ProducerFenced.code());
    assert_eq!(zombie.end(client, true).await, ResponseError::ProducerFenced.code());
    assert_eq!(zombie.end_as(client, true, 1).await.error_code, ResponseError::InvalidProducerEpoch.code());
    producer.write(client, "t", "mine").await;
    assert_eq!(producer.end(client, true).await, 0);
    assert_eq!(read_committed(client, "t", 0).await.0, ["mine"]);
}

#[tokio::test]
async fn a_batch_needs_a_transaction_that_knows_its_partition() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    let mut producer = Producer::start(client, "tx").await;
    let not_added = ResponseError::InvalidTxnState.code();
    assert_eq!(producer.send(client, "t", "a", 9).await, not_added);
    assert_eq!(producer.end(client, true).await, ResponseError::InvalidTxnState.code());
    assert_eq!(producer.add(client, "nowhere").await, ResponseError::UnknownTopicOrPartition.code());
    let mut stranger = Producer { producer_id: ProducerId(4711), ..producer };
    assert_eq!(stranger.add(client, "t").await, ResponseError::InvalidProducerIdMapping.code());
    assert_eq!(stranger.send(client, "t", "a", 9).await, ResponseError::InvalidProducerIdMapping.code());
    // A transactional batch that names no transaction.
    let batch = Batch::of(["a"]).by_producer(producer.producer_id.0, 0, 0).packed(TRANSACTIONAL, |records| records);
    assert_eq!(client.produce("t", batch).await.error_code, ResponseError::InvalidRequest.code());
    // Once it is in, it is in; until the end.
    producer.write(client, "t", "a").await;
    assert_eq!(producer.end(client, true).await, 0);
    assert_eq!(producer.send(client, "t", "late", 9).await, not_added);
    assert_eq!(read_committed(client, "t", 0).await.0, ["a"]);
}

#[tokio::test]
async fn with_the_newer_protocol_writing_is_enough_and_every_end_renews_the_epoch() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    let mut producer = Producer::start(client, "tx").await;
    for (value, committed) in [("a", true), ("b", false), ("c", true)] {
        assert_eq!(producer.send(client, "t", value, 12).await, 0);
        assert_eq!(producer.commit_offset(client, "g", "t", 1, 5).await, 0);
        let ended = producer.end_as(client, committed, 5).await;
        assert_eq!((ended.error_code, ended.producer_epoch), (0, producer.epoch + 1));
        let again = producer.end_as(client, committed, 5).await;
        assert_eq!((again.error_code, again.producer_epoch), (0, producer.epoch + 1), "a repetition");
        let mut late = Producer { sequence: producer.sequence, ..producer };
        assert_eq!(late.send(client, "t", "late", 12).await, ResponseError::InvalidProducerEpoch.code());
        (producer.epoch, producer.sequence) = (ended.producer_epoch, 0);
    }
    assert_eq!(read_committed(client, "t", 0).await.0, ["a", "c"]);
}

#[tokio::test]
async fn offsets_count_when_their_transaction_commits() {
    let (_dir, _broker, mut client) = start().await;
    let client = &mut client;
    client.create("t").await;
    let mut producer = Producer::start(client, "tx").await;
    for (offset, committed, expected) in [(5, true, 5), (9, false, 5), (12, true, 12)] {
        producer.write(client, "t", "a").await;
        let before = fetch_offset(client, "g", "t", false).await;
        assert_eq!(producer.commit_offset(client, "g", "t", offset, 3).await, 0);
        assert_eq!(fetch_offset(client, "g", "t", false).await, before);
        assert_eq!(fetch_offset(client, "g", "t", true).await, (ResponseError::UnstableOffsetCommit.code(), -1));
        assert_eq!(producer.end(client, committed).await, 0);
        assert_eq!(fetch_offset(client, "g", "t", true).await, (0, expected));
    }
    let zombie = Producer { epoch: producer.epoch, ..producer };
    Producer::start(client, "tx").await;
    assert_eq!(zombie.commit_offset_alone(client).await, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(fetch_offset(client, "g", "t", true).await, (0, 12));
}

impl Producer {
    /// Commits an offset without adding its group first.
    async fn commit_offset_alone(&self, client: &mut Client) -> i16 {
        self.commit_offset(client, "g", "t", 99, 5).await
    }
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000_000));
    let mut settings = settings(dir.path());
    settings.transaction_check_interval_ms = 5;
    let broker = Broker::start_with_clock(settings, Arc::clone(&clock) as _).await.unwrap();
    let client = &mut Client::connect(broker.local_addr()).await;
    client.create("t").await;
    let mut producer = Producer::start(client, "tx").await;
    producer.write(client, "t", "late").await;
    // The fetch waits for the marker, which only the timeout writes.
    let mut reader = Client::connect(broker.local_addr()).await;
    reader.send(&fetch_request("t", 0, 20_000, 1).with_isolation_level(1), 12).await;
    clock.advance(10_001);
    let response = reader.receive::<FetchRequest>(12).await;
    let partition = &response.responses[0].partitions[0];
    let aborted = partition.aborted_transactions.clone().unwrap();
    assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (producer.producer_id, 0));
    assert_eq!(producer.send(client, "t", "later", 9).await, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(producer.end(client, true).await, ResponseError::ProducerFenced.code());
    assert_eq!(read_committed(client, "t", 0).await.0, [] as [&str; 0]);
}

#[tokio::test]
async fn everything_about_transactions_survives_a_crash() {
    for fsync in [FsyncMode::Os, FsyncMode::Always] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        (settings.fsync, settings.segment_bytes) = (fsync, 1024);
        let mut broker = Broker::start(settings.clone()).await.unwrap();
        let mut client = Client::connect(broker.local_addr()).await;
        client.create("t").await;
        let mut ongoing = Producer::start(&mut client, "ongoing").await;
        ongoing.write(&mut client, "t", "early").await;
        assert_eq!(ongoing.commit_offset(&mut client, "g", "t", 7, 3).await, 0);
        let mut producer = Producer::start(&mut client, "tx").await;
        let mut expected = Vec::new();
        for round in 0..30 {
            producer.write(&mut client, "t", &format!("{round}")).await;
            assert_eq!(producer.end(&mut client, round % 3 != 0).await, 0);
            if round % 3 != 0 {
                expected.push(format!("{round}"));
            }
            if round % 10 == 5 {
                // Dropped without a shutdown: nothing is closed in good order.
                drop(client);
                drop(broker);
                broker = Broker::start(settings.clone()).await.unwrap();
                client = Client::connect(broker.local_addr()).await;
                assert_eq!(read_committed(&mut client, "t", 0).await, (vec![], 0), "open since the beginning");
            }
        }
        ongoing.write(&mut client, "t", "late").await;
        assert_eq!(fetch_offset(&mut client, "g", "t", true).await.0, ResponseError::UnstableOffsetCommit.code());
        assert_eq!(ongoing.end(&mut client, true).await, 0);
        expected.insert(0, "early".into());
        expected.push("late".into());
        broker.shutdown().await.unwrap();
        let broker = Broker::start(settings.clone()).await.unwrap();
        let mut client = Client::connect(broker.local_addr()).await;
        assert_eq!(read_committed(&mut client, "t", 0).await.0, expected);
        assert_eq!(fetch_offset(&mut client, "g", "t", true).await, (0, 7));
        // Its epoch is remembered: the next one fences it.
        assert!(Producer::start(&mut client, "tx").await.epoch > producer.epoch);
    }
}

#[tokio::test]
async fn what_the_log_has_open_without_a_transaction_is_aborted_at_the_start() {
    let (dir, broker, mut client) = start().await;
    client.create("t").await;
    let mut producer = Producer::start(&mut client, "tx").await;
    producer.write(&mut client, "t", "orphan").await;
    assert_eq!(producer.commit_offset(&mut client, "g", "t", 7, 3).await, 0);
    broker.shutdown().await.unwrap();
    // As if a crash of the machine had taken it.
    std::fs::write(dir.path().join("transactions.log"), "").unwrap();
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    let client = &mut Client::connect(broker.local_addr()).await;
    client.append("t", Batch::of(["plain"]).bytes()).await;
    assert_eq!(read_committed(client, "t", 0).await.0, ["plain"]);
    assert_eq!(fetch_offset(client, "g", "t", true).await, (0, -1));
}

/// A crash of the machine takes the end of the journal, but not of the partitions. What had been decided is not known
/// any more, so the producer is told that it was replaced, and never that something was committed which is not there.
#[tokio::test]
async fn a_producer_whose_transaction_a_crash_has_taken_is_fenced_and_nothing_of_it_is_read() {
    for lost in ["the beginning", "a partition", "its abort", "a newer epoch"] {
        let (dir, broker, mut client) = start().await;
        let file = dir.path().join("transactions.log");
        let journal = || std::fs::read(&file).unwrap();
        client.create("t").await;
        client.create("u").await;
        let client = &mut client;
        let mut producer = Producer::start(client, "tx").await;
        producer.write(client, "t", "first").await;
        assert_eq!(producer.end(client, true).await, 0);
        let mut kept = journal();
        producer.write(client, "t", "second").await;
        let mut newest = producer.epoch;
        match lost {
            "a partition" => {
                kept = journal();
                Producer { sequence: 0, ..producer }.write(client, "u", "second").await;
            }
            "its abort" => {
                kept = journal();
                newest = Producer::start(client, "tx").await.epoch;
            }
            "a newer epoch" => {
                kept = journal();
                let mut newer = Producer::start(client, "tx").await;
                newer.write(client, "t", "third").await;
                newest = newer.epoch;
            }
            _ => {}
        }
        broker.shutdown().await.unwrap();
        std::fs::write(&file, kept).unwrap();
        let broker = Broker::start(settings(dir.path())).await.unwrap();
        let client = &mut Client::connect(broker.local_addr()).await;
        let end = producer.end(client, true).await;
        assert_eq!(end, ResponseError::ProducerFenced.code(), "{lost} is lost");
        // As client libraries do while the markers are written.
        let mut next = Producer::init(client, "tx").await;
        while next.error_code == ResponseError::ConcurrentTransactions.code() {
            next = Producer::init(client, "tx").await;
        }
        assert!(next.producer_epoch > newest, "{lost} is lost: {next:?}, after epoch {newest}");
        let mut producer = Producer { epoch: next.producer_epoch, sequence: 0, ..producer };
        producer.write(client, "t", "last").await;
        assert_eq!(producer.end(client, true).await, 0);
        assert_eq!(read_committed(client, "t", 0).await.0, ["first", "last"], "{lost} is lost");
        assert_eq!(read_committed(client, "u", 0).await.0, [] as [&str; 0], "{lost} is lost");
    }
}

#[tokio::test]
async fn administrators_see_transactions_and_can_end_one_that_hangs() {
    let (_dir, _broker, mut client) = start_with(|settings| settings.max_transactional_ids = 2).await;
    let client = &mut client;
    client.create("t").await;
    let mut producer = Producer::start(client, "tx").await;
    producer.write(client, "t", "a").await;
    Producer::start(client, "idle").await;
    let refused = Producer::init(client, "one too many").await;
    assert_eq!(refused.error_code, ResponseError::PolicyViolation.code());

    let list = async |client: &mut Client, states: &[&str], longer_than: i64| {
        let request = ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| text(state)).collect())
            .with_duration_filter(longer_than);
        let response = client.call(&request, 1).await;
        let ids: Vec<_> = response.transaction_states.iter().map(|found| found.transactional_id.to_string()).collect();
        (ids, response.unknown_state_filters.len())
    };
    assert_eq!(list(client, &[], -1).await, (vec!["idle".into(), "tx".into()], 0));
    assert_eq!(list(client, &["Ongoing", "Dreaming"], -1).await, (vec!["tx".into()], 1));
    assert_eq!(list(client, &[], 3_600_000).await, (vec![], 0));

    let request =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional("tx"), transactional("no")]);
    let states = client.call(&request, 0).await.transaction_states;
    assert_eq!((states[0].error_code, &*states[0].transaction_state), (0, "Ongoing"));
    assert_eq!((&*states[0].topics[0].topic.0, &states[0].topics[0].partitions[..]), ("t", &[0][..]));
    assert_eq!(states[1].error_code, ResponseError::TransactionalIdNotFound.code());

    let topic = describe_producers_request::TopicRequest::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0, 5]);
    let topics = client.call(&DescribeProducersRequest::default().with_topics(vec![topic]), 0).await.topics;
    let active = &topics[0].partitions[0].active_producers[0];
    assert_eq!(
        (active.producer_id, active.last_sequence, active.current_txn_start_offset),
        (producer.producer_id, 0, 0)
    );
    assert_eq!(topics[0].partitions[1].error_code, ResponseError::UnknownTopicOrPartition.code());

    let topic = write_txn_markers_request::WritableTxnMarkerTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let marker = write_txn_markers_request::WritableTxnMarker::default()
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(producer.epoch)
        .with_topics(vec![topic]);
    let response = client.call(&WriteTxnMarkersRequest::default().with_markers(vec![marker]), 1).await;
    assert_eq!(response.markers[0].topics[0].partitions[0].error_code, 0);
    assert_eq!(read_committed(client, "t", 0).await, (vec![], 2));
}
