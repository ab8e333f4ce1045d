//! A table in memory as the target of a query.

use arrow::array::RecordBatch;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::sink::{BatchId, CommitReport, Sink, SinkRequest, SinkToken};

use super::store::MemoryStore;

pub(super) struct MemorySink {
    store: MemoryStore,
    name: String,
    request: SinkRequest,
    batch: Option<(BatchId, Vec<RecordBatch>)>,
}

impl MemorySink {
    pub(super) fn new(store: &MemoryStore, name: &str, request: SinkRequest) -> Self {
        Self { store: store.clone(), name: name.to_owned(), request, batch: None }
    }
}

impl Sink for MemorySink {
    fn description(&self) -> String {
        format!("MemorySink[{}]", self.name)
    }

    fn last_committed(&mut self) -> Result<SinkToken> {
        let token = self.store.with(&self.name, |stored| stored.tokens.get(&self.request.query_id).copied());
        // A new process has no rows: the commit log alone knows what happened.
        Ok(token.map_or(SinkToken::Unsupported, SinkToken::Committed))
    }

    fn begin(&mut self, batch_id: BatchId) -> Result<()> {
        self.batch = Some((batch_id, Vec::new()));
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let batch = self.batch.as_mut();
        let (_, batches) =
            batch.ok_or_else(|| EngineError::internal("the memory sink was called outside of a batch"))?;
        batches.push(rows.clone());
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self) -> Result<CommitReport> {
        let Some((batch_id, batches)) = self.batch.take() else { return Ok(CommitReport::default()) };
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        self.store.commit(&self.name, &self.request, batch_id, batches)?;
        Ok(CommitReport { rows })
    }

    fn abort(&mut self) -> Result<()> {
        self.batch = None;
        Ok(())
    }
}
