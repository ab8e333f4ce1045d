//! Spark's `show`: a box of aligned columns, and the number of rows below it.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::value::{self, Style};

/// Writes the box.
pub(super) fn write(schema: &SchemaRef, batches: &[RecordBatch], out: &mut impl Write) -> io::Result<()> {
    let headers: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let right: Vec<bool> = schema.fields().iter().map(|field| value::is_number(field.data_type())).collect();
    let rows: Vec<Vec<String>> = batches.iter().flat_map(cells).collect();
    let text = render(&headers, &right, &rows);
    out.write_all(text.as_bytes())?;
    match rows.len() {
        1 => writeln!(out, "1 row"),
        count => writeln!(out, "{count} rows"),
    }
}

fn cells(batch: &RecordBatch) -> impl Iterator<Item = Vec<String>> + '_ {
    (0..batch.num_rows()).map(|row| {
        batch
            .columns()
            .iter()
            .map(|column| {
                let mut text = String::new();
                value::write(Style::Show, column.as_ref(), row, &mut text);
                text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
            })
            .collect()
    })
}

/// A box of `rows` under `headers`; the columns marked in `right` are aligned to the right.
pub(super) fn render(headers: &[String], right: &[bool], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headers.iter().map(|header| width(header)).collect();
    for row in rows {
        for (width_so_far, cell) in widths.iter_mut().zip(row) {
            *width_so_far = (*width_so_far).max(width(cell));
        }
    }
    let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(*width))).collect::<String>() + "+\n";
    let mut text = rule.clone();
    line(headers, right, &widths, &mut text);
    text.push_str(&rule);
    for row in rows {
        line(row, right, &widths, &mut text);
    }
    text.push_str(&rule);
    text
}

fn line(cells: &[String], right: &[bool], widths: &[usize], text: &mut String) {
    for ((cell, right), width_wanted) in cells.iter().zip(right).zip(widths) {
        let padding = " ".repeat(width_wanted - width(cell));
        text.push('|');
        if *right {
            text.push_str(&padding);
            text.push_str(cell);
        } else {
            text.push_str(cell);
            text.push_str(&padding);
        }
    }
    text.push_str("|\n");
}

fn width(text: &str) -> usize {
    text.chars().count()
}
