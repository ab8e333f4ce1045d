//! From an optimised logical plan to what a streaming query runs.
//!
//! ```text
//!   LogicalPlan                      StreamingPlan
//!   Projection                       AggregateStage { spec, steps: [project], output: Sink }
//!   └ Aggregate                         ▲ shuffle by key
//!     └ Filter                       SourceStage { source, steps: [watermark, filter], output: Aggregate(0) }
//!       └ Watermark
//!         └ TableScan (stream)
//! ```
//!
//! The plan is cut at aggregates: what lies between two cuts is a run of stateless steps on single batches. In
//! complete mode what lies above the last aggregate runs as an ordinary query over the whole result, so that it may
//! sort and limit.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{DFSchema, JoinType};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, TableScan, Union,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use parking_lot::Mutex;

use super::analysis::{PlannedQuery, PlannedSource};
use super::batch::collect;
use super::functions::aggregates;
use super::functions::batch_time::BatchTime;
use super::grouping::Grouping;
use super::logical::{StreamScan, WatermarkNode, is_streaming};
use super::window::{TimeWindow, WindowFunction, window_call};
use crate::error::{EngineError, Result};
use crate::operator::aggregate::{AggregateSpec, FunctionSpec, WindowKey};
use crate::operator::expand::Expand;
use crate::operator::join::{StaticJoin, StaticJoinKind};
use crate::operator::stateless::Step;
use crate::sink::OutputMode;

/// Where the rows of a stage go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StageOutput {
    /// To the workers of an aggregate.
    Aggregate(usize),
    /// Out of the query.
    Sink,
}

/// The rows of one source on their way to the first aggregate or the sink.
#[derive(Debug, Clone)]
pub(crate) struct SourceStage {
    /// Which source.
    pub(crate) source: usize,
    /// The columns read, as indices into the table's schema.
    pub(crate) projection: Vec<usize>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: StageOutput,
}

/// An aggregate and what happens to its results.
#[derive(Debug, Clone)]
pub(crate) struct AggregateStage {
    pub(crate) spec: Arc<AggregateSpec>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: StageOutput,
}

/// A watermark of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatermarkSpec {
    pub(crate) id: usize,
    pub(crate) column: String,
    pub(crate) delay_us: i64,
}

/// What a streaming query runs.
pub(crate) struct StreamingPlan {
    pub(crate) sources: Vec<PlannedSource>,
    pub(crate) source_stages: Vec<SourceStage>,
    /// In the order rows pass them.
    pub(crate) aggregates: Vec<AggregateStage>,
    pub(crate) watermarks: Vec<WatermarkSpec>,
    /// Static sides to be read again for each batch.
    pub(crate) joins: Vec<Arc<StaticJoin>>,
    /// The time of the batch under way, for its expressions.
    pub(crate) batch_time: Arc<BatchTime>,
    /// What runs over the whole result in complete mode.
    pub(crate) whole_result: Option<WholeResult>,
    pub(crate) output_mode: OutputMode,
    /// Columns of the result.
    pub(crate) schema: SchemaRef,
    /// The result's columns that are grouping columns, for sinks that replace rows.
    pub(crate) key_columns: Vec<String>,
    /// The optimised plan as text.
    pub(crate) explain: String,
}

/// A query over the whole result of the last aggregate.
pub(crate) struct WholeResult {
    plan: LogicalPlan,
    session: SessionState,
    input: SchemaRef,
}

impl WholeResult {
    /// Runs the query over all rows of the aggregate.
    pub(crate) fn run(&self, rows: Vec<arrow::array::RecordBatch>) -> Result<Vec<arrow::array::RecordBatch>> {
        let table = Arc::new(MemTable::try_new(Arc::clone(&self.input), vec![rows])?);
        let plan = replace_aggregate(&self.plan, &provider_as_source(table))?;
        collect(&self.session, plan)
    }
}

const RESULT_TABLE: &str = "__aggregate";

/// Makes the streaming plan of a query.
pub(crate) fn streaming_plan(query: PlannedQuery, output_mode: OutputMode) -> Result<StreamingPlan> {
    let session = query.context.state();
    let batch_time = Arc::new(BatchTime::default());
    let plan = batch_time.put_into(query.plan)?;
    let optimized = session.optimize(&plan)?;
    let schema = Arc::new(unqualified(plan.schema()));
    let mut compiler = Compiler {
        session,
        output_mode,
        source_stages: Vec::new(),
        aggregates: Vec::new(),
        watermarks: Vec::new(),
        joins: Vec::new(),
    };
    let mut whole_result = None;
    let explain = optimized.display_indent().to_string();
    let key_columns = key_columns(&optimized);
    match last_aggregate(&optimized) {
        Some(aggregate) if output_mode == OutputMode::Complete => {
            compiler.node(aggregate, Vec::new(), StageOutput::Sink)?;
            let input = Arc::new(unqualified(aggregate.schema()));
            whole_result = Some(WholeResult { plan: optimized.clone(), session: compiler.session.clone(), input });
        }
        _ => compiler.node(&optimized, Vec::new(), StageOutput::Sink)?,
    }
    compiler.aggregates.reverse();
    compiler.renumber();
    Ok(StreamingPlan {
        sources: query.sources,
        source_stages: compiler.source_stages,
        aggregates: compiler.aggregates,
        watermarks: compiler.watermarks,
        joins: compiler.joins,
        batch_time,
        whole_result,
        output_mode,
        schema,
        key_columns,
        explain,
    })
}

struct Compiler {
    session: SessionState,
    output_mode: OutputMode,
    source_stages: Vec<SourceStage>,
    /// Last one first while compiling.
    aggregates: Vec<AggregateStage>,
    watermarks: Vec<WatermarkSpec>,
    joins: Vec<Arc<StaticJoin>>,
}

impl Compiler {
    /// Compiles a subtree whose rows then pass `steps` and go to `output`.
    fn node(&mut self, plan: &LogicalPlan, steps: Vec<Step>, output: StageOutput) -> Result<()> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let step = self.project(projection)?;
                self.node(&projection.input, prepend(step, steps), output)
            }
            LogicalPlan::Filter(filter) => {
                let step = self.filter(filter)?;
                self.node(&filter.input, prepend(step, steps), output)
            }
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input, steps, output),
            LogicalPlan::Union(union) => self.union(union, &steps, output),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, steps, output),
            LogicalPlan::Join(join) => self.join(join, steps, output),
            LogicalPlan::TableScan(scan) => self.scan(scan, steps, output),
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WatermarkNode>() {
                Some(watermark) => self.watermark(watermark, steps, output),
                None => Err(unsupported("this operation", "")),
            },
            other => Err(refuse(other)),
        }
    }

    fn scan(&mut self, scan: &TableScan, mut steps: Vec<Step>, output: StageOutput) -> Result<()> {
        let Some((source, _)) = StreamScan::of(scan) else {
            return Err(EngineError::query(format!(
                "the rows of '{}' are joined to a stream as if it were one",
                scan.table_name
            ))
            .help(format!("read it with STREAM {}, or join it ON a condition", scan.table_name)));
        };
        for filter in scan.filters.iter().rev() {
            let predicate = self.physical(filter, &scan.projected_schema)?;
            steps = prepend(Step::Filter(predicate), steps);
        }
        let all = (0..scan.source.schema().fields().len()).collect();
        let projection = scan.projection.clone().unwrap_or(all);
        self.source_stages.push(SourceStage { source, projection, steps, output });
        Ok(())
    }

    fn project(&self, projection: &Projection) -> Result<Step> {
        let input = projection.input.schema();
        let exprs = projection.expr.iter().map(|expr| self.physical(expr, input)).collect::<Result<_>>()?;
        Ok(Step::Project { exprs, schema: Arc::new(unqualified(&projection.schema)) })
    }

    fn filter(&self, filter: &Filter) -> Result<Step> {
        Ok(Step::Filter(self.physical(&filter.predicate, filter.input.schema())?))
    }

    fn union(&mut self, union: &Union, steps: &[Step], output: StageOutput) -> Result<()> {
        union.inputs.iter().try_for_each(|input| self.node(input, steps.to_vec(), output))
    }

    fn watermark(&mut self, node: &WatermarkNode, steps: Vec<Step>, output: StageOutput) -> Result<()> {
        let fields = node.input.schema().fields();
        let column = fields.iter().position(|field| field.name() == &node.column).ok_or_else(|| {
            EngineError::internal(format!("the event time column '{}' was optimised away", node.column))
        })?;
        self.watermarks.push(WatermarkSpec { id: node.id, column: node.column.clone(), delay_us: node.delay_us });
        self.node(&node.input, prepend(Step::Watermark { id: node.id, column }, steps), output)
    }

    fn aggregate(&mut self, aggregate: &Aggregate, steps: Vec<Step>, output: StageOutput) -> Result<()> {
        if self.aggregates.iter().any(|stage| stage.output == output) || !self.aggregates.is_empty() {
            return Err(EngineError::query("several GROUP BY in one streaming query are not supported yet")
                .help("write the inner result to a streaming table and aggregate that in a second one"));
        }
        let grouping = Grouping::of(aggregate)?;
        let before = grouping.as_ref().map(|grouping| self.expand(aggregate, grouping)).transpose()?;
        let spec = Arc::new(self.aggregate_spec(aggregate, grouping.as_ref())?);
        self.aggregates.push(AggregateStage { spec, steps, output });
        let here = StageOutput::Aggregate(self.aggregates.len() - 1);
        self.node(&aggregate.input, before.into_iter().collect(), here)
    }

    /// The step that takes each row once for every set of grouping columns.
    fn expand(&self, aggregate: &Aggregate, grouping: &Grouping) -> Result<Step> {
        let input = aggregate.input.schema();
        let keys = grouping.exprs.iter().map(|expr| self.physical(expr, input)).collect::<Result<_>>()?;
        let sets = grouping.sets.clone();
        Ok(Step::Expand(Arc::new(Expand { keys, sets, schema: grouping.schema(input.as_arrow(), aggregate) })))
    }

    /// The grouping expressions with their types; those of sets are columns of the expanded rows.
    fn keys(
        &self,
        aggregate: &Aggregate,
        grouping: Option<&Grouping>,
        window: Option<&WindowKey>,
    ) -> Result<(Vec<Arc<dyn PhysicalExpr>>, Vec<DataType>)> {
        let input = aggregate.input.schema();
        let count = grouping.map_or(aggregate.group_expr.len(), |grouping| grouping.exprs.len() + 1);
        let key = |at: usize| -> Result<(Arc<dyn PhysicalExpr>, DataType)> {
            let data_type = aggregate.schema.field(at).data_type().clone();
            let expr: Arc<dyn PhysicalExpr> = match grouping {
                None => self.physical(&aggregate.group_expr[at], input)?,
                Some(grouping) => {
                    let place = input.fields().len() + at;
                    let schema = grouping.schema(input.as_arrow(), aggregate);
                    Arc::new(PhysicalColumn::new(schema.field(place).name(), place))
                }
            };
            Ok((expr, data_type))
        };
        let keys = (0..count).filter(|at| window.is_none_or(|window| window.position != *at)).map(key);
        Ok(keys.collect::<Result<Vec<_>>>()?.into_iter().unzip())
    }

    fn aggregate_spec(&self, aggregate: &Aggregate, grouping: Option<&Grouping>) -> Result<AggregateSpec> {
        let input = aggregate.input.schema();
        let time = event_time(&aggregate.input);
        let exprs = grouping.map_or(aggregate.group_expr.as_slice(), |grouping| grouping.exprs.as_slice());
        // A window that only some of the sets have is a key like others: its groups never end.
        let is_everywhere = |at: usize| grouping.is_none_or(|grouping| grouping.is_everywhere(at));
        let window = self.window_key(exprs, input, time.as_deref())?.filter(|window| is_everywhere(window.position));
        let (keys, key_types) = self.keys(aggregate, grouping, window.as_ref())?;
        let mut columns = Columns::default();
        let functions =
            aggregate.aggr_expr.iter().map(|expr| self.function(expr, input, &mut columns)).collect::<Result<_>>()?;
        let has_watermark = match &window {
            Some(_) => time.as_deref().is_some_and(|time| groups_by_time(exprs, time)),
            None => false,
        };
        self.check_output_mode(has_watermark)?;
        Ok(AggregateSpec {
            id: "aggregate-0".to_owned(),
            keys,
            key_types,
            window,
            columns: columns.exprs,
            functions,
            output_schema: Arc::new(unqualified(&aggregate.schema)),
            output_mode: self.output_mode,
            has_watermark,
        })
    }

    fn check_output_mode(&self, has_watermark: bool) -> Result<()> {
        if self.output_mode == OutputMode::Append && !has_watermark {
            return Err(EngineError::query(
                "append output mode is not possible for a GROUP BY without a watermark on its window or event time: no group is ever final",
            )
            .help("add a watermark (FROM STREAM t WATERMARK ts DELAY OF INTERVAL 10 SECONDS, GROUP BY window(ts, ...)), or use output mode update or complete"));
        }
        Ok(())
    }

    /// The window among the grouping expressions; without one, the event time itself.
    fn window_key(&self, exprs: &[Expr], input: &DFSchema, event_time: Option<&str>) -> Result<Option<WindowKey>> {
        let mut found = None;
        for (position, expr) in exprs.iter().enumerate() {
            let Some(call) = window_call(expr) else { continue };
            let (time, window) = call?;
            if found.is_some() {
                return Err(EngineError::query("a query groups by more than one window")
                    .help("group by one window, and by the other's result in a second query"));
            }
            found = Some(WindowKey { position, time: self.physical(time, input)?, window });
        }
        if found.is_some() {
            return Ok(found);
        }
        let is_time = |expr: &Expr| matches!(expr, Expr::Column(column) if Some(column.name.as_str()) == event_time);
        let Some(position) = exprs.iter().position(is_time) else { return Ok(None) };
        let time = self.physical(&exprs[position], input)?;
        Ok(Some(WindowKey { position, time, window: TimeWindow::instant() }))
    }

    fn function(&self, expr: &Expr, input: &DFSchema, columns: &mut Columns) -> Result<FunctionSpec> {
        let planning = PhysicalPlanningContext::default();
        let lowered =
            LoweredAggregateBuilder::new(expr, input, input.as_arrow(), self.session.execution_props(), &planning)
                .build()?;
        let (function, filter) = (lowered.aggregate, lowered.filter);
        let exprs = function.expressions();
        let arg_types =
            exprs.iter().map(|expr| Ok(expr.data_type(input.as_arrow())?)).collect::<Result<Vec<DataType>>>()?;
        let inputs = aggregates::inputs(&function, exprs.len());
        let args = exprs.into_iter().take(inputs).map(|expr| columns.add(expr)).collect();
        let filter = filter.map(|filter| columns.add(filter));
        let spec = FunctionSpec { function, args, arg_types, filter };
        // What is wrong with the call's constants is said now, not when the first batch comes.
        spec.accumulator()?;
        Ok(spec)
    }

    fn join(&mut self, join: &Join, steps: Vec<Step>, output: StageOutput) -> Result<()> {
        let (left, right) = (is_streaming(&join.left), is_streaming(&join.right));
        if left && right {
            return Err(EngineError::query("joins of two streams are not supported yet")
                .help("join the stream with a static table, or write one side to a table and read it without STREAM"));
        }
        let Some(kind) = static_join_kind(join.join_type, left) else {
            return Err(EngineError::query(format!(
                "{} JOIN would have to keep rows of the static table until the stream ends",
                join.join_type
            ))
            .help("use INNER JOIN, or the outer join that keeps the stream's side"));
        };
        let join = Arc::new(self.static_join(join, left, kind)?);
        self.joins.push(Arc::clone(&join));
        let stream = join.stream.clone();
        self.node(&stream, prepend(Step::Join(join), steps), output)
    }

    fn static_join(&self, join: &Join, stream_is_left: bool, kind: StaticJoinKind) -> Result<StaticJoin> {
        let (stream, fixed) = if stream_is_left { (&join.left, &join.right) } else { (&join.right, &join.left) };
        let key = |pair: &(Expr, Expr)| {
            if stream_is_left { (pair.0.clone(), pair.1.clone()) } else { (pair.1.clone(), pair.0.clone()) }
        };
        let keys: Vec<(Expr, Expr)> = join.on.iter().map(key).collect();
        let pair_schema = stream.schema().join(fixed.schema())?;
        let width = stream.schema().fields().len();
        let pairs = width + fixed.schema().fields().len();
        let output = match kind {
            StaticJoinKind::Semi | StaticJoinKind::Anti => (0..width).collect(),
            _ if stream_is_left => (0..pairs).collect(),
            _ => (width..pairs).chain(0..width).collect(),
        };
        Ok(StaticJoin {
            kind,
            stream_keys: keys.iter().map(|(key, _)| self.physical(key, stream.schema())).collect::<Result<_>>()?,
            static_keys: keys.iter().map(|(_, key)| self.physical(key, fixed.schema())).collect::<Result<_>>()?,
            filter: join.filter.as_ref().map(|filter| self.physical(filter, &pair_schema)).transpose()?,
            pair_schema: Arc::new(unqualified(&pair_schema)),
            output,
            schema: Arc::new(unqualified(&join.schema)),
            stream: stream.as_ref().clone(),
            plan: fixed.as_ref().clone(),
            session: self.session.clone(),
            table: Mutex::new(None),
        })
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self.session.create_physical_expr(expr.clone(), schema)?)
    }

    /// Aggregates were numbered last first; stages and operators are numbered in the order rows pass them.
    fn renumber(&mut self) {
        let last = self.aggregates.len().saturating_sub(1);
        let turn = |output: &mut StageOutput| {
            if let StageOutput::Aggregate(at) = output {
                *at = last - *at;
            }
        };
        self.source_stages.iter_mut().for_each(|stage| turn(&mut stage.output));
        self.aggregates.iter_mut().for_each(|stage| turn(&mut stage.output));
        self.source_stages.sort_by_key(|stage| stage.source);
        self.watermarks.sort_by_key(|watermark| watermark.id);
    }
}

/// Expressions, each once.
#[derive(Default)]
struct Columns {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
}

impl Columns {
    fn add(&mut self, expr: Arc<dyn PhysicalExpr>) -> usize {
        if let Some(at) = self.exprs.iter().position(|known| known.as_ref() == expr.as_ref()) {
            return at;
        }
        self.exprs.push(expr);
        self.exprs.len() - 1
    }
}

fn static_join_kind(join_type: JoinType, stream_is_left: bool) -> Option<StaticJoinKind> {
    match (join_type, stream_is_left) {
        (JoinType::Inner, _) => Some(StaticJoinKind::Inner),
        (JoinType::Left, true) | (JoinType::Right, false) => Some(StaticJoinKind::KeepStream),
        (JoinType::LeftSemi, true) | (JoinType::RightSemi, false) => Some(StaticJoinKind::Semi),
        (JoinType::LeftAnti, true) | (JoinType::RightAnti, false) => Some(StaticJoinKind::Anti),
        _ => None,
    }
}

fn prepend(step: Step, mut steps: Vec<Step>) -> Vec<Step> {
    steps.insert(0, step);
    steps
}

/// The columns without the tables they come from.
fn unqualified(schema: &DFSchema) -> Schema {
    Schema::new(schema.fields().clone())
}

/// The name of the column that a watermark marks, as it is called in the plan's output.
fn event_time(plan: &LogicalPlan) -> Option<String> {
    match plan {
        LogicalPlan::Extension(extension) => {
            extension.node.as_any().downcast_ref::<WatermarkNode>().map(|node| node.column.clone())
        }
        LogicalPlan::Projection(projection) => {
            let inner = event_time(&projection.input)?;
            projection.expr.iter().zip(projection.schema.fields()).find_map(|(expr, field)| {
                let Expr::Column(column) = expr.clone().unalias() else { return None };
                (column.name == inner).then(|| field.name().clone())
            })
        }
        LogicalPlan::Join(join) => event_time(&join.left).or_else(|| event_time(&join.right)),
        other => other.inputs().first().and_then(|input| event_time(input)),
    }
}

/// Whether a grouping expression is the event time or a window of it.
fn groups_by_time(exprs: &[Expr], time: &str) -> bool {
    exprs.iter().any(|expr| match window_call(expr) {
        Some(Ok((Expr::Column(column), _))) => column.name == time,
        Some(_) => false,
        None => matches!(expr, Expr::Column(column) if column.name == time),
    })
}

/// The topmost aggregate.
fn last_aggregate(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Aggregate(_) => Some(plan),
        other => match other.inputs().as_slice() {
            [input] => last_aggregate(input),
            inputs => inputs.iter().filter(|input| is_streaming(input)).find_map(|input| last_aggregate(input)),
        },
    }
}

/// The same plan over a table that holds the aggregate's rows.
fn replace_aggregate(plan: &LogicalPlan, rows: &Arc<dyn datafusion::logical_expr::TableSource>) -> Result<LogicalPlan> {
    use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
    let replaced = plan.clone().transform_down(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        let columns: Vec<Expr> = (0..aggregate.schema.fields().len())
            .map(|at| {
                let (qualifier, field) = aggregate.schema.qualified_field(at);
                Expr::Column(datafusion::common::Column::new(Some(RESULT_TABLE), field.name()))
                    .alias_qualified(qualifier.cloned(), field.name())
            })
            .collect();
        let scan = LogicalPlanBuilder::scan(RESULT_TABLE, Arc::clone(rows), None)?.project(columns)?.build()?;
        Ok(Transformed::new(scan, true, TreeNodeRecursion::Jump))
    })?;
    Ok(replaced.data)
}

/// The output columns that are grouping columns of the last aggregate, if every grouping column comes out.
fn key_columns(plan: &LogicalPlan) -> Vec<String> {
    let Some(LogicalPlan::Aggregate(aggregate)) = last_aggregate(plan) else { return Vec::new() };
    let groups = aggregate.schema.fields().len() - aggregate.aggr_expr.len();
    let mut names: Vec<(usize, String)> =
        aggregate.schema.fields().iter().take(groups).map(|field| field.name().clone()).enumerate().collect();
    follow(plan, &mut names);
    names.into_iter().map(|(_, name)| name).collect()
}

/// Renames grouping columns on their way from the aggregate up to `plan`.
fn follow(plan: &LogicalPlan, names: &mut Vec<(usize, String)>) {
    if matches!(plan, LogicalPlan::Aggregate(_)) {
        return;
    }
    for input in plan.inputs() {
        if is_streaming(input) {
            follow(input, names);
        }
    }
    if let LogicalPlan::Projection(projection) = plan {
        let inner = std::mem::take(names);
        for (key, name) in inner {
            let above = projection.expr.iter().zip(projection.schema.fields()).find_map(|(expr, field)| {
                let is_key = matches!(expr.clone().unalias(), Expr::Column(column) if column.name == name);
                (is_key || is_start_of(expr, &name)).then(|| field.name().clone())
            });
            if let Some(above) = above {
                names.push((key, above));
            }
        }
    }
}

/// `window.start` identifies a window as well as the window does.
fn is_start_of(expr: &Expr, window: &str) -> bool {
    let Expr::ScalarFunction(function) = expr.clone().unalias() else { return false };
    function.func.name() == "get_field"
        && window.starts_with(WindowFunction::NAME)
        && matches!(function.args.first(), Some(Expr::Column(column)) if column.name == window)
        && matches!(function.args.get(1), Some(Expr::Literal(field, _)) if field.try_as_str().flatten() == Some("start"))
}

fn unsupported(what: &str, help: &str) -> EngineError {
    let error = EngineError::query(format!("{what} is not supported on streams"));
    if help.is_empty() { error } else { error.help(help) }
}

/// Why a node cannot run on a stream.
fn refuse(plan: &LogicalPlan) -> EngineError {
    match plan {
        LogicalPlan::Sort(_) => {
            unsupported("ORDER BY", "use it on a GROUP BY in output mode complete, or order when you read the result")
        }
        LogicalPlan::Limit(_) => {
            unsupported("LIMIT", "use it on a GROUP BY in output mode complete, or limit when you read the result")
        }
        LogicalPlan::Window(_) => {
            unsupported("a window function with OVER (...)", "group by a time window: GROUP BY window(ts, '1 minute')")
        }
        LogicalPlan::Distinct(_) => unsupported("DISTINCT", "group by the columns in output mode update"),
        LogicalPlan::Unnest(_) => unsupported("explode", ""),
        LogicalPlan::EmptyRelation(_) => {
            EngineError::query("the query can give no rows, because its condition is never true")
        }
        other => unsupported(&other.display().to_string(), ""),
    }
}
