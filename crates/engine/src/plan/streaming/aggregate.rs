//! `GROUP BY` and `DISTINCT`: the key, what time has to do with it, and the functions.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::changing;
use super::compiler::{Compiler, key_name, prepend};
use super::event_time::{event_times, is_event_time, watermark_delay_us};
use super::nodes::DeduplicateNode;
use super::{StageOutput, unqualified};
use crate::error::{EngineError, Result};
use crate::operator::aggregate::{AggregateSpec, FunctionSpec, WindowKey};
use crate::operator::changes::Tells;
use crate::operator::dedup::DedupSpec;
use crate::operator::expand::Expand;
use crate::operator::kept_rows::Expiry;
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::stateless::Step;
use crate::plan::functions::aggregates;
use crate::plan::grouping::Grouping;
use crate::plan::session_window::grouping_session;
use crate::plan::window::{TimeWindow, WindowTimeFunction, window_call, window_end};
use crate::sink::OutputMode;

/// The time that groups are kept by.
struct TimeKey {
    bucket: Bucketing,
    /// Which grouping column has to do with time.
    position: Option<usize>,
    /// Which grouping column it is, if the column can be made from the bucket.
    window: Option<WindowKey>,
    /// Which grouping column is the session.
    session: Option<usize>,
    /// Whether a watermark is on it.
    has_watermark: bool,
}

impl TimeKey {
    /// Groups that are kept for ever.
    fn none() -> Self {
        Self { bucket: Bucketing::None, position: None, window: None, session: None, has_watermark: false }
    }
}

impl Compiler {
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        if self.output_mode == OutputMode::Update && changing::takes_back(aggregate) {
            return self.aggregate_of_changes(aggregate, steps, output);
        }
        if let Some(grouping) = Grouping::of(aggregate)? {
            let before = vec![self.expand(aggregate, &grouping)?];
            let spec = self.aggregate_spec(aggregate, Some(&grouping), false)?;
            let spec = Arc::new(AggregateSpec { tells: self.tells(output), ..spec });
            return self.operator_after(spec, steps, output, &[&aggregate.input], before);
        }
        if self.output_mode == OutputMode::Append && aggregate.aggr_expr.is_empty() {
            let TimeKey { session, has_watermark, .. } = self.time_key(&aggregate.group_expr, aggregate)?;
            if session.is_none() && !has_watermark {
                return self.distinct(aggregate, steps, output);
            }
        }
        let TimeKey { window, has_watermark, .. } = self.time_key(&aggregate.group_expr, aggregate)?;
        let tells = self.tells(output);
        let aged = match window.filter(|_| tells == Tells::Rows) {
            Some(window) => self.aged_windows(aggregate, window.position, has_watermark)?,
            None => None,
        };
        let spec = AggregateSpec { tells, ..self.aggregate_spec(aggregate, None, false)? };
        let (spec, before) = match aged {
            Some(aged) => aged.put_into(spec)?,
            None => (spec, Vec::new()),
        };
        self.operator_after(Arc::new(spec), steps, output, &[&aggregate.input], before)
    }

    /// An aggregate of rows that may be taken back: of groups, or of first rows of partitions.
    fn aggregate_of_changes(
        &mut self,
        aggregate: &Aggregate,
        mut steps: Vec<Step>,
        output: StageOutput,
    ) -> Result<i64> {
        changing::check(aggregate)?;
        let (mut tells, mut rows_counted_by) = (self.tells(output), None);
        let mut counted = aggregate.clone();
        if changing::may_lose_groups(aggregate) {
            counted = changing::with_count(aggregate)?;
            rows_counted_by = Some(counted.aggr_expr.len() - 1);
            steps = prepend(self.all_but_last(&counted, aggregate)?, steps);
            if tells == Tells::Rows {
                self.deletes = true;
                tells = Tells::Gone;
            }
        }
        let grouping = Grouping::of(&counted)?;
        let before = grouping.as_ref().map(|grouping| self.expand(&counted, grouping)).transpose()?;
        let spec = self.aggregate_spec(&counted, grouping.as_ref(), true)?;
        if spec.session.is_some() || spec.input.has_watermark {
            return Err(changing::by_event_time());
        }
        let spec = Arc::new(AggregateSpec { tells, rows_counted_by, ..spec });
        self.operator_after(spec, steps, output, &[&aggregate.input], before.into_iter().collect())
    }

    /// The step that gives the columns of an aggregate out of those of one that has one more.
    fn all_but_last(&self, of: &Aggregate, as_in: &Aggregate) -> Result<Step> {
        let mut exprs = self.columns(&of.schema)?;
        exprs.pop();
        Ok(Step::Project { exprs, schema: Arc::new(unqualified(&as_in.schema)) })
    }

    /// What an operator with this output tells of its rows, if it may take them back.
    pub(super) fn tells(&self, output: StageOutput) -> Tells {
        let is_read = matches!(output, StageOutput::Operator { .. });
        if is_read && self.output_mode == OutputMode::Update { Tells::Changes } else { Tells::Rows }
    }

    /// `DISTINCT` without event time: each row once, as soon as it comes.
    fn distinct(&mut self, aggregate: &Aggregate, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        let schema = aggregate.input.schema();
        let columns = aggregate.group_expr.iter().map(|expr| self.physical(expr, schema)).collect::<Result<_>>()?;
        let input = self.dedup_input(&aggregate.group_expr, schema, None, columns)?;
        let schema = Arc::new(unqualified(&aggregate.schema));
        let spec = DedupSpec { id: self.name("distinct"), input, expiry: None, schema };
        self.operator(Arc::new(spec), steps, output, &[&aggregate.input])
    }

    /// `DISTINCT ON (...)`: Spark's `dropDuplicates`, or within the watermark where event time is not among the keys.
    pub(super) fn deduplicate(&mut self, node: &DeduplicateNode, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        if self.output_mode != OutputMode::Append {
            return Err(EngineError::query(format!("DISTINCT ON is not possible in output mode {}", self.output_mode))
                .help("use output mode append"));
        }
        let schema = node.input.schema();
        let times = event_times(&node.input);
        let by_time = node.keys.iter().any(|key| is_event_time(key, &node.input, &times));
        let expiry = match watermark_delay_us(&node.input) {
            _ if node.time.is_none() => None,
            Some(delay_us) if !by_time => Some(Expiry { offset_us: -delay_us, may_be_equal: false }),
            _ => Some(Expiry::AT_WATERMARK),
        };
        let input = self.dedup_input(&node.keys, schema, node.time.as_ref(), self.columns(schema)?)?;
        let schema = Arc::new(unqualified(schema));
        let spec = DedupSpec { id: self.name("distinct"), input, expiry, schema };
        self.operator(Arc::new(spec), steps, output, &[&node.input])
    }

    fn dedup_input(
        &self,
        keys: &[Expr],
        schema: &DFSchema,
        time: Option<&Expr>,
        columns: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<InputSpec>> {
        Ok(Arc::new(InputSpec {
            keys: keys.iter().map(|key| self.physical(key, schema)).collect::<Result<_>>()?,
            key_types: keys.iter().map(|key| Ok(key.get_type(schema)?)).collect::<Result<_>>()?,
            key_names: keys.iter().map(key_name).collect(),
            bucket: match time {
                Some(time) => Bucketing::Instant { time: self.time_of(time, schema)? },
                None => Bucketing::None,
            },
            columns,
            has_watermark: time.is_some(),
        }))
    }

    /// The step that takes each row once for every set of grouping columns.
    fn expand(&self, aggregate: &Aggregate, grouping: &Grouping) -> Result<Step> {
        let input = aggregate.input.schema();
        for (_, window) in grouping.exprs.iter().filter_map(window_call).collect::<Result<Vec<_>>>()? {
            if !window.is_tumbling() {
                return Err(EngineError::query("GROUPING SETS, ROLLUP and CUBE are not possible with a sliding window, of which a row has several")
                    .help("group by a window without a slide, or write a query for each set and put them together with UNION ALL"));
            }
        }
        let keys = grouping.exprs.iter().map(|expr| self.physical(expr, input)).collect::<Result<_>>()?;
        let sets = grouping.sets.clone();
        Ok(Step::Expand(Arc::new(Expand { keys, sets, schema: grouping.schema(input.as_arrow(), aggregate) })))
    }

    /// The grouping expressions but for the one that is `made` of the bucket; those of sets are columns of the
    /// expanded rows.
    fn keys(
        &self,
        aggregate: &Aggregate,
        grouping: Option<&Grouping>,
        made: Option<usize>,
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
                    Arc::new(Column::new(schema.field(place).name(), place))
                }
            };
            Ok((expr, data_type))
        };
        Ok((0..count).filter(|at| made != Some(*at)).map(key).collect::<Result<Vec<_>>>()?.into_iter().unzip())
    }

    fn aggregate_spec(
        &mut self,
        aggregate: &Aggregate,
        grouping: Option<&Grouping>,
        takes_back: bool,
    ) -> Result<AggregateSpec> {
        let input = aggregate.input.schema();
        let exprs = grouping.map_or(aggregate.group_expr.as_slice(), |grouping| grouping.exprs.as_slice());
        let mut time = self.time_key(exprs, aggregate)?;
        // Where only some of the sets have the time, it is a key like others, and no group is ever final.
        if time.position.is_some_and(|at| grouping.is_some_and(|grouping| !grouping.is_everywhere(at))) {
            time = TimeKey::none();
        }
        let TimeKey { bucket, window, session, has_watermark, .. } = time;
        let made = session.or(window.as_ref().map(|window| window.position));
        let (keys, key_types) = self.keys(aggregate, grouping, made)?;
        let mut columns = Columns::default();
        let function = |expr| self.function(expr, input, &mut columns, takes_back);
        let functions = aggregate.aggr_expr.iter().map(function).collect::<Result<_>>()?;
        self.check_output_mode(has_watermark, session.is_some())?;
        // In complete mode every row counts, however late, and no group is ever final.
        let has_watermark = has_watermark && self.output_mode != OutputMode::Complete;
        let key_names = exprs.iter().map(key_name).collect();
        let input = InputSpec { keys, key_types, key_names, bucket, columns: columns.exprs, has_watermark };
        Ok(AggregateSpec {
            id: self.name(if session.is_some() { "session" } else { "aggregate" }),
            input: Arc::new(input),
            window,
            session,
            functions,
            output_schema: Arc::new(unqualified(&aggregate.schema)),
            output_mode: self.output_mode,
            takes_back,
            rows_counted_by: None,
            tells: Tells::Rows,
        })
    }

    fn check_output_mode(&self, has_watermark: bool, has_sessions: bool) -> Result<()> {
        if self.output_mode == OutputMode::Update && has_sessions {
            return Err(EngineError::query(
                "output mode update is not possible for session_window: a row that was given out would have to be taken back when its session grows or joins another",
            )
            .help("use output mode append, which gives each session once when it is final, or complete"));
        }
        if self.output_mode == OutputMode::Append && !has_watermark {
            return Err(EngineError::query(
                "append output mode is not possible for a GROUP BY without a watermark on its window or event time: no group is ever final",
            )
            .help("add a watermark (FROM STREAM t WATERMARK ts DELAY OF INTERVAL 10 SECONDS, GROUP BY window(ts, ...)), or use output mode update or complete"));
        }
        Ok(())
    }

    /// The window among the grouping expressions; without one, the event time itself or a window made before.
    fn time_key(&self, exprs: &[Expr], aggregate: &Aggregate) -> Result<TimeKey> {
        let input = aggregate.input.schema();
        let times = event_times(&aggregate.input);
        let is_time = |expr: &Expr| is_event_time(expr, &aggregate.input, &times);
        if let Some(position) = grouping_session(exprs, &aggregate.input) {
            return self.session_key(exprs, input, position, &is_time);
        }
        let mut windows = exprs.iter().enumerate().filter_map(|(at, expr)| Some((at, window_call(expr)?)));
        if let Some((position, call)) = windows.next() {
            if windows.next().is_some() {
                return Err(EngineError::query("a query groups by more than one window")
                    .help("group by one window, and by the other's result in a second query"));
            }
            let (time, window) = call?;
            let has_watermark = is_time(time);
            let bucket = Bucketing::Window { time: self.time_of(time, input)?, window };
            let window = Some(WindowKey { position, window });
            return Ok(TimeKey { bucket, position: Some(position), window, session: None, has_watermark });
        }
        let Some(position) = exprs.iter().position(is_time) else { return Ok(TimeKey::none()) };
        let expr = &exprs[position];
        if let DataType::Struct(_) = expr.get_type(input)? {
            // A window that was made before: its length may be any, so that it is part of the key.
            let bucket = Bucketing::Instant { time: self.physical(&window_end(expr.clone()), input)? };
            return Ok(TimeKey { bucket, position: Some(position), window: None, session: None, has_watermark: true });
        }
        let window = TimeWindow::instant();
        let bucket = Bucketing::Window { time: self.physical(expr, input)?, window };
        let window = Some(WindowKey { position, window });
        Ok(TimeKey { bucket, position: Some(position), window, session: None, has_watermark: true })
    }

    fn session_key(
        &self,
        exprs: &[Expr],
        input: &DFSchema,
        position: usize,
        is_time: &dyn Fn(&Expr) -> bool,
    ) -> Result<TimeKey> {
        let mut others = exprs.iter().enumerate().filter(|(at, _)| *at != position);
        if let Some((_, other)) = others.find(|(_, expr)| is_time(expr) || window_call(expr).is_some()) {
            return Err(EngineError::query(format!(
                "a query groups by session_window and by another time, {}",
                other.human_display()
            ))
            .help("group by one of them, and by the other in a second query over the result"));
        }
        let session = &exprs[position];
        let bucket = Bucketing::Session { session: self.physical(session, input)? };
        let has_watermark = is_time(session);
        Ok(TimeKey { bucket, position: Some(position), window: None, session: Some(position), has_watermark })
    }

    /// The time of a row for `window(...)`: a window's own time is its last moment.
    fn time_of(&self, time: &Expr, input: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        match time.get_type(input)? {
            DataType::Struct(_) => self.physical(&WindowTimeFunction::udf().call(vec![time.clone()]), input),
            _ => self.physical(time, input),
        }
    }

    fn function(&self, expr: &Expr, input: &DFSchema, columns: &mut Columns, takes_back: bool) -> Result<FunctionSpec> {
        let planning = PhysicalPlanningContext::default();
        let lowered =
            LoweredAggregateBuilder::new(expr, input, input.as_arrow(), self.session.execution_props(), &planning)
                .build()?;
        let (function, filter) = (lowered.aggregate, lowered.filter);
        let exprs = function.expressions();
        let arg_types =
            exprs.iter().map(|expr| Ok(expr.data_type(input.as_arrow())?)).collect::<Result<Vec<DataType>>>()?;
        let given_types =
            exprs.iter().map(|expr| given_type(expr, input.as_arrow())).collect::<Result<Vec<DataType>>>()?;
        let inputs = aggregates::inputs(&function, exprs.len());
        let args = exprs.into_iter().take(inputs).map(|expr| columns.add(expr)).collect();
        let filter = filter.map(|filter| columns.add(filter));
        let spec = FunctionSpec { function, args, arg_types, given_types, filter, takes_back };
        // What is wrong with the call's constants is said now, not when the first batch comes.
        spec.accumulator()?;
        Ok(spec)
    }
}

/// The type of an argument before it was hashed: equal values of different types have different hashes.
fn given_type(expr: &Arc<dyn PhysicalExpr>, input: &Schema) -> Result<DataType> {
    let any: &dyn std::any::Any = expr.as_ref();
    let hash = any.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.name() == aggregates::HASH_FOR_COUNT);
    let given = hash.and_then(|call| call.args().first()).unwrap_or(expr);
    Ok(given.data_type(input)?)
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
