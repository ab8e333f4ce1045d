//! Golden: `to_json` of Spark 4.3 in a session in UTC.

use std::sync::Arc;

use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;

use super::*;
use crate::format::{JsonOptions, json_decoder};

fn encode(batch: &RecordBatch, options: &JsonWriteOptions) -> String {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    json_encode_rows(batch, options, &mut out, &mut ends).expect("rows");
    assert_eq!(ends.last().copied().unwrap_or(0), out.len());
    assert_eq!(ends.len(), batch.num_rows());
    String::from_utf8(out).expect("text")
}

fn one(array: ArrayRef) -> String {
    let batch = RecordBatch::try_from_iter_with_nullable([("a", array, true)]).expect("a batch");
    encode(&batch, &JsonWriteOptions::default())
}

#[test]
fn values_look_as_spark_writes_them() {
    let micros = |micros: i64| TimestampMicrosecondArray::from(vec![micros]);
    let decimal = |unscaled, precision, scale| {
        let array = Decimal128Array::from(vec![unscaled]).with_precision_and_scale(precision, scale);
        Arc::new(array.expect("a decimal")) as ArrayRef
    };
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let double = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    let cases: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(micros(1_704_164_645_123_456).with_timezone("UTC")), r#""2024-01-02T03:04:05.123Z""#),
        (Arc::new(micros(1_704_164_645_000_000)), r#""2024-01-02T03:04:05.000""#),
        (Arc::new(micros(317_273_684_645_000_000).with_timezone("UTC")), r#""+12024-01-02T03:04:05.000Z""#),
        (Arc::new(micros(-1).with_timezone("UTC")), r#""1969-12-31T23:59:59.999Z""#),
        (Arc::new(Date32Array::from(vec![19_724])), r#""2024-01-02""#),
        (decimal(150, 3, 2), "1.50"),
        (decimal(1000, 20, 10), "1.000E-7"),
        (double(1e10), "1.0E10"),
        (double(f64::NAN), r#""NaN""#),
        (double(f64::NEG_INFINITY), r#""-Infinity""#),
        (Arc::new(BinaryArray::from_vec(vec![b"abc"])), r#""YWJj""#),
        (text("a\"b\\c/\n\té\u{1}\u{7f}\u{2028}"), "\"a\\\"b\\\\c/\\n\\té\\u0001\u{7f}\u{2028}\""),
    ];
    for (array, expected) in cases {
        assert_eq!(one(array), format!("{{\"a\":{expected}}}"));
    }
    assert_eq!(one(Arc::new(Int32Array::from(vec![None]))), "{}");
}

/// Nested values, by way of the decoder: what is read is written back as Spark would.
#[test]
fn nested_values_keep_nulls_only_in_arrays_and_maps() {
    let ddl = "s STRUCT<x: INT, y: INT>, l ARRAY<INT>, m MAP<STRING, INT>, r ARRAY<STRUCT<x: INT>>, d DECIMAL(5,2)";
    let schema = highwater_engine::plan::ddl::parse_schema(ddl).expect("a schema");
    let mut decoder = json_decoder(Arc::new(schema), JsonOptions::default()).expect("a decoder");
    for record in [
        r#"{"s":{"x":1,"y":null},"l":[1,null,2],"m":{"k":1,"j":null},"r":[{"x":null}],"d":1.5}"#,
        r#"{"s":{},"l":[],"m":{},"r":null}"#,
        "{}",
    ] {
        decoder.append(record.as_bytes()).expect("no error");
    }
    let batch = decoder.flush().expect("a batch");
    let options = JsonWriteOptions { row_end: "\n".to_owned(), ..JsonWriteOptions::default() };
    assert_eq!(
        encode(&batch, &options),
        "{\"s\":{\"x\":1},\"l\":[1,null,2],\"m\":{\"k\":1,\"j\":null},\"r\":[{}],\"d\":1.50}\n\
         {\"s\":{},\"l\":[],\"m\":{}}\n{}\n"
    );
    let options = JsonWriteOptions { ignore_null_fields: false, ..JsonWriteOptions::default() };
    assert_eq!(encode(&batch.slice(2, 1), &options), r#"{"s":null,"l":null,"m":null,"r":null,"d":null}"#);
}

#[test]
fn times_follow_pattern_and_zone() {
    let times = TimestampMicrosecondArray::from(vec![1_704_164_645_000_000]).with_timezone("UTC");
    let batch = RecordBatch::try_from_iter_with_nullable([("a", Arc::new(times) as ArrayRef, true)]).expect("a batch");
    let berlin = JsonWriteOptions { session_time_zone: Tz::Europe__Berlin, ..JsonWriteOptions::default() };
    assert_eq!(encode(&batch, &berlin), r#"{"a":"2024-01-02T04:04:05.000+01:00"}"#);
    let pattern = JsonWriteOptions { timestamp_format: Some("yyyy/MM/dd".to_owned()), ..JsonWriteOptions::default() };
    assert_eq!(encode(&batch, &pattern), r#"{"a":"2024/01/02"}"#);
}

#[test]
fn an_empty_batch_and_a_batch_without_columns() {
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    assert_eq!(encode(&empty, &JsonWriteOptions::default()), "");
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(2));
    let bare = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("a batch");
    assert_eq!(encode(&bare, &JsonWriteOptions::default()), "{}{}");
}
