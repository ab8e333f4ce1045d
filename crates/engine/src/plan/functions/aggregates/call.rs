//! One call of an aggregate: the types of its arguments and the values of those that are constant.

use std::any::Any;
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;

use crate::error::{EngineError, Result};

/// A call as it was planned.
pub(crate) struct Call {
    types: Vec<DataType>,
    constants: Vec<Option<ScalarValue>>,
    pub(crate) is_distinct: bool,
    /// Only types are asked for: constants are not known yet, and any will do.
    only_types: bool,
}

impl Call {
    pub(super) fn of(args: &[Arc<dyn PhysicalExpr>], types: &[DataType], is_distinct: bool) -> Self {
        let constant = |arg: &Arc<dyn PhysicalExpr>| {
            let any: &dyn Any = arg.as_ref();
            any.downcast_ref::<Literal>().map(|literal| literal.value().clone())
        };
        Self { types: types.to_vec(), constants: args.iter().map(constant).collect(), is_distinct, only_types: false }
    }

    pub(crate) fn planned(function: &AggregateFunctionExpr, types: &[DataType]) -> Self {
        Self::of(&function.expressions(), types, function.is_distinct())
    }

    /// A call as it was written down.
    pub(crate) fn stored(types: Vec<DataType>, constants: Vec<Option<ScalarValue>>, is_distinct: bool) -> Self {
        Self { types, constants, is_distinct, only_types: false }
    }

    pub(super) fn of_types(types: &[DataType], is_distinct: bool) -> Self {
        Self { types: types.to_vec(), constants: Vec::new(), is_distinct, only_types: true }
    }

    /// The constants with their places.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (usize, &ScalarValue)> {
        self.constants.iter().enumerate().filter_map(|(at, value)| Some((at, value.as_ref()?)))
    }

    pub(super) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The type of argument `at`.
    pub(super) fn of_arg(&self, at: usize) -> DataType {
        self.types.get(at).cloned().unwrap_or(DataType::Null)
    }

    /// Constant `at`, counted from the end; NULL is an answer.
    fn constant(&self, from_end: usize, what: &str) -> Result<ScalarValue> {
        let at = self.types.len() - from_end;
        self.constants.get(at).cloned().flatten().ok_or_else(|| {
            EngineError::query(format!("[DATATYPE_MISMATCH.NON_FOLDABLE_INPUT] {what} is not constant"))
                .help("give a literal, or an expression of literals")
        })
    }

    fn present(&self, from_end: usize, what: &str) -> Result<ScalarValue> {
        let value = self.constant(from_end, what)?;
        if value.is_null() {
            return Err(EngineError::query(format!("[DATATYPE_MISMATCH.UNEXPECTED_NULL] {what} is NULL")));
        }
        Ok(value)
    }

    /// A text that the lowering put there.
    pub(super) fn word(&self, from_end: usize) -> Result<String> {
        if self.only_types {
            return Ok(String::new());
        }
        Ok(self.constant(from_end, "an option")?.try_as_str().flatten().unwrap_or_default().to_owned())
    }

    /// Text or bytes; NULL is empty.
    pub(super) fn bytes(&self, from_end: usize, what: &str) -> Result<Vec<u8>> {
        if self.only_types {
            return Ok(Vec::new());
        }
        Ok(match self.constant(from_end, what)? {
            ScalarValue::Binary(bytes) => bytes.unwrap_or_default(),
            other => other.try_as_str().flatten().unwrap_or_default().as_bytes().to_vec(),
        })
    }

    /// A whole number of a range.
    pub(super) fn int(&self, from_end: usize, what: &str, (least, most): (i64, i64)) -> Result<i64> {
        if self.only_types {
            return Ok(least);
        }
        let value = self.present(from_end, what)?;
        match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(number))) if (least..=most).contains(&number) => Ok(number),
            _ => Err(out_of_range(what, &value, &format!("{least} to {most}"))),
        }
    }

    /// A double.
    pub(super) fn double(&self, from_end: usize, what: &str) -> Result<f64> {
        if self.only_types {
            return Ok(0.25);
        }
        let value = self.present(from_end, what)?;
        double_of(&value).ok_or_else(|| out_of_range(what, &value, "a number"))
    }

    /// A fraction or an array of them, and whether it is an array.
    pub(super) fn fractions(&self, from_end: usize) -> Result<(Vec<f64>, bool)> {
        let is_list = matches!(self.types.get(self.types.len() - from_end), Some(DataType::List(_)));
        if self.only_types {
            return Ok((vec![0.5], is_list));
        }
        const WHAT: &str = "the percentage";
        let value = self.present(from_end, WHAT)?;
        let items = match &value {
            ScalarValue::List(list) => {
                let items = list.value(0);
                (0..items.len()).map(|at| Ok(ScalarValue::try_from_array(&items, at)?)).collect::<Result<Vec<_>>>()?
            }
            one => vec![one.clone()],
        };
        let fraction = |item: &ScalarValue| {
            double_of(item)
                .filter(|fraction| (0.0..=1.0).contains(fraction))
                .ok_or_else(|| out_of_range(WHAT, item, "0.0 to 1.0"))
        };
        Ok((items.iter().map(fraction).collect::<Result<_>>()?, is_list))
    }
}

fn double_of(value: &ScalarValue) -> Option<f64> {
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => number,
        _ => None,
    }
}

pub(super) fn out_of_range(what: &str, value: &ScalarValue, range: &str) -> EngineError {
    EngineError::query(format!("[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] {what} is {value}, which is not {range}"))
}
