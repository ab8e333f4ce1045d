//! `df.show()`: rows as the text that Spark prints.
//!
//! A cell is cut to so many letters, and numbers and texts alike stand to the right; without cutting, to the left. Instants
//! are shown as clocks in the session's zone show them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef, TimestampMicrosecondType};
use highwater_engine::plan::datetime_pattern::zone::{Zone, local_micros};

use crate::output::shown_value;

/// The narrowest a column may be.
const MIN_WIDTH: usize = 3;

/// How `show` was called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    /// How many rows.
    pub(crate) rows: usize,
    /// How many letters of a cell; all if zero.
    pub(crate) truncate: usize,
    /// Whether each row is a list of lines.
    pub(crate) vertical: bool,
    /// Whose clocks instants are shown by.
    pub(crate) zone: Zone,
}

impl Show {
    /// The text of the first rows of `batches`, which may hold one more than are shown.
    pub(crate) fn text(&self, schema: &SchemaRef, batches: &[RecordBatch]) -> String {
        let headers: Vec<String> = schema.fields().iter().map(|field| self.cut(&escaped(field.name()))).collect();
        let mut rows: Vec<Vec<String>> = batches.iter().flat_map(|batch| self.cells(batch)).collect();
        let has_more = rows.len() > self.rows;
        rows.truncate(self.rows);
        let mut text = if self.vertical { vertical(&headers, &rows) } else { self.table(&headers, &rows) };
        if self.vertical && rows.is_empty() {
            text.push_str("(0 rows)\n");
        } else if has_more {
            let rows = if self.rows == 1 { "row" } else { "rows" };
            text.push_str(&format!("only showing top {} {rows}", self.rows));
        }
        text
    }

    fn cells(&self, batch: &RecordBatch) -> impl Iterator<Item = Vec<String>> {
        let columns: Vec<ArrayRef> = batch.columns().iter().map(|column| local(column, self.zone)).collect();
        let row = |row: usize| columns.iter().map(|column| self.cut(&escaped(&shown_value(column, row)))).collect();
        (0..batch.num_rows()).map(row).collect::<Vec<_>>().into_iter()
    }

    fn cut(&self, text: &str) -> String {
        if self.truncate == 0 || text.chars().count() <= self.truncate {
            return text.to_owned();
        }
        if self.truncate < 4 {
            return text.chars().take(self.truncate).collect();
        }
        text.chars().take(self.truncate - 3).chain("...".chars()).collect()
    }

    fn table(&self, headers: &[String], rows: &[Vec<String>]) -> String {
        let mut widths: Vec<usize> = headers.iter().map(|header| width(header).max(MIN_WIDTH)).collect();
        for row in rows {
            for (known, cell) in widths.iter_mut().zip(row) {
                *known = (*known).max(width(cell));
            }
        }
        let rule = widths.iter().map(|width| format!("+{}", "-".repeat(*width))).collect::<String>() + "+\n";
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).map(|(cell, wanted)| {
                let padding = " ".repeat(wanted - width(cell));
                if self.truncate > 0 { format!("|{padding}{cell}") } else { format!("|{cell}{padding}") }
            });
            cells.collect::<String>() + "|\n"
        };
        let body: String = rows.iter().map(|row| line(row)).collect();
        format!("{rule}{}{rule}{body}{rule}", line(headers))
    }
}

/// A column with its instants, also those inside of others, as local times.
fn local(array: &ArrayRef, zone: Zone) -> ArrayRef {
    let with_type = |field: &FieldRef, of: &ArrayRef| -> FieldRef {
        Arc::new(Field::new(field.name(), of.data_type().clone(), field.is_nullable()))
    };
    let structure = |rows: &StructArray| {
        let columns: Vec<ArrayRef> = rows.columns().iter().map(|column| local(column, zone)).collect();
        let fields: Fields = rows.fields().iter().zip(&columns).map(|(field, of)| with_type(field, of)).collect();
        // Without a column its length would be lost, but there is nothing to change either.
        if columns.is_empty() { rows.clone() } else { StructArray::new(fields, columns, rows.nulls().cloned()) }
    };
    match array.data_type() {
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some(_)) => {
            let instants = array.as_primitive::<TimestampMicrosecondType>();
            let shown: PrimitiveArray<TimestampMicrosecondType> = instants.unary(|micros| local_micros(micros, zone));
            Arc::new(shown)
        }
        DataType::Struct(_) => Arc::new(structure(array.as_struct())),
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            let values = local(lists.values(), zone);
            let item = with_type(item, &values);
            Arc::new(ListArray::new(item, lists.offsets().clone(), values, lists.nulls().cloned()))
        }
        DataType::Map(entries, is_sorted) => {
            let map = array.as_map();
            let shown = structure(map.entries());
            let entries = Arc::new(Field::new(entries.name(), shown.data_type().clone(), false));
            Arc::new(MapArray::new(entries, map.offsets().clone(), shown, map.nulls().cloned(), *is_sorted))
        }
        _ => Arc::clone(array),
    }
}

fn vertical(headers: &[String], rows: &[Vec<String>]) -> String {
    let name_width = headers.iter().map(|header| width(header)).max().unwrap_or(0).max(MIN_WIDTH);
    let data_width = rows.iter().flatten().map(|cell| width(cell)).max().unwrap_or(0).max(MIN_WIDTH);
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        // As wide as the lines below it: both columns, and what stands between them.
        let title = format!("-RECORD {at}");
        text.push_str(&format!("{title:-<width$}\n", width = name_width + data_width + 5));
        for (header, cell) in headers.iter().zip(row) {
            let (name, value) = (padded(header, name_width), padded(cell, data_width));
            text.push_str(&format!(" {name} | {value} \n"));
        }
    }
    text
}

fn padded(text: &str, wanted: usize) -> String {
    format!("{text}{}", " ".repeat(wanted.saturating_sub(width(text))))
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn escaped(text: &str) -> String {
    text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::buffer::OffsetBuffer;

    use super::*;

    const UTC: Zone = Zone::Fixed(0);

    #[track_caller]
    fn check(show: Show, expected: &str) {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 22]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("abcdefgh"), None]));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("text", texts)]).unwrap();
        assert_eq!(show.text(&batch.schema(), &[batch]), expected);
    }

    #[test]
    fn rows_are_shown_as_spark_shows_them() {
        check(
            Show { rows: 20, truncate: 6, vertical: false, zone: UTC },
            "+---+------+\n|  n|  text|\n+---+------+\n|  1|abc...|\n| 22|  NULL|\n+---+------+\n",
        );
        check(
            Show { rows: 1, truncate: 0, vertical: false, zone: UTC },
            "+---+--------+\n|n  |text    |\n+---+--------+\n|1  |abcdefgh|\n+---+--------+\nonly showing top 1 row",
        );
    }

    #[test]
    fn instants_are_shown_by_the_clocks_of_the_session() {
        let instants: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_704_067_200_500_000), None]).with_timezone("UTC"));
        let field = Arc::new(Field::new("t", instants.data_type().clone(), true));
        let inside = StructArray::new(Fields::from(vec![Arc::clone(&field)]), vec![Arc::clone(&instants)], None);
        let item = Arc::new(Field::new("item", inside.data_type().clone(), true));
        let lists: ArrayRef =
            Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 0]), Arc::new(inside), None));
        let batch = RecordBatch::try_from_iter([("t", instants), ("all", lists)]).unwrap();
        let zone = Zone::parse("America/New_York").unwrap();
        let show = Show { rows: 20, truncate: 0, vertical: false, zone };
        assert_eq!(
            show.text(&batch.schema(), &[batch]),
            "+---------------------+---------------------------------+\n|t                    |all                              \
             |\n+---------------------+---------------------------------+\n|2023-12-31 19:00:00.5|[{2023-12-31 \
             19:00:00.5}, {NULL}]|\n|NULL                 |[]                               \
             |\n+---------------------+---------------------------------+\n"
        );
    }
}
