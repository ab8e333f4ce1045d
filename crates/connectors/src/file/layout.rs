//! Which columns of a table stand in its files, and how a row of the output is put together.
//!
//! ```text
//!   stored columns (decoded)   day=2025-01-01/ (partition columns)   _file (the file's path)
//!            └───────────────────────────┴──────────────────────────────┘
//!                              output, in the order of the projection
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use highwater_engine::error::{EngineError, Result};

use super::listing::partition_values;

/// The column that gives the path of the row's file, if the table declares it.
pub(crate) const FILE_COLUMN: &str = "_file";

#[derive(Debug, Clone)]
enum Column {
    Stored(usize),
    Partition(String),
    FileName,
}

/// How rows of the projected schema come out of stored columns and a file's path.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The names of all columns in the files, by position.
    pub(crate) file_columns: Vec<String>,
    /// The columns to decode.
    pub(crate) stored: SchemaRef,
    /// The columns of the result.
    pub(crate) output: SchemaRef,
    columns: Vec<Column>,
}

impl Layout {
    /// The layout of a projection.
    pub(crate) fn new(schema: &Schema, partition_columns: &[String], projection: &[usize]) -> Self {
        let is_stored = |name: &str| name != FILE_COLUMN && !partition_columns.iter().any(|column| column == name);
        let all_stored: Vec<usize> =
            (0..schema.fields().len()).filter(|i| is_stored(schema.field(*i).name())).collect();
        let file_columns = all_stored.iter().map(|index| schema.field(*index).name().clone()).collect();
        let mut stored: Vec<usize> = Vec::new();
        for index in projection {
            if all_stored.contains(index) && !stored.contains(index) {
                stored.push(*index);
            }
        }
        if stored.is_empty() {
            // Something must be decoded to count rows.
            stored.extend(all_stored.first());
        }
        let columns = projection
            .iter()
            .map(|index| {
                let name = schema.field(*index).name();
                match stored.iter().position(|stored| stored == index) {
                    Some(position) if is_stored(name) => Column::Stored(position),
                    _ if name == FILE_COLUMN => Column::FileName,
                    _ => Column::Partition(name.clone()),
                }
            })
            .collect();
        let pick = |indices: &[usize]| -> SchemaRef {
            Arc::new(Schema::new(indices.iter().map(|index| schema.field(*index).clone()).collect::<Vec<Field>>()))
        };
        Self { file_columns, stored: pick(&stored), output: pick(projection), columns }
    }

    /// Puts output rows together.
    pub(crate) fn assemble(&self, stored: &RecordBatch, path: &str) -> Result<RecordBatch> {
        let rows = stored.num_rows();
        let columns = self
            .columns
            .iter()
            .zip(self.output.fields())
            .map(|(column, field)| match column {
                Column::Stored(index) => Ok(Arc::clone(stored.column(*index))),
                Column::FileName => Ok(ScalarValue::Utf8(Some(path.to_owned())).to_array_of_size(rows)?),
                Column::Partition(name) => {
                    let value = partition_values(path).find(|(column, _)| column == name);
                    partition_array(value.and_then(|(_, value)| value), field, path, rows)
                }
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?)
    }
}

/// A partition value as a column of its declared type.
fn partition_array(value: Option<String>, field: &Field, path: &str, rows: usize) -> Result<ArrayRef> {
    let scalar = partition_scalar(value.as_deref(), field.data_type()).map_err(|_| {
        EngineError::data(format!(
            "the partition folder of '{path}' gives '{}' for column '{}', expected a {}",
            value.as_deref().unwrap_or("null"),
            field.name(),
            field.data_type()
        ))
    })?;
    Ok(scalar.to_array_of_size(rows)?)
}

/// A partition value in its column's type.
pub(crate) fn partition_scalar(value: Option<&str>, data_type: &DataType) -> Result<ScalarValue> {
    match value {
        None => Ok(ScalarValue::try_from(data_type)?),
        Some(text) => Ok(ScalarValue::Utf8(Some(text.to_owned())).cast_to(data_type)?),
    }
}

/// The schema with every field nullable at every level: what a record or a file lacks is null.
pub(crate) fn nullable(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| nullable_field(field)).collect::<Vec<Field>>()))
}

fn nullable_field(field: &Field) -> Field {
    Field::new(field.name(), nullable_type(field.data_type()), true)
}

fn nullable_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::List(item) => DataType::List(Arc::new(nullable_field(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| nullable_field(field)).collect()),
        // The entries and the keys of a map cannot be null.
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = vec![pair[0].as_ref().clone(), nullable_field(&pair[1])];
                let entries = Field::new(entries.name(), DataType::Struct(pair.into()), false);
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{Date32Type, Int64Type};

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("day", DataType::Date32, true),
            Field::new("b", DataType::Int64, true),
            Field::new(FILE_COLUMN, DataType::Utf8, true),
        ])
    }

    #[test]
    fn a_row_is_put_together_in_the_order_of_the_projection() {
        let layout = Layout::new(&schema(), &["day".to_owned()], &[3, 2, 1]);
        assert_eq!(layout.stored.fields().len(), 1);
        let stored = RecordBatch::try_new(Arc::clone(&layout.stored), vec![Arc::new(Int64Array::from(vec![5]))]);
        let row = layout.assemble(&stored.expect("a batch"), "/t/day=1970-01-03/f.json").expect("a row");
        assert_eq!(row.column(0).as_string::<i32>().value(0), "/t/day=1970-01-03/f.json");
        assert_eq!(row.column(1).as_primitive::<Int64Type>().value(0), 5);
        assert_eq!(row.column(2).as_primitive::<Date32Type>().value(0), 2);
    }

    #[test]
    fn a_projection_without_columns_still_counts_rows() {
        let layout = Layout::new(&schema(), &[], &[]);
        let stored = RecordBatch::try_new(Arc::clone(&layout.stored), vec![Arc::new(Int64Array::from(vec![1, 2]))]);
        assert_eq!(layout.assemble(&stored.expect("a batch"), "/t/f").expect("rows").num_rows(), 2);
    }

    #[test]
    fn a_folder_with_a_value_of_another_type_is_an_error() {
        let layout = Layout::new(&schema(), &["day".to_owned()], &[0, 1]);
        let stored = RecordBatch::try_new(Arc::clone(&layout.stored), vec![Arc::new(Int64Array::from(vec![5]))]);
        let error = layout.assemble(&stored.expect("a batch"), "/t/day=soon/f.json").expect_err("refused").to_string();
        assert!(error.contains("gives 'soon' for column 'day'"), "{error}");
    }
}
