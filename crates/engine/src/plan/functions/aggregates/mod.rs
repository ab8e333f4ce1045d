//! Aggregate functions as Spark has them, on the accumulators that streams keep their groups in.
//!
//! ```text
//!   mode(s, true)  ──lower──>  mode(s, 'smallest')  ──plan──>  SparkAggregate ─┬─ stream: FunctionSpec::accumulator
//!                   (names, order of arguments,                (table)         └─ batch: adapter, for DataFusion
//!                    types by `inputs`)
//! ```
//!
//! One implementation for both, so that a query gives the same in a stream, in a materialised view and in
//! `highwater sql`. What decides how a function works (a percentile, a separator, "ignore nulls") stands in its last
//! arguments and must be constant. `count`, `sum`, `min`, `max` and `bit_*` stay DataFusion's in batch, and are by hand in
//! streams.
//!
//! It refuses sketches as values but for those of HyperLogLog: `theta_*`, `kll_*` and `tuple_*`.

mod adapter;
mod arguments;
mod call;
mod extreme;
pub(super) mod inputs;
pub(super) mod lower;
mod table;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator as RowAccumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

pub(crate) use call::Call;
use table::Spec;

use crate::error::Result as EngineResult;
use crate::operator::aggregate::accumulator::{Accumulator, Distinct, by_hand, that_takes_back};

/// DataFusion's aggregates that mean the same in Spark; the others are not there.
const KEPT: &[&str] = &["count", "bit_and", "bit_or", "bit_xor", "grouping"];

/// What the planner calls for functions that keep hashes alone: equal values of different types have different ones.
pub(crate) const HASH_FOR_COUNT: &str = "hash_for_count";

/// Stands in fingerprints; to be counted up when a function of the table stores its state in another way.
const STATE_LAYOUT: &str = "/1";

/// All aggregate functions by the names the lowering gives them.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    let kept = datafusion::functions_aggregate::all_default_aggregate_functions();
    let kept = kept.into_iter().filter(|function| KEPT.contains(&function.name()));
    let own = table::TABLE.iter().map(|spec| Arc::new(AggregateUDF::from(SparkAggregate::new(*spec))));
    kept.chain(own).chain(extreme::functions()).chain([super::sum::sum()]).collect()
}

/// The accumulator of a planned function; none if it has none here.
pub(crate) fn accumulator(
    function: &AggregateFunctionExpr,
    types: &[DataType],
) -> EngineResult<Option<Box<dyn Accumulator>>> {
    let call = Call::planned(function, types);
    if let Some(own) = function.fun().inner().downcast_ref::<SparkAggregate>() {
        return own.spec.accumulator(&call).map(Some);
    }
    let Some(plain) = by_hand(function.fun().name(), types, function.field().data_type()) else { return Ok(None) };
    Ok(Some(if function.is_distinct() { Box::new(Distinct::new(plain, types, false)?) } else { plain }))
}

/// The same for rows that may be taken back; the first `inputs` arguments are no constants.
pub(crate) fn accumulator_that_takes_back(
    function: &AggregateFunctionExpr,
    types: &[DataType],
    inputs: usize,
) -> EngineResult<Option<Box<dyn Accumulator>>> {
    let call = Call::planned(function, types);
    accumulator_that_takes_back_by_name(function.fun().name(), call, function.field().data_type(), inputs)
}

/// The same by the function's lasting name.
pub(crate) fn accumulator_that_takes_back_by_name(
    name: &str,
    call: Call,
    returns: &DataType,
    inputs: usize,
) -> EngineResult<Option<Box<dyn Accumulator>>> {
    let (types, is_distinct) = (call.types()[..inputs].to_vec(), call.is_distinct);
    let (lasting, result) = (name.to_owned(), returns.clone());
    let make = Arc::new(move || accumulator_by_name(&lasting, &call, &result));
    that_takes_back(name, is_distinct, (&types, returns), make)
}

/// The accumulator of a function by its lasting name, for state without its query; none if it has none here.
pub(crate) fn accumulator_by_name(
    name: &str,
    call: &Call,
    returns: &DataType,
) -> EngineResult<Option<Box<dyn Accumulator>>> {
    if let Some(spec) = table::TABLE.iter().find(|spec| spec.name == name) {
        return spec.accumulator(call).map(Some);
    }
    let Some(plain) = by_hand(name, call.types(), returns) else { return Ok(None) };
    Ok(Some(if call.is_distinct { Box::new(Distinct::new(plain, call.types(), false)?) } else { plain }))
}

/// How many of a planned function's arguments change from row to row; the others are constants.
pub(crate) fn inputs(function: &AggregateFunctionExpr, arguments: usize) -> usize {
    function.fun().inner().downcast_ref::<SparkAggregate>().map_or(arguments, |own| own.spec.inputs(arguments))
}

/// What the stored state of a planned function depends on, beside its name and types.
pub(crate) fn fingerprint(function: &AggregateFunctionExpr, types: &[DataType]) -> String {
    let call = Call::planned(function, types);
    let constants: Vec<String> = call.constants().map(|(at, value)| format!(" {at}={value}")).collect();
    let layout = if function.fun().inner().is::<SparkAggregate>() { STATE_LAYOUT } else { "" };
    format!("{layout}{}{}", if function.is_distinct() { " distinct" } else { "" }, constants.concat())
}

/// A function of DataFusion's that is given each argument once, for batch queries.
pub(super) fn distinct(args: &AccumulatorArgs<'_>, name: &str) -> Result<Box<dyn RowAccumulator>> {
    let types = types_of(args.expr_fields);
    let plain = by_hand(name, &types, args.return_type());
    let plain = plain.ok_or_else(|| datafusion::common::internal_datafusion_err!("{name} has no accumulator"))?;
    let distinct = adapter::outward(Distinct::new(plain, &types, false))?;
    Ok(Box::new(adapter::One::new(Box::new(distinct), types.len())))
}

/// The state of such a function.
pub(super) fn distinct_state(args: &StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
    Ok(state_fields(args.name, Distinct::state_of(&types_of(args.input_fields))))
}

fn state_fields(name: &str, types: Vec<DataType>) -> Vec<FieldRef> {
    let field = |(at, data_type)| Arc::new(Field::new(format!("{name}[{at}]"), data_type, true));
    types.into_iter().enumerate().map(field).collect()
}

/// A function of the table, as DataFusion sees it.
struct SparkAggregate {
    spec: Spec,
    signature: Signature,
}

impl SparkAggregate {
    fn new(spec: Spec) -> Self {
        Self { spec, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl std::fmt::Debug for SparkAggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.spec.name)
    }
}

impl PartialEq for SparkAggregate {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }
}

impl Eq for SparkAggregate {}

impl Hash for SparkAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

fn types_of(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

impl AggregateUDFImpl for SparkAggregate {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        (self.spec.returns)(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn RowAccumulator>> {
        let call = Call::of(args.exprs, &types_of(args.expr_fields), args.is_distinct);
        let inputs = self.spec.inputs(args.expr_fields.len());
        Ok(Box::new(adapter::One::new(adapter::outward(self.spec.accumulator(&call))?, inputs)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn RowAccumulator>> {
        let call = Call::of(args.exprs, &types_of(args.expr_fields), args.is_distinct);
        let (spec, inputs) = (self.spec, self.spec.inputs(args.expr_fields.len()));
        Ok(Box::new(adapter::Sliding::new(Box::new(move || spec.accumulator(&call)), inputs)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let call = Call::of_types(&types_of(args.input_fields), args.is_distinct);
        let types = adapter::outward(self.spec.accumulator(&call))?.state_types();
        Ok(state_fields(args.name, types))
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let call = Call::of(args.exprs, &types_of(args.expr_fields), args.is_distinct);
        let (spec, inputs) = (self.spec, self.spec.inputs(args.expr_fields.len()));
        Ok(Box::new(adapter::Grouped::new(Box::new(move || spec.accumulator(&call)), inputs)?))
    }
}
