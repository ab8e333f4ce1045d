//! Operators with Spark's types: asked by DataFusion's planner for each one, when the types of its sides are known.
//!
//! ```text
//!   1 / 2            divide(1, 2)          DOUBLE 0.5, fails for 2 = 0
//!   a + 1            add(a, 1)             fails on overflow
//!   a < '5'          a < cast('5', BIGINT) plain comparison of one type, which filters can be pushed by
//!   day + 1          date_add(day, 1)
//!   s.City, tags.k   get_field(s, 'City')  without regard to case
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema, Result, ScalarValue, TableReference};
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, ScalarUDF};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator};

use super::types;
use crate::plan::ddl;

/// Plans operators and types as Spark does.
#[derive(Debug)]
pub(crate) struct SparkPlanner {
    functions: std::collections::HashMap<String, Arc<ScalarUDF>>,
}

impl SparkPlanner {
    pub(crate) fn new(functions: &[Arc<ScalarUDF>]) -> Self {
        Self { functions: functions.iter().map(|f| (f.name().to_owned(), Arc::clone(f))).collect() }
    }

    fn call(&self, name: &str, args: Vec<Expr>) -> Result<Expr> {
        let function = self
            .functions
            .get(name)
            .ok_or_else(|| datafusion::common::internal_datafusion_err!("the function {name} is not in the table"))?;
        Ok(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args)))
    }

    fn cast(&self, expr: Expr, from: &DataType, to: &DataType) -> Result<Expr> {
        if from == to {
            return Ok(expr);
        }
        let to = Expr::Literal(ScalarValue::from(ddl::type_name(to)), None);
        self.call("cast", vec![expr, to])
    }

    fn arithmetic(&self, name: &str, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (Ok(left), Ok(right)) = (raw.left.get_type(schema), raw.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(raw));
        };
        let planned = match (name, &left, &right) {
            ("add", DataType::Date32, days) if types::is_integral(days) => {
                self.call("date_add", vec![raw.left, raw.right])?
            }
            ("add", days, DataType::Date32) if types::is_integral(days) => {
                self.call("date_add", vec![raw.right, raw.left])?
            }
            ("subtract", DataType::Date32, days) if types::is_integral(days) => {
                self.call("date_sub", vec![raw.left, raw.right])?
            }
            (_, DataType::Interval(_) | DataType::Duration(_), _)
            | (_, _, DataType::Interval(_) | DataType::Duration(_)) => return self.interval(name, raw, &left, &right),
            (_, a, b) if types::is_timestamp(a) || types::is_timestamp(b) => {
                return Ok(PlannerResult::Original(raw));
            }
            (_, DataType::Date32, DataType::Date32) => return Ok(PlannerResult::Original(raw)),
            _ => self.call(name, vec![raw.left, raw.right])?,
        };
        Ok(PlannerResult::Planned(planned))
    }

    /// A date and an interval of hours make an instant; a text beside an interval is one.
    fn interval(
        &self,
        name: &str,
        mut raw: RawBinaryExpr,
        left: &DataType,
        right: &DataType,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if !matches!(name, "add" | "subtract") {
            return Ok(PlannerResult::Original(raw));
        }
        let becomes_instant =
            |side: &DataType, other: &Expr| types::is_string(side) || (*side == DataType::Date32 && !whole_days(other));
        if becomes_instant(left, &raw.right) {
            raw.left = self.cast(raw.left, left, &types::timestamp())?;
        }
        if becomes_instant(right, &raw.left) {
            raw.right = self.cast(raw.right, right, &types::timestamp())?;
        }
        Ok(PlannerResult::Original(raw))
    }

    fn comparison(&self, op: Operator, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (Ok(left), Ok(right)) = (raw.left.get_type(schema), raw.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(raw));
        };
        let Some(common) = types::common(&left, &right) else { return Ok(PlannerResult::Original(raw)) };
        if matches!(common, DataType::Null | DataType::Interval(_) | DataType::Duration(_)) {
            return Ok(PlannerResult::Original(raw));
        }
        let left = Box::new(self.cast(raw.left, &left, &common)?);
        let right = Box::new(self.cast(raw.right, &right, &common)?);
        Ok(PlannerResult::Planned(Expr::BinaryExpr(BinaryExpr { left, op, right })))
    }
}

/// Whether an interval has no part of a day.
fn whole_days(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.nanoseconds == 0)
}

impl ExprPlanner for SparkPlanner {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let comparison = match raw.op {
            BinaryOperator::Plus => return self.arithmetic("add", raw, schema),
            BinaryOperator::Minus => return self.arithmetic("subtract", raw, schema),
            BinaryOperator::Multiply => return self.arithmetic("multiply", raw, schema),
            BinaryOperator::Divide => return self.arithmetic("divide", raw, schema),
            BinaryOperator::Modulo => return self.arithmetic("remainder", raw, schema),
            BinaryOperator::MyIntegerDivide => return self.arithmetic("integral_divide", raw, schema),
            BinaryOperator::StringConcat => {
                return self.call("concat", vec![raw.left, raw.right]).map(PlannerResult::Planned);
            }
            BinaryOperator::Eq => Operator::Eq,
            BinaryOperator::NotEq => Operator::NotEq,
            BinaryOperator::Lt => Operator::Lt,
            BinaryOperator::LtEq => Operator::LtEq,
            BinaryOperator::Gt => Operator::Gt,
            BinaryOperator::GtEq => Operator::GtEq,
            BinaryOperator::Spaceship => Operator::IsNotDistinctFrom,
            _ => return Ok(PlannerResult::Original(raw)),
        };
        self.comparison(comparison, raw, schema)
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let column = Expr::Column(Column::from((qualifier, &Arc::new(field.clone()))));
        let access = |expr, name: &String| {
            self.call("get_field", vec![expr, Expr::Literal(ScalarValue::from(name.as_str()), None)])
        };
        nested_names.iter().try_fold(column, access).map(PlannerResult::Planned)
    }
}

/// Types in DDL inside queries.
#[derive(Debug)]
pub(crate) struct SparkTypes;

impl TypePlanner for SparkTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        Ok(types::from_ast(sql_type).ok().map(|data_type| Arc::new(Field::new("", data_type, true))))
    }
}
