//! A topic as a static table: everything from its first record to its last at the moment the query starts.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use highwater_engine::error::Result;
use highwater_engine::source::ReadReport;

use super::client::cluster::{Client, TopicPartition};
use super::decode::Decoding;
use super::offsets::PartitionOffsets;
use super::options::KafkaOptions;
use super::source::{readers, static_range};

/// Batches that wait for the query, for each partition.
const BATCHES_AHEAD: usize = 2;

/// A topic as a static table. The offsets are looked up anew by every scan.
#[derive(Clone)]
pub struct KafkaTableProvider {
    client: Client,
    options: Arc<KafkaOptions>,
    decoding: Decoding,
}

/// One partition of one scan.
struct KafkaPartitionStream {
    table: KafkaTableProvider,
    start: PartitionOffsets,
    end: PartitionOffsets,
}

impl KafkaTableProvider {
    /// A table of all columns `decoding` has.
    pub fn new(client: Client, options: Arc<KafkaOptions>, decoding: Decoding) -> Self {
        Self { client, options, decoding }
    }
}

#[async_trait]
impl TableProvider for KafkaTableProvider {
    fn schema(&self) -> SchemaRef {
        self.decoding.layout().schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let mut table = self.clone();
        if let Some(projection) = projection {
            table.decoding = self.decoding.project(projection).map_err(external)?;
        }
        let (client, options) = (self.client.clone(), self.options.clone());
        let range = tokio::task::spawn_blocking(move || static_range(&client, &options)).await;
        let (start, end) = range.map_err(external)?.map_err(external)?;
        let stream = |(partition, from): (&TopicPartition, &i64)| -> Arc<dyn PartitionStream> {
            let only = |offset: i64| PartitionOffsets::from([(partition.clone(), offset)]);
            let end = end.get(partition).copied().unwrap_or(*from);
            Arc::new(KafkaPartitionStream { table: table.clone(), start: only(*from), end: only(end) })
        };
        let streams = start.iter().map(stream).collect();
        let schema = table.decoding.layout().schema().clone();
        Ok(Arc::new(StreamingTableExec::try_new(schema, streams, None, None, false, limit)?))
    }
}

impl PartitionStream for KafkaPartitionStream {
    fn schema(&self) -> &SchemaRef {
        self.table.decoding.layout().schema()
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema().clone(), BATCHES_AHEAD);
        let (table, start, end) = (self.table.clone(), self.start.clone(), self.end.clone());
        let batches = builder.tx();
        builder.spawn_blocking(move || {
            let send = |batch: RecordBatch| batches.blocking_send(Ok(batch)).is_ok();
            table.read(&start, &end, send).map_err(external)
        });
        builder.build()
    }
}

impl KafkaTableProvider {
    /// Reads a range until `send` says that nobody listens.
    ///
    /// There is no checkpoint that could keep dead letters: a malformed value is a row of nulls, or an error, or it is
    /// dropped, as `mode` says, and the log has how many there were.
    fn read(&self, start: &PartitionOffsets, end: &PartitionOffsets, send: impl Fn(RecordBatch) -> bool) -> Result<()> {
        for mut reader in readers(&self.client, &self.options, &self.decoding, start, end)? {
            let mut is_heard = true;
            while is_heard && let Some(batch) = reader.next_batch()? {
                reader.take_dead_letters();
                is_heard = send(batch);
            }
            let ReadReport { malformed, dropped, .. } = reader.report();
            if malformed > 0 {
                let (table, partition) = (&self.options.object, reader.partition());
                tracing::warn!(table, partition, malformed, dropped, "values of a topic could not be read");
            }
            if !is_heard {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl fmt::Debug for KafkaTableProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaTableProvider({})", self.options.object)
    }
}

impl fmt::Debug for KafkaPartitionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaPartitionStream({:?} to {:?})", self.start, self.end)
    }
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
