//! Draws that are functions of a seed and a row's id, for streams.
//!
//! Every draw is a hash of both and of the number of the draw, so that those of one row are as independent as those of
//! two. Calls without a seed have the query's, mixed with which of the calls it is.

use std::f64::consts::TAU;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Decimal128Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::super::cast::{self, Mode};
use super::super::udf::{self, Arguments, Invocation, Spec, each, function};
use super::super::{failure, table, types};
use super::{Drawn, seed_at, shuffled, texts, unfoldable, uuid_of};
use crate::operator::draws::{Draws, ROW_ID};

pub(crate) const TABLE: &[Spec] = &[
    function("rand_of_row", (2, 2), udf::double, rand),
    function("randn_of_row", (2, 2), udf::double, randn),
    function("randstr_of_row", (3, 3), udf::string, randstr),
    function("uniform_between", (3, 3), uniform_type, uniform),
    function("uuid_of_row", (2, 2), udf::string, uuid),
    function("shuffle_of_row", (3, 3), udf::first, shuffle),
];

/// A call of a random function as a function of a row's id.
pub(crate) fn of_row(drawn: Drawn, call: &ScalarFunction, unseeded: Seed, row: Expr) -> Result<Expr> {
    let name = format!("{}_of_row", drawn.name());
    let Some(function) = table::find(&name) else {
        return datafusion::common::internal_err!("the function {name} is not in the table");
    };
    let seed = match drawn.seed(call) {
        None => Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(unseeded)), Vec::new())),
        Some(seed) if seed.column_refs().is_empty() && !seed.is_volatile() => seed.clone(),
        Some(_) => return Err(unfoldable(drawn.name())),
    };
    let values = call.args.iter().take(drawn.values()).cloned();
    Ok(function.call(values.chain([seed, row]).collect()))
}

/// The random numbers of each row of a call whose last two arguments are a seed and a row's id.
struct Numbers {
    seeds: arrow::array::Int64Array,
    ids: arrow::array::Decimal128Array,
}

impl Numbers {
    fn of(call: &Invocation<'_>) -> Result<Self> {
        let last = call.len() - 1;
        let ids = call.array(last, &ROW_ID)?.as_primitive::<Decimal128Type>().clone();
        Ok(Self { seeds: call.longs(last - 1)?, ids })
    }

    fn seed(&self, row: usize, draw: u64) -> u64 {
        let seed = seed_at(&self.seeds, row).to_be_bytes();
        xxh3_64_with_seed(&seed, draw)
    }

    fn bits(&self, row: usize, draw: u64) -> u64 {
        xxh3_64_with_seed(&self.ids.value(row).to_be_bytes(), self.seed(row, draw))
    }

    /// From 0 to below 1.
    fn uniform(&self, row: usize, draw: u64) -> f64 {
        (self.bits(row, draw) >> 11) as f64 * f64::EPSILON / 2.0
    }
}

fn rand(call: &Invocation<'_>) -> Result<ArrayRef> {
    let numbers = Numbers::of(call)?;
    Ok(Arc::new((0..call.rows).map(|row| numbers.uniform(row, 0)).collect::<Float64Array>()))
}

/// By Box and Muller, which takes the same two numbers for every row.
fn randn(call: &Invocation<'_>) -> Result<ArrayRef> {
    let numbers = Numbers::of(call)?;
    let normal = |row: usize| {
        let (radius, angle) = (1.0 - numbers.uniform(row, 0), numbers.uniform(row, 1));
        (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
    };
    Ok(Arc::new((0..call.rows).map(normal).collect::<Float64Array>()))
}

fn uuid(call: &Invocation<'_>) -> Result<ArrayRef> {
    let numbers = Numbers::of(call)?;
    let text = |row: usize| uuid_of(xxh3_128_with_seed(&numbers.ids.value(row).to_be_bytes(), numbers.seed(row, 0)));
    Ok(Arc::new((0..call.rows).map(|row| Some(text(row))).collect::<StringArray>()))
}

fn randstr(call: &Invocation<'_>) -> Result<ArrayRef> {
    let numbers = Numbers::of(call)?;
    texts(&call.array(0, &DataType::Int32)?, |row, place| (numbers.bits(row, place as u64) % 62) as u32)
}

/// What `uniform` gives: DOUBLE or FLOAT if a bound is one, else the decimal of more digits, else the wider integer.
fn uniform_type(arguments: &Arguments<'_>) -> Result<DataType> {
    let (from, to) = (arguments.of(0), arguments.of(1));
    if let Some(other) = [&from, &to].into_iter().find(|bound| !is_number(bound) && **bound != DataType::Null) {
        let message = format!("the bounds of uniform are numbers, found {}", types::simple_string(other));
        return Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message));
    }
    let either = |wanted: &DataType| from == *wanted || to == *wanted;
    Ok(match (&from, &to) {
        (DataType::Null, _) | (_, DataType::Null) => DataType::Float64,
        _ if either(&DataType::Float64) => DataType::Float64,
        _ if either(&DataType::Float32) => DataType::Float32,
        (DataType::Decimal128(a, _), DataType::Decimal128(b, _)) => {
            if a >= b {
                from
            } else {
                to
            }
        }
        (DataType::Decimal128(..), _) => from,
        (_, DataType::Decimal128(..)) => to,
        _ => types::numeric(&from, &to).unwrap_or(DataType::Int64),
    })
}

fn is_number(data_type: &DataType) -> bool {
    types::as_decimal(data_type).is_some() || matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// `uniform(from, to)` as `from + (to - from) * rand()`.
fn uniform(call: &Invocation<'_>) -> Result<ArrayRef> {
    let (from, to, drawn) = (call.doubles(0)?, call.doubles(1)?, call.doubles(2)?);
    let out: Float64Array =
        each!(call.rows, (from = from, to = to, drawn = drawn) => Ok(Some(from + (to - from) * drawn)))?;
    let values: ArrayRef = Arc::new(out);
    cast::array(&values, call.return_type(), Mode::Ansi, call.zone)
}

fn shuffle(call: &Invocation<'_>) -> Result<ArrayRef> {
    let numbers = Numbers::of(call)?;
    let mut draw = 0;
    let mut of_row = usize::MAX;
    shuffled(&call.raw(0)?, |row| {
        draw = if of_row == row { draw + 1 } else { 0 };
        of_row = row;
        numbers.bits(row, draw)
    })
}

/// The seed of the calls of a query that name none. It is volatile, so that no rule of the optimizer evaluates it.
#[derive(Debug)]
pub(crate) struct Seed {
    draws: Arc<Draws>,
    /// Which of the query's calls it is.
    call: u64,
    signature: Signature,
}

impl Seed {
    pub(crate) fn new(draws: &Arc<Draws>, call: u64) -> Self {
        Self { draws: Arc::clone(draws), call, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.call == other.call && Arc::ptr_eq(&self.draws, &other.draws)
    }
}

impl Eq for Seed {}

impl Hash for Seed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.hash(state);
    }
}

impl ScalarUDFImpl for Seed {
    fn name(&self) -> &str {
        // As errors call what it is the seed of.
        "random"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seed = xxh3_64_with_seed(&self.call.to_be_bytes(), self.draws.seed());
        Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(seed.cast_signed()))))
    }
}

/// The ids of rows of an ordinary relation, by their columns: of what runs over whole results, and of static tables.
pub(crate) fn row_ids(draws: &Arc<Draws>, site: usize, columns: Vec<Expr>) -> Expr {
    let signature = Signature::user_defined(Volatility::Volatile);
    let function = ScalarUDF::from(RowIds { draws: Arc::clone(draws), site, signature });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), columns))
}

#[derive(Debug)]
struct RowIds {
    draws: Arc<Draws>,
    site: usize,
    signature: Signature,
}

impl PartialEq for RowIds {
    fn eq(&self, other: &Self) -> bool {
        self.site == other.site && Arc::ptr_eq(&self.draws, &other.draws)
    }
}

impl Eq for RowIds {}

impl Hash for RowIds {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.site.hash(state);
    }
}

impl ScalarUDFImpl for RowIds {
    fn name(&self) -> &str {
        "row_id"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(ROW_ID)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let ids = self.draws.by_content("table", self.site, &columns, rows);
        let ids = ids.map_err(|error| datafusion::common::DataFusionError::External(Box::new(error)))?;
        Ok(ColumnarValue::Array(ids))
    }
}
