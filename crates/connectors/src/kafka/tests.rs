//! The connector against a broker: what is written is read back, in ranges, under limits, and through trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use highwater_engine::checkpoint::{CheckpointDir, Durability};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Options, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, SinkRequest, SinkToken};
use highwater_engine::source::{Offset, OffsetRange, ReadReport, Source, SourceMetadata, SourceRequest, TailReader};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::KafkaConnector;
use super::admin::{Admin, NewTopic};
use super::testing::TestBroker;

fn table(broker: &str, schema: Option<SchemaRef>, options: &[(&str, &str)]) -> Result<Arc<dyn Table>> {
    let mut all: Options = options.iter().copied().collect();
    all.set("kafka.bootstrap.servers", broker);
    let definition = TableDefinition {
        name: "t".to_owned(),
        format: "kafka".to_owned(),
        schema,
        options: all,
        partition_columns: Vec::new(),
    };
    KafkaConnector.table(&definition)
}

fn source(broker: &str, schema: Option<SchemaRef>, options: &[(&str, &str)]) -> Result<Box<dyn Source>> {
    let table = table(broker, schema, options)?;
    let projection = (0..table.schema().fields().len()).collect();
    table.source(SourceRequest { projection, members: Vec::new(), metadata: unused_metadata(), may_be_missing: false })
}

/// A topic keeps nothing in the checkpoint.
fn unused_metadata() -> SourceMetadata {
    CheckpointDir::open("none", Durability::None).unwrap().source_metadata(0)
}

fn producer(broker: &str, codec: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("compression.type", codec).set("linger.ms", "50");
    config.create().unwrap()
}

fn produce(producer: &BaseProducer, topic: &str, partition: i32, values: impl IntoIterator<Item = String>) {
    for value in values {
        producer.send(BaseRecord::<str, str>::to(topic).partition(partition).key("k").payload(&value)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn read(source: &mut dyn Source, start: &Offset, end: &Offset) -> Result<(Vec<RecordBatch>, ReadReport)> {
    let (mut batches, mut report) = (Vec::new(), ReadReport::default());
    for mut reader in source.read(&OffsetRange { start: start.clone(), end: end.clone() })? {
        while let Some(batch) = reader.next_batch()? {
            batches.push(batch);
        }
        report.add(&reader.report());
    }
    Ok((batches, report))
}

/// Offsets and values of the rows, in the order they were read.
fn rows(batches: &[RecordBatch]) -> Vec<(i64, String)> {
    let mut rows = Vec::new();
    for batch in batches {
        let offsets = batch["offset"].as_primitive::<Int64Type>();
        let values = batch["value"].as_binary::<i32>();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| (offsets.value(row), String::from_utf8(values.value(row).to_vec()).unwrap())),
        );
    }
    rows
}

fn offset(value: serde_json::Value) -> Offset {
    Offset(value)
}

#[test]
fn each_codec_is_read_in_exact_ranges() {
    let broker = TestBroker::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        broker.create_topic(&topic, 1);
        produce(&producer(broker.address(), codec), &topic, 0, (0..1000).map(|i| format!("value {i}")));
        let mut source =
            source(broker.address(), None, &[("subscribe", &topic), ("startingOffsets", "earliest")]).unwrap();
        let first = source.initial_offset().unwrap();
        assert_eq!(first.0, json!({ &topic: {"0": 0} }));
        assert_eq!(source.plan_batch(&first, None).unwrap().0, json!({ &topic: {"0": 1000} }));
        for (from, to) in [(0, 1000), (1, 2), (999, 1000), (250, 750), (10, 10)] {
            let (start, end) = (offset(json!({ &topic: {"0": from} })), offset(json!({ &topic: {"0": to} })));
            let (batches, report) = read(&mut *source, &start, &end).unwrap();
            let expected: Vec<(i64, String)> = (from..to).map(|i| (i, format!("value {i}"))).collect();
            assert_eq!(rows(&batches), expected, "{codec} {from} to {to}");
            assert_eq!(report.records, expected.len() as u64);
        }
        let mut unread = |from: i64| source.unread(&offset(json!({ &topic: {"0": from} }))).unwrap();
        let backlog = unread(400).backlog.unwrap();
        assert_eq!((backlog.records, backlog.latest.0), (600, json!({ &topic: {"0": 1000} })));
        assert_eq!(unread(999).partitions, [format!("{topic}-0")]);
        assert!(unread(1000).partitions.is_empty());
    }
}

#[test]
fn limits_are_shared_and_new_partitions_begin_at_their_start() {
    let broker = TestBroker::start();
    broker.create_topic("shared", 2);
    let producer = producer(broker.address(), "lz4");
    produce(&producer, "shared", 0, (0..100).map(|i| i.to_string()));
    produce(&producer, "shared", 1, (0..300).map(|i| i.to_string()));
    let options = [("subscribe", "shared"), ("startingOffsets", "earliest"), ("maxOffsetsPerTrigger", "40")];
    let mut source = source(broker.address(), None, &options).unwrap();
    assert_eq!(source.description(), "KafkaV2[Subscribe[shared]]");
    let start = source.initial_offset().unwrap();
    let end = source.plan_batch(&start, None).unwrap();
    assert_eq!(end.0, json!({"shared": {"0": 10, "1": 30}}));
    assert_eq!(read(&mut *source, &start, &end).unwrap().1.records, 40);

    let until = offset(json!({"shared": {"0": 12, "1": 30}}));
    assert_eq!(source.plan_batch(&end, Some(&until)).unwrap(), until);
    assert_eq!(source.plan_batch(&until, Some(&until)).unwrap(), until);

    let before = offset(json!({"shared": {"0": 100}}));
    let end = source.plan_batch(&before, None).unwrap();
    assert_eq!(end.0, json!({"shared": {"0": 100, "1": 40}}));
    assert_eq!(read(&mut *source, &before, &end).unwrap().1.records, 40);
}

#[test]
fn a_batch_waits_for_enough_records() {
    let broker = TestBroker::start();
    broker.create_topic("few", 1);
    let producer = producer(broker.address(), "none");
    produce(&producer, "few", 0, (0..5).map(|i| i.to_string()));
    let options = [("subscribe", "few"), ("startingOffsets", "earliest"), ("minOffsetsPerTrigger", "10")];
    let mut source = source(broker.address(), None, &options).unwrap();
    let start = source.initial_offset().unwrap();
    let first = source.plan_batch(&start, None).unwrap();
    assert_eq!(first.0, json!({"few": {"0": 5}}));
    produce(&producer, "few", 0, (5..10).map(|i| i.to_string()));
    assert_eq!(source.plan_batch(&first, None).unwrap(), first);
    produce(&producer, "few", 0, (10..15).map(|i| i.to_string()));
    assert_eq!(source.plan_batch(&first, None).unwrap().0, json!({"few": {"0": 15}}));
}

#[test]
fn values_are_decoded_into_declared_columns() {
    let broker = TestBroker::start();
    broker.create_topic("decoded", 1);
    let values = (0..20).map(|i| if i == 7 { "{oops".to_owned() } else { format!(r#"{{"a":{i},"b":"x{i}","c":1}}"#) });
    produce(&producer(broker.address(), "lz4"), "decoded", 0, values);
    let schema = Arc::new(Schema::new(vec![
        Field::new("b", DataType::Utf8, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_key", DataType::Utf8, true),
        Field::new("a", DataType::Int32, true),
    ]));
    for (mode, rows, dropped) in [("PERMISSIVE", 20, 0), ("DROPMALFORMED", 19, 1)] {
        let options = [("subscribe", "decoded"), ("startingOffsets", "earliest"), ("mode", mode)];
        let table = table(broker.address(), Some(schema.clone()), &options).unwrap();
        let request = SourceRequest {
            projection: vec![3, 1, 2],
            members: Vec::new(),
            metadata: unused_metadata(),
            may_be_missing: false,
        };
        let mut source = table.source(request).unwrap();
        let (start, end) = (offset(json!({"decoded": {"0": 0}})), offset(json!({"decoded": {"0": 20}})));
        let mut readers = source.read(&OffsetRange { start, end }).unwrap();
        let batch = readers[0].next_batch().unwrap().unwrap();
        assert_eq!(readers[0].partition(), "decoded-0");
        assert!(readers[0].next_batch().unwrap().is_none());
        assert_eq!(batch.num_rows(), rows);
        let (a, offsets) = (batch["a"].as_primitive::<Int32Type>(), batch["_offset"].as_primitive::<Int64Type>());
        for row in (0..rows).filter(|row| a.is_valid(*row)) {
            assert_eq!(i64::from(a.value(row)), offsets.value(row));
        }
        assert_eq!(batch["_key"].as_string::<i32>().value(0), "k");
        let report = readers[0].report();
        assert_eq!((report.records, report.malformed, report.dropped), (20, 1, dropped));
        let dead = readers[0].take_dead_letters();
        assert_eq!(dead.len(), 1);
        assert_eq!((dead[0].offset, dead[0].partition, dead[0].value.as_slice()), (7, Some(0), b"{oops".as_slice()));
    }
}

/// A topic in the wrong format: what cannot be read is handed on in batches of the size of others, whether somebody takes
/// the letters or not.
#[test]
fn records_that_cannot_be_read_come_in_batches() {
    const SMALL: usize = 20_000;
    const LARGE: usize = 60;
    let broker = TestBroker::start();
    broker.create_topic("wrong", 1);
    let small = (0..SMALL).map(|_| "{oops".to_owned());
    produce(&producer(broker.address(), "lz4"), "wrong", 0, small.chain((0..LARGE).map(|_| "x".repeat(200_000))));
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
    for (mode, takes) in [("PERMISSIVE", true), ("DROPMALFORMED", true), ("DROPMALFORMED", false)] {
        let options = [("subscribe", "wrong"), ("startingOffsets", "earliest"), ("mode", mode)];
        let table = table(broker.address(), Some(schema.clone()), &options).unwrap();
        let (projection, metadata) = (vec![0], unused_metadata());
        let request = SourceRequest { projection, members: Vec::new(), metadata, may_be_missing: false };
        let mut source = table.source(request).unwrap();
        let (start, end) = (offset(json!({"wrong": {"0": 0}})), offset(json!({"wrong": {"0": SMALL + LARGE}})));
        let mut readers = source.read(&OffsetRange { start, end }).unwrap();
        let (mut batches, mut letters) = (0, 0);
        while readers[0].next_batch().unwrap().is_some() {
            batches += 1;
            if takes {
                let taken = readers[0].take_dead_letters();
                letters += taken.len();
                let bytes: usize = taken.iter().map(|letter| letter.value.len()).sum();
                assert!(taken.len() <= 8192 && bytes < 5 << 20, "{mode}: {} of {bytes} bytes", taken.len());
            }
        }
        letters += readers[0].take_dead_letters().len();
        assert_eq!(letters, SMALL + LARGE);
        assert!((4..=20).contains(&batches), "{mode}: {batches}");
    }
}

/// What a query does not read of a struct is null, keeps its type, and does no harm to the record if it does not fit.
#[test]
fn structs_are_decoded_as_far_as_they_are_read() {
    let broker = TestBroker::start();
    broker.create_topic("structs", 1);
    let values = [r#"{"s":{"a":1,"b":2,"c":{"d":"x"}}}"#, r#"{"s":{"b":"no number","a":2}}"#, r#"{"s":null}"#, "{}"];
    produce(&producer(broker.address(), "none"), "structs", 0, values.map(str::to_owned));
    let column = highwater_engine::plan::ddl::parse_schema("s STRUCT<a: INT, b: INT, c: STRUCT<d: STRING>>").unwrap();
    let options = [("subscribe", "structs"), ("startingOffsets", "earliest")];
    let table = table(broker.address(), Some(Arc::new(column)), &options).unwrap();
    for (members, malformed, expected) in [
        (None, 1, ["{a: 1, b: 2, c: {d: x}}", "{a: 2, b: , c: }", "", ""]),
        (Some(vec!["a"]), 0, ["{a: 1, b: , c: }", "{a: 2, b: , c: }", "", ""]),
        (Some(vec!["c"]), 0, ["{a: , b: , c: {d: x}}", "{a: , b: , c: }", "", ""]),
        (Some(vec![]), 0, ["{a: , b: , c: }", "{a: , b: , c: }", "", ""]),
    ] {
        let members = vec![members.map(|names| names.into_iter().map(str::to_owned).collect::<BTreeSet<String>>())];
        let request =
            SourceRequest { projection: vec![0], members, metadata: unused_metadata(), may_be_missing: false };
        let mut source = table.source(request).unwrap();
        let (start, end) = (offset(json!({"structs": {"0": 0}})), offset(json!({"structs": {"0": 4}})));
        let (batches, report) = read(source.as_mut(), &start, &end).unwrap();
        assert_eq!(batches[0].schema(), table.schema());
        let shown = |row| array_value_to_string(batches[0].column(0), row).unwrap();
        assert_eq!([0, 1, 2, 3].map(shown), expected);
        assert_eq!((report.records, report.malformed), (4, malformed));
    }
}

/// A union of several types is a struct with a member for each, and stays whole when a query reads one of them.
#[test]
fn unions_of_avro_are_decoded_whole() {
    let broker = TestBroker::start();
    let records = r#"[{"type":"record","name":"a","fields":[{"name":"x","type":"int"}]},
        {"type":"record","name":"b","fields":[{"name":"y","type":"string"}]},"null"]"#;
    for (topic, of, expected) in [
        ("plain", r#"["int","string","null"]"#, ["{member0: 1, member1: }", "{member0: , member1: x}", ""]),
        // A record might be taken for the struct itself, which has none of its fields.
        ("records", records, ["{member0: {x: 1}, member1: }", "{member0: , member1: {y: x}}", ""]),
    ] {
        broker.create_topic(topic, 1);
        let values = ["\u{0}\u{2}", "\u{2}\u{2}x", "\u{4}"].map(str::to_owned);
        produce(&producer(broker.address(), "none"), topic, 0, values);
        let schema = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"u","type":{of}}}]}}"#);
        let options = [
            ("subscribe", topic),
            ("startingOffsets", "earliest"),
            ("value.format", "avro"),
            ("avro.schema", schema.as_str()),
        ];
        let table = table(broker.address(), None, &options).unwrap();
        for members in [vec![], vec!["member0"], vec!["member1"], vec!["member0", "member1"]] {
            let members = vec![Some(members.into_iter().map(str::to_owned).collect::<BTreeSet<String>>())];
            let (projection, metadata) = (vec![0], unused_metadata());
            let mut source =
                table.source(SourceRequest { projection, members, metadata, may_be_missing: false }).unwrap();
            let (start, end) = (offset(json!({topic: {"0": 0}})), offset(json!({topic: {"0": 3}})));
            let (batches, report) = read(source.as_mut(), &start, &end).unwrap();
            let shown = |row| array_value_to_string(batches[0].column(0), row).unwrap();
            assert_eq!([0, 1, 2].map(shown), expected, "{topic}");
            assert_eq!((report.records, report.malformed), (3, 0));
        }
    }
}

#[test]
fn a_missing_topic_is_named_with_its_neighbour() {
    let broker = TestBroker::start();
    broker.create_topic("payments", 1);
    let mut source = source(broker.address(), None, &[("subscribe", "paymnets")]).unwrap();
    let error = source.initial_offset().unwrap_err();
    let address = broker.address();
    assert_eq!(error.to_string(), format!("Kafka topic 'paymnets' does not exist on {address}"));
    let create = format!("highwater topic create paymnets --bootstrap {address}");
    assert_eq!(error.next_step(), Some(format!("did you mean 'payments'? Otherwise create it: {create}").as_str()));
}

#[test]
fn an_unreachable_broker_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let Err(error) = source(&address, None, &[("subscribe", "t")]) else { panic!("nobody listens there") };
    assert!(matches!(error, EngineError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().starts_with(&format!("Kafka broker {address} cannot be reached")), "{error}");
    assert!(error.next_step().unwrap().contains("kafka.bootstrap.servers"));
}

#[test]
fn lost_records_end_the_query_or_are_passed_over() {
    let broker = TestBroker::start();
    broker.create_topic("lossy", 1);
    produce(&producer(broker.address(), "none"), "lossy", 0, (0..10).map(|i| i.to_string()));
    let (read_to, gone) =
        (offset(json!({"lossy": {"0": 50}})), offset(json!({"lossy": {"0": 1}, "deleted": {"0": 5}})));

    let mut strict = source(broker.address(), None, &[("subscribe", "lossy")]).unwrap();
    for start in [&read_to, &gone] {
        let error = strict.plan_batch(start, None).unwrap_err();
        assert!(matches!(error, EngineError::Data(_)), "{error:?}");
        assert!(error.next_step().unwrap().contains("failOnDataLoss"));
    }
    assert_eq!(
        strict.plan_batch(&read_to, None).unwrap_err().to_string(),
        "table t (USING kafka): partition lossy-0 ends at offset 10, it was read up to offset 50"
    );

    // The same found only while reading: a range that was planned before the records went.
    let (inside, beyond) = (offset(json!({"lossy": {"0": 5}})), offset(json!({"lossy": {"0": 20}})));
    let error = read(&mut *strict, &inside, &beyond).unwrap_err();
    assert!(matches!(error, EngineError::Data(_)), "{error:?}");
    assert_eq!(error.to_string(), "offset 10 of lossy-0 is gone: the broker holds offsets 0 to 10");

    let options = [("subscribe", "lossy"), ("failOnDataLoss", "false")];
    let mut lenient = source(broker.address(), None, &options).unwrap();
    let end = lenient.plan_batch(&read_to, None).unwrap();
    assert_eq!(end.0, json!({"lossy": {"0": 10}}));
    assert_eq!(read(&mut *lenient, &read_to, &end).unwrap().1.records, 0);
    assert_eq!(read(&mut *lenient, &inside, &beyond).unwrap().1.records, 5);
}

#[test]
fn records_behind_the_retention_are_lost_and_the_rest_is_read() {
    let broker = TestBroker::start_embedded();
    broker.create_topic_with("short", 1, &[("segment.bytes", "4096"), ("retention.bytes", "8192")]);
    let producer = producer(broker.address(), "none");
    for round in 0..50 {
        produce(&producer, "short", 0, (0..10).map(|i| format!("{round} {i} {}", "x".repeat(90))));
    }
    broker.enforce_retention();
    let earliest = Admin::connect(broker.address()).unwrap().describe_topic("short").unwrap().partitions[0].earliest;
    let earliest = earliest.filter(|offset| *offset > 0).unwrap();
    let (start, end) = (offset(json!({"short": {"0": 0}})), offset(json!({"short": {"0": 500}})));

    let mut strict = source(broker.address(), None, &[("subscribe", "short")]).unwrap();
    let error = read(&mut *strict, &start, &end).unwrap_err();
    let expected = format!("offset 0 of short-0 is gone: the broker holds offsets {earliest} to 500");
    assert_eq!(error.to_string(), expected);

    let options = [("subscribe", "short"), ("failOnDataLoss", "false")];
    let mut lenient = source(broker.address(), None, &options).unwrap();
    let (batches, report) = read(&mut *lenient, &start, &end).unwrap();
    assert_eq!(report.records, u64::try_from(500 - earliest).unwrap());
    assert_eq!(rows(&batches)[0].0, earliest);
}

#[test]
fn topics_are_made_described_and_deleted() {
    let broker = TestBroker::start();
    let admin = Admin::connect(broker.address()).unwrap();
    broker.create_topic("described", 2);
    produce(&producer(broker.address(), "lz4"), "described", 1, (0..3).map(|i| i.to_string()));
    let described = admin.describe_topic("described").unwrap();
    let offsets: Vec<_> = described.partitions.iter().map(|partition| (partition.earliest, partition.latest)).collect();
    assert_eq!(offsets, [(Some(0), Some(0)), (Some(0), Some(3))]);
    assert!(admin.list_topics().unwrap().iter().any(|topic| &*topic.name == "described"));

    let again = NewTopic { name: "described".to_owned(), ..NewTopic::default() };
    assert_eq!(admin.create_topic(&again).unwrap_err().to_string(), "Kafka topic 'described' exists already");
    let wrong = NewTopic { name: "no spaces".to_owned(), ..NewTopic::default() };
    assert!(matches!(admin.create_topic(&wrong).unwrap_err(), EngineError::Config(_)));

    admin.delete_topics(&["described".to_owned()]).unwrap();
    let error = admin.delete_topics(&["described".to_owned()]).unwrap_err();
    assert_eq!(error.to_string(), format!("Kafka topic 'described' does not exist on {}", broker.address()));
}

#[test]
fn starting_points_are_resolved() {
    let broker = TestBroker::start();
    broker.create_topic("points", 2);
    produce(&producer(broker.address(), "none"), "points", 1, (0..10).map(|i| i.to_string()));
    for (offsets, expected) in [
        ("earliest", json!({"points": {"0": 0, "1": 0}})),
        ("latest", json!({"points": {"0": 0, "1": 10}})),
        (r#"{"points":{"0":-2,"1":-1}}"#, json!({"points": {"0": 0, "1": 10}})),
        (r#"{"points":{"0":-1,"1":4}}"#, json!({"points": {"0": 0, "1": 4}})),
    ] {
        let options = [("subscribePattern", "poi.*"), ("startingOffsets", offsets)];
        let mut source = source(broker.address(), None, &options).unwrap();
        assert_eq!(source.initial_offset().unwrap().0, expected, "{offsets}");
    }
    let mut source =
        source(broker.address(), None, &[("subscribe", "points"), ("startingOffsets", r#"{"points":{"0":1}}"#)])
            .unwrap();
    let error = source.initial_offset().unwrap_err().to_string();
    assert_eq!(error, "table t (USING kafka): option 'startingOffsets' says nothing of partition points-1");
}

fn sink_request(schema: SchemaRef) -> SinkRequest {
    SinkRequest {
        query_id: "q1".to_owned(),
        query_name: "alerts".to_owned(),
        schema,
        output_mode: OutputMode::Append,
        key_columns: Vec::new(),
        deletes: false,
    }
}

fn sink_rows(values: &[&str]) -> RecordBatch {
    let keys: StringArray = values.iter().map(|value| Some(format!("key {value}"))).collect();
    let values: StringArray = values.iter().copied().map(Some).collect();
    RecordBatch::try_from_iter([("key", Arc::new(keys) as _), ("value", Arc::new(values) as _)]).unwrap()
}

fn values_of(broker: &str, topic: &str) -> Vec<String> {
    let mut source = source(broker, None, &[("subscribe", topic), ("startingOffsets", "earliest")]).unwrap();
    let start = source.initial_offset().unwrap();
    let end = source.latest_offset().unwrap();
    let mut values: Vec<String> =
        rows(&read(&mut *source, &start, &end).unwrap().0).into_iter().map(|row| row.1).collect();
    values.sort();
    values
}

#[test]
fn a_sink_makes_its_topic_and_writes_each_batch() {
    let broker = TestBroker::start();
    let table =
        table(broker.address(), None, &[("topic", "alerts"), ("transactional", "false"), ("kafka.no.such.key", "1")])
            .unwrap();
    let rows = sink_rows(&["a", "b"]);
    let mut sink = table.sink(sink_request(rows.schema())).unwrap();
    assert_eq!(sink.last_committed().unwrap(), SinkToken::Unsupported);
    for batch in 0..2 {
        sink.begin(batch).unwrap();
        sink.write(&rows).unwrap();
        sink.prepare().unwrap();
        assert_eq!(sink.commit().unwrap().rows, 2);
    }
    assert_eq!(values_of(broker.address(), "alerts"), ["a", "a", "b", "b"]);
}

#[test]
fn whole_rows_are_written_as_json_with_a_key_column() {
    let broker = TestBroker::start();
    broker.create_topic("totals", 1);
    let options = [("topic", "totals"), ("transactional", "false"), ("value.format", "json"), ("key.column", "device")];
    let table = table(broker.address(), None, &options).unwrap();
    let devices: StringArray = ["d1", "d2"].into_iter().map(Some).collect();
    let totals = arrow::array::Int64Array::from(vec![1, 2]);
    let rows =
        RecordBatch::try_from_iter([("device", Arc::new(devices) as _), ("total", Arc::new(totals) as _)]).unwrap();
    let mut sink = table.sink(sink_request(rows.schema())).unwrap();
    sink.begin(0).unwrap();
    sink.write(&rows).unwrap();
    sink.prepare().unwrap();
    sink.commit().unwrap();
    assert_eq!(values_of(broker.address(), "totals"), [r#"{"device":"d1","total":1}"#, r#"{"device":"d2","total":2}"#]);
}

#[test]
fn in_transactions_it_is_an_exactly_once_sink_like_the_others() {
    let broker = TestBroker::start();
    broker.create_topic("events", 1);
    let options = [
        ("kafka.bootstrap.servers", broker.address()),
        ("subscribe", "events"),
        ("topic", "events"),
        ("value.format", "json"),
        ("transactional", "true"),
    ];
    crate::contract::check(&crate::contract::definition("kafka", None, &options));
}

#[test]
fn a_row_that_goes_is_a_tombstone() {
    let broker = TestBroker::start();
    broker.create_topic("rows", 1);
    let address = broker.address().to_owned();
    let sink = |keys: &str| {
        let options = [("topic", "rows"), ("transactional", "true"), ("key.columns", keys)];
        let options = if keys.is_empty() { &options[..2] } else { &options[..] };
        let schema = crate::contract::id_name();
        let request = SinkRequest { deletes: true, key_columns: vec!["id".to_owned()], ..sink_request(schema) };
        let request = SinkRequest { output_mode: OutputMode::Update, ..request };
        table(&address, None, options).unwrap().sink(request)
    };
    let Err(error) = sink("name") else { panic!("the key of another row was taken") };
    let expected = "table t (USING kafka): the key of its records is (name), but what tells the rows of the changes apart is \
                    (id)";
    assert_eq!(error.to_string(), expected);
    let mut sink = sink("").unwrap();
    let changes = crate::contract::changes(&[(1, "a", false), (2, "b", false), (1, "a", true)]);
    crate::contract::put(sink.as_mut(), 0, &[changes]);
    let mut source = source(&address, None, &[("subscribe", "rows"), ("startingOffsets", "earliest")]).unwrap();
    let start = source.initial_offset().unwrap();
    // Three records and the marker of their transaction, which comes a moment after the commit.
    let end = offset(json!({"rows": {"0": 4}}));
    crate::contract::settles(|| source.latest_offset().unwrap(), end.clone(), "the transaction ends");
    let text = |array: &ArrayRef, row: usize| {
        array.is_valid(row).then(|| String::from_utf8(array.as_binary::<i32>().value(row).to_vec()).unwrap())
    };
    let mut found = Vec::new();
    for batch in read(&mut *source, &start, &end).unwrap().0 {
        let columns = batch.columns();
        found.extend((0..batch.num_rows()).map(|row| (text(&columns[0], row), text(&columns[1], row))));
    }
    let record = |key: &str, value: Option<&str>| (Some(key.to_owned()), value.map(str::to_owned));
    let expected = [
        record("1", Some("{\"id\":1,\"name\":\"a\"}")),
        record("2", Some("{\"id\":2,\"name\":\"b\"}")),
        record("1", None),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_transaction_makes_a_batch_and_its_token_visible_together() {
    let broker = TestBroker::start();
    let address = broker.address().to_owned();
    let topic = format!("txn-{}", uuid::Uuid::new_v4());
    let rows = sink_rows(&["a", "b"]);
    let mut request = sink_request(rows.schema());
    request.query_id = topic.clone();
    let table = table(&address, None, &[("topic", &topic), ("transactional", "true")]).unwrap();
    let mut sink = table.sink(request.clone()).unwrap();
    assert_eq!(sink.last_committed().unwrap(), SinkToken::NoneLeft);

    sink.begin(0).unwrap();
    sink.write(&rows).unwrap();
    sink.prepare().unwrap();
    assert_eq!(values_of(&address, &topic), Vec::<String>::new());
    assert_eq!(sink.commit().unwrap().rows, 2);
    let settles = |expected: &[&str]| {
        let expected = expected.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        crate::contract::settles(|| values_of(&address, &topic), expected, "committed batches");
    };
    settles(&["a", "b"]);

    sink.begin(1).unwrap();
    sink.write(&sink_rows(&["aborted"])).unwrap();
    sink.prepare().unwrap();
    sink.abort().unwrap();
    assert_eq!(values_of(&address, &topic), ["a", "b"]);

    // A run that dies with a transaction open is fenced by the next, and what it wrote is never seen.
    sink.begin(1).unwrap();
    sink.write(&sink_rows(&["zombie"])).unwrap();
    sink.prepare().unwrap();
    let mut successor = table.sink(request).unwrap();
    assert_eq!(successor.last_committed().unwrap(), SinkToken::Committed(0));
    assert!(sink.commit().is_err());
    successor.begin(1).unwrap();
    successor.write(&sink_rows(&["c"])).unwrap();
    successor.prepare().unwrap();
    successor.commit().unwrap();
    assert_eq!(successor.last_committed().unwrap(), SinkToken::Committed(1));
    settles(&["a", "b", "c"]);
}

/// What `sql` gives over a table `t` of a topic, a row a line.
fn select(table: &dyn Table, sql: &str) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let context = datafusion::prelude::SessionContext::new();
    context.register_table("t", table.batch()?)?;
    let batches = runtime.block_on(async { context.sql(sql).await?.collect().await })?;
    let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
    Ok(rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ")).collect())
}

#[test]
fn a_topic_is_a_static_table() {
    let broker = TestBroker::start();
    broker.create_topic("still", 2);
    let producer = producer(broker.address(), "none");
    produce(&producer, "still", 0, ["{\"a\":1}", "{oops", "{\"a\":\"x\"}", "{\"a\":4}"].map(str::to_owned));
    produce(&producer, "still", 1, ["{\"a\":5}".to_owned()]);
    let fields = [
        Field::new("a", DataType::Int32, true),
        Field::new("_corrupt_record", DataType::Utf8, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
    ];
    let schema: SchemaRef = Arc::new(Schema::new(fields.to_vec()));
    let open = |mode: &str| {
        let options = [("subscribe", "still"), ("value.format", "json"), ("mode", mode)];
        table(broker.address(), Some(schema.clone()), &options).unwrap()
    };
    let all = "SELECT * FROM t ORDER BY _partition, _offset";
    assert_eq!(
        select(&*open("PERMISSIVE"), all).unwrap(),
        ["1  0 0", " {oops 0 1", " {\"a\":\"x\"} 0 2", "4  0 3", "5  1 0"]
    );
    // Records that do not parse count where nothing of their values is read.
    assert_eq!(select(&*open("PERMISSIVE"), "SELECT count(*) FROM t").unwrap(), ["5"]);
    assert_eq!(select(&*open("DROPMALFORMED"), all).unwrap(), ["1  0 0", "4  0 3", "5  1 0"]);

    let error = select(&*open("FAILFAST"), all).unwrap_err();
    let expected = "topic still, partition 0, offset 1: malformed record in FAILFAST mode: ";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(matches!(error, EngineError::Data(_)), "{error:?}");

    // What came after a scan began is seen by the next one.
    let still = open("PERMISSIVE");
    assert_eq!(select(&*still, "SELECT max(_offset) FROM t").unwrap(), ["3"]);
    produce(&producer, "still", 0, ["{\"a\":6}".to_owned()]);
    assert_eq!(select(&*still, "SELECT max(_offset) FROM t WHERE a > 5").unwrap(), ["4"]);
}

#[test]
fn readers_have_no_more_records_than_allowed() {
    let broker = TestBroker::start();
    broker.create_topic("parts", 1);
    produce(&producer(broker.address(), "none"), "parts", 0, (0..10).map(|i| i.to_string()));
    let options = [("subscribe", "parts"), ("startingOffsets", "earliest"), ("maxRecordsPerPartition", "4")];
    let mut source = source(broker.address(), None, &options).unwrap();
    let range = OffsetRange { start: offset(json!({"parts": {"0": 0}})), end: offset(json!({"parts": {"0": 10}})) };
    let mut records = Vec::new();
    for mut reader in source.read(&range).unwrap() {
        while reader.next_batch().unwrap().is_some() {}
        records.push(reader.report().records);
    }
    assert_eq!(records, [3, 3, 4]);
}

#[test]
fn offsets_are_asked_for_as_often_as_the_options_say() {
    let broker = TestBroker::start_embedded();
    broker.create_topic("gone", 1);
    let options = [("subscribe", "gone"), ("fetchOffset.numRetries", "2"), ("fetchOffset.retryIntervalMs", "1")];
    let mut source = source(broker.address(), None, &options).unwrap();
    source.latest_offset().unwrap();
    drop(broker);
    // With the client's own limit this would take a minute.
    let error = source.latest_offset().unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)), "{error:?}");
}

/// What a tail gives until it has so many rows; offsets and values.
fn follow(tail: &mut dyn TailReader, wanted: usize) -> (Vec<(i64, String)>, i64) {
    let (mut found, mut end) = (Vec::new(), 0);
    while found.len() < wanted {
        if let Some(next) = tail.next().unwrap() {
            assert_eq!(next.report.records, next.rows.num_rows() as u64);
            found.extend(rows(&[next.rows]));
            end = next.end;
        }
    }
    (found, end)
}

#[test]
fn a_topic_is_followed_partition_by_partition() {
    let broker = TestBroker::start();
    broker.create_topic("followed", 2);
    let producer = producer(broker.address(), "lz4");
    let options = [("subscribe", "followed"), ("startingOffsets", "earliest")];
    let mut source = source(broker.address(), None, &options).unwrap();
    produce(&producer, "followed", 0, (0..10).map(|i| i.to_string()));
    let start = offset(json!({"followed": {"0": 4, "1": 0}}));
    let mut tails = source.follow(&start, &BTreeSet::new()).unwrap().unwrap();
    assert_eq!(tails.iter().map(|tail| tail.partition().to_owned()).collect::<Vec<_>>(), ["followed-0", "followed-1"]);
    let (found, end) = follow(&mut *tails[0], 6);
    assert_eq!(found, (4..10).map(|i| (i, i.to_string())).collect::<Vec<_>>());
    assert_eq!(end, 10);
    assert!(tails[1].next().unwrap().is_none());
    // What comes later comes out, on both.
    produce(&producer, "followed", 0, ["late".to_owned()]);
    produce(&producer, "followed", 1, ["other".to_owned()]);
    assert_eq!(follow(&mut *tails[0], 1), (vec![(10, "late".to_owned())], 11));
    assert_eq!(follow(&mut *tails[1], 1), (vec![(0, "other".to_owned())], 1));
    let ends = BTreeMap::from([("followed-0".to_owned(), 11)]);
    assert_eq!(source.followed(&start, &ends).unwrap().0, json!({"followed": {"0": 11, "1": 0}}));
    // A partition that nobody knew begins at its first record, and only it is new.
    let known = BTreeSet::from(["followed-0".to_owned()]);
    let mut new = source.follow(&offset(json!({"followed": {"0": 11}})), &known).unwrap().unwrap();
    assert_eq!(new.len(), 1);
    assert_eq!(follow(&mut *new[0], 1), (vec![(0, "other".to_owned())], 1));
}

#[test]
fn limits_of_a_topic_that_is_followed_are_heeded_or_refused() {
    let broker = TestBroker::start();
    broker.create_topic("bounded", 2);
    let producer = producer(broker.address(), "none");
    produce(&producer, "bounded", 0, (0..100).map(|i| i.to_string()));
    let start = offset(json!({"bounded": {"0": 0, "1": 0}}));
    let open = |option: (&str, &str)| {
        let options = [("subscribe", "bounded"), ("startingOffsets", "earliest"), option];
        source(broker.address(), None, &options).unwrap()
    };
    let mut limited = open(("maxOffsetsPerTrigger", "60"));
    assert_eq!(limited.follow_limit(), Some(60));
    let mut tails = limited.follow(&start, &BTreeSet::new()).unwrap().unwrap();
    // Half of it at once, so that both partitions together give no more.
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 100 {
        sizes.extend(tails[0].next().unwrap().map(|next| next.rows.num_rows()));
    }
    assert!(sizes.iter().all(|size| *size <= 30), "{sizes:?}");
    let error = open(("minOffsetsPerTrigger", "60")).follow(&start, &BTreeSet::new()).err().unwrap();
    let expected =
        "table t (USING kafka): option 'minOffsetsPerTrigger' is 60, and the trigger real-time holds no batch back";
    assert_eq!(error.to_string(), expected);
    assert!(error.next_step().unwrap().contains("--trigger '1 second'"), "{error:?}");
}

#[test]
fn a_range_is_read_again_in_parts() {
    let broker = TestBroker::start_embedded();
    broker.create_topic("again", 2);
    let producer = producer(broker.address(), "none");
    produce(&producer, "again", 0, (0..100).map(|i| i.to_string()));
    produce(&producer, "again", 1, (0..300).map(|i| i.to_string()));
    let options = [("subscribe", "again"), ("startingOffsets", "earliest")];
    let mut unlimited = source(broker.address(), None, &options).unwrap();
    let options = [&options[..], &[("maxOffsetsPerTrigger", "40")]].concat();
    let mut limited = source(broker.address(), None, &options).unwrap();
    // The second partition was not there yet when the query began.
    let (start, until) = (offset(json!({"again": {"0": 0}})), offset(json!({"again": {"0": 50, "1": 150}})));
    assert_eq!(limited.plan_again(&start, &until, 1000).unwrap().0, json!({"again": {"0": 10, "1": 30}}));
    assert_eq!(unlimited.plan_again(&start, &until, 1000).unwrap(), until);
    let mut at = start.clone();
    let mut parts = 0;
    while at != until {
        let end = unlimited.plan_again(&at, &until, 80).unwrap();
        let records = read(&mut *unlimited, &at, &end).unwrap().1.records;
        assert!((1..=80).contains(&records), "{records}");
        let left = OffsetRange { start: end.clone(), end: until.clone() };
        parts += 1;
        assert_eq!(unlimited.amount(&left).unwrap(), Some(200 - 80 * parts.min(2) - 40 * (parts / 3)));
        at = end;
    }
    assert_eq!(parts, 3);
    // What is gone cannot be read again, and that is known before anything is.
    broker.create_topic_with("short", 1, &[("segment.bytes", "4096"), ("retention.bytes", "8192")]);
    for round in 0..20 {
        produce(&producer, "short", 0, (0..10).map(|i| format!("{round} {i} {}", "x".repeat(90))));
    }
    broker.enforce_retention();
    let (start, until) = (offset(json!({"short": {"0": 0}})), offset(json!({"short": {"0": 200}})));
    let mut short = source(broker.address(), None, &[("subscribe", "short")]).unwrap();
    let error = short.plan_again(&start, &until, 80).unwrap_err().to_string();
    let expected = "table t (USING kafka): partition short-0 begins at offset ";
    assert!(error.starts_with(expected) && error.ends_with(", it is to be read from 0 on"), "{error}");
}

#[test]
fn the_end_of_a_transaction_moves_a_tail_without_rows() {
    let broker = TestBroker::start();
    broker.create_topic("transacted", 1);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address()).set("transactional.id", "tail");
    let producer: BaseProducer = config.create().unwrap();
    let limit = Duration::from_secs(30);
    producer.init_transactions(limit).unwrap();
    let options = [("subscribe", "transacted"), ("startingOffsets", "earliest")];
    let options = [&options[..], &[("kafka.isolation.level", "read_committed")]].concat();
    let mut source = source(broker.address(), None, &options).unwrap();
    let start = source.initial_offset().unwrap();
    let mut tails = source.follow(&start, &BTreeSet::new()).unwrap().unwrap();
    producer.begin_transaction().unwrap();
    produce(&producer, "transacted", 0, ["never".to_owned()]);
    assert!(tails[0].next().unwrap().is_none(), "nothing is seen of an open transaction");
    producer.abort_transaction(limit).unwrap();
    producer.begin_transaction().unwrap();
    produce(&producer, "transacted", 0, ["seen".to_owned()]);
    producer.commit_transaction(limit).unwrap();
    // Two records, each with a marker behind it.
    let (mut found, mut end) = follow(&mut *tails[0], 1);
    while end < 4 {
        let next = tails[0].next().unwrap();
        end = next.as_ref().map_or(end, |next| next.end);
        found.extend(next.into_iter().flat_map(|next| rows(&[next.rows])));
    }
    assert_eq!(found, [(2, "seen".to_owned())]);
}
