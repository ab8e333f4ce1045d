//! Results on stdout: as a table for people, as JSON lines or CSV for programs.
//!
//! | | table | json | csv |
//! |---|---|---|---|
//! | null | `NULL` | `null` | empty (an empty string is `""`) |
//! | timestamp | `2024-01-01 00:00:00` | `2024-01-01T00:00:00.000Z` | `2024-01-01T00:00:00.000Z` |
//! | struct, array, map | `{1, a}`, `[1, 2]`, `{k -> v}` | JSON | JSON |
//! | binary | `[7B 7D]` | base64 | base64 |
//!
//! Timestamps are shown in UTC; beyond the millisecond only if there is something beyond it. Times and the table are
//! Spark's `show(truncate = false)`, with numbers to the right. Writes no logs and no progress: stdout is data.

pub(crate) mod columns;
mod csv;
mod json;
mod table;
mod value;

use std::io::Write;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::error::{Failure, Result};
use value::Style;

/// A value as a table shows it.
pub(crate) fn shown_value(array: &dyn Array, row: usize) -> String {
    value_text(Style::Show, array, row)
}

/// A value as JSON, which tells apart what a table shows alike.
pub(crate) fn exact_value(array: &dyn Array, row: usize) -> String {
    value_text(Style::Json, array, row)
}

fn value_text(style: Style, array: &dyn Array, row: usize) -> String {
    let mut text = String::new();
    value::write(style, array, row, &mut text);
    text
}

/// A box of rows under a header; the columns marked in `right` are aligned to the right.
pub(crate) fn table_text(headers: &[String], right: &[bool], rows: &[Vec<String>]) -> String {
    table::render(headers, right, rows)
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people.
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

/// Writes the rows of `batches` to `out`.
pub(crate) fn write_rows(
    format: Format,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    out: &mut impl Write,
) -> Result<()> {
    let written = match format {
        Format::Table => table::write(schema, batches, out),
        Format::Json => json::write(schema, batches, out),
        Format::Csv => csv::write(schema, batches, out),
    };
    written.and_then(|()| out.flush()).map_err(stdout_failure)
}

/// A failed write to stdout. A reader that went away (`| head`) is how pipelines end, not an error.
pub(crate) fn stdout_failure(error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Failure::runtime(format!("stdout cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit};

    use super::*;

    fn rows() -> RecordBatch {
        let start: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![1_704_067_200_000_000, -1_500]).with_timezone("UTC"));
        let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let window: ArrayRef =
            Arc::new(StructArray::from(vec![(Arc::new(Field::new("start", timestamp, true)), start)]));
        let decimals = Decimal128Array::from(vec![Some(1234), None]).with_precision_and_scale(10, 2).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("window", window),
            ("name", Arc::new(StringArray::from(vec![Some("a,\"b\""), Some("")]))),
            ("n", Arc::new(Int64Array::from(vec![Some(7), None]))),
            ("x", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
            ("d", Arc::new(decimals)),
            ("raw", Arc::new(BinaryArray::from_vec(vec![b"{}", b"\xff"]))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
                    Some(vec![Some(1), None]),
                    Some(vec![]),
                ])),
            ),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn shown(format: Format) -> String {
        let batch = rows();
        let mut out = Vec::new();
        write_rows(format, &batch.schema(), &[batch], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_quotes_what_needs_it_and_leaves_nulls_empty() {
        assert_eq!(
            shown(Format::Csv),
            "window,name,n,x,d,raw,list\n\"{\"\"start\"\":\"\"2024-01-01T00:00:00.000Z\"\"}\",\"a,\"\"b\"\"\",7,1.0,12.34,\
             e30=,\"[1,null]\"\n\"{\"\"start\"\":\"\"1969-12-31T23:59:59.998500Z\"\"}\",\"\",,NaN,,/w==,[]\n"
        );
    }

    #[test]
    fn json_keeps_nulls_and_nests() {
        assert_eq!(
            shown(Format::Json),
            "{\"window\":{\"start\":\"2024-01-01T00:00:00.000Z\"},\"name\":\"a,\\\"b\\\"\",\"n\":7,\"x\":1.0,\"d\":12.34,\
             \"raw\":\"e30=\",\"list\":[1,null]}\n{\"window\":{\"start\":\"1969-12-31T23:59:59.998500Z\"},\"name\":\"\",\
             \"n\":null,\"x\":\"NaN\",\"d\":null,\"raw\":\"/w==\",\"list\":[]}\n"
        );
    }

    #[test]
    fn a_table_is_sparks_with_numbers_to_the_right() {
        let expected = "\
+--------------------------+-----+----+---+-----+-------+---------+
|window                    |name |   n|  x|    d|raw    |list     |
+--------------------------+-----+----+---+-----+-------+---------+
|{2024-01-01 00:00:00}     |a,\"b\"|   7|1.0|12.34|[7B 7D]|[1, NULL]|
|{1969-12-31 23:59:59.9985}|     |NULL|NaN| NULL|[FF]   |[]       |
+--------------------------+-----+----+---+-----+-------+---------+
2 rows
";
        assert_eq!(shown(Format::Table), expected);
    }
}
