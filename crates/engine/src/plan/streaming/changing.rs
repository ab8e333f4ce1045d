//! Aggregates over rows that may be taken back, in output mode update: over groups, and over first rows of partitions.
//!
//! ```text
//!   Aggregate: seller, avg(price)              aggregate-0   takes back, forgets groups that lose all rows
//!   └ Filter: rn <= 10                           ▲ changes
//!     └ Window: row_number() OVER (...)        top-0         tells which rows are taken back
//! ```
//!
//! A group of a group, and a place of a partition, is there for good once it is there, whatever row it has. So a group
//! above that is chosen by what tells those apart never loses all of its rows; any other may, and then has to go from the
//! target too. Refused is what could give another row when a row is taken back than when it was given: the current time,
//! tables that are read anew, random numbers; and groups by event time, of which the watermark would forget some.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, lit};

use super::compiler::key_name;
use super::row_ids::RowIdsNode;
use super::top::Top;
use super::whole::wholes;
use super::{OperatorStage, StageOutput, StreamingPlan};
use crate::error::{EngineError, Result};
use crate::operator::layout::Given;
use crate::operator::listed;
use crate::operator::state_table::shown_name;
use crate::operator::stateless::Step;
use crate::plan::logical::is_streaming;

/// Which columns of a relation stay what they are for as long as their rows are there, and whether its rows stay.
struct Standing {
    lasting: Vec<bool>,
    rows_stay: bool,
}

/// Whether an aggregate reads rows that may be taken back.
pub(super) fn takes_back(aggregate: &Aggregate) -> bool {
    !wholes(&aggregate.input).is_empty()
}

/// Whether a group of an aggregate over such rows may lose all of them.
pub(super) fn may_lose_groups(aggregate: &Aggregate) -> bool {
    let standing = standing(&aggregate.input);
    let last = |expr: &Expr| is_lasting(expr, &aggregate.input, &standing);
    let stays = standing.rows_stay && aggregate.group_expr.iter().all(last);
    !(stays || aggregate.group_expr.is_empty())
}

/// The aggregate with one more function, the last, that counts the rows of a group.
pub(super) fn with_count(aggregate: &Aggregate) -> Result<Aggregate> {
    let mut functions = aggregate.aggr_expr.clone();
    // By another constant than a count of the query's own, so that no two columns have one name.
    functions.push(count(lit(true)));
    Ok(Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), functions)?)
}

fn is_lasting(expr: &Expr, input: &LogicalPlan, standing: &Standing) -> bool {
    let lasts = |at: usize| standing.lasting.get(at).copied().unwrap_or(false);
    expr.column_refs().into_iter().all(|column| input.schema().maybe_index_of_column(column).is_some_and(lasts))
}

fn standing(plan: &LogicalPlan) -> Standing {
    let columns = plan.schema().fields().len();
    if wholes(plan).is_empty() {
        return Standing { lasting: vec![true; columns], rows_stay: true };
    }
    if let Some(top) = Top::of(plan) {
        return of_top(&top, columns);
    }
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = standing(&projection.input);
            let lasting = projection.expr.iter().map(|expr| is_lasting(expr, &projection.input, &below)).collect();
            Standing { lasting, rows_stay: below.rows_stay }
        }
        LogicalPlan::Filter(filter) => {
            let below = standing(&filter.input);
            let rows_stay = below.rows_stay && is_lasting(&filter.predicate, &filter.input, &below);
            Standing { rows_stay, ..below }
        }
        LogicalPlan::SubqueryAlias(alias) => standing(&alias.input),
        LogicalPlan::Aggregate(aggregate) => {
            let groups = columns - aggregate.aggr_expr.len();
            let rows_stay = !takes_back(aggregate) || !may_lose_groups(aggregate);
            Standing { lasting: (0..columns).map(|at| at < groups).collect(), rows_stay }
        }
        LogicalPlan::Union(union) => {
            let sides: Vec<Standing> = union.inputs.iter().map(|input| standing(input)).collect();
            let lasts = |at: usize| sides.iter().all(|side| side.lasting.get(at).copied().unwrap_or(false));
            Standing { lasting: (0..columns).map(lasts).collect(), rows_stay: sides.iter().all(|side| side.rows_stay) }
        }
        _ => Standing { lasting: vec![false; columns], rows_stay: false },
    }
}

fn of_top(top: &Top<'_>, columns: usize) -> Standing {
    let mut lasting = vec![false; columns];
    for (_, name) in top.key_names() {
        let fields = top.filter.input.schema().fields().iter();
        fields.enumerate().filter(|(_, field)| *field.name() == name).for_each(|(at, _)| lasting[at] = true);
    }
    // A place that is taken stays taken; a rank may be nobody's again.
    let rows_stay = top.is_by_place()
        && split_conjunction(&top.filter.predicate).into_iter().all(|part| top.is_about_number_alone(part));
    Standing { lasting, rows_stay }
}

/// Refuses what stands between an aggregate and the rows that may be taken back, and could give other rows then.
pub(super) fn check(aggregate: &Aggregate) -> Result<()> {
    let expressions = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
    expressions.into_iter().try_for_each(check_expression)?;
    check_below(&aggregate.input)
}

impl StreamingPlan {
    /// The rows that an operator may have to take back; nothing for one that does not.
    pub(crate) fn given_to(&self, at: usize) -> Given {
        let spec = &self.operators[at].spec;
        let inputs = spec.inputs();
        let given = |stage: &OperatorStage| match stage.output {
            StageOutput::Operator { at: to, input } if to == at => {
                let keys = format!("GROUP BY {}", listed(&inputs[input].keys));
                let way = stage.steps.iter().filter_map(Step::text).chain([keys]).collect();
                Some((stage.spec.id().to_owned(), way))
            }
            _ => None,
        };
        if spec.takes_back() { self.operators.iter().filter_map(given).collect() } else { Given::new() }
    }
}

fn check_below(plan: &LogicalPlan) -> Result<()> {
    if wholes(plan).is_empty() || matches!(plan, LogicalPlan::Aggregate(_)) {
        return Ok(());
    }
    if let Some(top) = Top::of(plan) {
        return top.expressions_after().try_for_each(check_expression);
    }
    if let LogicalPlan::Join(_) = plan {
        return Err(EngineError::query(
            "output mode update is not possible for a GROUP BY over a join with groups, or with first rows of partitions: when \
             they are replaced, nothing tells which rows of the join they had made",
        )
        .help("join after the last GROUP BY, or use output mode complete"));
    }
    if RowIdsNode::of(plan).is_some() {
        return Err(other_value("a random number"));
    }
    plan.expressions().iter().try_for_each(check_expression)?;
    plan.inputs().into_iter().filter(|input| is_streaming(input)).try_for_each(check_below)
}

fn check_expression(expr: &Expr) -> Result<()> {
    let mut volatile = None;
    expr.apply(|inner| {
        if inner.is_volatile_node() {
            volatile = Some(shown_name(&key_name(inner)));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match volatile {
        None => Ok(()),
        Some(name) => Err(other_value(&name)),
    }
}

fn other_value(name: &str) -> EngineError {
    EngineError::query(format!(
        "output mode update is not possible for {name} in a GROUP BY over groups, or over first rows of partitions: when they \
         are replaced, it gives another value than it gave"
    ))
    .help("compute it before the first GROUP BY, or use output mode complete")
}

/// Why such an aggregate cannot be by event time.
pub(super) fn by_event_time() -> EngineError {
    EngineError::query(
        "output mode update is not possible for a GROUP BY event time, a window or a session over groups, or over first rows of \
         partitions: the watermark forgets groups whose rows may still be replaced",
    )
    .help("use output mode append, or complete; or group by window.start, which is no event time")
}

/// Why groups that go cannot be told to the target.
pub(super) fn cannot_go() -> EngineError {
    EngineError::query(
        "output mode update is only possible here if the target can be told that a group is gone: this one may lose all of its \
         rows, when these move to another group",
    )
    .help("select all grouping columns, with nothing but a SELECT list above the GROUP BY, or use output mode complete")
}
