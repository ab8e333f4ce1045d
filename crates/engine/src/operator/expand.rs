//! `ROLLUP`, `CUBE`, `GROUPING SETS`: every row once for each set of grouping columns.
//!
//! ```text
//!   k  v          k  v  | key  id         the columns the row came with, for the functions' arguments;
//!   a  1   ──>    a  1  | a    0          the grouping columns, NULL where the set has not got them;
//!                 a  1  | NULL 1          the set's number, so that a NULL of the data is another key
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::evaluate;
use crate::error::Result;

/// The sets of one `GROUP BY`.
#[derive(Debug)]
pub(crate) struct Expand {
    /// All grouping expressions, over the rows as they come.
    pub(crate) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) sets: Vec<GroupingSet>,
    /// The columns that come, the keys, the set's number.
    pub(crate) schema: SchemaRef,
}

/// One set.
#[derive(Debug, Clone)]
pub(crate) struct GroupingSet {
    /// Which of the keys it has.
    pub(crate) has: Vec<bool>,
    /// Its number, of the type the plan gives it.
    pub(crate) id: ScalarValue,
}

impl Expand {
    /// The rows, set by set.
    pub(crate) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let keys = evaluate(&self.keys, batch)?;
        let one = |set: &GroupingSet| -> Result<RecordBatch> {
            let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
            let key = |(key, has): (&ArrayRef, &bool)| {
                if *has { Arc::clone(key) } else { new_null_array(key.data_type(), rows) }
            };
            columns.extend(keys.iter().zip(&set.has).map(key));
            columns.push(set.id.to_array_of_size(rows)?);
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
        };
        let sets = self.sets.iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(concat_batches(&self.schema, &sets)?)
    }
}
