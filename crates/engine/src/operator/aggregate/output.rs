//! From groups to emitted rows: grouping columns from key bytes, the column made of time, the functions' results.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::operator::layout::codec::KeyCodec;
use crate::operator::state_table::ipc;
use crate::plan::session_window::session_array;
use crate::plan::window::window_array;

/// What output rows are made of; kept in the checkpoint, for those who look at the state without the query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GroupLayout {
    /// Grouping columns in the query's order, then the functions' results.
    #[serde(with = "ipc::schema")]
    pub(crate) schema: SchemaRef,
    /// How many of the columns are in the key bytes.
    pub(crate) keys: usize,
    /// Where the window or event time stands among the grouping columns, and how long it is.
    pub(crate) window: Option<(usize, i64)>,
    /// Where the session stands among the grouping columns.
    pub(crate) session: Option<usize>,
}

impl GroupLayout {
    /// The types of the columns that are in the key bytes.
    pub(super) fn key_types(&self) -> Vec<DataType> {
        let time = self.window.map(|(position, _)| position).or(self.session);
        let fields = self.schema.fields().iter().enumerate().filter(|(at, _)| Some(*at) != time);
        fields.take(self.keys).map(|(_, field)| field.data_type().clone()).collect()
    }
}

/// Makes output rows.
pub(crate) struct GroupRows {
    layout: GroupLayout,
    keys: KeyCodec,
}

impl GroupRows {
    pub(crate) fn new(layout: GroupLayout, keys: KeyCodec) -> Self {
        Self { layout, keys }
    }

    /// The grouping columns of groups, but for time.
    fn keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.layout.keys == 0 {
            return Ok(Vec::new());
        }
        self.keys.decode(keys)
    }

    /// The rows of groups of one bucket, given their results.
    pub(super) fn of_bucket<'a>(
        &self,
        time: i64,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
        results: Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let times = TimestampMicrosecondArray::from_value(time, keys.len());
        self.of_groups(times, keys, results)
    }

    /// The rows of groups, each with its bucket, given their results.
    pub(crate) fn of_groups<'a>(
        &self,
        times: TimestampMicrosecondArray,
        keys: impl Iterator<Item = &'a [u8]>,
        results: Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let (mut columns, rows) = (self.keys(keys)?, arrow::array::Array::len(&times));
        if let Some((position, size_us)) = self.layout.window {
            columns.insert(position, self.time_column(times, position, size_us));
        }
        self.batch(columns, results, rows)
    }

    /// The rows of sessions, given their results.
    pub(crate) fn of_sessions<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
        times: &[(i64, i64)],
        results: Vec<ArrayRef>,
    ) -> Result<RecordBatch> {
        let mut columns = self.keys(keys)?;
        if let Some(position) = self.layout.session {
            let zone = zone_of_window(self.layout.schema.field(position).data_type());
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
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.layout.schema), columns, &options)?)
    }

    fn time_column(&self, starts: TimestampMicrosecondArray, position: usize, size_us: i64) -> ArrayRef {
        let data_type = self.layout.schema.field(position).data_type();
        match data_type {
            DataType::Struct(_) => window_array(&starts.with_timezone_opt(zone_of_window(data_type)), size_us),
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
