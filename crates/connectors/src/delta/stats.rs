//! The statistics of a data file in the log of a Delta table: how many rows, and the least and the greatest value of
//! columns.
//!
//! ```text
//!   {"numRecords":3,"minValues":{"id":1,"day":"2024-01-01"},"maxValues":{..},"nullCount":{"id":0,..}}
//! ```
//!
//! What is read leaves out files that a filter excludes before any of them is opened. Only whole numbers, strings, dates
//! and timestamps are made use of; what is missing or not understood excludes nothing. What is written is numbers, dates
//! and short strings, as others read them too.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch};
use arrow::compute::{cast, max, max_string, min, min_string};
use arrow::datatypes::{DataType, Date32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use serde_json::{Map, Value, json};

use crate::file::provider::{Bounds, ColumnBounds};

/// Strings longer than this are not written as bounds: a shortened greatest value would have to be made greater.
const LONGEST: usize = 64;

/// Timestamps are written to the millisecond, rounded down: the greatest may be up to so many microseconds later.
const ROUNDED_US: i64 = 999;

/// The days from 0000-01-01 to 9999-12-31, whose text has the order of the days. Others are not written as bounds.
const SHOWN_DAYS: std::ops::RangeInclusive<i32> = -719_528..=2_932_896;

/// The statistics of a file, as far as they can be used for a table with these columns.
pub(super) fn bounds(stats: &str, schema: &Schema) -> Option<Arc<Bounds>> {
    let stats: Value = serde_json::from_str(stats).ok()?;
    let of = |part: &str, column: &str| stats.get(part).and_then(|values| values.get(column));
    let mut columns = HashMap::new();
    for field in schema.fields() {
        let name = field.name();
        let value = |part: &str| of(part, name).and_then(|value| scalar(value, field.data_type()));
        let least = value("minValues");
        let greatest = value("maxValues").map(later);
        let nulls = of("nullCount", name).and_then(Value::as_u64);
        if least.is_some() || greatest.is_some() || nulls.is_some() {
            columns.insert(name.clone(), ColumnBounds { least, greatest, nulls });
        }
    }
    Some(Arc::new(Bounds { rows: stats.get("numRecords").and_then(Value::as_u64), columns }))
}

fn scalar(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            ScalarValue::Int64(Some(value.as_i64()?)).cast_to(data_type).ok()
        }
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(value.as_str()?.to_owned()))),
        DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _) => {
            ScalarValue::Utf8(Some(value.as_str()?.to_owned())).cast_to(data_type).ok()
        }
        _ => None,
    }
}

fn later(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::TimestampMicrosecond(Some(us), zone) => {
            ScalarValue::TimestampMicrosecond(Some(us.saturating_add(ROUNDED_US)), zone)
        }
        other => other,
    }
}

/// The statistics of a file that is being written.
pub(super) struct Collector {
    schema: SchemaRef,
    rows: u64,
    columns: Vec<Collected>,
}

#[derive(Default)]
struct Collected {
    nulls: u64,
    /// None once a value cannot be written.
    range: Option<(Value, Value)>,
    is_hopeless: bool,
}

impl Collector {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|_| Collected::default()).collect();
        Self { schema, rows: 0, columns }
    }

    /// Looks at rows that are written.
    pub(super) fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows() as u64;
        for (collected, column) in self.columns.iter_mut().zip(rows.columns()) {
            collected.nulls += column.null_count() as u64;
            if column.null_count() == column.len() {
                continue;
            }
            match range(column).filter(|_| !collected.is_hopeless) {
                Some(range) => collected.widen(range),
                None => (collected.range, collected.is_hopeless) = (None, true),
            }
        }
    }

    /// As the log has them.
    pub(super) fn finish(&self) -> String {
        let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
        for (field, collected) in self.schema.fields().iter().zip(&self.columns) {
            if let Some((from, to)) = &collected.range {
                least.insert(field.name().clone(), from.clone());
                greatest.insert(field.name().clone(), to.clone());
            }
            // Of a nested column others want the nulls of each part.
            if !field.data_type().is_nested() {
                nulls.insert(field.name().clone(), collected.nulls.into());
            }
        }
        json!({"numRecords": self.rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}).to_string()
    }
}

impl Collected {
    fn widen(&mut self, (from, to): (Value, Value)) {
        let (least, greatest) = match self.range.take() {
            None => (from, to),
            Some((least, greatest)) => (lesser(least, from), greater(greatest, to)),
        };
        self.range = Some((least, greatest));
    }
}

/// The least and the greatest of values that are not all null.
fn range(column: &ArrayRef) -> Option<(Value, Value)> {
    match column.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let numbers = cast(column, &DataType::Int64).ok()?;
            let numbers = numbers.as_primitive::<Int64Type>();
            Some((min(numbers)?.into(), max(numbers)?.into()))
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>();
            let ends = [min(days)?, max(days)?];
            ends.iter().all(|day| SHOWN_DAYS.contains(day)).then_some(())?;
            range(&cast(&Date32Array::from(ends.to_vec()), &DataType::Utf8).ok()?)
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let (from, to) = (min_string(texts)?, max_string(texts)?);
            (from.len() <= LONGEST && to.len() <= LONGEST).then(|| (from.into(), to.into()))
        }
        _ => None,
    }
}

fn is_less(a: &Value, b: &Value) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_str() < b.as_str(),
    }
}

fn lesser(a: Value, b: Value) -> Value {
    if is_less(&b, &a) { b } else { a }
}

fn greater(a: Value, b: Value) -> Value {
    if is_less(&a, &b) { b } else { a }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("day", DataType::Date32, true),
            Field::new("price", DataType::Float64, true),
            Field::new("nothing", DataType::Utf8, true),
        ]));
        let rows = |ids: [Option<i32>; 2], names: [Option<&str>; 2], days: [i32; 2]| {
            let nothing = StringArray::from(vec![None::<&str>; 2]);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int32Array::from(ids.to_vec())),
                Arc::new(StringArray::from(names.to_vec())),
                Arc::new(Date32Array::from(days.to_vec())),
                Arc::new(Float64Array::from(vec![1.5, f64::NAN])),
                Arc::new(nothing),
            ];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        };
        let mut collector = Collector::new(Arc::clone(&schema));
        collector.add(&rows([Some(10), Some(9)], [Some("b"), None], [0, 20_000]));
        collector.add(&rows([None, Some(-100)], [Some("a"), Some("é")], [1, 2]));
        let text = collector.finish();
        let expected = concat!(
            r#"{"numRecords":4,"minValues":{"id":-100,"name":"a","day":"1970-01-01"},"#,
            r#""maxValues":{"id":10,"name":"é","day":"2024-10-04"},"#,
            r#""nullCount":{"id":1,"name":1,"day":0,"price":0,"nothing":4}}"#
        );
        assert_eq!(text, expected);
        let found = bounds(&text, &schema).unwrap();
        assert_eq!(found.rows, Some(4));
        let of = |name: &str| {
            let ColumnBounds { least, greatest, nulls } = &found.columns[name];
            let shown = |value: &Option<ScalarValue>| value.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("{} {} {}", shown(least), shown(greatest), nulls.unwrap())
        };
        assert_eq!([of("id"), of("day"), of("name")], ["-100 10 1", "1970-01-01 2024-10-04 0", "a é 1"]);
        assert_eq!([of("price"), of("nothing")], ["  0", "  4"]);
        // One value that is too long leaves the column without bounds for good.
        let long = "x".repeat(LONGEST + 1);
        collector.add(&rows([None, None], [Some(&long), Some("a")], [1, 2]));
        collector.add(&rows([None, None], [Some("a"), Some("a")], [1, 2]));
        assert!(bounds(&collector.finish(), &schema).unwrap().columns["name"].least.is_none());
    }

    #[test]
    fn days_are_compared_as_days() {
        let schema = Arc::new(Schema::new(vec![Field::new("day", DataType::Date32, true)]));
        let check = |batches: &[[i32; 2]], expected: Option<(&str, &str)>| {
            let mut collector = Collector::new(Arc::clone(&schema));
            for days in batches {
                let column: ArrayRef = Arc::new(Date32Array::from(days.to_vec()));
                collector.add(&RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap());
            }
            let stats: Value = serde_json::from_str(&collector.finish()).unwrap();
            let of = |part: &str| stats[part]["day"].as_str().map(str::to_owned);
            let expected = expected.map(|(least, greatest)| (Some(least.to_owned()), Some(greatest.to_owned())));
            assert_eq!((of("minValues"), of("maxValues")), expected.unwrap_or_default(), "{batches:?}");
        };
        check(&[[0, -719_528], [2_932_896, 1]], Some(("0000-01-01", "9999-12-31")));
        // The day after is less than others as text, and so is one before the year 0.
        check(&[[2_932_897, 0]], None);
        check(&[[0, 1], [2_932_897, 2_932_900], [0, 1]], None);
        check(&[[-719_529, 0]], None);
    }

    #[test]
    fn timestamps_of_others_are_rounded_up() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Schema::new(vec![Field::new("at", stamp, true)]);
        let text = r#"{"minValues":{"at":"2024-01-01T00:00:00.001Z"},"maxValues":{"at":"2024-01-01T00:00:00.002Z"}}"#;
        let found = bounds(text, &schema).unwrap();
        let us = |value: &Option<ScalarValue>| match value {
            Some(ScalarValue::TimestampMicrosecond(us, _)) => us.unwrap() % 1_000_000,
            other => panic!("{other:?}"),
        };
        let at = &found.columns["at"];
        assert_eq!((us(&at.least), us(&at.greatest)), (1_000, 2_999));
        assert!(bounds("no json", &schema).is_none());
        assert!(bounds(r#"{"minValues":{"at":7}}"#, &schema).unwrap().columns.is_empty());
    }
}
