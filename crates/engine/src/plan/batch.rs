//! Runs a plan without streams to its end: static sides of joins, `SELECT` outside of streams, and the parts of a
//! streaming plan that run over rows of a stream as over a table.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Distinct, EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::functions::random::is_seeded;
use crate::error::{EngineError, Result};

/// All rows of a plan.
pub(crate) fn collect(session: &SessionState, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
    let session = &suited(session, &plan)?;
    runtime()?.block_on(async {
        let plan = session.create_physical_plan(&plan).await?;
        Ok(datafusion::physical_plan::collect(plan, session.task_ctx()).await?)
    })
}

/// Ends rows that are being collected, from another thread: at the next batch of rows.
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<watch::Sender<bool>>);

impl Default for Cancellation {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancellation {
    /// Ends what runs, and what will.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    async fn cancelled(&self) {
        // The sender is held here: it cannot be gone.
        let _ = self.0.subscribe().wait_for(|is_cancelled| *is_cancelled).await;
    }
}

/// All rows of a plan; none if somebody cancels it.
pub(crate) fn collect_unless_cancelled(
    session: &SessionState,
    plan: LogicalPlan,
    cancellation: &Cancellation,
) -> Result<Option<Vec<RecordBatch>>> {
    let session = &suited(session, &plan)?;
    runtime()?.block_on(async {
        let rows = async {
            let plan = session.create_physical_plan(&plan).await?;
            Ok::<_, EngineError>(datafusion::physical_plan::collect(plan, session.task_ctx()).await?)
        };
        tokio::select! {
            // First: rows that never wait must not keep the end from being heard.
            biased;
            () = cancellation.cancelled() => Ok(None),
            rows = rows => rows.map(Some),
        }
    })
}

/// All rows of a plan, unless they take more than so many bytes.
pub(crate) fn collect_up_to(
    session: &SessionState,
    plan: LogicalPlan,
    limit_bytes: Option<u64>,
) -> Result<Option<Vec<RecordBatch>>> {
    let Some(limit_bytes) = limit_bytes else { return collect(session, plan).map(Some) };
    let session = &suited(session, &plan)?;
    runtime()?.block_on(async {
        let plan = session.create_physical_plan(&plan).await?;
        let mut rows = execute_stream(plan, session.task_ctx())?;
        let (mut found, mut size_bytes) = (Vec::new(), 0_u64);
        while let Some(batch) = rows.next().await.transpose()? {
            size_bytes = size_bytes.saturating_add(size_of_rows(&batch));
            if size_bytes > limit_bytes {
                return Ok(None);
            }
            found.push(batch);
        }
        Ok(Some(found))
    })
}

/// The session, with all rows in one partition where their order says what they get, or is that of the result.
/// DataFusion keeps an order only where the query itself ends with it; rows that are in one place stay as they are.
fn suited<'a>(session: &'a SessionState, plan: &LogicalPlan) -> Result<Cow<'a, SessionState>> {
    if !(is_ordered_below(plan) || is_seeded(plan)?) {
        return Ok(Cow::Borrowed(session));
    }
    let config = session.config().clone().with_target_partitions(1);
    Ok(Cow::Owned(SessionStateBuilder::new_from_existing(session.clone()).with_config(config).build()))
}

/// Whether rows come in an order that a subquery gives them: `orderBy` before `select` is common with DataFrames, and
/// `collect_list` takes them as they come.
fn is_ordered_below(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Aggregate(_)
        | LogicalPlan::Window(_)
        | LogicalPlan::Sort(_) => {
            plan.inputs().into_iter().any(|input| matches!(input, LogicalPlan::Sort(_)) || is_ordered_below(input))
        }
        LogicalPlan::Distinct(Distinct::On(distinct)) => distinct.sort_expr.is_some(),
        _ => false,
    }
}

/// Memory of the rows of a batch, without what lies beside them in buffers they share with others.
pub(crate) fn size_of_rows(rows: &RecordBatch) -> u64 {
    let size = |column: &ArrayRef| {
        // What cannot be told apart is counted whole.
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    rows.columns().iter().map(|column| size(column) as u64).sum()
}

/// A plan over rows that are not there yet: some of its relations are left open.
pub(crate) struct BatchPlan {
    plan: LogicalPlan,
    session: SessionState,
    /// The columns of each open relation, by which it is found again: no two of them are the same object.
    open: Vec<DFSchemaRef>,
}

impl BatchPlan {
    /// What stands in a plan for rows with these columns.
    pub(crate) fn open_relation(schema: &DFSchemaRef) -> LogicalPlan {
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(schema) })
    }

    /// A plan that contains the open relations of `open`.
    pub(crate) fn new(plan: LogicalPlan, open: Vec<DFSchemaRef>, session: SessionState) -> Self {
        Self { plan, session, open }
    }

    /// How many relations are open.
    pub(crate) fn relations(&self) -> usize {
        self.open.len()
    }

    /// Runs the plan over the rows of each open relation.
    pub(crate) fn run(&self, rows: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        let tables = self.open.iter().zip(rows).map(|(open, rows)| {
            let (schema, rows) = by_place(open, rows)?;
            Ok(provider_as_source(Arc::new(MemTable::try_new(schema, vec![rows])?)))
        });
        let tables = tables.collect::<Result<Vec<_>>>()?;
        let plan = self.plan.clone().transform_down(|node| {
            let LogicalPlan::EmptyRelation(relation) = &node else { return Ok(Transformed::no(node)) };
            let Some(at) = self.open.iter().position(|open| Arc::ptr_eq(&relation.schema, open)) else {
                return Ok(Transformed::no(node));
            };
            let (open, name) = (&self.open[at], format!("__rows{at}"));
            let columns = (0..open.fields().len()).map(|at| {
                let (qualifier, field) = open.qualified_field(at);
                Expr::Column(Column::new(Some(name.as_str()), place_name(at)))
                    .alias_qualified(qualifier.cloned(), field.name())
            });
            let scan =
                LogicalPlanBuilder::scan(name.as_str(), Arc::clone(&tables[at]), None)?.project(columns)?.build()?;
            Ok(Transformed::new(scan, true, TreeNodeRecursion::Jump))
        })?;
        collect(&self.session, plan.data)
    }
}

/// The rows with their columns named by place: columns of two relations may have one name.
fn by_place(open: &DFSchemaRef, rows: Vec<RecordBatch>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let schema = rows.first().map_or_else(|| Arc::new(open.as_arrow().clone()), RecordBatch::schema);
    let fields = schema.fields().iter().enumerate();
    let fields: Vec<Field> = fields.map(|(at, field)| field.as_ref().clone().with_name(place_name(at))).collect();
    let schema = Arc::new(Schema::new(fields));
    let renamed = |rows: RecordBatch| RecordBatch::try_new(Arc::clone(&schema), rows.columns().to_vec());
    let rows = rows.into_iter().map(renamed).collect::<Result<_, _>>()?;
    Ok((schema, rows))
}

fn place_name(at: usize) -> String {
    format!("c{at}")
}

/// The engine's own thread for what DataFusion does asynchronously; streams do not use it.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("highwater-batch")
        .enable_all()
        .build()
        .map_err(|error| EngineError::unavailable("a thread for batch queries cannot be started").caused_by(error))?;
    Ok(RUNTIME.get_or_init(|| runtime))
}
