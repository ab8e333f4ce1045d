//! RFC 4180 with a header and `\n` line ends. A null is nothing, an empty string is `""`; nested values are JSON.

use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::value::{self, Style};

/// Writes header and rows.
pub(super) fn write(schema: &SchemaRef, batches: &[RecordBatch], out: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        cell(field.name(), &mut line);
    }
    line.push('\n');
    out.write_all(line.as_bytes())?;
    for batch in batches {
        for row in 0..batch.num_rows() {
            line.clear();
            record(batch, row, &mut line);
            out.write_all(line.as_bytes())?;
        }
    }
    Ok(())
}

fn record(batch: &RecordBatch, row: usize, line: &mut String) {
    let mut text = String::new();
    for (index, column) in batch.columns().iter().enumerate() {
        if index > 0 {
            line.push(',');
        }
        if column.is_null(row) {
            continue;
        }
        text.clear();
        let style = if column.data_type().is_string() { Style::Show } else { Style::Json };
        value::write(style, column.as_ref(), row, &mut text);
        // What JSON puts in quotes because it is no number or word (a timestamp) needs none here.
        let nested = column.data_type().is_nested();
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match bare {
            Some(bare) if style == Style::Json && !nested => cell(bare, line),
            _ => cell(&text, line),
        }
    }
    line.push('\n');
}

fn cell(text: &str, line: &mut String) {
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        line.push_str(text);
        return;
    }
    line.push('"');
    line.push_str(&text.replace('"', "\"\""));
    line.push('"');
}
