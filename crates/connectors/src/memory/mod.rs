//! `USING memory`: rows in this process under the table's name, for tests and for looking at a query's result.
//!
//! ```text
//!   sink of table t ──commit──> MemoryStore: t -> rows <──batch()── SELECT * FROM t
//!                                    ▲    └──source()──> SELECT * FROM STREAM t
//!              rows from outside ────┘
//! ```
//!
//! The rows and the tokens live as long as the store. That of `USING memory` is the process's own, so a restarted query
//! in the same process is exactly-once and one in a new process starts empty; a rehearsal ([`crate::stand_in`]) has one
//! of its own. In complete mode a batch replaces the table, in update mode it replaces the rows with its keys (Spark's
//! memory table appends them); a table that was so rewritten cannot be read as a stream. There is no limit but the
//! machine's memory.

mod keys;
mod sink;
mod source;
mod store;

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::Expr;
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{Connector, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Source, SourceRequest};

pub(crate) use keys::Keys;
pub use store::{Forgotten, MemoryStore};

use crate::file::provider::ReadersTable;
use crate::noop::ALL_MODES;
use sink::MemorySink;
use source::MemorySource;

/// The rows of this process.
static PROCESS: LazyLock<MemoryStore> = LazyLock::new(MemoryStore::default);

/// The connector of `USING memory`.
#[derive(Debug)]
pub struct MemoryConnector;

impl Connector for MemoryConnector {
    fn format(&self) -> &str {
        "memory"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        StoreConnector(PROCESS.clone()).table(definition)
    }
}

/// `USING memory` in a store of its own: the session that has it ends with its rows.
#[derive(Debug, Clone)]
pub struct StoreConnector(pub MemoryStore);

impl Connector for StoreConnector {
    fn format(&self) -> &str {
        "memory"
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        definition.options.reader(format!("table {} (USING memory)", definition.name)).finish()?;
        Ok(Arc::new(MemoryTable::new(&self.0, &definition.name, definition.schema.clone())))
    }
}

/// A table of a store.
#[derive(Debug, Clone)]
pub(crate) struct MemoryTable {
    store: MemoryStore,
    name: String,
    declared: Option<SchemaRef>,
}

impl MemoryTable {
    pub(crate) fn new(store: &MemoryStore, name: &str, declared: Option<SchemaRef>) -> Self {
        Self { store: store.clone(), name: name.to_owned(), declared }
    }
}

impl Table for MemoryTable {
    fn schema(&self) -> SchemaRef {
        let written = || self.store.schema(&self.name);
        self.declared.clone().or_else(written).unwrap_or_else(|| Arc::new(Schema::empty()))
    }

    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>> {
        Ok(Box::new(MemorySource::new(&self.store, &self.name, request.projection)))
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        if !self.store.take_schema(&self.name, &request.schema) {
            return Err(EngineError::config(format!("table {} (USING memory) has rows with other columns", self.name))
                .help("choose another name for the result"));
        }
        Ok(Box::new(MemorySink::new(&self.store, &self.name, request)))
    }

    fn output_modes(&self) -> &[OutputMode] {
        ALL_MODES
    }

    fn takes_deletes(&self) -> bool {
        true
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        let (store, name) = (self.store.clone(), self.name.clone());
        let open = move |projection: &[usize], _: &[Expr]| source::all_rows(&store, &name, projection);
        // Filters cost nothing to heed where all rows are in memory: a stand-in does what the table it stands for can do.
        Ok(Arc::new(ReadersTable::filtered(&self.name, self.schema(), |_| true, open)))
    }
}

#[cfg(test)]
mod tests {

    use highwater_engine::sink::SinkToken;
    use highwater_engine::source::{Offset, OffsetRange};

    use super::*;
    use crate::contract::{all_columns, id_name, request, rows, select};

    fn table(store: &MemoryStore) -> MemoryTable {
        MemoryTable::new(store, "t", Some(id_name()))
    }

    fn write(table: &MemoryTable, mode: OutputMode, batch: u64, given: &[(i64, &str)]) {
        let mut sink = table.sink(request("q", id_name(), mode, &["id"])).unwrap();
        sink.begin(batch).unwrap();
        sink.write(&rows(given)).unwrap();
        sink.prepare().unwrap();
        sink.commit().unwrap();
    }

    fn shown(table: &MemoryTable) -> Vec<String> {
        select(table, "SELECT * FROM t")
    }

    #[test]
    fn each_output_mode_leaves_what_it_means() {
        let check = |mode: OutputMode, expected: &[&str]| {
            let table = table(&MemoryStore::default());
            write(&table, mode, 0, &[(1, "a"), (2, "b")]);
            write(&table, mode, 1, &[(2, "c")]);
            // A batch that is replayed changes nothing.
            write(&table, mode, 1, &[(2, "c")]);
            assert_eq!(shown(&table), expected, "{mode}");
            let token = table.sink(request("q", id_name(), mode, &["id"])).unwrap().last_committed().unwrap();
            assert_eq!(token, SinkToken::Committed(1));
        };
        check(OutputMode::Append, &["1 a", "2 b", "2 c"]);
        check(OutputMode::Update, &["1 a", "2 c"]);
        check(OutputMode::Complete, &["2 c"]);
    }

    #[test]
    fn rows_can_be_taken_away() {
        PROCESS.forget("t");
        crate::contract::check_deletes(&crate::contract::definition("memory", None, &[]));
        PROCESS.forget("t");
    }

    fn read(source: &mut dyn Source, start: u64) -> (Vec<(String, usize)>, u64) {
        let start = Offset(start.into());
        let end = source.plan_batch(&start, None).unwrap();
        let range = OffsetRange { start, end: end.clone() };
        let mut found = Vec::new();
        for mut reader in source.read(&range).unwrap() {
            while let Some(rows) = reader.next_batch().unwrap() {
                found.push((reader.partition().to_owned(), rows.num_rows()));
            }
        }
        (found, end.0.as_u64().unwrap())
    }

    #[test]
    fn what_is_appended_is_a_stream() {
        let store = MemoryStore::default();
        let table = table(&store);
        store.add("t", "p1", rows(&[(1, "a")]));
        write(&table, OutputMode::Append, 0, &[(2, "b"), (3, "c")]);
        let folder = tempfile::tempdir().unwrap();
        let mut source = table.source(all_columns(&table, folder.path())).unwrap();
        let (found, end) = read(source.as_mut(), 0);
        assert_eq!(found, [("p1".to_owned(), 1), ("q".to_owned(), 2)]);
        store.add("t", "p1", rows(&[(4, "d")]));
        assert_eq!(source.unread(&Offset(end.into())).unwrap().partitions, ["p1"]);
        assert_eq!(read(source.as_mut(), end), (vec![("p1".to_owned(), 1)], 3));
    }

    #[test]
    fn a_rewritten_table_is_no_stream_and_lost_rows_are_missed() {
        let store = MemoryStore::default();
        let table = table(&store);
        let folder = tempfile::tempdir().unwrap();
        let mut source = table.source(all_columns(&table, folder.path())).unwrap();
        let range = OffsetRange { start: Offset(0.into()), end: Offset(5.into()) };
        let Err(lost) = source.read(&range) else { panic!("rows that are not there were read") };
        let expected = "table t (USING memory) has the batches 0 to 0, expected 0 to 5: its rows were lost with the \
                        process that had them";
        assert_eq!(lost.to_string(), expected);
        write(&table, OutputMode::Complete, 0, &[(1, "a")]);
        let rewritten = source.latest_offset().unwrap_err();
        let expected = "table t (USING memory) is rewritten by query 'q' in output mode complete, so it cannot be read \
                        as a stream";
        assert_eq!(rewritten.to_string(), expected);
    }
}
