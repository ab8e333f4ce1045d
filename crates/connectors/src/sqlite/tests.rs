//! SQLite tables as a whole.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, TimeUnit};
use highwater_engine::error::EngineError;
use highwater_engine::sink::OutputMode;
use tempfile::TempDir;

use crate::contract::{check, check_deletes, definition, id_name, put, request, rows, select, table};

fn path_of(folder: &TempDir) -> String {
    folder.path().join("app.db").to_string_lossy().into_owned()
}

#[test]
fn the_sink_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    check(&definition("sqlite", None, &[("path", &path_of(&folder)), ("table", "events")]));
}

#[test]
fn rows_can_be_taken_away() {
    let folder = tempfile::tempdir().expect("a folder");
    check_deletes(&definition("sqlite", None, &[("path", &path_of(&folder)), ("table", "events")]));
}

#[test]
fn update_mode_replaces_rows_by_key_and_null_is_a_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = table(&definition("sqlite", Some(id_name()), &[("path", &path_of(&folder))]));
    let mut sink = table.sink(request("q", id_name(), OutputMode::Update, &["name"])).expect("a sink");
    let null_key = |id| {
        let names: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        RecordBatch::try_new(id_name(), vec![Arc::new(Int64Array::from(vec![id])), names]).expect("rows")
    };
    put(sink.as_mut(), 0, &[rows(&[(1, "a"), (2, "b"), (3, "a")]), null_key(9)]);
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["2 b", "3 a", "9 null"]);
    put(sink.as_mut(), 1, &[rows(&[(4, "b")]), null_key(10)]);
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["10 null", "3 a", "4 b"]);
}

#[test]
fn a_probe_refuses_what_opening_would_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let table = table(&definition("sqlite", Some(id_name()), &[("path", &path)]));
    let check = |mode: OutputMode, keys: &[&str], expected: Result<&str, &str>| {
        let found = table.probe_sink(&request("q", id_name(), mode, keys)).map_err(|error| error.to_string());
        let expected = expected.map(|found| Some(found.to_owned()));
        assert_eq!(found, expected.map_err(|what| format!("table 't' of '{path}' {what}")));
    };
    check(OutputMode::Append, &[], Ok("table t will be created"));
    assert!(!std::path::Path::new(&path).exists());

    let database = rusqlite::Connection::open(&path).expect("a database");
    let execute = |sql: &str| database.execute_batch(sql).expect(sql);
    execute("CREATE TABLE t (id INTEGER)");
    check(OutputMode::Append, &[], Err("has no column 'name'"));
    execute("ALTER TABLE t ADD COLUMN name TEXT; INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, NULL), (4, NULL)");
    check(OutputMode::Append, &[], Ok("table t with 2 columns"));
    check(OutputMode::Update, &["name"], Err("has several rows with the same \"name\""));
    execute("DELETE FROM t WHERE id = 2");
    check(OutputMode::Update, &["name"], Ok("table t with 2 columns"));
    let tables = "SELECT group_concat(name) FROM sqlite_master";
    let tables: String = database.query_row(tables, [], |row| row.get(0)).expect("tables");
    assert_eq!(tables, "t");
}

#[test]
fn complete_mode_replaces_the_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = table(&definition("sqlite", Some(id_name()), &[("path", &path_of(&folder))]));
    let mut sink = table.sink(request("q", id_name(), OutputMode::Complete, &[])).expect("a sink");
    put(sink.as_mut(), 0, &[rows(&[(1, "a"), (2, "b")])]);
    put(sink.as_mut(), 1, &[rows(&[(3, "c")])]);
    assert_eq!(select(table.as_ref(), "SELECT * FROM t"), ["3 c"]);
}

#[test]
fn each_type_has_its_form() {
    let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let window = Fields::from(vec![Field::new("start", stamp.clone(), true), Field::new("end", stamp, true)]);
    let at = |micros| Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as ArrayRef;
    let bounds = StructArray::new(window, vec![at(0), at(60_000_001)], None);
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])]);
    let price = Decimal128Array::from(vec![1050]).with_precision_and_scale(10, 2).expect("a decimal");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("window", Arc::new(bounds)),
        ("list", Arc::new(list)),
        ("price", Arc::new(price)),
        ("paid", Arc::new(BooleanArray::from(vec![true]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("rows");
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let written = table(&definition("sqlite", None, &[("path", &path)]));
    let mut sink = written.sink(request("q", batch.schema(), OutputMode::Update, &["window"])).expect("a sink");
    put(sink.as_mut(), 0, std::slice::from_ref(&batch));
    put(sink.as_mut(), 1, std::slice::from_ref(&batch));
    let read = table(&definition("sqlite", None, &[("path", &path)]));
    let text = "1970-01-01T00:00:00.000000Z 1970-01-01T00:01:00.000001Z [1,null] 10.50 1";
    assert_eq!(select(read.as_ref(), "SELECT window_start, window_end, list, price, paid FROM t"), [text]);
    let typed = Arc::new(Schema::new(vec![
        Field::new("window_end", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("paid", DataType::Boolean, true),
    ]));
    let read = table(&definition("sqlite", Some(typed), &[("path", &path)]));
    assert_eq!(select(read.as_ref(), "SELECT * FROM t"), ["1970-01-01T00:01:00.000001Z 10.50 true"]);
}

#[test]
fn a_full_disk_writes_nothing_and_may_be_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let table = table(&definition("sqlite", Some(id_name()), &[("path", &path)]));
    let options = super::SqliteOptions {
        path: path.into(),
        table: "t".to_owned(),
        busy_timeout: std::time::Duration::from_secs(1),
    };
    let mut sink =
        super::sink::SqliteSink::open(options, request("q", id_name(), OutputMode::Append, &[])).expect("a sink");
    put(&mut sink, 0, &[rows(&[(1, "a")])]);
    let large = "x".repeat(1 << 16);
    let many: Vec<(i64, &str)> = (0..64).map(|id| (id, large.as_str())).collect();
    sink.limit_pages(Some(16));
    use highwater_engine::sink::Sink;
    sink.begin(1).expect("begun");
    sink.write(&rows(&many)).expect("staged");
    let error = sink.commit().expect_err("full");
    assert!(matches!(error, EngineError::Unavailable(_)), "{error}");
    assert_eq!(select(table.as_ref(), "SELECT id FROM t"), ["1"]);
    sink.limit_pages(None);
    put(&mut sink, 1, &[rows(&many)]);
    assert_eq!(select(table.as_ref(), "SELECT count(*) FROM t"), ["65"]);
}

#[test]
fn filters_are_sqlites_where_it_decides_as_the_engine_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let script = "CREATE TABLE t (id INTEGER, name TEXT COLLATE NOCASE, size REAL, loose);
        INSERT INTO t VALUES (1, 'a', 1.5, 1), (2, 'B', 2.5, '2'), (3, NULL, 3.5, x'33'), (NULL, 'b', NULL, NULL),
        ('4', 'b', 4.5, 4.0), ('five', 'c', 5.5, 'x'), (6.5, 'd', 6.5, 6)";
    rusqlite::Connection::open(&path).and_then(|database| database.execute_batch(script)).expect("a database");
    let read = table(&definition("sqlite", None, &[("path", &path)]));
    // The second form of a condition is one that SQLite does not get.
    let check = |condition: &str, same: &str, expected: &[&str]| {
        let rows = |condition: &str| select(read.as_ref(), &format!("SELECT id, name FROM t WHERE {condition}"));
        assert_eq!(rows(condition), expected, "{condition}");
        assert_eq!(rows(same), expected, "{same}");
    };
    check("id IN (1, 2, 4, 5, 6)", "id + 0 IN (1, 2, 4, 5, 6)", &["1 a", "2 B", "4 b"]);
    check("id >= 2 AND id < 6", "id + 0 >= 2 AND id + 0 < 6", &["2 B", "3 null", "4 b"]);
    check("name = 'b'", "name || '' = 'b'", &["4 b", "null b"]);
    check(
        "name IN ('a', 'b', 'c', 'd') AND size > 1.5",
        "name || '' IN ('a', 'b', 'c', 'd') AND size > 1.5",
        &["4 b", "null c", "null d"],
    );
    check("loose = '2' OR id = 1", "loose || '' = '2' OR id + 0 = 1", &["1 a", "2 B"]);
    check("id IS NULL", "id + 0 IS NULL", &["null b", "null c", "null d"]);
    check("name > 'B'", "name || '' > 'B'", &["1 a", "4 b", "null b", "null c", "null d"]);
}

#[test]
fn what_sqlite_is_asked_has_a_limit() {
    use datafusion::logical_expr::{col, lit};
    let mut filter = super::filter::SqliteFilter::new([("id".to_owned(), DataType::Int64)].into());
    let numbers = |count: i64| (0..count).map(lit).collect();
    let few = col("id").in_list(numbers(1000), false);
    let (text, params) = crate::condition::where_clause(&[few.clone(), col("x").eq(lit(1))], &mut filter.clone());
    assert!(text.starts_with(" WHERE \"id\" IN (?, ?") && params.len() == 1000, "{text}");
    assert!(filter.clone().heeds(&few));
    assert!(!filter.clone().heeds(&col("id").in_list(numbers(30_001), false)));
    assert!(!filter.heeds(&col("id").eq(lit("1"))));
}
