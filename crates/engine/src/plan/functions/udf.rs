//! The frame of our scalar functions: a table entry of name, number of arguments, result type and evaluation.
//!
//! Arguments arrive with the types they have; a function asks for each in the type it wants and gets it by Spark's
//! cast ([`Invocation::strings`] and its like), so implicit conversions follow Spark's rules, not DataFusion's.
//! Constants are evaluated as columns of one row.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray,
};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, Float64Type, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::cast::{self, Mode};
use super::types;
use crate::plan::datetime_pattern::zone::Zone;

/// What the result type may depend on: the arguments' types, and the values of those that are constant.
pub(crate) struct Arguments<'a> {
    pub(crate) fields: &'a [FieldRef],
    scalars: &'a [Option<&'a ScalarValue>],
}

impl Arguments<'_> {
    /// The type of argument `i`; NULL's if it was left out.
    pub(crate) fn of(&self, i: usize) -> DataType {
        self.fields.get(i).map_or(DataType::Null, |field| field.data_type().clone())
    }

    pub(crate) fn types(&self) -> impl Iterator<Item = &DataType> {
        self.fields.iter().map(|field| field.data_type())
    }

    /// The text of argument `i`, if it is a constant string.
    pub(crate) fn text(&self, i: usize) -> Option<&str> {
        self.scalars.get(i).copied().flatten().and_then(|value| value.try_as_str().flatten())
    }

    /// The number in argument `i`, if it is a constant integer.
    pub(crate) fn int(&self, i: usize) -> Option<i64> {
        match self.scalars.get(i).copied().flatten()?.cast_to(&DataType::Int64).ok()? {
            ScalarValue::Int64(value) => value,
            _ => None,
        }
    }
}

type Returns = fn(&Arguments<'_>) -> Result<DataType>;
type Evaluate = fn(&Invocation<'_>) -> Result<ArrayRef>;
type Simplify = fn(Vec<Expr>, &SimplifyContext) -> Result<ExprSimplifyResult>;

/// A function of the table.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    name: &'static str,
    aliases: &'static [&'static str],
    min: usize,
    max: usize,
    returns: Returns,
    evaluate: Evaluate,
    simplify: Option<Simplify>,
    lazy: bool,
    volatility: Volatility,
}

/// A function of `min` to `max` arguments.
pub(crate) const fn function(
    name: &'static str,
    (min, max): (usize, usize),
    returns: Returns,
    evaluate: Evaluate,
) -> Spec {
    Spec {
        name,
        aliases: &[],
        min,
        max,
        returns,
        evaluate,
        simplify: None,
        lazy: false,
        volatility: Volatility::Immutable,
    }
}

/// No bound on the number of arguments.
pub(crate) const ANY: usize = usize::MAX;

impl Spec {
    pub(crate) const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    pub(crate) const fn volatility(mut self, volatility: Volatility) -> Self {
        self.volatility = volatility;
        self
    }

    pub(crate) const fn simplified_by(mut self, simplify: Simplify) -> Self {
        self.simplify = Some(simplify);
        self
    }

    /// Arguments may not all be evaluated; `simplify` replaces the call by what does so.
    pub(crate) const fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// The function under each of its names: DataFusion would wrap a call by an alias in another column name.
    pub(crate) fn build(self) -> Vec<Arc<ScalarUDF>> {
        let names = std::iter::once(self.name).chain(self.aliases.iter().copied());
        names.map(|name| Arc::new(ScalarUDF::from(Builtin::new(Self { name, ..self })))).collect()
    }
}

struct Builtin {
    spec: Spec,
    signature: Signature,
}

impl Builtin {
    fn new(spec: Spec) -> Self {
        Self { spec, signature: Signature::user_defined(spec.volatility) }
    }

    fn check_count(&self, given: usize) -> Result<()> {
        let Spec { name, min, max, .. } = self.spec;
        if (min..=max).contains(&given) {
            return Ok(());
        }
        let expected = match (min, max) {
            (min, max) if min == max => min.to_string(),
            (min, ANY) => format!("at least {min}"),
            (min, max) => format!("{min} to {max}"),
        };
        plan_err!("[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] `{name}` takes {expected} arguments, found {given}")
    }
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.spec.name)
    }
}

impl PartialEq for Builtin {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }
}

impl Eq for Builtin {}

impl Hash for Builtin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl ScalarUDFImpl for Builtin {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.check_count(arg_types.len())?;
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        exec_err!("{} needs its arguments to know its type", self.spec.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.check_count(args.arg_fields.len())?;
        let arguments = Arguments { fields: args.arg_fields, scalars: args.scalar_arguments };
        Ok(Arc::new(Field::new(self.spec.name, (self.spec.returns)(&arguments)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let invocation = Invocation::new(&args, if constant { 1 } else { args.number_rows })?;
        let array = (self.spec.evaluate)(&invocation)?;
        if constant && array.len() == 1 {
            return ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(array))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match self.spec.simplify {
            Some(simplify) => simplify(args, info),
            None => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn short_circuits(&self) -> bool {
        self.spec.lazy
    }
}

/// One evaluation over a batch.
pub(crate) struct Invocation<'a> {
    args: &'a ScalarFunctionArgs,
    /// The session's time zone.
    pub(crate) zone: Zone,
    /// How many rows the result has.
    pub(crate) rows: usize,
}

impl<'a> Invocation<'a> {
    fn new(args: &'a ScalarFunctionArgs, rows: usize) -> Result<Self> {
        Ok(Self { args, zone: session_zone(args.config_options.execution.time_zone.as_deref())?, rows })
    }

    /// Whether there is no row to compute: of constants one is computed all the same.
    pub(crate) fn is_over_no_rows(&self) -> bool {
        self.args.number_rows == 0
    }

    /// How many arguments there are.
    pub(crate) fn len(&self) -> usize {
        self.args.args.len()
    }

    /// The type the call was planned with.
    pub(crate) fn return_type(&self) -> &DataType {
        self.args.return_field.data_type()
    }

    /// The name of field `i`'s column.
    pub(crate) fn field(&self, i: usize) -> &Field {
        &self.args.arg_fields[i]
    }

    /// Argument `i` as it came.
    pub(crate) fn raw(&self, i: usize) -> Result<ArrayRef> {
        self.args.args[i].to_array(self.rows)
    }

    /// Argument `i` cast to a type.
    pub(crate) fn array(&self, i: usize, to: &DataType) -> Result<ArrayRef> {
        match &self.args.args[i] {
            ColumnarValue::Array(array) => cast::array(array, to, Mode::Ansi, self.zone),
            ColumnarValue::Scalar(value) => {
                let one = cast::array(&value.to_array()?, to, Mode::Ansi, self.zone)?;
                if self.rows == 1 {
                    return Ok(one);
                }
                ScalarValue::try_from_array(&one, 0)?.to_array_of_size(self.rows)
            }
        }
    }

    pub(crate) fn strings(&self, i: usize) -> Result<StringArray> {
        Ok(self.array(i, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    /// Strings and binaries as bytes.
    pub(crate) fn bytes(&self, i: usize) -> Result<BinaryArray> {
        let raw = self.raw(i)?;
        let text = if matches!(raw.data_type(), DataType::Binary) { raw } else { self.array(i, &DataType::Utf8)? };
        Ok(cast::array(&text, &DataType::Binary, Mode::Ansi, self.zone)?.as_binary::<i32>().clone())
    }

    pub(crate) fn ints(&self, i: usize) -> Result<Int32Array> {
        Ok(self.array(i, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
    }

    pub(crate) fn longs(&self, i: usize) -> Result<Int64Array> {
        Ok(self.array(i, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }

    pub(crate) fn doubles(&self, i: usize) -> Result<Float64Array> {
        Ok(self.array(i, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
    }

    pub(crate) fn booleans(&self, i: usize) -> Result<BooleanArray> {
        Ok(self.array(i, &DataType::Boolean)?.as_boolean().clone())
    }

    /// Dates as days since 1970.
    pub(crate) fn dates(&self, i: usize) -> Result<Int32Array> {
        let dates = self.array(i, &DataType::Date32)?;
        Ok(dates.as_primitive::<Date32Type>().reinterpret_cast())
    }

    /// Argument `i` as a type of times, each as microseconds since 1970.
    pub(crate) fn longs_of(&self, i: usize, times: &DataType) -> Result<Int64Array> {
        Ok(self.array(i, times)?.as_primitive::<TimestampMicrosecondType>().reinterpret_cast())
    }

    /// Instants as microseconds since 1970.
    pub(crate) fn timestamps(&self, i: usize) -> Result<Int64Array> {
        self.longs_of(i, &types::timestamp())
    }

    /// Evaluates another function over the arguments cast to `types`, the last of which stands for all that follow;
    /// the result is cast to this call's type.
    pub(crate) fn delegate(&self, to: &ScalarUDF, types: &[DataType]) -> Result<ArrayRef> {
        let wanted = |i: usize| types.get(i).or(types.last()).cloned().unwrap_or(DataType::Utf8);
        let argument = |i: usize| -> Result<ColumnarValue> {
            match &self.args.args[i] {
                ColumnarValue::Array(array) => {
                    cast::array(array, &wanted(i), Mode::Ansi, self.zone).map(ColumnarValue::Array)
                }
                ColumnarValue::Scalar(value) => {
                    let one = cast::array(&value.to_array()?, &wanted(i), Mode::Ansi, self.zone)?;
                    ScalarValue::try_from_array(&one, 0).map(ColumnarValue::Scalar)
                }
            }
        };
        let args = (0..self.len()).map(argument).collect::<Result<Vec<_>>>()?;
        let field = |arg: &ColumnarValue| Arc::new(Field::new("", arg.data_type(), true));
        let arg_fields: Vec<FieldRef> = args.iter().map(field).collect();
        let scalar = |arg: &ColumnarValue| match arg {
            ColumnarValue::Scalar(value) => Some(value.clone()),
            ColumnarValue::Array(_) => None,
        };
        let scalars: Vec<Option<ScalarValue>> = args.iter().map(scalar).collect();
        let scalar_arguments: Vec<Option<&ScalarValue>> = scalars.iter().map(Option::as_ref).collect();
        let return_field = to
            .return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &scalar_arguments })?;
        let config_options = Arc::clone(&self.args.config_options);
        let call = ScalarFunctionArgs { args, arg_fields, number_rows: self.rows, return_field, config_options };
        let result = to.invoke_with_args(call)?.to_array(self.rows)?;
        cast::array(&result, self.return_type(), Mode::Ansi, self.zone)
    }

    /// The text of argument `i` if it is constant: `Some(None)` is a NULL.
    pub(crate) fn constant_text(&self, i: usize) -> Option<Option<String>> {
        match self.args.args.get(i)? {
            ColumnarValue::Scalar(ScalarValue::Null) => Some(None),
            ColumnarValue::Scalar(value) => value.try_as_str().map(|text| text.map(str::to_owned)),
            ColumnarValue::Array(_) => None,
        }
    }
}

/// The session's zone; UTC if none is set.
pub(crate) fn session_zone(name: Option<&str>) -> Result<Zone> {
    match name {
        None | Some("") => Ok(cast::UTC),
        Some(name) => {
            Zone::parse(name).map_or_else(|| plan_err!("[INVALID_TIMEZONE] the time zone '{name}' is not known"), Ok)
        }
    }
}

/// A constant result type, for the table.
macro_rules! returning {
    ($($name:ident => $data_type:expr),* $(,)?) => {
        $(pub(crate) fn $name(_: &Arguments<'_>) -> Result<DataType> {
            Ok($data_type)
        })*
    };
}

returning! {
    string => DataType::Utf8,
    binary => DataType::Binary,
    boolean => DataType::Boolean,
    int => DataType::Int32,
    long => DataType::Int64,
    double => DataType::Float64,
    date => DataType::Date32,
    timestamp => types::timestamp(),
    timestamp_ntz => types::timestamp_ntz(),
    strings => types::list(DataType::Utf8),
}

/// The type of the first argument.
pub(crate) fn first(arguments: &Arguments<'_>) -> Result<DataType> {
    Ok(arguments.of(0))
}

/// Computes a column row by row where no argument is NULL; the body gives `Result<Option<_>>`.
macro_rules! each {
    ($rows:expr, ($($name:ident = $array:expr),+) => $body:expr) => {{
        let rows = $rows;
        let arrays = ($(&$array,)+);
        #[allow(non_snake_case, reason = "the arrays take the names of their values")]
        let compute = |row: usize| -> datafusion::common::Result<Option<_>> {
            let ($($name,)+) = arrays;
            if $(arrow::array::Array::is_null($name, row))||+ {
                return Ok(None);
            }
            $(let $name = $name.value(row);)+
            $body
        };
        (0..rows).map(compute).collect::<datafusion::common::Result<_>>()
    }};
}

pub(super) use each;
