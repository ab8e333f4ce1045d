//! What every exactly-once sink must do, as one check that all of them pass.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use highwater_engine::checkpoint::{CheckpointDir, Durability};
use highwater_engine::clock::SystemClock;
use highwater_engine::plan::catalog::{Options, Table, TableDefinition};
use highwater_engine::sink::{DELETED, OutputMode, Sink, SinkRequest, SinkToken};
use highwater_engine::source::{PartitionReader, SourceMetadata, SourceRequest};

use crate::registry::connectors;

/// How long readers may take to see what was committed.
const SETTLED: Duration = Duration::from_secs(10);

/// A definition of `USING format`.
pub(crate) fn definition(format: &str, schema: Option<SchemaRef>, options: &[(&str, &str)]) -> TableDefinition {
    let options: Options = options.iter().copied().collect();
    TableDefinition { name: "t".to_owned(), format: format.to_owned(), schema, options, partition_columns: Vec::new() }
}

/// The table of a definition.
pub(crate) fn table(definition: &TableDefinition) -> Arc<dyn Table> {
    connectors().get(&definition.format).expect("a connector").table(definition).expect("a table")
}

/// `id BIGINT, name STRING`.
pub(crate) fn id_name() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]))
}

/// Rows of `id_name`.
pub(crate) fn rows(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: Int64Array = rows.iter().map(|(id, _)| Some(*id)).collect();
    let names: StringArray = rows.iter().map(|(_, name)| Some(*name)).collect();
    RecordBatch::try_new(id_name(), vec![Arc::new(ids), Arc::new(names)]).expect("rows")
}

/// What the planner would ask a sink of `schema` for.
pub(crate) fn request(query_id: &str, schema: SchemaRef, output_mode: OutputMode, keys: &[&str]) -> SinkRequest {
    SinkRequest {
        query_id: query_id.to_owned(),
        query_name: query_id.to_owned(),
        schema,
        output_mode,
        key_columns: keys.iter().map(|key| (*key).to_owned()).collect(),
        deletes: false,
    }
}

/// Rows of `id_name` and whether each is gone, as a flow that follows changes writes them.
pub(crate) fn changes(changes: &[(i64, &str, bool)]) -> RecordBatch {
    let plain: Vec<(i64, &str)> = changes.iter().map(|(id, name, _)| (*id, *name)).collect();
    let gone: BooleanArray = changes.iter().map(|(_, _, gone)| Some(*gone)).collect();
    let batch = rows(&plain);
    let mut fields: Vec<_> = batch.schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new(DELETED, DataType::Boolean, false)));
    let columns = batch.columns().iter().cloned().chain([Arc::new(gone) as _]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("changes")
}

/// What a sink that takes deletes must do, on an empty table with the columns of `id_name`.
pub(crate) fn check_deletes(definition: &TableDefinition) {
    let definition = TableDefinition { schema: Some(id_name()), ..definition.clone() };
    let open = || {
        let table = table(&definition);
        assert!(table.takes_deletes());
        let request = SinkRequest { deletes: true, ..request("q", id_name(), OutputMode::Update, &["id"]) };
        let mut sink = table.sink(request).expect("a sink");
        (sink.last_committed().expect("asked"), sink)
    };
    let shown = || select(table(&definition).as_ref(), "SELECT * FROM t");
    let (_, mut sink) = open();
    put(sink.as_mut(), 0, &[changes(&[(1, "a", false), (2, "b", false), (3, "c", false)])]);
    assert_eq!(shown(), ["1 a", "2 b", "3 c"]);
    // Of several rows with one key the last counts, in a batch and in those that follow in it.
    stage(
        sink.as_mut(),
        1,
        &[
            changes(&[
                (1, "gone", true),
                (2, "x", true),
                (2, "again", false),
                (4, "d", false),
                (9, "never there", true),
            ]),
            changes(&[(4, "d", true), (5, "e", false)]),
        ],
    );
    assert_eq!(shown(), ["1 a", "2 b", "3 c"], "a prepared batch is not visible");
    drop(sink);
    let (token, mut sink) = open();
    assert!(token != SinkToken::Committed(1));
    let replayed = [changes(&[(1, "gone", true), (2, "again", false), (4, "d", true), (5, "e", false)])];
    put(sink.as_mut(), 1, &replayed);
    assert_eq!(shown(), ["2 again", "3 c", "5 e"]);
    // Rows that go and nothing else.
    put(sink.as_mut(), 2, &[changes(&[(2, "", true), (3, "", true)])]);
    assert_eq!(shown(), ["5 e"]);
    put(sink.as_mut(), 3, &[changes(&[(5, "", true)])]);
    assert_eq!(shown(), [""; 0]);
    put(sink.as_mut(), 4, &[]);
    put(sink.as_mut(), 5, &[changes(&[(5, "back", false)])]);
    assert_eq!(shown(), ["5 back"]);
}

/// What the planner would ask a source of all columns for.
pub(crate) fn all_columns(table: &dyn Table, checkpoint: &Path) -> SourceRequest {
    let projection = (0..table.schema().fields().len()).collect();
    SourceRequest { projection, members: Vec::new(), metadata: metadata_in(checkpoint), may_be_missing: false }
}

/// What a source may keep in the checkpoint of a query that has just started, whatever an earlier run still holds.
pub(crate) fn metadata_in(checkpoint: &Path) -> SourceMetadata {
    let _ = std::fs::remove_file(checkpoint.join("run/lock"));
    let checkpoint = CheckpointDir::open(&checkpoint.display().to_string(), Durability::None).expect("a checkpoint");
    checkpoint.start_run("q", &SystemClock).expect("a run").source_metadata(0)
}

/// The rows of a query over `t`, each as text, sorted.
pub(crate) fn select(table: &dyn Table, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let provider = table.batch().expect("a provider");
    let batches = runtime.block_on(async {
        let context = SessionContext::new();
        context.register_table("t", provider).expect("registered");
        context.sql(sql).await.expect("planned").collect().await.expect("rows")
    });
    texts(&batches)
}

/// Each row as text, sorted.
pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                let options = FormatOptions::default().with_null("null");
                ArrayFormatter::try_new(column, &options).expect("a formatter").value(row).to_string()
            });
            rows.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    rows.sort();
    rows
}

/// All rows of readers, each as text, sorted.
pub(crate) fn drain(readers: Vec<Box<dyn PartitionReader>>) -> Vec<String> {
    let mut batches = Vec::new();
    for mut reader in readers {
        while let Some(batch) = reader.next_batch().expect("read") {
            batches.push(batch);
        }
    }
    texts(&batches)
}

/// Writes one batch through all steps.
pub(crate) fn put(sink: &mut dyn Sink, batch_id: u64, batches: &[RecordBatch]) {
    stage(sink, batch_id, batches);
    sink.commit().expect("committed");
}

fn stage(sink: &mut dyn Sink, batch_id: u64, batches: &[RecordBatch]) {
    sink.begin(batch_id).expect("begun");
    batches.iter().for_each(|batch| sink.write(batch).expect("written"));
    sink.prepare().expect("prepared");
}

/// A table that exists before anything is written may have no columns yet: reading it then means no rows.
fn visible(table: &dyn Table) -> Vec<i64> {
    let Ok(provider) = table.batch() else { return Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let batches = runtime.block_on(async {
        let context = SessionContext::new();
        context.register_table("t", provider).expect("registered");
        context.sql("SELECT id FROM t").await.expect("planned").collect().await.expect("rows")
    });
    let mut ids: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            assert_eq!(ids.null_count(), 0);
            ids.values().to_vec()
        })
        .collect();
    ids.sort_unstable();
    ids
}

/// What is seen once it has settled: Kafka acknowledges a commit a moment before readers are shown it.
pub(crate) fn settles<T: PartialEq + Debug>(mut see: impl FnMut() -> T, expected: T, why: &str) {
    let began = Instant::now();
    loop {
        let seen = see();
        if seen == expected || began.elapsed() > SETTLED {
            assert_eq!(seen, expected, "{why}");
            return;
        }
    }
}

fn has_none(sink: &mut dyn Sink) -> bool {
    matches!(sink.last_committed().expect("asked"), SinkToken::None | SinkToken::NoneLeft)
}

/// The contract of `sink.rs`, in append mode, on an empty table with the columns of `id_name`.
pub(crate) fn check(definition: &TableDefinition) {
    let definition = TableDefinition { schema: Some(id_name()), ..definition.clone() };
    let open = |query_id: &str| {
        let sink = table(&definition).sink(request(query_id, id_name(), OutputMode::Append, &[])).expect("a sink");
        (sink, table(&definition))
    };
    let (mut sink, table) = open("query a/1");
    assert!(has_none(sink.as_mut()), "a new table has no token");
    stage(sink.as_mut(), 0, &[rows(&[(1, "a")]), rows(&[(2, "b")])]);
    assert_eq!(visible(table.as_ref()), [0; 0], "prepared rows are not visible");
    drop(sink);

    let (mut sink, _) = open("query a/1");
    assert!(has_none(sink.as_mut()), "a prepared batch has no token");
    assert_eq!(visible(table.as_ref()), [0; 0]);
    put(sink.as_mut(), 0, &[rows(&[(1, "a")]), rows(&[(2, "b")])]);
    settles(|| visible(table.as_ref()), [1, 2].to_vec(), "the replayed batch is there once");
    stage(sink.as_mut(), 1, &[rows(&[(3, "c")])]);
    sink.abort().expect("aborted");
    assert_eq!(visible(table.as_ref()), [1, 2], "an aborted batch is not visible");
    stage(sink.as_mut(), 1, &[rows(&[(99, "forgotten")])]);
    put(sink.as_mut(), 1, &[rows(&[(3, "c")])]);
    settles(|| visible(table.as_ref()), [1, 2, 3].to_vec(), "a new beginning forgets what was written");
    put(sink.as_mut(), 2, &[]);
    drop(sink);

    let (mut sink, _) = open("query a/1");
    assert_eq!(sink.last_committed().expect("asked"), SinkToken::Committed(2), "a batch without rows has a token");
    let (mut other, _) = open("b");
    assert!(has_none(other.as_mut()), "another query has its own token");
    put(other.as_mut(), 0, &[rows(&[(10, "x")])]);
    put(sink.as_mut(), 3, &[rows(&[(4, "d")])]);
    put(other.as_mut(), 1, &[rows(&[(11, "y")])]);
    settles(|| visible(table.as_ref()), [1, 2, 3, 4, 10, 11].to_vec(), "two queries write one table");

    check_zombie(&open, table.as_ref());
    let (mut sink, _) = open("query a/1");
    assert_eq!(sink.last_committed().expect("asked"), SinkToken::Committed(4));
    let (mut other, _) = open("b");
    assert_eq!(other.last_committed().expect("asked"), SinkToken::Committed(1));
    for batch in 5..30 {
        put(sink.as_mut(), batch, &[rows(&[(100 + i64::try_from(batch).expect("small"), "many")])]);
    }
    settles(|| visible(table.as_ref()).len(), 7 + 25, "every batch is there");
    assert_eq!(open("query a/1").0.last_committed().expect("asked"), SinkToken::Committed(29));
}

/// A run that was stopped before its commit wakes up after another run committed the same batch.
fn check_zombie(open: &dyn Fn(&str) -> (Box<dyn Sink>, Arc<dyn Table>), table: &dyn Table) {
    let (mut zombie, _) = open("query a/1");
    assert_eq!(zombie.last_committed().expect("asked"), SinkToken::Committed(3));
    stage(zombie.as_mut(), 4, &[rows(&[(5, "e")])]);
    let (mut sink, _) = open("query a/1");
    assert_eq!(sink.last_committed().expect("asked"), SinkToken::Committed(3));
    put(sink.as_mut(), 4, &[rows(&[(5, "e")])]);
    // It may say so or not, but it must not write.
    let _ = zombie.commit();
    settles(|| visible(table), [1, 2, 3, 4, 5, 10, 11].to_vec(), "a batch is committed by one run only");
}
