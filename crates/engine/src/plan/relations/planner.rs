//! The plans of our relations: what is below is planned first, so that its columns and their types are known.

use std::sync::Arc;

use arrow::datatypes::{DataType, Fields};
use datafusion::common::{
    Column, DataFusionError, ExprSchema, Result, ScalarValue, TableReference, UnnestOptions, plan_err,
};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias, TableAlias, TableFactor};

use crate::error::EngineError;
use crate::plan::ddl;
use crate::plan::functions::{failure, table, types};
use crate::plan::logical::is_streaming;

/// Each row with the rows that a generator makes of it.
pub(super) const GENERATE: &str = "(generate)";
/// Columns that are taken apart at their place.
pub(super) const EXPAND: &str = "(expand)";
/// The rows of two relations, each once.
pub(super) const UNION: &str = "(union)";
/// The rows of two relations.
pub(super) const UNION_ALL: &str = "(union all)";
/// The rows of one relation, less as many copies of each as another has.
pub(super) const EXCEPT_ALL: &str = "(except all)";
/// As many copies of each row as both relations have.
pub(super) const INTERSECT_ALL: &str = "(intersect all)";

/// Which of the copies of a row it is.
const COPY: &str = "(copy)";

/// The array of rows, until it is taken apart.
const ROWS: &str = "(rows)";

/// Plans our relations.
#[derive(Debug)]
pub(crate) struct SparkRelations;

impl RelationPlanner for SparkRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Unpivot { table, value, name, columns, alias, .. } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(*table)?;
        let (plan, alias) = match name.value.as_str() {
            GENERATE => (generate(input, value, alias, &columns, context)?, None),
            EXPAND => (expand(input, &columns)?, alias),
            kind @ (UNION | UNION_ALL | EXCEPT_ALL | INTERSECT_ALL) => {
                let Some(ExprWithAlias { expr: SqlExpr::Subquery(right), .. }) = columns.into_iter().next() else {
                    return plan_err!("a set operation has two sides");
                };
                let right = TableFactor::Derived { lateral: false, subquery: right, alias: None, sample: None };
                let right = context.plan(right)?;
                (of_two(kind, input, right)?, alias)
            }
            _ => return plan_err!("UNPIVOT is not supported"),
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn function(name: &str) -> Result<Arc<ScalarUDF>> {
    table::find(name)
        .ok_or_else(|| datafusion::common::internal_datafusion_err!("the function {name} is not in the table"))
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().iter().map(|column| Expr::Column(Column::from(column))).collect()
}

fn generate(
    input: LogicalPlan,
    call: SqlExpr,
    alias: Option<TableAlias>,
    names: &[ExprWithAlias],
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let names: Vec<String> = names.iter().map(|name| identifier(&name.expr)).collect();
    let qualifier = alias.map(|alias| TableReference::bare(alias.name.value));
    let rows = context.sql_to_expr(call, input.schema())?;
    let below = columns_of(&input);
    let mut with_rows = below.clone();
    with_rows.push(rows.alias(ROWS));
    let plan = LogicalPlanBuilder::from(input).project(with_rows)?.build()?;
    let plan = unnested(plan, &Column::from_name(ROWS))?;
    let made = fields(&plan, &Column::from_name(ROWS), &names, qualifier.as_ref())?;
    LogicalPlanBuilder::from(plan).project(below.into_iter().chain(made))?.build()
}

fn unnested(plan: LogicalPlan, column: &Column) -> Result<LogicalPlan> {
    let options = UnnestOptions::new().with_preserve_nulls(false);
    LogicalPlanBuilder::from(plan).unnest_columns_with_options(vec![column.clone()], options)?.build()
}

/// The fields of a struct column, under other names if there are any.
fn fields(
    plan: &LogicalPlan,
    column: &Column,
    names: &[String],
    qualifier: Option<&TableReference>,
) -> Result<Vec<Expr>> {
    let found = plan.schema().field_from_column(column)?.data_type().clone();
    let DataType::Struct(fields) = &found else {
        let found = ddl::type_name(&found);
        return Err(failure::plan("DATATYPE_MISMATCH", format!("`.*` stands after a struct, found {found}")));
    };
    check_count(fields, names)?;
    let get_field = function("get_field")?;
    let field = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| {
        let place = Expr::Literal(ScalarValue::from(field.name().as_str()), None);
        let name = names.get(at).unwrap_or(field.name()).clone();
        get_field.call(vec![Expr::Column(column.clone()), place]).alias_qualified(qualifier.cloned(), name)
    };
    Ok(fields.iter().enumerate().map(field).collect())
}

fn check_count(fields: &Fields, names: &[String]) -> Result<(), DataFusionError> {
    if names.is_empty() || names.len() == fields.len() {
        return Ok(());
    }
    let (expected, found) = (fields.len(), names.len());
    Err(failure::plan(
        "UDTF_ALIAS_NUMBER_MISMATCH",
        format!("the function makes {expected} columns, found {found} names: {}", names.join(", ")),
    ))
}

fn identifier(expr: &SqlExpr) -> String {
    match expr {
        SqlExpr::Identifier(ident) => ident.value.clone(),
        other => other.to_string(),
    }
}

/// Takes columns apart where they stand: arrays of rows into rows, structs into their fields.
fn expand(mut plan: LogicalPlan, columns: &[ExprWithAlias]) -> Result<LogicalPlan> {
    let mut names: Vec<(Column, Vec<String>)> = Vec::new();
    for column in columns {
        let SqlExpr::Tuple(parts) = &column.expr else { return plan_err!("an expanded column has a name") };
        let Some((column, aliases)) = parts.split_first() else { return plan_err!("an expanded column has a name") };
        names.push((Column::from_name(identifier(column)), aliases.iter().map(identifier).collect()));
    }
    for (column, _) in &names {
        if matches!(plan.schema().field_from_column(column)?.data_type(), DataType::List(_)) {
            plan = unnested(plan, column)?;
        }
    }
    // Fields may be called as other columns are.
    let qualifier = TableReference::bare(ROWS);
    let mut out = Vec::new();
    for (relation, field) in plan.schema().iter() {
        match names.iter().find(|(column, _)| relation.is_none() && column.name() == field.name()) {
            Some((column, aliases)) => out.extend(fields(&plan, column, aliases, Some(&qualifier))?),
            None => out.push(Expr::Column(Column::from((relation, field)))),
        }
    }
    LogicalPlanBuilder::from(plan).project(out)?.build()
}

/// What is made of two relations.
fn of_two(kind: &str, left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
    let name = kind.trim_matches(['(', ')']).to_uppercase();
    let (left, right) = alike(&name, left, right)?;
    match kind {
        UNION => LogicalPlanBuilder::from(left).union(right)?.distinct()?.build(),
        UNION_ALL => LogicalPlanBuilder::from(left).union(right)?.build(),
        _ if is_streaming(&left) || is_streaming(&right) => Err(DataFusionError::External(Box::new(
            EngineError::query(format!("{name} is not possible with a stream: how often a row comes is never final"))
                .help("leave ALL out, or write the stream to a table first"),
        ))),
        _ => by_copy(kind, left, right),
    }
}

/// Counts the copies of each row on both sides, so that no two rows of one side are equal any more.
fn by_copy(kind: &str, left: LogicalPlan, right: LogicalPlan) -> Result<LogicalPlan> {
    let columns = left.schema().fields().len();
    let (left, right) = (with_copy_number(left)?, with_copy_number(right)?);
    let rows = match kind {
        EXCEPT_ALL => LogicalPlanBuilder::except(left, right, false)?,
        _ => LogicalPlanBuilder::intersect(left, right, false)?,
    };
    let shown: Vec<Expr> = columns_of(&rows).into_iter().take(columns).collect();
    LogicalPlanBuilder::from(rows).project(shown)?.build()
}

fn with_copy_number(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut number = WindowFunction::new(row_number_udwf(), Vec::new());
    number.params.partition_by = columns_of(&plan);
    let numbered = LogicalPlanBuilder::from(plan).window([Expr::WindowFunction(Box::new(number))])?.build()?;
    let mut columns = columns_of(&numbered);
    if let Some(number) = columns.pop() {
        columns.push(number.alias(COPY));
    }
    LogicalPlanBuilder::from(numbered).project(columns)?.build()
}

/// Both sides brought to types that hold the values of either, under the names of the first.
fn alike(name: &str, left: LogicalPlan, right: LogicalPlan) -> Result<(LogicalPlan, LogicalPlan)> {
    let (first, second) = (left.schema().fields().clone(), right.schema().fields().clone());
    if first.len() != second.len() {
        return Err(failure::plan(
            "NUM_COLUMNS_MISMATCH",
            format!("{name} takes sides of equally many columns, found {} and {}", first.len(), second.len()),
        ));
    }
    let wide = |(a, b): (&Arc<arrow::datatypes::Field>, &Arc<arrow::datatypes::Field>)| {
        types::common(a.data_type(), b.data_type()).ok_or_else(|| {
            let (found, other) = (ddl::type_name(a.data_type()), ddl::type_name(b.data_type()));
            failure::plan(
                "INCOMPATIBLE_COLUMN_TYPE",
                format!("the column '{}' of a {name} is {found} on one side and {other} on the other", a.name()),
            )
        })
    };
    let wide: Vec<DataType> = first.iter().zip(&second).map(wide).collect::<Result<_>>()?;
    let names: Vec<&str> = first.iter().map(|field| field.name().as_str()).collect();
    Ok((widened(left, &wide, &names)?, widened(right, &wide, &names)?))
}

fn widened(plan: LogicalPlan, types: &[DataType], names: &[&str]) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    let mut fields = schema.fields().iter().zip(types.iter().zip(names));
    if fields.all(|(field, (data_type, name))| field.data_type() == data_type && field.name() == *name) {
        return Ok(plan);
    }
    let cast = table::cast_function();
    let column = |((column, field), (data_type, name)): ((Expr, _), (&DataType, &&str))| {
        let field: &Arc<arrow::datatypes::Field> = field;
        let expr = match field.data_type() == data_type {
            true => column,
            false => cast.call(vec![column, Expr::Literal(ScalarValue::from(ddl::type_name(data_type)), None)]),
        };
        expr.alias(*name)
    };
    let columns = columns_of(&plan);
    let exprs: Vec<Expr> = columns.into_iter().zip(schema.fields()).zip(types.iter().zip(names)).map(column).collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}
