//! The JSON functions against real Spark, through the queries users write.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, MapBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use highwater_engine::clock::SystemClock;
use highwater_engine::plan::ddl::parse_schema;
use highwater_engine::plan::{Program, ScriptFile};
use highwater_engine::progress::{ProgressListener, StreamingQueryProgress};
use highwater_engine::query::{Pipeline, PipelineSettings, Trigger, select};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::format::{JsonWriteOptions, json_encode_rows};
use crate::kafka::testing::TestBroker;
use crate::registry::connectors;

fn oracle(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match if c == '\\' { chars.next().map(|escaped| (escaped, true)) } else { Some((c, false)) } {
            Some(('t', true)) => out.push('\t'),
            Some(('n', true)) => out.push('\n'),
            Some((other, _)) => out.push(other),
            None => {}
        }
    }
    out
}

/// The only value of a query's result, or the condition of its error.
fn value(zone: &str, sql: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let sql = format!("SET spark.sql.session.timeZone = '{zone}'; {sql}");
    let (_, rows) = select(&sql, folder.path(), &connectors()).map_err(|error| condition(&error.to_string()))?;
    let rows: Vec<&RecordBatch> = rows.iter().filter(|rows| rows.num_rows() > 0).collect();
    let text = arrow::compute::cast(rows[0].column(0), &DataType::Utf8).unwrap();
    let text = text.as_string::<i32>();
    Ok(if text.is_null(0) { "NULL".to_owned() } else { text.value(0).to_owned() })
}

fn condition(error: &str) -> String {
    let conditions = error.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(name, _)| name);
    let is_condition =
        |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_.".contains(c));
    match conditions.filter(|name| name.len() > 3).find(is_condition) {
        Some(name) => format!("ERROR {name}"),
        None => format!("ERROR {}", error.chars().take(200).collect::<String>()),
    }
}

/// Type, value and name of a column; an error instead of all three.
fn answer(zone: &str, from: &str, expression: &str) -> Result<[String; 3], String> {
    let from = if from.is_empty() { String::new() } else { format!(" FROM {from}") };
    let value = self::value(zone, &format!("SELECT CAST({expression} AS STRING){from}"))?;
    let data_type = self::value(zone, &format!("SELECT typeof({expression}){from}"))?;
    let folder = tempfile::tempdir().unwrap();
    let sql = format!("SELECT {expression}{from}");
    let (schema, _) = select(&sql, folder.path(), &connectors()).map_err(|error| condition(&error.to_string()))?;
    Ok([data_type, value, schema.field(0).name().clone()])
}

#[test]
fn functions_give_what_spark_gives() {
    let known = oracle("json_functions.known");
    let known: BTreeMap<String, &str> = known
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t'))
        .map(|(expression, reason)| (unescape(expression), reason))
        .collect();
    let (mut differ, mut mended) = (Vec::new(), Vec::new());
    for line in oracle("json_functions.tsv").lines() {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        let [zone, from, expression, data_type, value, name] = fields.try_into().unwrap();
        let found = answer(&zone, &from, &expression);
        let agrees = match &found {
            Ok(found) => *found == [data_type.clone(), value.clone(), name.clone()],
            Err(found) => *found == value,
        };
        match (agrees, known.contains_key(&format!("{zone} {expression}"))) {
            (true, true) => mended.push(expression),
            (false, false) => {
                differ.push(format!("{zone} {expression}\n  Spark {data_type} {value} `{name}`\n  here  {found:?}"));
            }
            _ => {}
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    assert!(mended.is_empty(), "no longer different, take them out of json_functions.known: {mended:#?}");
}

/// Values themselves are compared with Spark in `avro/golden.jsonl`; here is what SQL says of them.
#[test]
fn avro_functions_are_called_as_in_spark() {
    let record = r#"'{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"b","type":"string"}]}'"#;
    let wider =
        r#"'{"type":"record","name":"r","fields":[{"name":"c","type":"int","default":7},{"name":"a","type":"long"}]}'"#;
    let malformed = Err("ERROR MALFORMED_AVRO_MESSAGE");
    for (expression, expected) in [
        (format!("CAST(from_avro(X'020278', {record}) AS STRING)"), Ok("{1, x}")),
        (format!("typeof(from_avro(X'020278', {record}))"), Ok("struct<a:int,b:string>")),
        (format!("from_avro(X'020278', {record}).b"), Ok("x")),
        (format!("from_avro(X'0202', {record})"), malformed),
        (format!("CAST(from_avro(X'0202', {record}, map('mode', 'PERMISSIVE')) AS STRING)"), Ok("{null, null}")),
        (format!("CAST(from_avro(X'020278', {record}, map('avroSchema', {wider})) AS STRING)"), Ok("{7, 1}")),
        (format!("typeof(from_avro(X'020278', {record}, map('avroSchema', {wider})))"), Ok("struct<c:int,a:bigint>")),
        (format!("from_avro(NULL, {record}) IS NULL"), Ok("true")),
        (
            format!("from_avro(X'020278', {record}, map('mode', lower('X')))"),
            Err("ERROR INVALID_OPTIONS.NON_MAP_FUNCTION"),
        ),
        (
            format!("from_avro(X'020278', {record}, map('recursiveFieldMaxDepth', '3'))"),
            Err("ERROR UNSUPPORTED_OPTION"),
        ),
        (format!("from_avro('x', {record})"), Err("ERROR DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")),
        ("from_avro(X'02', lower('LONG'))".to_owned(), Err("ERROR DATATYPE_MISMATCH.TYPE_CHECK_FAILURE_WITH_HINT")),
        ("from_avro(X'02', 'long')".to_owned(), Err("ERROR AVRO_SCHEMA")),
        (format!("hex(to_avro(struct(CAST(1 AS INT) AS a, 'x' AS b), {record}))"), Ok("020278")),
        ("hex(to_avro(struct(CAST(1 AS INT) AS a, 'x' AS b)))".to_owned(), Ok("0002000278")),
        ("hex(to_avro(CAST(NULL AS INT)))".to_owned(), Ok("NULL")),
        ("hex(to_avro(array('x'), '{\"type\":\"array\",\"items\":\"string\"}'))".to_owned(), Ok("02027800")),
        (format!("to_avro(struct(1 AS a), {record})"), Err("ERROR AVRO_SCHEMA")),
        (format!("to_avro(struct(CAST(NULL AS INT) AS a, 'x' AS b), {record})"), Err("ERROR AVRO_VALUE")),
    ] {
        let found = value("UTC", &format!("SELECT {expression}"));
        let found = found.as_ref().map(String::as_str).map_err(String::as_str);
        assert_eq!(found, expected, "{expression}");
    }
}

/// A topic with these values, read by a pipeline; what it wrote, and the plan.
fn from_topic(values: &[&str], query: &str) -> (Vec<String>, String) {
    let broker = TestBroker::start_embedded();
    broker.create_topic("docs", 1);
    let mut config = ClientConfig::new();
    let producer: BaseProducer = config.set("bootstrap.servers", broker.address()).create().unwrap();
    for value in values {
        let record = BaseRecord::<str, str>::to("docs").payload(value).timestamp(1_704_067_200_000);
        producer.send(record).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let sql = format!(
        "CREATE TABLE docs USING kafka OPTIONS ('kafka.bootstrap.servers' '{}', subscribe 'docs', startingOffsets 'earliest');
         CREATE STREAMING TABLE out AS {query};",
        broker.address()
    );
    let storage = tempfile::tempdir().unwrap();
    let mut settings = PipelineSettings::new(storage.path());
    settings.default_format = "json".to_owned();
    settings.query.trigger = Trigger::AvailableNow;
    let program = Program::parse(&[ScriptFile { name: "test.sql".to_owned(), text: sql }]).unwrap();
    let pipeline = Pipeline::open(program, settings, connectors(), Arc::new(SystemClock)).unwrap();
    let plan = pipeline.flows()[0].explain.clone();
    pipeline.start(Arc::new(Silent)).unwrap().wait().unwrap();
    let (_, rows) = select("SELECT * FROM out", storage.path(), &connectors()).unwrap();
    let (mut out, options) = (Vec::new(), JsonWriteOptions { row_end: "\n".to_owned(), ..JsonWriteOptions::default() });
    rows.iter().for_each(|rows| json_encode_rows(rows, &options, &mut out, &mut Vec::new()).unwrap());
    let mut texts: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
    texts.sort();
    (texts, plan)
}

struct Silent;

impl ProgressListener for Silent {
    fn on_progress(&self, _: &StreamingQueryProgress) {}
    fn on_terminated(&self, _: &str, _: Option<&str>) {}
}

const DOCUMENTS: &[&str] = &[
    r#"{"a":1,"b":"x","c":2.5,"d":"é","ts":"2024-01-01T00:00:10Z","s":{"k":1,"l":2}}"#,
    r#"{"a":2,"b":"y","c":0.5,"d":"","ts":"2024-01-01T00:00:20Z","s":{"k":3}}"#,
    "nonsense",
    r#"{"a":3,"b":"z","c":3.5,"ts":"2024-01-01T00:02:00Z"}"#,
];

const SCHEMA: &str = "a INT, b STRING, c DOUBLE, d STRING, ts TIMESTAMP, s STRUCT<k: INT, l: INT>";

/// The one call in a plan: what it reads and which fields it decodes.
fn check_call(plan: &str, expected: &str) {
    let calls: Vec<&str> = plan.split("from_json(").skip(1).collect();
    assert_eq!(calls.len(), 1, "{plan}");
    let (reads, _) = calls[0].split_once(',').unwrap();
    let (_, fields) = calls[0].split_once("LargeUtf8(").unwrap();
    let (fields, _) = fields.split_once(')').unwrap();
    assert_eq!(format!("{reads} {fields}"), expected, "{plan}");
}

#[test]
fn only_the_fields_that_are_used_are_decoded_and_that_once() {
    let from = format!("FROM (SELECT from_json(CAST(value AS STRING), '{SCHEMA}') AS j, timestamp FROM STREAM docs)");
    let (rows, plan) = from_topic(DOCUMENTS, &format!("SELECT j.a, j.b {from} WHERE j.c > 1"));
    assert_eq!(rows, [r#"{"a":1,"b":"x"}"#, r#"{"a":3,"b":"z"}"#]);
    check_call(&plan, r#"docs.value "["a","b","c"]""#);

    let (rows, plan) = from_topic(DOCUMENTS, &format!("SELECT j.d, j.s.k {from}"));
    assert_eq!(rows, [r#"{"d":"","k":3}"#, r#"{"d":"é","k":1}"#, "{}", "{}"]);
    check_call(&plan, r#"docs.value "["d","s"]""#);

    let (rows, plan) = from_topic(DOCUMENTS, &format!("SELECT j.a {from}"));
    assert_eq!(rows, [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, "{}"]);
    check_call(&plan, r#"docs.value "["a"]""#);

    let (rows, plan) = from_topic(DOCUMENTS, &format!("SELECT to_json(j) AS j {from} WHERE j.a = 2"));
    let whole = r#"{"a":2,"b":"y","c":0.5,"d":"","ts":"2024-01-01T00:00:20.000Z","s":{"k":3}}"#;
    assert_eq!(rows, [serde_json::json!({ "j": whole }).to_string()]);
    check_call(&plan, "docs.value NULL");
}

#[test]
fn fields_can_be_event_times_and_keys() {
    let from = format!("FROM (SELECT from_json(CAST(value AS STRING), '{SCHEMA}') AS j FROM STREAM docs)");
    let query = format!(
        "SELECT window.start AS s, count(*) AS n, sum(j.a) AS a {from} WATERMARK j.ts AS et DELAY OF INTERVAL 0 SECONDS
         GROUP BY window(et, '1 minute')"
    );
    let (rows, plan) = from_topic(DOCUMENTS, &query);
    assert_eq!(rows, [r#"{"s":"2024-01-01T00:00:00.000Z","n":2,"a":3}"#]);
    check_call(&plan, r#"docs.value "["a","ts"]""#);

    // By the time of Kafka all records are in one window, which nothing after it closes.
    let from = format!(
        "FROM (SELECT from_json(CAST(value AS STRING), '{SCHEMA}') AS j, timestamp FROM STREAM docs
         WATERMARK timestamp DELAY OF INTERVAL 0 SECONDS)"
    );
    let query = format!("SELECT timestamp AS t, j.b AS b, count(*) AS n {from} GROUP BY timestamp, j.b");
    let (rows, plan) = from_topic(DOCUMENTS, &query);
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows.contains(&r#"{"t":"2024-01-01T00:00:00.000Z","b":"x","n":1}"#.to_owned()), "{rows:?}");
    check_call(&plan, r#"docs.value "["b"]""#);
}

/// Decoding less must not hide what is wrong with a document.
#[test]
fn fields_are_left_out_only_where_nobody_sees_it() {
    let documents: ArrayRef = Arc::new(BinaryArray::from(vec![&b"{\"a\":1,\"b\":\"\xff\",\"c\":\"x\"}"[..]]));
    let call = |schema: &str, options: &[(&str, &str)], used: &str| {
        let field = Arc::new(Field::new("j", DataType::Struct(parse_schema(schema).unwrap().fields), true));
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (name, value) in options {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true).unwrap();
        let scalars = [
            ScalarValue::from(schema),
            ScalarValue::Map(Arc::new(maps.finish())),
            ScalarValue::LargeUtf8(Some(used.to_owned())),
        ];
        let mut args = vec![ColumnarValue::Array(Arc::clone(&documents))];
        args.extend(scalars.into_iter().map(ColumnarValue::Scalar));
        let of = |arg: &ColumnarValue| Arc::new(Field::new("", arg.data_type(), true));
        let arg_fields = args.iter().map(of).collect();
        let config_options = Arc::new(ConfigOptions::default());
        let args = ScalarFunctionArgs { args, arg_fields, number_rows: 1, return_field: field, config_options };
        let result = super::all()[0].invoke_with_args(args).map_err(|error| condition(&error.to_string()))?;
        let result = result.into_array(1).unwrap();
        Ok::<_, String>(arrow::util::display::array_value_to_string(&result, 0).unwrap())
    };
    assert_eq!(call("a INT, b STRING, c INT", &[], r#"["a"]"#).unwrap(), "{a: 1, b: , c: }");
    assert_eq!(call("a INT, b STRING, c INT", &[], r#"["B"]"#).unwrap(), "{a: , b: \u{fffd}, c: }");
    let with_corrupt = "a INT, c INT, _corrupt_record STRING";
    assert_eq!(call(with_corrupt, &[], r#"["a"]"#).unwrap(), "{a: 1, c: , _corrupt_record: }");
    let shown = call(with_corrupt, &[], r#"["_corrupt_record"]"#).unwrap();
    assert_eq!(shown, "{a: 1, c: , _corrupt_record: {\"a\":1,\"b\":\"\u{fffd}\",\"c\":\"x\"}}");
    let error = call("a INT, c INT", &[("mode", "FAILFAST")], r#"["a"]"#).unwrap_err();
    assert_eq!(error, "ERROR MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION");
}
