//! Steps that need no memory of earlier rows: projection, filter, and the watch on event time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, max, min, take};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::physical_expr::PhysicalExpr;

use super::draws::Lane;
use super::expand::Expand;
use super::join::StaticJoin;
use super::{evaluate, listed};
use crate::error::{EngineError, Result};

/// One step on a batch; cheap to clone, so that every task has its own.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Computes columns.
    Project { exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
    /// Gives the columns other names.
    Rename { schema: SchemaRef },
    /// Keeps the rows for which the predicate is true.
    Filter(Arc<dyn PhysicalExpr>),
    /// Watches the event time of the rows for watermark `id`.
    Watermark { id: usize, column: usize },
    /// Looks rows up in a static table.
    Join(Arc<StaticJoin>),
    /// Takes each row once for every element of an array, which stands in the array's place.
    Unnest { column: usize, schema: SchemaRef },
    /// Gives each row an id, which random numbers are drawn by, as one more column.
    RowIds { site: usize, schema: SchemaRef },
    /// Takes each row once for every set of grouping columns.
    Expand(Arc<Expand>),
}

impl Step {
    /// What it makes of rows, as text: equal texts make the same of the same rows. None if it leaves their values as they
    /// are.
    pub(crate) fn text(&self) -> Option<String> {
        Some(match self {
            Self::Rename { .. } | Self::Watermark { .. } | Self::RowIds { .. } => return None,
            Self::Project { exprs, .. } => format!("SELECT {}", listed(exprs)),
            Self::Filter(predicate) => format!("WHERE {predicate}"),
            Self::Join(join) => {
                let filter = join.filter.as_ref().map(|filter| format!(" AND {filter}")).unwrap_or_default();
                format!("{:?} join by {}{filter}", join.kind, listed(&join.stream_keys))
            }
            Self::Unnest { column, .. } => format!("explode column {column}"),
            Self::Expand(expand) => {
                let sets: Vec<&Vec<bool>> = expand.sets.iter().map(|set| &set.has).collect();
                format!("GROUPING SETS {sets:?} of {}", listed(&expand.keys))
            }
        })
    }

    /// The rows after the step.
    fn apply(&self, batch: RecordBatch, seen: &mut EventTimes, lane: &mut Lane<'_>) -> Result<RecordBatch> {
        match self {
            Self::Project { exprs, schema } => {
                let columns = evaluate(exprs, &batch)?;
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
            }
            Self::Rename { schema } => {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
            }
            Self::Filter(predicate) => {
                let keep = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
                let keep = keep.as_boolean_opt().ok_or_else(|| EngineError::internal("a filter is not BOOLEAN"))?;
                Ok(filter_record_batch(&batch, keep)?)
            }
            Self::Watermark { id, column } => {
                seen.watch(*id, &batch, *column)?;
                Ok(batch)
            }
            Self::Join(join) => join.probe(&batch),
            Self::Unnest { column, schema } => unnest(&batch, *column, schema),
            Self::RowIds { site, schema } => {
                let ids = lane.ids(*site, &batch)?;
                let columns = batch.columns().iter().cloned().chain([ids]).collect();
                Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
            }
            Self::Expand(expand) => expand.apply(&batch),
        }
    }
}

/// A row for each element of the arrays in a column.
fn unnest(batch: &RecordBatch, column: usize, schema: &SchemaRef) -> Result<RecordBatch> {
    let lists = batch.column(column).as_list_opt::<i32>().ok_or_else(|| {
        EngineError::internal(format!("{} is taken apart as an array", batch.column(column).data_type()))
    })?;
    let (mut rows, mut elements) = (Vec::new(), Vec::new());
    for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
        let range = lists.value_offsets()[row] as u32..lists.value_offsets()[row + 1] as u32;
        rows.extend(std::iter::repeat_n(row as u32, range.len()));
        elements.extend(range);
    }
    let (rows, elements) = (UInt32Array::from(rows), UInt32Array::from(elements));
    let taken = |(at, values): (usize, &ArrayRef)| match at == column {
        true => take(lists.values(), &elements, None),
        false => take(values, &rows, None),
    };
    let columns = batch.columns().iter().enumerate().map(taken).collect::<std::result::Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Runs a batch through steps; none if no row is left.
pub(crate) fn run_steps(
    steps: &[Step],
    mut batch: RecordBatch,
    seen: &mut EventTimes,
    lane: &mut Lane<'_>,
) -> Result<Option<RecordBatch>> {
    for step in steps {
        if batch.num_rows() == 0 {
            return Ok(None);
        }
        batch = step.apply(batch, seen, lane)?;
    }
    Ok((batch.num_rows() > 0).then_some(batch))
}

/// Smallest and largest event time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) min_us: i64,
    pub(crate) max_us: i64,
}

/// The event times one task saw, by watermark and source partition.
#[derive(Debug, Default, Clone)]
pub(crate) struct EventTimes {
    /// The partition whose rows are being read.
    pub(crate) partition: String,
    /// By watermark id and partition.
    pub(crate) ranges: BTreeMap<(usize, String), TimeRange>,
}

impl EventTimes {
    fn watch(&mut self, id: usize, batch: &RecordBatch, column: usize) -> Result<()> {
        let times = batch.column(column);
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| {
            EngineError::internal(format!("the event time column is {} and not TIMESTAMP", times.data_type()))
        })?;
        let (Some(min_us), Some(max_us)) = (min(times), max(times)) else { return Ok(()) };
        self.add((id, self.partition.clone()), TimeRange { min_us, max_us });
        Ok(())
    }

    fn add(&mut self, key: (usize, String), range: TimeRange) {
        let known = self.ranges.entry(key).or_insert(range);
        known.min_us = known.min_us.min(range.min_us);
        known.max_us = known.max_us.max(range.max_us);
    }

    /// Adds what another task saw.
    pub(crate) fn merge(&mut self, other: Self) {
        other.ranges.into_iter().for_each(|(key, range)| self.add(key, range));
    }
}
