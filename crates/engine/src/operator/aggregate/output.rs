//! From groups to emitted rows: grouping columns from key bytes, the column made of time, the functions' results.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::DataType;
use arrow::row::RowConverter;

use super::{AggregateSpec, WindowKey};
use crate::error::Result;
use crate::operator::keyed::row_converter;
use crate::plan::session_window::session_array;
use crate::plan::window::window_array;

/// Makes output rows.
pub(super) struct GroupRows {
    spec: Arc<AggregateSpec>,
    keys: RowConverter,
}

impl GroupRows {
    pub(super) fn new(spec: &Arc<AggregateSpec>) -> Result<Self> {
        Ok(Self { spec: Arc::clone(spec), keys: row_converter(&spec.input.key_types)? })
    }

    /// The grouping columns of groups, but for time.
    fn keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.spec.input.keys.is_empty() {
            return Ok(Vec::new());
        }
        let parser = self.keys.parser();
        Ok(self.keys.convert_rows(keys.map(|key| parser.parse(key)))?)
    }

    /// The rows of groups of one bucket, given their results.
    pub(super) fn of_bucket<'a>(
        &self,
        time: i64,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        results: Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let rows = keys.len();
        let mut columns = self.keys(keys)?;
        if let Some(window) = &self.spec.window {
            columns.insert(window.position, self.time_column(time, window, rows));
        }
        self.batch(columns, results, rows)
    }

    /// The rows of sessions, given their results.
    pub(super) fn of_sessions<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
        times: &[(i64, i64)],
        results: Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let mut columns = self.keys(keys)?;
        if let Some(position) = self.spec.session {
            let zone = zone_of_window(self.spec.output_schema.field(position).data_type());
            let column = |time: fn(&(i64, i64)) -> i64| {
                TimestampMicrosecondArray::from_iter_values(times.iter().map(time)).with_timezone_opt(zone.clone())
            };
            let sessions = session_array(column(|times| times.0), column(|times| times.1), None);
            columns.insert(position, Arc::new(sessions));
        }
        self.batch(columns, results, times.len())
    }

    fn batch(&self, mut columns: Vec<ArrayRef>, results: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        columns.extend(results);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.spec.output_schema), columns, &options)?)
    }

    fn time_column(&self, time: i64, window: &WindowKey, rows: usize) -> ArrayRef {
        let data_type = self.spec.output_schema.field(window.position).data_type();
        let starts = TimestampMicrosecondArray::from_value(time, rows);
        match data_type {
            DataType::Struct(_) => {
                window_array(&starts.with_timezone_opt(zone_of_window(data_type)), window.window.size_us)
            }
            other => Arc::new(starts.with_timezone_opt(zone_of(other))),
        }
    }
}

fn zone_of(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

/// The zone of the times in a window column.
fn zone_of_window(data_type: &DataType) -> Option<Arc<str>> {
    match data_type {
        DataType::Struct(fields) => fields.first().and_then(|start| zone_of(start.data_type())),
        _ => None,
    }
}
