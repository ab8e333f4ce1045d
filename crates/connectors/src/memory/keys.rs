//! Rows that replace rows of the same key.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use highwater_engine::error::Result;
use highwater_engine::sink::without_deleted;

/// `old` without the keys of `new`, then the last row of each key of `new`, unless that says that the row is gone.
/// Without keys all rows are kept.
pub(super) fn upsert(
    old: &[RecordBatch],
    new: &[RecordBatch],
    key_columns: &[String],
    deletes: bool,
) -> Result<Vec<RecordBatch>> {
    if key_columns.is_empty() {
        return Ok(old.iter().chain(new).cloned().collect());
    }
    let mut kept: Vec<RecordBatch> = Vec::new();
    let mut keys = Keys::default();
    for batch in new.iter().rev() {
        kept.push(keys.keep_unknown(batch, key_columns, true)?);
    }
    kept.reverse();
    if deletes {
        kept = kept.iter().map(without_deleted).collect::<Result<_>>()?;
    }
    let mut result = Vec::new();
    for batch in old {
        result.push(keys.keep_unknown(batch, key_columns, false)?);
    }
    result.extend(kept);
    result.retain(|batch| batch.num_rows() > 0);
    Ok(result)
}

/// The keys seen so far, as comparable bytes.
#[derive(Default)]
pub(crate) struct Keys {
    converter: Option<(Vec<DataType>, RowConverter)>,
    known: std::collections::HashSet<OwnedRow>,
}

impl Keys {
    /// The rows whose keys are not known, the last of each key; with `learn` they are known from then on.
    pub(crate) fn keep_unknown(
        &mut self,
        batch: &RecordBatch,
        key_columns: &[String],
        learn: bool,
    ) -> Result<RecordBatch> {
        let mask = self.unknown(batch, key_columns, learn)?;
        if mask.true_count() == batch.num_rows() {
            return Ok(batch.clone());
        }
        Ok(filter_record_batch(batch, &mask)?)
    }

    /// Which rows have keys that are not known.
    pub(crate) fn unknown(&mut self, batch: &RecordBatch, key_columns: &[String], learn: bool) -> Result<BooleanArray> {
        let columns = key_columns
            .iter()
            .map(|name| Ok(Arc::clone(batch.column(batch.schema_ref().index_of(name)?))))
            .collect::<Result<Vec<_>>>()?;
        let (types, converter) = match &mut self.converter {
            Some(converter) => converter,
            empty => {
                let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
                let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
                empty.insert((types, RowConverter::new(fields)?))
            }
        };
        // Files may hold the same type with other nullability inside.
        let columns = columns.iter().zip(&*types).map(|(column, data_type)| cast(column, data_type));
        let rows = converter.convert_columns(&columns.collect::<Result<Vec<_>, _>>()?)?;
        let mut mask = vec![true; batch.num_rows()];
        for (row, keep) in mask.iter_mut().enumerate().rev() {
            let key = rows.row(row).owned();
            *keep = if learn { self.known.insert(key) } else { !self.known.contains(&key) };
        }
        Ok(BooleanArray::from(mask))
    }
}
