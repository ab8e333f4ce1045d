//! The table of aggregate functions: name, constants, result type, accumulator.

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;

use super::Call;
use crate::error::{EngineError, Result as EngineResult};
use crate::operator::aggregate::accumulator::{
    Accumulator, Average, BestByOrder, Bitmap, BitmapInput, ByOrder, Chosen, Collect, CountMin, Covariance, Distinct,
    Fractions, Histogram, HllUnions, HllValues, HyperLogLog, Joint, ListAgg, Moment, Moments, MostOften, Percentile,
    Quantiles, Summaries, TopK, Which, precision, try_sum,
};
use crate::plan::functions::{Mode, arithmetic, types};

type Returns = fn(&[DataType]) -> Result<DataType>;
type Make = fn(&Call) -> EngineResult<Box<dyn Accumulator>>;

/// A function of the table.
#[derive(Clone, Copy)]
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// How many of the last arguments are constants.
    constants: usize,
    pub(super) returns: Returns,
    make: Make,
    /// Whether `DISTINCT` gives on rows with a NULL.
    keeps_nulls: bool,
}

const fn spec(name: &'static str, constants: usize, returns: Returns, make: Make) -> Spec {
    Spec { name, constants, returns, make, keeps_nulls: false }
}

impl Spec {
    const fn keeping_nulls(mut self) -> Self {
        self.keeps_nulls = true;
        self
    }

    /// How many of some arguments change from row to row.
    pub(super) fn inputs(&self, arguments: usize) -> usize {
        arguments.saturating_sub(self.constants)
    }

    pub(super) fn accumulator(&self, call: &Call) -> EngineResult<Box<dyn Accumulator>> {
        let made = (self.make)(call)?;
        if !call.is_distinct {
            return Ok(made);
        }
        let types = &call.types()[..self.inputs(call.types().len())];
        Ok(Box::new(Distinct::new(made, types, self.keeps_nulls)?))
    }
}

macro_rules! moments {
    ($($name:literal => $moment:ident),+ $(,)?) => {
        [$(spec($name, 0, double, |_| Ok(Box::new(Moments::new(Moment::$moment))))),+]
    };
}

macro_rules! joints {
    ($($name:literal => $joint:ident),+ $(,)?) => {
        [$(spec($name, 0, double, |_| Ok(Box::new(Covariance::new(Joint::$joint))))),+]
    };
}

const MOMENTS: [Spec; 6] = moments! {
    "stddev_samp" => StddevSamp,
    "stddev_pop" => StddevPop,
    "var_samp" => VarSamp,
    "var_pop" => VarPop,
    "skewness" => Skewness,
    "kurtosis" => Kurtosis,
};

const JOINTS: [Spec; 11] = joints! {
    "covar_pop" => CovarPop,
    "covar_samp" => CovarSamp,
    "corr" => Corr,
    "regr_avgx" => RegrAvgX,
    "regr_avgy" => RegrAvgY,
    "regr_sxx" => RegrSxx,
    "regr_syy" => RegrSyy,
    "regr_sxy" => RegrSxy,
    "regr_slope" => RegrSlope,
    "regr_intercept" => RegrIntercept,
    "regr_r2" => RegrR2,
};

const OTHERS: [Spec; 24] = [
    spec("try_sum", 0, sum, |call| {
        try_sum(&sum(call.types())?).ok_or_else(|| EngineError::internal("try_sum of a type without a sum"))
    }),
    spec("avg", 0, average, |call| averaged(call, Mode::Ansi)),
    spec("try_avg", 0, average, |call| averaged(call, Mode::Try)),
    spec("first", 1, same, |call| chosen(Which::First, call)).keeping_nulls(),
    spec("last", 1, same, |call| chosen(Which::Last, call)).keeping_nulls(),
    spec("min_by", 0, same, |call| Ok(Box::new(ByOrder::new(false, &call.of_arg(0), &call.of_arg(1))?))),
    spec("max_by", 0, same, |call| Ok(Box::new(ByOrder::new(true, &call.of_arg(0), &call.of_arg(1))?))),
    spec("min_by_several", 1, list, |call| best(false, call)),
    spec("max_by_several", 1, list, |call| best(true, call)),
    spec("collect_list", 1, list, |call| collect(false, call)),
    spec("collect_set", 1, list, |call| collect(true, call)),
    spec("listagg", 2, same, list_agg),
    spec("mode", 1, same, |call| Ok(Box::new(MostOften::new(&call.of_arg(0), call.word(1)? == "largest")?))),
    spec("percentile", 2, percentile_type, percentile),
    spec("percentile_approx", 2, approximate_type, approximate),
    spec(
        "approx_count_distinct",
        1,
        |_| Ok(DataType::Int64),
        |call| {
            let precision = precision(call.double(1, "the standard error")?)?;
            Ok(Box::new(Summaries::new(HyperLogLog::new(precision))))
        },
    ),
    spec(
        "hll_sketch_agg",
        1,
        |_| Ok(DataType::Binary),
        |call| Ok(Box::new(Summaries::new(HllValues::new(registers(call)?)?))),
    ),
    spec(
        "hll_union_agg",
        1,
        |_| Ok(DataType::Binary),
        |call| Ok(Box::new(Summaries::new(HllUnions::new(call.word(1)? == "any")))),
    ),
    spec("histogram_numeric", 1, histogram_type, |call| {
        let bins = call.int(1, "the number of bins", (2, i32::MAX.into()))? as usize;
        Ok(Box::new(Summaries::new(Histogram { bins, data_type: call.of_arg(0) })))
    }),
    spec("count_min_sketch", 3, |_| Ok(DataType::Binary), count_min),
    spec("bitmap_construct_agg", 0, |_| Ok(DataType::Binary), |_| bitmap(BitmapInput::Positions)),
    spec("bitmap_and_agg", 0, |_| Ok(DataType::Binary), |_| bitmap(BitmapInput::And)),
    spec("bitmap_or_agg", 0, |_| Ok(DataType::Binary), |_| bitmap(BitmapInput::Or)),
    spec("approx_top_k", 2, top_type, |call| {
        let tracked = call.int(1, "the number of tracked items", (1, 1_000_000))?;
        let k = call.int(2, "k", (1, tracked))?;
        Ok(Box::new(Summaries::new(TopK::new(&call.of_arg(0), k as usize, tracked as usize)?)))
    }),
];

/// All of them.
pub(super) static TABLE: std::sync::LazyLock<Vec<Spec>> =
    std::sync::LazyLock::new(|| [&MOMENTS[..], &JOINTS, &OTHERS].concat());

fn double(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::Float64)
}

fn same(types: &[DataType]) -> Result<DataType> {
    Ok(types.first().cloned().unwrap_or(DataType::Null))
}

fn list(types: &[DataType]) -> Result<DataType> {
    same(types).map(types::list)
}

/// The type of a sum: decimals get ten digits more.
fn sum(arguments: &[DataType]) -> Result<DataType> {
    Ok(match same(arguments)? {
        DataType::Decimal128(precision, scale) => {
            DataType::Decimal128((precision + 10).min(types::MAX_PRECISION), scale)
        }
        other => other,
    })
}

fn percentile_type(types: &[DataType]) -> Result<DataType> {
    Ok(listed(types, 2, DataType::Float64))
}

fn approximate_type(types: &[DataType]) -> Result<DataType> {
    Ok(listed(types, 1, same(types)?))
}

/// A type, or a list of it if the argument is a list.
fn listed(types: &[DataType], at: usize, one: DataType) -> DataType {
    if matches!(types.get(at), Some(DataType::List(_))) { types::list(one) } else { one }
}

fn histogram_type(types: &[DataType]) -> Result<DataType> {
    pairs("x", same(types)?, "y", DataType::Float64)
}

fn top_type(types: &[DataType]) -> Result<DataType> {
    pairs("item", same(types)?, "count", DataType::Int64)
}

fn pairs(a: &str, a_type: DataType, b: &str, b_type: DataType) -> Result<DataType> {
    let fields = vec![Field::new(a, a_type, true), Field::new(b, b_type, true)];
    Ok(types::list(DataType::Struct(Fields::from(fields))))
}

fn average(types: &[DataType]) -> Result<DataType> {
    same(types).map(|addend| arithmetic::average_of(&addend))
}

fn averaged(call: &Call, mode: Mode) -> EngineResult<Box<dyn Accumulator>> {
    Ok(Box::new(Average::new(&sum(call.types())?, average(call.types())?, mode)?))
}

fn chosen(which: Which, call: &Call) -> EngineResult<Box<dyn Accumulator>> {
    Ok(Box::new(Chosen::new(which, call.word(1)? == "ignore", &call.of_arg(0))?))
}

fn best(is_max: bool, call: &Call) -> EngineResult<Box<dyn Accumulator>> {
    let k = call.int(1, "the number of rows", (1, 100_000))? as usize;
    Ok(Box::new(BestByOrder::new(is_max, k, &call.of_arg(0), &call.of_arg(1))?))
}

fn collect(is_set: bool, call: &Call) -> EngineResult<Box<dyn Accumulator>> {
    Ok(Box::new(Collect::new(is_set, call.word(1)? == "respect", &call.of_arg(0))?))
}

/// `listagg(text, key, ..., separator, order)`: `order` has two letters a key, `a` or `d` and `f` or `l`.
fn list_agg(call: &Call) -> EngineResult<Box<dyn Accumulator>> {
    let order = call.word(1)?;
    let option = |pair: &[u8]| SortOptions { descending: pair[0] == b'd', nulls_first: pair[1] == b'f' };
    let mut options: Vec<SortOptions> = order.as_bytes().chunks_exact(2).map(option).collect();
    let types = &call.types()[..call.types().len() - 2];
    options.resize(types.len() - 1, SortOptions::default());
    Ok(Box::new(ListAgg::new(call.bytes(2, "the separator")?, types, &options)?))
}

/// `percentile(value, frequency, fractions, kind)`.
fn percentile(call: &Call) -> EngineResult<Box<dyn Accumulator>> {
    let (fractions, is_list) = call.fractions(2)?;
    let kind = call.word(1)?;
    let (reversed, is_discrete) = (kind.contains("descending"), kind.contains("discrete"));
    Ok(Box::new(Percentile::new(Fractions { fractions, is_list, reversed, is_discrete })?))
}

/// `percentile_approx(value, fractions, accuracy)`.
fn approximate(call: &Call) -> EngineResult<Box<dyn Accumulator>> {
    let (fractions, is_list) = call.fractions(2)?;
    let accuracy = call.int(1, "the accuracy", (1, i32::MAX.into()))?;
    let error = 1.0 / accuracy as f64;
    Ok(Box::new(Summaries::new(Quantiles { fractions, is_list, error, data_type: call.of_arg(0) })))
}

/// How many registers a sketch has, as a power of 2.
fn registers(call: &Call) -> EngineResult<u8> {
    let lg_k = call.int(1, "lgConfigK", (4, 21)).map_err(|error| {
        EngineError::query(format!("[HLL_INVALID_LG_K] {error}")).help("give lgConfigK as a number from 4 to 21")
    })?;
    Ok(lg_k as u8)
}

fn count_min(call: &Call) -> EngineResult<Box<dyn Accumulator>> {
    let (error, confidence) = (call.double(3, "eps")?, call.double(2, "confidence")?);
    let bad = |what: &str, value: f64, range: &str| {
        Err(EngineError::query(format!(
            "[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] {what} is {value}, which is not {range}"
        )))
    };
    if error <= 0.0 {
        return bad("eps", error, "above 0.0");
    }
    if confidence <= 0.0 || confidence >= 1.0 {
        return bad("confidence", confidence, "between 0.0 and 1.0");
    }
    let seed = call.int(1, "the seed", (i64::MIN, i64::MAX))?;
    Ok(Box::new(Summaries::new(CountMin::new(error, confidence, seed))))
}

fn bitmap(input: BitmapInput) -> EngineResult<Box<dyn Accumulator>> {
    Ok(Box::new(Summaries::new(Bitmap(input))))
}
