//! Golden cases of real Spark and how a row is compared with one.
//!
//! A line of `golden.jsonl` holds a schema, options, a record, the row that Spark 4.3 made of it (null: no row) and
//! whether Spark filled the corrupt-record column. Values that JSON lacks are texts with a mark: `f:` double, `d:`
//! decimal, `x:` binary in hex, `D:` date, `t:` timestamp in UTC; a map is `{"map": [[key, value], ...]}`.
//! `golden.py` beside this file makes both files anew.

use std::sync::Arc;

use arrow::array::{Array, AsArray as _};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use super::{Appended, RecordDecoder};

/// Runs every case through the decoder that `decoder` makes for its schema and options.
pub(super) fn check_golden(
    golden: &str,
    decoder: impl Fn(SchemaRef, &serde_json::Map<String, Value>) -> Box<dyn RecordDecoder>,
) {
    for (number, line) in golden.lines().enumerate() {
        let case: Value = serde_json::from_str(line).expect("a golden case");
        let text = |name: &str| case[name].as_str().expect("a text");
        let mut fields = highwater_engine::plan::ddl::parse_schema(text("schema")).expect("a schema").fields.to_vec();
        fields.push(Arc::new(Field::new("_corrupt_record", DataType::Utf8, true)));
        let mut decoder = decoder(Arc::new(Schema::new(fields)), case["options"].as_object().expect("options"));
        let record = text("record");
        let appended = decoder.append(record.as_bytes()).expect("no error in PERMISSIVE mode");
        let batch = decoder.flush().expect("a batch");
        let about = format!("case {}: {record} as {} gave {appended:?}", number + 1, text("schema"));
        if case["row"].is_null() {
            assert_eq!(appended, Appended::Null, "{about}");
            continue;
        }
        let mut expected = case["row"].clone();
        let malformed = case["malformed"] == json!(true);
        expected["_corrupt_record"] = if malformed { json!(record) } else { Value::Null };
        assert_eq!(rows(&batch), [expected], "{about}");
        assert_eq!(matches!(appended, Appended::Malformed { row: true, .. }), malformed, "{about}");
    }
}

/// The rows of a batch, as golden cases write them.
pub(super) fn rows(batch: &RecordBatch) -> Vec<Value> {
    (0..batch.num_rows()).map(|row| object(batch.schema().fields(), batch.columns(), row)).collect()
}

fn object(fields: &arrow::datatypes::Fields, columns: &[arrow::array::ArrayRef], row: usize) -> Value {
    let member = |(field, column): (&Arc<Field>, &arrow::array::ArrayRef)| (field.name().clone(), cell(column, row));
    Value::Object(fields.iter().zip(columns).map(member).collect())
}

/// A value, as golden cases write it.
pub(super) fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => python_float(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => python_float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => {
            let digits: Vec<String> = array.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02x}")).collect();
            json!(format!("x:{}", digits.concat()))
        }
        DataType::Decimal128(..) => {
            json!(format!("d:{}", array.as_primitive::<Decimal128Type>().value_as_string(row)))
        }
        DataType::Date32 => {
            let date = array.as_primitive::<Date32Type>().value_as_date(row).expect("a date");
            json!(format!("D:{date}"))
        }
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = chrono::DateTime::from_timestamp_micros(micros).expect("a timestamp");
            json!(format!("t:{}", time.format("%Y-%m-%dT%H:%M:%S%.6f")))
        }
        DataType::Struct(fields) => object(fields, array.as_struct().columns(), row),
        DataType::List(_) => elements(&array.as_list::<i32>().value(row)),
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let pair = |i| json!([cell(entries.column(0), i), cell(entries.column(1), i)]);
            json!({"map": (0..entries.len()).map(pair).collect::<Vec<_>>()})
        }
        other => panic!("no golden case has {other}"),
    }
}

fn elements(array: &dyn Array) -> Value {
    Value::Array((0..array.len()).map(|i| cell(array, i)).collect())
}

/// The marked text of a double; both sides are compared as numbers by going through the same printing.
fn python_float(value: f64) -> Value {
    let text = match value {
        _ if value.is_nan() => "nan".to_owned(),
        f64::INFINITY => "inf".to_owned(),
        f64::NEG_INFINITY => "-inf".to_owned(),
        _ if value != 0.0 && !(1e-4..1e16).contains(&value.abs()) => {
            let text = format!("{value:e}");
            let (mantissa, exponent) = text.split_once('e').expect("an exponent");
            let exponent: i32 = exponent.parse().expect("a number");
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value:?}"),
    };
    json!(format!("f:{text}"))
}
