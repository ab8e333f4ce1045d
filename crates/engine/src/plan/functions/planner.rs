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

use super::literal::NumberLiteral;
use super::types;
use crate::plan::datetime_pattern::zone::Zone;
use crate::plan::ddl;

const DAY_NANOS: i64 = 86_400_000_000_000;

/// Plans operators and types as Spark does.
#[derive(Debug)]
pub(crate) struct SparkPlanner {
    /// Whether the session's clocks can jump, so that a day is not always 24 hours.
    clocks_jump: bool,
    functions: std::collections::HashMap<String, Arc<ScalarUDF>>,
}

impl SparkPlanner {
    pub(crate) fn new(functions: &[Arc<ScalarUDF>], zone: Zone) -> Self {
        let clocks_jump = !matches!(zone, Zone::Fixed(0) | Zone::Region(chrono_tz::UTC));
        Self { clocks_jump, functions: functions.iter().map(|f| (f.name().to_owned(), Arc::clone(f))).collect() }
    }

    fn call(&self, name: &str, args: Vec<Expr>) -> Result<Expr> {
        let args = args.into_iter().map(folded).collect();
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
            ("subtract", a, b) if is_time(a) && (is_time(b) || types::is_string(b)) => {
                self.call("time_difference", vec![raw.left, raw.right])?
            }
            (_, DataType::Decimal128(..), b) if types::is_integral(b) => {
                let right = self.decimal(raw.right, b)?;
                self.call(name, vec![raw.left, right])?
            }
            (_, a, DataType::Decimal128(..)) if types::is_integral(a) => {
                let left = self.decimal(raw.left, a)?;
                self.call(name, vec![left, raw.right])?
            }
            _ => self.call(name, vec![raw.left, raw.right])?,
        };
        Ok(PlannerResult::Planned(planned))
    }

    /// An integer beside a decimal: a constant counts only its own digits.
    fn decimal(&self, expr: Expr, from: &DataType) -> Result<Expr> {
        if let Expr::Literal(value, _) = &expr
            && let Ok(ScalarValue::Int64(Some(value))) = value.cast_to(&DataType::Int64)
        {
            let precision = types::digits(value.into()) as u8;
            return Ok(Expr::Literal(ScalarValue::Decimal128(Some(value.into()), precision, 0), None));
        }
        let (precision, scale) = types::as_decimal(from).unwrap_or((types::MAX_PRECISION, 0));
        self.cast(expr, from, &DataType::Decimal128(precision, scale))
    }

    /// A date and an interval of hours make an instant; a text beside an interval is one.
    fn interval(
        &self,
        name: &str,
        mut raw: RawBinaryExpr,
        left: &DataType,
        right: &DataType,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_interval = |side: &DataType| matches!(side, DataType::Interval(_));
        match name {
            "add" | "subtract" => {}
            "divide" => return self.call("divide_interval", vec![raw.left, raw.right]).map(PlannerResult::Planned),
            _ if is_interval(left) => {
                return self.call("multiply_interval", vec![raw.left, raw.right]).map(PlannerResult::Planned);
            }
            _ => return self.call("multiply_interval", vec![raw.right, raw.left]).map(PlannerResult::Planned),
        }
        let becomes_instant =
            |side: &DataType, other: &Expr| types::is_string(side) || (*side == DataType::Date32 && !whole_days(other));
        if becomes_instant(left, &raw.right) {
            raw.left = self.cast(raw.left, left, &types::timestamp())?;
        }
        if becomes_instant(right, &raw.left) {
            raw.right = self.cast(raw.right, right, &types::timestamp())?;
        }
        let is_moved = types::is_timestamp(left) || becomes_instant(left, &raw.right);
        if self.clocks_jump && is_moved && !within_a_day(&raw.right) {
            let back = Expr::Literal(ScalarValue::from(name == "subtract"), None);
            return self.call("move_time", vec![raw.left, raw.right, back]).map(PlannerResult::Planned);
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

fn is_time(data_type: &DataType) -> bool {
    *data_type == DataType::Date32 || types::is_timestamp(data_type)
}

/// Whether an interval is a constant of less than a day, which is the same on all clocks.
fn within_a_day(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _)
        if interval.months == 0 && interval.days == 0 && interval.nanoseconds.abs() < DAY_NANOS)
}

/// Whether an interval has no part of a day, or is one of the calendar, to which a date is added as a date.
fn whole_days(expr: &Expr) -> bool {
    if let Expr::ScalarFunction(call) = expr {
        return matches!(call.name(), "make_interval" | "try_make_interval" | "make_ym_interval");
    }
    matches!(expr, Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.nanoseconds % DAY_NANOS == 0)
}

/// A literal that is written as a call, as a literal: the types of operators depend on constants.
fn folded(expr: Expr) -> Expr {
    if let Expr::ScalarFunction(function) = &expr
        && function.name() == "typed_literal"
        && let [Expr::Literal(text, _)] = function.args.as_slice()
        && let Some(number) = text.try_as_str().flatten().and_then(NumberLiteral::parse)
    {
        return Expr::Literal(number.scalar(), None);
    }
    expr
}

impl ExprPlanner for SparkPlanner {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let raw = RawBinaryExpr { op: raw.op, left: folded(raw.left), right: folded(raw.right) };
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
