//! `USING noop`: takes all rows and keeps none, for measuring. It has no tokens, since nothing can appear twice.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Table, TableDefinition};
use highwater_engine::sink::{BatchId, CommitReport, OutputMode, Sink, SinkRequest, SinkToken};
use highwater_engine::source::{Source, SourceRequest};

/// All output modes.
pub(crate) const ALL_MODES: &[OutputMode] = &[OutputMode::Append, OutputMode::Update, OutputMode::Complete];

/// The connector of `USING noop`.
#[derive(Debug)]
pub struct NoopConnector;

impl Connector for NoopConnector {
    fn format(&self) -> &str {
        "noop"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        definition.options.reader(format!("table {} (USING noop)", definition.name)).finish()?;
        let schema = definition.schema.clone().unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(Arc::new(NoopTable { name: definition.name.clone(), schema }))
    }
}

struct NoopTable {
    name: String,
    schema: SchemaRef,
}

impl Table for NoopTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn source(&self, _request: SourceRequest) -> Result<Box<dyn Source>> {
        Err(write_only(&self.name, "noop"))
    }

    fn check_source(&self) -> Result<()> {
        Err(write_only(&self.name, "noop"))
    }

    fn sink(&self, _request: SinkRequest) -> Result<Box<dyn Sink>> {
        Ok(Box::new(NoopSink { rows: 0 }))
    }

    fn output_modes(&self) -> &[OutputMode] {
        ALL_MODES
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        Err(write_only(&self.name, "noop"))
    }
}

/// A table of this format can only be written.
pub(crate) fn write_only(name: &str, format: &str) -> EngineError {
    EngineError::query(format!("table {name} (USING {format}) can only be written, but the query reads it"))
        .help("read from a table that keeps its rows: json, csv, parquet, delta, sqlite, kafka")
}

struct NoopSink {
    rows: u64,
}

impl Sink for NoopSink {
    fn description(&self) -> String {
        "NoopSink".to_owned()
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        Ok(SinkToken::Unsupported)
    }

    fn begin(&mut self, _batch_id: BatchId) -> Result<()> {
        self.rows = 0;
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        Ok(CommitReport { rows: std::mem::take(&mut self.rows) })
    }

    fn abort(&mut self) -> Result<()> {
        self.rows = 0;
        Ok(())
    }
}
