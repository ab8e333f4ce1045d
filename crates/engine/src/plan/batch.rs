//! Runs a plan without streams to its end: static sides of joins, `SELECT` outside of streams, and the parts of a
//! streaming plan that run over rows of a stream as over a table.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::runtime::Runtime;

use crate::error::{EngineError, Result};

/// All rows of a plan.
pub(crate) fn collect(session: &SessionState, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
    runtime()?.block_on(async {
        let plan = session.create_physical_plan(&plan).await?;
        Ok(datafusion::physical_plan::collect(plan, session.task_ctx()).await?)
    })
}

/// All rows of a plan, unless they take more than so many bytes.
pub(crate) fn collect_up_to(
    session: &SessionState,
    plan: LogicalPlan,
    limit_bytes: Option<u64>,
) -> Result<Option<Vec<RecordBatch>>> {
    let Some(limit_bytes) = limit_bytes else { return collect(session, plan).map(Some) };
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

/// Memory of the rows of a batch, without what lies beside them in buffers they share with others.
pub(crate) fn size_of_rows(rows: &RecordBatch) -> u64 {
    let size = |column: &ArrayRef| {
        // What cannot be told apart is counted whole.
        column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
    };
    rows.columns().iter().map(|column| size(column) as u64).sum()
}

/// A plan over rows that are not there yet: one of its relations is left open.
pub(crate) struct BatchPlan {
    plan: LogicalPlan,
    session: SessionState,
    /// The columns of the open relation, by which it is found again.
    open: DFSchemaRef,
}

const ROWS_TABLE: &str = "__rows";

impl BatchPlan {
    /// What stands in a plan for rows with these columns.
    pub(crate) fn open_relation(schema: &DFSchemaRef) -> LogicalPlan {
        LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: Arc::clone(schema) })
    }

    /// A plan that contains the open relation of `open`.
    pub(crate) fn new(plan: LogicalPlan, open: DFSchemaRef, session: SessionState) -> Self {
        Self { plan, session, open }
    }

    /// Runs the plan over `rows`.
    pub(crate) fn run(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let (schema, rows) = self.by_place(rows)?;
        let table = provider_as_source(Arc::new(MemTable::try_new(schema, vec![rows])?));
        let plan = self.plan.clone().transform_down(|node| match &node {
            LogicalPlan::EmptyRelation(relation) if Arc::ptr_eq(&relation.schema, &self.open) => {
                let columns = (0..self.open.fields().len()).map(|at| {
                    let (qualifier, field) = self.open.qualified_field(at);
                    Expr::Column(Column::new(Some(ROWS_TABLE), place_name(at)))
                        .alias_qualified(qualifier.cloned(), field.name())
                });
                let scan = LogicalPlanBuilder::scan(ROWS_TABLE, Arc::clone(&table), None)?.project(columns)?.build()?;
                Ok(Transformed::new(scan, true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(node)),
        })?;
        collect(&self.session, plan.data)
    }

    /// The rows with their columns named by place: columns of two relations may have one name.
    fn by_place(&self, rows: Vec<RecordBatch>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let schema = rows.first().map_or_else(|| Arc::new(self.open.as_arrow().clone()), RecordBatch::schema);
        let fields = schema.fields().iter().enumerate();
        let fields: Vec<Field> = fields.map(|(at, field)| field.as_ref().clone().with_name(place_name(at))).collect();
        let schema = Arc::new(Schema::new(fields));
        let renamed = |rows: RecordBatch| RecordBatch::try_new(Arc::clone(&schema), rows.columns().to_vec());
        let rows = rows.into_iter().map(renamed).collect::<Result<_, _>>()?;
        Ok((schema, rows))
    }
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
