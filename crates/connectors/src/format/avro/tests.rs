//! Avro against real Spark, there and back, and bytes that are nobody's.

use arrow::array::{ArrayRef, StructArray};
use arrow::datatypes::Field;
use highwater_engine::plan::ddl::{parse_schema, type_name};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::column::Value;
use super::super::testing::{cell, rows};
use super::*;

fn columns(ddl: &str) -> SchemaRef {
    Arc::new(parse_schema(ddl).expect("columns"))
}

fn parsed(json: &Json) -> Arc<AvroSchema> {
    Arc::new(AvroSchema::from_json(json.clone()).expect("a schema"))
}

fn derived(columns: &SchemaRef) -> Arc<AvroSchema> {
    Arc::new(schema_of_columns(columns.fields()).expect("a schema"))
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.trim_start_matches("x:").as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("text"), 16).expect("digits")).collect()
}

fn encoded(schema: &AvroSchema, batch: &RecordBatch) -> Vec<Vec<u8>> {
    let encoder = AvroEncoder::of_rows(schema, batch.schema().fields(), Framing::Bare).expect("an encoder");
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    encoder.encode_rows(batch, None, &mut out, &mut ends).expect("values");
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, end)| out[start..*end].to_vec()).collect()
}

/// What `to_avro` of Spark has written is read, and written in the same bytes.
fn check_written(case: &Json, about: &str) {
    let columns = columns(case["columns"].as_str().expect("columns"));
    let schema = if case["schema"].is_null() { derived(&columns) } else { parsed(&case["schema"]) };
    let value = hex(case["value"].as_str().expect("a value"));
    let mut decoder = avro_decoder(columns.clone(), AvroOptions::new(schema.clone())).expect("a decoder");
    assert_eq!(decoder.append(&value).expect("PERMISSIVE"), Appended::Row, "{about}");
    let batch = decoder.flush().expect("a batch");
    let mut expected = case["row"].clone();
    // What milliseconds lack is gone.
    if let Some(Json::String(time)) = expected.get_mut("m") {
        *time =
            if time.starts_with("t:2024") { "t:2024-01-02T03:04:05.678000" } else { "t:1969-12-31T23:59:59.999000" }
                .to_owned();
    }
    assert_eq!(rows(&batch), [expected], "{about}");
    assert_eq!(encoded(&schema, &batch), [value], "{about}");
}

/// What `from_avro` of Spark has made of bytes is what they are here.
fn check_read(case: &Json, about: &str) {
    let mut options = AvroOptions::new(parsed(&case["writer"]));
    let reader = case["options"]["avroSchema"].as_str();
    options.reader = reader.map(|reader| Arc::new(AvroSchema::parse(reader).expect("a schema")));
    let (data_type, _) = type_of_schema(options.reader.as_ref().unwrap_or(&options.writer)).expect("a type");
    let whole = nullable(&Fields::from(vec![Field::new("value", data_type, true)]));
    let shown = type_name(whole[0].data_type()).to_lowercase().replace(": ", ":").replace(", ", ",");
    assert_eq!(shown, case["type"], "{about}");
    let mut decoder = ValueDecoder::new(whole[0].data_type(), &options, None).expect("a decoder");
    if decoder.append(&hex(case["value"].as_str().expect("bytes"))).is_err() {
        decoder.push_nothing();
    }
    assert_eq!(cell(&decoder.finish().expect("a column"), 0), case["read"], "{about}");
}

#[test]
fn values_are_what_spark_writes_and_reads() {
    for (number, line) in include_str!("golden.jsonl").lines().enumerate() {
        let case: Json = serde_json::from_str(line).expect("a golden case");
        let about = format!("case {}: {line}", number + 1);
        if case.get("row").is_some() { check_written(&case, &about) } else { check_read(&case, &about) }
    }
}

fn text() -> impl Strategy<Value = Value> {
    "[a-zé漢😀]{0,20}".prop_map(|text| Value::Bytes(text.into_bytes()))
}

fn maybe(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![1 => Just(Value::Null), 4 => value].boxed()
}

const DDL: &str = "a TINYINT, b SMALLINT, c INT, d BIGINT NOT NULL, e FLOAT, f DOUBLE, g BOOLEAN, h STRING, i BINARY, j DATE, \
    k TIMESTAMP, l TIMESTAMP_NTZ, m DECIMAL(38,5), n ARRAY<ARRAY<INT>>, o MAP<STRING, STRUCT<x: STRING, y: DECIMAL(3,0)>>, \
    p STRUCT<q: ARRAY<STRING>, r: STRUCT<s: BIGINT>>";

/// A value for each column of [`DDL`].
fn row() -> impl Strategy<Value = Vec<Value>> {
    let int = |range: std::ops::RangeInclusive<i64>| range.prop_map(Value::Int);
    let list = |item: BoxedStrategy<Value>| proptest::collection::vec(item, 0..4).prop_map(Value::List);
    let point = (maybe(text()), maybe((-999_i128..=999).prop_map(Value::Decimal)));
    let entry = (text(), maybe(point.prop_map(|(x, y)| Value::Struct(vec![x, y]))));
    let inner = maybe(maybe(int(i64::MIN..=i64::MAX)).prop_map(|s| Value::Struct(vec![s])));
    let nested = (maybe(list(maybe(text()))), inner).prop_map(|(q, r)| Value::Struct(vec![q, r]));
    let largest = 10_i128.pow(38) - 1;
    let columns: Vec<BoxedStrategy<Value>> = vec![
        maybe(int(-128..=127)),
        maybe(int(-32768..=32767)),
        maybe(int(i64::from(i32::MIN)..=i64::from(i32::MAX))),
        int(i64::MIN..=i64::MAX).boxed(),
        maybe(any::<f32>().prop_map(Value::Float32)),
        maybe(any::<f64>().prop_map(Value::Float)),
        maybe(any::<bool>().prop_map(Value::Boolean)),
        maybe(text()),
        maybe(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes)),
        maybe(int(i64::from(i32::MIN)..=i64::from(i32::MAX))),
        maybe(int(i64::MIN..=i64::MAX)),
        maybe(int(i64::MIN..=i64::MAX)),
        maybe((-largest..=largest).prop_map(Value::Decimal)),
        maybe(list(maybe(list(maybe(int(-1000..=1000)))))),
        maybe(proptest::collection::vec(entry, 0..3).prop_map(Value::Map)),
        maybe(nested),
    ];
    columns
}

fn batch_of(rows: &[Vec<Value>]) -> RecordBatch {
    let fields = nullable(columns(DDL).fields());
    let mut column = Column::new(&DataType::Struct(fields), "").expect("columns");
    rows.iter().for_each(|row| column.push(Value::Struct(row.clone())));
    let array: ArrayRef = column.finish().expect("rows");
    let rows: &StructArray = array.as_struct();
    RecordBatch::from(rows)
}

proptest! {
    /// Rows are the same after a way there and back, and what is malformed between them leaves no trace.
    #[test]
    fn rows_come_back(given in proptest::collection::vec(row(), 1..5), cut in any::<prop::sample::Index>()) {
        let batch = batch_of(&given);
        let schema = derived(&columns(DDL));
        let values = encoded(&schema, &batch);
        let mut options = AvroOptions::new(schema);
        options.mode = ParseMode::DropMalformed;
        let mut decoder = avro_decoder(columns(DDL), options).expect("a decoder");
        for value in &values {
            let cut_off = &value[..cut.index(value.len())];
            let is_malformed = matches!(decoder.append(cut_off), Ok(Appended::Malformed { row: false, .. }));
            prop_assert!(is_malformed);
            prop_assert_eq!(decoder.append(value).expect("no error"), Appended::Row);
        }
        let read = decoder.flush().expect("a batch");
        // NaN is no other value than itself here.
        prop_assert_eq!(format!("{read:?}"), format!("{batch:?}"));
    }

    /// Bytes that are nobody's never panic, never take more memory than they may, and leave whole rows.
    #[test]
    fn any_bytes_are_a_row_or_malformed(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..20)) {
        let mut decoder = avro_decoder(columns(DDL), AvroOptions::new(derived(&columns(DDL)))).expect("a decoder");
        for record in &records {
            let is_null = decoder.append(record).expect("PERMISSIVE") == Appended::Null;
            prop_assert!(!is_null);
        }
        let batch = decoder.flush().expect("a batch");
        prop_assert_eq!(batch.num_rows(), records.len());
        // As from a file of another table: the same columns, of which half are passed over.
        let few = columns("c INT, o MAP<STRING, STRUCT<y: DECIMAL(5,1)>>");
        let mut narrow = avro_decoder(few, AvroOptions::new(derived(&columns(DDL)))).expect("a decoder");
        let mut whole = avro_decoder(columns(DDL), AvroOptions::new(derived(&columns(DDL)))).expect("a decoder");
        for record in &records {
            let taken = matches!(whole.append(record), Ok(Appended::Row));
            if taken {
                prop_assert_eq!(narrow.append(record).expect("PERMISSIVE"), Appended::Row);
            }
        }
    }
}

#[test]
fn malformed_values_say_what_was_found_and_expected() {
    let schema = json!({"type": "record", "name": "r", "fields": [
        {"name": "a", "type": {"type": "record", "name": "s", "fields": [{"name": "b", "type": "string"}]}},
        {"name": "c", "type": {"type": "array", "items": "null"}},
        {"name": "d", "type": {"type": "map", "values": "boolean"}},
        {"name": "e", "type": ["null", "int"]},
        {"name": "f", "type": {"type": "enum", "name": "f", "symbols": ["X"]}},
    ]});
    for (bytes, expected) in [
        ("", "field `a.b` is cut off: 0 of its bytes are left, expected 1"),
        ("0678", "field `a.b` is cut off: 1 of its bytes are left, expected 3"),
        ("01", "field `a.b` is a length of -1, expected a length of 0 or more"),
        ("02ff", "field `a.b` is bytes that are no UTF-8 from byte 0 on, expected a string"),
        (
            "00feffffffffffffffff01",
            "field `c` is 9223372036854775807 items in 0 bytes, expected no more items than bytes",
        ),
        (
            "00ffffffffffffffffff0100",
            "field `c` is 9223372036854775808 items in 0 bytes, expected no more items than bytes",
        ),
        ("0000040078", "field `d` is the byte 120, expected a boolean, 0 or 1"),
        ("00000004", "field `e` is type 2 of a union, expected one of 2"),
        ("00000002ffffffffff7f", "field `e` is -2199023255552, expected an int of 32 bits"),
        ("0000000002", "field `f` is symbol 1, expected one of 1 symbols"),
        ("00000002ffffffffffffffffff7f", "field `e` is a number of more than 64 bits, expected a long"),
    ] {
        let ddl =
            "a STRUCT<b: STRING>, c ARRAY<STRING>, d MAP<STRING, BOOLEAN>, e INT, f STRING, _corrupt_record BINARY";
        let mut decoder = avro_decoder(columns(ddl), AvroOptions::new(parsed(&schema))).expect("a decoder");
        match decoder.append(&hex(bytes)).expect("PERMISSIVE") {
            Appended::Malformed { row: true, reason } => assert_eq!(reason, expected, "{bytes}"),
            other => panic!("{bytes}: {other:?}"),
        }
        let row =
            json!({"a": null, "c": null, "d": null, "e": null, "f": null, "_corrupt_record": format!("x:{bytes}")});
        assert_eq!(rows(&decoder.flush().expect("a batch")), [row]);
    }
}

#[test]
fn columns_are_the_reader_of_what_others_wrote() {
    let writer = json!({"type": "record", "name": "r", "fields": [
        {"name": "gone", "type": {"type": "map", "values": {"type": "array", "items": "r"}}},
        {"name": "n", "type": "int"},
        {"name": "s", "type": ["null", {"type": "record", "name": "s", "fields": [
            {"name": "x", "type": "float"}, {"name": "gone", "type": "double"}]}]},
    ]});
    let ddl = "more STRING, s STRUCT<y: INT, x: DOUBLE>, n BIGINT";
    let mut decoder = avro_decoder(columns(ddl), AvroOptions::new(parsed(&writer))).expect("a decoder");
    // The second has one r inside of itself.
    for value in ["000200", "0202610200000000000400", "0004020000c03f0000000000000000"] {
        assert_eq!(decoder.append(&hex(value)).expect("PERMISSIVE"), Appended::Row, "{value}");
    }
    let expected = [
        json!({"more": null, "s": null, "n": 1}),
        json!({"more": null, "s": null, "n": 2}),
        json!({"more": null, "s": {"y": null, "x": "f:1.5"}, "n": 2}),
    ];
    assert_eq!(rows(&decoder.flush().expect("a batch")), expected);
    // The same as a schema for another reader.
    let shaped = reader_schema(&parsed(&writer), columns(ddl).fields()).expect("a schema");
    assert_eq!(
        shaped.to_string(),
        json!({"type": "record", "name": "r", "fields": [
            {"name": "more", "type": ["null", "string"], "default": null},
            {"name": "s", "type": [{"type": "null"}, {"type": "record", "name": "s", "fields": [
                {"name": "y", "type": ["null", "int"], "default": null}, {"name": "x", "type": {"type": "float"}}]}]},
            {"name": "n", "type": {"type": "int"}},
        ]})
        .to_string()
    );
}

fn point(name: &str, field: &str) -> Json {
    json!({"type": "record", "name": name, "fields": [{"name": field, "type": "int"}]})
}

/// A union of records is the record that the columns are of, even where its fields have the names of members.
#[test]
fn a_struct_of_a_records_fields_is_that_record() {
    for (name, ddl) in [("x", "a STRUCT<x: INT>"), ("member1", "a STRUCT<member1: INT>")] {
        let of = json!([point("p", name), point("q", name), "null"]);
        let schema = json!({"type": "record", "name": "r", "fields": [{"name": "a", "type": of}]});
        let mut decoder = avro_decoder(columns(ddl), AvroOptions::new(parsed(&schema))).expect("a decoder");
        for value in ["0002", "0204", "04"] {
            assert_eq!(decoder.append(&hex(value)).expect("PERMISSIVE"), Appended::Row);
        }
        let expected = [json!({"a": {name: 1}}), json!({"a": {name: 2}}), json!({"a": null})];
        assert_eq!(rows(&decoder.flush().expect("a batch")), expected);
    }
}

#[test]
fn fields_are_found_by_name_and_then_by_alias() {
    let field = |name: &str, aliases: &[&str]| json!({"name": name, "type": "int", "aliases": aliases, "default": 9});
    let record = |fields: &[Json]| json!({"type": "record", "name": "r", "fields": fields});
    let check = |writer: &[&str], reader: &[Json], ddl: &str, expected: Result<Json, &str>| {
        let writer: Vec<Json> = writer.iter().map(|name| field(name, &[])).collect();
        let mut options = AvroOptions::new(parsed(&record(&writer)));
        options.reader = Some(parsed(&record(reader)));
        let read = avro_decoder(columns(ddl), options).map_err(|error| error.to_string()).map(|mut decoder| {
            assert_eq!(decoder.append(&hex("0204")).expect("PERMISSIVE"), Appended::Row);
            rows(&decoder.flush().expect("a batch")).remove(0)
        });
        assert_eq!(read, expected.map_err(str::to_owned));
    };
    check(&["x", "b"], &[field("a", &["x"])], "a INT", Ok(json!({"a": 1})));
    // What an alias names comes after the name itself.
    check(&["x", "a"], &[field("a", &["x"])], "a INT", Ok(json!({"a": 2})));
    check(
        &["x", "b"],
        &[field("a", &["x"]), field("c", &["x"])],
        "a INT, c INT",
        Err(
            "the Avro schema, at `c`: found the field `x` of the writer, which `a` is read from, too, expected a field of \
             its own",
        ),
    );
    check(
        &["x", "b"],
        &[field("a", &["x"]), field("x", &[])],
        "a INT, x INT",
        Err(
            "the Avro schema, at `x`: found the field `x` of the writer, which `a` is read from, too, expected a field of \
             its own",
        ),
    );
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_read() {
    let record = |of: Json| json!({"type": "record", "name": "top", "fields": [{"name": "a", "type": of}]});
    for (schema, ddl, expected) in [
        (
            record(json!("string")),
            "a INT",
            "the Avro schema, at `a`: found string, expected a type that a column of INT can be read from",
        ),
        (
            record(json!("long")),
            "a TIMESTAMP",
            "the Avro schema, at `a`: found long, expected a type that a column of TIMESTAMP can be read from",
        ),
        (
            record(json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3})),
            "a DECIMAL(10,2)",
            "the Avro schema, at `a`: found decimal(9, 3), expected a type that a column of DECIMAL(10,2) can be read from",
        ),
        (
            record(json!(["null", "int", "string"])),
            "a INT",
            "the Avro schema, at `a`: found string, expected a type that a column of INT can be read from",
        ),
        (
            record(json!(["null", point("p", "x"), point("q", "y"), point("r", "z")])),
            "a STRUCT<member0: STRUCT<x: INT>, member1: STRUCT<y: INT>>",
            "the Avro schema, at `a`: found union of null, record, record, record, expected a type that a column of STRUCT<member0: STRUCT<x: INT>, \
             member1: STRUCT<y: INT>> can be read from",
        ),
        (json!("long"), "a INT", "the Avro schema: found long, expected a record, whose fields are the columns"),
    ] {
        let error = avro_decoder(columns(ddl), AvroOptions::new(parsed(&schema))).err().expect("an error");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn schemas_are_checked() {
    let deep = "[".repeat(200);
    for (text, expected) in [
        (
            "{",
            "the Avro schema: found no JSON (EOF while parsing an object at line 1 column 1), expected a schema as Avro writes it",
        ),
        (
            r#"{"type":"record","name":"r"}"#,
            "the Avro schema: found a record without \"fields\", expected a list of fields",
        ),
        (
            r#"{"type":"record","name":"r","fields":[{"name":"a","type":"text"}]}"#,
            "the Avro schema, at `a`: found the type 'text', expected null, boolean, int, long, float, double, bytes, string, \
             record, enum, array, map, fixed, a union or a name",
        ),
        (
            r#"{"type":"record","name":"r","fields":[{"name":"it's","type":"int"}]}"#,
            "the Avro schema: found the name 'it's', expected a name of letters, digits and _, which Avro allows",
        ),
        (r#"["int",["null"]]"#, "the Avro schema: found a union in a union, expected one union of all their types"),
        (r#"["int","int"]"#, "the Avro schema: found a union with the same type twice, expected each type once"),
        (
            r#"{"type":"bytes","logicalType":"decimal","precision":39}"#,
            "the Avro schema: found decimal(39, 0), expected 1 to 38 digits, of which the scale has no more",
        ),
    ] {
        assert_eq!(AvroSchema::parse(text).expect_err("no schema").to_string(), expected, "{text}");
    }
    assert!(AvroSchema::parse(&deep).is_err());
    let endless = r#"{"type":"record","name":"r","fields":[{"name":"next","type":["null","r"]}]}"#;
    let error = columns_of_schema(&AvroSchema::parse(endless).expect("a schema")).expect_err("no columns").to_string();
    assert!(error.ends_with("found a type that contains itself, expected a schema that ends"), "{error}");
}

#[test]
fn a_frame_is_passed_over_and_looked_at() {
    let mut options =
        AvroOptions::new(parsed(&json!({"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}]})));
    for (framing, bytes, expected) in [
        (Framing::Confluent(None), "000000000702", Ok(1)),
        (Framing::Confluent(Some(7)), "000000000702", Ok(1)),
        (Framing::Confluent(Some(8)), "000000000702", Err("the record is of schema 7, expected 8")),
        (
            Framing::Confluent(None),
            "010000000702",
            Err("the record begins with the byte 1, expected 0 and the number of a schema"),
        ),
        (Framing::Confluent(None), "0000", Err("the record has 2 bytes, expected 5 and a value behind them")),
    ] {
        options.framing = framing;
        let mut decoder = avro_decoder(columns("a INT"), options.clone()).expect("a decoder");
        match (decoder.append(&hex(bytes)).expect("PERMISSIVE"), expected) {
            (Appended::Row, Ok(value)) => assert_eq!(rows(&decoder.flush().expect("a batch")), [json!({"a": value})]),
            (Appended::Malformed { reason, .. }, Err(expected)) => assert_eq!(reason, expected),
            (other, _) => panic!("{bytes}: {other:?}"),
        }
    }
}

#[test]
fn values_that_a_schema_has_no_place_for_are_named() {
    let of = |json: Json| json!({"type": "record", "name": "r", "fields": [{"name": "s", "type": json}]});
    let inner = |json: Json| of(json!({"type": "record", "name": "i", "fields": [{"name": "a", "type": json}]}));
    for (schema, ddl, value, expected) in [
        (
            inner(json!("int")),
            "s STRUCT<a: INT>",
            Value::Null,
            "column `s.a` is NULL, expected a value, the schema has no null there",
        ),
        (
            inner(json!({"type": "enum", "name": "e", "symbols": ["X", "Y"]})),
            "s STRUCT<a: STRING>",
            Value::Bytes(b"Z".to_vec()),
            "column `s.a` is 'Z', expected one of X, Y",
        ),
        (
            inner(json!({"type": "fixed", "name": "f", "size": 3})),
            "s STRUCT<a: BINARY>",
            Value::Bytes(vec![1]),
            "column `s.a` is 1 bytes, expected 3 bytes",
        ),
    ] {
        let fields = columns(ddl).fields().clone();
        let mut column = Column::new(&DataType::Struct(fields.clone()), "").expect("a column");
        column.push(Value::Struct(vec![Value::Struct(vec![value])]));
        let batch = RecordBatch::from(column.finish().expect("a row").as_struct());
        let encoder = AvroEncoder::of_rows(&parsed(&schema), &fields, Framing::Bare).expect("an encoder");
        let error = encoder.encode_rows(&batch, None, &mut Vec::new(), &mut Vec::new()).expect_err("an error");
        assert_eq!(error.to_string(), expected);
    }
}
