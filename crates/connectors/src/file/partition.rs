//! Splits rows by the values of the partition columns, one folder for each combination.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use highwater_engine::error::{EngineError, Result};

use super::listing::partition_folder;

/// Knows which columns make the folder and which go into the file.
#[derive(Debug)]
pub(crate) struct Splitter {
    partition: Vec<(usize, String)>,
    file_columns: Vec<usize>,
    file_schema: SchemaRef,
}

impl Splitter {
    /// Checks that the partition columns are there and can be written as text.
    pub(crate) fn new(schema: &SchemaRef, partition_columns: &[String]) -> Result<Self> {
        let mut partition = Vec::new();
        for name in partition_columns {
            let index = schema.index_of(name).map_err(|_| {
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                EngineError::config(format!("PARTITIONED BY ({name}) names no column of the query"))
                    .help(format!("its columns are {}", known.join(", ")))
            })?;
            if schema.field(index).data_type().is_nested() {
                return Err(EngineError::config(format!(
                    "PARTITIONED BY ({name}): the column is a {}, expected a simple type",
                    schema.field(index).data_type()
                ))
                .help("partition by one of its fields"));
            }
            partition.push((index, name.clone()));
        }
        let file_columns: Vec<usize> =
            (0..schema.fields().len()).filter(|index| partition.iter().all(|(taken, _)| taken != index)).collect();
        if file_columns.is_empty() {
            return Err(EngineError::config(
                "PARTITIONED BY names all columns, expected at least one column in the files",
            )
            .help("leave one column out of PARTITIONED BY"));
        }
        let file_schema = Arc::new(schema.project(&file_columns)?);
        Ok(Self { partition, file_columns, file_schema })
    }

    /// The columns of the files.
    pub(crate) fn file_schema(&self) -> &Arc<Schema> {
        &self.file_schema
    }

    /// Rows by folder; the folder is empty for a table without partitions.
    pub(crate) fn split(&self, rows: &RecordBatch) -> Result<Vec<(String, RecordBatch)>> {
        if rows.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let columns: Vec<ArrayRef> = self.file_columns.iter().map(|index| Arc::clone(rows.column(*index))).collect();
        let in_files = RecordBatch::try_new(Arc::clone(&self.file_schema), columns)?;
        if self.partition.is_empty() {
            return Ok(vec![(String::new(), in_files)]);
        }
        let texts = self.partition.iter().map(|(index, _)| text_of(rows.column(*index))).collect::<Result<Vec<_>>>()?;
        let mut folders: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let parts: Vec<String> = self
                .partition
                .iter()
                .zip(&texts)
                .map(|((_, name), text)| {
                    let text = text.as_string::<i32>();
                    partition_folder(name, text.is_valid(row).then(|| text.value(row)))
                })
                .collect();
            folders.entry(parts.join("/")).or_default().push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        folders
            .into_iter()
            .map(|(folder, rows)| Ok((folder, take_record_batch(&in_files, &UInt32Array::from(rows))?)))
            .collect()
    }
}

/// A column as Spark writes it in folder names: timestamps in UTC as `2025-01-01 10:00:00[.123456]`.
fn text_of(column: &ArrayRef) -> Result<ArrayRef> {
    let text = arrow::compute::cast(column, &DataType::Utf8)?;
    if !matches!(column.data_type(), DataType::Timestamp(..)) {
        return Ok(text);
    }
    let spark = text.as_string::<i32>().iter().map(|value| {
        value.map(|value| {
            let value = value.trim_end_matches('Z').replace('T', " ");
            if value.contains('.') { value.trim_end_matches('0').trim_end_matches('.').to_owned() } else { value }
        })
    });
    Ok(Arc::new(spark.collect::<arrow::array::StringArray>()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    #[test]
    fn rows_go_to_the_folder_of_their_values() {
        let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("country", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("at", stamp, true),
        ]));
        let rows = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(StringArray::from(vec![Some("de"), None, Some("de")])),
                Arc::new(Int64Array::from(vec![1, 2, 3])),
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000, 0]).with_timezone("UTC")),
            ],
        )
        .expect("rows");
        let splitter = Splitter::new(&schema, &["country".to_owned(), "at".to_owned()]).expect("a splitter");
        let split = splitter.split(&rows).expect("split");
        let found: Vec<(&str, usize)> = split.iter().map(|(folder, rows)| (folder.as_str(), rows.num_rows())).collect();
        assert_eq!(
            found,
            [
                ("country=__HIVE_DEFAULT_PARTITION__/at=1970-01-01 00%3A00%3A01.5", 1),
                ("country=de/at=1970-01-01 00%3A00%3A00", 2),
            ]
        );
        assert!(Splitter::new(&schema, &["town".to_owned()]).is_err());
    }
}
