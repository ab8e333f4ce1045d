//! The first rows of each partition: a filter that bounds `row_number()`, `rank()` or `dense_rank()` from above.
//!
//! ```text
//!   Filter: row_number() <= 3          ──> one operator that keeps three rows of each partition
//!     Window: row_number() PARTITION BY k ORDER BY ts DESC
//! ```
//!
//! The optimiser brings the filter down to the window; that is where it is recognised, on optimised plans only.
//! `DISTINCT ON (k) ... ORDER BY k, ts DESC` is written as such a filter before. In output mode update the rows of a
//! partition are told apart by their places, so what would take a place away, or hide what tells them apart, is refused.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable, Filter, LogicalPlan, Operator, Projection, Window, WindowFunctionDefinition,
};

use super::compiler::{Compiler, key_name, prepend};
use super::event_time::{event_times, is_event_time};
use super::key_columns::without_casts;
use super::row_ids::RowIdsNode;
use super::{StageOutput, nullable, unqualified};
use crate::error::{EngineError, Result};
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::state_table::shown_name;
use crate::operator::stateless::Step;
use crate::operator::top::{OrderKey, Ranking, TopSpec};
use crate::plan::distinct_on::first_rows;
use crate::plan::logical::is_streaming;
use crate::plan::window::window_end;
use crate::sink::OutputMode;

/// A filter and its window, understood.
pub(super) struct Top<'a> {
    pub(super) filter: &'a Filter,
    /// What the optimiser has put between the two.
    projection: Option<&'a Projection>,
    window: &'a Window,
    /// What the window is over.
    pub(super) input: &'a LogicalPlan,
    pub(super) partition: Vec<Expr>,
    order: Vec<Sort>,
    ranking: Ranking,
    /// The last number that passes the filter.
    limit: u64,
    number: Number<'a>,
}

impl<'a> Top<'a> {
    /// What a node of an optimised plan takes of each partition of a stream.
    pub(super) fn of(plan: &'a LogicalPlan) -> Option<Self> {
        let LogicalPlan::Filter(filter) = plan else { return None };
        let (projection, window) = window_below(filter)?;
        let [function] = window.window_expr.as_slice() else { return None };
        let Expr::WindowFunction(function) = function.clone().unalias() else { return None };
        let WindowFunction { fun: WindowFunctionDefinition::WindowUDF(udf), params } = *function else { return None };
        let ranking = Ranking::of(udf.name())?;
        // Without an order all rows have rank 1.
        if ranking != Ranking::RowNumber && params.order_by.is_empty() {
            return None;
        }
        let columns = window.schema.fields().len() - 1;
        let number = Number { name: window.schema.field(columns).name(), projection };
        let limit = split_conjunction(&filter.predicate).into_iter().filter_map(|part| number.last(part)).min()?;
        if columns == 0 || !is_streaming(&window.input) {
            return None;
        }
        let (partition, order) = (params.partition_by, params.order_by);
        Some(Self { filter, projection, window, input: &window.input, partition, order, ranking, limit, number })
    }

    /// The topmost one that gives the rows of a plan, below projections alone.
    fn at_root(plan: &'a LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::Projection(projection) => Self::at_root(&projection.input),
            LogicalPlan::SubqueryAlias(alias) => Self::at_root(&alias.input),
            other => match RowIdsNode::of(other) {
                Some(node) => Self::at_root(&node.input),
                None => Self::of(other),
            },
        }
    }

    /// What happens to its rows behind the window that numbers them, when they are given and when they are taken back.
    pub(super) fn expressions_after(&self) -> impl Iterator<Item = &Expr> {
        let projected = self.projection.into_iter().flat_map(|projection| &projection.expr);
        projected.chain([&self.filter.predicate])
    }

    /// How many columns tell its rows apart.
    fn keys(&self) -> usize {
        self.partition.len() + usize::from(self.has_number_as_key())
    }

    /// Whether the number tells rows apart: where there is one row for each partition, that does.
    fn has_number_as_key(&self) -> bool {
        self.limit > 1 || self.partition.is_empty()
    }

    /// Whether a number is a place, which is one row's.
    pub(super) fn is_by_place(&self) -> bool {
        self.ranking == Ranking::RowNumber
    }

    /// Whether a condition is about the number of a row and nothing else.
    pub(super) fn is_about_number_alone(&self, condition: &Expr) -> bool {
        condition.column_refs().iter().all(|column| self.number.is_named(&column.name))
    }

    /// The columns that tell its rows apart, by place and name; a partition that is no column is not among them.
    pub(super) fn key_names(&self) -> Vec<(usize, String)> {
        let fields = self.filter.input.schema().fields();
        let is_only_one = |name: &str| fields.iter().filter(|field| field.name() == name).count() == 1;
        let name = |(at, expr): (usize, &Expr)| match expr {
            Expr::Column(column) if is_only_one(&column.name) => Some((at, column.name.clone())),
            _ => None,
        };
        let mut names: Vec<(usize, String)> = self.partition.iter().enumerate().filter_map(name).collect();
        let numbers = fields
            .iter()
            .map(|field| field.name())
            .filter(|name| self.has_number_as_key() && self.number.is_named(name));
        names.extend(numbers.map(|name| (self.partition.len(), name.clone())));
        names
    }
}

/// The column of the numbers that a window gives.
#[derive(Clone, Copy)]
struct Number<'a> {
    name: &'a str,
    /// What the optimiser has put between the window and its filter.
    projection: Option<&'a Projection>,
}

impl Number<'_> {
    /// Whether a column that the filter sees is the number.
    fn is_named(&self, name: &str) -> bool {
        let Some(projection) = self.projection else { return name == self.name };
        let mut columns = projection.expr.iter().zip(projection.schema.fields());
        let found = columns.find(|(_, field)| field.name() == name);
        matches!(found.map(|(expr, _)| without_casts(expr)), Some(Expr::Column(column)) if column.name == self.name)
    }

    fn is(&self, expr: &Expr) -> bool {
        matches!(without_casts(expr), Expr::Column(column) if self.is_named(&column.name))
    }

    /// The largest number for which a condition can be true, if it says.
    fn last(&self, condition: &Expr) -> Option<u64> {
        match condition {
            Expr::BinaryExpr(binary) => {
                let (operator, value) = if self.is(&binary.left) {
                    (binary.op, value_of(&binary.right)?)
                } else if self.is(&binary.right) {
                    (binary.op.swap()?, value_of(&binary.left)?)
                } else {
                    return None;
                };
                match operator {
                    Operator::LtEq | Operator::Eq => Some(value),
                    Operator::Lt => Some(value.saturating_sub(1)),
                    _ => None,
                }
            }
            Expr::Between(between) if !between.negated && self.is(&between.expr) => value_of(&between.high),
            Expr::InList(list) if !list.negated && self.is(&list.expr) => {
                list.list.iter().map(value_of).collect::<Option<Vec<u64>>>()?.into_iter().max()
            }
            _ => None,
        }
    }
}

/// The window under a filter, and what the optimiser has put between them: columns, or a cast that is used twice.
fn window_below(filter: &Filter) -> Option<(Option<&Projection>, &Window)> {
    match filter.input.as_ref() {
        LogicalPlan::Window(window) => Some((None, window)),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::Window(window) => Some((Some(projection), window)),
            _ => None,
        },
        _ => None,
    }
}

/// A constant; what is below nothing is nothing.
fn value_of(expr: &Expr) -> Option<u64> {
    let Expr::Literal(value, _) = expr else { return None };
    let ScalarValue::Int64(Some(value)) = value.cast_to(&DataType::Int64).ok()? else { return None };
    Some(u64::try_from(value).unwrap_or(0))
}

/// The topmost one of a plan whose rows come out of the query: those that a GROUP BY reads do not.
fn topmost(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    if Top::of(plan).is_some() {
        return Some(plan);
    }
    if let LogicalPlan::Aggregate(_) = plan {
        return None;
    }
    plan.inputs().into_iter().find_map(topmost)
}

/// The columns that tell the rows of a plan apart, if it gives the first rows of partitions.
pub(super) fn key_names(plan: &LogicalPlan) -> Option<Vec<(usize, String)>> {
    Some(Top::at_root(plan)?.key_names())
}

/// Refuses a plan whose rows could not be replaced by `keys`, those of its columns that tell them apart.
pub(super) fn check_update(plan: &LogicalPlan, keys: &[String]) -> Result<()> {
    let Some(top) = topmost(plan).and_then(Top::of) else { return Ok(()) };
    let mut conditions = split_conjunction(&top.filter.predicate).into_iter();
    let other = conditions.find(|part| !top.is_about_number_alone(part));
    if let Some(other) = other {
        return Err(EngineError::query(format!(
            "output mode update is not possible with the condition {} beside the one on the number of a row: a row that \
             does not meet it would stay in the target when it takes the place of one that does",
            shown_name(&other.human_display().to_string())
        ))
        .help("put it into the inner query, so that it chooses before rows are numbered, or use output mode complete"));
    }
    if Top::at_root(plan).is_none() {
        return Err(EngineError::query(
            "output mode update is only possible if nothing but a SELECT list stands above the first rows of each partition",
        )
        .help("write them to a streaming table and read that in a second query, or use output mode complete"));
    }
    if top.ranking != Ranking::RowNumber {
        return Err(EngineError::query(
            "output mode update is not possible for rank() and dense_rank(): several rows may have the same number, so that \
             nothing tells which of them is replaced",
        )
        .help("use row_number(), or output mode complete"));
    }
    if keys.len() == top.keys() {
        return Ok(());
    }
    let partition = top.partition.iter().map(|expr| shown_name(&key_name(expr)));
    let number = top.has_number_as_key().then(|| "the number".to_owned());
    let names: Vec<String> = partition.chain(number).collect();
    Err(EngineError::query(format!("output mode update needs the columns that tell rows apart: {}", names.join(", ")))
        .help("select them all; give an expression in PARTITION BY a name in the inner query and partition by that"))
}

impl Compiler {
    /// A filter, and with it the window below if it bounds that.
    pub(super) fn filtered(&mut self, filter: &Filter, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        let steps = prepend(self.filter(filter)?, steps);
        let plan = LogicalPlan::Filter(filter.clone());
        match Top::of(&plan) {
            Some(top) => self.top(&top, steps, output),
            None => self.node(&filter.input, steps, output),
        }
    }

    fn top(&mut self, top: &Top<'_>, mut steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        if let Some(projection) = top.projection {
            steps = prepend(self.project(projection)?, steps);
        }
        let schema = top.input.schema();
        let times = event_times(top.input);
        let time = top.partition.iter().find(|expr| is_event_time(expr, top.input, &times));
        // In complete mode every row counts, however late, and no partition is ever final.
        let time = time.filter(|_| self.output_mode != OutputMode::Complete);
        if time.is_none() && self.output_mode == OutputMode::Append {
            return Err(never_final(&top.partition));
        }
        let bucket = match time {
            None => Bucketing::None,
            Some(time) => {
                let is_window = matches!(time.get_type(schema)?, DataType::Struct(_));
                let time = if is_window { window_end(time.clone()) } else { time.clone() };
                Bucketing::Instant { time: self.physical(&time, schema)? }
            }
        };
        let (mut columns, mut order) = (self.columns(schema)?, Vec::new());
        for key in &top.order {
            let data_type = key.expr.get_type(schema)?;
            let options = SortOptions { descending: !key.asc, nulls_first: key.nulls_first };
            order.push(OrderKey { name: key_name(&key.expr), data_type, options });
            columns.push(self.physical(&key.expr, schema)?);
        }
        let input = InputSpec {
            keys: top.partition.iter().map(|expr| self.physical(expr, schema)).collect::<Result<_>>()?,
            key_types: top.partition.iter().map(|expr| Ok(expr.get_type(schema)?)).collect::<Result<_>>()?,
            key_names: top.partition.iter().map(key_name).collect(),
            has_watermark: time.is_some(),
            bucket,
            columns,
        };
        let spec = TopSpec {
            id: self.name("top"),
            input: Arc::new(input),
            schema: Arc::new(nullable(&unqualified(&top.window.schema))),
            order,
            ranking: top.ranking,
            limit: top.limit,
            output_mode: self.output_mode,
            tells: self.tells(output),
        };
        self.operator(Arc::new(spec), steps, output, &[top.input])
    }
}

fn never_final(partition: &[Expr]) -> EngineError {
    let names: Vec<String> = partition.iter().map(key_name).collect();
    let of = if names.is_empty() { "all rows".to_owned() } else { format!("each {}", names.join(", ")) };
    EngineError::query(format!(
        "append output mode is not possible for the first rows of {of}: a row that comes later may take their place"
    ))
    .help("use output mode update or complete, or put a window of event time into PARTITION BY")
}

/// Writes `DISTINCT ON (k) ... ORDER BY k, ts DESC` over a stream as the first row of each `k`.
pub(super) fn of_distinct_on(plan: LogicalPlan) -> Result<LogicalPlan> {
    let written = plan.transform_up(|node| match &node {
        LogicalPlan::Distinct(Distinct::On(distinct)) if is_streaming(&node) => {
            let sort = distinct.sort_expr.clone().unwrap_or_default();
            if sort.is_empty() {
                return Ok(Transformed::no(node));
            }
            let first = first_rows(distinct, sort)?.project(distinct.select_expr.clone())?;
            Ok(Transformed::yes(first.build()?))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(written.data)
}
