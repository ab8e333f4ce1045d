//! The current time of streaming queries: the time at which a batch began, the same for all its rows.
//!
//! Ordinary queries see one moment, decided when they are planned. A streaming query is planned once and runs for
//! long, so its calls of `current_timestamp` and `current_date` are replaced, before anything could make them
//! constant, by functions that read the time from the batch under way. The offset log keeps it, so that a batch that
//! is run again sees it again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::cast::{days_of, local_of};
use super::{types, udf};

/// When the batch under way began, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct BatchTime(AtomicI64);

impl BatchTime {
    /// Begins a batch.
    pub(crate) fn set(&self, time_ms: i64) {
        self.0.store(time_ms, Ordering::Relaxed);
    }

    fn micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed).saturating_mul(1000)
    }

    /// The plan with its current time read from here. Columns keep their names.
    pub(crate) fn put_into(self: &Arc<Self>, plan: LogicalPlan) -> Result<LogicalPlan> {
        let [timestamp, date] = [(TIMESTAMP, types::timestamp()), (DATE, DataType::Date32)].map(|(name, data_type)| {
            let signature = Signature::nullary(Volatility::Volatile);
            Arc::new(ScalarUDF::from(Current { name, data_type, time: Arc::clone(self), signature }))
        });
        let replace = |expr: Expr| -> Result<Transformed<Expr>> {
            let func = match &expr {
                Expr::ScalarFunction(call) if call.name() == TIMESTAMP => &timestamp,
                Expr::ScalarFunction(call) if call.name() == DATE => &date,
                _ => return Ok(Transformed::no(expr)),
            };
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(func), Vec::new()))))
        };
        let replaced = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let replaced = expr.transform_up(replace)?;
                Ok(replaced.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(replaced.data)
    }
}

const TIMESTAMP: &str = "current_timestamp";
const DATE: &str = "current_date";

/// One of the two functions. It is volatile, so that no rule of the optimizer evaluates it.
#[derive(Debug)]
struct Current {
    name: &'static str,
    data_type: DataType,
    time: Arc<BatchTime>,
    signature: Signature,
}

impl PartialEq for Current {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.time, &other.time)
    }
}

impl Eq for Current {}

impl Hash for Current {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Current {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let micros = self.time.micros();
        Ok(ColumnarValue::Scalar(if self.name == DATE {
            let zone = udf::session_zone(args.config_options.execution.time_zone.as_deref())?;
            ScalarValue::Date32(Some(days_of(local_of(micros, zone).date())))
        } else {
            ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
        }))
    }
}
