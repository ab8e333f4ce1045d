//! One JSON object a line, columns in their order, nulls kept so that every line has every key.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::value::{self, Style};

/// Writes the rows.
pub(super) fn write(schema: &SchemaRef, batches: &[RecordBatch], out: &mut impl Write) -> io::Result<()> {
    let keys: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let mut key = String::new();
            value::json_string(field.name(), &mut key);
            key
        })
        .collect();
    let mut line = String::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            line.clear();
            for (index, (key, column)) in keys.iter().zip(batch.columns()).enumerate() {
                line.push(if index == 0 { '{' } else { ',' });
                line.push_str(key);
                line.push(':');
                value::write(Style::Json, column.as_ref(), row, &mut line);
            }
            line.push_str("}\n");
            out.write_all(line.as_bytes())?;
        }
    }
    Ok(())
}
