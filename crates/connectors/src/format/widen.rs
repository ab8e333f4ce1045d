//! Structs of which only some members are decoded, as their declared types.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatchOptions, StructArray, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::{Appended, FormatError, RecordDecoder};

/// A decoder whose structs lack members of the columns they stand for: those are null.
pub(crate) struct Widened {
    inner: Box<dyn RecordDecoder>,
    schema: SchemaRef,
}

impl Widened {
    /// Batches of `schema`, which has the columns of `inner`, structs with all of their members.
    pub(crate) fn new(inner: Box<dyn RecordDecoder>, schema: SchemaRef) -> Self {
        Self { inner, schema }
    }
}

impl RecordDecoder for Widened {
    fn append(&mut self, record: &[u8]) -> Result<Appended, FormatError> {
        self.inner.append(record)
    }

    fn append_null(&mut self) {
        self.inner.append_null();
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn flush(&mut self) -> Result<RecordBatch, FormatError> {
        let batch = self.inner.flush()?;
        let fields = self.schema.fields().iter();
        let columns = batch.columns().iter().zip(fields).map(|(column, field)| widened(column, field.data_type()));
        let columns = columns.collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

fn widened(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, FormatError> {
    let (DataType::Struct(fields), Some(narrow)) = (data_type, column.as_struct_opt()) else {
        return Ok(column.clone());
    };
    let member = |name: &str, of: &DataType| match narrow.column_by_name(name) {
        Some(member) => member.clone(),
        None => new_null_array(of, narrow.len()),
    };
    let members: Vec<ArrayRef> = fields.iter().map(|field| member(field.name(), field.data_type())).collect();
    let nulls = narrow.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), members, nulls, narrow.len())?))
}
