//! Random values: `rand`, `randn`, `randstr`, `uuid` and `shuffle`, and `uniform`, which is made of `rand`.
//!
//! ```text
//!   in an ordinary query    rand(42)  ─optimizer─>  rand(42) with a generator of its own, for as long as the plan lives
//!   on a stream             rand(42)  ─planner──>   rand_of_row(42, id of the row)
//! ```
//!
//! In an ordinary query a call draws one number after another, with a seed from Spark's generator: over rows in one
//! partition `rand(seed)` and `randn(seed)` give Spark's numbers, and a query with a seed runs in one. Without a seed each
//! run has another one.
//!
//! On a stream a batch that is run again must give the rows that it gave, or a sink that has them already would keep
//! others than the state is made of. So a number is a function of the seed and of what the row is known by
//! ([`crate::operator::draws`]), and there is no generator that goes on.
//!
//! Refused is a seed that is no constant.

mod of_row;
mod xorshift;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use parking_lot::Mutex;
use uuid::Uuid;

use super::cast::{Mode, array as cast_as_spark};
use super::nested::gathered;
use super::{failure, types, udf};
pub(super) use of_row::TABLE;
pub(crate) use of_row::{Seed, of_row, row_ids};
use xorshift::XorShift;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Drawn {
    Rand,
    Randn,
    Randstr,
    Uuid,
    Shuffle,
}

impl Drawn {
    const ALL: [Self; 5] = [Self::Rand, Self::Randn, Self::Randstr, Self::Uuid, Self::Shuffle];

    const fn name(self) -> &'static str {
        match self {
            Self::Rand => "rand",
            Self::Randn => "randn",
            Self::Randstr => "randstr",
            Self::Uuid => "uuid",
            Self::Shuffle => "shuffle",
        }
    }

    /// How many arguments stand before the seed.
    const fn values(self) -> usize {
        if matches!(self, Self::Shuffle | Self::Randstr) { 1 } else { 0 }
    }

    /// What an expression calls, if it draws.
    pub(crate) fn of(expr: &Expr) -> Option<(Self, &ScalarFunction)> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let any: &dyn std::any::Any = call.func.inner().as_ref();
        any.downcast_ref::<DrawFunction>().map(|function| (function.drawn, call))
    }

    /// The seed that a call names.
    pub(crate) fn seed(self, call: &ScalarFunction) -> Option<&Expr> {
        call.args.get(self.values())
    }
}

/// Whether a function by that name draws.
pub(super) fn is_drawn(name: &str) -> bool {
    Drawn::ALL.iter().any(|drawn| drawn.name() == name)
}

/// The functions as they are called in a text.
pub(super) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    Drawn::ALL.into_iter().map(|drawn| DrawFunction::udf(drawn, None))
}

/// A generator, from the first time that something is drawn.
type Generator = Arc<Mutex<Option<XorShift>>>;

#[derive(Debug)]
struct DrawFunction {
    drawn: Drawn,
    /// None until the optimizer gives the call one of its own.
    generator: Option<Generator>,
    signature: Signature,
}

impl DrawFunction {
    fn udf(drawn: Drawn, generator: Option<Generator>) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Volatile);
        Arc::new(ScalarUDF::from(Self { drawn, generator, signature }))
    }

    fn place(&self) -> Option<usize> {
        self.generator.as_ref().map(|generator| Arc::as_ptr(generator).addr())
    }
}

impl PartialEq for DrawFunction {
    fn eq(&self, other: &Self) -> bool {
        (self.drawn, self.place()) == (other.drawn, other.place())
    }
}

impl Eq for DrawFunction {}

impl Hash for DrawFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.drawn.hash(state);
    }
}

impl ScalarUDFImpl for DrawFunction {
    fn name(&self) -> &str {
        self.drawn.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (name, values) = (self.drawn.name(), self.drawn.values());
        if let Some(seed) = arg_types.get(values).filter(|seed| !types::is_integral(seed) && **seed != DataType::Null) {
            let message = format!("the seed of `{name}` is a whole number, found {}", types::simple_string(seed));
            return Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message));
        }
        if (values..=values + 1).contains(&arg_types.len()) {
            return Ok(arg_types.to_vec());
        }
        let found = arg_types.len();
        plan_err!(
            "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] `{name}` takes {values} to {} arguments, found {found}",
            values + 1
        )
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.coerce_types(arg_types)?;
        match (self.drawn, arg_types) {
            (Drawn::Rand | Drawn::Randn, _) => Ok(DataType::Float64),
            (Drawn::Uuid, _) => Ok(DataType::Utf8),
            (Drawn::Randstr, [length, ..]) if types::is_integral(length) => Ok(DataType::Utf8),
            (Drawn::Randstr, found) => {
                let found = found.first().map_or_else(|| "nothing".to_owned(), types::simple_string);
                let message = format!("the length of a random text is a whole number, found {found}");
                Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message))
            }
            (Drawn::Shuffle, [list @ DataType::List(_), ..]) => Ok(list.clone()),
            (Drawn::Shuffle, found) => {
                let found = found.first().map_or_else(|| "nothing".to_owned(), types::simple_string);
                Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", format!("{found} is no array to shuffle")))
            }
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let arg_types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.drawn.name(), self.return_type(&arg_types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(generator) = &self.generator else {
            return internal_err!("{} was not given a generator", self.drawn.name());
        };
        let mut generator = generator.lock();
        let generator = match &mut *generator {
            Some(generator) => generator,
            none => none.insert(XorShift::new(self.first_seed(&args)?)),
        };
        let (rows, has_seed) = (args.number_rows, args.args.len() > self.drawn.values());
        let drawn: ArrayRef = match self.drawn {
            Drawn::Rand => Arc::new((0..rows).map(|_| generator.uniform()).collect::<Float64Array>()),
            Drawn::Randn => Arc::new((0..rows).map(|_| generator.normal()).collect::<Float64Array>()),
            Drawn::Randstr => {
                let lengths = cast(&args.args[0].to_array(rows)?, &DataType::Int32)?;
                texts(&lengths, |_, _| (generator.bits(32) as u32).cast_signed().wrapping_rem(62).unsigned_abs())?
            }
            Drawn::Uuid => {
                let mut bits = || u128::from(generator.bits(32));
                let mut seeded = || bits() << 96 | bits() << 64 | bits() << 32 | bits();
                let mut text = |_: usize| if has_seed { uuid_of(seeded()) } else { Uuid::new_v4().to_string() };
                Arc::new((0..rows).map(|row| Some(text(row))).collect::<StringArray>())
            }
            Drawn::Shuffle => {
                shuffled(&args.args[0].to_array(rows)?, |_| generator.bits(32) << 32 | generator.bits(32))?
            }
        };
        Ok(ColumnarValue::Array(drawn))
    }
}

impl DrawFunction {
    /// The seed of the generator: that of the call, which has to be a constant, or any.
    fn first_seed(&self, args: &ScalarFunctionArgs) -> Result<i64> {
        match args.args.get(self.drawn.values()) {
            None => Ok(Uuid::new_v4().as_u64_pair().0.cast_signed()),
            Some(ColumnarValue::Array(_)) => Err(unfoldable(self.drawn.name())),
            Some(ColumnarValue::Scalar(seed)) => {
                let zone = udf::session_zone(args.config_options.execution.time_zone.as_deref())?;
                let seed = cast_as_spark(&seed.to_array()?, &DataType::Int64, Mode::Ansi, zone)?;
                Ok(seed_at(seed.as_primitive::<Int64Type>(), 0))
            }
        }
    }
}

/// NULL is the seed 0.
fn seed_at(seeds: &Int64Array, row: usize) -> i64 {
    if seeds.is_null(row) { 0 } else { seeds.value(row) }
}

fn unfoldable(name: &str) -> datafusion::common::DataFusionError {
    let message = format!("the seed of `{name}` is a constant, found an expression over columns");
    failure::plan("SEED_EXPRESSION_IS_UNFOLDABLE", message)
}

/// A random UUID (version 4) of these bits.
fn uuid_of(bits: u128) -> String {
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
}

/// Texts of letters and digits, as long as is said; `draw` gives a number below 62 for a row and a place.
fn texts(lengths: &ArrayRef, mut draw: impl FnMut(usize, usize) -> u32) -> Result<ArrayRef> {
    const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let row = |(row, length): (usize, Option<i32>)| -> Result<Option<String>> {
        let Some(length) = length else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| {
            failure::data("DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE", format!("a random text is {length} letters long"))
        })?;
        Ok(Some((0..length).map(|place| char::from(LETTERS[draw(row, place) as usize % LETTERS.len()])).collect()))
    };
    let lengths = lengths.as_primitive::<Int32Type>();
    Ok(Arc::new(lengths.iter().enumerate().map(row).collect::<Result<StringArray>>()?))
}

/// Each list in another order; `draw` gives random bits for a row.
fn shuffled(lists: &ArrayRef, mut draw: impl FnMut(usize) -> u64) -> Result<ArrayRef> {
    let lists = lists.as_list::<i32>();
    let offsets = lists.value_offsets();
    let mut shuffle = |row: usize| {
        let mut places: Vec<usize> = (offsets[row] as usize..offsets[row + 1] as usize).collect();
        for left in (2..=places.len()).rev() {
            let chosen = (u128::from(draw(row)) * left as u128) >> 64;
            places.swap(left - 1, chosen as usize);
        }
        places
    };
    let rows: Vec<Option<Vec<usize>>> = (0..lists.len()).map(|row| lists.is_valid(row).then(|| shuffle(row))).collect();
    gathered(lists.values(), &rows)
}

/// Gives each call of an ordinary query a generator of its own.
#[derive(Debug, Default)]
pub(crate) struct GiveGenerators;

impl OptimizerRule for GiveGenerators {
    fn name(&self) -> &str {
        "give_generators"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let give = |expr: Expr| -> Result<Transformed<Expr>> {
            let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
            let any: &dyn std::any::Any = call.func.inner().as_ref();
            let Some(DrawFunction { drawn, generator: None, .. }) = any.downcast_ref::<DrawFunction>() else {
                return Ok(Transformed::no(expr));
            };
            let func = DrawFunction::udf(*drawn, Some(Generator::default()));
            let call = ScalarFunction::new_udf(func, call.args.clone());
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        };
        plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| expr.transform_up(give)))
    }
}

/// Whether a plan draws with a seed, so that the order of its rows says what each gets.
pub(crate) fn is_seeded(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                found = found || Drawn::of(inner).is_some_and(|(drawn, call)| drawn.seed(call).is_some());
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })?;
    Ok(found)
}
