//! The walk down an optimised plan that makes stages of it.

use std::sync::Arc;

use datafusion::common::{DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, Projection, TableScan, Union, Unnest};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use super::cdc::CdcNode;
use super::members::members_read;
use super::nodes::{DeduplicateNode, LimitNode};
use super::refuse::{refuse, unsupported};
use super::row_ids::RowIdsNode;
use super::{Ages, OperatorStage, SourceStage, StageOutput, WatermarkSpec, unqualified};
use crate::error::{EngineError, Result};
use crate::operator::OperatorSpec;
use crate::operator::changes::Tells;
use crate::operator::join::{StaticJoin, StaticJoinKind, StaticNulls};
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::limit::LimitSpec;
use crate::operator::stateless::Step;
use crate::operator::static_side::StaticSide;
use crate::plan::logical::{StreamScan, WatermarkNode, is_streaming};
use crate::sink::OutputMode;

/// Makes stages; each call of [`Compiler::node`] compiles a subtree whose rows then pass `steps` and go to `output`,
/// and tells how far the watermark of those rows is behind that of the query.
pub(super) struct Compiler {
    pub(super) session: SessionState,
    pub(super) output_mode: OutputMode,
    pub(super) ages: Ages,
    pub(super) source_stages: Vec<SourceStage>,
    /// Last one first while compiling.
    pub(super) operators: Vec<OperatorStage>,
    pub(super) watermarks: Vec<WatermarkSpec>,
    pub(super) joins: Vec<Arc<StaticJoin>>,
    /// Whether rows of the result can also go.
    pub(super) deletes: bool,
    /// How many operators of each kind have a name.
    names: Vec<&'static str>,
}

impl Compiler {
    pub(super) fn new(session: SessionState, output_mode: OutputMode, ages: Ages) -> Self {
        Self {
            session,
            output_mode,
            ages,
            source_stages: Vec::new(),
            operators: Vec::new(),
            watermarks: Vec::new(),
            joins: Vec::new(),
            deletes: false,
            names: Vec::new(),
        }
    }

    /// Compiles whole plans over so many sources, each with the place where its rows go.
    pub(super) fn compile<'a>(
        &mut self,
        plans: impl IntoIterator<Item = (&'a LogicalPlan, StageOutput)>,
        sources: usize,
    ) -> Result<()> {
        for (plan, output) in plans {
            self.node(plan, Vec::new(), output)?;
        }
        self.read_in_vain(sources);
        self.renumber();
        self.check_operators()
    }

    pub(super) fn node(&mut self, plan: &LogicalPlan, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let step = self.project(projection)?;
                self.node(&projection.input, prepend(step, steps), output)
            }
            LogicalPlan::Filter(filter) => self.filtered(filter, steps, output),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input, steps, output),
            // Rows are spread by their keys already.
            LogicalPlan::Repartition(repartition) => self.node(&repartition.input, steps, output),
            LogicalPlan::Union(union) => self.union(union, &steps, output),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, steps, output),
            LogicalPlan::Join(join) => self.join(join, steps, output),
            LogicalPlan::Window(window) => self.over(window, steps, output),
            LogicalPlan::TableScan(scan) => self.scan(scan, steps, output),
            LogicalPlan::Unnest(unnest) => {
                let step = unnested(unnest)?;
                self.node(&unnest.input, prepend(step, steps), output)
            }
            // The optimiser has found that no row can come this way: its streams are read and give nothing.
            LogicalPlan::EmptyRelation(relation) if !relation.produce_one_row => Ok(0),
            LogicalPlan::Extension(extension) => {
                let any = extension.node.as_any();
                if let Some(watermark) = any.downcast_ref::<WatermarkNode>() {
                    self.watermark(watermark, steps, output)
                } else if let Some(limit) = any.downcast_ref::<LimitNode>() {
                    self.limit(limit, steps, output)
                } else if let Some(node) = any.downcast_ref::<DeduplicateNode>() {
                    self.deduplicate(node, steps, output)
                } else if let Some(node) = any.downcast_ref::<RowIdsNode>() {
                    self.row_ids(node, steps, output)
                } else if let Some(node) = any.downcast_ref::<CdcNode>() {
                    self.auto_cdc(node, steps, output)
                } else {
                    Err(unsupported("this operation", ""))
                }
            }
            other => Err(refuse(other)),
        }
    }

    fn scan(&mut self, scan: &TableScan, mut steps: Vec<Step>, output: StageOutput) -> Result<i64> {
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
        let members = members_read(projection.len(), &steps);
        self.source_stages.push(SourceStage { source, projection, members, steps, output });
        Ok(0)
    }

    /// Sources whose rows the plan has no use for: they are read all the same, as their query goes on.
    fn read_in_vain(&mut self, sources: usize) {
        let never: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Boolean(Some(false))));
        for source in 0..sources {
            if !self.source_stages.iter().any(|stage| stage.source == source) {
                let steps = vec![Step::Filter(Arc::clone(&never))];
                let output = StageOutput::Sink;
                let (projection, members) = (vec![0], vec![None]);
                self.source_stages.push(SourceStage { source, projection, members, steps, output });
            }
        }
    }

    pub(super) fn project(&self, projection: &Projection) -> Result<Step> {
        let input = projection.input.schema();
        let exprs = projection.expr.iter().map(|expr| self.physical(expr, input)).collect::<Result<_>>()?;
        Ok(Step::Project { exprs, schema: Arc::new(unqualified(&projection.schema)) })
    }

    pub(super) fn filter(&self, filter: &Filter) -> Result<Step> {
        Ok(Step::Filter(self.physical(&filter.predicate, filter.input.schema())?))
    }

    fn union(&mut self, union: &Union, steps: &[Step], output: StageOutput) -> Result<i64> {
        let schema = Arc::new(unqualified(&union.schema));
        let mut lag_us = 0;
        for input in &union.inputs {
            let steps = prepend(Step::Rename { schema: Arc::clone(&schema) }, steps.to_vec());
            lag_us = self.node(input, steps, output)?.max(lag_us);
        }
        Ok(lag_us)
    }

    fn watermark(&mut self, node: &WatermarkNode, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        let fields = node.input.schema().fields();
        let column = fields.iter().position(|field| field.name() == &node.column).ok_or_else(|| {
            EngineError::internal(format!("the event time column '{}' was optimised away", node.column))
        })?;
        let spec = WatermarkSpec { id: node.id, column: node.column.clone(), delay_us: node.delay_us };
        // A common table expression that is read twice has one watermark.
        if !self.watermarks.contains(&spec) {
            self.watermarks.push(spec);
        }
        let operators = self.operators.len();
        let lag_us = self.node(&node.input, prepend(Step::Watermark { id: node.id, column }, steps), output)?;
        if self.operators.len() > operators {
            return Err(EngineError::query(format!(
                "WATERMARK {} stands on the result of a GROUP BY, join, DISTINCT or LIMIT",
                node.column
            ))
            .help(
                "put it on the streams they read: the watermark goes on through window_time(window) and joined columns",
            ));
        }
        Ok(lag_us)
    }

    fn limit(&mut self, node: &LimitNode, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        if self.output_mode == OutputMode::Update {
            return Err(EngineError::query(
                "LIMIT is not possible in output mode update: a row that passed would change",
            )
            .help("use output mode append, or complete on a GROUP BY"));
        }
        let schema = Arc::new(unqualified(node.input.schema()));
        let input = InputSpec {
            keys: Vec::new(),
            key_types: Vec::new(),
            key_names: Vec::new(),
            bucket: Bucketing::None,
            columns: self.columns(node.input.schema())?,
            has_watermark: false,
        };
        let spec = LimitSpec { id: self.name("limit"), input: Arc::new(input), limit: node.limit, schema };
        self.operator(Arc::new(spec), steps, output, &[&node.input])
    }

    /// Adds a stateful operator and compiles its inputs.
    pub(super) fn operator(
        &mut self,
        spec: Arc<dyn OperatorSpec>,
        steps: Vec<Step>,
        output: StageOutput,
        inputs: &[&LogicalPlan],
    ) -> Result<i64> {
        self.operator_after(spec, steps, output, inputs, Vec::new())
    }

    /// The same, with steps that each input takes just before the operator.
    pub(super) fn operator_after(
        &mut self,
        spec: Arc<dyn OperatorSpec>,
        steps: Vec<Step>,
        output: StageOutput,
        inputs: &[&LogicalPlan],
        before: Vec<Step>,
    ) -> Result<i64> {
        let at = self.operators.len();
        self.operators.push(OperatorStage { spec, lag_us: 0, steps, output, history: None, ttl: None });
        let mut lag_us = 0;
        for (input, plan) in inputs.iter().enumerate() {
            lag_us = self.node(plan, before.clone(), StageOutput::Operator { at, input })?.max(lag_us);
        }
        self.operators[at].lag_us = lag_us;
        Ok(lag_us)
    }

    /// The lasting name of the next operator of a kind.
    pub(super) fn name(&mut self, kind: &'static str) -> String {
        let name = self.next_name(kind);
        self.names.push(kind);
        name
    }

    /// What [`Compiler::name`] will give.
    pub(super) fn next_name(&self, kind: &'static str) -> String {
        let number = self.names.iter().filter(|name| **name == kind).count();
        format!("{kind}-{number}")
    }

    /// All columns of a relation, as expressions.
    pub(super) fn columns(&self, schema: &DFSchema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        (0..schema.fields().len())
            .map(|at| self.physical(&Expr::Column(schema.qualified_field(at).into()), schema))
            .collect()
    }

    fn join(&mut self, join: &Join, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        let (left, right) = (is_streaming(&join.left), is_streaming(&join.right));
        if left && right {
            return self.stream_join(join, steps, output);
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
        let static_keys = keys.iter().map(|(_, key)| key.clone()).collect();
        let nulls = match join.null_equality {
            NullEquality::NullEqualsNull => StaticNulls::Equal,
            NullEquality::NullEqualsNothing if join.null_aware => StaticNulls::MayEqualAll,
            NullEquality::NullEqualsNothing => StaticNulls::EqualNothing,
        };
        Ok(StaticJoin {
            kind,
            stream_keys: keys.iter().map(|(key, _)| self.physical(key, stream.schema())).collect::<Result<_>>()?,
            filter: join.filter.as_ref().map(|filter| self.physical(filter, &pair_schema)).transpose()?,
            pair_schema: Arc::new(unqualified(&pair_schema)),
            output,
            schema: Arc::new(unqualified(&join.schema)),
            stream: stream.as_ref().clone(),
            side: StaticSide::new(fixed.as_ref().clone(), static_keys, nulls, self.session.clone())?,
        })
    }

    pub(super) fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self.session.create_physical_expr(expr.clone(), schema)?)
    }

    /// Operators were numbered last first; stages and operators are numbered in the order rows pass them.
    fn renumber(&mut self) {
        self.operators.reverse();
        let last = self.operators.len().saturating_sub(1);
        let turn = |output: &mut StageOutput| {
            if let StageOutput::Operator { at, .. } = output {
                *at = last - *at;
            }
        };
        self.source_stages.iter_mut().for_each(|stage| turn(&mut stage.output));
        self.operators.iter_mut().for_each(|stage| turn(&mut stage.output));
        self.source_stages.sort_by_key(|stage| stage.source);
        self.watermarks.sort_by_key(|watermark| watermark.id);
    }

    /// Most operators take rows that are final: those that read rows another may take back have to take back their own.
    fn check_operators(&self) -> Result<()> {
        if self.output_mode == OutputMode::Append {
            return Ok(());
        }
        for stage in self.operators.iter().filter(|stage| stage.spec.revises()) {
            let StageOutput::Operator { at, .. } = stage.output else { continue };
            if self.operators[at].spec.takes_back() && stage.spec.tells() == Tells::Changes {
                continue;
            }
            return Err(EngineError::query(format!(
                "output mode {} is not possible with a stateful operator other than GROUP BY that reads the groups of another \
                 ({} reads {})",
                self.output_mode,
                self.operators[at].spec.id(),
                stage.spec.id()
            ))
            .help(
                "use output mode append, or write the inner result to a streaming table and read that in a second query",
            ));
        }
        Ok(())
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

/// An array of rows as rows: the one column that the plan takes apart.
fn unnested(unnest: &Unnest) -> Result<Step> {
    match (unnest.list_type_columns.as_slice(), unnest.struct_type_columns.as_slice()) {
        ([(column, list)], []) if list.depth == 1 => {
            Ok(Step::Unnest { column: *column, schema: Arc::new(unqualified(&unnest.schema)) })
        }
        _ => Err(unsupported("unnest of several columns", "use explode")),
    }
}

/// What a key is called, for people.
pub(super) fn key_name(key: &Expr) -> String {
    match key {
        Expr::Column(column) => column.name.clone(),
        other => other.human_display().to_string(),
    }
}

pub(super) fn prepend(step: Step, mut steps: Vec<Step>) -> Vec<Step> {
    steps.insert(0, step);
    steps
}
