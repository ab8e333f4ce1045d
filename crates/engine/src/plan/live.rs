//! A static table that is opened anew each time it is read, so that a join sees the rows of the moment.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{MemTable, TableType, source_as_provider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::cache::CacheSettings;
use super::catalog::Table;
use crate::error::Result;

/// A table of the catalog as DataFusion sees it.
pub(crate) struct LiveTable {
    table: Arc<dyn Table>,
    schema: SchemaRef,
    /// A table of ours that no query has written to yet is empty, not missing.
    may_be_missing: bool,
    name: String,
    cache: CacheSettings,
}

impl LiveTable {
    /// The table of that name; how its rows are kept is for joins with a stream to heed.
    pub(crate) fn open(name: &str, table: Arc<dyn Table>, may_be_missing: bool, cache: CacheSettings) -> Result<Self> {
        let schema = match table.batch() {
            Ok(provider) => provider.schema(),
            Err(_) if may_be_missing => table.schema(),
            Err(error) => return Err(error),
        };
        Ok(Self { table, schema, may_be_missing, name: name.to_owned(), cache })
    }

    /// The static tables that a plan reads, subqueries included.
    pub(crate) fn all_in(plan: &LogicalPlan) -> Result<Vec<Arc<dyn TableProvider>>> {
        let mut found = Vec::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
            {
                found.push(provider);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    }

    /// The table behind a provider, if it is one of the catalog.
    pub(crate) fn of(provider: &dyn TableProvider) -> Option<&Self> {
        let any: &dyn std::any::Any = provider;
        any.downcast_ref()
    }

    /// The table's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How its rows are kept.
    pub(crate) fn cache(&self) -> &CacheSettings {
        &self.cache
    }

    /// Whether it is a table of ours that no query may have written to yet.
    pub(crate) fn may_be_missing(&self) -> bool {
        self.may_be_missing
    }

    fn current(&self) -> DfResult<Arc<dyn TableProvider>> {
        match self.table.batch() {
            Ok(provider) => Ok(provider),
            Err(_) if self.may_be_missing => Ok(Arc::new(MemTable::try_new(Arc::clone(&self.schema), vec![vec![]])?)),
            Err(error) => Err(DataFusionError::External(Box::new(error))),
        }
    }
}

impl fmt::Debug for LiveTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveTable").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.current()?.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        // What the table does with a filter may be another thing when it is read: it is asked to help, not trusted.
        let answers = self.current()?.supports_filters_pushdown(filters)?;
        let inexact = |answer| match answer {
            TableProviderFilterPushDown::Exact => TableProviderFilterPushDown::Inexact,
            other => other,
        };
        Ok(answers.into_iter().map(inexact).collect())
    }
}
