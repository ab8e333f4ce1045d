//! `USING console`: prints each batch as Spark's console sink does.
//!
//! ```text
//!   -------------------------------------------
//!   Batch: 3
//!   -------------------------------------------
//!   +-----+-----+
//!   |user |count|
//!   +-----+-----+
//!   |ann  |2    |
//!   +-----+-----+
//!   only showing top 20 rows
//! ```
//!
//! A terminal keeps no tokens: a batch that is replayed is printed again.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Table, TableDefinition};
use highwater_engine::sink::{BatchId, CommitReport, OutputMode, Sink, SinkRequest, SinkToken};
use highwater_engine::source::{Source, SourceRequest};

use crate::noop::{ALL_MODES, write_only};

const DEFAULT_ROWS: usize = 20;
const CELL_CHARACTERS: usize = 20;

/// The connector of `USING console`.
#[derive(Debug)]
pub struct ConsoleConnector;

impl Connector for ConsoleConnector {
    fn format(&self) -> &str {
        "console"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let mut options = definition.options.reader(format!("table {} (USING console)", definition.name));
        let num_rows = options.parsed("numRows", "a whole number")?.unwrap_or(DEFAULT_ROWS);
        let truncate = options.flag("truncate", true)?;
        options.finish()?;
        let schema = definition.schema.clone().unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(Arc::new(ConsoleTable { name: definition.name.clone(), schema, num_rows, truncate }))
    }
}

struct ConsoleTable {
    name: String,
    schema: SchemaRef,
    num_rows: usize,
    truncate: bool,
}

impl Table for ConsoleTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn source(&self, _request: SourceRequest) -> Result<Box<dyn Source>> {
        Err(write_only(&self.name, "console"))
    }

    fn check_source(&self) -> Result<()> {
        Err(write_only(&self.name, "console"))
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(ConsoleSink::new(request.schema, self.num_rows, self.truncate, Box::new(std::io::stdout()))))
    }

    fn output_modes(&self) -> &[OutputMode] {
        ALL_MODES
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        Err(write_only(&self.name, "console"))
    }
}

struct ConsoleSink {
    schema: SchemaRef,
    num_rows: usize,
    truncate: bool,
    output: Box<dyn Write + Send>,
    batch_id: BatchId,
    /// As many rows as are printed.
    shown: Vec<RecordBatch>,
    rows: u64,
}

impl ConsoleSink {
    fn new(schema: SchemaRef, num_rows: usize, truncate: bool, output: Box<dyn Write + Send>) -> Self {
        Self { schema, num_rows, truncate, output, batch_id: 0, shown: Vec::new(), rows: 0 }
    }

    fn rendered(&self) -> Result<String> {
        let line = "-".repeat(43);
        let mut text = format!("{line}\nBatch: {}\n{line}\n", self.batch_id);
        text.push_str(&table(&self.schema, &self.shown, self.truncate)?);
        if self.rows > self.num_rows as u64 {
            let rows = if self.num_rows == 1 { "row" } else { "rows" };
            text.push_str(&format!("only showing top {} {rows}\n", self.num_rows));
        }
        text.push('\n');
        Ok(text)
    }
}

impl Sink for ConsoleSink {
    fn description(&self) -> String {
        format!("ConsoleSink[numRows={}, truncate={}]", self.num_rows, self.truncate)
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        Ok(SinkToken::Unsupported)
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.abort()?;
        self.batch_id = batch_id;
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let shown: usize = self.shown.iter().map(RecordBatch::num_rows).sum();
        let room = self.num_rows.saturating_sub(shown).min(rows.num_rows());
        if room > 0 {
            self.shown.push(rows.slice(0, room));
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let text = self.rendered()?;
        // One write, so that batches of several queries do not mix.
        self.output
            .write_all(text.as_bytes())
            .and_then(|()| self.output.flush())
            .map_err(|error| EngineError::unavailable("cannot print the batch").caused_by(error))?;
        let rows = self.rows;
        self.abort()?;
        Ok(CommitReport { rows })
    }

    fn abort(&mut self) -> Result<()> {
        self.shown.clear();
        self.rows = 0;
        Ok(())
    }
}

/// Rows in Spark's frame: numbers to the right when cells are cut, all to the left otherwise.
fn table(schema: &Schema, batches: &[RecordBatch], truncate: bool) -> Result<String> {
    let mut lines: Vec<Vec<String>> =
        vec![schema.fields().iter().map(|field| cell(field.name().clone(), truncate)).collect()];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
                let text = value_text(column, field, row)?;
                Ok(cell(text, truncate))
            });
            lines.push(cells.collect::<Result<Vec<_>>>()?);
        }
    }
    let widths: Vec<usize> = (0..schema.fields().len())
        .map(|column| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0).max(3))
        .collect();
    let frame: String =
        widths.iter().map(|width| format!("+{}", "-".repeat(*width))).chain(["+\n".to_owned()]).collect();
    let mut text = frame.clone();
    for (number, cells) in lines.iter().enumerate() {
        for (cell, width) in cells.iter().zip(&widths) {
            let padding = " ".repeat(width - cell.chars().count());
            text.push_str(&if truncate { format!("|{padding}{cell}") } else { format!("|{cell}{padding}") });
        }
        text.push_str("|\n");
        if number == 0 {
            text.push_str(&frame);
        }
    }
    text.push_str(&frame);
    Ok(text)
}

/// A value as Spark's `show` prints it.
fn value_text(column: &arrow::array::ArrayRef, field: &Field, row: usize) -> Result<String> {
    use arrow::array::{Array, AsArray};
    if column.is_null(row) {
        return Ok("NULL".to_owned());
    }
    match field.data_type() {
        DataType::Struct(fields) => {
            let parts =
                column.as_struct().columns().iter().zip(fields).map(|(part, field)| value_text(part, field, row));
            Ok(format!("{{{}}}", parts.collect::<Result<Vec<_>>>()?.join(", ")))
        }
        DataType::List(item) => {
            let items = column.as_list::<i32>().value(row);
            let parts = (0..items.len()).map(|index| value_text(&items, item, index));
            Ok(format!("[{}]", parts.collect::<Result<Vec<_>>>()?.join(", ")))
        }
        DataType::Timestamp(..) => {
            let options = FormatOptions::default().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.6f"));
            let options = options.with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.6f"));
            let text = ArrayFormatter::try_new(column, &options)?.value(row).to_string();
            Ok(text.trim_end_matches('0').trim_end_matches('.').to_owned())
        }
        _ => Ok(ArrayFormatter::try_new(column, &FormatOptions::default())?.value(row).to_string()),
    }
}

fn cell(text: String, truncate: bool) -> String {
    let text = text.replace('\n', "\\n").replace('\t', "\\t");
    if !truncate || text.chars().count() <= CELL_CHARACTERS {
        return text;
    }
    text.chars().take(CELL_CHARACTERS - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_batch_is_printed_as_spark_prints_it() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("user", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
        ]));
        let rows = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(StringArray::from(vec![Some("ann"), None, Some("a name beyond twenty characters")])),
                Arc::new(Int64Array::from(vec![2, 30, 4])),
            ],
        )
        .expect("rows");
        let paper = Paper::default();
        let mut sink = ConsoleSink::new(schema, 2, true, Box::new(paper.clone()));
        sink.begin(7).expect("begun");
        sink.write(&rows).expect("written");
        assert!(paper.0.lock().is_empty(), "nothing is printed before the commit");
        assert_eq!(sink.commit().expect("printed").rows, 3);
        let text = String::from_utf8(paper.0.lock().clone()).expect("text");
        let line = "-".repeat(43);
        let expected = format!(
            "{line}\nBatch: 7\n{line}\n+----+-----+\n|user|count|\n+----+-----+\n| ann|    2|\n|NULL|   30|\n+----+-----+\nonly showing top 2 rows\n\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_cell_is_cut() {
        assert_eq!(cell("a name beyond twenty characters".to_owned(), true), "a name beyond twe...");
        assert_eq!(cell("a\nb".to_owned(), false), "a\\nb");
    }
}
