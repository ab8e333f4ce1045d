//! Delta tables as a whole: the sink contract, the other modes, streams over commits.

use std::fs;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use highwater_engine::sink::{OutputMode, SinkToken};
use highwater_engine::source::{Offset, OffsetRange, Source, SourceRequest};
use tempfile::TempDir;

use crate::contract::{
    all_columns, check, check_deletes, definition, drain, id_name, put, request, rows, select, table,
};

fn path_of(folder: &TempDir) -> String {
    folder.path().join("table").to_string_lossy().into_owned()
}

#[test]
fn the_sink_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    check(&definition("delta", None, &[("path", &path_of(&folder))]));
    let log = fs::read_dir(folder.path().join("table/_delta_log")).expect("a log").filter_map(Result::ok);
    let names: Vec<String> = log.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.contains("checkpoint")), "{names:?}");
}

#[test]
fn partitioned_tables_keep_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut partitioned = definition("delta", None, &[("path", &path_of(&folder)), ("compression", "zstd")]);
    partitioned.partition_columns = vec!["name".to_owned()];
    check(&partitioned);
    assert!(folder.path().join("table/name=many").is_dir());
}

#[test]
fn rows_can_be_taken_away() {
    let folder = tempfile::tempdir().expect("a folder");
    check_deletes(&definition("delta", None, &[("path", &path_of(&folder))]));
    let mut partitioned = definition("delta", None, &[("path", &format!("{}2", path_of(&folder)))]);
    partitioned.partition_columns = vec!["name".to_owned()];
    check_deletes(&partitioned);
}

#[test]
fn update_mode_replaces_rows_by_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = table(&definition("delta", Some(id_name()), &[("path", &path_of(&folder))]));
    let open = |query: &str| table.sink(request(query, id_name(), OutputMode::Update, &["id"])).expect("a sink");
    let mut sink = open("q");
    put(sink.as_mut(), 0, &[rows(&[(1, "a"), (2, "b")]), rows(&[(3, "c"), (1, "a2")])]);
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["1 a2", "2 b", "3 c"]);
    put(sink.as_mut(), 1, &[rows(&[(2, "b2"), (4, "d")])]);
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["1 a2", "2 b2", "3 c", "4 d"]);

    // Built on a version that is not the newest any more: built again.
    sink.begin(2).expect("begun");
    sink.write(&rows(&[(3, "c2")])).expect("written");
    sink.prepare().expect("prepared");
    put(open("other").as_mut(), 0, &[rows(&[(3, "theirs"), (5, "e")])]);
    sink.commit().expect("committed");
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["1 a2", "2 b2", "3 c2", "4 d", "5 e"]);
    assert_eq!(open("q").last_committed().expect("asked"), SinkToken::Committed(2));
}

#[test]
fn complete_mode_replaces_the_table_in_one_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = table(&definition("delta", Some(id_name()), &[("path", &path_of(&folder))]));
    let mut sink = table.sink(request("q", id_name(), OutputMode::Complete, &[])).expect("a sink");
    put(sink.as_mut(), 0, &[rows(&[(1, "a"), (2, "b")])]);
    put(sink.as_mut(), 1, &[rows(&[(3, "c")])]);
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["3 c"]);
    assert_eq!(select(table.as_ref(), "SELECT count(*) FROM t WHERE id < 3"), ["0"]);
}

#[test]
fn other_columns_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let first = table(&definition("delta", Some(id_name()), &[("path", &path)]));
    put(
        first.sink(request("q", id_name(), OutputMode::Append, &[])).expect("a sink").as_mut(),
        0,
        &[rows(&[(1, "a")])],
    );
    let text_id =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true), Field::new("name", DataType::Utf8, true)]));
    let error = first.sink(request("q", text_id, OutputMode::Append, &[])).err().expect("refused").to_string();
    assert!(error.contains("column 'id'") && error.contains("Int64") && error.contains("Utf8"), "{error}");
    let extra = Arc::new(Schema::new(vec![Field::new("age", DataType::Int64, true)]));
    let error = first.sink(request("q", extra, OutputMode::Append, &[])).err().expect("refused");
    assert!(error.to_string().contains("has no column 'age'"), "{error}");
    assert_eq!(error.next_step(), Some("its columns are id, name"));
}

#[test]
fn nested_columns_and_timestamps_come_back() {
    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StructArray, TimestampMicrosecondArray};
    let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let window = Fields::from(vec![Field::new("start", stamp.clone(), true), Field::new("end", stamp, true)]);
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>([Some(vec![Some(1), None])]);
    let at = |micros| Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as ArrayRef;
    let bounds = StructArray::new(window.clone(), vec![at(0), at(60_000_001)], None);
    let schema = Arc::new(Schema::new(vec![
        Field::new("window", DataType::Struct(window), true),
        Field::new("list", arrow::array::Array::data_type(&list).clone(), true),
        Field::new("n", DataType::Int64, true),
    ]));
    let columns: Vec<ArrayRef> = vec![Arc::new(bounds), Arc::new(list), Arc::new(Int64Array::from(vec![7]))];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("rows");
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let written = table(&definition("delta", None, &[("path", &path)]));
    let mut sink = written.sink(request("q", Arc::clone(&schema), OutputMode::Update, &["window"])).expect("a sink");
    put(sink.as_mut(), 0, std::slice::from_ref(&batch));
    put(sink.as_mut(), 1, std::slice::from_ref(&batch));
    let read = table(&definition("delta", None, &[("path", &path)]));
    assert_eq!(
        select(read.as_ref(), "SELECT * FROM t"),
        ["{start: 1970-01-01T00:00:00Z, end: 1970-01-01T00:01:00.000001Z} [1, null] 7"]
    );
    drop(written.sink(request("q", schema, OutputMode::Append, &[])).expect("the same columns fit"));
}

fn next(source: &mut dyn Source, at: &mut Offset) -> Vec<String> {
    let end = source.plan_batch(at, None).expect("planned");
    let range = OffsetRange { start: at.clone(), end: end.clone() };
    *at = end;
    drain(source.read(&range).expect("readers"))
}

#[test]
fn a_stream_waits_for_a_table_that_is_yet_to_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let written = table(&definition("delta", Some(id_name()), &[("path", &path)]));
    let request = all_columns(written.as_ref(), folder.path());
    let refused = written.source(request.clone()).err().expect("nobody writes it").to_string();
    assert!(refused.ends_with("is no Delta table, it has no _delta_log"), "{refused}");
    let mut source = written.source(SourceRequest { may_be_missing: true, ..request }).expect("a source");
    let mut at = source.initial_offset().expect("initial");
    assert_eq!(source.latest_offset().expect("latest"), at);
    assert_eq!(next(source.as_mut(), &mut at), [""; 0]);
    let mut sink = written.sink(crate::contract::request("q", id_name(), OutputMode::Append, &[])).expect("a sink");
    put(sink.as_mut(), 0, &[rows(&[(1, "a")])]);
    put(sink.as_mut(), 1, &[rows(&[(2, "b")])]);
    assert_eq!(next(source.as_mut(), &mut at), ["1 a", "2 b"]);
    // What was there and is not any more is gone, whoever writes it.
    fs::remove_dir_all(&path).expect("removed");
    let gone = source.plan_batch(&at, None).expect_err("gone").to_string();
    assert!(gone.ends_with("is gone"), "{gone}");
}

#[test]
fn a_stream_reads_the_snapshot_and_then_commits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let written = table(&definition("delta", Some(id_name()), &[("path", &path)]));
    let mut sink = written.sink(request("q", id_name(), OutputMode::Append, &[])).expect("a sink");
    put(sink.as_mut(), 0, &[rows(&[(1, "a")])]);
    put(sink.as_mut(), 1, &[rows(&[(2, "b")])]);
    let streamed = table(&definition("delta", None, &[("path", &path), ("maxFilesPerTrigger", "1")]));
    let mut source = streamed.source(all_columns(streamed.as_ref(), folder.path())).expect("a source");
    let mut at = source.initial_offset().expect("initial");
    let start = at.clone();
    let mut first = next(source.as_mut(), &mut at);
    put(sink.as_mut(), 2, &[rows(&[(3, "c")])]);
    first.extend(next(source.as_mut(), &mut at));
    first.sort();
    assert_eq!(first, ["1 a", "2 b"]);
    assert_eq!(next(source.as_mut(), &mut at), ["3 c"]);
    assert_eq!(next(source.as_mut(), &mut at), [""; 0]);
    let whole = OffsetRange { start, end: at.clone() };
    assert_eq!(drain(source.read(&whole).expect("readers")), ["1 a", "2 b", "3 c"], "a range reads the same again");

    // A commit that changes rows is an error, unless it may be skipped.
    let mut upsert = written.sink(request("u", id_name(), OutputMode::Update, &["id"])).expect("a sink");
    put(upsert.as_mut(), 0, &[rows(&[(1, "changed")])]);
    let error = source.plan_batch(&at, None).expect_err("refused").to_string();
    assert!(error.contains("version 3") && error.contains("changes rows"), "{error}");
    let lenient = table(&definition("delta", None, &[("path", &path), ("skipChangeCommits", "true")]));
    let mut source = lenient.source(all_columns(lenient.as_ref(), folder.path())).expect("a source");
    put(sink.as_mut(), 3, &[rows(&[(4, "d")])]);
    assert_eq!(next(source.as_mut(), &mut at), ["4 d"]);
    let latest = table(&definition("delta", None, &[("path", &path), ("startingVersion", "latest")]));
    let mut source = latest.source(all_columns(latest.as_ref(), folder.path())).expect("a source");
    assert_eq!(source.initial_offset().expect("initial"), at);
}

/// Appends a batch of rows to the table in a folder.
fn append(sink: &mut dyn highwater_engine::sink::Sink, batch: u64, ids: std::ops::Range<i64>, name: &str) {
    let values: Vec<(i64, &str)> = ids.map(|id| (id, name)).collect();
    put(sink, batch, &[rows(&values)]);
}

#[test]
fn a_provider_follows_commits_without_reading_the_log_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let log = super::log::DeltaLog::new(std::path::Path::new(&path));
    let written = table(&definition("delta", Some(id_name()), &[("path", &path)]));
    let mut sink = written.sink(request("q", id_name(), OutputMode::Append, &[])).expect("a sink");
    append(sink.as_mut(), 0, 0..10, "a");
    let mut known = super::batch::Version::read(&log).expect("a version");
    let mut check = |reads: usize| {
        known.advance(&log).expect("the newest version");
        assert_eq!(known.reads, reads);
        let mut files: Vec<String> =
            log.snapshot(None).expect("read").expect("a table").files.into_iter().map(|file| file.path).collect();
        files.sort();
        assert_eq!(known.paths(), files);
    };
    check(1);
    append(sink.as_mut(), 1, 10..20, "a");
    append(sink.as_mut(), 2, 20..30, "b");
    check(1);
    // Files that go as well as those that come.
    let mut update = written.sink(request("u", id_name(), OutputMode::Update, &["id"])).expect("a sink");
    put(update.as_mut(), 0, &[rows(&[(5, "changed"), (25, "changed")])]);
    check(1);
    // What is more than files is read from the log.
    let actions = [serde_json::json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})];
    log.commit(4, &actions).expect("committed");
    check(2);
    // A table that was made anew has commits of the same numbers.
    drop((sink, update));
    fs::remove_dir_all(&path).expect("removed");
    let mut sink = written.sink(request("q", id_name(), OutputMode::Append, &[])).expect("a sink");
    for batch in 0..5 {
        append(sink.as_mut(), batch, 0..3, "new");
    }
    check(3);
    check(3);
}

#[test]
fn files_that_a_filter_excludes_are_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    for (partitions, filters) in [
        (vec![], ["id = 15", "id IN (13, 14) AND name > 'a'", "name = 'b'", "id BETWEEN 10 AND 12"]),
        (vec!["name".to_owned()], ["name = 'b'", "name IN ('b', 'x')", "id = 15", "name > 'a' AND name < 'c'"]),
    ] {
        let path = format!("{}{}", path_of(&folder), partitions.len());
        let mut definition = definition("delta", Some(id_name()), &[("path", &path)]);
        definition.partition_columns = partitions;
        let written = table(&definition);
        let mut sink = written.sink(request("q", id_name(), OutputMode::Append, &[])).expect("a sink");
        for (batch, name) in (0..).zip(["a", "b", "c"]) {
            let from = i64::try_from(batch).expect("a number") * 10;
            append(sink.as_mut(), batch, from..from + 10, name);
        }
        let count = |filter: &str| select(written.as_ref(), &format!("SELECT id FROM t WHERE {filter} ORDER BY id"));
        let expected: Vec<Vec<String>> = filters.iter().map(|filter| count(filter)).collect();
        assert!(expected.iter().all(|rows| !rows.is_empty()), "{expected:?}");
        let many: Vec<String> = (10..20).chain(100..200).map(|id| id.to_string()).collect();
        let many = format!("id IN ({})", many.join(", "));
        // Whoever opened one of the other files would find nothing there.
        let log = super::log::DeltaLog::new(std::path::Path::new(&path));
        let files = log.snapshot(None).expect("read").expect("a table").files;
        for file in files.iter().filter(|file| !file.stats.as_deref().unwrap_or_default().contains("\"id\":10")) {
            fs::remove_file(std::path::Path::new(&path).join(&file.path)).expect("removed");
        }
        for (filter, expected) in filters.iter().zip(&expected) {
            assert_eq!(&count(filter), expected, "{filter}");
        }
        assert_eq!(count(&many).len(), 10);
    }
}
