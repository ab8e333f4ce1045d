//! What `from_json` costs a row: `cargo run --release --example from_json`.
//!
//! All fields of texts, as a query without the optimizer's help decodes them (a cast of the topic's bytes to text, then
//! the whole schema), against the fields that are used, straight from the bytes.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use highwater_connectors::registry::connectors;
use highwater_engine::clock::{Clock, SystemClock};
use highwater_engine::plan::ddl::parse_schema;

const ROWS: usize = 8192;
const BATCHES: u64 = 50;
const SCHEMA: &str = "event_id STRING, user_id BIGINT, event_type STRING, amount DOUBLE, ts TIMESTAMP, device STRING, \
                      country STRING, tags ARRAY<STRING>, place STRUCT<lat: DOUBLE, lon: DOUBLE>";

fn main() -> Result<(), Box<dyn Error>> {
    let functions = connectors();
    let from_json = functions.functions().iter().find(|function| function.name() == "from_json");
    let from_json = from_json.ok_or("from_json is not registered")?;
    let documents: Vec<String> = (0..ROWS).map(document).collect();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&documents));
    for _ in 0..3 {
        timed("cast, all fields", || {
            let texts: StringArray = BinaryArray::from(bytes.to_data()).iter().map(text).collect();
            call(from_json, Arc::new(texts), None)
        })?;
        timed("bytes, all fields", || call(from_json, Arc::clone(&bytes), None))?;
        timed("bytes, 3 of 9", || call(from_json, Arc::clone(&bytes), Some(r#"["user_id","amount","ts"]"#)))?;
        timed("bytes, 1 of 9", || call(from_json, Arc::clone(&bytes), Some(r#"["user_id"]"#)))?;
    }
    Ok(())
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn document(row: usize) -> String {
    format!(
        r#"{{"event_id":"e-{row:08}","user_id":{},"event_type":"click","amount":{}.25,"ts":"2024-01-02T03:04:{:02}.123Z","device":"phone","country":"DE","tags":["a","b{row}"],"place":{{"lat":52.5,"lon":13.{row}}}}}"#,
        row * 7919 % 100_000,
        row % 1000,
        row % 60
    )
}

fn call(function: &ScalarUDF, documents: ArrayRef, used: Option<&str>) -> Result<(), Box<dyn Error>> {
    let return_field = Arc::new(Field::new("j", DataType::Struct(parse_schema(SCHEMA)?.fields), true));
    let number_rows = documents.len();
    let args = vec![
        ColumnarValue::Array(documents),
        ColumnarValue::Scalar(ScalarValue::from(SCHEMA)),
        ColumnarValue::Scalar(ScalarValue::LargeUtf8(used.map(str::to_owned))),
    ];
    let arg_fields = args.iter().map(|arg| Arc::new(Field::new("", arg.data_type(), true))).collect();
    let config_options = Arc::new(ConfigOptions::default());
    function.invoke_with_args(ScalarFunctionArgs { args, arg_fields, number_rows, return_field, config_options })?;
    Ok(())
}

fn timed(what: &str, mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let clock = SystemClock;
    let start_ns = clock.monotonic_ns();
    for _ in 0..BATCHES {
        run()?;
    }
    println!("{what:20} {:>6} ns a row", (clock.monotonic_ns() - start_ns) / (BATCHES * ROWS as u64));
    Ok(())
}
