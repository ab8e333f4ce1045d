//! The decoder against real Spark, and its two paths against each other.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use proptest::prelude::*;

use super::super::testing::check_golden;
use super::*;

fn options(golden: &serde_json::Map<String, serde_json::Value>) -> JsonOptions {
    let text = |name: &str| golden.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    JsonOptions {
        timestamp_format: text("timestampFormat"),
        timestamp_ntz_format: text("timestampNTZFormat"),
        date_format: text("dateFormat"),
        session_time_zone: text("timeZone").map_or(Tz::UTC, |name| name.parse().expect("a zone")),
        ..JsonOptions::default()
    }
}

#[test]
fn from_json_gives_what_spark_gives() {
    check_golden(include_str!("golden.jsonl"), |schema, golden| {
        json_decoder(schema, options(golden)).expect("a decoder")
    });
}

/// Every record twice before it counts, so that the keys are guessed.
#[test]
fn guessed_keys_change_nothing() {
    struct Warm(Box<dyn RecordDecoder>);
    impl RecordDecoder for Warm {
        fn append(&mut self, record: &[u8]) -> Result<Appended, FormatError> {
            self.0.append(record)?;
            self.0.append(record)?;
            self.0.flush()?;
            self.0.append(record)
        }
        fn append_null(&mut self) {
            self.0.append_null();
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn schema(&self) -> SchemaRef {
            self.0.schema()
        }
        fn flush(&mut self) -> Result<RecordBatch, FormatError> {
            self.0.flush()
        }
    }
    check_golden(include_str!("golden.jsonl"), |schema, golden| {
        Box::new(Warm(json_decoder(schema, options(golden)).expect("a decoder")))
    });
}

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn schema() -> Schema {
    let ddl = "a INT, b STRING, c DOUBLE, d TIMESTAMP, e STRUCT<x: INT, y: ARRAY<STRING>, z: STRUCT<u: STRING, v: BIGINT>>, f BOOLEAN, g BIGINT, \
               h MAP<STRING, INT>, i DECIMAL(10,2), j DATE, _corrupt_record STRING";
    let mut fields = highwater_engine::plan::ddl::parse_schema(ddl).expect("a schema").fields.to_vec();
    fields.push(Arc::new(field("view", DataType::Utf8View)));
    Schema::new(fields)
}

const KEYS: &[&str] = &[
    "\"a\"",
    "\"b\"",
    "\"c\"",
    "\"d\"",
    "\"e\"",
    "\"f\"",
    "\"g\"",
    "\"h\"",
    "\"i\"",
    "\"j\"",
    "\"view\"",
    "\"other\"",
    "\"\"",
    "\"_corrupt_record\"",
    "\"\\u0061\"",
    "\"é\"",
    "'a'",
    "a",
    "\"A\"",
    "\"a long key that is not among the columns\"",
];

const VALUES: &[&str] = &[
    "1",
    "-1",
    "0",
    "-0",
    "01",
    "1.5",
    "-2.5e3",
    "1e400",
    "12345678901",
    "123456789012345678901234567890",
    "1.",
    "+1",
    "-",
    "\"\"",
    "\"text\"",
    "\"a text that is longer than sixteen bytes\"",
    "\"é漢😀\"",
    "\"a\\nb\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\x\"",
    "\"tab\tx\"",
    "\"open",
    "'single'",
    "\"it\\'s\"",
    "true",
    "false",
    "null",
    "nul",
    "nullx",
    "NaN",
    "Infinity",
    "-INF",
    "INF",
    "\"NaN\"",
    "\"2024-01-02T03:04:05.123Z\"",
    "\"2024-01-02 03:04:05\"",
    "\"2024-02-30\"",
    "\"2024-01-02\"",
    "[]",
    "{}",
    "[1,2]",
    "[\"x\",null]",
    "{\"x\":1,\"y\":[\"p\",\"q\"]}",
    "{\"x\":\"bad\"}",
    "{\"x\":1,\"x\":2}",
    "{ \"k\" : 1 , \"l\" : null }",
    "[1,]",
    "{\"x\"}",
    "[{\"a\":[{}]}]",
    "[1}",
    "[[[[1]]]]",
    "{\"a\":1",
    // Structs: whole, in another order, with members that are missing, twice, of no column, or do not fit.
    "{\"x\":1,\"y\":[\"a\"],\"z\":{\"u\":\"t\",\"v\":2}}",
    "{ \"z\" : { \"v\" : 2 , \"u\" : null } , \"x\" : 1 }",
    "{\"z\":null,\"w\":{\"x\":[{}]},\"x\":5}",
    "{\"x\":1,\"x\":2}",
    "{\"x\":1,\"z\":{\"v\":\"no number\",\"u\":{\"q\":[1]}}}",
    "{\"x\":1,\"z\":{\"u\":\"t\"}",
    "{\"x\":1,\"z\":{\"u\":\"t\",}}",
    "{\"z\":[],\"x\":1}",
];

const SPACES: &[&str] = &["", "", "", " ", "\n", "\t\r ", "\u{b}", ","];

fn document() -> impl Strategy<Value = Vec<u8>> {
    let space = || prop::sample::select(SPACES);
    let plain_space = || prop_oneof![9 => Just(""), 1 => space()];
    let member =
        (plain_space(), prop::sample::select(KEYS), plain_space(), prop::sample::select(VALUES), plain_space());
    let text = (plain_space(), prop::collection::vec(member, 0..7), prop_oneof![9 => Just("}"), 1 => space()]);
    let text = text.prop_map(|(start, members, end)| {
        let members: Vec<String> =
            members.into_iter().map(|(s1, key, s2, value, s3)| format!("{s1}{key}:{s2}{value}{s3}")).collect();
        format!("{start}{{{}{end}", members.join(",")).into_bytes()
    });
    let damage = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>(), 0..3));
    (text, damage).prop_map(|(mut text, damage)| {
        if let Some((at, byte, how)) = damage {
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => text.truncate(at),
                _ => text.insert(at, byte),
            }
        }
        text
    })
}

/// Valid records of one producer: the same keys in the same order, sometimes one missing.
fn machine_written() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let good: Vec<&str> = KEYS.iter().copied().filter(|key| key.starts_with('"') && !key.contains('\\')).collect();
    let keys = prop::sample::subsequence(good.clone(), 0..good.len()).prop_shuffle();
    let values = prop::collection::vec((prop::sample::select(VALUES), 0..20), KEYS.len());
    (keys, prop::collection::vec(values, 1..12), prop::sample::select(&[",", ", "][..])).prop_map(
        |(keys, records, comma)| {
            let record = |values: Vec<(&str, i32)>| {
                let members = keys.iter().zip(values).filter(|(_, (_, chance))| *chance > 0);
                let members: Vec<String> = members.map(|(key, (value, _))| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(comma)).into_bytes()
            };
            records.into_iter().map(record).collect()
        },
    )
}

fn check_paths_agree(records: &[Vec<u8>], mode: ParseMode) -> Result<(), TestCaseError> {
    let options = || JsonOptions { mode, ..JsonOptions::default() };
    let mut direct = JsonDecoder::new(&schema(), options()).expect("a decoder");
    let mut full = JsonDecoder::new(&schema(), options()).expect("a decoder");
    for record in records {
        let (by_direct, by_full) = (direct.append(record), full.append_unusual(record));
        let shown = String::from_utf8_lossy(record);
        prop_assert_eq!(format!("{:?}", by_direct), format!("{:?}", by_full), "{}", shown);
    }
    prop_assert_eq!(direct.len(), full.len());
    let (by_direct, by_full) = (direct.flush().expect("a batch"), full.flush().expect("a batch"));
    prop_assert_eq!(format!("{:?}", by_direct), format!("{:?}", by_full));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn direct_and_full_agree(records in prop::collection::vec(document(), 1..8), repeat in 1_usize..4) {
        let records: Vec<Vec<u8>> = records.iter().flat_map(|record| vec![record.clone(); repeat]).collect();
        check_paths_agree(&records, ParseMode::Permissive)?;
        check_paths_agree(&records, ParseMode::DropMalformed)?;
    }

    #[test]
    fn direct_and_full_agree_on_one_producer(records in machine_written()) {
        check_paths_agree(&records, ParseMode::Permissive)?;
    }

    /// What `serde_json` takes as an object, no path may call a syntax error.
    #[test]
    fn standard_json_is_always_read(record in document()) {
        let standard = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&record).is_ok();
        let mut decoder = JsonDecoder::new(&schema(), JsonOptions::default()).expect("a decoder");
        if standard && let Appended::Malformed { reason, .. } = decoder.append(&record).expect("no error") {
            prop_assert!(reason.starts_with("field `"), "{}", reason);
        }
    }
}

#[test]
fn modes_and_blank_records() {
    let schema = Arc::new(Schema::new(vec![field("a", DataType::Int32)]));
    let decoder = |mode, skip_blank_records| {
        json_decoder(schema.clone(), JsonOptions { mode, skip_blank_records, ..JsonOptions::default() })
            .expect("a decoder")
    };
    let mut permissive = decoder(ParseMode::Permissive, false);
    assert!(matches!(permissive.append(b"{\"a\":"), Ok(Appended::Malformed { row: true, .. })));
    assert_eq!(permissive.append(b" \n").expect("no error"), Appended::Null);
    permissive.append_null();
    assert_eq!(permissive.len(), 3);
    assert_eq!(permissive.flush().expect("a batch").column(0).null_count(), 3);

    let mut dropping = decoder(ParseMode::DropMalformed, true);
    assert!(matches!(dropping.append(b"{\"a\":\"x\"}"), Ok(Appended::Malformed { row: false, .. })));
    assert_eq!(dropping.append(b"").expect("no error"), Appended::Null);
    assert!(dropping.is_empty());

    let error = decoder(ParseMode::FailFast, false).append(b"{\"a\":\"x\"}").expect_err("malformed");
    assert_eq!(
        error.to_string(),
        "malformed record in FAILFAST mode: field `a` is \"x\", expected an integer of 32 bits; \
         the record begins with `{\"a\":\"x\"}`"
    );
}

#[test]
fn messages_say_where_what_and_what_else() {
    let schema = Arc::new(Schema::new(vec![field("a", DataType::Int32)]));
    for (record, expected) in [
        (&b"{\"a\":1,}"[..], "at byte 7 the record has `}`, expected a key in quotes"),
        (b"{\"a\":1", "at byte 6 the record has the end of the record, expected `,` or `}`"),
        (b"{\"a\":tru}", "at byte 5 the record has `tru}`, expected a value"),
        (b"7", "the record is no JSON object"),
        (b"{\"b\":\"\xff\"}", "byte 6 is not valid UTF-8"),
    ] {
        let mut decoder = json_decoder(schema.clone(), JsonOptions::default()).expect("a decoder");
        match decoder.append(record).expect("no error") {
            Appended::Malformed { reason, .. } => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }
    let error = "FAST".parse::<ParseMode>().expect_err("no mode").to_string();
    assert_eq!(error, "option `mode` is `FAST`, expected PERMISSIVE, FAILFAST or DROPMALFORMED");
}

#[test]
fn arrays_at_the_top_are_rows_in_files() {
    let schema = Arc::new(Schema::new(vec![field("a", DataType::Int32)]));
    let options = JsonOptions { explode_arrays: true, ..JsonOptions::default() };
    let mut decoder = json_decoder(schema, options).expect("a decoder");
    assert_eq!(decoder.append(b"[{\"a\":1},{\"a\":2}]").expect("no error"), Appended::Row);
    assert_eq!(decoder.append(b"[]").expect("no error"), Appended::Row);
    assert_eq!(decoder.len(), 2);
    assert!(matches!(decoder.append(b"[{\"a\":1},3]"), Ok(Appended::Malformed { row: true, .. })));
    assert_eq!(decoder.len(), 3);
}

#[test]
fn not_null_columns_take_nulls_and_types_are_refused_by_name() {
    let strict = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, false)]));
    let mut decoder = json_decoder(strict, JsonOptions::default()).expect("a decoder");
    assert_eq!(decoder.append(b"{}").expect("no error"), Appended::Row);
    assert!(decoder.flush().expect("a batch").schema().field(0).is_nullable());

    let nested = DataType::Struct(vec![field("b", DataType::UInt32)].into());
    let error = json_decoder(Arc::new(Schema::new(vec![field("a", nested)])), JsonOptions::default());
    let message = error.err().expect("an unsupported type").to_string();
    assert_eq!(message, "column `a.b` has type BIGINT, which this format cannot carry");
}

/// Spark's `map_keys` shows both; its Python client cannot, so that this is no golden case.
#[test]
fn keys_of_a_map_that_come_twice_stay_twice() {
    let schema = highwater_engine::plan::ddl::parse_schema("m MAP<STRING, INT>").expect("a schema");
    let mut decoder = json_decoder(Arc::new(schema), JsonOptions::default()).expect("a decoder");
    assert_eq!(decoder.append(b"{\"m\":{\"x\":1,\"x\":2,\"y\":3}}").expect("no error"), Appended::Row);
    let batch = decoder.flush().expect("a batch");
    assert_eq!(arrow::array::AsArray::as_map(batch.column(0)).value_length(0), 3);
}

/// Records made to fool a guess learned from the first of each pair.
#[test]
fn a_guess_never_hides_a_syntax_error() {
    for (learned, record) in [
        ("{\"a\":1}", "{\"b\":1{\"a\":2}"),
        ("{\"a\":1}", " {\"a\":2}"),
        ("{\"a\":1,\"g\":2}", ",\"g\":2}"),
        ("{\"a\":1,\"g\":2}", "{\"a\":1,\"g\":2,\"g\":3}"),
        ("{\"a\":1,\"g\":2}", "{,\"g\":2}"),
        ("{\"a\":1,\"g\":2}", "{\"a\":1"),
        ("{\"a\":1,\"g\":2}", "{\"g\":2,\"a\":1,\"g\":5}"),
        ("{\"a\":1, \"g\":2}", "{\"a\":1 \"g\":2}"),
        ("{\"a\":1}", "}"),
        ("{}", "{}{\"a\":1}"),
    ] {
        let records = [learned, learned, record, record].map(|text| text.as_bytes().to_vec());
        assert!(check_paths_agree(&records, ParseMode::Permissive).is_ok(), "{record} after {learned}");
    }
}
