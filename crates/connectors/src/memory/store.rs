//! Tables by name, with their rows, for as long as somebody holds the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use highwater_engine::error::Result;
use highwater_engine::sink::{BatchId, OutputMode, SinkRequest};
use parking_lot::Mutex;

use super::keys::upsert;

/// Rows of tables by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<HashMap<String, Stored>>>,
    /// Whether what each batch wrote is kept beside what the table became.
    records_writes: bool,
}

/// A table that was forgotten, if there was one.
#[derive(Debug)]
pub struct Forgotten(Option<Stored>);

/// Rows with the partition they belong to.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) partition: String,
    pub(super) rows: RecordBatch,
}

/// The rows of one table.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) schema: Option<SchemaRef>,
    pub(super) parts: Vec<Part>,
    /// The query that replaces rows, and how.
    pub(super) rewritten_by: Option<(String, OutputMode)>,
    pub(super) tokens: BTreeMap<String, BatchId>,
    writes: Vec<RecordBatch>,
}

impl MemoryStore {
    /// A store that also keeps what each batch wrote, for [`MemoryStore::writes`].
    pub fn recording() -> Self {
        Self { records_writes: true, ..Self::default() }
    }

    /// Adds rows to a partition of a table, as if somebody outside had written them.
    pub fn add(&self, table: &str, partition: &str, rows: RecordBatch) {
        self.with(table, |stored| stored.parts.push(Part { partition: partition.to_owned(), rows }));
    }

    /// The rows of a table as they are now.
    pub fn rows(&self, table: &str) -> Vec<RecordBatch> {
        self.with(table, |stored| stored.parts.iter().map(|part| part.rows.clone()).collect())
    }

    /// What batches wrote to a table, oldest first; empty for a store that does not record.
    pub fn writes(&self, table: &str) -> Vec<RecordBatch> {
        self.with(table, |stored| stored.writes.clone())
    }

    /// Forgets a table, and gives it to whom may want it back.
    pub fn forget(&self, table: &str) -> Forgotten {
        Forgotten(self.tables.lock().remove(&table.to_lowercase()))
    }

    /// Takes back that a table was forgotten; what it has become meanwhile is gone.
    pub fn remember(&self, table: &str, forgotten: Forgotten) {
        let mut tables = self.tables.lock();
        match forgotten.0 {
            Some(stored) => drop(tables.insert(table.to_lowercase(), stored)),
            None => drop(tables.remove(&table.to_lowercase())),
        }
    }

    /// The columns a query has written the table with.
    pub(super) fn schema(&self, table: &str) -> Option<SchemaRef> {
        self.with(table, |stored| stored.schema.clone())
    }

    /// Gives the table these columns; false if it has rows with others.
    pub(super) fn take_schema(&self, table: &str, schema: &SchemaRef) -> bool {
        self.with(table, |stored| {
            let differs = stored.schema.as_ref().is_some_and(|known| !same_columns(known, schema));
            if differs && !stored.parts.is_empty() {
                return false;
            }
            stored.schema = Some(SchemaRef::clone(schema));
            true
        })
    }

    /// Makes a batch of a query visible, unless it is already.
    pub(super) fn commit(
        &self,
        table: &str,
        request: &SinkRequest,
        batch: BatchId,
        rows: Vec<RecordBatch>,
    ) -> Result<()> {
        self.with(table, |stored| {
            if stored.tokens.get(&request.query_id).is_some_and(|known| *known >= batch) {
                return Ok(());
            }
            if self.records_writes {
                stored.writes.extend(rows.iter().cloned());
            }
            let part = |rows| Part { partition: request.query_name.clone(), rows };
            match request.output_mode {
                OutputMode::Append => stored.parts.extend(rows.into_iter().map(part)),
                OutputMode::Complete => stored.parts = rows.into_iter().map(part).collect(),
                OutputMode::Update => {
                    let old: Vec<RecordBatch> = stored.parts.iter().map(|part| part.rows.clone()).collect();
                    let kept = upsert(&old, &rows, &request.key_columns, request.deletes)?;
                    stored.parts = kept.into_iter().map(part).collect();
                }
            }
            if request.output_mode != OutputMode::Append {
                stored.rewritten_by = Some((request.query_name.clone(), request.output_mode));
            }
            stored.tokens.insert(request.query_id.clone(), batch);
            Ok(())
        })
    }

    pub(super) fn with<T>(&self, table: &str, f: impl FnOnce(&mut Stored) -> T) -> T {
        f(self.tables.lock().entry(table.to_lowercase()).or_default())
    }
}

fn same_columns(a: &Schema, b: &Schema) -> bool {
    let types = |schema: &Schema| -> Vec<_> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    types(a) == types(b)
}
