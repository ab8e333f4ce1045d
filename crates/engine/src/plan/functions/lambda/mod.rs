//! Functions of functions: what a lambda makes of the elements of arrays and of the entries of maps.
//!
//! ```text
//!   rows        [a, b]   []   [c]
//!   elements     a  b          c       one evaluation of the lambda for all of them
//!   captured     0  0          2       the row whose other columns the lambda may read
//! ```
//!
//! `aggregate` goes through the lists in step: first the first elements of all of them, then the second ones, so that a
//! lambda is evaluated as often as the longest list is long. `array_sort` asks its comparator for one pair of each list at
//! a time. `exists` and `forall` are DataFusion's. How many parameters a lambda may have is checked in
//! [`calls`](super::calls), where the text is still there.

mod elements;
mod fold;
mod maps;
mod sort;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
    HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda, Volatility,
};

use super::nested::{element, gathered, map_data_type, map_types};
use super::{failure, types, udf};
use crate::plan::datetime_pattern::zone::Zone;
use elements::{Elements, evaluate};

/// The functions, by the names that calls of them are lowered to.
pub(super) fn functions() -> impl Iterator<Item = Arc<HigherOrderUDF>> {
    TABLE.iter().map(|(name, kind)| {
        let signature = HigherOrderSignature::variadic_any(Volatility::Immutable);
        Arc::new(HigherOrderUDF::new_from_impl(LambdaFunction { name, kind: *kind, signature }))
    })
}

const TABLE: [(&str, Kind); 9] = [
    ("transform", Kind::Transform),
    ("filter", Kind::Filter),
    ("zip_with", Kind::ZipWith),
    ("aggregate", Kind::Aggregate),
    // Without a lambda `array_sort` is an ordinary function.
    ("array_sort_by", Kind::Sort),
    ("map_filter", Kind::MapFilter),
    ("transform_keys", Kind::TransformKeys),
    ("transform_values", Kind::TransformValues),
    ("map_zip_with", Kind::MapZipWith),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Transform,
    Filter,
    ZipWith,
    Aggregate,
    Sort,
    MapFilter,
    TransformKeys,
    TransformValues,
    MapZipWith,
}

impl Kind {
    /// How many of the arguments are values and not lambdas.
    fn values(self) -> usize {
        match self {
            Self::ZipWith | Self::Aggregate | Self::MapZipWith => 2,
            _ => 1,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LambdaFunction {
    name: &'static str,
    kind: Kind,
    signature: HigherOrderSignature,
}

impl LambdaFunction {
    /// The types of the values, if there are as many as there must be, with lambdas after them.
    fn value_types<L>(&self, fields: &[ValueOrLambda<FieldRef, L>]) -> Result<Vec<DataType>> {
        let data_type = |field: &ValueOrLambda<FieldRef, L>| match field {
            ValueOrLambda::Value(field) => Some(field.data_type().clone()),
            ValueOrLambda::Lambda(_) => None,
        };
        let found: Vec<DataType> = fields.iter().map_while(data_type).collect();
        let lambdas = fields.len() - found.len();
        let are_lambdas = fields.iter().skip(found.len()).all(|field| data_type(field).is_none());
        let most = if self.kind == Kind::Aggregate { 2 } else { 1 };
        if found.len() == self.kind.values() && are_lambdas && (1..=most).contains(&lambdas) {
            return Ok(found);
        }
        let message = format!("`{}` takes {} values and a lambda after them", self.name, self.kind.values());
        Err(failure::plan("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", message))
    }

    /// The types of the parameters of each lambda.
    fn parameters(&self, values: &[DataType]) -> Result<Vec<Vec<DataType>>> {
        Ok(match self.kind {
            Kind::Transform | Kind::Filter => vec![vec![item(&values[0])?, DataType::Int32]],
            Kind::ZipWith => vec![vec![item(&values[0])?, item(&values[1])?]],
            Kind::Aggregate => vec![vec![values[1].clone(), item(&values[0])?], vec![values[1].clone()]],
            Kind::Sort => vec![vec![item(&values[0])?; 2]],
            Kind::MapFilter | Kind::TransformKeys | Kind::TransformValues => {
                let (key, value) = entry(&values[0])?;
                vec![vec![key, value]]
            }
            Kind::MapZipWith => {
                let ((key, first), (other, second)) = (entry(&values[0])?, entry(&values[1])?);
                let key =
                    types::common(&key, &other).ok_or_else(|| wrong("a map with keys of the same type", &other))?;
                vec![vec![key, first, second]]
            }
        })
    }

    fn returns(&self, values: &[DataType], lambdas: &[DataType]) -> Result<DataType> {
        let made = lambdas[0].clone();
        let boolean = |kept: DataType| match made {
            DataType::Boolean | DataType::Null => Ok(kept),
            ref other => Err(wrong("BOOLEAN, which the lambda has to give,", other)),
        };
        match self.kind {
            Kind::Transform | Kind::ZipWith => Ok(types::list(made)),
            Kind::Filter => boolean(types::list(item(&values[0])?)),
            Kind::MapFilter => boolean(values[0].clone()),
            Kind::Aggregate if types::simple_string(&made) != types::simple_string(&values[1]) => {
                let (start, made) = (types::simple_string(&values[1]), types::simple_string(&made));
                let message = format!("`aggregate` begins with {start} and its lambda gives {made}: cast one of them");
                Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", message))
            }
            Kind::Aggregate => Ok(lambdas.get(1).unwrap_or(&values[1]).clone()),
            Kind::Sort if made == DataType::Int32 => Ok(values[0].clone()),
            Kind::Sort => {
                let found = types::simple_string(&made);
                let message = format!("the comparator of array_sort gives {found}, expected int");
                Err(failure::plan("DATATYPE_MISMATCH.UNEXPECTED_RETURN_TYPE", message))
            }
            Kind::TransformKeys => Ok(map_data_type(made, entry(&values[0])?.1)),
            Kind::TransformValues => Ok(map_data_type(entry(&values[0])?.0, made)),
            Kind::MapZipWith => {
                let key = self.parameters(values)?.swap_remove(0).swap_remove(0);
                Ok(map_data_type(key, made))
            }
        }
    }
}

fn wrong(expected: &str, found: &DataType) -> DataFusionError {
    let found = types::simple_string(found);
    failure::plan("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE", format!("expected {expected} found {found}"))
}

/// The type of an array's elements.
fn item(list: &DataType) -> Result<DataType> {
    element(list).map(|field| field.data_type().clone()).ok_or_else(|| wrong("an array,", list))
}

/// The types of a map's keys and values.
fn entry(map: &DataType) -> Result<(DataType, DataType)> {
    match map {
        DataType::Map(..) => Ok(map_types(map)),
        other => Err(wrong("a map,", other)),
    }
}

impl HigherOrderUDFImpl for LambdaFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn lambda_parameters(
        &self,
        _: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let values = self.value_types(fields)?;
        let mut parameters = self.parameters(&values)?;
        parameters.truncate(fields.len() - values.len());
        let field = |data_type: DataType| Arc::new(Field::new("", data_type, true));
        let of_lambda = |types: Vec<DataType>| types.into_iter().map(field).collect();
        Ok(LambdaParametersProgress::Complete(parameters.into_iter().map(of_lambda).collect()))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs<'_>) -> Result<FieldRef> {
        let values = self.value_types(args.arg_fields)?;
        let lambda = |field: &ValueOrLambda<FieldRef, FieldRef>| match field {
            ValueOrLambda::Lambda(field) => Some(field.data_type().clone()),
            ValueOrLambda::Value(_) => None,
        };
        let lambdas: Vec<DataType> = args.arg_fields.iter().filter_map(lambda).collect();
        Ok(Arc::new(Field::new(self.name, self.returns(&values, &lambdas)?, true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let call = Call::new(args)?;
        let made = match self.kind {
            Kind::Transform => transform(&call),
            Kind::Filter => filter(&call),
            Kind::ZipWith => zip_with(&call),
            Kind::Aggregate => fold::aggregate(&call),
            Kind::Sort => sort::sort(&call),
            Kind::MapFilter => maps::filter(&call),
            Kind::TransformKeys => maps::transform_keys(&call),
            Kind::TransformValues => maps::transform_values(&call),
            Kind::MapZipWith => maps::zip_with(&call),
        };
        made.map(ColumnarValue::Array)
    }
}

/// One evaluation over a batch.
struct Call {
    values: Vec<ArrayRef>,
    lambdas: Vec<LambdaArgument>,
    rows: usize,
    return_type: DataType,
    zone: Zone,
}

impl Call {
    fn new(args: HigherOrderFunctionArgs) -> Result<Self> {
        let (rows, return_type) = (args.number_rows, args.return_type().clone());
        let zone = udf::session_zone(args.config_options.execution.time_zone.as_deref())?;
        let (mut values, mut lambdas) = (Vec::new(), Vec::new());
        for arg in args.args {
            match arg {
                ValueOrLambda::Value(value) => values.push(value.into_array(rows)?),
                ValueOrLambda::Lambda(lambda) => lambdas.push(lambda),
            }
        }
        Ok(Self { values, lambdas, rows, return_type, zone })
    }

    fn list(&self, at: usize) -> Result<&ListArray> {
        match self.values[at].as_list_opt::<i32>() {
            Some(list) => Ok(list),
            None => internal_err!("{} is no array", self.values[at].data_type()),
        }
    }
}

fn transform(call: &Call) -> Result<ArrayRef> {
    let lists = call.list(0)?;
    let elements = Elements::of_lists(lists);
    let made = evaluate(&call.lambdas[0], &[elements.take(lists.values())?, elements.indices()], &elements.rows)?;
    elements.list(made)
}

fn filter(call: &Call) -> Result<ArrayRef> {
    let lists = call.list(0)?;
    let elements = Elements::of_lists(lists);
    let kept = evaluate(&call.lambdas[0], &[elements.take(lists.values())?, elements.indices()], &elements.rows)?;
    gathered(lists.values(), &elements.kept(&kept)?)
}

/// The shorter of two arrays is filled up with NULLs.
fn zip_with(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (call.list(0)?, call.list(1)?);
    let length = |row: usize| {
        let both = left.is_valid(row) && right.is_valid(row);
        both.then(|| left.value_length(row).max(right.value_length(row)).unsigned_abs() as usize)
    };
    let elements = Elements::with_lengths((0..call.rows).map(length).collect());
    let sides = [left, right].map(|lists| elements.take_padded(lists));
    let [left, right] = sides;
    let made = evaluate(&call.lambdas[0], &[left?, right?], &elements.rows)?;
    elements.list(made)
}
