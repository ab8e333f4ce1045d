//! `min` and `max` in batch queries: DataFusion's where it compares as Spark does, which knows statistics of files and
//! moving frames; ours for floats (one zero, NaN last), arrays and structs (NULL first).

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator as RowAccumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, StatisticsArgs,
};

use super::adapter::{Grouped, One, Sliding};
use crate::error::EngineError;
use crate::operator::aggregate::accumulator::by_hand;

/// Both functions.
pub(super) fn functions() -> [Arc<AggregateUDF>; 2] {
    [min_udaf(), max_udaf()].map(|plain| Arc::new(AggregateUDF::from(Extreme { plain })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    plain: Arc<AggregateUDF>,
}

/// Whether DataFusion compares the type otherwise than Spark.
fn is_ours(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Float32 | DataType::Float64 | DataType::List(_) | DataType::Struct(_))
}

impl Extreme {
    fn make(&self, data_type: &DataType) -> super::adapter::Make {
        let (name, data_type) = (self.plain.name().to_owned(), data_type.clone());
        Box::new(move || {
            by_hand(&name, std::slice::from_ref(&data_type), &data_type)
                .ok_or_else(|| EngineError::internal(format!("{name} of {data_type} is not by hand")))
        })
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [one] if is_ours(one) => Ok(arg_types.to_vec()),
            _ => self.plain.coerce_types(arg_types),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [one] => Ok(one.clone()),
            _ => self.plain.return_type(arg_types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn RowAccumulator>> {
        if !is_ours(args.return_type()) {
            return self.plain.accumulator(args);
        }
        let made = super::adapter::outward(self.make(args.return_type())())?;
        Ok(Box::new(One::new(made, 1)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn RowAccumulator>> {
        if !is_ours(args.return_type()) {
            return self.plain.create_sliding_accumulator(args);
        }
        Ok(Box::new(Sliding::new(self.make(args.return_type()), 1)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if !is_ours(args.return_type()) {
            return self.plain.state_fields(args);
        }
        Ok(super::state_fields(args.name, vec![args.return_type().clone()]))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        is_ours(args.return_type()) || self.plain.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if !is_ours(args.return_type()) {
            return self.plain.create_groups_accumulator(args);
        }
        Ok(Box::new(Grouped::new(self.make(args.return_type()), 1)?))
    }

    fn is_descending(&self) -> Option<bool> {
        self.plain.is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.plain.value_from_stats(statistics).filter(|value| !is_ours(&value.data_type()))
    }
}
